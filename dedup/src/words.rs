//! The words of a text's normal form, each with the bytes of the original text that it came from.
//!
//! The text is read in blocks, and a block in three plain steps: normalize, mark the bytes of words, list where words
//! begin and end. It hashes nothing.
//!
//! Note to the next person: NFKC of a whole text is the same as NFKC of its *segments* one by one, if each begins with
//! a scalar that nothing before it can change. Nearly every scalar is a segment by itself. ASCII is copied 64 bytes at
//! a time, a lone scalar is looked up, and only what is left goes through the iterators of `unicode_normalization`.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;

use crate::lanes::{LANES, lanes_at, lowercase, non_ascii, word_bytes};
use crate::scalars::{Facts, WordForm};

/// Bytes of normal form in a block. A block is larger only if one word is: then it holds about twice the word.
const BLOCK_BYTES: usize = 8 * 1024;

/// Calls `visit` for each word of the normal form (NFKC, lowercase per scalar) in order: a maximal run of alphanumeric
/// scalars, with the range of original bytes it came from.
///
/// A range covers whole segments: where one segment gives two words (`½` is 1⁄2), both have the range of it.
pub(crate) fn for_each_word(text: &str, mut visit: impl FnMut(&str, Range<usize>)) {
    let mut blocks = WordBlocks::new(text);
    while blocks.advance() {
        let mut places = blocks.places();
        for &[start, end] in blocks.words() {
            let word = std::str::from_utf8(&blocks.normal[start..end]).expect("a word is made of whole scalars");
            visit(word, places.start_of(start)..places.end_of(end));
        }
    }
}

/// Reads the words of a text block by block.
pub(crate) struct WordBlocks<'t> {
    text: &'t str,
    /// First byte of the text that is not in `normal` yet.
    at: usize,
    /// Normal form in which each scalar that is not alphanumeric is one ASCII byte; so a byte belongs to a word if it is
    /// a lowercase letter, a digit, or not ASCII.
    normal: Vec<u8>,
    /// The segments that `normal` does not have in the same number of bytes, ascending, and all of several scalars.
    seams: Vec<Seam>,
    /// Start, end, start, end … of the block's words in `normal`.
    edges: Vec<usize>,
    /// Bytes of `normal` whose words have been read.
    read: usize,
}

/// A segment in the normal form and in the text.
struct Seam {
    normal: Range<usize>,
    text: Range<usize>,
}

impl<'t> WordBlocks<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let capacity = text.len().min(BLOCK_BYTES) + LANES;
        let normal = Vec::with_capacity(capacity);
        Self { text, at: 0, normal, seams: Vec::new(), edges: Vec::new(), read: 0 }
    }

    /// Goes on to the next block; false at the end of the text. A block may be without words.
    pub(crate) fn advance(&mut self) -> bool {
        self.forget_read();
        if self.at == self.text.len() && self.normal.is_empty() {
            return false;
        }
        // A word that goes on for long is doubled each time, so that it is not looked through too often.
        let enough = BLOCK_BYTES.max(2 * self.normal.len());
        while self.normal.len() < enough && self.at < self.text.len() {
            self.normalize();
        }
        self.find_edges();
        true
    }

    /// Start and end of the block's words in [`Self::bytes`], ascending.
    pub(crate) fn words(&self) -> &[[usize; 2]] {
        let (words, _) = self.edges.as_chunks();
        words
    }

    /// The block's normal form, of which the words are UTF-8 and the rest is any ASCII.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.normal
    }

    /// Moves the word that goes on behind the last block to the front.
    fn forget_read(&mut self) {
        let read = std::mem::take(&mut self.read);
        self.normal.drain(..read);
        self.seams.retain_mut(|seam| {
            let goes_on = seam.normal.end > read;
            seam.normal = seam.normal.start.saturating_sub(read)..seam.normal.end.saturating_sub(read);
            goes_on
        });
    }

    /// Normalizes up to 64 bytes of ASCII and the segment behind them if it is not ASCII. Ends where a segment begins.
    fn normalize(&mut self) {
        if self.text.as_bytes()[self.at].is_ascii() {
            self.normalize_ascii();
        }
        if let Some(scalar) = self.text[self.at..].chars().next()
            && !scalar.is_ascii()
        {
            self.normalize_scalar(scalar);
        }
    }

    fn normalize_ascii(&mut self) {
        let (lanes, length) = lanes_at(self.text.as_bytes(), self.at);
        let ascii = length.min(non_ascii(&lanes).trailing_zeros() as usize);
        self.normal.extend_from_slice(&lowercase(&lanes));
        self.normal.truncate(self.normal.len() - (LANES - ascii));
        self.at += ascii;
    }

    fn normalize_scalar(&mut self, scalar: char) {
        let facts = Facts::of(scalar);
        let next = self.at + scalar.len_utf8();
        if !facts.starts_nfkc() {
            // What stands before a scalar that starts no segment is ASCII: anything else took this scalar with it.
            let before = usize::from(self.at > 0);
            self.normal.truncate(self.normal.len() - before);
            self.at -= before;
            self.normalize_segment(segment_end(self.text, next));
        } else if facts.word_form() == WordForm::Several || !starts_segment(self.text, next) {
            self.normalize_segment(segment_end(self.text, next));
        } else {
            let start = self.normal.len();
            push(&mut self.normal, facts.word_form());
            // A scalar of the same length needs no seam: a word begins and ends with whole scalars.
            if self.normal.len() - start != scalar.len_utf8() {
                self.seams.push(Seam { normal: start..self.normal.len(), text: self.at..next });
            }
            self.at = next;
        }
    }

    /// Normalizes the segment up to `end` by the rule itself.
    fn normalize_segment(&mut self, end: usize) {
        let start = self.normal.len();
        for scalar in self.text[self.at..end].nfkc().flat_map(char::to_lowercase) {
            push(&mut self.normal, if scalar.is_alphanumeric() { WordForm::One(scalar) } else { WordForm::Separator });
        }
        self.seams.push(Seam { normal: start..self.normal.len(), text: self.at..end });
        self.at = end;
    }

    /// Lists where words begin and end. The last word stays unread if the text goes on, since it may go on too.
    fn find_edges(&mut self) {
        self.edges.clear();
        let mut inside = 0;
        for base in (0..self.normal.len()).step_by(LANES) {
            let (lanes, _) = lanes_at(&self.normal, base);
            let word = word_bytes(&lanes);
            let mut changes = word ^ (word << 1 | inside);
            inside = word >> (LANES - 1);
            while changes != 0 {
                self.edges.push(base + changes.trailing_zeros() as usize);
                changes &= changes - 1;
            }
        }
        self.read = self.normal.len();
        if self.edges.len() % 2 == 1 {
            self.edges.push(self.normal.len());
        }
        let reaches_end = self.edges.last() == Some(&self.normal.len());
        if reaches_end && self.at < self.text.len() {
            self.edges.pop();
            self.read = self.edges.pop().unwrap_or(0);
        }
    }

    fn places(&self) -> Places<'_> {
        Places { seams: &self.seams, end: (self.normal.len(), self.at) }
    }
}

