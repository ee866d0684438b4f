//! A training sequence: exactly `T` token ids with the boundaries, documents and sources of its segments.
//!
//! It is the unit that packing fills and training reads; how it lies in a file is in [`crate::format`].

use std::ops::Range;

use crate::packing::Piece;

/// Token id at padded positions. Every vocabulary has it, and no loss is ever taken there, so its meaning does not matter.
pub const PADDING_TOKEN: u32 = 0;

/// One document's part of a sequence. It starts where the segment before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Exclusive end, a position in the sequence.
    pub end: u32,
    /// Document key: opaque here, its text is [`crate::key::key_text`].
    pub document: u128,
    /// Source, an index into the shard header's list.
    pub source: u16,
    /// First token, counted in the document's run.
    pub offset: u32,
    /// Which pass over its source it belongs to, from 0.
    pub epoch: u32,
}

/// Exactly `T` tokens. Positions after the last segment's end are padding: token id [`PADDING_TOKEN`], loss mask false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids, `(T)`.
    pub tokens: Vec<u32>,
    /// Segments with ascending ends.
    pub segments: Vec<Segment>,
    /// Whether the loss of predicting this token counts, `(T)`; `None` means every token that is not padding.
    pub loss_mask: Option<Vec<bool>>,
}

impl Sequence {
    /// Number of tokens that are not padding: the last segment's end.
    pub fn filled(&self) -> u32 {
        self.segments.last().map_or(0, |segment| segment.end)
    }

    /// Segments with the positions they cover in the sequence.
    pub fn segment_ranges(&self) -> impl Iterator<Item = (Range<u32>, &Segment)> {
        segment_ranges(&self.segments)
    }

    /// Whether the loss of predicting the token at `position` counts.
    pub fn is_trained(&self, position: usize) -> bool {
        let real = position < self.filled() as usize;
        real && self.loss_mask.as_ref().is_none_or(|mask| mask.get(position).copied().unwrap_or(false))
    }
}

/// Segments with the positions they cover; an end below its start gives an empty range, which the verifier reports.
pub fn segment_ranges(segments: &[Segment]) -> impl Iterator<Item = (Range<u32>, &Segment)> {
    segments.iter().scan(0, |start, segment| {
        let range = *start..segment.end;
        *start = segment.end;
        Some((range, segment))
    })
}

/// The tokens of one document of a window, as [`assemble`] takes them.
#[derive(Debug, Clone, Copy)]
pub struct RunTokens<'a> {
    /// Token ids of the document, from its start.
    pub tokens: &'a [u32],
    /// Loss mask of the same length, for instruction data.
    pub mask: Option<&'a [bool]>,
    /// Document key.
    pub document: u128,
    /// Source, an index into the shard header's list.
    pub source: u16,
    /// Which pass over its source it is, from 0.
    pub epoch: u32,
}

/// Why a sequence cannot be assembled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A piece names a document that was not given.
    #[error("sequence: document {run} of the window, {documents} were given")]
    Document {
        /// Index in the window.
        run: u32,
        /// Documents given.
        documents: usize,
    },
    /// A piece reaches past its document's tokens or mask.
    #[error("sequence: tokens {offset}..{end} of document {run} of the window, it has {length}")]
    Range {
        /// Index in the window.
        run: u32,
        /// First token of the piece.
        offset: u32,
        /// Its exclusive end.
        end: u64,
        /// Tokens, or mask entries where these are fewer.
        length: usize,
    },
    /// The pieces are longer than a sequence.
    #[error("sequence: {length} tokens in its pieces, expected at most {sequence_length}")]
    Overfull {
        /// Tokens of the pieces so far.
        length: usize,
        /// Tokens of a sequence.
        sequence_length: u32,
    },
}

