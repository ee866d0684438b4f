//! Log-likelihoods of the choices of one item, as lm-evaluation-harness 0.4.13 computes them.
//!
//! Prompt and choice are encoded as one string and cut at the length of the encoded prompt; of the ids, the last
//! `max_length − 1` are kept, at least one of them as context.

use mellama_shards::{Tokenizer, TokenizerError};
use mellama_train::generation::{Decoder, GenerationError};

use crate::item::Item;

/// How much text fits, and how it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Tokens of prompt, choice and the one place that stays for a generated token.
    pub max_length: usize,
    /// Token before each prompt.
    pub bos: Option<u32>,
}

/// One choice's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChoiceScore {
    /// Sum of the log-probabilities of its tokens, in nats.
    pub log_likelihood: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Whether each was the most likely one.
    pub greedy: bool,
    /// Ids cut from the left, context and choice together.
    pub cut: usize,
}

/// The scores of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemScore {
    /// One a choice, in order.
    pub choices: Vec<ChoiceScore>,
}

/// Why an item has no score; no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScoreError {
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error("choice {choice} adds no token to the prompt")]
    NoTarget { choice: usize },
    #[error("the prompt has no token; let prompts begin with the begin token")]
    NoContext,
    #[error("choice {choice}: log-likelihood is not a number; the weights are damaged")]
    NotFinite { choice: usize },
    #[error(transparent)]
    Decoder(#[from] GenerationError),
}

/// Ids of one choice: what it is judged after, what is judged, what was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) context: Vec<u32>,
    pub(crate) target: Vec<u32>,
    pub(crate) cut: usize,
}

/// Builds the requests of an item whose prompt is already in its chat template.
pub(crate) fn requests(
    tokenizer: &Tokenizer,
    prompt: &str,
    choices: &[String],
    window: Window,
) -> Result<Vec<Request>, ScoreError> {
    let (context, spaces) = split_spaces(prompt);
    let encoded = tokenizer.encode(context)?;
    let request = |(choice, text): (usize, &String)| {
        let whole = tokenizer.encode(&format!("{context}{spaces} {text}"))?;
        let target = whole.get(encoded.len()..).unwrap_or_default();
        if target.is_empty() {
            return Err(ScoreError::NoTarget { choice });
        }
        let ids: Vec<u32> = window.bos.into_iter().chain(encoded.iter().copied()).chain(target.iter().copied()).collect();
        keep_last(&ids, target.len(), window.max_length - 1).ok_or(ScoreError::NoContext)
    };
    choices.iter().enumerate().map(request).collect()
}

/// The prompt without its white space at the end, and that white space: it belongs to the target.
fn split_spaces(prompt: &str) -> (&str, &str) {
    // As Python's rstrip: Unicode white space and the four separators below the space.
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let context = prompt.trim_end_matches(is_space);
    (context, &prompt[context.len()..])
}

/// The last `window` ids, cut into context and target; at least one id stays context. `None` when there is but one id.
fn keep_last(ids: &[u32], target: usize, window: usize) -> Option<Request> {
    let cut = ids.len().saturating_sub(window);
    let kept = &ids[cut..];
    let context = kept.len().saturating_sub(target).max(1);
    if ids.len() == target || kept.len() <= context {
        return None;
    }
    Some(Request { context: kept[..context].to_vec(), target: kept[context..].to_vec(), cut })
}

/// Scores all requests of an item; contexts that are equal in a row are read once. Alone: the last bits of a score would
/// otherwise depend on what else is read with it.
pub(crate) fn score(decoder: &mut Decoder<f32>, requests: &[Request]) -> Result<ItemScore, ScoreError> {
    let mut read: Option<&[u32]> = None;
    let mut choices = Vec::with_capacity(requests.len());
    for (choice, request) in requests.iter().enumerate() {
        if read != Some(&request.context) {
            decoder.truncate(0, 0);
            decoder.feed(0, &request.context)?;
            read = Some(&request.context);
        }
        let score = decoder.score(0, &request.target)?;
        if score.log_likelihood.is_nan() {
            return Err(ScoreError::NotFinite { choice });
        }
        choices.push(ChoiceScore {
            log_likelihood: score.log_likelihood,
            tokens: score.tokens,
            greedy: score.greedy,
            cut: request.cut,
        });
    }
    Ok(ItemScore { choices })
}

