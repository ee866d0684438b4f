//! What the caller gives to a deduplication and what it gets for each removed document.

use std::error::Error;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::normal::NormalForm;
use crate::sketch::Sketch;
use crate::spec::SketchSpec;

/// One document as the join sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Document id, `SOURCE:NATIVE_ID`.
    pub id: String,
    /// Index into the list of sources.
    pub source: u32,
    /// Version of the record; of several entries with one id the highest is kept.
    pub version: u32,
    /// Rank of the source: the smaller is preferred.
    pub rank: u32,
    /// Length of the text in Unicode scalars.
    pub characters: u64,
    /// Normal form of the text, the same that its sketch was made with.
    pub form: NormalForm,
    /// Templated text: takes part in the id and exact joins only.
    pub exact_only: bool,
    /// Sketch of the text.
    pub sketch: Sketch,
}

/// How a proposed pair is proved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyMode {
    /// All of the removed text is in the kept one: no token 3-gram is lost.
    Strict,
    /// Equal numbers, and a Jaccard similarity of the shingle sets of at least `min_similarity`. For web text only.
    Tolerant {
        /// Least similarity, 0 to 1.
        min_similarity: f64,
    },
}

/// Settings of one deduplication.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Setting that all sketches were made with.
    pub spec: SketchSpec,
    /// Proof demanded of a near-duplicate.
    pub verify: VerifyMode,
    /// Share of one source's characters, 0 to 1, that verified near-duplicates may take before the run stops.
    pub max_source_loss: f64,
    /// Bytes that the records of one band may take in memory; more go to the scratch folder. Any value gives the same
    /// result. On top come the entries, about 16 bytes an entry for order and links, 40 a removal, and the texts that are
    /// being compared.
    pub memory_bytes: u64,
}

/// Gives the text of an entry again, when a proposed pair is compared.
///
/// Called from several threads. A thread that decides a cluster holds at most 33 texts in some form: those of up to 32
/// representatives (with at most 2,000,000 characters, the first excepted) and the one that is compared with them. A
/// cluster of more than 512 documents is decided alone, with up to 64 texts compared at once.
pub trait Texts: Sync {
    /// Text of entry `index`, exactly as it was sketched.
    ///
    /// # Errors
    /// The text cannot be read.
    fn text(&self, index: usize) -> Result<String, TextError>;
}

/// A text that could not be read. The cause must not hold document text.
#[derive(Debug, Error)]
#[error("text not readable")]
pub struct TextError(#[source] Box<dyn Error + Send + Sync>);

impl TextError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Why a document was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Another entry has the same id and a newer version.
    #[serde(rename = "same-id")]
    SameId,
    /// The kept document has the same text up to normalization and whitespace.
    #[serde(rename = "exact")]
    Exact,
    /// The kept document holds all of the removed one.
    #[serde(rename = "near-strict")]
    Strict,
    /// The kept document has the same numbers and almost the same shingles.
    #[serde(rename = "near-tolerant")]
    Tolerant,
}

impl Rule {
    /// The name that decisions and manifests carry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SameId => "same-id",
            Self::Exact => "exact",
            Self::Strict => "near-strict",
            Self::Tolerant => "near-tolerant",
        }
    }
}

/// One removed document.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// Index of the removed entry.
    pub dropped: usize,
    /// Index of the entry that it was compared with. After a near rule that one is kept; after `same-id` or `exact` a
    /// later rule may have removed it in turn ([`crate::Outcome::survivor`] follows the chain).
    pub kept: usize,
    /// The rule that was proved.
    pub rule: Rule,
    /// Jaccard similarity of the two shingle sets; 1 for `same-id` and `exact`, which compare no shingles.
    pub similarity: f64,
}
