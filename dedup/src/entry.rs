//! What the caller gives to a deduplication and what it gets for each removed document.

use std::error::Error;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::links::Links;
use crate::normal::NormalForm;
use crate::sketch::Sketch;
use crate::spec::SketchSpec;

/// One document as the joins see it: what decides its place among its copies. Its id and its text stay with the caller.
///
/// Of two documents the one with the smaller `(release, rank, abridged, version, words, characters, quality, key)` is
/// preferred, where a greater version, length and quality count as smaller; the document number ends the last tie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// First 16 bytes of BLAKE3 over the document id: [`id_key`].
    pub key: [u8; 16],
    /// The earlier release that the document is kept in, from 0; none for a document of this run. An earlier release's
    /// documents are preferred, and never removed.
    pub release: Option<u16>,
    /// Index into the list of sources.
    pub source: u16,
    /// Rank of the source: the smaller is preferred.
    pub rank: u16,
    /// An abstract, where others may hold the full text.
    pub abridged: bool,
    /// Version of the record; of several documents with one id the highest is kept.
    pub version: u32,
    /// Words of the normal form.
    pub words: u32,
    /// Length of the text in Unicode scalars.
    pub characters: u64,
    /// How well the record is described: its fields that are filled, or any other measure of which the greater is better.
    pub quality: u16,
    /// Exact hash of the text.
    pub exact: [u8; 16],
    /// Hash of the subject of a clinical note, 0 for none. Near-duplicates of one source are looked for inside a subject.
    pub group: u64,
    /// Normal form of the text, the same that its sketch was made with.
    pub form: NormalForm,
    /// Templated text: takes part in the id and exact joins only.
    pub exact_only: bool,
}

impl Profile {
    /// Whether its bands are joined.
    pub fn has_bands(&self) -> bool {
        !self.exact_only && self.words > 0
    }
}

/// First 16 bytes of BLAKE3 over the bytes of a document id: what stands for the id in every join.
pub fn id_key(id: &str) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
    key
}

/// One document of a corpus in memory, for [`crate::deduplicate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Document id, `SOURCE:NATIVE_ID`.
    pub id: String,
    /// As [`Profile::release`].
    pub release: Option<u16>,
    /// As [`Profile::source`].
    pub source: u16,
    /// As [`Profile::version`].
    pub version: u32,
    /// As [`Profile::rank`].
    pub rank: u16,
    /// As [`Profile::abridged`].
    pub abridged: bool,
    /// As [`Profile::characters`].
    pub characters: u64,
    /// As [`Profile::quality`].
    pub quality: u16,
    /// As [`Profile::group`].
    pub group: u64,
    /// As [`Profile::form`].
    pub form: NormalForm,
    /// As [`Profile::exact_only`].
    pub exact_only: bool,
    /// The names that the record goes by and those it refers to.
    pub links: Links,
    /// Sketch of the text.
    pub sketch: Sketch,
}

impl Default for Entry {
    /// An empty document of this run, version 1, of source 0.
    fn default() -> Self {
        Self {
            id: String::new(),
            release: None,
            source: 0,
            version: 1,
            rank: 0,
            abridged: false,
            characters: 0,
            quality: 0,
            group: 0,
            form: NormalForm::Plain,
            exact_only: false,
            links: Links::default(),
            sketch: Sketch { exact: [0; 16], words: 0, bands: Vec::new() },
        }
    }
}

impl Entry {
    /// What the joins need of it.
    pub fn profile(&self) -> Profile {
        Profile {
            key: id_key(&self.id),
            release: self.release,
            source: self.source,
            rank: self.rank,
            abridged: self.abridged,
            version: self.version,
            words: self.sketch.words,
            characters: self.characters,
            quality: self.quality,
            exact: self.sketch.exact,
            group: self.group,
            form: self.form,
            exact_only: self.exact_only,
        }
    }
}

/// How a proposed pair is proved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyMode {
    /// All of the removed text stands in the kept one, in one piece up to case and whitespace.
    Strict,
    /// Equal numbers, and a Jaccard similarity of the shingle sets of at least `min_similarity`. For web text only: a pair
    /// with a text of the clinical form is always compared strictly.
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
    /// Share of one source's characters, 0 to 1, that verified removals may take before the run stops.
    pub max_source_loss: f64,
    /// Bytes that the records of a sort or of one band may take in memory; more go to the scratch folder. Any value gives
    /// the same result. On top come 4 bytes a document for its ordinal and 4 for its set, 16 a removal, and the texts that
    /// are being compared.
    pub memory_bytes: u64,
}

/// Gives the text of a document again, when a proposed pair is compared.
///
/// Called from several threads. A thread that decides a cluster holds three texts at most; a cluster of more than 512
/// documents is decided alone, with up to 64 texts compared at once.
pub trait Texts: Sync {
    /// Text of document `number`, exactly as it was sketched.
    ///
    /// # Errors
    /// The text cannot be read.
    fn text(&self, number: u32) -> Result<String, TextError>;

    /// What errors call the document: its id, or where it lies.
    fn name(&self, number: u32) -> String {
        format!("document {number}")
    }
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
    /// Another record has the same id and a newer version.
    #[serde(rename = "same-id")]
    SameId,
    /// The kept document has the same text up to normalization and whitespace.
    #[serde(rename = "exact")]
    Exact,
    /// The abstract of an article whose full text is kept and holds it.
    #[serde(rename = "full-text")]
    FullText,
    /// The preprint of an article that is kept.
    #[serde(rename = "preprint")]
    Preprint,
    /// The kept document holds all of the removed one.
    #[serde(rename = "near-strict")]
    Strict,
    /// The kept document has the same numbers and almost the same shingles.
    #[serde(rename = "near-tolerant")]
    Tolerant,
}

impl Rule {
    /// All rules, in the order in which they are tried.
    pub const ALL: [Self; 6] = [Self::SameId, Self::Exact, Self::FullText, Self::Preprint, Self::Strict, Self::Tolerant];

    /// The name that decisions and manifests carry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SameId => "same-id",
            Self::Exact => "exact",
            Self::FullText => "full-text",
            Self::Preprint => "preprint",
            Self::Strict => "near-strict",
            Self::Tolerant => "near-tolerant",
        }
    }

    /// The rule of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }

    /// Whether its removals were proved by comparing texts, and so count towards `max_source_loss`.
    pub fn is_verified(self) -> bool {
        !matches!(self, Self::SameId | Self::Exact)
    }
}

/// One removed document.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// Number of the removed document.
    pub dropped: u32,
    /// Number of the document that it was compared with. A later rule may have removed that one in turn
    /// ([`crate::Outcome::survivor`] follows the chain).
    pub kept: u32,
    /// The rule that was proved.
    pub rule: Rule,
    /// Jaccard similarity of the two shingle sets; 1 for `same-id` and `exact`, which compare no shingles.
    pub similarity: f64,
    /// Share of the removed text's distinct shingles that the kept one has; 1 for `same-id` and `exact`.
    pub containment: f64,
}
