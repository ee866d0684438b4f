//! Token-by-token use of a model: texts with caches of keys and values, generation, and the likelihood of continuations.
//!
//! Knows token ids only; text, prompts and templates are the callers'. Dropout never applies here. Which other texts are read
//! along with one changes nothing of it beyond rounding.

mod sampling;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use thiserror::Error;

pub use sampling::{Sampling, argmax};

use crate::backend::{CacheSpan, DecodeRows, DeviceError};
use crate::engine::{Engine, EngineSpec, State, Tensors};
use crate::lora::Adapters;
use crate::model::Model;
use crate::ops::cross_entropy::log_probability;
use crate::parameters::Parameters;
use crate::real::Real;
use crate::shape::Shape;

/// Tokens that pass through the model together.
const CHUNK_TOKENS: usize = 128;

/// Texts in the making: what each has read, and the logits of its next token.
#[derive(Debug)]
pub struct Decoder<E: Real> {
    engine: Engine<E>,
    capacity: usize,
    texts: Vec<Text>,
    /// `(slots, V)`
    logits: Vec<E>,
}

/// One text.
#[derive(Clone, Copy, Debug, Default)]
struct Text {
    length: usize,
    /// The length at which its logits are those of the next token.
    logits_at: usize,
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
    /// More texts than the decoder has places for.
    #[error("decoder: texts: got {got}, expected at most {slots}; make it for more")]
    Slots {
        /// Texts asked for.
        got: usize,
        /// Places.
        slots: usize,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// One text to continue.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    /// Tokens to read first.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Any of these ends the text and is not part of it.
    pub stop: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// This stop token was chosen.
    Stop(u32),
    /// As many tokens as asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The caller had enough.
    Caller,
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

/// New tokens of a text.
pub type Feed<'t> = (usize, &'t [u32]);

impl<E: Real> Decoder<E> {
    /// Texts on the processor: `slots` at once, each of at most `capacity` tokens or as many as the model has positions.
    ///
    /// # Errors
    /// [`DeviceError`] when the machine has not enough memory.
    ///
    /// # Panics
    /// When parameters or adapters do not fit the model.
    pub fn on_cpu(
        model: &Arc<Model>,
        parameters: &Parameters<E>,
        adapters: Option<&Adapters<E>>,
        (slots, capacity): (usize, usize),
    ) -> Result<Self, DeviceError> {
        let capacity = capacity.min(model.shape().max_positions);
        let rows = CHUNK_TOKENS.min(capacity).max(slots);
        let spec = EngineSpec::decode(slots, capacity, rows).with_lora(adapters.map(|adapters| adapters.spec.clone()));
        let mut engine = Engine::on_cpu(Arc::clone(model), spec)?;
        engine.load((Tensors::Base, State::Weights), parameters);
        if let Some(adapters) = adapters {
            engine.load((Tensors::Adapters, State::Weights), &adapters.parameters);
        }
        Ok(Self::new(engine, slots, capacity))
    }

    /// Texts on an engine that was made for `slots` of `capacity` and whose weights are loaded.
    pub fn new(engine: Engine<E>, slots: usize, capacity: usize) -> Self {
        let logits = vec![E::ZERO; slots * engine.model().shape().vocabulary];
        Self { engine, capacity, texts: vec![Text::default(); slots], logits }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.engine.model()
    }

    /// Texts at once.
    pub fn slots(&self) -> usize {
        self.texts.len()
    }

    /// Tokens that fit in a text.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tokens of a text so far.
    ///
    /// # Panics
    /// When there is no such slot; likewise below.
    pub fn length(&self, slot: usize) -> usize {
        self.texts[slot].length
    }

    /// The logits `(V)` of a text's next token; None before the first token and after going back.
    pub fn logits(&self, slot: usize) -> Option<&[E]> {
        let text = self.texts[slot];
        (text.length > 0 && text.logits_at == text.length).then(|| self.row(slot))
    }

    /// Goes back to the first `length` tokens of a text; nothing happens when there are fewer.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        let text = &mut self.texts[slot];
        text.length = text.length.min(length);
    }

    /// Reads tokens of one text and gives the logits `(V)` of the one that follows.
    ///
    /// # Errors
    /// [`GenerationError`]; the text is then as before.
    pub fn feed(&mut self, slot: usize, tokens: &[u32]) -> Result<&[E], GenerationError> {
        self.feed_all(&[(slot, tokens)])?;
        self.logits(slot).ok_or(GenerationError::NoPrefix)
    }

