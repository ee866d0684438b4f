//! The exact hash of a text: BLAKE3 of its NFC with whitespace collapsed.
//!
//! It reads the text once and keeps a bounded piece of it; only what NFC can change goes through the iterators of
//! `unicode_normalization`.

use unicode_normalization::UnicodeNormalization;

use crate::lanes::{LANES, Lanes, lanes_at, lead_bytes, spaced, whitespace};
use crate::scalars::Facts;

/// Bytes that BLAKE3 gets at once: it hashes its chunks of 1 KiB side by side, as many as a power of two is long.
const PIECE_BYTES: usize = 32 * 1024;

/// First 16 bytes of BLAKE3 over the NFC text with each run of whitespace made one space and the ends trimmed; case is
/// kept.
///
/// Equal hashes are taken for equal texts: that two of 10⁹ texts clash by accident has a probability of 10⁻²¹.
pub fn exact_hash(text: &str) -> [u8; 16] {
    let mut collapsed = Collapsed::new(text.len());
    let mut at = 0;
    while at < text.len() {
        at = collapsed.take(text, at);
    }
    collapsed.finish()
}

/// Hashes a text piece by piece while it collapses whitespace.
struct Collapsed {
    hasher: blake3::Hasher,
    /// Text that is not hashed yet.
    buffer: Vec<u8>,
    /// Whether the text so far, the beginning too, ends with whitespace: then none is to be added.
    after_space: bool,
}

impl Collapsed {
    fn new(text_bytes: usize) -> Self {
        let capacity = text_bytes.min(PIECE_BYTES) + 2 * LANES;
        Self { hasher: blake3::Hasher::new(), buffer: Vec::with_capacity(capacity), after_space: true }
    }

    /// Takes up to 64 bytes from byte `at` of `text` on and the scalar behind them that needs care, if there is one.
    /// Returns where to go on.
    fn take(&mut self, text: &str, at: usize) -> usize {
        let (lanes, length) = lanes_at(text.as_bytes(), at);
        let special = special_scalar(text, at, lead_bytes(&lanes));
        let plain = special.map_or(length, |(start, _)| start - at);
        self.take_plain(&lanes, plain);
        let end = special.map_or(at + plain, |(start, scalar)| self.take_special(text, start, scalar));
        // Enough is kept back for a scalar, or the last space, to be taken out again.
        if self.buffer.len() >= PIECE_BYTES + LANES {
            self.hasher.update(&self.buffer[..PIECE_BYTES]);
            self.buffer.drain(..PIECE_BYTES);
        }
        end
    }

    /// Takes the first `length` bytes, which stay as they are but for ASCII whitespace.
    fn take_plain(&mut self, lanes: &Lanes, length: usize) {
        if length == 0 {
            return;
        }
        let spaces = whitespace(lanes) & (u64::MAX >> (LANES - length));
        let mut repeated = spaces & (spaces << 1 | u64::from(self.after_space));
        self.after_space = spaces >> (length - 1) & 1 == 1;
        let spaced = spaced(lanes);
        let mut from = 0;
        while repeated != 0 {
            let to = repeated.trailing_zeros() as usize;
            self.buffer.extend_from_slice(&spaced[from..to]);
            from = to + 1;
            repeated &= repeated - 1;
        }
        self.buffer.extend_from_slice(&spaced[from..length]);
    }

    /// Takes the scalar at byte `start`, which is whitespace or may change in NFC, with what it may change with.
    /// Returns where to go on.
    fn take_special(&mut self, text: &str, start: usize, scalar: char) -> usize {
        let next = start + scalar.len_utf8();
        let mut scalars = text[next..].char_indices();
        let end = scalars.find(|&(_, scalar)| Facts::of(scalar).starts_nfc()).map_or(text.len(), |(offset, _)| next + offset);
        let begin = if Facts::of(scalar).starts_nfc() { start } else { self.take_back(text, start) };
        text[begin..end].nfc().for_each(|scalar| self.push(scalar));
        end
    }

    /// Takes the scalar before byte `start` out again. Whitespace stays, because no composition begins with it.
    fn take_back(&mut self, text: &str, start: usize) -> usize {
        match text[..start].chars().next_back() {
            Some(before) if !before.is_whitespace() => {
                self.buffer.truncate(self.buffer.len() - before.len_utf8());
                start - before.len_utf8()
            }
            _ => start,
        }
    }

    fn push(&mut self, scalar: char) {
        if !scalar.is_whitespace() {
            self.buffer.extend_from_slice(scalar.encode_utf8(&mut [0; 4]).as_bytes());
        } else if !self.after_space {
            self.buffer.push(b' ');
        }
        self.after_space = scalar.is_whitespace();
    }

    fn finish(mut self) -> [u8; 16] {
        if self.buffer.last() == Some(&b' ') {
            self.buffer.pop();
        }
        self.hasher.update(&self.buffer);
        let digest = self.hasher.finalize();
        let mut exact = [0; 16];
        exact.copy_from_slice(&digest.as_bytes()[..16]);
        exact
    }
}

