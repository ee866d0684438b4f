//! The whole model on the card against the processor in its bf16 mode: losses, gradients and ten updates, with adapters and
//! without, every recompute mode, and texts token by token.

use std::sync::Arc;

use super::{Checks, Finding, tokens};
use crate::backend::{Backend, Cpu, Limits};
use crate::batch::{Batch, SequenceParts};
use crate::engine::{Engine, EngineSpec, MomentPrecision, Precision, Recompute, State, Tensors};
use crate::gpu::{Device, Gpu};
use crate::lora::{Adapters, DropoutKey, LoraSpec};
use crate::model::Model;
use crate::optimizer::AdamWConstants;
use crate::parameters::Parameters;
use crate::random::{Purpose, Stream};
use crate::shape::Shape;

/// Loss: the bound of the comparison, relative. bf16 has 2^-9 of relative rounding error; a mean over tens of tokens averages
/// three quarters of it away, and half of that again is found.
const LOSS: f64 = 5e-4;
/// Gradients: of the norm of each tensor's.
const GRADIENT: f64 = 2e-2;
/// Weights after ten updates: of the norm of the change.
const CHANGE: f64 = 5e-2;
const STEPS: u64 = 10;

/// Two layers of grouped queries.
fn small(head_width: usize) -> Shape {
    let tiny = Shape::named("tiny", 97).expect("there is a shape of this name");
    let width = 4 * head_width;
    Shape { width, feed_forward: 344, layers: 2, heads: 4, kv_heads: 2, max_positions: 256, ..tiny }
}

/// Two sequences of 70 tokens: documents of one token, of several, across tiles, and padding.
fn batch() -> Batch {
    let ids = tokens(140, 97);
    let segments: [&[(u32, u16)]; 2] = [&[(1, 0), (70, 1)], &[(40, 0), (66, 1)]];
    let part = |(index, segments)| SequenceParts { tokens: &ids[index * 70..][..70], segments, loss_mask: None };
    let parts: Vec<SequenceParts<'_>> = segments.into_iter().enumerate().map(part).collect();
    Batch::from_parts(&parts).expect("documents follow each other")
}

/// Adapters that change something: B is not zero.
fn adapters(shape: &Shape) -> Adapters<f32> {
    let spec = LoraSpec { rank: 8, dropout: 0.1, ..LoraSpec::default() };
    let mut adapters = Adapters::initialised(shape, spec, 5).expect("the adapters fit the shape");
    for index in 0..adapters.parameters.layout.tensors().len() {
        let stream = Stream::new(9, Purpose::AdapterInitialisation, 1, index);
        for (place, value) in adapters.parameters.slice_mut(index).iter_mut().enumerate() {
            *value += (0.02 * stream.normal(place as u64)) as f32;
        }
    }
    adapters
}

fn engine(backend: Box<dyn Backend<f32>>, model: &Arc<Model>, spec: EngineSpec, adapters: Option<&Adapters<f32>>) -> Engine<f32> {
    let spec = EngineSpec { precision: Precision::Bf16, ..spec }.with_lora(adapters.map(|adapters| adapters.spec.clone()));
    let mut engine = Engine::new(backend, Arc::clone(model), spec).unwrap_or_else(|error| panic!("{error}"));
    engine.load((Tensors::Base, State::Weights), &Parameters::initialised(model.shape(), 3));
    if let Some(adapters) = adapters {
        engine.load((Tensors::Adapters, State::Weights), &adapters.parameters);
    }
    engine
}

/// What a training run gives.
struct Trained {
    losses: Vec<f64>,
    /// Of the first step.
    gradients: Parameters<f32>,
    before: Parameters<f32>,
    after: Parameters<f32>,
}