    /// Reads tokens of several texts together, each at most once.
    ///
    /// # Errors
    /// [`GenerationError`]; every text is then as before.
    pub fn feed_all(&mut self, feeds: &[Feed<'_>]) -> Result<(), GenerationError> {
        for &(slot, tokens) in feeds {
            self.check(slot, tokens)?;
        }
        self.advance(feeds, None)?;
        Ok(())
    }

    /// Reads tokens of one text and gives each one's following logits to `visit(index, logits (V))`, in order.
    ///
    /// # Errors
    /// [`GenerationError`]; the text is then as before.
    pub fn feed_each(&mut self, slot: usize, tokens: &[u32], mut visit: impl FnMut(usize, &[E])) -> Result<(), GenerationError> {
        self.check(slot, tokens)?;
        self.advance(&[(slot, tokens)], Some(&mut |_, index, logits| visit(index, logits)))?;
        Ok(())
    }

    /// Continues texts from slot 0 on, one a slot, together: each step reads one token of every text that goes on. `chosen` sees
    /// every token, and ends the text that it is part of by returning false.
    ///
    /// # Errors
    /// [`GenerationError`] when a prompt is empty or does not fit, or there are more texts than slots.
    pub fn generate(
        &mut self,
        texts: &[Continuation],
        chosen: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Result<Vec<Generated>, GenerationError> {
        if texts.len() > self.slots() {
            return Err(GenerationError::Slots { got: texts.len(), slots: self.slots() });
        }
        let prompts: Vec<Feed<'_>> = texts.iter().map(|text| text.prompt.as_slice()).enumerate().collect();
        for slot in 0..texts.len() {
            self.truncate(slot, 0);
        }
        self.feed_all(&prompts)?;
        if texts.iter().any(|text| text.prompt.is_empty()) {
            return Err(GenerationError::NoPrefix);
        }
        let mut generated: Vec<(Vec<u32>, Option<Finish>)> = vec![(Vec::new(), None); texts.len()];
        loop {
            let mut next = Vec::new();
            for (slot, (text, (tokens, finish))) in texts.iter().zip(&mut generated).enumerate() {
                if finish.is_none() {
                    *finish = self.choose(slot, text, tokens, chosen);
                }
                if finish.is_none() {
                    next.push((slot, tokens[tokens.len() - 1]));
                }
            }
            if next.is_empty() {
                let done =
                    |(tokens, finish): (Vec<u32>, Option<Finish>)| Generated { tokens, finish: finish.unwrap_or(Finish::Caller) };
                return Ok(generated.into_iter().map(done).collect());
            }
            let feeds: Vec<Feed<'_>> = next.iter().map(|(slot, token)| (*slot, std::slice::from_ref(token))).collect();
            self.advance(&feeds, None)?;
        }
    }

    /// Chooses a text's next token; says why there is none, or why there will be no more.
    fn choose(
        &self,
        slot: usize,
        text: &Continuation,
        tokens: &mut Vec<u32>,
        chosen: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Option<Finish> {
        if tokens.len() == text.max_tokens {
            return Some(Finish::MaxTokens);
        }
        let token = text.sampling.choose(self.row(slot), tokens.len() as u64);
        if text.stop.contains(&token) {
            return Some(Finish::Stop(token));
        }
        tokens.push(token);
        if !chosen(slot, token) {
            return Some(Finish::Caller);
        }
        let full = self.texts[slot].length == self.capacity;
        full.then_some(if tokens.len() == text.max_tokens { Finish::MaxTokens } else { Finish::ContextFull })
    }

    /// How likely `continuation` is after what a text has read; the text is as before afterwards.
    ///
    /// # Errors
    /// [`GenerationError`] when it does not fit or nothing was read; the last token needs no place.
    pub fn score(&mut self, slot: usize, continuation: &[u32]) -> Result<ContinuationScore, GenerationError> {
        Ok(self.score_all(&[(slot, continuation)])?.remove(0))
    }

    /// The same for several texts together, each at most once.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn score_all(&mut self, continuations: &[Feed<'_>]) -> Result<Vec<ContinuationScore>, GenerationError> {
        let mut scores = Vec::with_capacity(continuations.len());
        for &(slot, continuation) in continuations {
            self.check(slot, continuation.get(..continuation.len().saturating_sub(1)).unwrap_or_default())?;
            check_tokens(self.model().shape(), continuation)?;
            let mut score = ContinuationScore { log_likelihood: 0.0, tokens: continuation.len(), greedy: true };
            let logits = self.logits(slot).ok_or(GenerationError::NoPrefix)?;
            if let Some(&first) = continuation.first() {
                score.add(logits, first);
            }
            scores.push(score);
        }
        let (texts, logits) = (self.texts.clone(), self.logits.clone());
        let read: Vec<Feed<'_>> = continuations
            .iter()
            .map(|&(slot, continuation)| (slot, &continuation[..continuation.len().saturating_sub(1)]))
            .collect();
        self.advance(&read, Some(&mut |feed, index, logits| scores[feed].add(logits, continuations[feed].1[index + 1])))?;
        (self.texts, self.logits) = (texts, logits);
        Ok(scores)
    }

    fn check(&self, slot: usize, tokens: &[u32]) -> Result<(), GenerationError> {
        let total = self.texts[slot].length + tokens.len();
        if total > self.capacity {
            return Err(GenerationError::ContextFull { tokens: total, capacity: self.capacity });
        }
        check_tokens(self.model().shape(), tokens)
    }

    fn row(&self, slot: usize) -> &[E] {
        let vocabulary = self.model().shape().vocabulary;
        &self.logits[slot * vocabulary..][..vocabulary]
    }

    /// Reads checked tokens, as many rows at a time as the engine takes; each text's last logits become its own. `visit` sees
    /// those after every token.
    fn advance(&mut self, feeds: &[Feed<'_>], mut visit: Option<Visit<'_, E>>) -> Result<(), DeviceError> {
        let most = self.engine.spec().rows;
        let vocabulary = self.model().shape().vocabulary;
        let mut pieces = Pieces { feeds, at: 0, read: 0 };
        while let Some(piece) = pieces.next(&self.texts, most) {
            let wanted: Vec<u32> = match visit {
                Some(_) => (0..piece.new.tokens.len() as u32).collect(),
                None => piece.places.iter().zip(0..).filter(|(place, _)| place.last).map(|(_, row)| row).collect(),
            };
            let logits = &mut self.logits;
            self.engine.decode(&piece.new, &wanted, &mut |row, values| {
                let place = piece.places[row];
                if let Some(visit) = visit.as_mut() {
                    visit(place.feed, place.index, values);
                }
                if place.last {
                    logits[feeds[place.feed].0 * vocabulary..][..vocabulary].copy_from_slice(values);
                }
            })?;
            for span in &piece.new.spans {
                self.texts[span.slot].length += span.rows;
            }
            for place in piece.places.iter().filter(|place| place.last) {
                let text = &mut self.texts[feeds[place.feed].0];
                text.logits_at = text.length;
            }
        }
        Ok(())
    }
}

impl ContinuationScore {
    /// Counts one more token, chosen after these logits.
    fn add<E: Real>(&mut self, logits: &[E], token: u32) {
        self.log_likelihood += log_probability(logits, token);
        self.greedy &= argmax(logits) == token;
    }
}

/// What looks at the logits `(V)` that follow each token read: which feed, which token of it.
type Visit<'v, E> = &'v mut dyn FnMut(usize, usize, &[E]);

/// Feeds cut into batches of rows.
struct Pieces<'f, 't> {
    feeds: &'f [Feed<'t>],
    /// The feed in progress, and how much of it was read.
    at: usize,
    read: usize,
}

/// One batch of rows.
struct Piece {
    new: DecodeRows,
    /// What each row is.
    places: Vec<Place>,
}

/// A row of a piece: which token of which feed, and whether it is the last one.
#[derive(Clone, Copy)]
struct Place {
    feed: usize,
    index: usize,
    last: bool,
}

impl Pieces<'_, '_> {
    /// The next rows.
    fn next(&mut self, texts: &[Text], most: usize) -> Option<Piece> {
        let mut piece = Piece { new: DecodeRows::default(), places: Vec::new() };
        while let Some(&(slot, tokens)) = self.feeds.get(self.at) {
            let rows = (tokens.len() - self.read).min(most - piece.places.len());
            if rows > 0 {
                let place = |index| Place { feed: self.at, index, last: index + 1 == tokens.len() };
                piece.places.extend((self.read..self.read + rows).map(place));
                piece.new.tokens.extend_from_slice(&tokens[self.read..self.read + rows]);
                piece.new.spans.push(CacheSpan { slot, start: texts[slot].length, rows });
                self.read += rows;
            }
            if self.read < tokens.len() {
                break;
            }
            (self.at, self.read) = (self.at + 1, 0);
        }
        (!piece.places.is_empty()).then_some(piece)
    }
}

fn check_tokens(shape: &Shape, tokens: &[u32]) -> Result<(), GenerationError> {
    let vocabulary = shape.vocabulary;
    match tokens.iter().find(|&&token| token as usize >= vocabulary) {
        Some(&token) => Err(GenerationError::Token { token, vocabulary }),
        None => Ok(()),
    }
}
