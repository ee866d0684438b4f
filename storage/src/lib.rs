//! Objects, where they live, and the protocol that makes them exist: one small [`Store`] trait with its backends, and the
//! put-if-absent commits, manifests and verification of a [`Workdir`]. It knows nothing of documents, recipes or stages'
//! meaning. Threads are started for buckets alone: two that move bytes, and those of reads and parts side by side.
//!
//! The promise kept here: work happens at least once, visible output exactly once. An object appears under its name
//! complete or not at all, is never modified afterwards, and is believed only when its length and BLAKE3 agree with the
//! commit, manifest, retraction or checkpoint that names it.

pub mod contract;

mod block_cache;
mod commit;
mod counts;
mod error;
mod fault;
mod key;
mod local;
mod manifest;
mod memory;
mod part;
mod protocol;
mod range;
mod retraction;
mod s3;
pub mod sealed;
mod store;
mod stores;
mod usage;
mod verify;
mod workdir;

pub use block_cache::BlockCache;
pub use commit::{CommitOutcome, ObjectEntry, TaskCommit};
pub use counts::{Counts, Imbalance, Tally};
pub use error::StoreError;
pub use fault::{Effect, Fault, FaultStore, Operation, Refusal, Schedule};
pub use key::{AttemptId, ETag, Key, MAX_KEY_BYTES, ObjectMeta, PutOutcome};
pub use local::LocalStore;
pub use manifest::StageManifest;
pub use memory::MemoryStore;
pub use part::PartWriter;
pub use protocol::ProtocolError;
pub use range::RangeReader;
pub use retraction::{Replacement, Retraction, RetractionOutcome};
pub use s3::{
    AccessKeys, Checksum, Encryption, Held, Interrupt, READ_BYTES, S3Options, S3Store, check_endpoint, requests_to_read,
    requests_to_write,
};
pub use store::{LIST_PAGE, PUT_LIMIT_BYTES, Stale, Store, Upload, list_all, preflight, sweep};
pub use stores::{Stores, foreign_scheme, is_bucket};
pub use usage::{Meter, Request, Usage};
pub use verify::{Finding, Problem, Survey, VerifyReport};
pub use workdir::{VERSIONS_FOLDER, Workdir};
