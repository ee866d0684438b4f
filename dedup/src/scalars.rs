//! What the normal forms need to know of one scalar, computed once from the Unicode tables and kept by pages.
//!
//! It holds no Unicode data of its own: every fact comes from `unicode_normalization` and the standard library, so the
//! versions of those two stay the versions of the normal form.

use std::iter::once;
use std::sync::OnceLock;

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

/// What the NFKC and lowercase form of one scalar, standing alone, is to the words of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WordForm {
    /// No alphanumeric scalar: it ends a word.
    Separator,
    /// One scalar, alphanumeric.
    One(char),
    /// Several scalars, at least one of them alphanumeric.
    Several,
}

/// Facts of one scalar, in 32 bits: flags, and below them the scalar of [`WordForm::One`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts(u32);

const SCALAR: u32 = (1 << 21) - 1;
const IS_ONE: u32 = 1 << 24;
const IS_SEVERAL: u32 = 1 << 25;
const STARTS_NFKC: u32 = 1 << 26;
const STARTS_NFC: u32 = 1 << 27;
const IS_PLAIN: u32 = 1 << 28;

/// Scalars of a page, and pages kept: the basic multilingual plane, at most 256 KiB.
const PAGE: usize = 256;

static PAGES: [OnceLock<Box<[Facts; PAGE]>>; 256] = [const { OnceLock::new() }; 256];

impl Facts {
    /// Looks a scalar up; its page is computed at the first question. Scalars above U+FFFF are computed each time.
    pub(crate) fn of(scalar: char) -> Self {
        let code = scalar as usize;
        match PAGES.get(code / PAGE) {
            Some(page) => page.get_or_init(|| Self::page(code / PAGE))[code % PAGE],
            None => Self::compute(scalar),
        }
    }

    #[cold]
    fn page(page: usize) -> Box<[Self; PAGE]> {
        let first = page * PAGE;
        // Surrogates are no scalars and are never asked for.
        let facts = |offset| char::from_u32((first + offset) as u32).map_or(Self(0), Self::compute);
        Box::new(std::array::from_fn(facts))
    }

    fn compute(scalar: char) -> Self {
        let (mut form, mut count) = (0, 0);
        for lower in once(scalar).nfkc().flat_map(char::to_lowercase) {
            count += 1;
            if lower.is_alphanumeric() {
                form = IS_ONE | u32::from(lower);
            }
        }
        if form != 0 && count > 1 {
            form = IS_SEVERAL;
        }
        let flag = |condition, flag| if condition { flag } else { 0 };
        let is_plain = is_nfc_quick(once(scalar)) == IsNormalized::Yes && !scalar.is_whitespace();
        Self(form | flag(starts_nfkc(scalar), STARTS_NFKC) | flag(starts_nfc(scalar), STARTS_NFC) | flag(is_plain, IS_PLAIN))
    }

    pub(crate) fn word_form(self) -> WordForm {
        if self.0 & IS_SEVERAL != 0 {
            return WordForm::Several;
        }
        match char::from_u32(self.0 & SCALAR) {
            Some(scalar) if self.0 & IS_ONE != 0 => WordForm::One(scalar),
            _ => WordForm::Separator,
        }
    }

    /// Whether NFKC never reorders or composes this scalar with what stands before it: the first scalar of its
    /// decomposition is a starter that is the second of no composition.
    pub(crate) fn starts_nfkc(self) -> bool {
        self.0 & STARTS_NFKC != 0
    }

    /// As [`Self::starts_nfkc`], for NFC.
    pub(crate) fn starts_nfc(self) -> bool {
        self.0 & STARTS_NFC != 0
    }

    /// Whether NFC keeps the scalar as it is wherever the next scalar starts a segment, nothing before it changes it,
    /// and it is no whitespace.
    pub(crate) fn is_plain(self) -> bool {
        self.0 & (IS_PLAIN | STARTS_NFC) == IS_PLAIN | STARTS_NFC
    }
}

fn starts_nfkc(scalar: char) -> bool {
    let first = once(scalar).nfkd().next().unwrap_or(scalar);
    canonical_combining_class(first) == 0 && is_nfkc_quick(once(first)) != IsNormalized::Maybe
}

fn starts_nfc(scalar: char) -> bool {
    let first = once(scalar).nfd().next().unwrap_or(scalar);
    canonical_combining_class(first) == 0 && is_nfc_quick(once(first)) != IsNormalized::Maybe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scalar: char, form: WordForm, starts: bool, plain: bool) {
        let facts = Facts::of(scalar);
        assert_eq!((facts.word_form(), facts.starts_nfkc(), facts.is_plain()), (form, starts, plain), "{scalar:?}");
    }

    #[test]
    fn facts_of_known_scalars() {
        check('a', WordForm::One('a'), true, true);
        check('É', WordForm::One('é'), true, true);
        check('µ', WordForm::One('μ'), true, true);
        check('³', WordForm::One('3'), true, true);
        check('½', WordForm::Several, true, true);
        check('ﬁ', WordForm::Several, true, true);
        check('İ', WordForm::Several, true, true);
        check('–', WordForm::Separator, true, true);
        check('…', WordForm::Separator, true, true);
        check('\u{A0}', WordForm::Separator, true, false);
        check('\u{301}', WordForm::Separator, false, false);
        check('\u{1161}', WordForm::One('\u{1161}'), false, false);
        check('각', WordForm::One('각'), true, true);
        check('中', WordForm::One('中'), true, true);
        check('𝐀', WordForm::One('a'), true, true);
        // A singleton: NFC makes a letter of Greek of it.
        check('\u{2126}', WordForm::One('ω'), true, false);
    }

    #[test]
    fn pages_hold_what_is_computed() {
        for scalar in (0..=0x0010_FFFF).filter_map(char::from_u32) {
            assert_eq!(Facts::of(scalar), Facts::compute(scalar), "{scalar:?}");
        }
    }

    #[test]
    fn ascii_is_plain_and_starts_every_segment() {
        for scalar in (0..0x80).filter_map(char::from_u32) {
            let facts = Facts::of(scalar);
            assert!(facts.starts_nfkc() && facts.starts_nfc(), "{scalar:?}");
            assert_eq!(facts.is_plain(), !scalar.is_whitespace(), "{scalar:?}");
            let form = if scalar.is_alphanumeric() { WordForm::One(scalar.to_ascii_lowercase()) } else { WordForm::Separator };
            assert_eq!(facts.word_form(), form, "{scalar:?}");
        }
    }
}
