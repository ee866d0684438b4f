//! Causal attention inside documents: softmax(q k^T / sqrt D) v over the keys of the same document up to the query itself,
//! or over the last `window` of them.
//!
//! Note to the next person: one task owns one head of one document (in the backward one key-value head with all queries
//! that share it), walks it in blocks of queries, and sees every key of a block at once, so the softmax needs no running
//! maximum and the key gradients no atomics. The backward recomputes the probabilities from the kept logarithm of their sum.
//! Where the output is bf16, the probabilities and their gradients are rounded before they are multiplied, as tensor cores
//! take them. Padding belongs to no document: its outputs and gradients are 0.

use std::ops::Range;

use faer::{MatMut, MatRef};
use rayon::prelude::{IntoParallelIterator, ParallelIterator};

use crate::ops::Heads;
use crate::ops::gemm::{Terms, cut_columns, matrix, matrix_mut, multiply_serial, rows, rows_mut};
use crate::ops::reduce::{dot, maximum, sum};
use crate::ops::rounding::Rounding;
use crate::real::Real;

/// Queries that are computed together.
pub const QUERY_BLOCK: usize = 64;

/// The extents of the heads, and the documents they stay in.
#[derive(Clone, Copy, Debug)]
pub struct Extents<'a> {
    /// Sizes of a row.
    pub heads: Heads,
    /// The keys that a query sees, itself included; none for all of its document.
    pub window: Option<usize>,
    /// Rows of each document: ascending, disjoint.
    pub documents: &'a [Range<usize>],
}

/// Elements of the scratch that forward and backward need for `rows` rows.
pub fn scratch_length(heads: Heads, rows: usize) -> usize {
    heads.heads.max(2 * heads.kv_heads) * rows.min(QUERY_BLOCK) * rows
}

/// Elements of the scratch that [`forward_cached`] needs for `rows` new rows of texts of up to `capacity`.
pub fn cached_scratch_length(heads: Heads, rows: usize, capacity: usize) -> usize {
    heads.heads * rows * capacity
}

/// Queries of one head, in a row, with the keys and values that the last of them may see.
#[derive(Clone, Copy)]
struct Head<'a, R> {
    /// `(n, D)`
    queries: MatRef<'a, R>,
    /// `(before + n, D)`, ending with the last query's own.
    keys: MatRef<'a, R>,
    /// `(before + n, D)`
    values: MatRef<'a, R>,
    window: Option<usize>,
    rounding: Rounding,
}

/// Some consecutive queries of a head, and the keys that any of them sees.
struct Block<'a, R> {
    queries: MatRef<'a, R>,
    keys: MatRef<'a, R>,
    values: MatRef<'a, R>,
    /// Keys of the block that each query sees.
    seen: Vec<Range<usize>>,
    /// The block's keys in the head's.
    span: Range<usize>,
    rounding: Rounding,
}

impl<'a, R: Real> Head<'a, R> {
    /// Blocks of queries, ascending, with the first query of each.
    fn blocks(self) -> impl Iterator<Item = (usize, Block<'a, R>)> {
        let (count, before) = (self.queries.nrows(), self.keys.nrows() - self.queries.nrows());
        (0..count).step_by(QUERY_BLOCK).map(move |first| {
            let size = QUERY_BLOCK.min(count - first);
            let lowest = |query: usize| self.window.map_or(0, |window| (before + query + 1).saturating_sub(window));
            let span = lowest(first)..before + first + size;
            let seen = (first..first + size).map(|query| lowest(query) - span.start..before + query + 1 - span.start).collect();
            let block = Block {
                queries: self.queries.subrows(first, size),
                keys: self.keys.subrows(span.start, span.len()),
                values: self.values.subrows(span.start, span.len()),
                seen,
                span,
                rounding: self.rounding,
            };
            (first, block)
        })
    }

    /// `out (n, D) =`, `lse (n) =`
    fn attend(self, scores: &mut [R], mut out: MatMut<'_, R>, mut lse: Option<&mut [R]>) {
        for (first, block) in self.blocks() {
            let mut own = [R::ZERO; QUERY_BLOCK];
            let size = block.seen.len();
            block.attend(scores, out.as_mut().subrows_mut(first, size), &mut own[..size]);
            if let Some(lse) = &mut lse {
                lse[first..first + size].copy_from_slice(&own[..size]);
            }
        }
    }
}

