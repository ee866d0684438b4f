//! Whether the pieces of every document fit together across the shards of a set.
//!
//! It looks at segments alone, never at tokens.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::format::Sequence;

/// Checks across a set that the pieces of every document in every epoch tile it from its first token, without gap or overlap.
///
/// Memory grows with the number of documents; `part` of `parts` takes the documents whose key falls there, so that a set of
/// any size is checked in several bounded passes.
#[derive(Debug)]
pub struct Continuity {
    part: u64,
    parts: u64,
    documents: BTreeMap<(u128, u32), Pieces>,
}

#[derive(Debug)]
struct Pieces {
    source: u16,
    sources_differ: bool,
    ranges: Vec<Range<u32>>,
}

/// A document whose pieces do not tile it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discontinuity {
    /// Document key.
    pub document: u128,
    /// Pass over its source.
    pub epoch: u32,
    /// What is wrong.
    pub problem: DiscontinuityProblem,
}

/// How the pieces of a document fail to tile it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscontinuityProblem {
    /// These tokens are in no segment although later ones are.
    Missing(Range<u32>),
    /// These tokens are in more than one segment.
    Repeated(Range<u32>),
    /// Its segments name different sources.
    Sources,
}

impl Continuity {
    /// Takes the documents of part `part` of `parts`.
    ///
    /// # Panics
    /// When `part` is not below `parts`.
    pub fn new(part: u64, parts: u64) -> Self {
        assert!(part < parts, "part {part} of {parts}");
        Self { part, parts, documents: BTreeMap::new() }
    }

    /// Adds the segments of a sequence.
    pub fn add(&mut self, sequence: &Sequence) {
        for (range, segment) in sequence.segment_ranges() {
            if (segment.document >> 64) as u64 % self.parts != self.part {
                continue;
            }
            let new = || Pieces { source: segment.source, sources_differ: false, ranges: Vec::new() };
            let pieces = self.documents.entry((segment.document, segment.epoch)).or_insert_with(new);
            pieces.sources_differ |= pieces.source != segment.source;
            let length = range.end.saturating_sub(range.start);
            pieces.ranges.push(segment.offset..segment.offset.saturating_add(length));
        }
    }

    /// Documents and epochs seen so far.
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// The documents that are not tiled, by key and epoch; at most one problem each.
    pub fn finish(self) -> Vec<Discontinuity> {
        let of_document = |((document, epoch), mut pieces): ((u128, u32), Pieces)| {
            pieces.ranges.sort_unstable_by_key(|range| (range.start, range.end));
            let tiling = first_break(&pieces.ranges);
            let problem = if pieces.sources_differ { Some(DiscontinuityProblem::Sources) } else { tiling };
            problem.map(|problem| Discontinuity { document, epoch, problem })
        };
        self.documents.into_iter().filter_map(of_document).collect()
    }
}

fn first_break(sorted: &[Range<u32>]) -> Option<DiscontinuityProblem> {
    let mut end = 0;
    for range in sorted {
        if range.start > end {
            return Some(DiscontinuityProblem::Missing(end..range.start));
        }
        if range.start < end {
            return Some(DiscontinuityProblem::Repeated(range.start..end.min(range.end)));
        }
        end = range.end;
    }
    None
}
