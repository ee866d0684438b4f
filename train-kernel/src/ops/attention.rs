//! Causal attention inside documents: softmax(q k^T / sqrt D) v over the keys of the same segment up to the query itself.
//!
//! Note to the next person: one task owns one head of one sequence (in the backward one key-value head with all queries
//! that share it), walks its segments in blocks of queries, and sees every key of a block at once, so the softmax needs no
//! running maximum and the key gradients no atomics. The backward recomputes the probabilities from the kept logarithm of
//! their sum. Padding belongs to no segment: its outputs and gradients are 0.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::batch::SegmentSpan;
use crate::ops::gemm::{Matrix, MatrixMut, multiply_serial};
use crate::ops::reduce::{dot, maximum, sum};
use crate::ops::rope::Heads;
use crate::real::Real;

/// Queries that are computed together.
pub const QUERY_BLOCK: usize = 64;

/// Elements of the scratch that forward and backward need for `sequences` sequences.
pub fn scratch_length(heads: Heads, sequences: usize) -> usize {
    sequences * heads.heads.max(2 * heads.kv_heads) * block_length(heads)
}

/// Scores of one block of queries against all keys.
fn block_length(heads: Heads) -> usize {
    heads.length.min(QUERY_BLOCK) * heads.length
}

/// One block of queries of one head and the keys and values they see.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a, R> {
    /// `(n, D)`
    pub queries: &'a [R],
    /// `(m, D)`, ending with the last query's own.
    pub keys: &'a [R],
    /// `(m, D)`
    pub values: &'a [R],
    /// D.
    pub head_width: usize,
}

impl<R: Real> Block<'_, R> {
    fn extents(&self) -> (usize, usize) {
        (self.queries.len() / self.head_width, self.keys.len() / self.head_width)
    }

    fn scale(&self) -> R {
        R::from_f64(1.0 / (self.head_width as f64).sqrt())
    }

    /// `scores (n, m) =` q k^T / sqrt D, every key, seen or not.
    fn score(&self, scores: &mut [R]) {
        let (n, m) = self.extents();
        let queries = Matrix::new(self.queries, n, self.head_width);
        let keys = Matrix::new(self.keys, m, self.head_width).transposed();
        multiply_serial(self.scale(), queries, keys, R::ZERO, MatrixMut::new(scores, n, m));
    }

    /// `out (n, D) =` the attention of the block; `lse (n) =` the logarithm of each row's sum of exponentials.
    /// Query i sees the first m - n + 1 + i keys. `scores` (n m or more) is scratch.
    ///
    /// # Panics
    /// When the extents do not fit together.
    pub fn attend(&self, scores: &mut [R], out: &mut [R], lse: &mut [R]) {
        let (n, m) = self.extents();
        let scores = &mut scores[..n * m];
        self.score(scores);
        for (row, (scores, lse)) in scores.chunks_exact_mut(m).zip(lse.iter_mut()).enumerate() {
            let (seen, hidden) = scores.split_at_mut(m - n + 1 + row);
            hidden.fill(R::ZERO);
            let most = maximum(seen);
            for score in seen.iter_mut() {
                *score = (*score - most).exp();
            }
            let total = sum(seen);
            let share = R::from_f64(1.0 / total);
            for score in seen.iter_mut() {
                *score *= share;
            }
            *lse = R::from_f64(most.to_f64() + total.ln());
        }
        let values = Matrix::new(self.values, m, self.head_width);
        multiply_serial(R::ONE, Matrix::new(scores, n, m), values, R::ZERO, MatrixMut::new(out, n, self.head_width));
    }

    /// Given `dout (n, D)` and `lse (n)`: `dq (n, D) =`, `dk (m, D) +=`, `dv (m, D) +=`. `first` and `second` (n m or more) are
    /// scratch.
    fn backward(
        &self,
        lse: &[R],
        dout: &[R],
        (first, second): (&mut [R], &mut [R]),
        (dq, dk, dv): (&mut [R], &mut [R], &mut [R]),
    ) {
        let (n, m) = self.extents();
        let width = self.head_width;
        let (probabilities, dscores) = (&mut first[..n * m], &mut second[..n * m]);
        self.score(probabilities);
        let dout = Matrix::new(dout, n, width);
        let values = Matrix::new(self.values, m, width).transposed();
        multiply_serial(R::ONE, dout, values, R::ZERO, MatrixMut::new(dscores, n, m));
        let rows = probabilities.chunks_exact_mut(m).zip(dscores.chunks_exact_mut(m)).zip(lse);
        for (row, ((probabilities, dscores), &lse)) in rows.enumerate() {
            let seen = m - n + 1 + row;
            probabilities[seen..].fill(R::ZERO);
            dscores[seen..].fill(R::ZERO);
            let (probabilities, dscores) = (&mut probabilities[..seen], &mut dscores[..seen]);
            for score in probabilities.iter_mut() {
                *score = (*score - lse).exp();
            }
            let delta = dot(probabilities, dscores);
            for (dscore, probability) in dscores.iter_mut().zip(probabilities) {
                *dscore = *probability * (*dscore - delta);
            }
        }
        let (probabilities, dscores) = (Matrix::new(probabilities, n, m), Matrix::new(dscores, n, m));
        let (queries, keys) = (Matrix::new(self.queries, n, width), Matrix::new(self.keys, m, width));
        multiply_serial(self.scale(), dscores, keys, R::ZERO, MatrixMut::new(dq, n, width));
        multiply_serial(self.scale(), dscores.transposed(), queries, R::ONE, MatrixMut::new(dk, m, width));
        multiply_serial(R::ONE, probabilities.transposed(), dout, R::ONE, MatrixMut::new(dv, m, width));
    }
}

