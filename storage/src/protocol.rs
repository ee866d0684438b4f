//! What can go wrong between a run and its work folder, beyond the single call to the store.
//! Everything that a caller answers with another exit code has its own variant.

use crate::counts::Imbalance;
use crate::error::{StoreError, object_name};
use crate::key::Key;
use crate::sealed::SealError;
use crate::store::Store;

/// A step of the commit protocol that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The store failed; its own error says how.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work folder belongs to another plan: another recipe, other inputs or other format versions.
    #[error("{object}: belongs to plan {found}, this run is plan {wanted}; give another work folder, or --new-version")]
    OtherPlan {
        /// Store and key of what was found.
        object: String,
        /// The plan id that is there.
        found: String,
        /// The plan id of this run.
        wanted: String,
    },
    /// Two attempts of one task published different things: something in it was not deterministic. Nothing was replaced.
    #[error(
        "stage {stage} task {task}: two attempts differ: got {ours}, committed {theirs}; \
         the stage is not deterministic, report this as a bug"
    )]
    Nondeterministic {
        /// Stage name; `_SUCCESS` for the end of the run.
        stage: String,
        /// Task number, or "manifest".
        task: String,
        /// Digest of this attempt.
        ours: String,
        /// Digest of what is there.
        theirs: String,
    },
    /// A sealed object does not hold what was sealed.
    #[error("{object}: damaged; run \"mellama verify\", delete the object and run the same command again")]
    Damaged {
        /// Store and key.
        object: String,
        /// How the seal fails.
        #[source]
        source: SealError,
    },
    /// An object is not the one that its entry names.
    #[error("{object}: {what} {found}, its entry says {expected}; run \"mellama verify\", delete the object and run again")]
    Mismatch {
        /// Store and key.
        object: String,
        /// "length in bytes", "BLAKE3", "stage", "task"; of a retraction "number", "record before", "replaced object".
        what: &'static str,
        /// What the entry or the name says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A record of a retraction is not what was put there. The shards that hold are named there alone.
    #[error("{object}: damaged: {problem}; restore it from a copy and never delete it: it names the shards that hold")]
    Record {
        /// Store and key.
        object: String,
        /// How its seal fails, or what it does not agree with.
        problem: String,
    },
    /// Documents or bytes are unaccounted for, so nothing was published.
    #[error("stage {stage}: does not balance, nothing was published")]
    Imbalance {
        /// Stage name.
        stage: String,
        /// Both sides of the sum.
        #[source]
        source: Imbalance,
    },
    /// A manifest does not agree with the commits of its tasks, so it was not published.
    #[error("stage {stage}: manifest and commits disagree: {problem}; report this as a bug")]
    Manifest {
        /// Stage name.
        stage: String,
        /// What disagrees: numbers and digests.
        problem: String,
    },
    /// A plan, a commit's facts or another value cannot be written as a sealed object.
    #[error("{object}: cannot be written")]
    Unsealable {
        /// Store and key.
        object: String,
        /// Why.
        #[source]
        source: SealError,
    },
}

impl ProtocolError {
    /// The error of an object that is a record of a retraction.
    pub(crate) fn of_record(self) -> Self {
        match self {
            Self::Damaged { object, source } => Self::Record { object, problem: source.to_string() },
            Self::Mismatch { object, what, expected, found } => {
                Self::Record { object, problem: format!("{what} {found}, expected {expected}") }
            }
            other => other,
        }
    }

    pub(crate) fn length(store: &dyn Store, key: &Key, expected: u64, found: u64) -> Self {
        Self::Mismatch {
            object: object_name(store.uri(), key),
            what: "length in bytes",
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}