/// The first scalar that is whitespace or may change in NFC, and where it begins, of those that begin at byte `at` + i for
/// a bit i of `leads`.
fn special_scalar(text: &str, at: usize, mut leads: u64) -> Option<(usize, char)> {
    while leads != 0 {
        let start = at + leads.trailing_zeros() as usize;
        leads &= leads - 1;
        if let Some(scalar) = text[start..].chars().next()
            && !Facts::of(scalar).is_plain()
        {
            return Some((start, scalar));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};
    use proptest::strategy::Strategy;

    use super::*;

    /// The specification on the whole text at once.
    fn hash_of_the_specification(text: &str) -> [u8; 16] {
        let normal: String = text.nfc().collect();
        let words: Vec<&str> = normal.split_whitespace().collect();
        blake3::hash(words.join(" ").as_bytes()).as_bytes()[..16].try_into().unwrap()
    }

    fn check_specification(text: &str) {
        assert_eq!(exact_hash(text), hash_of_the_specification(text), "{text:?}");
    }

    fn check(a: &str, b: &str, equal: bool) {
        assert_eq!(exact_hash(a) == exact_hash(b), equal, "{a:?} {b:?}");
        check_specification(a);
        check_specification(b);
    }

    #[test]
    fn all_but_whitespace_and_composition_is_kept() {
        check("a b", " a\n\t b\u{2003}", true);
        check("a b", "ab", false);
        check("a b", "A b", false);
        check("caf\u{e9}", "cafe\u{301}", true);
        check("10³", "103", false);
        check("ﬁ", "fi", false);
        check("", " \n", true);
        check("a.", "a", false);
        check("a\u{A0}b\u{2028}\u{85}c", "a b c", true);
        check("a \u{301}b", "a\u{A0}\u{301}b", true);
    }

    #[test]
    fn golden_hashes() {
        // The hash is the one of the collapsed text, so that other programs can compute it.
        assert_eq!(exact_hash("  a  b "), blake3::hash(b"a b").as_bytes()[..16]);
        let long = "word ".repeat(50_000);
        assert_eq!(exact_hash(&long), blake3::hash(long.trim().as_bytes()).as_bytes()[..16]);
    }

    #[test]
    fn pieces_do_not_show() {
        // What is taken out again, and spaces that are left out, around every place where a piece may end.
        for length in PIECE_BYTES - 2..PIECE_BYTES + 3 * LANES {
            for end in ["", " ", "  x", "e\u{301}", "\u{301}\u{301}", " \u{301}", "–\u{A0}\u{338}", "\u{2000} é"] {
                let text = format!("{}{end}", "a".repeat(length));
                assert_eq!(exact_hash(&text), hash_of_the_specification(&text), "{length} {end:?}");
            }
        }
    }

    #[test]
    fn no_composition_begins_with_whitespace() {
        let scalars = || (0..=0x0010_FFFF).filter_map(char::from_u32);
        let later: Vec<char> = scalars().filter(|&scalar| !Facts::of(scalar).starts_nfc()).collect();
        for space in scalars().filter(|scalar| scalar.is_whitespace()) {
            for &scalar in &later {
                let both: Vec<char> = [space, scalar].into_iter().nfc().collect();
                assert!(both[0].is_whitespace() && both.len() > 1, "{space:?} {scalar:?}");
            }
        }
    }

    #[test]
    fn every_scalar_beside_a_letter_and_a_mark() {
        for scalar in (0..=0x0010_FFFF).filter_map(char::from_u32) {
            check_specification(&format!("e{scalar}\u{301} \u{1100}{scalar}\u{9BE}{scalar}"));
        }
    }

    /// Scalars that compose, reorder or are whitespace, among plain ones.
    fn difficult_text() -> impl Strategy<Value = String> {
        let alphabet: Vec<char> = concat!(
            "aeE=  \n\r\t\u{B}\u{85}\u{A0}\u{2000}\u{2003}\u{3000}\u{1680}é–\u{301}\u{323}\u{338}\u{344}\u{340}",
            "\u{2126}\u{FB2C}\u{958}𝐀中가\u{1100}\u{1161}\u{11A8}か\u{3099}\u{9C7}\u{9BE}\u{F71}\u{F72}\u{F81}\u{1D15E}",
        )
        .chars()
        .collect();
        let index = proptest::collection::vec(0..alphabet.len(), 0..200);
        index.prop_map(move |list| list.into_iter().map(|i| alphabet[i]).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn segments_give_the_hash_of_the_whole_text(text in difficult_text()) {
            check_specification(&text);
        }

        #[test]
        fn any_text_has_the_hash_of_the_specification(text in any::<String>()) {
            check_specification(&text);
        }

        #[test]
        fn the_ascii_path_is_identical(text in "[ -~\n\t \r]{0,300}") {
            check_specification(&text);
        }
    }
}
