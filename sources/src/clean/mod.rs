//! Cleaning: what is changed in a document's text, and which documents are dropped for which reason.
//!
//! Without the recipe's `[corpus.clean]` table only NFC is applied, and nothing is dropped but documents of `phi` sources that
//! hold identifiers. Cleaning again changes nothing: `clean(clean(x)) = clean(x)`. Rules see one document at a time;
//! duplicates are another stage's work.

mod boilerplate;
mod changes;
mod identifiers;
mod mojibake;
mod paragraphs;
mod quality;
mod rules;
mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use changes::{Change, Changes};
pub use identifiers::{PhiFindings, PhiPolicies, PhiPolicy};
pub use rules::{Cleaning, CleaningError, Deidentification, Spaces};

use crate::document::{Document, Domain};
use quality::Measures;

/// Means and shares are taken of texts with at least this many words: "Noncontributory." is a good section of a note.
const MIN_MEASURED_WORDS: u64 = 10;

/// Whether a document stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, its text perhaps changed.
    Keep,
    /// It goes; its text may be half cleaned and is not to be used.
    Drop(DropReason),
}

/// What cleaning did to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// Whether it stays.
    pub verdict: Verdict,
    /// The rules that changed it.
    pub changes: Changes,
    /// Identifiers that were found in it.
    pub phi: PhiFindings,
}

/// The rule that removed a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// Fewer characters than `min_characters`.
    TooFewCharacters,
    /// Fewer words than `min_words`.
    TooFewWords,
    /// More words than `max_words`.
    TooManyWords,
    /// Mean word length above `max_word_length_mean`.
    LongWords,
    /// Share of words with a letter below `min_alphabetic_share`.
    FewAlphabeticWords,
    /// Share of symbols above `max_symbol_share`.
    ManySymbols,
    /// Share of text in repeated lines above `max_repeated_line_share`.
    RepeatedLines,
    /// Share of words in repeated n-grams above `max_repeated_ngram_share`.
    RepeatedNgrams,
    /// Share of digits above `max_digit_share`.
    ManyDigits,
    /// Written in a language that `languages` does not list.
    Language,
    /// Holds an identifier, with `phi = "reject"`; or one that masking could not hide, with `phi = "mask"`.
    Phi,
    /// Belongs to a set that the source's `read.sets` does not list. No finding, so its place is not recorded.
    NotSelected,
    /// Retracted by its journal, with `read.retracted = "drop"`.
    Retracted,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::TooFewCharacters,
        Self::TooFewWords,
        Self::TooManyWords,
        Self::LongWords,
        Self::FewAlphabeticWords,
        Self::ManySymbols,
        Self::RepeatedLines,
        Self::RepeatedNgrams,
        Self::ManyDigits,
        Self::Language,
        Self::Phi,
        Self::NotSelected,
        Self::Retracted,
    ];

    /// Kebab-case code, the name of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooFewCharacters => "too-few-characters",
            Self::TooFewWords => "too-few-words",
            Self::TooManyWords => "too-many-words",
            Self::LongWords => "long-words",
            Self::FewAlphabeticWords => "few-alphabetic-words",
            Self::ManySymbols => "many-symbols",
            Self::RepeatedLines => "repeated-lines",
            Self::RepeatedNgrams => "repeated-ngrams",
            Self::ManyDigits => "many-digits",
            Self::Language => "language",
            Self::Phi => "phi",
            Self::NotSelected => "not-selected",
            Self::Retracted => "retracted",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Applies one cleaning table to documents. Cheap to make and to share between threads.
#[derive(Debug, Clone)]
pub struct Cleaner {
    cleaning: Option<Cleaning>,
    /// The same for notes, in which a paragraph under another date is another finding.
    clinical: Option<Cleaning>,
}

impl Cleaner {
    /// A cleaner for the recipe's table, or for its absence. Thresholds are taken as they are: see [`Cleaning::check`].
    pub fn new(cleaning: Option<&Cleaning>) -> Self {
        let clinical = cleaning.map(|cleaning| Cleaning { drop_repeated_paragraphs: false, ..cleaning.clone() });
        Self { cleaning: cleaning.cloned(), clinical }
    }

    /// Cleans text and title in place and judges the text.
    ///
    /// With `phi = "report"`, kinds and byte ranges in the cleaned text go into the meta data as `phi`
    /// (`kind:start-end`, separated by spaces, at most 64) and their number as `phi_hits`.
    pub fn clean(&self, document: &mut Document) -> Cleaned {
        let mut changes = Changes::default();
        let cleaning = if document.domain == Domain::Clinical { &self.clinical } else { &self.cleaning };
        match cleaning {
            None => {
                changes.note(Change::NormalForm, text::compose(&mut document.text));
                changes.note(Change::NormalForm, document.title.as_mut().is_some_and(text::compose));
            }
            Some(cleaning) => {
                text::rewrite(&mut document.text, cleaning, &mut changes);
                if let Some(title) = &mut document.title {
                    text::rewrite_title(title, cleaning, &mut changes);
                }
            }
        }
        let (phi, kept) = identifiers::apply(document, cleaning.as_ref(), &mut changes);
        let verdict = match cleaning {
            _ if !kept => Verdict::Drop(DropReason::Phi),
            None => Verdict::Keep,
            Some(cleaning) => judge(&document.text, cleaning),
        };
        Cleaned { verdict, changes, phi }
    }
}

/// The first rule broken, in the order of [`DropReason::ALL`].
fn judge(text: &str, cleaning: &Cleaning) -> Verdict {
    let measures = Measures::of(text);
    let broken = if let Some(reason) = wrong_size(&measures, cleaning) {
        Some(reason)
    } else if measures.words >= MIN_MEASURED_WORDS {
        wrong_kind(text, &measures, cleaning)
    } else {
        None
    };
    let foreign = || (!cleaning.allows_language_of(text)).then_some(DropReason::Language);
    broken.or_else(foreign).map_or(Verdict::Keep, Verdict::Drop)
}

fn wrong_size(measures: &Measures, cleaning: &Cleaning) -> Option<DropReason> {
    if measures.characters < cleaning.min_characters {
        Some(DropReason::TooFewCharacters)
    } else if measures.words < cleaning.min_words {
        Some(DropReason::TooFewWords)
    } else if measures.words > cleaning.max_words {
        Some(DropReason::TooManyWords)
    } else {
        None
    }
}

fn wrong_kind(text: &str, measures: &Measures, cleaning: &Cleaning) -> Option<DropReason> {
    if measures.word_length_mean() > cleaning.max_word_length_mean {
        Some(DropReason::LongWords)
    } else if measures.alphabetic_share() < cleaning.min_alphabetic_share {
        Some(DropReason::FewAlphabeticWords)
    } else if measures.symbol_share() > cleaning.max_symbol_share {
        Some(DropReason::ManySymbols)
    } else if cleaning.max_repeated_line_share < 1.0 && quality::repeated_line_share(text) > cleaning.max_repeated_line_share {
        Some(DropReason::RepeatedLines)
    } else if cleaning.max_repeated_ngram_share < 1.0 && quality::repeated_ngram_share(text) > cleaning.max_repeated_ngram_share {
        Some(DropReason::RepeatedNgrams)
    } else if measures.digit_share() > cleaning.max_digit_share {
        Some(DropReason::ManyDigits)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
