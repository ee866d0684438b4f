//! Sums over a row in a fixed order that the compiler can keep in vector registers.
//!
//! The number of partial sums is a constant of the result, not of the processor.

use crate::real::Real;

/// Partial sums of one row.
const LANES: usize = 16;
/// Elements that are summed in the row's own width before they join an f64 total.
const BLOCK: usize = 512;

/// The scalar product of two rows of one length.
#[inline]
pub(crate) fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    let mut lanes = [R::ZERO; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: R = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| *x * *y).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    fold(lanes) + tail
}

/// The scalar product of three rows of one length, element by element.
#[inline]
pub(crate) fn dot3<R: Real>(a: &[R], b: &[R], c: &[R]) -> R {
    let mut lanes = [R::ZERO; LANES];
    let whole = a.len() / LANES * LANES;
    let (b, c) = (&b[..a.len()], &c[..a.len()]);
    let tail: R = (whole..a.len()).map(|index| a[index] * b[index] * c[index]).sum();
    for ((a, b), c) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)).zip(c.chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane] * c[lane];
        }
    }
    fold(lanes) + tail
}

/// The sum of a row, block by block into f64.
#[inline]
pub(crate) fn sum<R: Real>(row: &[R]) -> f64 {
    row.chunks(BLOCK)
        .map(|block| {
            let mut lanes = [R::ZERO; LANES];
            let chunks = block.chunks_exact(LANES);
            let tail: R = chunks.remainder().iter().copied().sum();
            for chunk in chunks {
                for lane in 0..LANES {
                    lanes[lane] += chunk[lane];
                }
            }
            (fold(lanes) + tail).to_f64()
        })
        .sum()
}

/// The largest element; minus infinity of an empty row.
#[inline]
pub(crate) fn maximum<R: Real>(row: &[R]) -> R {
    let mut lanes = [R::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks.remainder().iter().fold(R::NEG_INFINITY, |most, value| most.maximum(*value));
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane].maximum(chunk[lane]);
        }
    }
    lanes.iter().fold(tail, |most, value| most.maximum(*value))
}

/// The lanes' sum, pairwise.
#[inline]
fn fold<R: Real>(mut lanes: [R; LANES]) -> R {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            let other = lanes[lane + width];
            lanes[lane] += other;
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::{dot, dot3, maximum, sum};

    #[test]
    fn rows_of_every_length_are_summed_whole() {
        for length in 0..1100_u32 {
            let row: Vec<f64> = (0..length).map(|i| f64::from(i % 7) - 2.0).collect();
            let plain: f64 = row.iter().sum();
            let squares: f64 = row.iter().map(|x| x * x).sum();
            let cubes: f64 = row.iter().map(|x| x * x * x).sum();
            // Small whole numbers: every order of summation is exact.
            let check = |got: f64, expected: f64| assert_eq!(got.to_bits(), expected.to_bits(), "{length}");
            check(sum(&row) + 0.0, plain + 0.0);
            check(dot(&row, &row) + 0.0, squares + 0.0);
            check(dot3(&row, &row, &row) + 0.0, cubes + 0.0);
            check(maximum(&row), row.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
    }

    #[test]
    fn long_rows_lose_nothing_to_the_narrow_width() {
        // A million times 0.1f32: naive f32 summation is off by 1 %.
        let row = vec![0.1_f32; 1_000_000];
        let error = (sum(&row) / (1e6 * f64::from(0.1_f32)) - 1.0).abs();
        // 32 additions a lane and 5 folds, half a spacing each.
        assert!(error < 37.0 * 6e-8, "{error}");
    }
}
