//! The rules every sequence, shard and set must keep, checked from what is stored alone.
//!
//! It repairs nothing and shares no code with packing or writing.

use std::fmt;

pub use crate::continuity::{Continuity, Discontinuity, DiscontinuityProblem};
use crate::error::ShardError;
use crate::format::{Kind, PADDING_TOKEN, Sequence, ShardHeader, ShardTotals, TotalsBuilder};
use crate::reader::ShardFile;

/// The rule that a sequence breaks, with positions and ids but no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceProblem {
    /// Number of tokens is not T.
    Length {
        /// Tokens there.
        found: usize,
        /// T.
        expected: u32,
    },
    /// No segment at all.
    Empty,
    /// A segment ends where it starts, or before.
    SegmentEnd {
        /// Index of the segment.
        segment: usize,
        /// Its start, the end of the one before.
        start: u32,
        /// Its end.
        end: u32,
    },
    /// The last segment ends after T.
    SegmentPastEnd {
        /// Its end.
        end: u32,
        /// T.
        sequence_length: u32,
    },
    /// A source index outside the header's list.
    Source {
        /// Index of the segment.
        segment: usize,
        /// The index found.
        source: u16,
        /// Sources of the header.
        sources: usize,
    },
    /// A document's token offset that would pass 32 bits inside the segment.
    Offset {
        /// Index of the segment.
        segment: usize,
    },
    /// A token id outside the vocabulary.
    Token {
        /// Position in the sequence.
        position: usize,
        /// Vocabulary size.
        vocabulary_size: u32,
    },
    /// A padded position that does not hold [`PADDING_TOKEN`].
    Padding {
        /// Position in the sequence.
        position: usize,
    },
    /// Number of mask entries is not T.
    MaskLength {
        /// Entries there.
        found: usize,
        /// T.
        expected: u32,
    },
    /// A mask that is on at a padded position.
    MaskOnPadding {
        /// Position in the sequence.
        position: usize,
    },
    /// An instruction sequence without a mask.
    MaskMissing,
}

impl fmt::Display for SequenceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found, expected } => write!(f, "{found} tokens, expected {expected}"),
            Self::Empty => write!(f, "no segment, expected at least one"),
            Self::SegmentEnd { segment, start, end } => {
                write!(f, "segment {segment} ends at {end}, expected after its start {start}")
            }
            Self::SegmentPastEnd { end, sequence_length } => {
                write!(f, "last segment ends at {end}, expected at most {sequence_length}")
            }
            Self::Source { segment, source, sources } => {
                write!(f, "segment {segment} has source {source}, the header lists {sources}")
            }
            Self::Offset { segment } => {
                write!(f, "segment {segment}: its document offset passes 32 bits")
            }
            Self::Token { position, vocabulary_size } => {
                write!(f, "token at {position} is outside the vocabulary of {vocabulary_size}")
            }
            Self::Padding { position } => write!(f, "position {position} is padding, expected id {PADDING_TOKEN}"),
            Self::MaskLength { found, expected } => {
                write!(f, "{found} loss mask entries, expected {expected}")
            }
            Self::MaskOnPadding { position } => {
                write!(f, "loss mask is on at {position}, which is padding")
            }
            Self::MaskMissing => write!(f, "no loss mask, expected one in instruction data"),
        }
    }
}

/// Checks one sequence against its shard's header.
///
/// Holds when: there are T ids, all below the vocabulary size; there is a segment; ends ascend strictly and are at most T, so
/// segments leave no gap; source indexes are in the header's list; every position after the last end is [`PADDING_TOKEN`];
/// the loss mask, if any, has T entries and is off on padding; instruction data have a mask.
///
/// # Errors
/// [`ShardError::Sequence`] with the first rule broken.
pub fn verify_sequence(sequence: &Sequence, header: &ShardHeader) -> Result<(), ShardError> {
    check_sequence(sequence, header).map_err(|problem| ShardError::Sequence { subject: "sequence".to_owned(), problem })
}

pub(crate) fn check_sequence(sequence: &Sequence, header: &ShardHeader) -> Result<(), SequenceProblem> {
    let expected = header.sequence_length;
    if sequence.tokens.len() != expected as usize {
        return Err(SequenceProblem::Length { found: sequence.tokens.len(), expected });
    }
    check_segments(sequence, header)?;
    let vocabulary_size = header.vocabulary_size;
    if let Some(position) = sequence.tokens.iter().position(|&token| token >= vocabulary_size) {
        return Err(SequenceProblem::Token { position, vocabulary_size });
    }
    let filled = sequence.filled() as usize;
    if let Some(after) = sequence.tokens[filled..].iter().position(|&token| token != PADDING_TOKEN) {
        return Err(SequenceProblem::Padding { position: filled + after });
    }
    match &sequence.loss_mask {
        Some(mask) if mask.len() != expected as usize => Err(SequenceProblem::MaskLength { found: mask.len(), expected }),
        Some(mask) => match mask[filled..].iter().position(|&on| on) {
            Some(after) => Err(SequenceProblem::MaskOnPadding { position: filled + after }),
            None => Ok(()),
        },
        None if header.kind == Kind::Instruct => Err(SequenceProblem::MaskMissing),
        None => Ok(()),
    }
}

fn check_segments(sequence: &Sequence, header: &ShardHeader) -> Result<(), SequenceProblem> {
    if sequence.segments.is_empty() {
        return Err(SequenceProblem::Empty);
    }
    let mut start = 0;
    for (index, segment) in sequence.segments.iter().enumerate() {
        if segment.end <= start {
            return Err(SequenceProblem::SegmentEnd { segment: index, start, end: segment.end });
        }
        if usize::from(segment.source) >= header.sources.len() {
            let sources = header.sources.len();
            return Err(SequenceProblem::Source { segment: index, source: segment.source, sources });
        }
        if segment.offset.checked_add(segment.end - start).is_none() {
            return Err(SequenceProblem::Offset { segment: index });
        }
        start = segment.end;
    }
    if start > header.sequence_length {
        return Err(SequenceProblem::SegmentPastEnd { end: start, sequence_length: header.sequence_length });
    }
    Ok(())
}

/// Reads a whole shard, checks every sequence and compares what they add up to with the totals in its footer.
///
/// # Errors
/// The first damage found, with object and sequence.
pub fn verify_shard(file: &ShardFile) -> Result<ShardTotals, ShardError> {
    verify_shard_with(file, &mut |_, _| {})
}

/// [`verify_shard`], showing each sequence and its row to `visit`, for checks across shards such as [`Continuity`].
///
/// # Errors
/// As [`verify_shard`].
pub fn verify_shard_with(file: &ShardFile, visit: &mut dyn FnMut(u64, &Sequence)) -> Result<ShardTotals, ShardError> {
    let mut totals = TotalsBuilder::new(file.header().sources.len());
    for group in 0..file.row_groups() {
        let rows = file.read_row_group(group)?;
        for row in 0..rows.len() {
            let sequence = rows.sequence(row)?;
            totals.add(&sequence);
            visit(rows.first_row() + row as u64, &sequence);
        }
    }
    let found = totals.finish();
    if &found == file.totals() {
        return Ok(found);
    }
    let problem = if found.content == file.totals().content {
        format!("footer totals {:?}, the sequences add up to {:?}", file.totals(), found)
    } else {
        "content digest differs from the one in the footer".to_owned()
    };
    Err(ShardError::corrupt(file.name(), problem))
}

#[cfg(test)]
mod tests;
