//! Normal forms of a text, and the placeholders that one of them replaces.
//!
//! Words decide what is *proposed* as a duplicate and what is matched against a benchmark; they are read in `words`. What
//! is removed as a near-duplicate is decided in `comparison`, on tokens that keep punctuation.

use std::borrow::Cow;

use memchr::memchr2;
use serde::{Deserialize, Serialize};

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

fn replace_placeholders(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut replaced = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(offset) = memchr2(b'[', b'_', &bytes[at..]) {
        at += offset;
        // Both marks are ASCII, so every cut is on a character boundary.
        let end = if bytes[at] == b'[' { bracket_end(bytes, at) } else { underscores_end(bytes, at) };
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
    use super::*;

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