impl<R: Real> Block<'_, R> {
    fn scale(&self) -> R {
        R::from_f64(1.0 / (self.queries.ncols() as f64).sqrt())
    }

    /// `scores (n, m) =` q k^T / sqrt D, every key, seen or not.
    fn score(&self, scores: &mut [R]) {
        let (n, m) = (self.queries.nrows(), self.keys.nrows());
        multiply_serial(Terms::scaled(self.scale()), self.queries, self.keys.transpose(), matrix_mut(scores, n, m, m));
    }

    /// `out (n, D) =` the attention of the block; `lse (n) =` the logarithm of each row's sum of exponentials.
    fn attend(&self, scores: &mut [R], mut out: MatMut<'_, R>, lse: &mut [R]) {
        let (n, m) = (self.queries.nrows(), self.keys.nrows());
        let scores = &mut scores[..n * m];
        self.score(scores);
        let mut totals = [0.0; QUERY_BLOCK];
        for (((row, seen), lse), total) in scores.chunks_exact_mut(m).zip(&self.seen).zip(lse).zip(&mut totals) {
            row[..seen.start].fill(R::ZERO);
            row[seen.end..].fill(R::ZERO);
            let row = &mut row[seen.clone()];
            let most = maximum(row);
            for score in row.iter_mut() {
                *score = (*score - most).exp();
            }
            *total = sum(row);
            self.rounding.apply(row);
            *lse = R::from_f64(most.to_f64() + total.ln());
        }
        multiply_serial(Terms::plain(), matrix(scores, n, m, m), self.values, out.as_mut());
        for (row, total) in rows_mut(out).zip(totals) {
            let share = R::from_f64(1.0 / total);
            for value in row.iter_mut() {
                *value *= share;
            }
            self.rounding.apply(row);
        }
    }

    /// Given `dout (n, D)`, `delta (n)` and `lse (n)`: `dq (n, D) =`, `dk`, `dv` of the head `+=`.
    fn backward(
        &self,
        (dout, delta, lse): (MatRef<'_, R>, &[R], &[R]),
        (first, second): (&mut [R], &mut [R]),
        (dq, dk, dv): (MatMut<'_, R>, MatMut<'_, R>, MatMut<'_, R>),
    ) {
        let (n, m) = (self.queries.nrows(), self.keys.nrows());
        let (probabilities, dscores) = (&mut first[..n * m], &mut second[..n * m]);
        self.score(probabilities);
        multiply_serial(Terms::plain(), dout, self.values.transpose(), matrix_mut(dscores, n, m, m));
        let pairs = probabilities.chunks_exact_mut(m).zip(dscores.chunks_exact_mut(m));
        for ((((probabilities, dscores), seen), &lse), &delta) in pairs.zip(&self.seen).zip(lse).zip(delta) {
            for row in [&mut *probabilities, &mut *dscores] {
                row[..seen.start].fill(R::ZERO);
                row[seen.end..].fill(R::ZERO);
            }
            let (probabilities, dscores) = (&mut probabilities[seen.clone()], &mut dscores[seen.clone()]);
            for (score, dscore) in probabilities.iter_mut().zip(dscores.iter_mut()) {
                *score = (*score - lse).exp();
                *dscore = *score * (*dscore - delta);
            }
            self.rounding.apply(probabilities);
            self.rounding.apply(dscores);
        }
        let (probabilities, dscores) = (matrix(probabilities, n, m, m), matrix(dscores, n, m, m));
        let scaled = Terms::scaled(self.scale());
        multiply_serial(Terms { rounding: self.rounding, ..scaled }, dscores, self.keys, dq);
        let first_key = self.span.start;
        multiply_serial(scaled.added(), dscores.transpose(), self.queries, dk.subrows_mut(first_key, m));
        multiply_serial(Terms::plain().added(), probabilities.transpose(), dout, dv.subrows_mut(first_key, m));
    }
}

/// `out (N, H D) =` the attention of `fused (N, (H + 2K) D)`, rounded; `lse (H, N) =` the natural logarithm of each row's
/// sum of exponentials, 0 in padding. `scratch` has [`scratch_length`] elements.
///
/// # Panics
/// When the extents do not fit together.
pub fn forward<R: Real>(
    extents: Extents<'_>,
    fused: &[R],
    (out, rounding): (&mut [R], Rounding),
    lse: &mut [R],
    scratch: &mut [R],
) {
    let heads = extents.heads;
    let count = fused.len() / heads.fused_width();
    let fused = matrix(fused, count, heads.fused_width(), heads.fused_width());
    let mut lse = PerHead::new(lse, heads.heads);
    let mut scratch = PerHead::new(scratch, heads.heads);
    let mut tasks = Vec::with_capacity(extents.documents.len() * heads.heads);
    for (document, band) in bands(matrix_mut(out, count, heads.width(), heads.width()), extents.documents) {
        let lse = lse.at(document.clone());
        let scores = scratch.take(document.len().min(QUERY_BLOCK) * document.len());
        let outputs = cut_columns(band, heads.head_width).map(|(_, out)| out);
        for (((head, out), lse), scores) in outputs.enumerate().zip(lse).zip(scores) {
            tasks.push((document.clone(), head, out, lse, scores));
        }
    }
    lse.rest().for_each(|padding| padding.fill(R::ZERO));
    tasks.into_par_iter().for_each(|(document, head, out, lse, scores)| {
        head_of(extents, fused, document, head, rounding).attend(scores, out, Some(lse));
    });
}

/// The queries, keys and values of one head of a document.
fn head_of<'a, R: Real>(
    extents: Extents<'_>,
    fused: MatRef<'a, R>,
    document: Range<usize>,
    head: usize,
    rounding: Rounding,
) -> Head<'a, R> {
    let heads = extents.heads;
    let kv_head = head / heads.group();
    let part = |first: usize| fused.submatrix(document.start, first, document.len(), heads.head_width);
    Head {
        queries: part(head * heads.head_width),
        keys: part(heads.width() + kv_head * heads.head_width),
        values: part(heads.width() + heads.kv_width() + kv_head * heads.head_width),
        window: extents.window,
        rounding,
    }
}

