//! Packing changes nothing: documents do not see each other, and a batch is the sum of its documents.

use std::sync::Arc;

use super::{accumulated, batch, difference, engine, gradients, model, random_tokens, weights};
use crate::batch::{Batch, SequenceParts};
use crate::engine::{EngineSpec, LossSum};
use crate::model::Model;
use crate::parameters::Parameters;

/// The losses of batches, and the gradients of all of them together.
fn run(model: &Arc<Model>, parameters: &Parameters<f64>, batches: &[Batch]) -> (LossSum, Parameters<f64>) {
    let mut engine = engine(model, EngineSpec::train(3, 21), parameters, None);
    engine.begin_step();
    let mut sum = LossSum::default();
    for batch in batches {
        sum += &accumulated(&mut engine, batch, 0.1, None);
    }
    (sum, gradients(&mut engine))
}

/// Each segment of a batch as a batch of its own.
fn separate(batch: &Batch) -> Vec<Batch> {
    let mut single = Vec::new();
    for sequence in 0..batch.sequences() {
        for segment in batch.segments(sequence) {
            let first = sequence * batch.sequence_length();
            let range = first + segment.start as usize..first + segment.end as usize;
            // A token is learnt when the position before it says so.
            let mask: Vec<bool> = range.clone().map(|place| place > range.start && batch.loss_mask()[place - 1]).collect();
            let tokens = &batch.tokens()[range];
            let segments = [(tokens.len() as u32, segment.source)];
            single.push(Batch::from_parts(&[SequenceParts { tokens, segments: &segments, loss_mask: Some(&mask) }]).unwrap());
        }
    }
    single
}

#[test]
fn mask_packed_equals_separate() {
    for tied in [false, true] {
        let model = model(tied);
        let parameters = weights(model.shape());
        let packed = batch();
        let (loss, together) = run(&model, &parameters, std::slice::from_ref(&packed));
        let (sum, apart) = run(&model, &parameters, &separate(&packed));
        assert_eq!(loss.tokens, packed.loss_tokens());
        assert_eq!(loss.tokens, sum.tokens);
        assert!((loss.sum - sum.sum).abs() < 1e-12 * loss.sum, "{} {}", loss.sum, sum.sum);
        assert_eq!(loss.sources.len(), 3);
        for (packed, separate) in loss.sources.iter().zip(&sum.sources) {
            assert_eq!((packed.source, packed.tokens), (separate.source, separate.tokens));
            assert!((packed.sum - separate.sum).abs() < 1e-12 * packed.sum.max(1.0));
        }
        for (index, tensor) in parameters.layout.tensors().iter().enumerate() {
            let error = difference(together.slice(index), apart.slice(index));
            assert!(error < 1e-12, "{}: {error:e}", tensor.name);
        }
    }
}

#[test]
fn mask_documents_do_not_see_each_other_bitwise() {
    let model = model(false);
    let parameters = weights(model.shape()).cast::<f32>();
    let segments = [(7, 0), (16, 1), (20, 2)];
    let mut tokens = random_tokens(5, 21, 37);
    let mut engine = engine(&model, EngineSpec::evaluate(1, 21), &parameters, None);
    let mut logits = |tokens: &[u32]| {
        engine.logits(&Batch::from_parts(&[SequenceParts { tokens, segments: &segments, loss_mask: None }]).unwrap()).unwrap()
    };
    let before = logits(&tokens);
    for token in &mut tokens[..7] {
        *token = (*token + 5) % 37;
    }
    tokens[18] = (tokens[18] + 1) % 37;
    tokens[20] = (tokens[20] + 1) % 37;
    let after = logits(&tokens);
    let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&before[7 * 37..18 * 37]), bits(&after[7 * 37..18 * 37]), "the second document, and causality");
    for changed in [0, 6, 18, 19] {
        assert_ne!(bits(&before[changed * 37..][..37]), bits(&after[changed * 37..][..37]), "{changed}");
    }
}

#[test]
fn mask_gradients_of_a_document_ignore_the_others_bitwise() {
    // Document B holds tokens 30 to 36 only, A and C others: the embedding rows of B's tokens feel B alone. The output
    // projection is not tied, so that they feel it through the input only.
    let model = model(false);
    let parameters = weights(model.shape());
    let segments = [(7, 0), (14, 1), (20, 2)];
    let rows = |first: u32| {
        let mut tokens: Vec<u32> = (0..20).map(|place| (place * 3 + first) % 30).collect();
        for (place, token) in tokens[7..14].iter_mut().enumerate() {
            *token = 30 + place as u32;
        }
        let batch = Batch::from_parts(&[SequenceParts { tokens: &tokens, segments: &segments, loss_mask: None }]).unwrap();
        run(&model, &parameters, &[batch]).1.slice(0).to_vec()
    };
    let (first, second) = (rows(0), rows(4));
    assert_ne!(first[..30 * 24], second[..30 * 24]);
    assert_eq!(first[30 * 24..], second[30 * 24..]);
    assert!(first[30 * 24..36 * 24].iter().all(|gradient| *gradient != 0.0));
}

#[test]
fn mask_padding_tokens_mean_nothing() {
    let model = model(false);
    let parameters = weights(model.shape());
    let gradients = |padding: u32| {
        let mut tokens = random_tokens(6, 12, 37);
        tokens[9..].fill(padding);
        let part = SequenceParts { tokens: &tokens, segments: &[(9, 0)], loss_mask: None };
        run(&model, &parameters, &[Batch::from_parts(&[part]).unwrap()])
    };
    let (loss, first) = gradients(0);
    assert_eq!(loss.tokens, 8);
    assert_eq!((loss, first), gradients(36));
}
