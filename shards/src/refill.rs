//! What comes in the place of retracted documents: the continuation of a source's order beyond what the shards hold of it.
//!
//! Pure: counts and keys in, pieces out; sequences rebuilt from tokens that the caller gathers. It reads no file and decides
//! nothing about which documents are retracted.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::{IntoParallelRefIterator, ParallelIterator, ParallelSliceMut};

use crate::order::{ORDER_PURPOSE, Prf, Run};
use crate::sequence::{PADDING_TOKEN, Segment, Sequence};

/// Which tokens of the documents of a source the shards hold, pass by pass. Ranges that meet are one; ranges overlap where several
/// records with one key, equal in id and text, are in the shards.
///
/// A range is 32 bytes, and pieces that follow each other are one range as soon as both are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Sorted; none begins where another of the document and the pass ends.
    ranges: Vec<HeldRange>,
    /// In the order in which they came.
    fresh: Vec<HeldRange>,
}

/// Tokens of one document in one pass over its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct HeldRange {
    document: u128,
    epoch: u32,
    start: u32,
    end: u32,
}

/// New ranges after which they are sorted in, at least.
const HELD_BATCH: usize = 1 << 16;

impl Held {
    /// Adds the tokens `tokens` of a document in a pass.
    pub fn add(&mut self, epoch: u32, document: u128, tokens: Range<u32>) {
        if !tokens.is_empty() {
            self.fresh.push(HeldRange { document, epoch, start: tokens.start, end: tokens.end });
            if self.fresh.len() >= HELD_BATCH.max(self.ranges.len()) {
                self.settle();
            }
        }
    }

    /// Both together.
    #[must_use]
    pub fn with(mut self, mut other: Held) -> Held {
        other.settle();
        if self.fresh.is_empty() && self.ranges.is_empty() {
            return other;
        }
        self.fresh.append(&mut other.ranges);
        if self.fresh.len() >= HELD_BATCH.max(self.ranges.len()) {
            self.settle();
        }
        self
    }

    /// Sorts new ranges in and joins those that meet.
    fn settle(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        self.ranges.append(&mut self.fresh);
        self.fresh = Vec::new();
        self.ranges.par_sort_unstable();
        let mut joined: Vec<HeldRange> = Vec::with_capacity(self.ranges.len());
        // Of the document and the pass at hand, the ranges that the next one may continue.
        let mut open: Vec<usize> = Vec::new();
        for next in self.ranges.drain(..) {
            open.retain(|&at| {
                let last: &HeldRange = &joined[at];
                (last.document, last.epoch) == (next.document, next.epoch) && last.end >= next.start
            });
            if let Some(&at) = open.iter().find(|&&at| joined[at].end == next.start) {
                joined[at].end = next.end;
            } else {
                open.push(joined.len());
                joined.push(next);
            }
        }
        joined.shrink_to_fit();
        self.ranges = joined;
    }

    /// What is left of a document of `tokens` tokens where fewer than `copies` ranges hold it, in order.
    fn gaps(&self, epoch: u32, document: u128, tokens: u32, copies: usize) -> Vec<Range<u32>> {
        debug_assert!(self.fresh.is_empty(), "settled before it is asked");
        let first = self.ranges.partition_point(|range| (range.document, range.epoch) < (document, epoch));
        let of_document = self.ranges[first..].iter().take_while(|range| (range.document, range.epoch) == (document, epoch));
        // Where the number of ranges changes, and by how much.
        let mut steps: Vec<(u32, isize)> =
            of_document.flat_map(|range| [(range.start.min(tokens), 1), (range.end.min(tokens), -1)]).collect();
        steps.sort_unstable();
        steps.push((tokens, 0));
        let mut gaps: Vec<Range<u32>> = Vec::new();
        let (mut start, mut held) = (0, 0_isize);
        for (at, change) in steps {
            if start < at && (held as usize) < copies {
                match gaps.last_mut() {
                    Some(last) if last.end == start => last.end = at,
                    _ => gaps.push(start..at),
                }
            }
            (start, held) = (at, held + change);
        }
        gaps
    }
}

/// Consecutive tokens of a document that fill a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filling {
    /// The document.
    pub run: Run,
    /// Pass over its source.
    pub epoch: u32,
    /// First token, counted in the document.
    pub offset: u32,
    /// Number of tokens, at least 1.
    pub length: u32,
}

