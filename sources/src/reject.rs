//! The reject: a malformed record or broken stream, with its place and reason.
//!
//! It never holds text of the record: details are names of fields and elements, sizes and limits.

use std::fmt;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// Longest name of an element or field kept in a reason, in characters.
const NAME_CHARACTERS: usize = 64;

/// Why a record was rejected. Serialized with a `code` in kebab case beside its details.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RejectReason {
    /// The object has no bytes.
    EmptyObject,
    /// A record without any text.
    EmptyRecord,
    /// The compressed stream ends before its end mark.
    TruncatedStream {
        /// `gzip`, `bzip2`, `xz` or `zstd`.
        compression: String,
    },
    /// The compressed stream does not decode (bad block, wrong checksum).
    CorruptStream {
        /// `gzip`, `bzip2`, `xz` or `zstd`.
        compression: String,
    },
    /// Bytes after the last member of a compressed stream that are no further member.
    TrailingGarbage {
        /// `gzip`, `bzip2`, `xz` or `zstd`.
        compression: String,
    },
    /// A compressed stream inside a compressed stream.
    NestedCompression,
    /// A compression that is not read.
    UnsupportedCompression {
        /// Its common name, as `lz4`.
        compression: String,
    },
    /// A limit was exceeded.
    OverLimit {
        /// The limit's name, as in [`crate::Limits`].
        limit: String,
        /// Its value.
        value: u64,
    },
    /// A character encoding that is not read.
    UnsupportedEncoding {
        /// Its name.
        encoding: String,
    },
    /// The bytes are not UTF-8.
    InvalidUtf8,
    /// The object does not begin as XML.
    NotXml,
    /// XML of another kind than PubMed citations.
    NotPubmed {
        /// Local name of the root element.
        root: String,
    },
    /// XML of another kind than JATS articles.
    NotJats {
        /// Local name of the root element.
        root: String,
    },
    /// Not well-formed XML.
    MalformedXml {
        /// What is wrong, without names taken from the data.
        what: String,
    },
    /// An entity that is neither predefined, numeric nor a named HTML entity. Declared entities are never expanded.
    UndefinedEntity {
        /// Its name.
        entity: String,
    },
    /// The object ends inside a record or before the end of its root.
    TruncatedRecord,
    /// A line or value that is not JSON.
    MalformedJson {
        /// What is wrong, without data.
        what: String,
    },
    /// A field that the recipe names is absent.
    MissingField {
        /// The field.
        field: String,
    },
    /// A field of another type than needed.
    WrongType {
        /// The field.
        field: String,
    },
    /// A field whose value cannot be used.
    InvalidValue {
        /// The field.
        field: String,
    },
    /// A row that is not CSV, or has another number of fields than the header.
    MalformedCsv {
        /// What is wrong, without data.
        what: String,
    },
    /// An object that is not Parquet or a damaged one.
    MalformedParquet {
        /// What is wrong, without data.
        what: String,
    },
    /// An object that is no tar.
    NotTar,
    /// An archive whose structure is damaged, or a member of it.
    MalformedArchive {
        /// What is wrong, without data.
        what: String,
    },
    /// An entry of an archive that is never read: a link, a device, a path that leads out of it.
    UnsafeMember {
        /// What is wrong, without its name.
        what: String,
    },
    /// A note that its own source marks as written in error.
    MarkedErroneous,
    /// A conversation that cannot be trained on.
    MalformedConversation {
        /// What is wrong, without data.
        what: String,
    },
    /// A record in a layout that is not known.
    UnknownLayout {
        /// What was looked for.
        expected: String,
    },
}

