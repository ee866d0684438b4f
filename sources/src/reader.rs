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
use crate::jsonl::JsonlReader;
use crate::mimic::MimicReader;
use crate::mimic_cxr::MimicCxrReader;
use crate::options::ReadOptions;
use crate::parquet_reader::ParquetReader;
use crate::pile::PileReader;
use crate::pmc_tar::{PmcTarReader, open_jats, without_tar};
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
    /// PMC bulk packages: JATS articles in a tar.
    PmcTar,
    /// MIMIC notes as published on `PhysioNet` (CSV).
    MimicNotes,
    /// MIMIC-CXR reports as published on `PhysioNet`: text files, alone or in a tar or zip.
    MimicCxr,
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

impl Format {
    /// Every format.
    pub const ALL: [Self; 12] = [
        Self::PubmedXml,
        Self::Jats,
        Self::PmcTar,
        Self::MimicNotes,
        Self::MimicCxr,
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
            Self::PmcTar => "pmc-tar",
            Self::MimicNotes => "mimic-notes",
            Self::MimicCxr => "mimic-cxr",
            Self::Redpajama => "redpajama",
            Self::Pile => "pile",
            Self::S2orc => "s2orc",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Text => "text",
        }
    }

    /// Whether an object of this name is best read in any order, as [`Input::Random`]: Parquet, and the zip of MIMIC-CXR. As a
    /// stream it would be read into memory, and once [`Input::Decoded`] a zip cannot be read at all.
    pub fn wants_random_access(self, object: &str) -> bool {
        let is_zip = || object.rsplit('.').next().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"));
        self == Self::Parquet || (self == Self::MimicCxr && is_zip())
    }

    /// Whether the objects of a source are one sequence of updates, in which a later record of an id takes the place of the
    /// earlier ones and notices take records back.
    pub fn is_sequence(self) -> bool {
        matches!(self, Self::PubmedXml)
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
    /// A name that means nothing.
    #[error(
        "format {name:?}: unknown: expected pubmed-xml, jats, pmc-tar, mimic-notes, mimic-cxr, redpajama, pile, s2orc, jsonl, csv, \
         parquet or text"
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
        Err(FormatError::Unknown { name: name.to_owned() })
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

    /// A reject of this source; where it is not open, without names that stand in the data.
    pub fn reject(&self, byte_offset: u64, bytes: u64, reason: RejectReason) -> Reject {
        let reason = if self.sensitivity == Sensitivity::Open { reason } else { reason.without_names() };
        Reject { source: self.name.clone(), object: self.object.clone(), byte_offset, bytes, reason }
    }

    /// A failed read of this source's object.
    pub fn read_error(&self, byte_offset: u64, source: io::Error) -> ReadError {
        ReadError::Io { object: self.object.clone(), byte_offset, source }
    }
}

/// Limits on what a reader accepts. Exceeding one is a reject, never a panic or an allocation of the claimed size.
/// As a table of a recipe, every key may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one record, decompressed. Default 64 MiB.
    pub record_bytes: u64,
    /// Nesting of elements or values, 512 at most. Default 256.
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
    /// Bytes of memory that an xz stream may need to be read, its dictionary above all. Default 128 MiB.
    pub xz_memory_bytes: u64,
    /// Bytes of the name of an archive's member. Default 4,096.
    pub member_name_bytes: usize,
    /// Bytes of an archive's extended header. Default 1 MiB.
    pub member_header_bytes: usize,
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
            xz_memory_bytes: 128 << 20,
            member_name_bytes: 4_096,
            member_header_bytes: 1 << 20,
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

impl Item {
    /// Where it begins in the decompressed object.
    pub fn byte_offset(&self) -> u64 {
        match self {
            Self::Document(document) => document.origin.byte_offset,
            Self::Reject(reject) => reject.byte_offset,
            Self::Withdrawal(notice) => notice.byte_offset,
        }
    }
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

    /// Says that no item is wanted before the first one at this offset of the decompressed object or behind it. A reader may
    /// leave them out on its way; it may yield them as well.
    fn pass_to(&mut self, _offset: u64) {}
}

/// Opens the reader of a format.
///
/// # Errors
/// [`ReadError`] when the first bytes cannot be had.
pub fn open(format: Format, context: SourceContext, input: Input, limits: &Limits) -> Result<Box<dyn Reader>, ReadError> {
    let input = match format {
        Format::MimicNotes | Format::Redpajama | Format::Pile | Format::S2orc | Format::Jsonl | Format::Csv | Format::Text => {
            match without_tar(&context, input, limits)? {
                Ok(input) => input,
                Err(refused) => return Ok(Box::new(refused)),
            }
        }
        _ => input,
    };
    Ok(match format {
        Format::PubmedXml => Box::new(PubmedReader::open(context, input, limits)?),
        Format::Jats => open_jats(context, input, limits)?,
        Format::PmcTar => Box::new(PmcTarReader::open(context, input, limits)?),
        Format::MimicNotes => Box::new(MimicReader::open(context, input, limits)?),
        Format::MimicCxr => Box::new(MimicCxrReader::open(context, input, limits)?),
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
    fn limits_of_a_recipe() {
        let given: Limits = serde_json::from_str(r#"{"depth": 9, "xz_memory_bytes": 1024}"#).unwrap();
        assert_eq!(given, Limits { depth: 9, xz_memory_bytes: 1_024, ..Limits::default() });
        let written = serde_json::to_string(&Limits::default()).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&written).unwrap(), Limits::default());
        assert!(serde_json::from_str::<Limits>(r#"{"record_byte": 1}"#).is_err());
    }

    #[test]
    fn format_names() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert_eq!(Format::ALL.into_iter().filter(|format| format.is_sequence()).collect::<Vec<_>>(), [Format::PubmedXml]);
        assert!(Format::MimicCxr.wants_random_access("files/mimic-cxr-reports.ZIP"));
        assert!(!Format::MimicCxr.wants_random_access("mimic-cxr-reports.zip/files.tar.gz"));
        assert!(!Format::PmcTar.wants_random_access("a.zip"));
        let unknown = "PubMed".parse::<Format>().unwrap_err().to_string();
        assert!(unknown.starts_with("format \"PubMed\": unknown: expected "), "{unknown}");
        assert!(Format::ALL.iter().all(|format| unknown.contains(format.as_str())), "{unknown}");
    }
}
