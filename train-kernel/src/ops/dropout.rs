//! Dropout from the counter generator: an element is kept or not by its address, never by the order of computation.
//!
//! Kept elements are divided by the share kept, so that the mean stays.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::ops::ROW_BLOCK;
use crate::ops::rounding::Rounding;
use crate::random::Stream;
use crate::real::Real;

/// What one tensor of rows drops.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    stream: Stream,
    /// The row's index in the whole step of the first row given.
    first_row: u64,
    /// Numbers below it are dropped.
    threshold: u32,
    /// 1 / share kept.
    factor: f64,
}

impl Mask {
    /// Drops a share `probability`, from 0 to below 1, of a tensor whose first row is row `first_row` of the step.
    ///
    /// # Panics
    /// When `probability` is outside this range.
    pub fn new(stream: Stream, first_row: u64, probability: f64) -> Self {
        assert!((0.0..1.0).contains(&probability), "dropout: probability {probability}");
        let threshold = (probability * 4_294_967_296.0) as u32;
        Self { stream, first_row, threshold, factor: 1.0 / (1.0 - probability) }
    }

    /// `out (N, C) =` the kept elements of `x (N, C)`, scaled, and 0 elsewhere.
    ///
    /// # Panics
    /// When the extents do not fit together.
    pub fn forward<R: Real>(self, x: &[R], (out, rounding): (&mut [R], Rounding), width: usize) {
        self.rows(x, (out, rounding), width, |out, value| *out = value);
    }

    /// `dx (N, C) +=` the gradient, given `dout (N, C)`.
    ///
    /// # Panics
    /// When the extents do not fit together.
    pub fn backward<R: Real>(self, dout: &[R], (dx, rounding): (&mut [R], Rounding), width: usize) {
        self.rows(dout, (dx, rounding), width, |dx, value| *dx += value);
    }

    fn rows<R: Real>(
        self,
        input: &[R],
        (output, rounding): (&mut [R], Rounding),
        width: usize,
        write: impl Fn(&mut R, R) + Sync,
    ) {
        assert!(input.len() == output.len() && input.len().is_multiple_of(width), "dropout: rows of {width}");
        let block = ROW_BLOCK * width;
        let factor = R::from_f64(self.factor);
        output.par_chunks_mut(block).zip(input.par_chunks(block)).enumerate().for_each(|(index, (output, input))| {
            let first = (self.first_row + (index * ROW_BLOCK) as u64) * width as u64;
            let mut bits = self.stream.block(first / 4);
            for (offset, (output, input)) in output.iter_mut().zip(input).enumerate() {
                let element = first + offset as u64;
                if element.is_multiple_of(4) {
                    bits = self.stream.block(element / 4);
                }
                let kept = bits[(element % 4) as usize] >= self.threshold;
                write(output, if kept { *input * factor } else { R::ZERO });
            }
            rounding.apply(output);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Mask, Rounding};
    use crate::ops::vjp::{check_gradient, dot, random};
    use crate::random::{Purpose, Stream};

    fn mask(first_row: u64, probability: f64) -> Mask {
        Mask::new(Stream::new(5, Purpose::Dropout, 1, 2), first_row, probability)
    }

    #[test]
    fn gradient_of_dropout() {
        let (rows, width) = (37, 7);
        let (x, dout) = (random(1, rows * width), random(2, rows * width));
        let mut dx = vec![0.0; x.len()];
        mask(3, 0.3).backward(&dout, (&mut dx, Rounding::Exact), width);
        check_gradient("x", &x, &dx, 1e-7, &|x| {
            let mut out = vec![0.0; x.len()];
            mask(3, 0.3).forward(x, (&mut out, Rounding::Exact), width);
            dot(&out, &dout)
        });
    }

    #[test]
    fn determinism_of_masks_across_micro_batches() {
        let (rows, width) = (80, 6);
        let x = vec![1.0_f32; rows * width];
        let (mut whole, mut parts) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        mask(10, 0.5).forward(&x, (&mut whole, Rounding::Exact), width);
        for cut in [0..33, 33..34, 34..80] {
            let range = cut.start * width..cut.end * width;
            mask(10 + cut.start as u64, 0.5).forward(&x[range.clone()], (&mut parts[range], Rounding::Exact), width);
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn the_share_dropped_is_the_one_asked_for() {
        for probability in [0.0, 0.05, 0.5] {
            let mut out = vec![0.0; 100_000];
            mask(0, probability).forward(&vec![1.0_f64; 100_000], (&mut out, Rounding::Exact), 100);
            let dropped = out.iter().filter(|value| **value == 0.0).count() as f64 / 1e5;
            // Five standard errors of a share of 100,000.
            let bound = 5.0 * (probability * (1.0 - probability) / 1e5_f64).sqrt();
            assert!((dropped - probability).abs() <= bound, "{probability}: {dropped}");
            let factor = 1.0 / (1.0 - probability);
            assert!(out.iter().all(|value| *value == 0.0 || (value - factor).abs() < 1e-15));
        }
    }
}
