//! Normal forms of a text and its words, each word with the bytes of the original text that it came from.
//!
//! Words decide what is *proposed* as a duplicate and what is matched against a benchmark. What is removed as a
//! near-duplicate is decided in `comparison`, on tokens that keep punctuation.

use std::borrow::Cow;
use std::iter::once;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

/// How a text is made comparable before it is split into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormalForm {
    /// NFKC, then the lowercase mapping of each scalar (no locale, no final-sigma rule).
    Plain,
    /// De-identification placeholders become one fixed word first, then as `Plain`.
    Clinical,
}

/// The word that stands for every de-identification placeholder.
pub(crate) const PLACEHOLDER: &str = "deidentified";

/// Longest bracketed placeholder, in bytes. A longer one is text whose closing mark was lost and stays as it is.
const MAX_PLACEHOLDER_BYTES: usize = 256;

/// Fewest underscores that are a placeholder.
const MIN_UNDERSCORES: usize = 3;

impl NormalForm {
    /// The text with its placeholders replaced: `[** … **]` and runs of three or more underscores become
    /// ` deidentified `, a word of its own. A plain form changes nothing.
    pub(crate) fn replace_placeholders(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Plain => Cow::Borrowed(text),
            Self::Clinical => replace_placeholders(text),
        }
    }
}

/// Calls `visit` for each word of the normal form (NFKC, lowercase per scalar) in order: a maximal run of alphanumeric
/// scalars, with the range of original bytes it came from.
///
/// The text is normalized in *segments* that cannot interact, so the words are exactly those of the whole text's normal
/// form. A range covers whole segments: where one segment gives two words (`½` is 1⁄2), both have the range of it.
pub(crate) fn for_each_word(text: &str, mut visit: impl FnMut(&str, Range<usize>)) {
    let bytes = text.as_bytes();
    let mut word = WordBuilder::default();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte.is_ascii() && bytes.get(at + 1).is_none_or(u8::is_ascii) {
            if byte.is_ascii_alphanumeric() {
                word.push(byte.to_ascii_lowercase() as char, at..at + 1);
            } else {
                word.end(&mut visit);
            }
            at += 1;
        } else {
            let end = segment_end(text, at);
            for scalar in text[at..end].nfkc().flat_map(char::to_lowercase) {
                if scalar.is_alphanumeric() {
                    word.push(scalar, at..end);
                } else {
                    word.end(&mut visit);
                }
            }
            at = end;
        }
    }
    word.end(&mut visit);
}

/// The word being read and the original bytes it has so far.
#[derive(Default)]
struct WordBuilder {
    text: String,
    range: Range<usize>,
}

impl WordBuilder {
    fn push(&mut self, scalar: char, segment: Range<usize>) {
        if self.text.is_empty() {
            self.range.start = segment.start;
        }
        self.range.end = segment.end;
        self.text.push(scalar);
    }

    fn end(&mut self, visit: &mut impl FnMut(&str, Range<usize>)) {
        if !self.text.is_empty() {
            visit(&self.text, self.range.clone());
            self.text.clear();
        }
    }
}

/// End of the normalization segment that starts at byte `at`: the next scalar that nothing before it can change.
fn segment_end(text: &str, at: usize) -> usize {
    let mut scalars = text[at..].char_indices();
    scalars.next();
    scalars.find(|&(_, scalar)| starts_segment(scalar)).map_or(text.len(), |(offset, _)| at + offset)
}

/// Whether normalization never reorders or composes this scalar with what stands before it: the first scalar of its
/// compatibility decomposition is a starter that is the second of no composition.
fn starts_segment(scalar: char) -> bool {
    // Below U+0300 every decomposition begins with such a starter (tested for each scalar).
    if scalar < '\u{300}' {
        return true;
    }
    let first = once(scalar).nfkd().next().unwrap_or(scalar);
    canonical_combining_class(first) == 0 && is_nfkc_quick(once(first)) != IsNormalized::Maybe
}

