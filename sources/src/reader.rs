//! What every reader shares: formats by name, the context of a source, limits, items, and the dispatch `open`.
//!
//! It knows no format from inside and no store: bytes come as an [`Input`].

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::csv::CsvReader;
use crate::document::{Document, Domain, Origin, Sensitivity, document_id};
use crate::input::Input;
use crate::jats::JatsReader;
use crate::jsonl::JsonlReader;
use crate::mimic::MimicReader;
use crate::options::ReadOptions;
use crate::parquet_reader::ParquetReader;
use crate::pile::PileReader;
use crate::pubmed::PubmedReader;
use crate::redpajama::RedpajamaReader;
use crate::reject::{Reject, RejectReason};
use crate::s2orc::S2orcReader;
use crate::text::TextReader;
use crate::withdrawal::Withdrawal;

/// Formats that have a reader. Recipe names are those of [`Format::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// PubMed citations (`PubmedArticleSet`, `MedlineCitationSet`).
    PubmedXml,
    /// JATS full-text articles.
    Jats,
    /// MIMIC notes as published on `PhysioNet` (CSV).
    MimicNotes,
    /// RedPajama JSON lines.
    Redpajama,
    /// The Pile's JSON lines.
    Pile,
    /// S2ORC and its relatives: JSON lines of parsed papers.
    S2orc,
    /// JSON lines.
    Jsonl,
    /// CSV with a header.
    Csv,
    /// Parquet with flat columns.
    Parquet,
    /// One document a file.
    Text,
}

/// Formats that the recipe may name and that no reader reads yet.
const NOT_YET: [&str; 2] = ["pmc-tar", "mimic-cxr"];

impl Format {
    /// Every format.
    pub const ALL: [Self; 10] = [
        Self::PubmedXml,
        Self::Jats,
        Self::MimicNotes,
        Self::Redpajama,
        Self::Pile,
        Self::S2orc,
        Self::Jsonl,
        Self::Csv,
        Self::Parquet,
        Self::Text,
    ];

    /// The name used in recipes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PubmedXml => "pubmed-xml",
            Self::Jats => "jats",
            Self::MimicNotes => "mimic-notes",
            Self::Redpajama => "redpajama",
            Self::Pile => "pile",
            Self::S2orc => "s2orc",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A format name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A format that is planned.
    #[error("format {name}: not there yet; convert the source to jsonl or parquet")]
    NotThereYet {
        /// The name given.
        name: String,
    },
    /// A name that means nothing.
    #[error(
        "format {name:?}: unknown: expected pubmed-xml, jats, mimic-notes, redpajama, pile, s2orc, jsonl, csv, parquet or text"
    )]
    Unknown {
        /// The name given.
        name: String,
    },
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<Self, FormatError> {
        if let Some(format) = Self::ALL.into_iter().find(|format| format.as_str() == name) {
            return Ok(format);
        }
        let name = name.to_string();
        if NOT_YET.contains(&name.as_str()) {
            return Err(FormatError::NotThereYet { name });
        }
        Err(FormatError::Unknown { name })
    }
}

/// Columns or keys of `jsonl`, `csv` and `parquet` sources; `None` takes the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    /// Native id; default `id`. Named here and absent in a record: a reject. Default and absent: a hash of the text.
    pub id: Option<String>,
    /// Text; default `text`.
    pub text: Option<String>,
    /// Title; default `title`.
    pub title: Option<String>,
    /// Year; no default.
    pub year: Option<String>,
    /// Licence; no default.
    pub licence: Option<String>,
    /// Version; no default.
    pub version: Option<String>,
}

/// What a reader must know of the source it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceContext {
    /// Name of the source in the recipe.
    pub name: String,
    /// Domain of its documents.
    pub domain: Domain,
    /// Sensitivity of its documents.
    pub sensitivity: Sensitivity,
    /// Licence of its documents where they state none themselves.
    pub licence: Option<String>,
    /// Columns.
    pub fields: Fields,
    /// What is kept of a record.
    pub read: ReadOptions,
    /// Name of the object being read, for origins.
    pub object: String,
}

