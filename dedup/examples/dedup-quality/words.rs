//! Words, shingles, tokens and numbers of a text, cut without the code under test, and their comparison.
//!
//! Shingles are words and not hashes of words, so two different ones are never taken for one. It knows ASCII and whatever
//! lowercases scalar by scalar; it does not normalize, so it is for corpora without compatibility forms.

use std::collections::{BTreeSet, HashMap};

/// Words a shingle.
pub(crate) const SHINGLE_WORDS: usize = 5;

/// Stands in the places of a shingle that a text of fewer words does not fill.
const NO_WORD: u32 = u32::MAX;

/// Five word numbers.
pub(crate) type Shingle = [u32; SHINGLE_WORDS];

/// Numbers of the distinct words of a corpus.
#[derive(Default)]
pub(crate) struct Vocabulary {
    numbers: HashMap<String, u32>,
}

impl Vocabulary {
    /// The distinct shingles of a text, ascending.
    pub(crate) fn shingles(&mut self, text: &str) -> Vec<Shingle> {
        let lowercase: String = text.chars().flat_map(char::to_lowercase).collect();
        let words: Vec<u32> = lowercase
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(|word| self.number(word))
            .collect();
        let mut shingles: Vec<Shingle> = words.windows(SHINGLE_WORDS).filter_map(|w| w.try_into().ok()).collect();
        if shingles.is_empty() && !words.is_empty() {
            let mut short = [NO_WORD; SHINGLE_WORDS];
            short[..words.len()].copy_from_slice(&words);
            shingles.push(short);
        }
        shingles.sort_unstable();
        shingles.dedup();
        shingles
    }

    fn number(&mut self, word: &str) -> u32 {
        if let Some(&number) = self.numbers.get(word) {
            return number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(word.to_owned(), number);
        number
    }
}

/// Common elements of two ascending sets by all of theirs; 0 for two empty ones.
pub(crate) fn jaccard(a: &[Shingle], b: &[Shingle]) -> f64 {
    let common = a.iter().filter(|shingle| b.binary_search(shingle).is_ok()).count();
    common as f64 / (a.len() + b.len() - common).max(1) as f64
}

/// Lowercased runs of non-whitespace, with all signs.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}

/// A run of three tokens of `lost` that is not in `kept`; of a shorter text the whole of it.
pub(crate) fn lost_gram(lost: &str, kept: &str) -> bool {
    let (lost, kept) = (tokens(lost), tokens(kept));
    let length = lost.len().min(3);
    let of_kept: BTreeSet<&[String]> = kept.windows(length.max(1)).collect();
    lost.windows(length.max(1)).any(|gram| !of_kept.contains(gram))
}

/// Tokens with a digit, sorted, without the brackets, quotation marks and sentence marks around them.
pub(crate) fn numbers(text: &str) -> Vec<String> {
    let opens = |c: char| "([{\"'".contains(c);
    let closes = |c: char| ")]}\"'.,;:!?".contains(c);
    let with_digit = |token: &String| token.chars().any(|c| c.is_ascii_digit());
    let bare = |token: String| token.trim_start_matches(opens).trim_end_matches(closes).to_owned();
    let mut numbers: Vec<String> = tokens(text).into_iter().filter(with_digit).map(bare).collect();
    numbers.sort_unstable();
    numbers
}

/// Whether the tokens of `part` stand in `whole` in this order, with others between them or not.
pub(crate) fn stands_in_order(part: &str, whole: &str) -> bool {
    let whole = tokens(whole);
    let mut rest = whole.iter();
    tokens(part).iter().all(|token| rest.any(|other| other == token))
}
