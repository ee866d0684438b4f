//! Tests of the whole model: gradients, packing, adapters, recompute modes, rounding, training.

mod adapters;
mod gradients;
mod modes;
mod packing;
mod parity;
mod steps;

use std::sync::Arc;

use super::{Engine, EngineSpec, LossSum, State, Tensors};
use crate::backend::{Judgement, Limits};
use crate::batch::{Batch, SequenceParts};
use crate::lora::{Adapters, DropoutKey, LoraSpec};
use crate::model::Model;
use crate::parameters::{Layout, Parameters};
use crate::random::{Purpose, Stream};
use crate::real::Real;
use crate::shape::Shape;

/// The dropout that tests with adapters use.
const KEY: DropoutKey = DropoutKey { seed: 3, step: 7, first_row: 0 };

/// Two layers with grouped-query attention: 4 query heads of width 6 on 2 key-value heads, odd feed-forward and vocabulary.
fn shape(tied_embeddings: bool) -> Shape {
    Shape {
        width: 24,
        feed_forward: 41,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        vocabulary: 37,
        max_positions: 32,
        rope_theta: 100.0,
        norm_epsilon: 1e-5,
        tied_embeddings,
        rope_scaling: None,
        window: None,
    }
}

fn model(tied: bool) -> Arc<Model> {
    Arc::new(Model::new(shape(tied)).unwrap())
}

/// Weights far from their initial values, so that nothing is nearly linear: matrices normal 0.25, norms 1 + normal 0.2.
fn weights(shape: &Shape) -> Parameters<f64> {
    let layout = Arc::new(Layout::of(shape));
    let mut parameters = Parameters::zeros(Arc::clone(&layout));
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let stream = Stream::new(11, Purpose::Initialisation, 1, index);
        for (element, value) in parameters.slice_mut(index).iter_mut().enumerate() {
            let normal = stream.normal(element as u64);
            *value = if tensor.matrix { 0.25 * normal } else { 1.0 + 0.2 * normal };
        }
    }
    parameters
}

/// Adapters whose B is not zero.
fn adapters<R: Real>(shape: &Shape, dropout: f64) -> Adapters<R> {
    let spec = LoraSpec { rank: 3, alpha: 5.0, dropout, ..LoraSpec::default() };
    let mut adapters = Adapters::<f64>::initialised(shape, spec, 21).unwrap();
    for index in (1..adapters.parameters.layout.tensors().len()).step_by(2) {
        let stream = Stream::new(23, Purpose::AdapterInitialisation, 1, index);
        for (element, value) in adapters.parameters.slice_mut(index).iter_mut().enumerate() {
            *value = 0.3 * stream.normal(element as u64);
        }
    }
    adapters.cast()
}

/// An engine with these weights.
fn engine<E: Real>(model: &Arc<Model>, spec: EngineSpec, base: &Parameters<E>, adapters: Option<&Adapters<E>>) -> Engine<E> {
    let spec = spec.with_lora(adapters.map(|adapters| adapters.spec.clone()));
    let mut engine = Engine::on_cpu(Arc::clone(model), spec).unwrap();
    engine.load((Tensors::Base, State::Weights), base);
    if let Some(adapters) = adapters {
        engine.load((Tensors::Adapters, State::Weights), &adapters.parameters);
    }
    engine
}

/// The gradients of the trained tensors.
fn gradients<E: Real>(engine: &mut Engine<E>) -> Parameters<E> {
    let trained = engine.trained();
    engine.read((trained, State::Gradients)).unwrap()
}

fn random_tokens(stream: usize, count: usize, vocabulary: usize) -> Vec<u32> {
    let stream = Stream::new(31, Purpose::Initialisation, 2, stream);
    (0..count as u64).map(|element| stream.bits(element) % vocabulary as u32).collect()
}

/// Three sequences of 11: packed documents of 4, 1 and 5 tokens with one token of padding; one whole document; a document
/// of 6 with the loss on its second half only, then padding.
fn batch() -> Batch {
    let tokens: Vec<Vec<u32>> = (0..3).map(|sequence| random_tokens(sequence, 11, 37)).collect();
    let masked: Vec<bool> = (0..11).map(|place| (3..6).contains(&place)).collect();
    let parts = [
        SequenceParts { tokens: &tokens[0], segments: &[(4, 0), (5, 2), (10, 1)], loss_mask: None },
        SequenceParts { tokens: &tokens[1], segments: &[(11, 2)], loss_mask: None },
        SequenceParts { tokens: &tokens[2], segments: &[(6, 0)], loss_mask: Some(&masked) },
    ];
    Batch::from_parts(&parts).unwrap()
}

/// The largest difference relative to the largest value.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let size = a.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    a.iter().zip(b).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs())) / size
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// The losses of a batch, whose gradients are added to those of the step.
fn accumulated<E: Real>(engine: &mut Engine<E>, batch: &Batch, scale: f64, key: Option<DropoutKey>) -> LossSum {
    let pending = engine.accumulate(batch, scale, key);
    engine.collect(pending, batch).unwrap()
}

/// What becomes of the step.
fn judged<E: Real>(engine: &mut Engine<E>, limits: Limits) -> Judgement {
    let ticket = engine.judge(limits);
    engine.judgement(ticket).unwrap()
}
