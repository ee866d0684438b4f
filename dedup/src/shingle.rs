//! Hashes of words and of runs of consecutive words, by a rolling polynomial.
//!
//! It splits no text: words come from `normal`.

use xxhash_rust::xxh3::xxh3_64;

use crate::permutation::{GOLDEN, finalize};

/// Word hash: XXH3-64 of the word's UTF-8 bytes, seed 0.
pub(crate) fn word_hash(word: &str) -> u64 {
    xxh3_64(word.as_bytes())
}

/// Turns word hashes into the hashes of all runs of `n` consecutive words:
/// `finalize(w₀·Mⁿ⁻¹ + … + wₙ₋₁)` mod 2⁶⁴ with M = [`GOLDEN`].
pub(crate) struct Shingler {
    window: Vec<u64>,
    seen: usize,
    polynomial: u64,
    leaving_factor: u64,
}

impl Shingler {
    /// Runs of `words` words, at least 1.
    pub(crate) fn new(words: usize) -> Self {
        assert!(words > 0, "a shingle has at least one word");
        Self {
            window: vec![0; words],
            seen: 0,
            polynomial: 0,
            leaving_factor: (0..words).fold(1, |product: u64, _| product.wrapping_mul(GOLDEN)),
        }
    }

    /// Takes the next word; the hash of the run that ends with it, once there are enough words.
    pub(crate) fn push(&mut self, word: u64) -> Option<u64> {
        let slot = self.seen % self.window.len();
        // The window starts with zeros, so nothing leaves before it is full.
        let leaving = std::mem::replace(&mut self.window[slot], word);
        self.polynomial =
            self.polynomial.wrapping_mul(GOLDEN).wrapping_add(word).wrapping_sub(leaving.wrapping_mul(self.leaving_factor));
        self.seen += 1;
        (self.seen >= self.window.len()).then(|| finalize(self.polynomial))
    }

    /// The one shingle of a text that has words, but fewer than a run.
    pub(crate) fn short(&self) -> Option<u64> {
        (self.seen > 0 && self.seen < self.window.len()).then(|| finalize(self.polynomial))
    }

    /// Words taken so far.
    pub(crate) fn words(&self) -> usize {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(words: &[u64]) -> u64 {
        finalize(words.iter().fold(0u64, |p, &w| p.wrapping_mul(GOLDEN).wrapping_add(w)))
    }

    #[test]
    fn rolling_equals_direct() {
        let words: Vec<u64> = (0..100u64).map(|i| finalize(i * 7 + 3)).collect();
        for n in [1, 2, 5, 13, 64] {
            let mut shingler = Shingler::new(n);
            let rolled: Vec<u64> = words.iter().filter_map(|&w| shingler.push(w)).collect();
            let expected: Vec<u64> = words.windows(n).map(direct).collect();
            assert_eq!(rolled, expected, "{n} words");
        }
    }

    #[test]
    fn fewer_words_than_a_run_give_one_shingle() {
        let mut shingler = Shingler::new(5);
        assert_eq!(shingler.short(), None);
        for word in [11, 12, 13, 14] {
            assert_eq!(shingler.push(word), None);
        }
        assert_eq!(shingler.short(), Some(direct(&[11, 12, 13, 14])));
        assert_eq!(shingler.push(15), Some(direct(&[11, 12, 13, 14, 15])));
        assert_eq!(shingler.short(), None);
        assert_eq!(shingler.words(), 5);
    }

    #[test]
    fn golden_word_hashes() {
        assert_eq!(word_hash("the"), 0xcb12_8363_1cf3_3d7d);
        assert_eq!(word_hash("aspirin"), 0xf270_8098_21b1_348d);
    }
}
