//! Root-mean-square norm (Zhang and Sennrich 2019): n = w x / sqrt(mean(x^2) + epsilon), row by row.
//!
//! The forward keeps only the reciprocal root; the normalised rows are rebuilt from it where the backward needs them.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::ops::ROW_BLOCK;
use crate::ops::reduce::{dot, dot3};
use crate::ops::rounding::Rounding;
use crate::real::Real;

/// The weight `(C)` of a norm, and what is added under the root.
#[derive(Clone, Copy, Debug)]
pub struct NormWeight<'a, R> {
    /// `(C)`
    pub weight: &'a [R],
    /// Under the root.
    pub epsilon: f64,
}

/// `out (N, C) =` the normalised rows of `x (N, C)` times the weight, rounded; `rstd (N) =` the reciprocal roots.
///
/// # Panics
/// When the extents do not fit together.
pub fn forward<R: Real>(x: &[R], norm: NormWeight<'_, R>, rounding: Rounding, out: &mut [R], rstd: &mut [R]) {
    let width = norm.weight.len();
    check(x, out, rstd, width);
    let block = ROW_BLOCK * width;
    out.par_chunks_mut(block).zip(rstd.par_chunks_mut(ROW_BLOCK)).zip(x.par_chunks(block)).for_each(|((out, rstd), x)| {
        for ((out, rstd), x) in out.chunks_exact_mut(width).zip(rstd).zip(x.chunks_exact(width)) {
            norm.row(x, rounding, out, rstd);
        }
    });
}

/// `sum (N, C) = x + delta`, rounded, then [`forward`] of it: one pass over the rows.
///
/// # Panics
/// When the extents do not fit together.
pub fn add_forward<R: Real>(
    (x, delta): (&[R], &[R]),
    norm: NormWeight<'_, R>,
    [sum_rounding, rounding]: [Rounding; 2],
    sum: &mut [R],
    (out, rstd): (&mut [R], &mut [R]),
) {
    let width = norm.weight.len();
    check(x, out, rstd, width);
    assert!(delta.len() == x.len() && sum.len() == x.len(), "norm: residual");
    let block = ROW_BLOCK * width;
    let outputs = out.par_chunks_mut(block).zip(rstd.par_chunks_mut(ROW_BLOCK)).zip(sum.par_chunks_mut(block));
    outputs.zip(x.par_chunks(block).zip(delta.par_chunks(block))).for_each(|(((out, rstd), sum), (x, delta))| {
        let rows = out.chunks_exact_mut(width).zip(rstd).zip(sum.chunks_exact_mut(width));
        for (((out, rstd), sum), (x, delta)) in rows.zip(x.chunks_exact(width).zip(delta.chunks_exact(width))) {
            for ((sum, x), delta) in sum.iter_mut().zip(x).zip(delta) {
                *sum = *x + *delta;
            }
            sum_rounding.apply(sum);
            norm.row(sum, rounding, out, rstd);
        }
    });
}

/// `out (N, C) =` what [`forward`] wrote, from `x (N, C)` and `rstd (N)`, bit for bit.
///
/// # Panics
/// When the extents do not fit together.
pub fn rebuild<R: Real>(x: &[R], weight: &[R], rstd: &[R], rounding: Rounding, out: &mut [R]) {
    let width = weight.len();
    check(x, out, rstd, width);
    let block = ROW_BLOCK * width;
    out.par_chunks_mut(block).zip(rstd.par_chunks(ROW_BLOCK)).zip(x.par_chunks(block)).for_each(|((out, rstd), x)| {
        for ((out, rstd), x) in out.chunks_exact_mut(width).zip(rstd).zip(x.chunks_exact(width)) {
            scale_row(x, weight, *rstd, out);
            rounding.apply(out);
        }
    });
}

/// `dx (N, C) +=` the gradient with respect to `x (N, C)`, given `dout (N, C)`; rounded after the addition.
///
/// # Panics
/// When the extents do not fit together.
pub fn backward<R: Real>(x: &[R], weight: &[R], rstd: &[R], dout: &[R], (dx, rounding): (&mut [R], Rounding)) {
    let width = weight.len();
    check(x, dx, rstd, width);
    assert_eq!(dout.len(), dx.len(), "norm backward: gradients");
    let block = ROW_BLOCK * width;
    let share = R::from_f64(1.0 / width as f64);
    dx.par_chunks_mut(block).zip(dout.par_chunks(block)).zip(x.par_chunks(block)).zip(rstd.par_chunks(ROW_BLOCK)).for_each(
        |(((dx, dout), x), rstd)| {
            let rows = dx.chunks_exact_mut(width).zip(dout.chunks_exact(width));
            for (((dx, dout), x), rstd) in rows.zip(x.chunks_exact(width)).zip(rstd) {
                let pull = dot3(weight, dout, x) * share * *rstd * *rstd * *rstd;
                for (((dx, dout), x), weight) in dx.iter_mut().zip(dout).zip(x).zip(weight) {
                    *dx += *rstd * (*weight * *dout) - pull * *x;
                }
                rounding.apply(dx);
            }
        },
    );
}

/// Elements of the scratch that [`weight_backward`] needs for `rows` rows of `width`.
pub fn partials_length(rows: usize, width: usize) -> usize {
    rows.div_ceil(ROW_BLOCK) * width
}

