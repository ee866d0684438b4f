//! A text with the dashes, spaces and digits that word processors and web pages write as those of ASCII, and without what is not
//! seen, so that `617‑555‑1234` is a telephone number however it was typed. Places are kept.

use super::PhiHit;

/// A folded text.
pub(super) struct Folded {
    pub(super) text: String,
    /// Behind each character that is not as it was: its end here, and in the text it comes from. Sorted.
    places: Vec<(usize, usize)>,
}

impl Folded {
    /// `None` where the text stays as it is.
    pub(super) fn of(text: &str) -> Option<Self> {
        if text.is_ascii() || !text.contains(|one| fold(one).is_some()) {
            return None;
        }
        let mut folded = Self { text: String::with_capacity(text.len()), places: Vec::new() };
        for (at, one) in text.char_indices() {
            match fold(one) {
                None => folded.text.push(one),
                Some(written) => {
                    folded.text.push_str(written);
                    folded.places.push((folded.text.len(), at + one.len_utf8()));
                }
            }
        }
        Some(folded)
    }

    /// The hits of the folded text in the one it comes from.
    pub(super) fn unfold(&self, mut hits: Vec<PhiHit>) -> Vec<PhiHit> {
        for hit in &mut hits {
            hit.range = self.place(hit.range.start)..self.place(hit.range.end);
        }
        hits
    }

    fn place(&self, folded: usize) -> usize {
        let before = self.places.partition_point(|place| place.0 <= folded);
        before.checked_sub(1).map_or(folded, |last| self.places[last].1 + (folded - self.places[last].0))
    }
}

/// What is read instead of a character.
fn fold(one: char) -> Option<&'static str> {
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    Some(match one {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}' => "-",
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => " ",
        '\u{ff0f}' => "/",
        '\u{ff1a}' => ":",
        '\u{ff20}' => "@",
        '\u{ff10}'..='\u{ff19}' => DIGITS[(u32::from(one) - 0xff10) as usize],
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => "",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::phi::{mask, scan};

    fn check(text: &str, expected: &str) {
        let hits = scan(text);
        assert!(hits.iter().all(|hit| text.get(hit.range.clone()).is_some()), "{hits:?}");
        assert_eq!(mask(text).as_deref(), Some(expected), "{text:?}");
    }

    #[test]
    fn identifiers_typed_with_other_dashes_spaces_and_digits() {
        check("é call 617‑555‑1234 or 617–555–1234, é", "é call [PHONE] or [PHONE], é");
        check("seen March\u{a0}5,\u{a0}2020 – well", "seen [DATE] – well");
        check("MRN\u{a0}1234567; SSN 123−45−6789", "MRN\u{a0}[RECORD NUMBER]; SSN [SSN]");
        check("on １２/３/２０２０ he", "on [DATE] he");
        check("6\u{200b}17-555-12\u{ad}34 é", "[PHONE] é");
        check("é – nothing here: 5–10 mg", "é – nothing here: 5–10 mg");
    }
}
