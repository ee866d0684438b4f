//! One micro-batch: tokens, what each position is to predict, and where documents begin and end.
//!
//! The boundaries of segments decide attention, positions and targets; no token id has a meaning here, not even padding's.

use mellama_shards::Sequence;
use thiserror::Error;

use crate::shape::Shape;

/// One document's part of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpan {
    /// Its first position in the sequence.
    pub start: u32,
    /// One past its last position.
    pub end: u32,
    /// The index of its source among the shard's sources.
    pub source: u16,
}

impl SegmentSpan {
    /// Number of tokens.
    pub fn length(&self) -> usize {
        (self.end - self.start) as usize
    }
}

/// One sequence as it enters a batch; borrows everything.
#[derive(Clone, Copy, Debug)]
pub struct SequenceParts<'a> {
    /// Exactly T token ids; those after the last segment are padding.
    pub tokens: &'a [u32],
    /// Exclusive end and source of each segment, ascending from 0 without gaps.
    pub segments: &'a [(u32, u16)],
    /// For each token, whether it is to be learnt (as a target). None: every one.
    pub loss_mask: Option<&'a [bool]>,
}

/// B sequences of T tokens. All tables are `(B, T)`, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    sequences: usize,
    sequence_length: usize,
    tokens: Vec<u32>,
    targets: Vec<u32>,
    loss_mask: Vec<bool>,
    positions: Vec<u32>,
    token_sources: Vec<u16>,
    segments: Vec<SegmentSpan>,
    /// Where each sequence's segments begin in `segments`; one more entry than sequences.
    segment_starts: Vec<usize>,
}

/// Why sequences do not make a batch, or a batch does not fit a model.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// No sequence, or sequences of length 0.
    #[error("batch: empty: got {sequences} sequences of {length} tokens, expected at least 1 of 1; give it more sequences")]
    Empty {
        /// Sequences given.
        sequences: usize,
        /// Tokens of the first.
        length: usize,
    },
    /// A sequence or its mask has another length than the first sequence.
    #[error("batch: sequence {sequence}: {what}: got {got} entries, expected {expected}; verify the shard")]
    Length {
        /// Index in the batch.
        sequence: usize,
        /// "tokens" or "loss mask".
        what: &'static str,
        /// Entries found.
        got: usize,
        /// Entries of the first sequence.
        expected: usize,
    },
    /// Segment ends do not ascend, pass the sequence's end, or are absent altogether.
    #[error(
        "batch: sequence {sequence}: segment {segment}: got end {got}, expected more than {after} and at most {length}; packed data needs its boundaries, verify the shard"
    )]
    Segment {
        /// Index in the batch.
        sequence: usize,
        /// Index in the sequence.
        segment: usize,
        /// The end found.
        got: u32,
        /// The end of the segment before.
        after: u32,
        /// T.
        length: usize,
    },
    /// A token id outside the model's vocabulary.
    #[error(
        "batch: sequence {sequence}, position {position}: token id: got {token}, expected less than {vocabulary}; the tokenizer does not fit the model"
    )]
    Token {
        /// Index in the batch.
        sequence: usize,
        /// Index in the sequence.
        position: usize,
        /// The id found.
        token: u32,
        /// The model's vocabulary size.
        vocabulary: usize,
    },
    /// A segment longer than the model has positions.
    #[error(
        "batch: sequence {sequence}: segment of {length} tokens, expected at most {max_positions}; pack shorter sequences or choose a model with more positions"
    )]
    TooLong {
        /// Index in the batch.
        sequence: usize,
        /// Tokens of the segment.
        length: usize,
        /// Positions of the model.
        max_positions: usize,
    },
}

