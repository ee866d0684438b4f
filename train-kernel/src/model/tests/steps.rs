//! Training steps: micro-batches, threads, overfitting, and the loss of knowing nothing.

use super::{adapters, batch, difference, model, random_tokens, weights};
use crate::batch::{Batch, SequenceParts};
use crate::lora::{Adapters, DropoutKey};
use crate::model::{Gradients, LossSum, Model, Workspace};
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

#[test]
fn micro_batches_of_one_equal_one_batch() {
    for whole in [batch(), large_batch()] {
        let model = model(true);
        let parameters = weights(model.shape());
        let scale = 1.0 / whole.loss_tokens() as f64;
        let mut workspace = Workspace::new(model.shape(), 12, 30);
        let (mut together, mut apart) = (parameters.zeros_like(), parameters.zeros_like());
        let full = Gradients::Full(&mut together);
        let loss = model.loss_and_gradients(&parameters, None, &whole, scale, full, &mut workspace);
        let mut sum = LossSum::default();
        for part in micro_batches(&whole) {
            let full = Gradients::Full(&mut apart);
            sum += &model.loss_and_gradients(&parameters, None, &part, scale, full, &mut workspace);
        }
        assert_eq!((loss.tokens, sum.tokens), (whole.loss_tokens(), whole.loss_tokens()));
        assert!((loss.sum - sum.sum).abs() < 1e-12 * loss.sum);
        for (index, tensor) in parameters.layout.tensors().iter().enumerate() {
            let error = difference(together.slice(index), apart.slice(index));
            assert!(error < 1e-12, "{}: {error:e}", tensor.name);
        }
    }
}

#[test]
fn micro_batches_drop_what_one_batch_drops() {
    let model = model(false);
    let (parameters, whole) = (weights(model.shape()), batch());
    let mut adapters: Adapters<f64> = adapters(model.shape(), 0.4);
    let mut workspace = Workspace::new(model.shape(), 3, 11);
    let (mut together, mut apart) = (adapters.parameters.zeros_like(), adapters.parameters.zeros_like());
    let wanted = Gradients::Adapters(&mut together);
    model.loss_and_gradients(&parameters, Some(&adapters), &whole, 0.1, wanted, &mut workspace);
    for (index, part) in micro_batches(&whole).iter().enumerate() {
        adapters.dropout = adapters.dropout.map(|key| DropoutKey { first_row: 11 * index as u64, ..key });
        let wanted = Gradients::Adapters(&mut apart);
        model.loss_and_gradients(&parameters, Some(&adapters), part, 0.1, wanted, &mut workspace);
    }
    assert!(difference(&together.data, &apart.data) < 1e-12);
}

#[test]
fn equal_logits_give_the_logarithm_of_the_vocabulary() {
    let model = model(false);
    let mut parameters = weights(model.shape());
    let head = parameters.layout.index("lm_head.weight").unwrap();
    parameters.slice_mut(head).fill(0.0);
    let mut workspace = Workspace::forward_only(model.shape(), 3, 11);
    let loss = model.loss(&parameters, None, &batch(), &mut workspace);
    assert!((loss.mean().unwrap() - 37.0_f64.ln()).abs() < 1e-13);
}

#[test]
fn a_batch_without_targets_has_no_loss_and_no_gradient() {
    let model = model(true);
    let parameters = weights(model.shape());
    let mask = [false; 8];
    let part = SequenceParts { tokens: &[1; 8], segments: &[(8, 0)], loss_mask: Some(&mask) };
    let batch = Batch::from_parts(&[part]).unwrap();
    let mut gradients = parameters.zeros_like();
    let mut workspace = Workspace::new(model.shape(), 1, 8);
    let full = Gradients::Full(&mut gradients);
    let loss = model.loss_and_gradients(&parameters, None, &batch, 1.0, full, &mut workspace);
    assert_eq!(loss, LossSum::default());
    assert!(gradients.data.iter().all(|gradient| *gradient == 0.0));
}

