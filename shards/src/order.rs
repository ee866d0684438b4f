//! The order of a domain's documents: a keyed, exactly uniform permutation per source and pass, sources spread evenly.
//!
//! It works on document keys and token counts alone, so it is the same for any number of threads, tasks or input order. A
//! corpus that does not fit in memory is sorted as records of [`crate::draw`] and merged by [`crate::spread`]: the same order.

use rayon::prelude::{IntoParallelRefIterator, ParallelIterator, ParallelSliceMut};

use crate::draw::Draw;
pub use crate::interleave::Interleave;
use crate::mixture::SourceShare;
use crate::spread::{DomainOrder, SpreadError};
use crate::token_object::RunPlace;

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
    /// Document key: opaque here, its text is [`crate::key::key_text`].
    pub key: u128,
    /// Source, as the caller numbers sources.
    pub source: u16,
    /// Where the tokens lie in the object; it does not take part in the order.
    pub place: RunPlace,
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

/// Passes over its source that a share needs, the partial one included.
pub fn passes(share: &SourceShare) -> u32 {
    u32::try_from(share.full_epochs).unwrap_or(u32::MAX).saturating_add(u32::from(share.remainder > 0))
}

/// The documents of one domain in training order, all in memory; `runs_by_source[i]` belongs to `shares[i]`.
///
/// Each source's documents come pass after pass, every pass in its own keyed order, the last one cut where the quota is
/// reached; [`DomainOrder`] says how sources are merged. Documents without tokens are left out. `sum(take)` is the domain's
/// quota exactly.
///
/// # Errors
/// [`OrderError`] when runs and shares do not belong together.
pub fn order_domain(seed: u64, runs_by_source: Vec<Vec<Run>>, shares: &[SourceShare]) -> Result<Vec<Placed>, OrderError> {
    if runs_by_source.len() != shares.len() {
        return Err(OrderError::Sources { runs: runs_by_source.len(), shares: shares.len() });
    }
    let prf = Prf::new(seed, ORDER_PURPOSE);
    let mut sources = Vec::new();
    for (mut runs, share) in runs_by_source.into_iter().zip(shares) {
        let found: u64 = runs.iter().map(|run| u64::from(run.tokens)).sum();
        if found != share.supply {
            return Err(OrderError::Supply { source_name: share.source.clone(), found, planned: share.supply });
        }
        runs.retain(|run| run.tokens > 0);
        let prf = prf.clone();
        let draws = (0..passes(share)).flat_map(move |epoch| one_pass(&prf, epoch, &runs)).map(Ok);
        sources.push((share.clone(), draws));
    }
    let in_memory = |error| match error {
        SpreadError::Order(error) => error,
        SpreadError::Read(_) => unreachable!("runs in memory are not read"),
    };
    DomainOrder::new(sources).map_err(in_memory)?.map(|placed| placed.map_err(in_memory)).collect()
}

/// The documents of one pass in its order.
fn one_pass(prf: &Prf, epoch: u32, runs: &[Run]) -> Vec<Draw> {
    let mut draws: Vec<Draw> = runs.par_iter().map(|run| Draw::new(prf, epoch, *run)).collect();
    draws.par_sort_unstable_by_key(|draw| (draw.hash, draw.run.key, draw.run.object, draw.run.row));
    draws
}

#[cfg(test)]
mod tests;
