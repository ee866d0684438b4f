//! The sources of a domain merged into one order, each spread evenly over it, from streams of draws: nothing is held but one
//! document a source.
//!
//! It draws and sorts nothing; the streams come in order ([`crate::draw`]).

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;

use crate::draw::Draw;
use crate::mixture::SourceShare;
use crate::order::{OrderError, Placed};

/// Largest quota of a source, in tokens: it keeps the comparison of two positions inside 128 bits.
pub const MAX_SOURCE_QUOTA: u64 = 1 << 62;

/// Why the order of a domain ends early.
#[derive(Debug, thiserror::Error)]
pub enum SpreadError {
    /// Draws and shares do not belong together.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A stream of draws failed.
    #[error("order: reading sorted documents")]
    Read(#[source] io::Error),
}

/// Merges sources so that each is spread evenly over the domain: a document stands at the middle of its tokens' range as a
/// fraction of its source's quota, compared exactly; ties go to the smaller source. Every prefix therefore holds each source
/// in proportion, to within one document of each. The last document of a source is cut where the quota is reached, and the
/// `take`s sum to the quotas exactly. After an error there is nothing more.
#[derive(Debug)]
pub struct DomainOrder<I> {
    sources: Vec<Passes<I>>,
    heap: BinaryHeap<Next>,
    failed: bool,
}

impl<I: Iterator<Item = io::Result<Draw>>> DomainOrder<I> {
    /// Takes a share and its draws for each source: all documents with tokens once a pass, passes in order, as many as the
    /// share needs; of a last, partial pass what follows the quota is not read. A share of quota 0 needs no draws.
    ///
    /// # Errors
    /// [`SpreadError`] when a share contradicts itself or a first document cannot be had.
    pub fn new(sources: Vec<(SourceShare, I)>) -> Result<Self, SpreadError> {
        sources.iter().try_for_each(|(share, _)| check_share(share))?;
        let sources: Vec<Passes<I>> = sources.into_iter().map(|(share, draws)| Passes::new(share, draws)).collect();
        let mut order = Self { sources, heap: BinaryHeap::new(), failed: false };
        for index in 0..order.sources.len() {
            order.advance(index)?;
        }
        Ok(order)
    }

    fn advance(&mut self, index: usize) -> Result<(), SpreadError> {
        let source = &mut self.sources[index];
        let before = source.done;
        if let Some(placed) = source.next()? {
            // The middle of the document's tokens in its source, doubled to stay an integer.
            let middle = 2 * u128::from(before) + u128::from(placed.take);
            self.heap.push(Next { middle, quota: source.share.quota, placed, index });
        }
        Ok(())
    }
}

impl<I: Iterator<Item = io::Result<Draw>>> Iterator for DomainOrder<I> {
    type Item = Result<Placed, SpreadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.heap.pop()?;
        let advanced = self.advance(next.index);
        self.failed = advanced.is_err();
        Some(advanced.map(|()| next.placed))
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

fn check_share(share: &SourceShare) -> Result<(), OrderError> {
    let taken = u128::from(share.full_epochs) * u128::from(share.supply) + u128::from(share.remainder);
    let partial_fits = share.remainder < share.supply || share.quota == 0;
    let small = share.quota <= MAX_SOURCE_QUOTA && share.full_epochs < u64::from(u32::MAX);
    if taken != u128::from(share.quota) || !partial_fits || !small {
        let SourceShare { quota, full_epochs, remainder, .. } = *share;
        return Err(OrderError::Share { source_name: share.source.clone(), quota, full_epochs, remainder });
    }
    Ok(())
}

/// One source's passes, until its quota is reached. Every full pass is proved to give the supply.
#[derive(Debug)]
struct Passes<I> {
    share: SourceShare,
    draws: I,
    done: u64,
    epoch: u32,
    /// Tokens of this pass so far, whole documents.
    of_pass: u64,
}

impl<I: Iterator<Item = io::Result<Draw>>> Passes<I> {
    fn new(share: SourceShare, draws: I) -> Self {
        Self { share, draws, done: 0, epoch: 0, of_pass: 0 }
    }

    fn next(&mut self) -> Result<Option<Placed>, SpreadError> {
        if self.share.quota == 0 {
            return Ok(None);
        }
        if self.done == self.share.quota {
            // Whole passes end with their documents; of a partial one the rest is of no use.
            let surplus =
                if self.share.remainder == 0 { self.draws.next().transpose().map_err(SpreadError::Read)? } else { None };
            return surplus.map_or(Ok(None), |draw| Err(self.supply(u64::from(draw.run.tokens))));
        }
        let draw = self.draws.next().ok_or_else(|| self.supply(0))?.map_err(SpreadError::Read)?;
        if draw.epoch != self.epoch {
            if self.of_pass != self.share.supply || draw.epoch != self.epoch + 1 {
                return Err(self.supply(0));
            }
            (self.epoch, self.of_pass) = (draw.epoch, 0);
        }
        self.of_pass += u64::from(draw.run.tokens);
        if self.of_pass > self.share.supply {
            return Err(self.supply(0));
        }
        let left = self.share.quota - self.done;
        let take = u32::try_from(left).unwrap_or(u32::MAX).min(draw.run.tokens);
        self.done += u64::from(take);
        Ok(Some(Placed { run: draw.run, epoch: self.epoch, take }))
    }

    /// The documents' tokens, and `more` of one that came after, are not the supply.
    fn supply(&self, more: u64) -> SpreadError {
        let (found, planned) = (self.of_pass + more, self.share.supply);
        SpreadError::Order(OrderError::Supply { source_name: self.share.source.clone(), found, planned })
    }
}

#[cfg(test)]
mod tests;
