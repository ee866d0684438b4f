//! What goes wrong with shards and token runs. No variant holds tokens or text.

use mellama_storage::{ProtocolError, StoreError};

use crate::verify::SequenceProblem;

/// An error of writing, opening or reading shards and token runs.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The file is not what it should be: its footer, header, schema or lengths are wrong.
    #[error("{subject}: {problem}; run \"mellama verify\"")]
    Corrupt {
        /// Object and place in it, as far as known.
        subject: String,
        /// What was found: got, expected.
        problem: String,
    },
    /// A format version this program does not know.
    #[error("{subject}: format version {found}, this program reads {}; use the program that wrote it, or write it again", versions(*oldest, *known))]
    Version {
        /// Object.
        subject: String,
        /// Version in the file.
        found: u32,
        /// Oldest version known here.
        oldest: u32,
        /// Newest version known here.
        known: u32,
    },
    /// A document that no format here can hold.
    #[error("{id}: {tokens} tokens, a document has at most 2147483647; split it, or lower corpus.limits.record_bytes")]
    LongDocument {
        /// Document id.
        id: String,
        /// Its tokens.
        tokens: u64,
    },
    /// A header that cannot describe a shard.
    #[error("shard header: {problem}")]
    Header {
        /// What is wrong: got, expected.
        problem: String,
    },
    /// A sequence breaks one of the rules of [`crate::verify::verify_sequence`].
    #[error("{subject}: {problem}")]
    Sequence {
        /// Object and sequence, as far as known.
        subject: String,
        /// The rule and the values.
        problem: SequenceProblem,
    },
    /// An index outside a shard or a set.
    #[error("{subject}: sequence {index}, it has {length}")]
    OutOfRange {
        /// Object or set.
        subject: String,
        /// Index asked for.
        index: u64,
        /// Number of sequences there.
        length: u64,
    },
    /// The Parquet layer failed: a checksum, a damaged page, or the reader below it.
    #[error("{subject}: {source}; run \"mellama verify\"")]
    Parquet {
        /// Object.
        subject: String,
        /// The library's error.
        source: parquet::errors::ParquetError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work folder's protocol failed.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A writer or reader below failed.
    #[error("{subject}: {source}")]
    Io {
        /// What was written or read.
        subject: String,
        /// The system's error.
        source: std::io::Error,
    },
}

fn versions(oldest: u32, known: u32) -> String {
    if oldest == known { known.to_string() } else { format!("{oldest} to {known}") }
}

impl ShardError {
    pub(crate) fn corrupt(subject: &str, problem: impl Into<String>) -> Self {
        Self::Corrupt { subject: subject.to_owned(), problem: problem.into() }
    }

    pub(crate) fn parquet(subject: &str, source: parquet::errors::ParquetError) -> Self {
        Self::Parquet { subject: subject.to_owned(), source }
    }

    pub(crate) fn io(subject: &str, source: std::io::Error) -> Self {
        Self::Io { subject: subject.to_owned(), source }
    }
}
