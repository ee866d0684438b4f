//! The end of the model: last norm, output projection and cross-entropy, in chunks of the rows that predict something.
//!
//! The logits of a whole batch never exist at once; rows without a target cost nothing.

use super::projection::Weights;
use super::workspace::{HeadBuffers, Scratch};
use super::{Gradients, LossSum};
use crate::batch::Batch;
use crate::ops::gemm::{Matrix, MatrixMut, multiply};
use crate::ops::{cross_entropy, norm};
use crate::real::Real;

/// What to do with the logits of a batch.
pub(super) enum Wanted<'g, 'p, R: Real> {
    /// The loss alone.
    Loss,
    /// The loss and its gradients, times a factor.
    Gradients(f64, &'g mut Gradients<'p, R>),
}

impl<R: Real> HeadBuffers<R> {
    /// The loss of `scratch.stream (N, C)`; with gradients wanted, `scratch.stream =` its gradient.
    pub(super) fn run(
        &mut self,
        weights: Weights<'_, R>,
        batch: &Batch,
        scratch: &mut Scratch<R>,
        mut wanted: Wanted<'_, '_, R>,
    ) -> LossSum {
        let (shape, rows) = (weights.shape, batch.rows());
        let c = rows * shape.width;
        let weight = weights.at(weights.places.last_norm());
        let stream = &mut scratch.stream[..c];
        let (normed, rstd) = (&mut scratch.normed[..c], &mut self.rstd[..rows]);
        norm::forward(stream, weight, shape.norm_epsilon, normed, rstd);
        self.collect_active(batch);
        if matches!(wanted, Wanted::Gradients(..)) {
            self.input[..c].copy_from_slice(stream);
            stream.fill(R::ZERO);
            scratch.dnormed[..c].fill(R::ZERO);
        }
        for begin in (0..self.active.len()).step_by(self.chunk) {
            let range = begin..self.active.len().min(begin + self.chunk);
            self.chunk_logits(weights, &scratch.normed[..c], range.clone());
            let logits = &mut self.logits[..range.len() * shape.vocabulary];
            let (targets, losses) = (&self.targets[range.clone()], &mut self.losses[range.clone()]);
            match &mut wanted {
                Wanted::Loss => cross_entropy::forward(logits, targets, losses),
                Wanted::Gradients(scale, gradients) => {
                    cross_entropy::forward_backward(logits, targets, *scale, losses);
                    self.chunk_backward(weights, range, &mut scratch.dnormed[..c], gradients);
                }
            }
        }
        if let Wanted::Gradients(_, gradients) = wanted {
            let (x, rstd, dnormed) = (&self.input[..c], &self.rstd[..rows], &scratch.dnormed[..c]);
            norm::backward(x, weight, rstd, dnormed, &mut scratch.stream[..c]);
            if let Gradients::Full(gradients) = gradients {
                let dweight = &mut gradients.data[weights.places.last_norm()];
                norm::weight_backward(x, rstd, dnormed, &mut scratch.partials, dweight);
            }
        }
        self.add_up(batch)
    }

    /// `out (N, V) =` the logits of every row of `scratch.stream (N, C)`.
    pub(super) fn logits(&mut self, weights: Weights<'_, R>, batch: &Batch, scratch: &mut Scratch<R>, out: &mut [R]) {
        let (shape, rows) = (weights.shape, batch.rows());
        let c = rows * shape.width;
        let weight = weights.at(weights.places.last_norm());
        let normed = &mut scratch.normed[..c];
        norm::forward(&scratch.stream[..c], weight, shape.norm_epsilon, normed, &mut self.rstd[..rows]);
        let matrix = Matrix::new(weights.at(weights.places.head()), shape.vocabulary, shape.width);
        let out = MatrixMut::new(out, rows, shape.vocabulary);
        multiply(R::ONE, Matrix::new(normed, rows, shape.width), matrix.transposed(), R::ZERO, out);
    }

    fn collect_active(&mut self, batch: &Batch) {
        self.active.clear();
        self.targets.clear();
        for (row, (&counted, &target)) in batch.loss_mask().iter().zip(batch.targets()).enumerate() {
            if counted {
                self.active.push(row as u32);
                self.targets.push(target);
            }
        }
    }

    /// `self.rows (n, C) =` the normalised rows of one chunk, `self.logits (n, V) =` their logits.
    fn chunk_logits(&mut self, weights: Weights<'_, R>, normed: &[R], range: std::ops::Range<usize>) {
        let (count, width, vocabulary) = (range.len(), weights.shape.width, weights.shape.vocabulary);
        let rows = &mut self.rows[..count * width];
        for (out, &row) in rows.chunks_exact_mut(width).zip(&self.active[range]) {
            out.copy_from_slice(&normed[row as usize * width..][..width]);
        }
        let matrix = Matrix::new(weights.at(weights.places.head()), vocabulary, width);
        let logits = MatrixMut::new(&mut self.logits[..count * vocabulary], count, vocabulary);
        multiply(R::ONE, Matrix::new(rows, count, width), matrix.transposed(), R::ZERO, logits);
    }

    /// From the gradient in `self.logits`: the chunk's rows of `dnormed (N, C) =`, the projection's gradient `+=`.
    fn chunk_backward(
        &mut self,
        weights: Weights<'_, R>,
        range: std::ops::Range<usize>,
        dnormed: &mut [R],
        gradients: &mut Gradients<'_, R>,
    ) {
        let (count, width, vocabulary) = (range.len(), weights.shape.width, weights.shape.vocabulary);
        let dlogits = Matrix::new(&self.logits[..count * vocabulary], count, vocabulary);
        let place = weights.places.head();
        let matrix = Matrix::new(weights.at(place.clone()), vocabulary, width);
        let drows = &mut self.drows[..count * width];
        multiply(R::ONE, dlogits, matrix, R::ZERO, MatrixMut::new(drows, count, width));
        for (gradient, &row) in drows.chunks_exact(width).zip(&self.active[range]) {
            dnormed[row as usize * width..][..width].copy_from_slice(gradient);
        }
        if let Gradients::Full(gradients) = gradients {
            let rows = Matrix::new(&self.rows[..count * width], count, width);
            let target = MatrixMut::new(&mut gradients.data[place], vocabulary, width);
            multiply(R::ONE, dlogits.transposed(), rows, R::ONE, target);
        }
    }

    /// Sums in row order.
    fn add_up(&self, batch: &Batch) -> LossSum {
        let mut total = LossSum::default();
        for (&row, &loss) in self.active.iter().zip(&self.losses) {
            total.add(batch.token_sources()[row as usize], loss);
        }
        total
    }
}
