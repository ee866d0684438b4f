//! Whether a full text holds an abstract, by the words of both.
//!
//! Publishers set an abstract in more than one way: headings of its sections stand in lines of their own or before a colon,
//! dashes and quotation marks differ. So, other than between near-duplicates, words are compared and not tokens. The link
//! between the two records says that they are one work; this says that the work's text loses nothing.

use std::collections::HashSet;

use crate::normal::NormalForm;
use crate::shingle::{Shingler, word_hash};
use crate::words::for_each_word;

/// Words of a gram.
const GRAM_WORDS: usize = 3;

/// Marks that change what the number behind them says, each with the mark that it counts as.
const MARKS: [(char, char); 9] = [
    ('<', '<'),
    ('>', '>'),
    ('\u{2264}', '\u{2264}'),
    ('\u{2265}', '\u{2265}'),
    ('=', '='),
    ('\u{b1}', '\u{b1}'),
    ('+', '+'),
    ('-', '-'),
    ('\u{2212}', '-'),
];

/// The words of a full text.
pub(crate) struct Carrier {
    words: HashSet<u64>,
    pairs: HashSet<u64>,
    grams: HashSet<u64>,
}

impl Carrier {
    /// Takes about 30 bytes a distinct word, pair and gram.
    pub(crate) fn new(text: &str, form: NormalForm) -> Self {
        let mut carrier = Self { words: HashSet::new(), pairs: HashSet::new(), grams: HashSet::new() };
        let (mut pairs, mut grams) = (Shingler::new(2), Shingler::new(GRAM_WORDS));
        for_each_marked_word(&form.replace_placeholders(text), |hash, _| {
            carrier.words.insert(hash);
            carrier.pairs.extend(pairs.push(hash));
            carrier.grams.extend(grams.push(hash));
        });
        carrier
    }

    /// Whether at least the share `least` of the distinct word 3-grams of each line of `text`, taken together, and every word
    /// with a digit occurs. A line of two words counts as a pair, one of one word as itself. A text without words is held by
    /// nothing.
    pub(crate) fn carries(&self, text: &str, form: NormalForm, least: f64) -> bool {
        let (mut held, mut all) = (HashSet::new(), HashSet::new());
        let mut numbers_held = true;
        for line in form.replace_placeholders(text).lines() {
            let mut hashes = Vec::new();
            for_each_marked_word(line, |hash, is_number| {
                numbers_held &= !is_number || self.words.contains(&hash);
                hashes.push(hash);
            });
            let known = [&self.words, &self.words, &self.pairs].get(hashes.len()).copied().unwrap_or(&self.grams);
            let mut shingler = Shingler::new(hashes.len().clamp(1, GRAM_WORDS));
            let grams: Vec<u64> = match hashes.len() {
                1 => hashes,
                _ => hashes.into_iter().filter_map(|hash| shingler.push(hash)).collect(),
            };
            held.extend(grams.iter().copied().filter(|gram| known.contains(gram)));
            all.extend(grams);
        }
        !all.is_empty() && numbers_held && held.len() as f64 >= least * all.len() as f64
    }
}

/// Calls `visit` with the hash of each word, that of a number with the comparison or sign before it, and whether it holds a
/// digit. `p < 0.05`, `p<0.05` and `p > 0.05` are two different texts.
fn for_each_marked_word(text: &str, mut visit: impl FnMut(u64, bool)) {
    for_each_word(text, |word, range| {
        let is_number = word.chars().any(char::is_numeric);
        let mark = if word.starts_with(char::is_numeric) { mark_before(&text[..range.start]) } else { None };
        let hash = word_hash(word);
        visit(mark.map_or(hash, |mark| hash.rotate_left(17) ^ u64::from(u32::from(mark))), is_number);
    });
}

/// The mark that ends `before`, spaces aside. A hyphen between words or numbers is none: it must stand at a beginning.
fn mark_before(before: &str) -> Option<char> {
    let before = before.trim_end_matches([' ', '\u{a0}', '\u{2009}']);
    let last = before.chars().next_back()?;
    let mark = MARKS.iter().find(|(mark, _)| *mark == last)?.1;
    let is_sign = mark == '-' || mark == '+';
    let stands_free = || {
        let rest = &before[..before.len() - last.len_utf8()];
        rest.chars().next_back().is_none_or(|c| c.is_whitespace() || "([{,;:=<>\u{2264}\u{2265}".contains(c))
    };
    (!is_sign || stands_free()).then_some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTICLE: &str = "Aspirin in mice\n\nBackground\n\nWe gave 81 mg of aspirin to \u{201c}old\u{201d} mice.\n\nResults\n\n\
                           Of 20 mice, 19 lived (p < 0.05).\n\nIntroduction\n\nMice are small. They were old.";

    fn check(text: &str, least: f64, expected: bool) {
        let held = Carrier::new(ARTICLE, NormalForm::Plain).carries(text, NormalForm::Plain, least);
        assert_eq!(held, expected, "{text:?}");
    }

    #[test]
    fn another_setting_of_the_same_words_is_held() {
        check("BACKGROUND: We gave 81 mg of aspirin to \"old\" mice.\nRESULTS: Of 20 mice, 19 lived (P<0.05).", 1.0, true);
        check("We gave 81 mg of aspirin", 1.0, true);
        check("Background\nOf 20 mice", 1.0, true);
    }

    #[test]
    fn a_changed_word_or_number_is_not() {
        check("We gave 82 mg of aspirin to old mice.", 1.0, false);
        check("We gave 81 mg of aspirin to young mice.", 1.0, false);
        check("Conclusion\nOf 20 mice", 1.0, false);
        check("", 1.0, false);
        check("\u{2013}", 0.0, false);
    }

    #[test]
    fn signs_and_comparisons_are_part_of_a_number() {
        check("19 lived (P<0.05)", 1.0, true);
        check("19 lived (p \u{2009}< 0.05)", 1.0, true);
        check("19 lived (p > 0.05)", 1.0, false);
        check("19 lived (p = 0.05)", 1.0, false);
        let held = |text: &str, other: &str| Carrier::new(text, NormalForm::Plain).carries(other, NormalForm::Plain, 1.0);
        assert!(!held("a base excess of 5 mmol", "a base excess of -5 mmol"));
        assert!(!held("a base excess of -5 mmol", "a base excess of 5 mmol"));
        assert!(held("a base excess of \u{2212}5 mmol", "a base excess of -5 mmol"));
        assert!(!held("at most \u{2265} 10 mmol", "at most \u{2264} 10 mmol"));
        assert!(!held("it was 5-3 of them", "it was 5 \u{b1} 3 of them"));
        assert!(held("in mice 5-10 weeks old", "in mice 5\u{2013}10 weeks old"));
    }

    #[test]
    fn a_short_line_stands_as_one() {
        let held = |text: &str, other: &str| Carrier::new(text, NormalForm::Plain).carries(other, NormalForm::Plain, 1.0);
        assert!(!held("Cancer of the skin. It is safe and not harmful; no death.", "No cancer"));
        assert!(held("We saw no cancer there", "No cancer"));
        assert!(held("We saw no cancer there", "Cancer"));
    }

    #[test]
    fn a_share_of_the_grams_is_enough_where_it_is_allowed_but_all_numbers_count() {
        // 3 of 6 grams hold "young" or the seam behind it.
        check("gave 81 mg of aspirin to young mice", 0.6, true);
        check("gave 81 mg of aspirin to young mice", 0.7, false);
        check("gave 82 mg of aspirin to old mice", 0.1, false);
    }
}