impl RejectReason {
    /// The kebab-case code, used as the name of counters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmptyObject => "empty-object",
            Self::EmptyRecord => "empty-record",
            Self::TruncatedStream { .. } => "truncated-stream",
            Self::CorruptStream { .. } => "corrupt-stream",
            Self::TrailingGarbage { .. } => "trailing-garbage",
            Self::NestedCompression => "nested-compression",
            Self::UnsupportedCompression { .. } => "unsupported-compression",
            Self::OverLimit { .. } => "over-limit",
            Self::UnsupportedEncoding { .. } => "unsupported-encoding",
            Self::InvalidUtf8 => "invalid-utf8",
            Self::NotXml => "not-xml",
            Self::NotPubmed { .. } => "not-pubmed",
            Self::NotJats { .. } => "not-jats",
            Self::MalformedXml { .. } => "malformed-xml",
            Self::UndefinedEntity { .. } => "undefined-entity",
            Self::TruncatedRecord => "truncated-record",
            Self::MalformedJson { .. } => "malformed-json",
            Self::MissingField { .. } => "missing-field",
            Self::WrongType { .. } => "wrong-type",
            Self::InvalidValue { .. } => "invalid-value",
            Self::MalformedCsv { .. } => "malformed-csv",
            Self::MalformedParquet { .. } => "malformed-parquet",
            Self::NotTar => "not-tar",
            Self::MalformedArchive { .. } => "malformed-archive",
            Self::UnsafeMember { .. } => "unsafe-member",
            Self::MarkedErroneous => "marked-erroneous",
            Self::MalformedConversation { .. } => "malformed-conversation",
            Self::UnknownLayout { .. } => "unknown-layout",
        }
    }

    /// The detail, empty for reasons that need none.
    pub fn detail(&self) -> String {
        match self {
            Self::EmptyObject
            | Self::EmptyRecord
            | Self::NestedCompression
            | Self::InvalidUtf8
            | Self::NotXml
            | Self::TruncatedRecord
            | Self::NotTar
            | Self::MarkedErroneous => String::new(),
            Self::TruncatedStream { compression: name }
            | Self::CorruptStream { compression: name }
            | Self::TrailingGarbage { compression: name }
            | Self::UnsupportedCompression { compression: name }
            | Self::UnsupportedEncoding { encoding: name }
            | Self::UndefinedEntity { entity: name }
            | Self::MalformedXml { what: name }
            | Self::MalformedJson { what: name }
            | Self::MalformedCsv { what: name }
            | Self::MalformedParquet { what: name }
            | Self::MalformedArchive { what: name }
            | Self::UnsafeMember { what: name }
            | Self::MalformedConversation { what: name } => name.clone(),
            Self::OverLimit { limit, value } => format!("{limit} = {value}"),
            Self::NotPubmed { root } | Self::NotJats { root } => format!("root element {root}"),
            Self::MissingField { field } | Self::WrongType { field } | Self::InvalidValue { field } => {
                format!("field {field}")
            }
            Self::UnknownLayout { expected } => format!("expected {expected}"),
        }
    }

    /// Malformed XML; `what` is a phrase of ours.
    pub fn malformed_xml(what: &'static str) -> Self {
        Self::MalformedXml { what: what.to_string() }
    }

    /// The same without the names of elements, entities and encodings, which come from the data.
    #[must_use]
    pub fn without_names(self) -> Self {
        let hidden = || "(not shown)".to_string();
        match self {
            Self::UndefinedEntity { .. } => Self::UndefinedEntity { entity: hidden() },
            Self::NotPubmed { .. } => Self::NotPubmed { root: hidden() },
            Self::NotJats { .. } => Self::NotJats { root: hidden() },
            Self::UnsupportedEncoding { .. } => Self::UnsupportedEncoding { encoding: hidden() },
            other => other,
        }
    }

    /// A limit exceeded; `limit` is a field of [`crate::Limits`].
    pub fn over_limit(limit: &'static str, value: u64) -> Self {
        Self::OverLimit { limit: limit.to_string(), value }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.detail();
        if detail.is_empty() { formatter.write_str(self.code()) } else { write!(formatter, "{}: {detail}", self.code()) }
    }
}

/// One malformed record or broken stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Name of the source in the recipe.
    pub source: String,
    /// Name of the object.
    pub object: String,
    /// Offset of the record's first byte in the decompressed stream.
    pub byte_offset: u64,
    /// Bytes of the record where they are known, else 0.
    pub bytes: u64,
    /// Why.
    pub reason: RejectReason,
}

/// Writes one reject as a JSON line.
///
/// # Errors
/// Those of the writer.
pub fn write_rejects(writer: &mut impl Write, reject: &Reject) -> io::Result<()> {
    let mut line = serde_json::to_vec(reject).map_err(io::Error::other)?;
    line.push(b'\n');
    writer.write_all(&line)
}

/// A name taken from the data made safe for a reason: ASCII letters, digits and `-_.:` only, at most 64 characters.
pub fn safe_name(name: &[u8]) -> String {
    name.iter()
        .take(NAME_CHARACTERS)
        .map(|&byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' => char::from(byte),
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: &RejectReason, shown: &str, json: &str) {
        assert_eq!(reason.to_string(), shown);
        assert_eq!(serde_json::to_string(reason).unwrap(), json);
        assert_eq!(serde_json::from_str::<RejectReason>(json).unwrap(), *reason);
        assert!(json.contains(&format!("\"code\":\"{}\"", reason.code())), "{json}");
    }

    #[test]
    fn codes_are_the_same_in_words_and_in_json() {
        check(&RejectReason::EmptyRecord, "empty-record", r#"{"code":"empty-record"}"#);
        check(&RejectReason::InvalidUtf8, "invalid-utf8", r#"{"code":"invalid-utf8"}"#);
        check(
            &RejectReason::NotPubmed { root: "html".to_string() },
            "not-pubmed: root element html",
            r#"{"code":"not-pubmed","root":"html"}"#,
        );
        check(
            &RejectReason::over_limit("depth", 256),
            "over-limit: depth = 256",
            r#"{"code":"over-limit","limit":"depth","value":256}"#,
        );
        check(
            &RejectReason::malformed_xml("an attribute"),
            "malformed-xml: an attribute",
            r#"{"code":"malformed-xml","what":"an attribute"}"#,
        );
    }

    #[test]
    fn one_line_a_reject() {
        let reject = Reject {
            source: "s".to_string(),
            object: "a\nb".to_string(),
            byte_offset: 3,
            bytes: 0,
            reason: RejectReason::NotXml,
        };
        let mut out = Vec::new();
        write_rejects(&mut out, &reject).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(serde_json::from_str::<Reject>(&line).unwrap(), reject);
    }

    #[test]
    fn names_from_the_data_are_made_safe() {
        assert_eq!(safe_name(b"mml:math"), "mml:math");
        assert_eq!(safe_name("<ü \n\x1b[0m".as_bytes()), "???????0m");
        assert_eq!(safe_name(&[b'a'; 500]).len(), 64);
    }
}
