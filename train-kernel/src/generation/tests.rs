//! Cached decoding against the full forward.

use std::sync::Arc;

use super::{Continuation, Decoder, Finish, GenerationError, Sampling, argmax};
use crate::batch::{Batch, SequenceParts};
use crate::engine::{Engine, EngineSpec, State, Tensors};
use crate::lora::{Adapters, LoraSpec};
use crate::model::Model;
use crate::ops::cross_entropy::log_probability;
use crate::ops::vjp::random;
use crate::parameters::Parameters;
use crate::real::Real;
use crate::shape::Shape;

const VOCABULARY: usize = 50;

fn model(window: Option<usize>) -> Arc<Model> {
    let shape = Shape { max_positions: 300, window, ..Shape::named("tiny", VOCABULARY).unwrap() };
    Arc::new(Model::new(shape).unwrap())
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

fn decoder<R: Real>(slots: usize, capacity: usize) -> Decoder<R> {
    let model = model(None);
    Decoder::on_cpu(&model, &weights(&model), None, (slots, capacity)).unwrap()
}

fn full<R: Real>(model: &Arc<Model>, base: &Parameters<R>, adapters: Option<&Adapters<R>>, tokens: &[u32]) -> Vec<R> {
    let segments = [(tokens.len() as u32, 0)];
    let batch = Batch::from_parts(&[SequenceParts { tokens, segments: &segments, loss_mask: None }]).unwrap();
    let spec = EngineSpec::evaluate(1, tokens.len()).with_lora(adapters.map(|adapters| adapters.spec.clone()));
    let mut engine = Engine::on_cpu(Arc::clone(model), spec).unwrap();
    engine.load((Tensors::Base, State::Weights), base);
    if let Some(adapters) = adapters {
        engine.load((Tensors::Adapters, State::Weights), &adapters.parameters);
    }
    engine.logits(&batch).unwrap()
}

/// The logits after each token, in f64.
fn plain(tokens: &[u32]) -> Vec<Vec<f64>> {
    let model = model(None);
    full(&model, &weights::<f64>(&model), None, tokens).chunks_exact(VOCABULARY).map(<[f64]>::to_vec).collect()
}

/// The largest difference of two rows of logits, relative to the largest logit.
fn difference<R: Real>(a: &[R], b: &[R]) -> f64 {
    assert_eq!(a.len(), b.len());
    let size = a.iter().fold(0.0_f64, |most, value| most.max(value.to_f64().abs()));
    a.iter().zip(b).fold(0.0_f64, |most, (a, b)| most.max((a.to_f64() - b.to_f64()).abs())) / size
}

fn check_cached<R: Real>(bound: f64, window: Option<usize>, with_adapters: bool) {
    let model = model(window);
    let parameters = weights::<R>(&model);
    let adapters = with_adapters.then(|| {
        let mut adapters = Adapters::<f64>::initialised(model.shape(), LoraSpec::default(), 3).unwrap();
        for index in 0..adapters.parameters.layout.tensors().len() {
            let values = adapters.parameters.slice_mut(index);
            let noise = random(index, values.len());
            values.iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.05 * noise);
        }
        adapters.cast::<R>()
    });
    let tokens = tokens(290);
    let expected = full(&model, &parameters, adapters.as_ref(), &tokens);
    for cuts in [vec![290], vec![1; 290], vec![100, 1, 1, 150, 38], vec![64, 128, 98]] {
        let mut decoder = Decoder::on_cpu(&model, &parameters, adapters.as_ref(), (1, 300)).unwrap();
        let mut read = 0;
        for cut in cuts {
            let logits = decoder.feed(0, &tokens[read..read + cut]).unwrap();
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
    check_cached::<f64>(1e-12, None, false);
    check_cached::<f32>(5e-4, None, false);
    check_cached::<f64>(1e-12, None, true);
    check_cached::<f64>(1e-12, Some(17), false);
}

#[test]
fn texts_together_are_texts_apart() {
    let lengths = [3, 200, 1, 77];
    let texts: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(text, length)| tokens(length + text)[text..].to_vec()).collect();
    let mut together = decoder::<f64>(4, 300);
    // In two rounds, the second in another order and without the last text.
    let halves: Vec<_> = texts.iter().map(|text| text.split_at(text.len() / 2)).collect();
    let first: Vec<_> = halves.iter().enumerate().map(|(slot, half)| (slot, half.0)).collect();
    together.feed_all(&first).unwrap();
    let second: Vec<_> = halves.iter().enumerate().take(3).rev().map(|(slot, half)| (slot, half.1)).collect();
    together.feed_all(&second).unwrap();
    together.feed_all(&[(3, halves[3].1)]).unwrap();
    for (slot, text) in texts.iter().enumerate() {
        let mut alone = decoder::<f64>(1, 300);
        let error = difference(alone.feed(0, text).unwrap(), together.logits(slot).unwrap());
        assert!(error < 1e-12, "text {slot}: {error:e}");
        assert_eq!(together.length(slot), text.len());
    }
}

#[test]
fn every_row_is_visited_once() {
    let tokens = tokens(200);
    let expected = plain(&tokens);
    let mut decoder = decoder::<f64>(2, 300);
    decoder.feed(1, &tokens[..3]).unwrap();
    let mut rows = Vec::new();
    decoder
        .feed_each(1, &tokens[3..], |index, logits| {
            assert!(difference(&expected[3 + index], logits) < 1e-12);
            rows.push(index);
        })
        .unwrap();
    assert_eq!(rows, (0..197).collect::<Vec<_>>());
    assert_eq!((decoder.length(0), decoder.length(1)), (0, 200));
}

#[test]
fn scores_are_sums_of_log_probabilities_and_leave_the_prefix() {
    let tokens = tokens(160);
    let mut decoder = decoder::<f64>(1, 300);
    let prefix = decoder.feed(0, &tokens[..20]).unwrap().to_vec();
    for end in [20, 21, 22, 160] {
        let rows = plain(&tokens[..end]);
        let expected: f64 = (20..end).map(|place| log_probability(&rows[place - 1], tokens[place])).sum();
        let score = decoder.score(0, &tokens[20..end]).unwrap();
        assert!((score.log_likelihood - expected).abs() < 1e-10, "{end}: {} {expected}", score.log_likelihood);
        assert_eq!(score.tokens, end - 20);
        assert_eq!(score.greedy, (20..end).all(|place| argmax(&rows[place - 1]) == tokens[place]));
        assert_eq!((decoder.length(0), decoder.logits(0)), (20, Some(prefix.as_slice())));
    }
}

#[test]
fn scores_together_are_scores_apart() {
    let tokens = tokens(290);
    let prefixes = [&tokens[..20], &tokens[..1], &tokens[..150]];
    let continuations = [&tokens[20..50], &tokens[1..2], &tokens[150..290]];
    let mut together = decoder::<f64>(3, 300);
    together.feed_all(&prefixes.into_iter().enumerate().collect::<Vec<_>>()).unwrap();
    let scores = together.score_all(&continuations.into_iter().enumerate().collect::<Vec<_>>()).unwrap();
    for slot in 0..3 {
        let mut alone = decoder::<f64>(1, 300);
        alone.feed(0, prefixes[slot]).unwrap();
        let expected = alone.score(0, continuations[slot]).unwrap();
        assert!((scores[slot].log_likelihood - expected.log_likelihood).abs() < 1e-9);
        assert_eq!((scores[slot].tokens, scores[slot].greedy), (expected.tokens, expected.greedy));
        assert_eq!(together.length(slot), prefixes[slot].len());
    }
}

#[test]
fn cuts_reuse_a_prefix_bitwise() {
    let tokens = tokens(80);
    let mut decoder = decoder::<f32>(1, 300);
    decoder.feed(0, &tokens[..40]).unwrap();
    let first = decoder.feed(0, &tokens[40..80]).unwrap().to_vec();
    decoder.truncate(0, 40);
    assert_ne!(decoder.feed(0, &tokens[..20]).unwrap(), first);
    decoder.truncate(0, 40);
    assert_eq!(decoder.logits(0), None);
    assert_eq!(decoder.feed(0, &tokens[40..80]).unwrap(), first);
}

fn greedy(prompt: &[u32], max_tokens: usize, stop: &[u32]) -> Continuation {
    Continuation { prompt: prompt.to_vec(), max_tokens, stop: stop.to_vec(), sampling: Sampling::Greedy }
}

#[test]
fn greedy_generation_stops_where_it_should() {
    let prompt = tokens(10);
    let generate = |max_tokens: usize, stop: &[u32], capacity: usize| {
        let mut decoder = decoder::<f64>(1, capacity);
        decoder.generate(&[greedy(&prompt, max_tokens, stop)], &mut |_, _| true).unwrap().remove(0)
    };
    let free = generate(30, &[], 300);
    assert_eq!((free.tokens.len(), free.finish), (30, Finish::MaxTokens));
    let mut text = prompt.clone();
    for &token in &free.tokens {
        assert_eq!(token, argmax(plain(&text).last().unwrap()));
        text.push(token);
    }
    let stop = free.tokens[4];
    let before = free.tokens.iter().position(|&token| token == stop).unwrap();
    let stopped = generate(30, &[49, stop], 300);
    assert_eq!((stopped.tokens.as_slice(), stopped.finish), (&free.tokens[..before], Finish::Stop(stop)));
    let full_context = generate(30, &[], 12);
    assert_eq!((full_context.tokens.as_slice(), full_context.finish), (&free.tokens[..3], Finish::ContextFull));
    assert_eq!(generate(3, &[], 12).finish, Finish::MaxTokens);
    assert!(generate(0, &[], 300).tokens.is_empty());
    let mut decoder = decoder::<f64>(1, 300);
    let mut seen = Vec::new();
    let ended = decoder
        .generate(&[greedy(&prompt, 30, &[])], &mut |_, token| {
            seen.push(token);
            seen.len() < 2
        })
        .unwrap();
    assert_eq!((ended[0].tokens.as_slice(), ended[0].finish), (&free.tokens[..2], Finish::Caller));
    assert_eq!(seen, free.tokens[..2]);
}

#[test]
fn generation_together_is_generation_apart() {
    let prompts = [tokens(10), tokens(3), tokens(150)];
    let drawn = |text: u32| Sampling::Draw { temperature: 0.7, top_p: 0.9, seed: 11, text };
    let texts: Vec<Continuation> = (0..3)
        .map(|text| Continuation { sampling: drawn(text), ..greedy(&prompts[text as usize], 5 + 7 * text as usize, &[]) })
        .collect();
    let together = decoder::<f64>(3, 300).generate(&texts, &mut |_, _| true).unwrap();
    for (text, together) in texts.iter().zip(&together) {
        let apart = decoder::<f64>(1, 300).generate(std::slice::from_ref(text), &mut |_, _| true).unwrap();
        assert_eq!(apart[0], *together);
    }
    assert_eq!(together.iter().map(|text| text.tokens.len()).collect::<Vec<_>>(), [5, 12, 19]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut decoder = decoder::<f32>(1, 10_000);
    assert_eq!(decoder.capacity(), 300, "never more than the model has positions");
    assert_eq!(decoder.feed(0, &[]).unwrap_err(), GenerationError::NoPrefix);
    assert_eq!(decoder.score(0, &[1]).unwrap_err(), GenerationError::NoPrefix);
    assert!(matches!(decoder.feed(0, &[50]).unwrap_err(), GenerationError::Token { token: 50, .. }));
    assert!(matches!(decoder.feed(0, &[1; 301]).unwrap_err(), GenerationError::ContextFull { tokens: 301, .. }));
    assert_eq!(decoder.length(0), 0);
    decoder.feed(0, &[1; 300]).unwrap();
    assert!(decoder.score(0, &[2]).is_ok(), "the last token of a continuation needs no place");
    assert!(decoder.score(0, &[2, 3]).is_err());
    assert!(matches!(decoder.score(0, &[50]).unwrap_err(), GenerationError::Token { .. }));
    let all = |texts: &[Continuation], decoder: &mut Decoder<f32>| decoder.generate(texts, &mut |_, _| true).unwrap_err();
    assert_eq!(all(&[greedy(&[], 1, &[])], &mut decoder), GenerationError::NoPrefix);
    let two = [greedy(&[1], 1, &[]), greedy(&[1], 1, &[])];
    assert_eq!(all(&two, &mut decoder), GenerationError::Slots { got: 2, slots: 1 });
}