/// What [`forward`] was given and gave, with the gradient of its output.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a, R> {
    /// `(N, (H + 2K) D)`
    pub fused: &'a [R],
    /// `(N, H D)`
    pub out: &'a [R],
    /// `(H, N)`
    pub lse: &'a [R],
    /// `(N, H D)`
    pub dout: &'a [R],
}

/// `dfused (N, (H + 2K) D) =` the gradient of [`forward`], rounded. `scratch` has [`scratch_length`] elements.
///
/// # Panics
/// When the extents do not fit together.
pub fn backward<R: Real>(
    extents: Extents<'_>,
    forward: Forward<'_, R>,
    (dfused, rounding): (&mut [R], Rounding),
    scratch: &mut [R],
) {
    let heads = extents.heads;
    let (width, row) = (heads.head_width, heads.fused_width());
    let count = forward.fused.len() / row;
    let mut scratch = PerHead::new(scratch, heads.kv_heads);
    let mut tasks = Vec::with_capacity(extents.documents.len() * heads.kv_heads);
    for (document, band) in bands(matrix_mut(dfused, count, row, row), extents.documents) {
        let scores = scratch.take(2 * document.len().min(QUERY_BLOCK) * document.len());
        let (dq, rest) = band.split_at_col_mut(heads.width());
        let (dk, dv) = rest.split_at_col_mut(heads.kv_width());
        let parts = cut_columns(dq, heads.group() * width).zip(cut_columns(dk, width)).zip(cut_columns(dv, width));
        for ((kv_head, ((dq, dk), dv)), scores) in parts.enumerate().zip(scores) {
            tasks.push((document.clone(), kv_head, (dq.1, dk.1, dv.1), scores));
        }
    }
    tasks.into_par_iter().for_each(|(document, kv_head, (dq, mut dk, mut dv), scores)| {
        rows_mut(dk.as_mut()).chain(rows_mut(dv.as_mut())).for_each(|row| row.fill(R::ZERO));
        for (member, (_, dq)) in cut_columns(dq, width).enumerate() {
            let head = kv_head * heads.group() + member;
            forward.head_backward(extents, (document.clone(), head), (dq, dk.as_mut(), dv.as_mut()), (scores, rounding));
        }
        rows_mut(dk).chain(rows_mut(dv)).for_each(|row| rounding.apply(row));
    });
}

impl<R: Real> Forward<'_, R> {
    /// `dq =`, `dk +=`, `dv +=` of one head of a document.
    fn head_backward(
        self,
        extents: Extents<'_>,
        (document, head): (Range<usize>, usize),
        (mut dq, mut dk, mut dv): (MatMut<'_, R>, MatMut<'_, R>, MatMut<'_, R>),
        (scratch, rounding): (&mut [R], Rounding),
    ) {
        let heads = extents.heads;
        let count = self.fused.len() / heads.fused_width();
        let fused = matrix(self.fused, count, heads.fused_width(), heads.fused_width());
        let of_head = |data| {
            let whole: MatRef<'_, R> = matrix(data, count, heads.width(), heads.width());
            whole.submatrix(document.start, head * heads.head_width, document.len(), heads.head_width)
        };
        let (out, dout) = (of_head(self.out), of_head(self.dout));
        let lse = &self.lse[head * count..][document.clone()];
        let (first_scratch, second_scratch) = scratch.split_at_mut(scratch.len() / 2);
        for (first, block) in head_of(extents, fused, document, head, rounding).blocks() {
            let size = block.seen.len();
            let mut delta = [R::ZERO; QUERY_BLOCK];
            let (out, dout) = (out.subrows(first, size), dout.subrows(first, size));
            for ((delta, out), dout) in delta.iter_mut().zip(rows(out)).zip(rows(dout)) {
                *delta = dot(out, dout);
            }
            let gradients = (dq.as_mut().subrows_mut(first, size), dk.as_mut(), dv.as_mut());
            block.backward(
                (dout, &delta[..size], &lse[first..first + size]),
                (&mut *first_scratch, &mut *second_scratch),
                gradients,
            );
        }
    }
}

