//! Where text may be cut without changing its ids. It looks at two bytes at a time and merges nothing.
//!
//! A merge across the place between two characters makes a token that holds both side by side. So the place is safe when
//! nothing that a merge makes holds that pair (shard-formats §11, general form). LLaMA-2's vocabulary has no token with a
//! space after another character, so there every run of spaces begins a segment; digits and line ends stand alone. The
//! pairs are looked at when the file is read, so another vocabulary is cut where it allows, and one that allows no cut is
//! encoded whole. Bytes of characters outside ASCII form one class, and places between two of them are never cut.

/// Bytes 0 to 127 are their own class, all others share one.
const CLASSES: usize = 129;
/// Places looked at together.
const BLOCK: usize = 64;

/// The safe places of one vocabulary.
pub(super) struct Cuts {
    /// 1 where the place between two bytes is safe; the index has the first byte in its low half.
    safe: Box<[u8; 1 << 16]>,
}

impl std::fmt::Debug for Cuts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Cuts").finish_non_exhaustive()
    }
}

impl Cuts {
    /// The places that are safe when merges make only `products`. `before_spaces`: text is cut before every space in any
    /// case, because the pre-tokenizer does.
    pub(super) fn new<'a>(products: impl Iterator<Item = &'a [u8]>, before_spaces: bool) -> Self {
        let mut joined = vec![[false; CLASSES]; CLASSES];
        joined[CLASSES - 1][CLASSES - 1] = true;
        for product in products {
            for pair in product.windows(2) {
                joined[class(pair[0])][class(pair[1])] = true;
            }
        }
        let safe: Result<Box<[u8; 1 << 16]>, _> = vec![0; 1 << 16].into_boxed_slice().try_into();
        let mut safe = safe.expect("the list has this length");
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let forced = before_spaces && second == b' ';
                safe[index(first, second)] = u8::from(forced || !joined[class(first)][class(second)]);
            }
        }
        Self { safe }
    }

    /// Whether the place between two bytes is safe.
    pub(super) fn is_safe(&self, first: u8, second: u8) -> bool {
        self.safe[index(first, second)] != 0
    }

    /// Calls `segment` with the ends of each segment of `text` from `start` on, in order.
    #[inline]
    pub(super) fn for_each(&self, text: &[u8], mut start: usize, mut segment: impl FnMut(usize, usize)) {
        let mut at = start + 1;
        while at < text.len() {
            let mut places = match text.get(at - 1..at + BLOCK).map(<&[u8; BLOCK + 1]>::try_from) {
                Some(Ok(window)) => self.places(window),
                _ => self.last_places(&text[at - 1..]),
            };
            while places != 0 {
                let end = at + places.trailing_zeros() as usize;
                segment(start, end);
                start = end;
                places &= places - 1;
            }
            at += BLOCK;
        }
        if start < text.len() {
            segment(start, text.len());
        }
    }

    /// Bit `i` for the place before byte `i + 1`.
    #[inline]
    fn places(&self, window: &[u8; BLOCK + 1]) -> u64 {
        let mut places = 0;
        for at in 0..BLOCK {
            places |= u64::from(self.safe[index(window[at], window[at + 1])]) << at;
        }
        places
    }

    fn last_places(&self, rest: &[u8]) -> u64 {
        let pairs = rest.windows(2).take(BLOCK).enumerate();
        pairs.fold(0, |places, (at, pair)| places | u64::from(self.safe[index(pair[0], pair[1])]) << at)
    }
}

fn index(first: u8, second: u8) -> usize {
    usize::from(u16::from_le_bytes([first, second]))
}

fn class(byte: u8) -> usize {
    usize::from(byte).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments<'a>(cuts: &Cuts, text: &'a str, start: usize) -> Vec<&'a str> {
        let mut found = Vec::new();
        cuts.for_each(text.as_bytes(), start, |start, end| found.push(&text[start..end]));
        found
    }

    fn cuts(products: &[&str], before_spaces: bool) -> Cuts {
        Cuts::new(products.iter().map(|product| product.as_bytes()), before_spaces)
    }

    #[test]
    fn text_is_cut_where_no_product_has_the_pair() {
        let cuts = cuts(&[" ab", "  ", "ba", "é,"], false);
        assert_eq!(segments(&cuts, " ab  aba1 \n", 0), [" ab", "  aba", "1", " ", "\n"]);
        assert_eq!(segments(&cuts, "é,漢é a", 0), ["é,", "漢é", " a"]);
        assert_eq!(segments(&cuts, "xabx", 1), ["ab", "x"]);
        assert_eq!(segments(&cuts, "", 0), [""; 0]);
        assert!(cuts.is_safe(b'a', b' ') && !cuts.is_safe(b' ', b' '));
    }

    #[test]
    fn every_space_begins_a_segment_where_the_file_says_so() {
        let cuts = cuts(&["a b", "  "], true);
        assert_eq!(segments(&cuts, "a b  c", 0), ["a", " b", " ", " ", "c"]);
    }

    #[test]
    fn blocks_are_seamless() {
        let cuts = cuts(&["aa", "ab", " a"], false);
        for length in 0..300 {
            for step in [1, 3, 7, 64, 65] {
                let text: String = (0..length).map(|at| if at % step == 0 { ' ' } else { 'a' }).collect();
                let found = segments(&cuts, &text, 0);
                assert_eq!(found.concat(), text);
                let expected = text.matches(' ').count() + usize::from(text.starts_with('a'));
                assert_eq!(found.len(), expected, "{length} {step}");
            }
        }
    }
}