/// The order of a source from where the shards leave it: pass after pass in the keyed order of [`crate::order`], in each pass
/// what the shards do not hold yet, to the end of the last pass allowed.
///
/// It holds the runs of the source (32 bytes each), one permutation of them (4 bytes each), and what the shards hold of the
/// passes that it goes through.
#[derive(Debug)]
pub struct Continuation {
    prf: Prf,
    runs: Vec<Run>,
    held: Held,
    epoch: u32,
    end_epoch: u32,
    /// Rows of `runs` in the order of the current pass, drawn when the first token of it is asked for, and the next one.
    order: Option<Vec<u32>>,
    position: usize,
    /// What is left to give of the document that was begun, the next piece last.
    rest: Vec<Filling>,
}

impl Continuation {
    /// The continuation of a source whose passes before `first_epoch` are used up. `runs` are its documents for training without
    /// those that are retracted, in any order; `held` is of the passes from `first_epoch` on; `max_epochs` passes are allowed.
    pub fn new(seed: u64, mut runs: Vec<Run>, mut held: Held, first_epoch: u32, max_epochs: u32) -> Self {
        held.settle();
        runs.retain(|run| run.tokens > 0);
        // As the order does it: equal hashes are told apart the same way for any order of the input.
        runs.par_sort_unstable_by_key(|run| (run.key, run.object, run.row));
        let prf = Prf::new(seed, ORDER_PURPOSE);
        let end_epoch = if runs.is_empty() { first_epoch } else { max_epochs };
        Self { prf, runs, held, epoch: first_epoch, end_epoch, order: None, position: 0, rest: Vec::new() }
    }

    /// The next `tokens` tokens as pieces of documents; fewer when the source ends before.
    pub fn take(&mut self, tokens: u32) -> Vec<Filling> {
        let mut left = tokens;
        let mut pieces = Vec::new();
        while left > 0
            && let Some(rest) = self.rest.pop().or_else(|| self.next_document())
        {
            let length = rest.length.min(left);
            pieces.push(Filling { length, ..rest });
            left -= length;
            if length < rest.length {
                self.rest.push(Filling { offset: rest.offset + length, length: rest.length - length, ..rest });
            }
        }
        pieces
    }

    /// The first piece that the shards lack of the next document that is not whole in them; further ones are the rest.
    fn next_document(&mut self) -> Option<Filling> {
        while self.epoch < self.end_epoch {
            let order = self.order.get_or_insert_with(|| permutation(&self.prf, self.epoch, &self.runs));
            let Some(&row) = order.get(self.position) else {
                (self.epoch, self.position, self.order) = (self.epoch + 1, 0, None);
                continue;
            };
            self.position += 1;
            let run = self.runs[row as usize];
            let epoch = self.epoch;
            // Of several records with this key each gives what the shards hold fewer times than there are records left.
            let end = self.runs.partition_point(|other| other.key <= run.key);
            let gaps = self.held.gaps(epoch, run.key, run.tokens, end - row as usize).into_iter().rev();
            self.rest.extend(gaps.map(|gap| Filling { run, epoch, offset: gap.start, length: gap.end - gap.start }));
            if let Some(first) = self.rest.pop() {
                return Some(first);
            }
        }
        None
    }
}

fn permutation(prf: &Prf, epoch: u32, runs: &[Run]) -> Vec<u32> {
    let hashes: Vec<u64> = runs.par_iter().map(|run| prf.hash(u64::from(epoch), &run.key.to_le_bytes())).collect();
    let count = u32::try_from(runs.len()).expect("a source has fewer than 2^32 documents");
    let mut order: Vec<u32> = (0..count).collect();
    order.par_sort_unstable_by_key(|&row| (hashes[row as usize], row));
    order
}

/// A place that a retracted document leaves in the shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// Source of the document, as [`Run::source`] counts them.
    pub source: u16,
    /// Tokens to fill.
    pub tokens: u32,
    /// What fills it, in order.
    pub filling: Vec<Filling>,
}

impl Hole {
    /// A hole that nothing fills yet.
    pub fn new(source: u16, tokens: u32) -> Self {
        Self { source, tokens, filling: Vec::new() }
    }

    /// Tokens that nothing fills.
    pub fn short(&self) -> u32 {
        self.tokens - self.filling.iter().map(|piece| piece.length).sum::<u32>()
    }
}