/// `dweight (C) +=` the gradient with respect to the weight: one partial sum a block of rows in `partials`, then those in
/// order.
///
/// # Panics
/// When the extents do not fit together.
pub fn weight_backward<R: Real>(x: &[R], rstd: &[R], dout: &[R], partials: &mut [R], dweight: &mut [R]) {
    let width = dweight.len();
    check(x, dout, rstd, width);
    let partials = &mut partials[..partials_length(rstd.len(), width)];
    let block = ROW_BLOCK * width;
    partials.par_chunks_mut(width).zip(dout.par_chunks(block)).zip(x.par_chunks(block)).zip(rstd.par_chunks(ROW_BLOCK)).for_each(
        |(((partial, dout), x), rstd)| {
            partial.fill(R::ZERO);
            for ((dout, x), rstd) in dout.chunks_exact(width).zip(x.chunks_exact(width)).zip(rstd) {
                for ((partial, dout), x) in partial.iter_mut().zip(dout).zip(x) {
                    *partial += *dout * (*x * *rstd);
                }
            }
        },
    );
    for partial in partials.chunks_exact(width) {
        for (dweight, partial) in dweight.iter_mut().zip(partial) {
            *dweight += *partial;
        }
    }
}

impl<R: Real> NormWeight<'_, R> {
    #[inline]
    fn row(self, x: &[R], rounding: Rounding, out: &mut [R], rstd: &mut R) {
        let share = R::from_f64(1.0 / self.weight.len() as f64);
        *rstd = R::ONE / (dot(x, x) * share + R::from_f64(self.epsilon)).square_root();
        scale_row(x, self.weight, *rstd, out);
        rounding.apply(out);
    }
}

#[inline]
fn scale_row<R: Real>(x: &[R], weight: &[R], rstd: R, out: &mut [R]) {
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = *weight * (*x * rstd);
    }
}

fn check<R: Real>(x: &[R], y: &[R], rstd: &[R], width: usize) {
    assert!(x.len() == y.len() && x.len() == rstd.len() * width, "norm: rows of {width} and their roots differ");
}

#[cfg(test)]
mod tests {
    use super::{NormWeight, add_forward, backward, forward, partials_length, rebuild, weight_backward};
    use crate::ops::rounding::Rounding;
    use crate::ops::vjp::{check_gradient, dot, random};

    const EPSILON: f64 = 1e-2;

    fn value(x: &[f64], weight: &[f64], dout: &[f64]) -> f64 {
        let (mut out, mut rstd) = (vec![0.0; x.len()], vec![0.0; x.len() / weight.len()]);
        forward(x, NormWeight { weight, epsilon: EPSILON }, Rounding::Exact, &mut out, &mut rstd);
        dot(&out, dout)
    }

    #[test]
    fn gradient_of_the_norm() {
        for (rows, width) in [(1, 3), (5, 16), (70, 37)] {
            let (x, weight, dout) = (random(1, rows * width), random(2, width), random(3, rows * width));
            let (mut out, mut rstd) = (vec![0.0; x.len()], vec![0.0; rows]);
            forward(&x, NormWeight { weight: &weight, epsilon: EPSILON }, Rounding::Exact, &mut out, &mut rstd);
            let mut dx = vec![0.0; x.len()];
            backward(&x, &weight, &rstd, &dout, (&mut dx, Rounding::Exact));
            check_gradient("x", &x, &dx, 1e-7, &|x| value(x, &weight, &dout));
            let mut dweight = vec![0.0; width];
            let mut partials = vec![f64::NAN; partials_length(rows, width)];
            weight_backward(&x, &rstd, &dout, &mut partials, &mut dweight);
            check_gradient("weight", &weight, &dweight, 1e-7, &|weight| value(&x, weight, &dout));
            // Accumulated, not written.
            let once = dweight.clone();
            weight_backward(&x, &rstd, &dout, &mut partials, &mut dweight);
            assert!(dweight.iter().zip(&once).all(|(twice, once)| (twice - 2.0 * once).abs() < 1e-12));
        }
    }

    #[test]
    fn rebuilt_rows_are_the_same_bits() {
        let (x, delta, weight) = (random(1, 40 * 24), random(4, 40 * 24), random(2, 24));
        let norm = NormWeight { weight: &weight, epsilon: EPSILON };
        for rounding in [Rounding::Exact, Rounding::Bf16] {
            let (mut out, mut rstd, mut again) = (vec![0.0; x.len()], vec![0.0; 40], vec![0.0; x.len()]);
            let mut sum = vec![f64::NAN; x.len()];
            add_forward((&x, &delta), norm, [rounding; 2], &mut sum, (&mut out, &mut rstd));
            rebuild(&sum, &weight, &rstd, rounding, &mut again);
            assert_eq!(out, again);
            let mut added: Vec<f64> = x.iter().zip(&delta).map(|(x, delta)| x + delta).collect();
            rounding.apply(&mut added);
            assert_eq!(sum, added);
            let mut apart = vec![f64::NAN; x.len()];
            forward(&sum, norm, rounding, &mut apart, &mut rstd);
            assert_eq!(out, apart);
        }
    }

    #[test]
    fn a_row_of_equal_values_normalises_to_the_weight() {
        let (mut out, mut rstd) = ([0.0; 4], [0.0]);
        let norm = NormWeight { weight: &[1.0, 2.0, 3.0, 4.0], epsilon: 1e-30 };
        forward(&[3.0_f64; 4], norm, Rounding::Exact, &mut out, &mut rstd);
        for (got, expected) in out.iter().zip([1.0, 2.0, 3.0, 4.0]) {
            assert!((got - expected).abs() < 1e-15 * 4.0, "{out:?}");
        }
    }
}
