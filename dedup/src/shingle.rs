//! Hashes of words and of runs of consecutive words, by a rolling polynomial.
//!
//! It splits no text: words come from `normal`.

use xxhash_rust::xxh3::xxh3_64;

use crate::permutation::{GOLDEN, finalize};

/// Word hash: XXH3-64 of the word's UTF-8 bytes, seed 0.
pub(crate) fn word_hash(word: impl AsRef<[u8]>) -> u64 {
    xxh3_64(word.as_ref())
}

/// Turns word hashes into the hashes of all runs of `n` consecutive words:
/// `finalize(w₀·Mⁿ⁻¹ + … + wₙ₋₁)` mod 2⁶⁴ with M = [`GOLDEN`].
pub(crate) struct Shingler {
    /// The last words, zeros before the first; the next word takes the place of the one at `oldest`.
    window: Vec<u64>,
    oldest: usize,
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
            oldest: 0,
            seen: 0,
            polynomial: 0,
            leaving_factor: (0..words).fold(1, |product: u64, _| product.wrapping_mul(GOLDEN)),
        }
    }

    /// Takes the next word; the hash of the run that ends with it, once there are enough words.
    pub(crate) fn push(&mut self, word: u64) -> Option<u64> {
        // The window starts with zeros, so nothing leaves before it is full.
        let leaving = std::mem::replace(&mut self.window[self.oldest], word);
        self.oldest = if self.oldest + 1 == self.window.len() { 0 } else { self.oldest + 1 };
        self.roll(word, leaving);
        self.seen += 1;
        (self.seen >= self.window.len()).then(|| finalize(self.polynomial))
    }

    /// Takes the next words and appends the hashes of the runs that end with one of them: as [`Self::push`] for each.
    pub(crate) fn extend(&mut self, words: &[u64], shingles: &mut Vec<u64>) {
        self.window.rotate_left(self.oldest);
        self.oldest = 0;
        let length = self.window.len();
        let incomplete = (length - 1).saturating_sub(self.seen).min(words.len());
        let from = shingles.len();
        for (index, &word) in words.iter().take(length).enumerate() {
            self.roll(word, self.window[index]);
            if index >= incomplete {
                shingles.push(self.polynomial);
            }
        }
        for run in words.windows(length + 1) {
            self.roll(run[length], run[0]);
            shingles.push(self.polynomial);
        }
        // One polynomial waits for the one before it; the finaliser waits for nothing, so it has a loop of its own.
        shingles[from..].iter_mut().for_each(|shingle| *shingle = finalize(*shingle));
        self.remember(words);
        self.seen += words.len();
    }

    fn roll(&mut self, word: u64, leaving: u64) {
        let change = word.wrapping_sub(leaving.wrapping_mul(self.leaving_factor));
        self.polynomial = self.polynomial.wrapping_mul(GOLDEN).wrapping_add(change);
    }

    /// Makes the window, whose oldest word is the first, that of the text so far.
    fn remember(&mut self, words: &[u64]) {
        let length = self.window.len();
        let last = &words[words.len() - words.len().min(length)..];
        self.window.drain(..last.len());
        self.window.extend_from_slice(last);
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
    fn slices_of_any_length_give_what_single_words_give() {
        let words: Vec<u64> = (0..200u64).map(|i| finalize(i * 5 + 1)).collect();
        for (n, lengths) in
            [(5, vec![200]), (5, vec![1; 200]), (5, vec![0, 2, 1, 3, 7, 4, 100]), (64, vec![30, 50, 63]), (1, vec![3, 4])]
        {
            let (mut single, mut sliced) = (Shingler::new(n), Shingler::new(n));
            let (mut rest, mut got, mut expected) = (&words[..], Vec::new(), Vec::new());
            for (turn, length) in lengths.into_iter().enumerate() {
                let (now, later) = rest.split_at(length);
                rest = later;
                // Every third slice goes in word by word, so that the two ways follow each other.
                match turn % 3 {
                    2 => got.extend(now.iter().filter_map(|&word| sliced.push(word))),
                    _ => sliced.extend(now, &mut got),
                }
                expected.extend(now.iter().filter_map(|&word| single.push(word)));
                assert_eq!((sliced.short(), sliced.words()), (single.short(), single.words()));
            }
            assert_eq!(got, expected, "{n} words");
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
