//! The result of a deduplication: removals, the largest clusters, and what each source lost.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::deduplicate::DedupError;
use crate::entry::Removal;

/// Clusters that a report lists.
pub const LARGEST_CLUSTERS: usize = 20;

/// Result of [`crate::deduplicate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Removed documents, ascending by `dropped`; every number occurs at most once.
    pub removals: Vec<Removal>,
    /// What the bands and links proposed.
    pub clusters: ClusterReport,
    /// What each source lost to verified removals, in the order of the sources.
    pub losses: Vec<SourceLoss>,
    /// Pairs that the bands proposed: for each bucket of n documents, n − 1.
    pub candidates: u64,
    /// Pairs that were compared directly.
    pub comparisons: u64,
}

impl Outcome {
    /// The document that stands for `number` in the end: itself if it is kept.
    pub fn survivor(&self, number: u32) -> u32 {
        let mut at = number;
        // Rules apply in a fixed order and each keeps a document that stands then, so no chain closes.
        while let Ok(found) = self.removals.binary_search_by_key(&at, |r| r.dropped) {
            at = self.removals[found].kept;
        }
        at
    }
}

/// Connected components of the proposed pairs. A large one is no loss by itself: only verified removals are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// Number of clusters (two or more documents, at least one of this run).
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

/// What verified removals took from one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceLoss {
    /// Name of the source.
    pub source: String,
    /// Documents removed after a comparison.
    pub documents: u64,
    /// Their characters.
    pub characters: u64,
    /// Characters of all documents of the source.
    pub total_characters: u64,
    /// `characters` / `total_characters`; 0 for an empty source.
    pub share: f64,
}

impl SourceLoss {
    /// Counts one removed document.
    pub fn add(&mut self, characters: u64) {
        self.documents += 1;
        self.characters += characters;
        self.share = self.characters as f64 / self.total_characters.max(1) as f64;
    }
}

/// Refuses losses over `limit`: names the source with the largest share, of equal ones the first.
///
/// # Errors
/// [`DedupError::SourceLoss`].
pub fn check_losses(losses: &[SourceLoss], limit: f64, clusters: &ClusterReport) -> Result<(), DedupError> {
    let over = losses.iter().filter(|loss| loss.share > limit);
    let Some(worst) = over.reduce(|worst, next| if next.share > worst.share { next } else { worst }) else { return Ok(()) };
    Err(DedupError::SourceLoss {
        source_name: worst.source.clone(),
        share: worst.share,
        limit,
        clusters: Box::new(clusters.clone()),
        losses: losses.to_vec(),
    })
}

impl fmt::Display for ClusterReport {
    /// The largest clusters by the ids of their keepers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, cluster) in self.largest.iter().enumerate() {
            let between = if place == 0 { "" } else { "; " };
            let ClusterSummary { keeper, documents, removed, removed_characters } = cluster;
            write!(f, "{between}{keeper} ({documents} documents, {removed} removed, {removed_characters} characters)")?;
        }
        Ok(())
    }
}
