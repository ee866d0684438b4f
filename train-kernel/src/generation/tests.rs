//! Cached decoding against the full forward.

use super::{Decoder, Finish, GenerationError, GreedyLimits, argmax};
use crate::batch::{Batch, SequenceParts};
use crate::lora::{Adapters, DropoutKey, LoraSpec};
use crate::model::{Model, Workspace};
use crate::ops::cross_entropy::log_probability;
use crate::ops::vjp::random;
use crate::parameters::Parameters;
use crate::real::Real;
use crate::shape::Shape;

const VOCABULARY: usize = 50;

fn model() -> Model {
    Model::new(Shape { max_positions: 300, ..Shape::named("tiny", VOCABULARY).unwrap() }).unwrap()
}

/// Weights ten times the initial ones, so that tokens matter.
fn weights<R: Real>(model: &Model) -> Parameters<R> {
    let mut parameters = Parameters::<f64>::initialised(model.shape(), 5);
    for (index, tensor) in parameters.layout.clone().tensors().iter().enumerate() {
        if tensor.matrix {
            parameters.slice_mut(index).iter_mut().for_each(|value| *value *= 10.0);
        }
    }
    parameters.cast()
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|place| (place * place * 7 + place * 3 + 1) % VOCABULARY as u32).collect()
}

fn full<R: Real>(model: &Model, parameters: &Parameters<R>, adapters: Option<&Adapters<R>>, tokens: &[u32]) -> Vec<R> {
    let segments = [(tokens.len() as u32, 0)];
    let batch = Batch::from_parts(&[SequenceParts { tokens, segments: &segments, loss_mask: None }]).unwrap();
    model.logits(parameters, adapters, &batch, &mut Workspace::forward_only(model.shape(), 1, tokens.len()))
}

/// The largest difference of two rows of logits, relative to the largest logit.
fn difference<R: Real>(a: &[R], b: &[R]) -> f64 {
    assert_eq!(a.len(), b.len());
    let size = a.iter().fold(0.0_f64, |most, value| most.max(value.to_f64().abs()));
    a.iter().zip(b).fold(0.0_f64, |most, (a, b)| most.max((a.to_f64() - b.to_f64()).abs())) / size
}

fn check_cached<R: Real>(bound: f64, with_adapters: bool) {
    let model = model();
    let parameters = weights::<R>(&model);
    let adapters = with_adapters.then(|| {
        let mut adapters = Adapters::<f64>::initialised(model.shape(), LoraSpec::default(), 3).unwrap();
        for index in 0..adapters.parameters.layout.tensors().len() {
            let values = adapters.parameters.slice_mut(index);
            let noise = random(index, values.len());
            values.iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.05 * noise);
        }
        // Decoding switches dropout off; the full forward is given adapters without a key.
        adapters.dropout = Some(DropoutKey { seed: 1, step: 1, first_row: 0 });
        adapters.cast::<R>()
    });
    let silent = adapters.clone().map(|adapters| Adapters { dropout: None, ..adapters });
    let tokens = tokens(290);
    let expected = full(&model, &parameters, silent.as_ref(), &tokens);
    for cuts in [vec![290], vec![1; 290], vec![100, 1, 1, 150, 38], vec![64, 128, 98]] {
        let mut decoder = Decoder::new(&model, &parameters, adapters.as_ref(), 300);
        let mut read = 0;
        for cut in cuts {
            let logits = decoder.feed(&tokens[read..read + cut]).unwrap();
            read += cut;
            let error = difference(&expected[(read - 1) * VOCABULARY..][..VOCABULARY], logits);
            assert!(error < bound, "{} after {read} tokens: {error:e}", R::NAME);
        }
    }
}

#[test]
fn cached_decoding_equals_the_full_forward() {
    // The same sums in another order: in f64 some thousand roundings of 1e-16, in f32 of 6e-8, amplified by three layers
    // of weights ten times the usual size.
    check_cached::<f64>(1e-12, false);
    check_cached::<f32>(5e-4, false);
    check_cached::<f64>(1e-12, true);
}

#[test]
fn every_row_is_visited_once() {
    let model = model();
    let parameters = weights::<f64>(&model);
    let tokens = tokens(200);
    let expected = full(&model, &parameters, None, &tokens);
    let mut decoder = Decoder::new(&model, &parameters, None, 300);
    decoder.feed(&tokens[..3]).unwrap();
    let mut rows = Vec::new();
    decoder
        .feed_each(&tokens[3..], |index, logits| {
            assert!(difference(&expected[(3 + index) * VOCABULARY..][..VOCABULARY], logits) < 1e-12);
            rows.push(index);
        })
        .unwrap();
    assert_eq!(rows, (0..197).collect::<Vec<_>>());
    assert_eq!(decoder.len(), 200);
}

