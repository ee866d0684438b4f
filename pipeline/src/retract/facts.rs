//! What a retraction's record says of documents and tokens: the `facts` of the sealed record, read again by everything that
//! must know what is no longer there.

use std::collections::{BTreeMap, BTreeSet};

use mellama_shards::key_of_text;
use mellama_storage::{Retraction, Workdir};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::plan::KEYS_SINCE;

/// What was taken out and what came in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetractionFacts {
    /// The ids that asked for it and were found, sorted.
    pub asked: Vec<String>,
    /// Documents and conversations retracted, by id, version and key.
    pub documents: Vec<RetractedDocument>,
    /// Changes of `train`, `heldout` and `instruct`; parts that held nothing of it are left out.
    pub parts: BTreeMap<String, PartChange>,
    /// Training tokens by source of the corpus; sources without a change are left out.
    pub sources: BTreeMap<String, SourceChange>,
    /// Retracted documents that had been dropped as duplicates, and what stands in their place.
    pub copies: Vec<CopyOf>,
    /// Folders of the checkpoints that were there: their models were trained before the retraction.
    pub checkpoints: Vec<String>,
}

/// A retracted document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RetractedDocument {
    /// Document id.
    pub id: String,
    /// Version of the record.
    pub version: u32,
    /// Document key: its 16 bytes, as tables hold them, in hexadecimal digits.
    pub key: String,
    /// Segments that were in the shards; 0 where it was in none.
    pub segments: u64,
    /// Their tokens.
    pub tokens: u64,
}

/// What changed in one part of the shards, in tokens where nothing else is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartChange {
    /// Shards replaced or removed.
    pub shards: u64,
    /// Segments taken out.
    pub segments: u64,
    /// Taken out.
    pub tokens: u64,
    /// Filled by the continuation of the order.
    pub refilled: u64,
    /// Missing to the quota, padding now: the domain has no more within its `max_epochs`.
    pub short: u64,
    /// Sequences left without a token, and left out.
    pub sequences: u64,
    /// Segments that came in the place of those taken out; null in records of before they were counted.
    #[serde(default)]
    pub segments_filled: Option<u64>,
}

/// Training tokens of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceChange {
    /// Taken out.
    pub tokens: u64,
    /// Filled in.
    pub refilled: u64,
}

/// A retracted document whose text another document may hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CopyOf {
    /// The retracted document.
    pub id: String,
    /// What stands in its place.
    pub kept_id: String,
    /// The rule by which it had been dropped.
    pub rule: String,
    /// The earlier release that keeps it; empty for this run.
    pub kept_release: String,
    /// What stands in its place is retracted too, by this record or an earlier one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept_retracted: bool,
}

impl RetractedDocument {
    /// The document key, where the record holds one.
    pub(crate) fn number(&self) -> Option<u128> {
        key_of_text(&self.key)
    }
}

/// The facts of a record.
///
/// # Errors
/// `Failure::Verification` when they are not those of a retraction.
pub fn facts_of(record: &Retraction) -> Result<RetractionFacts, Failure> {
    serde_json::from_value(record.facts.clone())
        .map_err(|e| Failure::Verification(format!("{}: facts not understood: {e}", record.key())))
}

/// The keys of all documents that are retracted in a folder, of an earlier version too.
///
/// # Errors
/// As `Workdir::read_retractions` and [`facts_of`].
pub(crate) fn retracted_keys(workdir: &Workdir, plan: &str) -> Result<BTreeSet<u128>, Failure> {
    let keys = keys_of(&workdir.read_retractions(plan)?)?;
    let format = workdir.read_plan()?.and_then(|plan| plan["format"].as_u64()).unwrap_or(0);
    // Earlier versions wrote keys as numbers.
    Ok(if format < u64::from(KEYS_SINCE) { keys.into_iter().map(u128::swap_bytes).collect() } else { keys })
}

/// The keys of all documents that the records name.
///
/// # Errors
/// As [`facts_of`].
pub(crate) fn keys_of(records: &[Retraction]) -> Result<BTreeSet<u128>, Failure> {
    let mut keys = BTreeSet::new();
    for record in records {
        for document in facts_of(record)?.documents {
            let unreadable = || Failure::Verification(format!("{}: a document key that is none", record.key()));
            keys.insert(document.number().ok_or_else(unreadable)?);
        }
    }
    Ok(keys)
}
