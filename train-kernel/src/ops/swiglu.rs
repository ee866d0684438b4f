//! The gated activation (Shazeer 2020, "GLU variants"): a = silu(g) u with silu(g) = g / (1 + e^-g).
//!
//! The backward writes the activation again, because the weight gradient of the projection behind it needs it and it was
//! not kept.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::ops::ROW_BLOCK;
use crate::ops::rounding::Rounding;
use crate::real::Real;

/// `out (N, F) =` silu of the left half of each row of `gate_up (N, 2F)` times the right half, rounded.
///
/// # Panics
/// When the extents do not fit together.
pub fn forward<R: Real>(gate_up: &[R], (out, rounding): (&mut [R], Rounding), width: usize) {
    assert!(gate_up.len() == 2 * out.len() && out.len().is_multiple_of(width), "swiglu: rows of {width}");
    let block = ROW_BLOCK * width;
    out.par_chunks_mut(block).zip(gate_up.par_chunks(2 * block)).for_each(|(out, gate_up)| {
        for (out, gate_up) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(2 * width)) {
            let (gate, up) = gate_up.split_at(width);
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = *gate * sigmoid(*gate) * *up;
            }
            rounding.apply(out);
        }
    });
}

/// Given `dout (N, F)`: `dgate_up (N, 2F) =` the gradient with respect to `gate_up (N, 2F)`, and `out (N, F) =` the
/// activation again, bit for bit; both rounded.
///
/// # Panics
/// When the extents do not fit together.
pub fn backward<R: Real>(
    gate_up: &[R],
    dout: &[R],
    (dgate_up, gradient_rounding): (&mut [R], Rounding),
    (out, rounding): (&mut [R], Rounding),
    width: usize,
) {
    let fits = gate_up.len() == 2 * out.len() && dgate_up.len() == gate_up.len() && dout.len() == out.len();
    assert!(fits && out.len().is_multiple_of(width), "swiglu backward: rows of {width}");
    let block = ROW_BLOCK * width;
    out.par_chunks_mut(block)
        .zip(dgate_up.par_chunks_mut(2 * block))
        .zip(gate_up.par_chunks(2 * block).zip(dout.par_chunks(block)))
        .for_each(|((out, dgate_up), (gate_up, dout))| {
            let rows = out.chunks_exact_mut(width).zip(dgate_up.chunks_exact_mut(2 * width));
            for ((out, dgate_up), (gate_up, dout)) in rows.zip(gate_up.chunks_exact(2 * width).zip(dout.chunks_exact(width))) {
                row_backward(gate_up, dout, dgate_up, out);
                gradient_rounding.apply(dgate_up);
                rounding.apply(out);
            }
        });
}

#[inline]
fn row_backward<R: Real>(gate_up: &[R], dout: &[R], dgate_up: &mut [R], out: &mut [R]) {
    let width = out.len();
    let (gate, up) = gate_up.split_at(width);
    let (dgate, dup) = dgate_up.split_at_mut(width);
    let (dgate, dup, dout, up) = (&mut dgate[..width], &mut dup[..width], &dout[..width], &up[..width]);
    for index in 0..width {
        let s = sigmoid(gate[index]);
        let silu = gate[index] * s;
        out[index] = silu * up[index];
        dup[index] = dout[index] * silu;
        dgate[index] = dout[index] * up[index] * (s * (R::ONE + gate[index] * (R::ONE - s)));
    }
}

/// 1 / (1 + e^-x): 0 and 1 at the ends, never NaN for a number.
#[inline]
fn sigmoid<R: Real>(x: R) -> R {
    R::ONE / (R::ONE + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::{backward, forward, sigmoid};
    use crate::ops::rounding::Rounding;
    use crate::ops::vjp::{check_gradient, dot, random};

    #[test]
    fn gradient_of_the_gated_activation() {
        for (rows, width) in [(1, 1), (3, 17), (40, 33)] {
            let (gate_up, dout) = (random(1, rows * 2 * width), random(2, rows * width));
            let value = |gate_up: &[f64]| {
                let mut out = vec![0.0; rows * width];
                forward(gate_up, (&mut out, Rounding::Exact), width);
                dot(&out, &dout)
            };
            let (mut dgate_up, mut out) = (vec![0.0; gate_up.len()], vec![0.0; dout.len()]);
            let exact = Rounding::Exact;
            backward(&gate_up, &dout, (&mut dgate_up, exact), (&mut out, exact), width);
            check_gradient("gate and up", &gate_up, &dgate_up, 1e-7, &value);
            for rounding in [exact, Rounding::Bf16] {
                let mut again = vec![0.0; dout.len()];
                forward(&gate_up, (&mut again, rounding), width);
                backward(&gate_up, &dout, (&mut dgate_up, exact), (&mut out, rounding), width);
                assert_eq!(out, again, "the activation is rebuilt bit for bit");
            }
        }
    }

    #[test]
    fn the_ends_of_the_sigmoid() {
        let check = |x: f32, expected: f32| assert_eq!(sigmoid(x).to_bits(), expected.to_bits(), "{x}");
        check(0.0, 0.5);
        check(200.0, 1.0);
        check(-200.0, 0.0);
        assert!(sigmoid(f32::NAN).is_nan());
    }
}
