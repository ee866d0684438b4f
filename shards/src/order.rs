//! The order of a domain's documents: a keyed, exactly uniform permutation per source and pass, sources spread evenly.
//!
//! It works on document keys and token counts alone, so it is the same for any number of threads, tasks or input order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rayon::prelude::{IntoParallelRefIterator, ParallelIterator, ParallelSliceMut};

pub use crate::interleave::Interleave;
use crate::mixture::SourceShare;

/// Purpose of [`prf`] under which documents are ordered.
pub const ORDER_PURPOSE: &str = "order";

/// A keyed pseudo-random function for one seed and purpose; see [`prf`].
#[derive(Clone)]
pub struct Prf {
    key: [u8; 32],
}

impl Prf {
    /// The function of this seed and purpose. Different purposes are independent of each other.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"mellama-prf-1\0").update(&seed.to_le_bytes()).update(purpose.as_bytes());
        Self { key: *hasher.finalize().as_bytes() }
    }

    /// First 8 bytes, little-endian, of BLAKE3 keyed over `epoch` (8 bytes, little-endian) and `id`.
    pub fn hash(&self, epoch: u64, id: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&epoch.to_le_bytes()).update(id);
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

impl std::fmt::Debug for Prf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prf").finish_non_exhaustive()
    }
}

/// The pseudo-random 64 bits of `(epoch, id)` under `seed` and `purpose`: BLAKE3 keyed with
/// `BLAKE3("mellama-prf-1" NUL seed purpose)`, first 8 bytes little-endian. Frozen: it decides the order of published shards.
pub fn prf(seed: u64, purpose: &str, epoch: u64, id: &[u8]) -> u64 {
    Prf::new(seed, purpose).hash(epoch, id)
}

/// One document's tokens, where they lie and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Token object that holds them, as the caller numbers objects.
    pub object: u32,
    /// Row of the object's index.
    pub row: u32,
    /// Number of tokens.
    pub tokens: u32,
    /// Document key, see [`crate::lineage::document_key`].
    pub key: u128,
    /// Source, as the caller numbers sources.
    pub source: u16,
}

/// A document in the training order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The document.
    pub run: Run,
    /// Which pass over its source this is, from 0.
    pub epoch: u32,
    /// Tokens used, from its start: all of them, except for the last document of a source's partial pass.
    pub take: u32,
}

/// Why documents cannot be ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// As many lists of runs as shares are needed.
    #[error("order: {runs} lists of runs, expected one for each of {shares} shares")]
    Sources {
        /// Lists given.
        runs: usize,
        /// Shares given.
        shares: usize,
    },
    /// The runs of a source do not sum to the supply that was planned with.
    #[error("order: source {source_name}: {found} tokens in its runs, mixture planned with {planned}; plan again")]
    Supply {
        /// Name of the source.
        source_name: String,
        /// Tokens of its runs.
        found: u64,
        /// Tokens of its share's supply.
        planned: u64,
    },
    /// A share whose quota is not its epochs and remainder, or has more passes than 32 bits count.
    #[error("order: source {source_name}: quota {quota} is not {full_epochs} passes and {remainder} tokens")]
    Share {
        /// Name of the source.
        source_name: String,
        /// Tokens to take.
        quota: u64,
        /// Full passes.
        full_epochs: u64,
        /// Tokens of the partial pass.
        remainder: u64,
    },
}

/// The documents of one domain in training order; `runs_by_source[i]` belongs to `shares[i]`.
///
/// Each source's documents come pass after pass, every pass in its own keyed order, the last one cut where the quota is
/// reached. Sources are merged so that each is spread evenly over the domain: a document stands at the middle of its tokens'
/// range as a fraction of its source's quota. Every prefix therefore holds each source in proportion, to within one document
/// of each. Documents without tokens are left out. `sum(take)` is the domain's quota exactly.
///
/// # Errors
/// [`OrderError`] when runs and shares do not belong together.
pub fn order_domain(seed: u64, runs_by_source: Vec<Vec<Run>>, shares: &[SourceShare]) -> Result<Vec<Placed>, OrderError> {
    Ok(DomainOrder::new(seed, runs_by_source, shares)?.collect())
}

/// The order of [`order_domain`] one document at a time, with one permutation a source in memory instead of the whole list.
#[derive(Debug)]
pub struct DomainOrder {
    sources: Vec<Passes>,
    heap: BinaryHeap<Next>,
}

