//! The end of the model: last norm, output projection and cross-entropy, in chunks of rows.
//!
//! The logits of a whole batch never exist at once.

use super::Engine;
use crate::backend::{Buffer, CrossEntropy, DeviceError, Matrix, Norm, NormBackward, Residual};
use crate::real::Real;

impl<E: Real> Engine<E> {
    /// The losses of `rows` rows; with a gradient also those from the end of the model to the last residual.
    pub(super) fn head(&mut self, rows: usize, gradient: bool) {
        let (width, vocabulary) = (self.model.shape().width, self.model.shape().vocabulary);
        self.last_norm(rows);
        let place = self.model.places().head();
        let (weight, dweight) = (self.weight(place.clone()), self.gradient(place));
        let matrix = Matrix::new(weight, vocabulary, width);
        for first_row in (0..rows).step_by(self.buffers.chunk) {
            let count = self.buffers.chunk.min(rows - first_row);
            let range = first_row * width..(first_row + count) * width;
            let normed = Matrix::new(self.buffers.last_normed.part(range.clone()), count, width);
            let logits = self.buffers.logits.first(count * vocabulary);
            let of_logits = Matrix::new(logits, count, vocabulary);
            self.product(1.0, normed, matrix.transposed(), (of_logits, false));
            let losses = self.buffers.losses.part(first_row..first_row + count);
            self.backend.cross_entropy(CrossEntropy { logits, losses, first_row, gradient });
            if let (true, Some(backward)) = (gradient, self.buffers.backward) {
                let dnormed = Matrix::new(backward.dnormed.part(range), count, width);
                self.product(1.0, of_logits, matrix, (dnormed, false));
                if let Some(dweight) = dweight {
                    let target = Matrix::new(dweight, vocabulary, width);
                    self.product(1.0, of_logits.transposed(), normed, (target, true));
                }
            }
        }
        if gradient {
            self.last_norm_backward(rows);
        }
    }

    /// The logits of all rows, `(n, V)`.
    pub(super) fn all_logits(&mut self, rows: usize) -> Result<Vec<E>, DeviceError> {
        let (width, vocabulary) = (self.model.shape().width, self.model.shape().vocabulary);
        self.last_norm(rows);
        let mut all = vec![E::ZERO; rows * vocabulary];
        for (chunk, out) in all.chunks_mut(self.buffers.chunk * vocabulary).enumerate() {
            let first = chunk * self.buffers.chunk * width;
            let count = out.len() / vocabulary;
            let normed = self.buffers.last_normed.part(first..first + count * width);
            let logits = self.project_head(normed, count);
            self.backend.download(logits, out)?;
        }
        Ok(all)
    }

    /// The logits of normalised rows `(n, C)`, at most a chunk of them.
    pub(super) fn project_head(&mut self, normed: Buffer, count: usize) -> Buffer {
        let (width, vocabulary) = (self.model.shape().width, self.model.shape().vocabulary);
        let matrix = Matrix::new(self.weight(self.model.places().head()), vocabulary, width);
        let logits = self.buffers.logits.first(count * vocabulary);
        self.product(
            1.0,
            Matrix::new(normed, count, width),
            matrix.transposed(),
            (Matrix::new(logits, count, vocabulary), false),
        );
        logits
    }

    /// The last residual from its halves, and its norm.
    pub(super) fn last_norm(&mut self, rows: usize) {
        let shape = self.model.shape();
        let (c, epsilon) = (rows * shape.width, shape.norm_epsilon);
        let x = self.buffers.layers[shape.layers - 1].middle.first(c);
        let residual = Some(Residual { delta: self.buffers.delta.first(c), sum: self.buffers.last.first(c) });
        let weight = self.weight(self.model.places().last_norm());
        let (out, rstd) = (self.buffers.last_normed.first(c), self.buffers.last_rstd.first(rows));
        self.backend.norm(Norm { x, residual, weight, epsilon, out, rstd });
    }

    /// The gradient of the last residual, `dstream =`.
    fn last_norm_backward(&mut self, rows: usize) {
        let c = rows * self.model.shape().width;
        let backward = self.buffers.backward.expect("an engine for training has these buffers");
        let dstream = self.buffers.dstream.first(c);
        self.backend.zero(dstream);
        let place = self.model.places().last_norm();
        self.backend.norm_backward(NormBackward {
            x: self.buffers.last.first(c),
            weight: self.weight(place.clone()),
            rstd: self.buffers.last_rstd.first(rows),
            dout: backward.dnormed.first(c),
            dx: dstream,
            dweight: self.gradient(place),
        });
    }
}