/// Steps of two micro-batches each.
fn trained(mut engine: Engine<f32>, steps: u64) -> Trained {
    let failed = |error| -> ! { panic!("{error}") };
    let (batch, of) = (batch(), engine.trained());
    let scale = 0.5 / batch.loss_tokens() as f64;
    let constants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.1 };
    let before = engine.read((of, State::Weights)).unwrap_or_else(|error| failed(error));
    let (mut losses, mut gradients) = (Vec::new(), None);
    for step in 0..steps {
        engine.begin_step();
        let mut loss = 0.0;
        for part in 0..2 {
            let key = DropoutKey { seed: 8, step, first_row: part * batch.rows() as u64 };
            let pending = engine.accumulate(&batch, scale, Some(key));
            loss += engine.collect(pending, &batch).unwrap_or_else(|error| failed(error)).sum * scale;
        }
        losses.push(loss);
        gradients.get_or_insert_with(|| engine.read((of, State::Gradients)).unwrap_or_else(|error| failed(error)));
        let ticket = engine.judge(Limits { clip: 1.0, skip_above: f64::INFINITY });
        engine.update(constants, 1e-4, step + 1);
        let judged = engine.judgement(ticket).unwrap_or_else(|error| failed(error));
        assert!(judged.finite && judged.factor > 0.0, "step {step}: {judged:?}");
    }
    let after = engine.read((of, State::Weights)).unwrap_or_else(|error| failed(error));
    Trained { losses, gradients: gradients.expect("there is a first step"), before, after }
}

/// ‖a - b‖ / ‖b - c‖
fn distance(a: &[f32], b: &[f32], c: impl Fn(usize) -> f32) -> f64 {
    let square = |value: f64| value * value;
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(a - b))).sum();
    let size: f64 = b.iter().enumerate().map(|(index, b)| square(f64::from(b - c(index)))).sum();
    (error / size.max(f64::MIN_POSITIVE)).sqrt()
}

fn compare(card: &Trained, cpu: &Trained, case: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |operation: &'static str, relative: f64, bound: f64| {
        assert!(relative <= bound, "{operation}, {case}: {relative:e} apart, allowed {bound:e}");
        findings.push(Finding { operation, case: case.to_owned(), share_of_bound: relative / bound, relative, digest: 0 });
    };
    for (card, cpu) in card.losses.iter().zip(&cpu.losses) {
        note("model: loss of ten steps", (card - cpu).abs() / cpu, LOSS);
    }
    for index in 0..cpu.gradients.layout.tensors().len() {
        let [gradient, expected] = [card, cpu].map(|run| run.gradients.slice(index));
        note("model: gradients", distance(gradient, expected, |_| 0.0), GRADIENT);
        let before = cpu.before.slice(index);
        note("model: change of ten updates", distance(card.after.slice(index), cpu.after.slice(index), |at| before[at]), CHANGE);
    }
    findings
}

/// Heads of 64 and 128, the latter with moments in bf16, all weights and adapters; a second run on the card gives the same bits, in
/// every recompute mode.
pub(super) fn training<D: Device + 'static>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (exact, drawn) = (MomentPrecision::F32, MomentPrecision::Bf16);
    let cases = [(64, false, exact), (128, false, drawn), (64, true, exact)];
    for (order, (head_width, lora, moments)) in cases.into_iter().enumerate() {
        let wanted = EngineSpec { moments, seed: 17, ..EngineSpec::train(2, 70) };
        let shape = small(head_width);
        let model = Arc::new(Model::new(shape.clone()).expect("the shape is possible"));
        let adapters = lora.then(|| adapters(&shape));
        let case = format!("heads of {head_width}{}", if lora { ", adapters" } else { "" });
        let cpu = trained(engine(Box::new(Cpu::new(&shape)), &model, wanted.clone(), adapters.as_ref()), STEPS);
        let mut first: Option<Trained> = None;
        for (again, recompute) in Recompute::ALL.into_iter().enumerate() {
            let card = (checks.card)((order + again) as u64);
            let backend = Box::new(Gpu::new(card, &shape).unwrap_or_else(|error| panic!("{error}")));
            let spec = EngineSpec { recompute, ..wanted.clone() };
            let steps = if first.is_none() { STEPS } else { 2 };
            let run = trained(engine(backend, &model, spec, adapters.as_ref()), steps);
            match &first {
                None => {
                    findings.extend(compare(&run, &cpu, &case));
                    first = Some(run);
                }
                Some(first) => {
                    let same = first.losses[..2] == run.losses && first.gradients == run.gradients;
                    assert!(same, "{case}: another run, with recompute {recompute:?}, gives other bits");
                }
            }
        }
    }
    findings
}
