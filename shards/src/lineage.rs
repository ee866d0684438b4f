//! Lineage: which tokens of which shard came from which document, computed from the segments alone.
//!
//! It keeps no index of its own, so it can never disagree with the shards.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::error::ShardError;
use crate::reader::ShardFile;
use crate::row_group::SegmentColumns;
use crate::sequence::segment_ranges;

/// Where one piece of a document lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Document key.
    pub document: u128,
    /// Source, an index into the shard header's list.
    pub source: u16,
    /// Pass over the source.
    pub epoch: u32,
    /// First token, counted in the document.
    pub offset: u32,
    /// Row of the sequence in the shard.
    pub sequence: u64,
    /// Positions in the sequence.
    pub tokens: Range<u32>,
}

/// All pieces of a shard, by sequence and position. Its tokens are not read, only its segment columns.
pub fn lineage(shard: &ShardFile) -> impl Iterator<Item = Result<Placement, ShardError>> + '_ {
    (0..shard.row_groups()).flat_map(move |group| {
        let first_row = (group * shard.row_group_rows()) as u64;
        let placements = shard.read_segments(group).map(|segments| placements(&segments, first_row));
        let (found, error) = match placements {
            Ok(found) => (found, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        found.into_iter().map(Ok).chain(error.map(Err))
    })
}

fn placements(segments: &SegmentColumns, first_row: u64) -> Vec<Placement> {
    let mut found = Vec::new();
    for row in 0..segments.rows() {
        let of_row = segments.row(row);
        found.extend(segment_ranges(&of_row).map(|(tokens, segment)| Placement {
            document: segment.document,
            source: segment.source,
            epoch: segment.epoch,
            offset: segment.offset,
            sequence: first_row + row as u64,
            tokens,
        }));
    }
    found
}

/// The pieces of the given documents in a shard: what a retraction has to take out.
///
/// # Errors
/// The first damage found in the shard's segment columns.
pub fn find_documents(shard: &ShardFile, documents: &BTreeSet<u128>) -> Result<Vec<Placement>, ShardError> {
    let is_wanted = |placement: &Result<Placement, _>| {
        placement.as_ref().map_or(true, |placement: &Placement| documents.contains(&placement.document))
    };
    lineage(shard).filter(is_wanted).collect()
}

#[cfg(test)]
mod tests;