impl DomainOrder {
    /// Checks runs against shares and draws every source's first pass.
    ///
    /// # Errors
    /// [`OrderError`] when runs and shares do not belong together.
    pub fn new(seed: u64, runs_by_source: Vec<Vec<Run>>, shares: &[SourceShare]) -> Result<Self, OrderError> {
        if runs_by_source.len() != shares.len() {
            return Err(OrderError::Sources { runs: runs_by_source.len(), shares: shares.len() });
        }
        let prf = Prf::new(seed, ORDER_PURPOSE);
        let mut order = Self { sources: Vec::new(), heap: BinaryHeap::new() };
        for (runs, share) in runs_by_source.into_iter().zip(shares) {
            check_share(&runs, share)?;
            order.sources.push(Passes::new(prf.clone(), runs, share.quota));
        }
        for index in 0..order.sources.len() {
            order.advance(index);
        }
        Ok(order)
    }

    fn advance(&mut self, index: usize) {
        let source = &mut self.sources[index];
        let before = source.done;
        if let Some(placed) = source.next() {
            // The middle of the document's tokens in its source, doubled to stay an integer.
            let middle = 2 * u128::from(before) + u128::from(placed.take);
            self.heap.push(Next { middle, quota: source.quota, placed, index });
        }
    }
}

impl Iterator for DomainOrder {
    type Item = Placed;

    fn next(&mut self) -> Option<Placed> {
        let next = self.heap.pop()?;
        self.advance(next.index);
        Some(next.placed)
    }
}

/// The head of one source in the merge, ordered so that the smallest position comes out of the heap first.
#[derive(Debug)]
struct Next {
    middle: u128,
    quota: u64,
    placed: Placed,
    index: usize,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        // middle / quota as exact fractions: middle <= 2^63 and quota <= 2^62 by MAX_SOURCE_QUOTA, so the products fit.
        let position = (self.middle * u128::from(other.quota)).cmp(&(other.middle * u128::from(self.quota)));
        let tie = |next: &Self| (next.placed.run.source, next.index);
        position.then_with(|| tie(self).cmp(&tie(other))).reverse()
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}

/// Largest quota of a source, in tokens: it keeps the comparison of two positions inside 128 bits.
pub const MAX_SOURCE_QUOTA: u64 = 1 << 62;

fn check_share(runs: &[Run], share: &SourceShare) -> Result<(), OrderError> {
    let found: u64 = runs.iter().map(|run| u64::from(run.tokens)).sum();
    if found != share.supply {
        return Err(OrderError::Supply { source_name: share.source.clone(), found, planned: share.supply });
    }
    let taken = u128::from(share.full_epochs) * u128::from(share.supply) + u128::from(share.remainder);
    let partial_fits = share.remainder < share.supply || share.quota == 0;
    let small = share.quota <= MAX_SOURCE_QUOTA && share.full_epochs < u64::from(u32::MAX);
    if taken != u128::from(share.quota) || !partial_fits || !small {
        let SourceShare { quota, full_epochs, remainder, .. } = *share;
        return Err(OrderError::Share { source_name: share.source.clone(), quota, full_epochs, remainder });
    }
    Ok(())
}

/// One source's passes in order, until its quota is reached.
#[derive(Debug)]
struct Passes {
    prf: Prf,
    runs: Vec<Run>,
    quota: u64,
    done: u64,
    epoch: u32,
    /// Rows of `runs` in the order of the current pass, and the next one.
    order: Vec<u32>,
    position: usize,
}

impl Passes {
    fn new(prf: Prf, mut runs: Vec<Run>, quota: u64) -> Self {
        runs.retain(|run| run.tokens > 0);
        // A canonical order first: the permutation then breaks equal hashes the same way for any input order.
        runs.par_sort_unstable_by_key(|run| (run.key, run.object, run.row));
        let mut passes = Self { prf, runs, quota, done: 0, epoch: 0, order: Vec::new(), position: 0 };
        if quota > 0 {
            passes.order = passes.permutation();
        }
        passes
    }

    fn permutation(&self) -> Vec<u32> {
        let epoch = u64::from(self.epoch);
        let hashes: Vec<u64> = self.runs.par_iter().map(|run| self.prf.hash(epoch, &run.key.to_le_bytes())).collect();
        let count = u32::try_from(self.runs.len()).expect("a source has fewer than 2^32 documents");
        let mut order: Vec<u32> = (0..count).collect();
        order.par_sort_unstable_by_key(|&row| (hashes[row as usize], row));
        order
    }

    fn next(&mut self) -> Option<Placed> {
        if self.done == self.quota {
            return None;
        }
        if self.position == self.order.len() {
            self.epoch += 1;
            self.position = 0;
            self.order = self.permutation();
        }
        let run = self.runs[self.order[self.position] as usize];
        let left = self.quota - self.done;
        let take = u32::try_from(left).unwrap_or(u32::MAX).min(run.tokens);
        self.position += 1;
        self.done += u64::from(take);
        Some(Placed { run, epoch: self.epoch, take })
    }
}

#[cfg(test)]
mod tests;
