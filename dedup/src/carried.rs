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

/// The words of a full text.
pub(crate) struct Carrier {
    words: HashSet<u64>,
    grams: HashSet<u64>,
}

impl Carrier {
    /// Takes 16 bytes a distinct gram and word.
    pub(crate) fn new(text: &str, form: NormalForm) -> Self {
        let mut carrier = Self { words: HashSet::new(), grams: HashSet::new() };
        let mut shingler = Shingler::new(GRAM_WORDS);
        for_each_word(&form.replace_placeholders(text), |word, _| {
            let hash = word_hash(word);
            carrier.words.insert(hash);
            carrier.grams.extend(shingler.push(hash));
        });
        carrier
    }

    /// Whether at least the share `least` of the distinct word 3-grams of each line of `text`, taken together, and every word
    /// with a digit occurs. A line of fewer than 3 words counts by its words. A text without words is held by nothing.
    pub(crate) fn carries(&self, text: &str, form: NormalForm, least: f64) -> bool {
        let (mut held, mut all) = (HashSet::new(), HashSet::new());
        let mut numbers_held = true;
        for line in form.replace_placeholders(text).lines() {
            let mut shingler = Shingler::new(GRAM_WORDS);
            let mut hashes = Vec::new();
            for_each_word(line, |word, _| {
                let hash = word_hash(word);
                numbers_held &= !word.chars().any(char::is_numeric) || self.words.contains(&hash);
                hashes.push(hash);
            });
            let (grams, known) = match hashes.len() {
                0..GRAM_WORDS => (hashes, &self.words),
                _ => (hashes.into_iter().filter_map(|hash| shingler.push(hash)).collect(), &self.grams),
            };
            held.extend(grams.iter().copied().filter(|gram| known.contains(gram)));
            all.extend(grams);
        }
        !all.is_empty() && numbers_held && held.len() as f64 >= least * all.len() as f64
    }
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
    fn a_share_of_the_grams_is_enough_where_it_is_allowed_but_all_numbers_count() {
        // 3 of 6 grams hold "young" or the seam behind it.
        check("gave 81 mg of aspirin to young mice", 0.6, true);
        check("gave 81 mg of aspirin to young mice", 0.7, false);
        check("gave 82 mg of aspirin to old mice", 0.1, false);
    }
}