/// New rows of one text, with its cache of keys and values.
#[derive(Clone, Debug)]
pub struct CachedText<'a, R> {
    /// The new rows.
    pub rows: Range<usize>,
    /// Its keys, `(before + rows, K D)`, the new rows' included.
    pub keys: &'a [R],
    /// Its values, likewise.
    pub values: &'a [R],
}

/// `out (N, H D) =` the attention of the queries of `fused (N, (H + 2K) D)` to the keys of their text. The texts' rows follow
/// each other and are all there are. `scratch` has [`cached_scratch_length`] elements.
///
/// # Panics
/// When the extents do not fit together.
pub fn forward_cached<R: Real>(
    (heads, window): (Heads, Option<usize>),
    texts: &[CachedText<'_, R>],
    fused: &[R],
    (out, rounding): (&mut [R], Rounding),
    scratch: &mut [R],
) {
    let (width, row) = (heads.head_width, heads.fused_width());
    let count = fused.len() / row;
    let fused = matrix(fused, count, row, row);
    let documents: Vec<Range<usize>> = texts.iter().map(|text| text.rows.clone()).collect();
    let mut scratch = PerHead::new(scratch, heads.heads);
    let mut tasks = Vec::with_capacity(texts.len() * heads.heads);
    for ((_, band), text) in bands(matrix_mut(out, count, heads.width(), heads.width()), &documents).zip(texts) {
        let keys = text.keys.len() / heads.kv_width();
        let scores = scratch.take(text.rows.len().min(QUERY_BLOCK) * keys);
        for ((head, (_, out)), scores) in cut_columns(band, width).enumerate().zip(scores) {
            tasks.push((text, keys, head, out, scores));
        }
    }
    tasks.into_par_iter().for_each(|(text, keys, head, out, scores)| {
        let cached = |data| {
            let whole: MatRef<'_, R> = matrix(data, keys, heads.kv_width(), heads.kv_width());
            whole.subcols(head / heads.group() * width, width)
        };
        let queries = fused.submatrix(text.rows.start, head * width, text.rows.len(), width);
        let head = Head { queries, keys: cached(text.keys), values: cached(text.values), window, rounding };
        head.attend(scores, out, None);
    });
}

/// The rows of each document, in order; rows between and behind them become 0.
fn bands<'m, 'd, R: Real>(
    matrix: MatMut<'m, R>,
    documents: &'d [Range<usize>],
) -> impl Iterator<Item = (Range<usize>, MatMut<'m, R>)> + use<'m, 'd, R> {
    let mut rest = Some(matrix);
    let mut row = 0;
    let mut documents = documents.iter();
    std::iter::from_fn(move || {
        let matrix = rest.take()?;
        let Some(document) = documents.next() else {
            rows_mut(matrix).for_each(|row| row.fill(R::ZERO));
            return None;
        };
        let (padding, matrix) = matrix.split_at_row_mut(document.start - row);
        rows_mut(padding).for_each(|row| row.fill(R::ZERO));
        let (band, below) = matrix.split_at_row_mut(document.len());
        (rest, row) = (Some(below), document.end);
        Some((document.clone(), band))
    })
}

/// A buffer with one part of equal length a head, handed out piece by piece.
struct PerHead<'a, R> {
    rest: Vec<&'a mut [R]>,
    taken: usize,
}

impl<'a, R: Real> PerHead<'a, R> {
    fn new(data: &'a mut [R], heads: usize) -> Self {
        let length = data.len() / heads;
        Self { rest: if length == 0 { Vec::new() } else { data.chunks_exact_mut(length).take(heads).collect() }, taken: 0 }
    }

    /// The next elements of every head.
    fn take(&mut self, length: usize) -> impl Iterator<Item = &'a mut [R]> {
        self.taken += length;
        self.rest.iter_mut().map(move |rest| {
            let (piece, behind) = std::mem::take(rest).split_at_mut(length);
            *rest = behind;
            piece
        })
    }

    /// Elements at these places of every head; those before them become 0.
    fn at(&mut self, range: Range<usize>) -> impl Iterator<Item = &'a mut [R]> {
        let gap = range.start - self.taken;
        self.taken = range.end;
        self.rest.iter_mut().map(move |rest| {
            let (padding, behind) = std::mem::take(rest).split_at_mut(gap);
            padding.fill(R::ZERO);
            let (piece, behind) = behind.split_at_mut(range.len());
            *rest = behind;
            piece
        })
    }

    fn rest(self) -> impl Iterator<Item = &'a mut [R]> {
        self.rest.into_iter()
    }
}

#[cfg(test)]
mod tests;