#[test]
fn scores_are_sums_of_log_probabilities_and_leave_the_prefix() {
    let model = model();
    let parameters = weights::<f64>(&model);
    let tokens = tokens(160);
    let mut decoder = Decoder::new(&model, &parameters, None, 300);
    let prefix = decoder.feed(&tokens[..20]).unwrap().to_vec();
    for end in [20, 21, 22, 160] {
        let logits = full(&model, &parameters, None, &tokens[..end]);
        let rows: Vec<&[f64]> = logits.chunks_exact(VOCABULARY).collect();
        let expected: f64 = (20..end).map(|place| log_probability(rows[place - 1], tokens[place])).sum();
        let score = decoder.score(&tokens[20..end]).unwrap();
        assert!((score.log_likelihood - expected).abs() < 1e-10, "{end}: {} {expected}", score.log_likelihood);
        assert_eq!(score.tokens, end - 20);
        assert_eq!(score.greedy, (20..end).all(|place| argmax(rows[place - 1]) == tokens[place]));
        assert_eq!((decoder.len(), decoder.logits()), (20, Some(prefix.as_slice())));
    }
    let greedy = decoder.clone().generate(&[], &GreedyLimits { max_tokens: 5, stop: vec![] }).unwrap();
    assert!(decoder.score(&greedy.tokens).unwrap().greedy);
}

#[test]
fn clones_and_cuts_reuse_a_prefix_bitwise() {
    let model = model();
    let parameters = weights::<f32>(&model);
    let tokens = tokens(80);
    let mut decoder = Decoder::new(&model, &parameters, None, 300);
    decoder.feed(&tokens[..40]).unwrap();
    let mut other = decoder.clone();
    let first = decoder.feed(&tokens[40..80]).unwrap().to_vec();
    other.feed(&tokens[..20]).unwrap();
    assert_ne!(other.logits().unwrap(), first);
    other.truncate(40);
    assert_eq!(other.logits(), None);
    assert_eq!(other.feed(&tokens[40..80]).unwrap(), first);
}

#[test]
fn greedy_generation_stops_where_it_should() {
    let model = model();
    let parameters = weights::<f64>(&model);
    let prompt = tokens(10);
    let generate = |max_tokens: usize, stop: Vec<u32>, capacity: usize| {
        let mut decoder = Decoder::new(&model, &parameters, None, capacity);
        decoder.generate(&prompt, &GreedyLimits { max_tokens, stop }).unwrap()
    };
    let free = generate(30, vec![], 300);
    assert_eq!((free.tokens.len(), free.finish), (30, Finish::MaxTokens));
    let mut text = prompt.clone();
    for &token in &free.tokens {
        let logits = full(&model, &parameters, None, &text);
        assert_eq!(token, argmax(&logits[(text.len() - 1) * VOCABULARY..]));
        text.push(token);
    }
    let stop = free.tokens[4];
    let before = free.tokens.iter().position(|&token| token == stop).unwrap();
    let stopped = generate(30, vec![49, stop], 300);
    assert_eq!((stopped.tokens.as_slice(), stopped.finish), (&free.tokens[..before], Finish::Stop(stop)));
    let full_context = generate(30, vec![], 12);
    assert_eq!((full_context.tokens.as_slice(), full_context.finish), (&free.tokens[..3], Finish::ContextFull));
    assert!(generate(0, vec![], 300).tokens.is_empty());
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let model = model();
    let parameters = weights::<f32>(&model);
    let mut decoder = Decoder::new(&model, &parameters, None, 10_000);
    assert_eq!(decoder.capacity(), 300, "never more than the model has positions");
    assert_eq!(decoder.feed(&[]).unwrap_err(), GenerationError::NoPrefix);
    assert_eq!(decoder.score(&[1]).unwrap_err(), GenerationError::NoPrefix);
    assert!(matches!(decoder.feed(&[50]).unwrap_err(), GenerationError::Token { token: 50, .. }));
    assert!(matches!(decoder.feed(&[1; 301]).unwrap_err(), GenerationError::ContextFull { tokens: 301, .. }));
    assert!(decoder.is_empty());
    decoder.feed(&[1; 300]).unwrap();
    assert!(decoder.score(&[2]).is_ok(), "the last token of a continuation needs no place");
    assert!(decoder.score(&[2, 3]).is_err());
    assert!(matches!(decoder.score(&[50]).unwrap_err(), GenerationError::Token { .. }));
}

#[test]
fn the_smallest_of_equal_logits_is_taken() {
    let check = |logits: &[f32], expected: u32| assert_eq!(argmax(logits), expected, "{logits:?}");
    check(&[1.0, 3.0, 3.0, 2.0], 1);
    check(&[f32::NAN, -1.0, -2.0], 1);
    check(&[-1.0, f32::NAN, 0.0], 2);
    check(&[f32::NEG_INFINITY, f32::NEG_INFINITY], 0);
}
