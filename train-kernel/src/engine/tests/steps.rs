//! Training steps: micro-batches, threads, overfitting, and the loss of knowing nothing.

use std::sync::Arc;

use super::{KEY, accumulated, adapters, batch, difference, engine, gradients, judged, model, random_tokens, weights};
use crate::backend::Limits;
use crate::batch::{Batch, SequenceParts};
use crate::engine::{Engine, EngineSpec, LossSum, State, Tensors};
use crate::lora::{Adapters, DropoutKey};
use crate::model::Model;
use crate::optimizer::AdamWConstants;
use crate::parameters::Parameters;
use crate::shape::Shape;

/// The sequences of [`batch`], one by one.
fn micro_batches(batch: &Batch) -> Vec<Batch> {
    let length = batch.sequence_length();
    (0..batch.sequences())
        .map(|sequence| {
            let range = sequence * length..(sequence + 1) * length;
            let segments: Vec<(u32, u16)> =
                batch.segments(sequence).iter().map(|segment| (segment.end, segment.source)).collect();
            let mask: Vec<bool> = range.clone().map(|place| place > range.start && batch.loss_mask()[place - 1]).collect();
            let tokens = &batch.tokens()[range];
            Batch::from_parts(&[SequenceParts { tokens, segments: &segments, loss_mask: Some(&mask) }]).unwrap()
        })
        .collect()
}

/// Twelve sequences of 30: 348 targets, more than one chunk of the output projection holds.
fn large_batch() -> Batch {
    let tokens = random_tokens(7, 12 * 30, 37);
    let part = |tokens| SequenceParts { tokens, segments: &[(30, 0)], loss_mask: None };
    let parts: Vec<SequenceParts<'_>> = tokens.chunks(30).map(part).collect();
    Batch::from_parts(&parts).unwrap()
}

/// The losses of batches, and the gradients of all of them together.
fn run(engine: &mut Engine<f64>, batches: &[Batch], scale: f64) -> (LossSum, Parameters<f64>) {
    engine.begin_step();
    let mut sum = LossSum::default();
    let mut key = KEY;
    for batch in batches {
        sum += &accumulated(engine, batch, scale, Some(key));
        key = DropoutKey { first_row: key.first_row + batch.rows() as u64, ..key };
    }
    (sum, gradients(engine))
}

#[test]
fn micro_batches_of_one_equal_one_batch() {
    for whole in [batch(), large_batch()] {
        let model = model(true);
        let mut engine = engine(&model, EngineSpec::train(12, 30), &weights(model.shape()), None);
        let scale = 1.0 / whole.loss_tokens() as f64;
        let (loss, together) = run(&mut engine, std::slice::from_ref(&whole), scale);
        let (sum, apart) = run(&mut engine, &micro_batches(&whole), scale);
        assert_eq!((loss.tokens, sum.tokens), (whole.loss_tokens(), whole.loss_tokens()));
        assert!((loss.sum - sum.sum).abs() < 1e-12 * loss.sum);
        for (index, tensor) in together.layout.tensors().iter().enumerate() {
            let error = difference(together.slice(index), apart.slice(index));
            assert!(error < 1e-12, "{}: {error:e}", tensor.name);
        }
    }
}

#[test]
fn micro_batches_drop_what_one_batch_drops() {
    let model = model(false);
    let adapters: Adapters<f64> = adapters(model.shape(), 0.4);
    let mut engine = engine(&model, EngineSpec::train(3, 11), &weights(model.shape()), Some(&adapters));
    let (_, together) = run(&mut engine, &[batch()], 0.1);
    let (_, apart) = run(&mut engine, &micro_batches(&batch()), 0.1);
    assert!(difference(&together.data, &apart.data) < 1e-12);
}

#[test]
fn equal_logits_give_the_logarithm_of_the_vocabulary() {
    let model = model(false);
    let mut parameters = weights(model.shape());
    let head = parameters.layout.index("lm_head.weight").unwrap();
    parameters.slice_mut(head).fill(0.0);
    let loss = engine(&model, EngineSpec::evaluate(3, 11), &parameters, None).loss(&batch(), None).unwrap();
    assert!((loss.mean().unwrap() - 37.0_f64.ln()).abs() < 1e-13);
}

#[test]
fn a_batch_without_targets_has_no_loss_and_no_gradient() {
    let model = model(true);
    let mask = [false; 8];
    let part = SequenceParts { tokens: &[1; 8], segments: &[(8, 0)], loss_mask: Some(&mask) };
    let batch = Batch::from_parts(&[part]).unwrap();
    let mut engine = engine(&model, EngineSpec::train(1, 8), &weights(model.shape()), None);
    let (loss, gradients) = run(&mut engine, &[batch], 1.0);
    assert_eq!(loss, LossSum::default());
    assert!(gradients.data.iter().all(|gradient| *gradient == 0.0));
}

