//! Passes that are recorded and repeated give the bits of passes that are asked for anew, whatever differs between them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::emulated;
use crate::backend::{Backend, Limits};
use crate::batch::{Batch, SequenceParts};
use crate::engine::{Engine, EngineSpec, Precision, State, Tensors};
use crate::gpu::Gpu;
use crate::gpu::emulated::Emulated;
use crate::gpu::recorded::Recorded;
use crate::lora::{Adapters, DropoutKey, LoraSpec};
use crate::model::Model;
use crate::optimizer::AdamWConstants;
use crate::parameters::Parameters;
use crate::random::{Purpose, Stream};
use crate::shape::Shape;

const LENGTH: usize = 70;
const MICRO_BATCHES: u64 = 10;
const STEPS: u64 = 2;

fn shape() -> Shape {
    let tiny = Shape::named("tiny", 97).unwrap();
    Shape { width: 128, feed_forward: 88, layers: 1, heads: 2, kv_heads: 1, max_positions: 128, ..tiny }
}

/// One sequence with as many documents as its number says and one target more or less: other tiles, other counts.
fn batch(number: u64) -> Batch {
    let stream = Stream::new(number, Purpose::Sampling, 0, 0);
    let tokens: Vec<u32> = (0..LENGTH as u64).map(|index| stream.bits(index) % 97).collect();
    let documents = 1 + number as u32 % 7;
    let end = |document: u32| (LENGTH as u32 - number as u32 % 3) * (document + 1) / documents;
    let segments: Vec<(u32, u16)> = (0..documents).map(|document| (end(document), 0)).collect();
    Batch::from_parts(&[SequenceParts { tokens: &tokens, segments: &segments, loss_mask: None }]).unwrap()
}

fn engine(backend: Box<dyn Backend<f32>>, adapters: Option<&Adapters<f32>>) -> Engine<f32> {
    let model = Arc::new(Model::new(shape()).unwrap());
    let spec = EngineSpec { precision: Precision::Bf16, ..EngineSpec::train(1, LENGTH) };
    let spec = spec.with_lora(adapters.map(|adapters| adapters.spec.clone()));
    let mut engine = Engine::new(backend, model, spec).unwrap();
    engine.load((Tensors::Base, State::Weights), &Parameters::initialised(&shape(), 3));
    if let Some(adapters) = adapters {
        engine.load((Tensors::Adapters, State::Weights), &adapters.parameters);
    }
    engine
}

/// Losses and weights of steps whose micro-batches are all asked for before one is read.
fn trained(mut engine: Engine<f32>) -> (Vec<u64>, Parameters<f32>) {
    let constants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.1 };
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let batches: Vec<Batch> = (0..MICRO_BATCHES).map(|index| batch(step * MICRO_BATCHES + index)).collect();
        let tokens: u64 = batches.iter().map(Batch::loss_tokens).sum();
        engine.begin_step();
        let mut pending = Vec::new();
        for (index, batch) in batches.iter().enumerate() {
            let key = DropoutKey { seed: 8, step, first_row: (index * LENGTH) as u64 };
            pending.push(engine.accumulate(batch, 1.0 / tokens as f64, Some(key)));
        }
        let ticket = engine.judge(Limits { clip: 1.0, skip_above: f64::INFINITY });
        engine.update(constants, 1e-3 / (step + 1) as f64, step + 1);
        for (pending, batch) in pending.into_iter().zip(&batches) {
            losses.push(engine.collect(pending, batch).unwrap().sum.to_bits());
        }
        losses.push(engine.judgement(ticket).unwrap().norm.to_bits());
        losses.push(engine.loss(&batches[3], None).unwrap().sum.to_bits());
    }
    let weights = engine.read((engine.trained(), State::Weights)).unwrap();
    (losses, weights)
}

#[test]
fn emulation_of_recorded_passes_gives_the_same_bits() {
    if !emulated() {
        return;
    }
    let spec = LoraSpec { rank: 8, dropout: 0.25, ..LoraSpec::default() };
    let adapters = Adapters::initialised(&shape(), spec, 5).unwrap();
    for adapters in [None, Some(&adapters)] {
        let asked = trained(engine(Box::new(Gpu::new(Emulated::new(0), &shape()).unwrap()), adapters));
        assert!(asked.0.windows(2).all(|pair| pair[0] != pair[1]), "every micro-batch has a loss of its own: {:?}", asked.0);
        let card = Recorded::new(Emulated::new(0));
        let repeated = card.repeated();
        let recorded = trained(engine(Box::new(Gpu::new(card, &shape()).unwrap()), adapters));
        // Of each kind of pass all but the first.
        assert_eq!(repeated.load(Ordering::Relaxed), STEPS * MICRO_BATCHES - 1 + STEPS - 1);
        assert!(recorded == asked, "adapters: {}", adapters.is_some());
    }
}