impl ItemScore {
    /// The choice with the largest sum, the first among equals.
    pub fn best(&self) -> usize {
        self.best_by(|_| 1.0, &[])
    }

    /// The choice with the largest sum per character of the choice.
    pub fn best_by_characters(&self, item: &Item) -> usize {
        self.best_by(|choice| choice.chars().count() as f64, &item.choices)
    }

    /// The choice with the largest sum per UTF-8 byte of the choice.
    pub fn best_by_bytes(&self, item: &Item) -> usize {
        self.best_by(|choice| choice.len() as f64, &item.choices)
    }

    fn best_by(&self, length: impl Fn(&str) -> f64, texts: &[String]) -> usize {
        let value = |at: usize| self.choices[at].log_likelihood / texts.get(at).map_or(1.0, |text| length(text));
        (1..self.choices.len()).fold(0, |best, at| if value(at) > value(best) { at } else { best })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{ChoiceScore, ItemScore, keep_last, split_spaces};
    use crate::item::Item;

    #[test]
    fn white_space_at_the_end_of_a_prompt_moves_to_the_target() {
        let check = |prompt: &str, context: &str, spaces: &str| {
            assert_eq!(split_spaces(prompt), (context, spaces));
        };
        check("Answer:", "Answer:", "");
        check("Answer: ", "Answer:", " ");
        check("\nAnswer:\n \t", "\nAnswer:", "\n \t");
        check("Answer\u{a0}\u{1f}", "Answer", "\u{a0}\u{1f}");
        check(" \n", "", " \n");
    }

    #[test]
    fn the_last_ids_are_kept_and_one_stays_context() {
        let check = |ids: u32, target: usize, window: usize, expected: Option<(usize, usize, usize)>| {
            let got = keep_last(&(0..ids).collect::<Vec<_>>(), target, window);
            let sizes = got.as_ref().map(|request| (request.context.len(), request.target.len(), request.cut));
            assert_eq!(sizes, expected, "{ids} ids, target {target}, window {window}");
            if let Some(request) = got {
                let kept: Vec<u32> = request.context.into_iter().chain(request.target).collect();
                assert_eq!(kept, (ids - kept.len() as u32..ids).collect::<Vec<_>>());
            }
        };
        check(10, 2, 20, Some((8, 2, 0)));
        check(10, 2, 10, Some((8, 2, 0)));
        check(10, 2, 6, Some((4, 2, 4)));
        check(10, 6, 6, Some((1, 5, 4)));
        check(10, 8, 4, Some((1, 3, 6)));
        check(3, 3, 10, None);
        check(3, 1, 1, None);
    }

    proptest! {
        #[test]
        fn every_request_fits_its_window(ids in 2_u32..60, target in 1_usize..60, window in 2_usize..60) {
            let Some(request) = keep_last(&(0..ids).collect::<Vec<_>>(), target.min(ids as usize - 1), window) else {
                return Err(proptest::test_runner::TestCaseError::fail("no request"));
            };
            prop_assert!(!request.context.is_empty() && !request.target.is_empty());
            prop_assert!(request.context.len() + request.target.len() <= window);
            prop_assert_eq!(request.context.len() + request.target.len() + request.cut, ids as usize);
        }
    }

    #[test]
    fn the_three_ways_to_choose_and_their_ties() {
        let score = |sums: &[f64]| ItemScore {
            choices: sums
                .iter()
                .map(|&log_likelihood| ChoiceScore { log_likelihood, tokens: 1, greedy: false, cut: 0 })
                .collect(),
        };
        let item = |choices: &[&str]| Item {
            id: String::new(),
            prompt: String::new(),
            choices: choices.iter().map(ToString::to_string).collect(),
            gold: 0,
        };
        let scores = score(&[-4.0, -5.0, -4.0]);
        assert_eq!(scores.best(), 0, "the first among equals");
        // Per character: -4/2, -5/5, -4/2; per byte the third has 4 bytes: -4/2, -5/5, -4/4, and the first of these wins.
        let named = item(&["ab", "abcde", "éé"]);
        assert_eq!((scores.best_by_characters(&named), scores.best_by_bytes(&named)), (1, 1));
        let named = item(&["ab", "abc", "éé"]);
        assert_eq!((scores.best_by_characters(&named), scores.best_by_bytes(&named)), (1, 2));
    }
}
