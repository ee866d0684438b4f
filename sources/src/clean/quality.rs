//! Measures of a text that the rules compare with their thresholds.
//!
//! A word is a run without white space; each character of a script written without spaces is a word of its own. `___`, the
//! mark of a removed name, counts as a word with letters and its underscores not as symbols.

use std::collections::HashSet;

use crate::language::is_unspaced;

/// Words in the sequences whose repetition is measured.
const NGRAM_WORDS: usize = 10;

/// An odd constant without structure (2^64 divided by the golden ratio).
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Counts over one text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Measures {
    /// Characters, white space included.
    pub(super) characters: u64,
    /// Words.
    pub(super) words: u64,
    alphabetic_words: u64,
    /// Numbers, with their signs and units of signs, and single signs: cells of a table and what stands between them.
    neutral_words: u64,
    visible: u64,
    symbols: u64,
    digits: u64,
}

impl Measures {
    pub(super) fn of(text: &str) -> Self {
        let mut measures = Self { characters: text.chars().count() as u64, ..Self::default() };
        for word in text.split_whitespace() {
            measures.add_word(word);
        }
        measures
    }

    fn add_word(&mut self, word: &str) {
        self.digits += word.bytes().filter(u8::is_ascii_digit).count() as u64;
        if word.is_ascii() {
            let letters = word.bytes().filter(u8::is_ascii_alphanumeric).count();
            let marks = word.bytes().filter(|b| *b == b'_').count();
            self.words += 1;
            self.visible += word.len() as u64;
            self.symbols += (word.len() - letters - marks) as u64;
            let alphabetic = word.bytes().any(|b| b.is_ascii_alphabetic()) || word.contains("___");
            self.alphabetic_words += u64::from(alphabetic);
            self.neutral_words += u64::from(!alphabetic && (word.len() == 1 || word.bytes().any(|b| b.is_ascii_digit())));
            return;
        }
        let mut spaced = 0_u64;
        let mut unspaced = 0_u64;
        let mut letters = false;
        for c in word.chars() {
            if is_unspaced(c) {
                unspaced += 1;
                continue;
            }
            spaced += 1;
            letters |= c.is_alphabetic();
            self.symbols += u64::from(!c.is_alphanumeric() && c != '_');
        }
        letters |= word.contains("___");
        self.visible += spaced + unspaced;
        self.words += unspaced + u64::from(spaced > 0);
        self.alphabetic_words += unspaced + u64::from(letters);
        let number = spaced == 1 || word.chars().any(char::is_numeric);
        self.neutral_words += u64::from(spaced > 0 && !letters && number);
    }

    /// Visible characters per word; 0 without words.
    pub(super) fn word_length_mean(&self) -> f64 {
        share(self.visible, self.words)
    }

    /// Words with a letter among all that are neither numbers nor single signs; 1 without such words. So a table of laboratory
    /// values or vital signs is no noise: whether there are too many digits is another measure.
    pub(super) fn alphabetic_share(&self) -> f64 {
        let measured = self.words - self.neutral_words;
        if measured == 0 { 1.0 } else { share(self.alphabetic_words, measured) }
    }

    /// Symbols among visible characters; 0 without any.
    pub(super) fn symbol_share(&self) -> f64 {
        share(self.symbols, self.visible)
    }

    /// Digits 0 to 9 among visible characters; 0 without any.
    pub(super) fn digit_share(&self) -> f64 {
        share(self.digits, self.visible)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Share of the bytes of all lines, white space at their ends aside, in lines that stood before.
pub(super) fn repeated_line_share(text: &str) -> f64 {
    let mut seen: HashSet<&str> = HashSet::new();
    let (mut repeated, mut all) = (0, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        all += line.len() as u64;
        if !seen.insert(line) {
            repeated += line.len() as u64;
        }
    }
    share(repeated, all)
}

/// Share of words inside a sequence of ten words that stood before. Sequences are compared by a 64-bit hash that rolls on from
/// word to word.
pub(super) fn repeated_ngram_share(text: &str) -> f64 {
    let words: Vec<u64> = text.split_whitespace().map(word_hash).collect();
    if words.len() < 2 * NGRAM_WORDS {
        return 0.0;
    }
    let oldest = (1..NGRAM_WORDS).fold(1_u64, |power, _| power.wrapping_mul(BASE));
    let mut hash = words[..NGRAM_WORDS - 1].iter().fold(0_u64, |hash, word| hash.wrapping_mul(BASE).wrapping_add(*word));
    let mut seen: HashSet<u64> = HashSet::with_capacity(words.len());
    let (mut covered_to, mut covered) = (0, 0);
    for start in 0..=words.len() - NGRAM_WORDS {
        let end = start + NGRAM_WORDS;
        hash = hash.wrapping_mul(BASE).wrapping_add(words[end - 1]);
        if !seen.insert(hash) {
            covered += end - start.max(covered_to);
            covered_to = end;
        }
        hash = hash.wrapping_sub(words[start].wrapping_mul(oldest));
    }
    share(covered as u64, words.len() as u64)
}

/// FNV-1a with a final mix, so that short words differ in all bits.
fn word_hash(word: &str) -> u64 {
    let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 32)).wrapping_mul(BASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
    }

    #[test]
    fn words_and_characters_are_counted() {
        let measures = Measures::of("BP 120/80, pt ___ 你好\n");
        assert_eq!((measures.words, measures.characters), (6, 21));
        near(measures.alphabetic_share(), 1.0);
        near(Measures::of("Na | 138 | 135–145 ½ ** -- x").alphabetic_share(), 2.0 / 4.0);
        near(measures.word_length_mean(), 16.0 / 6.0);
        near(measures.symbol_share(), 2.0 / 16.0);
        near(measures.digit_share(), 5.0 / 16.0);
    }

    #[test]
    fn empty_texts_divide_nothing_by_nothing() {
        let measures = Measures::of(" \n");
        near(measures.word_length_mean() + measures.symbol_share(), 0.0);
        near(measures.alphabetic_share(), 1.0);
        near(repeated_line_share("") + repeated_ngram_share(""), 0.0);
    }

    #[test]
    fn repeated_lines_are_measured_by_their_bytes() {
        near(repeated_line_share("ab\ncdef\n\nab \n\n"), 2.0 / 8.0);
        near(repeated_line_share("a\nb\nc"), 0.0);
    }

    #[test]
    fn repeated_sequences_are_measured_by_their_words() {
        let once: Vec<String> = (0..20).map(|i| format!("w{i}")).collect();
        near(repeated_ngram_share(&once.join(" ")), 0.0);
        let twice = format!("{} {}", once.join(" "), once.join(" "));
        near(repeated_ngram_share(&twice), 0.5);
        near(repeated_ngram_share(&"w ".repeat(100)), 99.0 / 100.0);
    }
}
