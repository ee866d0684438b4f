//! How fast the processor multiplies matrices, measured: what utilization is a share of where no data sheet names a peak.

use std::time::{Duration, Instant};

use crate::ops::gemm::{Terms, matrix, matrix_mut, multiply};

/// Rows and columns of the matrices.
const SIZE: usize = 384;
/// How long it is measured, after a first product.
const TIME: Duration = Duration::from_millis(150);

/// Floating-point operations per second of f32 products on all threads, the best of those that a fraction of a second has time
/// for. Another measurement gives another number: for progress and records of speed, never for results.
pub fn product_rate() -> f64 {
    let (a, b) = (vec![0.5_f32; SIZE * SIZE], vec![0.25_f32; SIZE * SIZE]);
    let mut c = vec![0.0_f32; SIZE * SIZE];
    let mut product = || {
        let began = Instant::now();
        let [a, b] = [&a, &b].map(|values| matrix(values, SIZE, SIZE, SIZE));
        multiply(Terms::plain(), a, b, matrix_mut(&mut c, SIZE, SIZE, SIZE));
        began.elapsed()
    };
    product();
    let (began, mut best) = (Instant::now(), Duration::MAX);
    while best == Duration::MAX || began.elapsed() < TIME {
        best = best.min(product());
    }
    2.0 * (SIZE as f64).powi(3) / best.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::product_rate;

    #[test]
    fn the_rate_is_that_of_a_processor() {
        let rate = product_rate();
        assert!((1e7..1e14).contains(&rate), "{rate:e}");
    }
}
