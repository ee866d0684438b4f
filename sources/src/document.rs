//! The document: one normalized text with its provenance, the unit from ingest to mixture.
//!
//! It does not clean, judge or write anything: rules live in `clean`, the form at rest in `archive`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The three parts of the training mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Domain {
    /// Research literature.
    Biomedical,
    /// Notes and reports written in care.
    Clinical,
    /// Everything else, kept against forgetting.
    General,
}

impl Domain {
    /// Every domain, in the order of the mixture.
    pub const ALL: [Self; 3] = [Self::Biomedical, Self::Clinical, Self::General];

    /// The name used in recipes and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Biomedical => "biomedical",
            Self::Clinical => "clinical",
            Self::General => "general",
        }
    }

    /// The domain with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|domain| domain.as_str() == name)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How carefully a text must be handled. Ordered: whatever is derived from several texts inherits the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sensitivity {
    /// Public.
    Open,
    /// Held under a data use agreement: never sent to an endpoint that is not local.
    Dua,
    /// Holds protected health information.
    Phi,
}

impl Sensitivity {
    /// Every level, lowest first.
    pub const ALL: [Self; 3] = [Self::Open, Self::Dua, Self::Phi];

    /// The name used in recipes and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Dua => "dua",
            Self::Phi => "phi",
        }
    }

    /// The level with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

impl fmt::Display for Sensitivity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Where a record stood in the raw data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the object, as the caller named it.
    pub object: String,
    /// Offset of the record's first byte in the *decompressed* stream of that object; the row number for Parquet.
    pub byte_offset: u64,
}

/// One normalized text with its provenance.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// `SOURCE:NATIVE_ID`. Records may share it; [`Document::key`] tells their texts apart.
    pub id: String,
    /// Version of the record as its source counts them; 1 where the source has none.
    pub version: u32,
    /// Name of the source in the recipe.
    pub source: String,
    /// Part of the mixture it belongs to.
    pub domain: Domain,
    /// The source's own identifier verbatim (PMID, PMCID, note id), else [`text_id`] of the text.
    pub native_id: String,
    /// Short licence code where recognized (`CC-BY-4.0`), else what the source states, else nothing.
    pub licence: Option<String>,
    /// Handling level.
    pub sensitivity: Sensitivity,
    /// Title, also part of `text` where the format has one.
    pub title: Option<String>,
    /// Everything that is trained on.
    pub text: String,
    /// Year of publication or of the note.
    pub year: Option<u16>,
    /// Where the record stood.
    pub origin: Origin,
    /// Further facts of the record, by lower-case name. Never trained on.
    pub meta: BTreeMap<String, String>,
}

/// Debug output names the document and the length of its text, never the text or the title.
impl fmt::Debug for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Document")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("origin", &self.origin)
            .field("text_bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// `SOURCE:NATIVE_ID`.
pub fn document_id(source: &str, native_id: &str) -> String {
    format!("{source}:{native_id}")
}

/// The native id of a record that has none: the first 32 hex digits of the BLAKE3 of its text.
/// Never the position, so that it survives a re-sorted or re-split input.
pub fn text_id(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_match_serde() {
        for domain in Domain::ALL {
            assert_eq!(Domain::from_name(domain.as_str()), Some(domain));
            assert_eq!(serde_json::to_value(domain).unwrap(), domain.as_str());
        }
        for level in Sensitivity::ALL {
            assert_eq!(Sensitivity::from_name(level.as_str()), Some(level));
            assert_eq!(serde_json::to_value(level).unwrap(), level.as_str());
        }
        assert_eq!(Domain::from_name("Clinical"), None);
        assert_eq!(Sensitivity::from_name(""), None);
    }

    #[test]
    fn highest_sensitivity_wins() {
        assert_eq!(Sensitivity::ALL.into_iter().max(), Some(Sensitivity::Phi));
        assert!(Sensitivity::Open < Sensitivity::Dua);
    }

    #[test]
    fn text_id_is_the_head_of_blake3() {
        // Published BLAKE3 vector of the empty input.
        assert_eq!(text_id(""), "af1349b9f5f9a1a6a0404dea36dcc949");
        assert_eq!(document_id("pubmed", "123"), "pubmed:123");
    }

    #[test]
    fn debug_output_holds_no_text() {
        let document = Document {
            id: "s:1".into(),
            version: 1,
            source: "s".into(),
            domain: Domain::Clinical,
            native_id: "1".into(),
            licence: None,
            sensitivity: Sensitivity::Phi,
            title: Some("CANARY".into()),
            text: "CANARY".into(),
            year: None,
            origin: Origin { object: "o".into(), byte_offset: 7 },
            meta: BTreeMap::from([("k".into(), "CANARY".into())]),
        };
        assert!(!format!("{document:?}").contains("CANARY"));
    }
}