/// The loss and all gradients of a batch large enough to be cut into many parts, in f32, on so many threads.
fn on_threads(threads: usize, with_adapters: bool) -> (LossSum, Vec<f32>) {
    let shape = Shape { vocabulary: 3000, ..Shape::named("tiny", 1000).unwrap() };
    let model = Arc::new(Model::new(shape).unwrap());
    let tokens = random_tokens(8, 8 * 300, 3000);
    let segments = [[(300, 0)].as_slice(), &[(100, 0), (117, 1), (290, 0)]];
    let parts: Vec<SequenceParts<'_>> = tokens
        .chunks(300)
        .enumerate()
        .map(|(index, tokens)| SequenceParts { tokens, segments: segments[index % 2], loss_mask: None })
        .collect();
    let batch = Batch::from_parts(&parts).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let parameters = Parameters::<f32>::initialised(model.shape(), 4);
        let adapters = with_adapters.then(|| adapters(model.shape(), 0.1));
        let mut engine = engine(&model, EngineSpec::train(8, 300), &parameters, adapters.as_ref());
        engine.begin_step();
        let loss = accumulated(&mut engine, &batch, 1e-3, Some(KEY));
        (loss, gradients(&mut engine).data)
    })
}

#[test]
fn determinism_across_threads() {
    for with_adapters in [false, true] {
        let (loss, gradients) = on_threads(1, with_adapters);
        assert!(gradients.iter().all(|gradient| gradient.is_finite()));
        for threads in [2, 4] {
            let (other_loss, other_gradients) = on_threads(threads, with_adapters);
            assert_eq!(loss.sum.to_bits(), other_loss.sum.to_bits(), "{threads} threads");
            assert_eq!(loss, other_loss);
            let same = gradients.iter().zip(&other_gradients).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{threads} threads, adapters {with_adapters}");
        }
    }
}

#[test]
fn determinism_of_a_used_engine() {
    let model = model(false);
    let parameters = weights(model.shape());
    let mut used = engine(&model, EngineSpec::train(5, 30), &parameters, None);
    let tokens = random_tokens(3, 30, 37);
    let part = SequenceParts { tokens: &tokens, segments: &[(30, 0)], loss_mask: None };
    run(&mut used, &[Batch::from_parts(&[part; 5]).unwrap()], 1.0);
    let mut fresh = engine(&model, EngineSpec::train(3, 11), &parameters, None);
    assert_eq!(run(&mut used, &[batch()], 0.5), run(&mut fresh, &[batch()], 0.5));
}

#[test]
fn one_batch_is_learnt_by_heart() {
    let model = Arc::new(Model::new(Shape { vocabulary: 64, ..Shape::named("tiny", 64).unwrap() }).unwrap());
    let parameters = Parameters::<f32>::initialised(model.shape(), 1);
    // Distinct first tokens: from equal ones nothing could tell the documents apart.
    let mut tokens = random_tokens(9, 96, 64);
    for (document, first) in [0, 16, 32, 48, 64, 80].into_iter().enumerate() {
        tokens[first] = document as u32;
    }
    let ends = [(16, 0), (32, 0), (48, 0)];
    let parts: Vec<SequenceParts<'_>> =
        tokens.chunks(48).map(|tokens| SequenceParts { tokens, segments: &ends, loss_mask: None }).collect();
    let batch = Batch::from_parts(&parts).unwrap();
    let scale = 1.0 / batch.loss_tokens() as f64;
    let constants = AdamWConstants { betas: [0.9, 0.99], epsilon: 1e-8, weight_decay: 0.0 };
    let mut engine = engine(&model, EngineSpec::train(2, 48), &parameters, None);
    let mut losses = Vec::new();
    for update in 1..=150 {
        engine.begin_step();
        losses.push(accumulated(&mut engine, &batch, scale, None).mean().unwrap());
        assert!(judged(&mut engine, Limits { clip: 0.0, skip_above: f64::INFINITY }).finite);
        engine.update(constants, 3e-3, update);
    }
    assert!((losses[0] - 64.0_f64.ln()).abs() < 0.2, "fresh weights know nothing: {}", losses[0]);
    let last = losses[losses.len() - 1];
    assert!(last < 0.01, "loss {last} after {} steps", losses.len());
    assert_ne!(engine.read((Tensors::Base, State::Weights)).unwrap(), parameters);
}