impl Batch {
    /// A batch of these sequences, all of one length. Position t predicts token t + 1 exactly when both lie in one
    /// segment and token t + 1 is to be learnt: a segment's first token is nobody's target, its last (the end token)
    /// is, padding is neither. Positions count from 0 in each segment.
    ///
    /// # Errors
    /// [`BatchError`] for lengths or boundaries that do not fit together.
    pub fn from_parts(parts: &[SequenceParts<'_>]) -> Result<Self, BatchError> {
        let length = parts.first().map_or(0, |part| part.tokens.len());
        if length == 0 {
            return Err(BatchError::Empty { sequences: parts.len(), length });
        }
        let cells = parts.len() * length;
        let mut batch = Self {
            sequences: parts.len(),
            sequence_length: length,
            tokens: Vec::with_capacity(cells),
            targets: vec![0; cells],
            loss_mask: vec![false; cells],
            positions: vec![0; cells],
            token_sources: vec![0; cells],
            segments: Vec::new(),
            segment_starts: vec![0],
        };
        for (sequence, part) in parts.iter().enumerate() {
            batch.push(sequence, part)?;
        }
        Ok(batch)
    }

    /// A batch of sequences of a shard: [`Self::from_parts`] with their segments and masks.
    ///
    /// # Errors
    /// As [`Self::from_parts`].
    pub fn from_sequences(sequences: &[Sequence]) -> Result<Self, BatchError> {
        let segments: Vec<Vec<(u32, u16)>> = sequences
            .iter()
            .map(|sequence| sequence.segments.iter().map(|segment| (segment.end, segment.source)).collect())
            .collect();
        let parts: Vec<SequenceParts<'_>> = sequences
            .iter()
            .zip(&segments)
            .map(|(sequence, segments)| SequenceParts {
                tokens: &sequence.tokens,
                segments,
                loss_mask: sequence.loss_mask.as_deref(),
            })
            .collect();
        Self::from_parts(&parts)
    }

    /// Checks that the model has a row for every token and a position for every place.
    ///
    /// # Errors
    /// [`BatchError::Token`] or [`BatchError::TooLong`].
    pub fn check(&self, shape: &Shape) -> Result<(), BatchError> {
        if let Some(cell) = self.tokens.iter().position(|&token| token as usize >= shape.vocabulary) {
            return Err(BatchError::Token {
                sequence: cell / self.sequence_length,
                position: cell % self.sequence_length,
                token: self.tokens[cell],
                vocabulary: shape.vocabulary,
            });
        }
        for sequence in 0..self.sequences {
            for segment in self.segments(sequence) {
                if segment.length() > shape.max_positions {
                    return Err(BatchError::TooLong { sequence, length: segment.length(), max_positions: shape.max_positions });
                }
            }
        }
        Ok(())
    }

    /// Number of sequences (B).
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Tokens of each sequence (T), padding included.
    pub fn sequence_length(&self) -> usize {
        self.sequence_length
    }

    /// B T: rows of every activation.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Token ids, `(B, T)`.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The token that each position is to predict, `(B, T)`; 0 where the mask is false.
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Whether a position predicts anything, `(B, T)`.
    pub fn loss_mask(&self) -> &[bool] {
        &self.loss_mask
    }

    /// Position inside the segment, `(B, T)`; 0 in padding.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Source index of each token, `(B, T)`; 0 in padding.
    pub fn token_sources(&self) -> &[u16] {
        &self.token_sources
    }

    /// The segments of one sequence, ascending.
    ///
    /// # Panics
    /// When `sequence` is not below B.
    pub fn segments(&self, sequence: usize) -> &[SegmentSpan] {
        &self.segments[self.segment_starts[sequence]..self.segment_starts[sequence + 1]]
    }

    /// Number of targets: the batch's share of G in the step's normalisation.
    pub fn loss_tokens(&self) -> u64 {
        self.loss_mask.iter().filter(|&&counted| counted).count() as u64
    }

    fn push(&mut self, sequence: usize, part: &SequenceParts<'_>) -> Result<(), BatchError> {
        let length = self.sequence_length;
        let lengths = [("tokens", part.tokens.len()), ("loss mask", part.loss_mask.map_or(length, <[bool]>::len))];
        for (what, got) in lengths {
            if got != length {
                return Err(BatchError::Length { sequence, what, got, expected: length });
            }
        }
        self.tokens.extend_from_slice(part.tokens);
        let mut start = 0;
        for (segment, &(end, source)) in part.segments.iter().enumerate() {
            if end <= start || end as usize > length {
                return Err(BatchError::Segment { sequence, segment, got: end, after: start, length });
            }
            let span = SegmentSpan { start, end, source };
            self.fill_segment(sequence, span, part);
            self.segments.push(span);
            start = end;
        }
        if start == 0 {
            return Err(BatchError::Segment { sequence, segment: 0, got: 0, after: 0, length });
        }
        self.segment_starts.push(self.segments.len());
        Ok(())
    }

    fn fill_segment(&mut self, sequence: usize, span: SegmentSpan, part: &SequenceParts<'_>) {
        let first = sequence * self.sequence_length;
        for place in span.start as usize..span.end as usize {
            self.positions[first + place] = place as u32 - span.start;
            self.token_sources[first + place] = span.source;
            let next = place + 1;
            let counted = next < span.end as usize && part.loss_mask.is_none_or(|mask| mask[next]);
            if counted {
                self.targets[first + place] = part.tokens[next];
                self.loss_mask[first + place] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mellama_shards::{Segment, Sequence};

    use super::{Batch, BatchError, SequenceParts};
    use crate::shape::Shape;

    fn parts<'a>(tokens: &'a [u32], segments: &'a [(u32, u16)]) -> SequenceParts<'a> {
        SequenceParts { tokens, segments, loss_mask: None }
    }

    #[test]
    fn mask_targets_and_positions_stop_at_boundaries() {
        // Documents [5 6 2] and [7 2], one padding token; then a whole sequence with a mask on its answer 8 2.
        let masked = [false, false, false, false, true, true];
        let batch = Batch::from_parts(&[
            parts(&[5, 6, 2, 7, 2, 0], &[(3, 1), (5, 4)]),
            SequenceParts { tokens: &[1, 3, 4, 5, 8, 2], segments: &[(6, 2)], loss_mask: Some(&masked) },
        ])
        .unwrap();
        assert_eq!(batch.targets(), [6, 2, 0, 2, 0, 0, 0, 0, 0, 8, 2, 0]);
        let mask: Vec<u8> = batch.loss_mask().iter().map(|&counted| u8::from(counted)).collect();
        assert_eq!(mask, [1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0]);
        assert_eq!(batch.positions(), [0, 1, 2, 0, 1, 0, 0, 1, 2, 3, 4, 5]);
        assert_eq!(batch.token_sources(), [1, 1, 1, 4, 4, 0, 2, 2, 2, 2, 2, 2]);
        assert_eq!(batch.loss_tokens(), 5);
        assert_eq!((batch.sequences(), batch.sequence_length(), batch.rows()), (2, 6, 12));
        assert_eq!(batch.segments(0).len(), 2);
        assert_eq!(batch.segments(1)[0].length(), 6);
    }

    #[test]
    fn sequences_of_a_shard_become_the_same_batch() {
        let segment = |end, source| Segment { end, document: 9, source, offset: 4, epoch: 0 };
        let sequence = Sequence {
            tokens: vec![5, 6, 2, 7, 2, 0],
            segments: vec![segment(3, 1), segment(5, 4)],
            loss_mask: Some(vec![true, true, false, true, true, false]),
        };
        let batch = Batch::from_sequences(&[sequence.clone(), sequence]).unwrap();
        let masked = [true, true, false, true, true, false];
        let part = SequenceParts { tokens: &[5, 6, 2, 7, 2, 0], segments: &[(3, 1), (5, 4)], loss_mask: Some(&masked) };
        assert_eq!(Ok(&batch), Batch::from_parts(&[part, part]).as_ref());
        assert_eq!(batch.loss_tokens(), 4);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let check = |given: &[SequenceParts<'_>], expected: &str| {
            let message = Batch::from_parts(given).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(&[], "empty");
        check(&[parts(&[], &[])], "empty");
        check(&[parts(&[1, 2], &[(2, 0)]), parts(&[1], &[(1, 0)])], "sequence 1: tokens: got 1 entries, expected 2");
        check(&[parts(&[1, 2], &[(3, 0)])], "got end 3");
        check(&[parts(&[1, 2], &[(1, 0), (1, 0)])], "segment 1: got end 1, expected more than 1");
        check(&[parts(&[1, 2], &[])], "packed data needs its boundaries");
        let masked = SequenceParts { tokens: &[1, 2], segments: &[(2, 0)], loss_mask: Some(&[true]) };
        check(&[masked], "loss mask: got 1 entries, expected 2");
    }

    #[test]
    fn a_batch_is_checked_against_the_model() {
        let shape = Shape { max_positions: 3, ..Shape::named("tiny", 10).unwrap() };
        let check =
            |tokens: &[u32], segments: &[(u32, u16)]| Batch::from_parts(&[parts(tokens, segments)]).unwrap().check(&shape);
        assert_eq!(check(&[9, 1, 2, 3], &[(3, 0), (4, 0)]), Ok(()));
        assert!(matches!(check(&[9, 10, 2, 3], &[(2, 0)]), Err(BatchError::Token { position: 1, token: 10, .. })));
        assert!(matches!(check(&[1, 1, 2, 3], &[(4, 0)]), Err(BatchError::TooLong { length: 4, .. })));
    }
}
