//! Exports: the windows of published shards in the files of other trainers, byte for byte as those trainers' own writers lay
//! them out, with lineage beside them.
//!
//! It packs, shuffles and masks nothing anew: window `i` of an export is sequence `i` of the shards. The check of an export,
//! [`verify`], shares no code with the writers.

mod ds;
mod lineage;
mod litdata;
mod llmc;
mod manifest;
mod mds;
mod megatron;
mod object;
mod olmo;
mod python_json;
pub mod verify;
mod window;
mod write;

use std::fmt;
use std::str::FromStr;

use mellama_storage::{ProtocolError, StoreError};

use crate::error::ShardError;

pub use lineage::{DOCUMENTS_KEY, DocumentRow, DocumentTable};
pub use manifest::{ExportManifest, ExportPart, ExportRequest, ExportTotals, MANIFEST_KEY, REQUEST_KEY, SourceTokens};
pub use verify::verify_export;
pub use write::{Written, check_request, shards_digest, write_export};

/// Version of what an export's manifest, lineage and layouts are. Since 2 `OLMo`'s rows spell document keys as
/// [`crate::key::key_text`] does; in 1 they spelled them as numbers. Version 1 is verified too.
pub const EXPORT_VERSION: u32 = 2;
/// Tokens of one object, before rounding down to whole windows: 512 MiB of u16.
pub const OBJECT_TOKENS: u64 = 1 << 28;
/// Most windows of one object; it bounds the offset tables that are held in memory.
pub const MAX_OBJECT_WINDOWS: u64 = 1 << 20;

/// Whose files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Megatron-LM's indexed dataset: `.bin` and `.idx`.
    Megatron,
    /// `MosaicML` streaming: MDS version 2.
    Mds,
    /// datatrove and nanotron: `.ds` with index, loss and metadata.
    Ds,
    /// llm.c: `.bin` with a header.
    Llmc,
    /// `OLMo`: raw memory maps named `.npy`, with metadata and label masks.
    Olmo,
    /// litdata: chunks for its `TokensLoader`.
    Litdata,
}

impl Format {
    /// Every format, as the command line lists them.
    pub const ALL: [Format; 6] = [Self::Megatron, Self::Mds, Self::Ds, Self::Llmc, Self::Olmo, Self::Litdata];

    /// The name that the command line and manifests use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Megatron => "megatron",
            Self::Mds => "mds",
            Self::Ds => "ds",
            Self::Llmc => "llmc",
            Self::Olmo => "olmo",
            Self::Litdata => "litdata",
        }
    }

    /// Whether its files can say which positions are learned from.
    pub fn holds_masks(self) -> bool {
        matches!(self, Self::Mds | Self::Ds | Self::Olmo)
    }

    /// How its reader is told the length of a window of `sequence_length` tokens.
    pub fn reader_setting(self, sequence_length: u32) -> String {
        let t = sequence_length;
        match self {
            Self::Megatron => format!("sequence length {t}"),
            Self::Mds => format!("samples of {t} tokens, column tokens"),
            Self::Ds => format!("seq_len {}: its reader steps by seq_len + 1", t - 1),
            Self::Llmc => format!("sequence length (-t) {t}"),
            Self::Olmo => format!("sequence_length {t}; label_mask/ holds the masks"),
            Self::Litdata => format!("TokensLoader(block_size={t})"),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = ExportError;

    fn from_str(name: &str) -> Result<Self, ExportError> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| ExportError::UnknownFormat { given: name.chars().take(40).collect() })
    }
}

/// Why an export stops. No variant holds tokens or text.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No such format.
    #[error("export format {given:?}: not known; give one of megatron, mds, ds, llmc, olmo, litdata")]
    UnknownFormat {
        /// What was asked for, cut.
        given: String,
    },
    /// The format cannot say what the shards say, or a setting is impossible.
    #[error("export: {problem}")]
    Refused {
        /// What, why, and the remedy.
        problem: String,
    },
    /// A shard is not what its manifest says.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The protocol of parts failed.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// Writing failed.
    #[error("{subject}: {source}")]
    Io {
        /// The object.
        subject: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("export: stopped")]
    Stopped,
}

impl ExportError {
    pub(crate) fn io(subject: &str) -> impl FnOnce(std::io::Error) -> Self {
        let subject = subject.to_owned();
        move |source| Self::Io { subject, source }
    }

    pub(crate) fn refused(problem: impl Into<String>) -> Self {
        Self::Refused { problem: problem.into() }
    }
}

#[cfg(test)]
mod tests;