/// `out (B, H, T, D) =` the attention of `q (B, H, T, D)` to `k`, `v (B, K, T, D)`; `lse (B, H, T) =` as in
/// [`Block::attend`]. `segments` gives the documents of a sequence; `scratch` has [`scratch_length`] elements.
///
/// # Panics
/// When the extents do not fit together.
pub fn forward<'s, R: Real>(
    heads: Heads,
    segments: impl Fn(usize) -> &'s [SegmentSpan] + Sync,
    (q, k, v): (&[R], &[R], &[R]),
    scratch: &mut [R],
    (out, lse): (&mut [R], &mut [R]),
) {
    let (length, width) = (heads.length, heads.head_width);
    let head = length * width;
    assert!(q.len() == out.len() && k.len() == v.len() && lse.len() * width == out.len(), "attention: extents");
    out.par_chunks_mut(head)
        .zip(lse.par_chunks_mut(length))
        .zip(q.par_chunks(head))
        .zip(scratch.par_chunks_mut(block_length(heads)))
        .enumerate()
        .for_each(|(task, (((out, lse), q), scores))| {
            let sequence = task / heads.heads;
            let kv_head = task % heads.heads / (heads.heads / heads.kv_heads);
            let start = (sequence * heads.kv_heads + kv_head) * head;
            let (k, v) = (&k[start..start + head], &v[start..start + head]);
            let mut covered = 0;
            for_blocks(segments(sequence), |first, begin, end| {
                let rows = begin * width..end * width;
                let seen = first * width..end * width;
                let block = Block { queries: &q[rows.clone()], keys: &k[seen.clone()], values: &v[seen], head_width: width };
                block.attend(scores, &mut out[rows], &mut lse[begin..end]);
                covered = end;
            });
            out[covered * width..].fill(R::ZERO);
            lse[covered..].fill(R::ZERO);
        });
}