/// Fills the holes of one domain in their order: first each from its own source; what is short then from the domain's sources in
/// the order of `sources`. `continuation` opens one; it is asked once a source, and only for sources that are needed.
///
/// # Errors
/// The first of `continuation`.
pub fn fill<E>(
    holes: &mut [&mut Hole],
    sources: &[u16],
    mut continuation: impl FnMut(u16) -> Result<Continuation, E>,
) -> Result<(), E> {
    let mut open: BTreeMap<u16, Continuation> = BTreeMap::new();
    for source in sources {
        for hole in holes.iter_mut().filter(|hole| hole.source == *source) {
            fill_from(&mut open, *source, hole, &mut continuation)?;
        }
    }
    for source in sources {
        for hole in holes.iter_mut() {
            fill_from(&mut open, *source, hole, &mut continuation)?;
        }
    }
    Ok(())
}

fn fill_from<E>(
    open: &mut BTreeMap<u16, Continuation>,
    source: u16,
    hole: &mut Hole,
    continuation: &mut impl FnMut(u16) -> Result<Continuation, E>,
) -> Result<(), E> {
    let short = hole.short();
    if short == 0 {
        return Ok(());
    }
    if let std::collections::btree_map::Entry::Vacant(entry) = open.entry(source) {
        entry.insert(continuation(source)?);
    }
    hole.filling.extend(open.get_mut(&source).into_iter().flat_map(|open| open.take(short)));
    Ok(())
}

/// Tokens that come in the place of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Token ids, at least one.
    pub tokens: Vec<u32>,
    /// Document key.
    pub document: u128,
    /// Source, an index into the shard header's list.
    pub source: u16,
    /// First token, counted in the document.
    pub offset: u32,
    /// Pass over the source.
    pub epoch: u32,
}

/// The sequence with patches in the place of the segments that begin at the positions of `replaced`; an empty list takes the
/// segment out. What follows closes up, the rest of the T positions is padding, and patches that follow each other in one document
/// become one segment. `None` when no token is left.
pub fn rebuild(sequence: &Sequence, replaced: &BTreeMap<u32, Vec<Patch>>) -> Option<Sequence> {
    let length = sequence.tokens.len();
    let mut built =
        Built { tokens: Vec::with_capacity(length), mask: Vec::with_capacity(length), segments: Vec::new(), joins: false };
    for (range, segment) in sequence.segment_ranges() {
        let (start, end) = (range.start as usize, range.end as usize);
        if let Some(patches) = replaced.get(&range.start) {
            for patch in patches {
                built.patch(patch);
            }
        } else {
            built.tokens.extend_from_slice(&sequence.tokens[start..end]);
            match &sequence.loss_mask {
                Some(mask) => built.mask.extend_from_slice(&mask[start..end]),
                None => built.mask.resize(built.tokens.len(), true),
            }
            built.segments.push(Segment { end: built.tokens.len() as u32, ..*segment });
            built.joins = false;
        }
    }
    built.tokens.resize(length, PADDING_TOKEN);
    built.mask.resize(length, false);
    let loss_mask = sequence.loss_mask.as_ref().map(|_| built.mask);
    (!built.segments.is_empty()).then_some(Sequence { tokens: built.tokens, segments: built.segments, loss_mask })
}

/// A sequence being rebuilt.
struct Built {
    tokens: Vec<u32>,
    mask: Vec<bool>,
    segments: Vec<Segment>,
    /// The last segment is a patch, which the next one may go on with.
    joins: bool,
}

impl Built {
    fn patch(&mut self, patch: &Patch) {
        let start = self.tokens.len() as u32;
        self.tokens.extend_from_slice(&patch.tokens);
        self.mask.resize(self.tokens.len(), true);
        let end = self.tokens.len() as u32;
        let begin = self.segments.len().checked_sub(2).map_or(0, |before| self.segments[before].end);
        let goes_on = |last: &Segment| {
            let same = (last.document, last.epoch, last.source) == (patch.document, patch.epoch, patch.source);
            same && last.offset + (last.end - begin) == patch.offset && last.end == start
        };
        if let Some(last) = self.segments.last_mut().filter(|last| self.joins && goes_on(last)) {
            last.end = end;
        } else {
            let Patch { document, source, offset, epoch, .. } = *patch;
            self.segments.push(Segment { end, document, source, offset, epoch });
        }
        self.joins = true;
    }
}

#[cfg(test)]
mod tests;
