//! Checkpoints of a training run in a work folder: files first, a sealed manifest last.
//!
//! A folder without a manifest does not exist for a resumed run; a folder with one is believed only after every file
//! has been hashed. Each rank writes its own files, and any number of ranks reads them. What the numbers mean is the trainer's concern.

mod files;
mod manifest;
mod pieces;
mod read;
pub mod tensor_file;
mod tensors;
mod write;

#[cfg(test)]
mod tests;

pub use files::{FILE_LIMIT_BYTES, cut, file_name};
pub use manifest::{CheckpointManifest, Cursor, Digests, FORMAT_VERSION, folder, parse_step};
pub use pieces::{Partition, Piece};
pub use read::{Found, check_object, list_steps, newest, newest_of, read_file};
pub use tensors::{FileKind, Share, TensorSet, TensorValues, Written, put_tensors};
pub use write::{CheckpointWriter, discard_after, prune, publish, sweep};

use mellama_storage::{ProtocolError, StoreError};

use self::tensor_file::TensorFileError;

/// A checkpoint that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store or its protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A tensor file is damaged or does not fit the model.
    #[error("{folder}: damaged, or of another model")]
    Tensors {
        /// Folder of the checkpoint.
        folder: String,
        /// The cause.
        source: TensorFileError,
    },
    /// A file is not the one that the manifest lists.
    #[error("{key}: {problem}; delete {folder} to go on from {previous}, or restore the file")]
    Damaged {
        /// The file.
        key: String,
        /// What differs.
        problem: String,
        /// Folder of the checkpoint.
        folder: String,
        /// The complete checkpoint before it, or the start.
        previous: String,
    },
    /// Another manifest stands where this one belongs.
    #[error("{key}: another manifest is there; two runs write to one folder, or training was not deterministic")]
    Conflict {
        /// The manifest.
        key: String,
    },
    /// A manifest lists no file of this name.
    #[error("{folder}: manifest.json lists no {file}; another version of the program wrote it")]
    NotListed {
        /// Folder of the checkpoint.
        folder: String,
        /// The file.
        file: String,
    },
    /// A manifest of another format version.
    #[error("{folder}: format {got}, expected 1 to {FORMAT_VERSION}; use the version of the program that wrote it")]
    Format {
        /// Folder of the checkpoint.
        folder: String,
        /// Its version.
        got: u32,
    },
    /// A small file inside a checkpoint is not what was written.
    #[error("{key}: {problem}")]
    Content {
        /// The file.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

impl CheckpointError {
    /// Whether the store is in trouble, so that a later checkpoint may succeed: not where other contents are in the way of this one,
    /// nor where the store will never take it.
    pub fn is_of_store(&self) -> bool {
        self.store_error().is_some_and(|error| {
            !matches!(
                error,
                StoreError::Exists { .. }
                    | StoreError::InvalidKey { .. }
                    | StoreError::Unsupported { .. }
                    | StoreError::OutsideRoot { .. }
                    | StoreError::Interrupted { .. }
            )
        })
    }

    /// Whether what failed may yet take effect.
    fn is_unknown(&self) -> bool {
        self.store_error().is_some_and(StoreError::is_unknown)
    }

    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Protocol(ProtocolError::Store(error)) | Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