/// Given `dout (B, H, T, D)`: `dq (B, H, T, D) =`, `dk`, `dv (B, K, T, D) =` the gradients of [`forward`].
///
/// # Panics
/// When the extents do not fit together.
pub fn backward<'s, R: Real>(
    heads: Heads,
    segments: impl Fn(usize) -> &'s [SegmentSpan] + Sync,
    (q, k, v, lse): (&[R], &[R], &[R], &[R]),
    dout: &[R],
    scratch: &mut [R],
    (dq, dk, dv): (&mut [R], &mut [R], &mut [R]),
) {
    let (length, width) = (heads.length, heads.head_width);
    let head = length * width;
    let group = heads.heads / heads.kv_heads;
    assert!(q.len() == dq.len() && k.len() == dk.len() && v.len() == dv.len(), "attention backward: extents");
    dk.par_chunks_mut(head)
        .zip(dv.par_chunks_mut(head))
        .zip(dq.par_chunks_mut(group * head))
        .zip(scratch.par_chunks_mut(2 * block_length(heads)))
        .enumerate()
        .for_each(|(task, (((dk, dv), dq), scratch))| {
            let segments = segments(task / heads.kv_heads);
            let (k, v) = (&k[task * head..][..head], &v[task * head..][..head]);
            let (first_scratch, second_scratch) = scratch.split_at_mut(block_length(heads));
            dk.fill(R::ZERO);
            dv.fill(R::ZERO);
            dq.fill(R::ZERO);
            for (member, dq) in dq.chunks_exact_mut(head).enumerate() {
                let query_head = task * group + member;
                let (q, dout) = (&q[query_head * head..][..head], &dout[query_head * head..][..head]);
                let lse = &lse[query_head * length..][..length];
                for_blocks(segments, |first, begin, end| {
                    let rows = begin * width..end * width;
                    let seen = first * width..end * width;
                    let (queries, keys, values) = (&q[rows.clone()], &k[seen.clone()], &v[seen.clone()]);
                    let block = Block { queries, keys, values, head_width: width };
                    let gradients = (&mut dq[rows.clone()], &mut dk[seen.clone()], &mut dv[seen]);
                    block.backward(&lse[begin..end], &dout[rows], (first_scratch, second_scratch), gradients);
                });
            }
        });
}

