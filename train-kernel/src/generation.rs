//! Token-by-token use of a model: a cache of keys and values, greedy generation, and the likelihood of continuations.
//!
//! Knows token ids only; text, prompts and templates are the callers'. Dropout never applies here.

mod layers;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::lora::Adapters;
use crate::model::Model;
use crate::model::projection::Weights;
use crate::ops::cross_entropy::log_probability;
use crate::ops::gemm::{Matrix, MatrixMut, multiply};
use crate::ops::{embedding, norm};
use crate::parameters::Parameters;
use crate::real::Real;
use crate::shape::Shape;
use layers::{Buffers, LayerCache};

/// Tokens that pass through the model together.
const CHUNK_TOKENS: usize = 128;

/// A model in use on one text: what it has read, and the logits of the next token.
///
/// A clone reads on by itself: read a shared prefix once, clone, and feed each its own rest; or go back with
/// [`Self::truncate`].
#[derive(Clone, Debug)]
pub struct Decoder<'a, R: Real> {
    model: &'a Model,
    parameters: &'a Parameters<R>,
    adapters: Option<Adapters<R>>,
    capacity: usize,
    length: usize,
    /// The length at which `logits` are those of the next token.
    logits_at: usize,
    logits: Vec<R>,
    cache: Vec<LayerCache<R>>,
    buffers: Buffers<R>,
}

/// Why a decoder does not do what was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GenerationError {
    /// More tokens than the cache or the model has positions for.
    #[error("decoder: context: got {tokens} tokens, expected at most {capacity}; shorten the text or enlarge the context")]
    ContextFull {
        /// Tokens that there would be.
        tokens: usize,
        /// Tokens that fit.
        capacity: usize,
    },
    /// A token id outside the vocabulary.
    #[error("decoder: token id: got {token}, expected less than {vocabulary}; the tokenizer does not fit the model")]
    Token {
        /// The id.
        token: u32,
        /// The model's vocabulary size.
        vocabulary: usize,
    },
    /// Something is asked about the next token before any token was read, or after going back.
    #[error(
        "decoder: no token before the first to predict: got an empty prefix, expected at least one token; feed the beginning-of-text token"
    )]
    NoPrefix,
}

/// What looks at the logits `(V)` that follow each token read.
type Visit<'v, R> = &'v mut dyn FnMut(usize, &[R]);

/// When greedy generation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GreedyLimits {
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Any of these ends the text and is not part of it.
    pub stop: Vec<u32>,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// This stop token was the most likely one.
    Stop(u32),
    /// As many tokens as asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
}

/// A generated text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The tokens after the prompt, without the stop token.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub finish: Finish,
}

/// How likely a continuation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContinuationScore {
    /// Natural logarithm of its probability, the sum over its tokens.
    pub log_likelihood: f64,
    /// Its number of tokens.
    pub tokens: usize,
    /// Whether each of its tokens was the most likely one.
    pub greedy: bool,
}

impl<'a, R: Real> Decoder<'a, R> {
    /// An empty text of at most `capacity` tokens, or as many as the model has positions.
    ///
    /// # Panics
    /// When parameters or adapters do not fit the model.
    pub fn new(model: &'a Model, parameters: &'a Parameters<R>, adapters: Option<&Adapters<R>>, capacity: usize) -> Self {
        let shape = model.shape();
        let capacity = capacity.min(shape.max_positions);
        let adapters = adapters.map(|adapters| Adapters { dropout: None, ..adapters.clone() });
        let _checked = Weights::new(model, parameters, adapters.as_ref());
        let rows = capacity.min(CHUNK_TOKENS);
        let mut buffers = Buffers::new(shape, rows, capacity);
        if let Some(adapters) = &adapters {
            buffers.adapters.reserve(shape, rows, adapters.spec.rank);
        }
        let cached = shape.kv_width() * capacity;
        let layer = LayerCache { k: vec![R::ZERO; cached], v: vec![R::ZERO; cached] };
        let cache = vec![layer; shape.layers];
        let logits = vec![R::ZERO; shape.vocabulary];
        Self { model, parameters, adapters, capacity, length: 0, logits_at: 0, logits, cache, buffers }
    }

    /// Tokens read so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no token was read.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Tokens that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The logits `(V)` of the next token; None before the first token and after going back.
    pub fn logits(&self) -> Option<&[R]> {
        (self.length > 0 && self.logits_at == self.length).then_some(&self.logits)
    }

