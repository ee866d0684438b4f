//! The check that every operation's backward passes: its vector-Jacobian product against central differences.
//!
//! For tests only, always in f64.

use crate::random::{Purpose, Stream};

/// Normal numbers, a function of `tensor` alone.
pub(crate) fn random(tensor: usize, length: usize) -> Vec<f64> {
    let stream = Stream::new(17, Purpose::Initialisation, 0, tensor);
    (0..length as u64).map(|element| stream.normal(element)).collect()
}

/// Scalar product.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Checks that `gradient` is the derivative of `value` at `point`: along three random directions and along the gradient
/// itself, a central difference of step 1e-5 agrees to a relative error of `bound`.
pub(crate) fn check_gradient(name: &str, point: &[f64], gradient: &[f64], bound: f64, value: &dyn Fn(&[f64]) -> f64) {
    let norm = dot(gradient, gradient).sqrt();
    assert!(norm > 0.0, "{name}: the gradient is zero, the check would show nothing");
    for direction in 0..4 {
        let vector: Vec<f64> = match direction {
            0 => gradient.iter().map(|g| g / norm).collect(),
            _ => random(900 + direction, point.len()),
        };
        let length = dot(&vector, &vector).sqrt();
        let step = 1e-5;
        let moved = |sign: f64| -> Vec<f64> { point.iter().zip(&vector).map(|(x, v)| x + sign * step * v / length).collect() };
        let difference = (value(&moved(1.0)) - value(&moved(-1.0))) / (2.0 * step);
        let expected = dot(gradient, &vector) / length;
        // Along random directions the derivative may be small by chance: errors are relative to the gradient's norm
        // spread over the tensor, never to less.
        let size = expected.abs().max(norm / (point.len() as f64).sqrt());
        let error = (difference - expected).abs() / size;
        assert!(error < bound, "{name}, direction {direction}: {difference} against {expected}, relative {error:e}");
    }
}