/// Calls `visit(start of the segment, start of the block, end of the block)` for every block of queries, ascending.
fn for_blocks(segments: &[SegmentSpan], mut visit: impl FnMut(usize, usize, usize)) {
    for segment in segments {
        let (start, end) = (segment.start as usize, segment.end as usize);
        for begin in (start..end).step_by(QUERY_BLOCK) {
            visit(start, begin, end.min(begin + QUERY_BLOCK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Heads, SegmentSpan, backward, forward, scratch_length};
    use crate::ops::vjp::{check_gradient, dot, random};

    const HEADS: Heads = Heads { heads: 4, kv_heads: 2, head_width: 6, length: 150 };
    const SEQUENCES: usize = 2;

    /// Documents of 100 and 1 tokens, then padding; and one document of the whole sequence. 100 and 150 pass a block's end.
    fn segments(sequence: usize) -> &'static [SegmentSpan] {
        const FIRST: [SegmentSpan; 2] =
            [SegmentSpan { start: 0, end: 100, source: 0 }, SegmentSpan { start: 100, end: 101, source: 0 }];
        const SECOND: [SegmentSpan; 1] = [SegmentSpan { start: 0, end: 150, source: 0 }];
        if sequence == 0 { &FIRST } else { &SECOND }
    }

    fn attend(q: &[f64], k: &[f64], v: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut out, mut lse) = (vec![f64::NAN; q.len()], vec![f64::NAN; q.len() / HEADS.head_width]);
        let mut scratch = vec![f64::NAN; scratch_length(HEADS, SEQUENCES)];
        forward(HEADS, segments, (q, k, v), &mut scratch, (&mut out, &mut lse));
        (out, lse)
    }

    fn inputs() -> [Vec<f64>; 4] {
        let tokens = SEQUENCES * HEADS.length * HEADS.head_width;
        [random(1, tokens * 4), random(2, tokens * 2), random(3, tokens * 2), random(4, tokens * 4)]
    }

    /// The definition, one query at a time.
    fn naive(q: &[f64], k: &[f64], v: &[f64], sequence: usize, head: usize, place: usize) -> Vec<f64> {
        let (length, width) = (HEADS.length, HEADS.head_width);
        let Some(segment) = segments(sequence).iter().find(|s| (s.start..s.end).contains(&(place as u32))) else {
            return vec![0.0; width];
        };
        let row = |data: &[f64], heads: usize, head: usize, place: usize| {
            data[((sequence * heads + head) * length + place) * width..][..width].to_vec()
        };
        let query = row(q, 4, head, place);
        let keys = segment.start as usize..=place;
        let weights: Vec<f64> =
            keys.clone().map(|key| (dot(&query, &row(k, 2, head / 2, key)) / (width as f64).sqrt()).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; width];
        for (key, weight) in keys.zip(weights) {
            for (out, value) in out.iter_mut().zip(row(v, 2, head / 2, key)) {
                *out += weight / total * value;
            }
        }
        out
    }

    #[test]
    fn mask_of_attention_is_the_definition() {
        let [q, k, v, _] = inputs();
        let (out, _) = attend(&q, &k, &v);
        for (sequence, head, place) in
            [(0, 0, 0), (0, 1, 63), (0, 2, 64), (0, 3, 99), (0, 0, 100), (0, 3, 101), (1, 0, 149), (1, 3, 128)]
        {
            let expected = naive(&q, &k, &v, sequence, head, place);
            let got = &out[((sequence * 4 + head) * HEADS.length + place) * HEADS.head_width..][..HEADS.head_width];
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-13, "{sequence} {head} {place}");
            }
        }
    }

    #[test]
    fn gradient_of_attention() {
        let [q, k, v, dout] = inputs();
        let (_, lse) = attend(&q, &k, &v);
        let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|data| vec![f64::NAN; data.len()]);
        let mut scratch = vec![f64::NAN; scratch_length(HEADS, SEQUENCES)];
        backward(HEADS, segments, (&q, &k, &v, &lse), &dout, &mut scratch, (&mut dq, &mut dk, &mut dv));
        check_gradient("q", &q, &dq, 1e-7, &|q| dot(&attend(q, &k, &v).0, &dout));
        check_gradient("k", &k, &dk, 1e-7, &|k| dot(&attend(&q, k, &v).0, &dout));
        check_gradient("v", &v, &dv, 1e-7, &|v| dot(&attend(&q, &k, v).0, &dout));
    }

    #[test]
    fn mask_isolates_documents_and_padding_bitwise() {
        let [q, mut k, mut v, dout] = inputs();
        let (before, lse) = attend(&q, &k, &v);
        for head in 0..2 {
            for place in (0..100).chain(101..150) {
                let start = (head * HEADS.length + place) * HEADS.head_width;
                k[start] += 1e6;
                v[start] = f64::NAN;
            }
        }
        let (after, _) = attend(&q, &k, &v);
        let second_document = 100 * HEADS.head_width..101 * HEADS.head_width;
        assert_eq!(before[second_document.clone()], after[second_document]);
        assert_eq!(before[4 * 150 * 6..], after[4 * 150 * 6..], "the other sequence");
        let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|data| vec![f64::NAN; data.len()]);
        let mut scratch = vec![0.0; scratch_length(HEADS, SEQUENCES)];
        backward(HEADS, segments, (&q, &k, &v, &lse), &dout, &mut scratch, (&mut dq, &mut dk, &mut dv));
        let padding = 101 * 6..150 * 6;
        for gradient in [&dq, &dk, &dv] {
            assert!(gradient[padding.clone()].iter().all(|value| value.to_bits() == 0), "padding has no gradient");
        }
    }
}