    /// Goes back to the first `length` tokens; nothing happens when there are fewer.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Reads tokens and gives the logits `(V)` of the one that follows.
    ///
    /// # Errors
    /// [`GenerationError`]; the decoder is then as before.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<&[R], GenerationError> {
        self.check(tokens)?;
        if !tokens.is_empty() {
            self.advance(tokens, None);
        }
        self.logits().ok_or(GenerationError::NoPrefix)
    }

    /// Reads tokens and gives each one's following logits to `visit(index, logits (V))`, in order.
    ///
    /// # Errors
    /// [`GenerationError`]; the decoder is then as before.
    pub fn feed_each(&mut self, tokens: &[u32], mut visit: impl FnMut(usize, &[R])) -> Result<(), GenerationError> {
        self.check(tokens)?;
        self.advance(tokens, Some(&mut visit));
        Ok(())
    }

    /// Reads a prompt and then always takes the most likely token, the smallest id among equals.
    ///
    /// # Errors
    /// [`GenerationError`] when the prompt does not fit, or nothing was read at all.
    pub fn generate(&mut self, prompt: &[u32], limits: &GreedyLimits) -> Result<Generated, GenerationError> {
        self.feed(prompt)?;
        let mut tokens = Vec::new();
        loop {
            if tokens.len() == limits.max_tokens {
                return Ok(Generated { tokens, finish: Finish::MaxTokens });
            }
            let next = argmax(&self.logits);
            if limits.stop.contains(&next) {
                return Ok(Generated { tokens, finish: Finish::Stop(next) });
            }
            tokens.push(next);
            if self.length == self.capacity {
                return Ok(Generated { tokens, finish: Finish::ContextFull });
            }
            self.advance(&[next], None);
        }
    }

    /// How likely `continuation` is after what was read; the decoder is as before afterwards.
    ///
    /// # Errors
    /// [`GenerationError`] when it does not fit or nothing was read; the last token needs no place.
    pub fn score(&mut self, continuation: &[u32]) -> Result<ContinuationScore, GenerationError> {
        self.check(continuation.get(..continuation.len().saturating_sub(1)).unwrap_or_default())?;
        check_tokens(self.model.shape(), continuation)?;
        let mut score = ContinuationScore { log_likelihood: 0.0, tokens: continuation.len(), greedy: true };
        let mut add = |logits: &[R], token: u32| {
            score.log_likelihood += log_probability(logits, token);
            score.greedy &= argmax(logits) == token;
        };
        let before = self.logits().ok_or(GenerationError::NoPrefix)?.to_vec();
        let Some((&first, rest)) = continuation.split_first() else {
            return Ok(score);
        };
        add(&before, first);
        if !rest.is_empty() {
            let start = self.length;
            let read = &continuation[..rest.len()];
            self.advance(read, Some(&mut |index, logits| add(logits, rest[index])));
            self.length = start;
            self.logits_at = start;
            self.logits = before;
        }
        Ok(score)
    }

    fn check(&self, tokens: &[u32]) -> Result<(), GenerationError> {
        let total = self.length + tokens.len();
        if total > self.capacity {
            return Err(GenerationError::ContextFull { tokens: total, capacity: self.capacity });
        }
        check_tokens(self.model.shape(), tokens)
    }

    /// Reads checked tokens, chunk by chunk; the last token's logits become `self.logits`.
    fn advance(&mut self, tokens: &[u32], mut visit: Option<Visit<'_, R>>) {
        for (chunk, part) in tokens.chunks(CHUNK_TOKENS).enumerate() {
            self.advance_chunk(part);
            let last = (chunk * CHUNK_TOKENS + part.len()) == tokens.len();
            // Logits of every row when somebody looks at them, else of the very last.
            let wanted = if visit.is_some() { part.len() } else { usize::from(last) };
            self.head(part.len(), wanted);
            let vocabulary = self.model.shape().vocabulary;
            let logits = &self.buffers.logits[..wanted * vocabulary];
            if let Some(visit) = visit.as_mut() {
                for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
                    visit(chunk * CHUNK_TOKENS + row, logits);
                }
            }
            if last {
                self.logits.copy_from_slice(&logits[(wanted - 1) * vocabulary..]);
                self.logits_at = self.length;
            }
        }
    }

    /// Leaves the residuals of the chunk's tokens in `buffers.stream`.
    fn advance_chunk(&mut self, tokens: &[u32]) {
        let (shape, rows) = (self.model.shape(), tokens.len());
        let weights = Weights::new(self.model, self.parameters, self.adapters.as_ref());
        let buffers = &mut self.buffers;
        let first = self.length as u32;
        buffers.positions.clear();
        buffers.positions.extend(first..first + rows as u32);
        let table = weights.at(weights.places.embedding());
        embedding::forward(table, tokens, &mut buffers.stream[..rows * shape.width], shape.width);
        for (layer, cache) in self.cache.iter_mut().enumerate() {
            buffers.attention(self.model, weights, layer, (self.length, rows), (self.capacity, cache));
            buffers.feed_forward(weights, layer, rows);
        }
        self.length += rows;
    }

    /// `buffers.logits (wanted, V) =` those of the last `wanted` of `rows` rows.
    fn head(&mut self, rows: usize, wanted: usize) {
        let shape = self.model.shape();
        let weights = Weights::new(self.model, self.parameters, self.adapters.as_ref());
        let Buffers { stream, normed, rstd, logits, .. } = &mut self.buffers;
        if wanted == 0 {
            return;
        }
        let length = wanted * shape.width;
        let stream = &stream[(rows - wanted) * shape.width..rows * shape.width];
        let weight = weights.at(weights.places.last_norm());
        norm::forward(stream, weight, shape.norm_epsilon, &mut normed[..length], &mut rstd[..wanted]);
        let matrix = Matrix::new(weights.at(weights.places.head()), shape.vocabulary, shape.width);
        let out = MatrixMut::new(&mut logits[..wanted * shape.vocabulary], wanted, shape.vocabulary);
        multiply(R::ONE, Matrix::new(&normed[..length], wanted, shape.width), matrix.transposed(), R::ZERO, out);
    }
}

fn check_tokens(shape: &Shape, tokens: &[u32]) -> Result<(), GenerationError> {
    let vocabulary = shape.vocabulary;
    match tokens.iter().find(|&&token| token as usize >= vocabulary) {
        Some(&token) => Err(GenerationError::Token { token, vocabulary }),
        None => Ok(()),
    }
}

/// The index of the largest logit, the smallest index among equals; NaN is never chosen over a number.
pub fn argmax<R: Real>(logits: &[R]) -> u32 {
    let mut best = 0;
    for (index, value) in logits.iter().enumerate() {
        let first_number = !logits[best].to_f64().is_nan() || value.to_f64().is_nan();
        if *value > logits[best] || !first_number {
            best = index;
        }
    }
    best as u32
}