/// The loss and all gradients of a batch large enough to be cut into many parts, in f32, on so many threads.
fn on_threads(threads: usize, with_adapters: bool) -> (LossSum, Vec<f32>) {
    let shape = Shape { vocabulary: 3000, ..Shape::named("tiny", 1000).unwrap() };
    let model = Model::new(shape).unwrap();
    let parameters = Parameters::<f32>::initialised(model.shape(), 4);
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
        let mut workspace = Workspace::new(model.shape(), 8, 300);
        if with_adapters {
            let adapters: Adapters<f32> = adapters(model.shape(), 0.1);
            let mut gradients = adapters.parameters.zeros_like();
            let wanted = Gradients::Adapters(&mut gradients);
            let loss = model.loss_and_gradients(&parameters, Some(&adapters), &batch, 1e-3, wanted, &mut workspace);
            return (loss, gradients.data);
        }
        let mut gradients = parameters.zeros_like();
        let full = Gradients::Full(&mut gradients);
        let loss = model.loss_and_gradients(&parameters, None, &batch, 1e-3, full, &mut workspace);
        (loss, gradients.data)
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
fn determinism_of_a_used_workspace() {
    let model = model(false);
    let parameters = weights(model.shape());
    let gradients_in = |workspace: &mut Workspace<f64>| {
        let mut gradients = parameters.zeros_like();
        let full = Gradients::Full(&mut gradients);
        let loss = model.loss_and_gradients(&parameters, None, &batch(), 0.5, full, workspace);
        (loss, gradients)
    };
    let mut used = Workspace::new(model.shape(), 5, 30);
    let tokens = random_tokens(3, 30, 37);
    let part = SequenceParts { tokens: &tokens, segments: &[(30, 0)], loss_mask: None };
    let large = Batch::from_parts(&[part; 5]).unwrap();
    let adapters: Adapters<f64> = adapters(model.shape(), 0.2);
    let mut scrap = adapters.parameters.zeros_like();
    let wanted = Gradients::Adapters(&mut scrap);
    model.loss_and_gradients(&parameters, Some(&adapters), &large, 1.0, wanted, &mut used);
    assert_eq!(gradients_in(&mut used), gradients_in(&mut Workspace::new(model.shape(), 3, 11)));
}

#[test]
fn one_batch_is_learnt_by_heart() {
    let model = Model::new(Shape { vocabulary: 64, ..Shape::named("tiny", 64).unwrap() }).unwrap();
    let mut parameters = Parameters::<f32>::initialised(model.shape(), 1);
    let tokens = random_tokens(9, 96, 64);
    // Distinct first tokens: from equal ones nothing could tell the documents apart.
    let mut tokens = tokens;
    for (document, first) in [0, 16, 32, 48, 64, 80].into_iter().enumerate() {
        tokens[first] = document as u32;
    }
    let ends = [(16, 0), (32, 0), (48, 0)];
    let parts: Vec<SequenceParts<'_>> =
        tokens.chunks(48).map(|tokens| SequenceParts { tokens, segments: &ends, loss_mask: None }).collect();
    let batch = Batch::from_parts(&parts).unwrap();
    let scale = 1.0 / batch.loss_tokens() as f64;
    let mut workspace = Workspace::new(model.shape(), 2, 48);
    let (mut first, mut second) = (parameters.zeros_like(), parameters.zeros_like());
    let mut losses = Vec::new();
    for step in 1..=150 {
        let mut gradients = parameters.zeros_like();
        let full = Gradients::Full(&mut gradients);
        let loss = model.loss_and_gradients(&parameters, None, &batch, scale, full, &mut workspace);
        losses.push(loss.mean().unwrap());
        let (unbias_first, unbias_second) = (1.0 - 0.9_f32.powi(step), 1.0 - 0.99_f32.powi(step));
        let moments = first.data.iter_mut().zip(second.data.iter_mut());
        for ((weight, gradient), (m, v)) in parameters.data.iter_mut().zip(&gradients.data).zip(moments) {
            *m = 0.9 * *m + 0.1 * gradient;
            *v = 0.99 * *v + 0.01 * gradient * gradient;
            *weight -= 3e-3 * (*m / unbias_first) / ((*v / unbias_second).sqrt() + 1e-8);
        }
    }
    assert!((losses[0] - 64.0_f64.ln()).abs() < 0.2, "fresh weights know nothing: {}", losses[0]);
    let last = losses[losses.len() - 1];
    assert!(last < 0.01, "loss {last} after {} steps", losses.len());
}