impl SourceContext {
    /// A document of this source with version 1 and without title, year and meta, which the reader fills in.
    pub fn document(&self, native_id: String, text: String, byte_offset: u64) -> Document {
        Document {
            id: document_id(&self.name, &native_id),
            version: 1,
            source: self.name.clone(),
            domain: self.domain,
            native_id,
            licence: self.licence.clone(),
            sensitivity: self.sensitivity,
            title: None,
            text,
            year: None,
            origin: Origin { object: self.object.clone(), byte_offset },
            meta: std::collections::BTreeMap::new(),
        }
    }

    /// A reject of this source.
    pub fn reject(&self, byte_offset: u64, bytes: u64, reason: RejectReason) -> Reject {
        Reject { source: self.name.clone(), object: self.object.clone(), byte_offset, bytes, reason }
    }

    /// A failed read of this source's object.
    pub fn read_error(&self, byte_offset: u64, source: io::Error) -> ReadError {
        ReadError::Io { object: self.object.clone(), byte_offset, source }
    }
}

/// Limits on what a reader accepts. Exceeding one is a reject, never a panic or an allocation of the claimed size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one record, decompressed. Default 64 MiB.
    pub record_bytes: u64,
    /// Nesting of elements or values. Default 256.
    pub depth: usize,
    /// Elements of one XML record. Default 2,000,000.
    pub elements: usize,
    /// Attributes of one XML element. Default 256.
    pub attributes: usize,
    /// Decompressed bytes of one object. Default 1 TiB.
    pub object_bytes: u64,
    /// Decompressed bytes per compressed byte, once [`Limits::expansion_free_bytes`] are out. Default 250.
    pub expansion_ratio: u64,
    /// Decompressed bytes before the ratio is looked at. Default 64 MiB.
    pub expansion_free_bytes: u64,
    /// Base-2 logarithm of the largest zstd window. Default 27 (128 MiB).
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            record_bytes: 64 << 20,
            depth: 256,
            elements: 2_000_000,
            attributes: 256,
            object_bytes: 1 << 40,
            expansion_ratio: 250,
            expansion_free_bytes: 64 << 20,
            zstd_window_log: 27,
        }
    }
}

/// What a reader yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A good record.
    Document(Document),
    /// A bad one.
    Reject(Reject),
    /// A notice that takes records back. It is no record itself.
    Withdrawal(Withdrawal),
}

/// The machine failed: the bytes could not be had. Bad bytes are rejects.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The underlying store or file failed.
    #[error("{object}: byte {byte_offset}: cannot be read; run again when the storage answers")]
    Io {
        /// The object.
        object: String,
        /// How far reading had come, in the decompressed stream.
        byte_offset: u64,
        /// The failure.
        source: io::Error,
    },
}

/// A stream of items in the order of the object. After an error, or `None`, it yields `None` for ever.
pub trait Reader: Send {
    /// The next item.
    ///
    /// # Errors
    /// Inner: [`ReadError`] when the underlying bytes cannot be had.
    fn next(&mut self) -> Option<Result<Item, ReadError>>;
}

/// Opens the reader of a format.
///
/// # Errors
/// [`ReadError`] when the first bytes cannot be had.
pub fn open(format: Format, context: SourceContext, input: Input, limits: &Limits) -> Result<Box<dyn Reader>, ReadError> {
    Ok(match format {
        Format::PubmedXml => Box::new(PubmedReader::open(context, input, limits)?),
        Format::Jats => Box::new(JatsReader::open(context, input, limits)?),
        Format::MimicNotes => Box::new(MimicReader::open(context, input, limits)?),
        Format::Redpajama => Box::new(RedpajamaReader::open(context, input, limits)?),
        Format::Pile => Box::new(PileReader::open(context, input, limits)?),
        Format::S2orc => Box::new(S2orcReader::open(context, input, limits)?),
        Format::Jsonl => Box::new(JsonlReader::open(context, input, limits)?),
        Format::Csv => Box::new(CsvReader::open(context, input, limits)?),
        Format::Parquet => Box::new(ParquetReader::open(context, input, limits)?),
        Format::Text => Box::new(TextReader::open(context, input, limits)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_names() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert_eq!(
            "pmc-tar".parse::<Format>().unwrap_err().to_string(),
            "format pmc-tar: not there yet; convert the source to jsonl or parquet"
        );
        assert!(matches!("PubMed".parse::<Format>(), Err(FormatError::Unknown { name }) if name == "PubMed"));
    }
}
