//! The recipe's `[corpus.clean]` table: every rule with its threshold and default.
//!
//! Defaults follow the published rules for web text (Gopher, C4) where those hold for clinical notes and abstracts too, and
//! are looser where they do not: notes are short, full of numbers, and repeat their forms.

use serde::{Deserialize, Serialize};

use super::identifiers::PhiPolicies;
use crate::language;

/// What happens to the marks that de-identification left in a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deidentification {
    /// Nothing.
    #[default]
    Keep,
    /// `[** … **]` becomes `___`, the one spelling of the newer releases; nothing is invented.
    Normalize,
    /// `[** … **]` becomes `[NAME]`, `[DATE]`, `[HOSPITAL]`, … by what the mark says; `___` becomes `[DEIDENTIFIED]`.
    Placeholder,
}

/// What happens to white space inside lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spaces {
    /// Nothing.
    Off,
    /// White space at the end of a line goes. Columns of a table that are set with spaces or tabs stay in line.
    #[default]
    Ends,
    /// Besides, white space at the start goes, and runs of spaces, tabs, no-break and other Unicode spaces become one space.
    /// That takes the columns out of tables: for running text only.
    All,
}

/// The `[corpus.clean]` table. Every key may be left out. Means and shares are only looked at in texts of ten words or more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the recipe that a person turns on or off by its name")]
pub struct Cleaning {
    /// ISO 639-1 codes to keep. Default: empty, which keeps all. A text whose language cannot be told is always kept.
    pub languages: Vec<String>,
    /// Least number of characters. Default 1: only empty texts go.
    pub min_characters: u64,
    /// Least number of words. Default 5 (Gopher: 50, which would drop most short reports).
    pub min_words: u64,
    /// Largest number of words. Default 1,000,000 (Gopher: 100,000, which would drop books).
    pub max_words: u64,
    /// Largest mean length of a word in characters. Default 15 (Gopher: 10).
    pub max_word_length_mean: f64,
    /// Least share of words with a letter, 0 to 1. Default 0.5 (Gopher: 0.8; laboratory tables are mostly numbers).
    pub min_alphabetic_share: f64,
    /// Largest share of characters, spaces aside, that are neither letter nor digit, 0 to 1. Default 0.5.
    pub max_symbol_share: f64,
    /// Largest share of characters in lines that repeat an earlier line, 0 to 1; 1 turns it off. Default 0.5 (Gopher: 0.2).
    pub max_repeated_line_share: f64,
    /// Largest share of words in repeated ten-word sequences, 0 to 1; 1 turns it off. Default 0.5 (Gopher: 0.1).
    pub max_repeated_ngram_share: f64,
    /// Largest share of digits among the characters, spaces aside, 0 to 1; 1 turns it off. Default 0.7, above laboratory
    /// tables and vital signs with their names (0.6 and less): only columns of bare numbers go.
    pub max_digit_share: f64,
    /// Repairs UTF-8 that was read as Windows-1252 or Latin-1, where a whole run decodes to expected characters. Default true.
    pub fix_mojibake: bool,
    /// Removes control characters but tab and newline, byte order marks, zero-width spaces, soft hyphens and characters that
    /// turn the direction of writing. Default true.
    pub strip_control: bool,
    /// Writes every line end (CRLF, CR, form feed, vertical tab, next line, line and paragraph separator) as one newline.
    /// Default true.
    pub normalize_newlines: bool,
    /// White space inside lines. Default `ends`.
    pub normalize_spaces: Spaces,
    /// Removes lines that are a copyright notice, a licence, a publisher's tail or furniture of a web page, and nothing else.
    /// Default true.
    pub drop_boilerplate: bool,
    /// Removes later copies of a paragraph of prose; tables, forms and short lines may repeat. Default true.
    pub drop_repeated_paragraphs: bool,
    /// Least characters of a paragraph that `drop_repeated_paragraphs` looks at, at least 1. Default 100.
    pub min_repeated_paragraph_characters: u64,
    /// Writes several blank lines as one, and removes those at the start and white space at the end. Default true.
    pub collapse_blank_lines: bool,
    /// Marks of de-identification. Default `keep`.
    pub deidentification: Deidentification,
    /// Identifiers: one policy for every source, or a table by sensitivity. Default `open` off, `dua` report, `phi` reject.
    pub phi: PhiPolicies,
}

impl Default for Cleaning {
    fn default() -> Self {
        Self {
            languages: Vec::new(),
            min_characters: 1,
            min_words: 5,
            max_words: 1_000_000,
            max_word_length_mean: 15.0,
            min_alphabetic_share: 0.5,
            max_symbol_share: 0.5,
            max_repeated_line_share: 0.5,
            max_repeated_ngram_share: 0.5,
            max_digit_share: 0.7,
            fix_mojibake: true,
            strip_control: true,
            normalize_newlines: true,
            normalize_spaces: Spaces::Ends,
            drop_boilerplate: true,
            drop_repeated_paragraphs: true,
            min_repeated_paragraph_characters: 100,
            collapse_blank_lines: true,
            deidentification: Deidentification::Keep,
            phi: PhiPolicies::default(),
        }
    }
}

/// A threshold that cannot be meant.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CleaningError {
    /// A share outside 0 to 1, or not a number.
    #[error("corpus.clean.{key}: {value}: expected a share from 0 to 1")]
    Share {
        /// The key.
        key: &'static str,
        /// Its value.
        value: f64,
    },
    /// A mean word length that is no positive number.
    #[error("corpus.clean.max_word_length_mean: {value}: expected a number above 0")]
    WordLength {
        /// Its value.
        value: f64,
    },
    /// No text can have this many words.
    #[error("corpus.clean.min_words: {min}: above max_words = {max}; every document would be dropped")]
    Words {
        /// `min_words`.
        min: u64,
        /// `max_words`.
        max: u64,
    },
    /// Every paragraph, the empty one too, would be one that repeats.
    #[error("corpus.clean.min_repeated_paragraph_characters: 0: expected at least 1")]
    ParagraphLength,
    /// A language that is not detected.
    #[error("corpus.clean.languages: {code:?}: not a detected language; expected of {}", language::LANGUAGES.join(" "))]
    Language {
        /// The code given.
        code: String,
    },
}

impl Cleaning {
    /// Checks the thresholds, so that a recipe fails before any work.
    ///
    /// # Errors
    /// The first [`CleaningError`] in the order of the keys.
    pub fn check(&self) -> Result<(), CleaningError> {
        if let Some(code) = self.languages.iter().find(|code| !language::LANGUAGES.contains(&code.as_str())) {
            return Err(CleaningError::Language { code: code.clone() });
        }
        if self.min_words > self.max_words {
            return Err(CleaningError::Words { min: self.min_words, max: self.max_words });
        }
        if self.max_word_length_mean.is_nan() || self.max_word_length_mean <= 0.0 {
            return Err(CleaningError::WordLength { value: self.max_word_length_mean });
        }
        for (key, value) in [
            ("min_alphabetic_share", self.min_alphabetic_share),
            ("max_symbol_share", self.max_symbol_share),
            ("max_repeated_line_share", self.max_repeated_line_share),
            ("max_repeated_ngram_share", self.max_repeated_ngram_share),
            ("max_digit_share", self.max_digit_share),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(CleaningError::Share { key, value });
            }
        }
        if self.min_repeated_paragraph_characters == 0 {
            return Err(CleaningError::ParagraphLength);
        }
        Ok(())
    }

    pub(super) fn allows_language_of(&self, text: &str) -> bool {
        self.languages.is_empty() || language::detect(text).is_none_or(|found| self.languages.iter().any(|code| code == found))
    }
}