fn replace_placeholders(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut replaced = String::new();
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        // Both marks are ASCII, so every cut is on a character boundary.
        let end = match bytes[at] {
            b'[' => bracket_end(bytes, at),
            b'_' => underscores_end(bytes, at),
            _ => None,
        };
        let Some(end) = end else {
            at += 1;
            continue;
        };
        replaced.push_str(&text[copied..at]);
        replaced.push(' ');
        replaced.push_str(PLACEHOLDER);
        replaced.push(' ');
        (copied, at) = (end, end);
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    replaced.push_str(&text[copied..]);
    Cow::Owned(replaced)
}

/// End of the `[** … **]` that starts at `at`, if it closes within the limit and before another one opens.
fn bracket_end(bytes: &[u8], at: usize) -> Option<usize> {
    let limit = bytes.len().min(at + MAX_PLACEHOLDER_BYTES);
    let body = bytes[at..limit].strip_prefix(b"[**")?;
    for (offset, mark) in body.windows(3).enumerate() {
        match mark {
            b"**]" => return Some(at + 3 + offset + 3),
            b"[**" => return None,
            _ => {}
        }
    }
    None
}

fn underscores_end(bytes: &[u8], at: usize) -> Option<usize> {
    // Runs are met at their first underscore, because a short run is stepped over whole only by not matching again.
    if at > 0 && bytes[at - 1] == b'_' {
        return None;
    }
    let count = bytes[at..].iter().take_while(|&&b| b == b'_').count();
    (count >= MIN_UNDERSCORES).then_some(at + count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};
    use proptest::strategy::Strategy;

    use super::*;

    fn words(text: &str) -> Vec<(String, Range<usize>)> {
        let mut words = Vec::new();
        for_each_word(text, |word, range| words.push((word.to_string(), range)));
        words
    }

    /// The specification, word for word, on the whole text at once.
    fn words_of_the_specification(text: &str) -> Vec<String> {
        let normal: String = text.nfkc().flat_map(char::to_lowercase).collect();
        let runs = normal.split(|c: char| !c.is_alphanumeric());
        runs.filter(|run| !run.is_empty()).map(str::to_string).collect()
    }

    fn check_words(text: &str, expected: &str) {
        let got: Vec<String> = words(text).into_iter().map(|(word, _)| word).collect();
        assert_eq!(got.join(" "), expected, "{text:?}");
        assert_eq!(got, words_of_the_specification(text), "{text:?}");
    }

    #[test]
    fn golden_words() {
        check_words("", "");
        check_words(" -- . ", "");
        check_words("The patient was given Aspirin 81 mg daily.", "the patient was given aspirin 81 mg daily");
        check_words("Two words", "two words");
        check_words("Cafe\u{301}", "café");
        check_words("\u{FB01}brosis", "fibrosis");
        check_words("10⁻³ mol/L", "10 3 mol l");
        check_words("5 µg x_y", "5 μg x y");
        check_words("ΣΑΣ", "σασ");
        check_words("½ cup", "1 2 cup");
        check_words("①Ⅳ", "1iv");
        check_words("\u{1100}\u{1161}\u{11A8}", "각");
        check_words("\u{FFA1}\u{FFC2}", "가");
        check_words("İ", "i");
    }

    fn check_ranges(text: &str, expected: &[&str]) {
        let got: Vec<&str> = words(text).into_iter().map(|(_, range)| &text[range]).collect();
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn ranges_are_the_original_bytes_of_the_words() {
        check_ranges("A-b, c", &["A", "b", "c"]);
        check_ranges("(Cafe\u{301})!", &["Cafe\u{301}"]);
        check_ranges("a \u{FB01}brosis b", &["a", "\u{FB01}brosis", "b"]);
        check_ranges("5µg", &["5µg"]);
        check_ranges("10⁻³", &["10", "³"]);
        // One segment with two words gives both the whole of it.
        check_ranges("½", &["½", "½"]);
        check_ranges("x½y", &["x½", "½y"]);
        // A mark that is no letter stays outside the word before it only if it composes into nothing.
        check_ranges("q\u{301}r", &["q\u{301}", "r"]);
    }

    #[test]
    fn below_u300_each_scalar_starts_a_segment() {
        for scalar in (0..0x300).filter_map(char::from_u32) {
            let first = once(scalar).nfkd().next().unwrap();
            assert_eq!(canonical_combining_class(first), 0, "{scalar:?}");
            assert_ne!(is_nfkc_quick(once(first)), IsNormalized::Maybe, "{scalar:?}");
        }
    }

    /// Scalars that decompose, compose, reorder or change case, among plain ones.
    fn difficult_text() -> impl Strategy<Value = String> {
        // Letters with and without case, marks of several classes, compatibility forms, Hangul and Indic compositions.
        let alphabet: Vec<char> = concat!(
            "aAeEzZ09 -_.\n<=\u{301}\u{300}\u{323}\u{338}\u{345}\u{327}\u{344}\u{340}",
            "éµſßİıΣςϴ½①ⅣﬁﬃＡ￡\u{1E9B}\u{FB2C}\u{2126}\u{212A}\u{2000}𝐀中",
            "가각\u{1100}\u{1161}\u{11A8}\u{FFA1}\u{FFC2}か\u{3099}ｶ\u{FF9E}",
            "\u{9C7}\u{9BE}\u{9D7}\u{F71}\u{F72}\u{F81}",
        )
        .chars()
        .collect();
        let index = proptest::collection::vec(0..alphabet.len(), 0..60);
        index.prop_map(move |list| list.into_iter().map(|i| alphabet[i]).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn segments_give_the_words_of_the_whole_text(text in difficult_text()) {
            check_words(&text, &words_of_the_specification(&text).join(" "));
        }

        #[test]
        fn any_text_gives_the_words_of_the_specification(text in any::<String>()) {
            check_words(&text, &words_of_the_specification(&text).join(" "));
        }

        #[test]
        fn the_ascii_path_is_identical(text in "[ -~\n\t]{0,200}") {
            check_words(&text, &words_of_the_specification(&text).join(" "));
            for (word, range) in words(&text) {
                assert_eq!(text[range].to_ascii_lowercase(), word);
            }
        }

        #[test]
        fn ranges_ascend_and_give_their_word_again(text in difficult_text()) {
            let mut last = 0..0;
            for (word, range) in words(&text) {
                assert!(range.start >= last.start && range.end >= last.end && range.end <= text.len());
                let again = words_of_the_specification(&text[range.clone()]);
                assert!(again.iter().any(|w| w.contains(&word) || word.contains(w)), "{text:?} {range:?}");
                last = range;
            }
        }
    }

    #[test]
    fn every_scalar_beside_a_letter_and_a_mark() {
        for scalar in (0..=0x0010_FFFF).filter_map(char::from_u32) {
            for text in [format!("e{scalar}\u{301}"), format!("\u{1100}{scalar}\u{9BE}")] {
                let got: Vec<String> = words(&text).into_iter().map(|(word, _)| word).collect();
                assert_eq!(got, words_of_the_specification(&text), "{text:?}");
            }
        }
    }

    fn check_clinical(text: &str, expected: &str) {
        assert_eq!(NormalForm::Clinical.replace_placeholders(text), expected);
        assert_eq!(NormalForm::Plain.replace_placeholders(text), text);
    }

    #[test]
    fn placeholders_become_one_word() {
        check_clinical("", "");
        check_clinical("no marks", "no marks");
        check_clinical("Dr. [**Last Name 12**].", "Dr.  deidentified .");
        check_clinical("Dr. ___.", "Dr.  deidentified .");
        check_clinical("A____B", "A deidentified B");
        check_clinical("a__b _ c", "a__b _ c");
        check_clinical("[**2151-7-16**][**x**]", " deidentified  deidentified ");
        check_clinical("[**Hospital1\n 18**]", " deidentified ");
        check_clinical("[**]", "[**]");
        check_clinical("[****]", " deidentified ");
        check_clinical("[**open [**x**]", "[**open  deidentified ");
        check_clinical("[**never closed", "[**never closed");
        check_clinical("é[**é**]é", "é deidentified é");
    }

    #[test]
    fn a_placeholder_has_a_longest_length() {
        let fits = format!("[**{}**]", "x".repeat(MAX_PLACEHOLDER_BYTES - 6));
        let long = format!("[**{}**]", "x".repeat(MAX_PLACEHOLDER_BYTES - 5));
        check_clinical(&fits, " deidentified ");
        check_clinical(&long, &long.clone());
    }
}