/// Builds the sequence that `pieces` describe over the documents of a window, padded to `sequence_length` tokens.
///
/// It has a loss mask when any of its documents has one; documents without then count fully.
///
/// # Errors
/// [`AssembleError`] when pieces and documents do not belong together.
pub fn assemble(pieces: &[Piece], documents: &[RunTokens<'_>], sequence_length: u32) -> Result<Sequence, AssembleError> {
    let mut tokens = Vec::with_capacity(sequence_length as usize);
    let mut mask = Vec::with_capacity(sequence_length as usize);
    let mut segments = Vec::with_capacity(pieces.len());
    let mut has_mask = false;
    for piece in pieces {
        let documents_given = documents.len();
        let document =
            documents.get(piece.run as usize).ok_or(AssembleError::Document { run: piece.run, documents: documents_given })?;
        let range = piece_range(piece, document)?;
        tokens.extend_from_slice(&document.tokens[range.clone()]);
        has_mask |= document.mask.is_some();
        match document.mask {
            Some(trained) => mask.extend_from_slice(&trained[range]),
            None => mask.resize(tokens.len(), true),
        }
        if tokens.len() > sequence_length as usize {
            return Err(AssembleError::Overfull { length: tokens.len(), sequence_length });
        }
        let RunTokens { document, source, epoch, .. } = *document;
        segments.push(Segment { end: tokens.len() as u32, document, source, offset: piece.offset, epoch });
    }
    tokens.resize(sequence_length as usize, PADDING_TOKEN);
    mask.resize(sequence_length as usize, false);
    Ok(Sequence { tokens, segments, loss_mask: has_mask.then_some(mask) })
}

fn piece_range(piece: &Piece, document: &RunTokens<'_>) -> Result<Range<usize>, AssembleError> {
    let length = document.mask.map_or(document.tokens.len(), |mask| mask.len().min(document.tokens.len()));
    let end = u64::from(piece.offset) + u64::from(piece.length);
    if end > length as u64 {
        return Err(AssembleError::Range { run: piece.run, offset: piece.offset, end, length });
    }
    Ok(piece.offset as usize..end as usize)
}

#[cfg(test)]
mod tests {
    use super::{AssembleError, RunTokens, Segment, assemble, segment_ranges};
    use crate::packing::Piece;

    fn piece(run: u32, offset: u32, length: u32) -> Piece {
        Piece { run, offset, length }
    }

    fn document<'a>(tokens: &'a [u32], mask: Option<&'a [bool]>, key: u128) -> RunTokens<'a> {
        RunTokens { tokens, mask, document: key, source: key as u16, epoch: 2 }
    }

    #[test]
    fn pieces_become_segments_and_padding() {
        let documents = [document(&[1, 2, 3, 4, 5], None, 7), document(&[9], None, 8)];
        let sequence = assemble(&[piece(0, 3, 2), piece(1, 0, 1)], &documents, 5).unwrap();
        assert_eq!(sequence.tokens, [4, 5, 9, 0, 0]);
        assert_eq!(sequence.loss_mask, None);
        assert_eq!(sequence.filled(), 3);
        let expected = [
            Segment { end: 2, document: 7, source: 7, offset: 3, epoch: 2 },
            Segment { end: 3, document: 8, source: 8, offset: 0, epoch: 2 },
        ];
        assert_eq!(sequence.segments, expected);
        let ranges: Vec<_> = segment_ranges(&sequence.segments).map(|(range, _)| range).collect();
        assert_eq!(ranges, [0..2, 2..3]);
        let trained: Vec<bool> = (0..6).map(|position| sequence.is_trained(position)).collect();
        assert_eq!(trained, [true, true, true, false, false, false]);
    }

    #[test]
    fn a_mask_covers_the_sequence_once_one_document_has_one() {
        let documents = [document(&[1, 2], None, 1), document(&[3, 4, 5], Some(&[false, true, true]), 2)];
        let sequence = assemble(&[piece(0, 0, 2), piece(1, 0, 2)], &documents, 6).unwrap();
        assert_eq!(sequence.loss_mask.as_deref(), Some(&[true, true, false, true, false, false][..]));
        assert!(!sequence.is_trained(2) && sequence.is_trained(3) && !sequence.is_trained(4));
    }

    #[test]
    fn pieces_that_do_not_belong_are_errors() {
        let documents = [document(&[1, 2, 3], None, 1), document(&[1, 2, 3], Some(&[true]), 1)];
        let check = |pieces: &[Piece], expected: AssembleError| {
            assert_eq!(assemble(pieces, &documents, 4).unwrap_err(), expected, "{pieces:?}");
        };
        check(&[piece(2, 0, 1)], AssembleError::Document { run: 2, documents: 2 });
        check(&[piece(0, 2, 2)], AssembleError::Range { run: 0, offset: 2, end: 4, length: 3 });
        check(&[piece(1, 0, 2)], AssembleError::Range { run: 1, offset: 0, end: 2, length: 1 });
        check(
            &[piece(0, u32::MAX, u32::MAX)],
            AssembleError::Range { run: 0, offset: u32::MAX, end: 2 * u64::from(u32::MAX), length: 3 },
        );
        check(&[piece(0, 0, 3), piece(0, 0, 3)], AssembleError::Overfull { length: 6, sequence_length: 4 });
    }
}