/// Finds bytes of the text for ascending bytes of the normal form.
struct Places<'b> {
    /// Those that are not behind.
    seams: &'b [Seam],
    /// End of the block's normal form, and the byte of the text there.
    end: (usize, usize),
}

impl Places<'_> {
    /// First byte of the text of the byte `at` of the normal form.
    fn start_of(&mut self, at: usize) -> usize {
        self.place(at).start
    }

    /// End in the text of the bytes before byte `end` of the normal form.
    fn end_of(&mut self, end: usize) -> usize {
        self.place(end - 1).end
    }

    fn place(&mut self, at: usize) -> Range<usize> {
        while let [first, rest @ ..] = self.seams
            && first.normal.end <= at
        {
            self.seams = rest;
        }
        let (normal, text) = match self.seams {
            [seam, ..] if seam.normal.start <= at => return seam.text.clone(),
            [seam, ..] => (seam.normal.start, seam.text.start),
            [] => self.end,
        };
        // Up to the next seam, or the end, each byte stands for one byte of the text.
        let place = text - (normal - at);
        place..place + 1
    }
}

fn push(normal: &mut Vec<u8>, form: WordForm) {
    match form {
        WordForm::One(scalar) => normal.extend_from_slice(scalar.encode_utf8(&mut [0; 4]).as_bytes()),
        _ => normal.push(b' '),
    }
}

/// Whether the text ends at byte `at` or a segment begins there.
fn starts_segment(text: &str, at: usize) -> bool {
    match text.as_bytes().get(at) {
        Some(byte) if !byte.is_ascii() => text[at..].chars().next().is_none_or(|scalar| Facts::of(scalar).starts_nfkc()),
        _ => true,
    }
}

/// The first place from byte `from` on where a segment begins, or the end of the text.
fn segment_end(text: &str, from: usize) -> usize {
    let mut scalars = text[from..].char_indices();
    scalars.find(|&(_, scalar)| Facts::of(scalar).starts_nfkc()).map_or(text.len(), |(offset, _)| from + offset)
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
    fn blocks_do_not_show() {
        // What may stand on both sides of a block's end, after words and after a word that fills the block.
        let ends =
            ["", "e\u{301}f g", "=\u{338}x", " \u{301}a", "½½ x", "\u{FB01}b", "\u{1100}\u{1161}\u{11A8} z", "中中–é a", "A-b"];
        for length in BLOCK_BYTES - LANES - 2..BLOCK_BYTES + LANES + 2 {
            for end in ends {
                for start in ["ab cdefg ", "q"] {
                    let mut text: String = start.chars().cycle().take(length).collect();
                    text.push_str(end);
                    let expected = words_of_the_specification(&text);
                    let got = words(&text);
                    assert!(got.iter().map(|(word, _)| word).eq(&expected), "{length} {start:?} {end:?}");
                    // The last range is the one that the end has by itself, unless a word goes on into it.
                    if let Some((_, range)) = words(end).pop().filter(|(_, range)| range.start > 2) {
                        assert_eq!(got.last().unwrap().1, range.start + length..range.end + length, "{length} {end:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_word_may_be_longer_than_a_block() {
        for long in ["x".repeat(100_000), "中".repeat(50_000), format!("{}e\u{301}{}", "Ab".repeat(20_000), "é".repeat(20_000))]
        {
            check_ranges(&format!("- {long}\u{2009}{long}, z"), &[&long, &long, "z"]);
        }
        let marks = "\u{301}".repeat(20_000);
        check_ranges(&format!("a{marks}b c"), &[&format!("a{marks}"), "b", "c"]);
    }

    #[test]
    fn ranges_hold_in_every_block() {
        let part = "The (dose) was 5 µg–½ ml of naïve T-cells; x̄ = 10⁻³ \u{FB01}n 中. ";
        let expected = words(part);
        let got = words(&part.repeat(1000));
        assert_eq!(got.len(), expected.len() * 1000);
        for (index, (word, range)) in got.into_iter().enumerate() {
            let (expected_word, expected_range) = &expected[index % expected.len()];
            let before = index / expected.len() * part.len();
            assert_eq!((&word, range), (expected_word, expected_range.start + before..expected_range.end + before));
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
}
