//! The result of a deduplication: removals, the largest clusters, and what each source lost.

use serde::{Deserialize, Serialize};

use crate::entry::Removal;

/// Clusters that a report lists.
pub const LARGEST_CLUSTERS: usize = 20;

/// Result of [`crate::deduplicate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Removed documents, ascending by `dropped`; every index occurs at most once.
    pub removals: Vec<Removal>,
    /// What the bands proposed.
    pub clusters: ClusterReport,
    /// What each source lost to near-duplicates, in the order of the sources.
    pub losses: Vec<SourceLoss>,
    /// Pairs that the bands proposed: for each bucket of n documents, n − 1.
    pub candidates: u64,
    /// Pairs that were compared directly.
    pub comparisons: u64,
}

impl Outcome {
    /// The entry that stands for `index` in the end: itself if it is kept.
    pub fn survivor(&self, index: usize) -> usize {
        let mut at = index;
        // Rules apply in a fixed order and each keeps an entry of higher priority, so no chain closes.
        while let Ok(found) = self.removals.binary_search_by_key(&at, |r| r.dropped) {
            at = self.removals[found].kept;
        }
        at
    }
}

/// Connected components of the proposed pairs. A large one is no loss by itself: only verified removals are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// Number of clusters (two or more documents).
    pub clusters: u64,
    /// Documents in them.
    pub documents: u64,
    /// The [`LARGEST_CLUSTERS`] largest, by documents, then by priority of the keeper.
    pub largest: Vec<ClusterSummary>,
}

/// One proposed cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSummary {
    /// Id of the document of highest priority.
    pub keeper: String,
    /// Documents of the cluster, the keeper included.
    pub documents: u64,
    /// Documents of it that were removed.
    pub removed: u64,
    /// Characters of the removed ones.
    pub removed_characters: u64,
}

/// What verified near-duplicates took from one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceLoss {
    /// Name of the source.
    pub source: String,
    /// Documents removed as near-duplicates.
    pub documents: u64,
    /// Their characters.
    pub characters: u64,
    /// Characters of all entries of the source.
    pub total_characters: u64,
    /// `characters` / `total_characters`; 0 for an empty source.
    pub share: f64,
}
