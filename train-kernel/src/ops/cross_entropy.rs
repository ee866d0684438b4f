//! Softmax cross-entropy of rows of logits: the loss, and its gradient in place of the logits.
//!
//! It sees one chunk of rows at a time; a row that is not counted has loss 0 and gradient 0.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::ops::reduce::{maximum, sum};
use crate::ops::rounding::Rounding;
use crate::real::Real;

/// What rows are to predict.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// Token ids, `(n)`; anything where a row is not counted.
    pub tokens: &'a [u32],
    /// Whether a row is counted, `(n)`.
    pub counted: &'a [bool],
}

/// `losses (n) =` the cross-entropy in nats of each row of `logits (n, V)`; `logits =` its gradient times `scale`,
/// (softmax - one-hot) scale, rounded.
///
/// # Panics
/// When the extents do not fit together.
pub fn forward_backward<R: Real>((logits, rounding): (&mut [R], Rounding), targets: Targets<'_>, scale: f64, losses: &mut [R]) {
    let vocabulary = targets.check(logits, losses);
    let factor = R::from_f64(scale);
    let rows = logits.par_chunks_mut(vocabulary).zip(losses);
    rows.zip(targets.tokens).zip(targets.counted).for_each(|(((row, loss), &target), &counted)| {
        if !counted {
            row.fill(R::ZERO);
            *loss = R::ZERO;
            return;
        }
        let target = target as usize;
        let logit = row[target];
        let most = maximum(row);
        for value in row.iter_mut() {
            *value = (*value - most).exp();
        }
        let total = sum(row);
        *loss = R::from_f64(total.ln() + (most.to_f64() - logit.to_f64()));
        let share = R::from_f64(scale / total);
        for value in row.iter_mut() {
            *value *= share;
        }
        row[target] -= factor;
        rounding.apply(row);
    });
}

/// `losses (n) =` as above; `logits (n, V)` are left as they are.
///
/// # Panics
/// When the extents do not fit together.
pub fn forward<R: Real>(logits: &[R], targets: Targets<'_>, losses: &mut [R]) {
    let vocabulary = targets.check(logits, losses);
    let rows = logits.par_chunks(vocabulary).zip(losses);
    rows.zip(targets.tokens).zip(targets.counted).for_each(|(((row, loss), &target), &counted)| {
        *loss = if counted { R::from_f64(-log_probability(row, target)) } else { R::ZERO };
    });
}

/// The natural logarithm of the probability that a row of logits gives to `target`.
///
/// # Panics
/// When `target` is not below the row's length.
pub fn log_probability<R: Real>(row: &[R], target: u32) -> f64 {
    let most = maximum(row);
    let mut total = 0.0;
    let mut terms = [R::ZERO; 512];
    for block in row.chunks(terms.len()) {
        for (term, value) in terms.iter_mut().zip(block) {
            *term = (*value - most).exp();
        }
        total += sum(&terms[..block.len()]);
    }
    row[target as usize].to_f64() - most.to_f64() - total.ln()
}

impl Targets<'_> {
    /// The number of logits of a row.
    fn check<R: Real>(self, logits: &[R], losses: &[R]) -> usize {
        let rows = self.tokens.len();
        assert!(rows == losses.len() && rows == self.counted.len(), "cross-entropy: targets and losses differ in number");
        let vocabulary = logits.len().checked_div(rows).unwrap_or(1);
        assert_eq!(vocabulary * rows, logits.len(), "cross-entropy: logits are not whole rows");
        vocabulary.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Rounding, Targets, forward, forward_backward, log_probability};
    use crate::ops::vjp::{check_gradient, dot, random};

    #[test]
    fn gradient_of_the_cross_entropy() {
        for (rows, vocabulary) in [(1, 2), (5, 33), (3, 1025)] {
            let logits = random(1, rows * vocabulary);
            let tokens: Vec<u32> = (0..rows).map(|row| (row * 7 % vocabulary) as u32).collect();
            let counted: Vec<bool> = (0..rows).map(|row| row != 1).collect();
            let targets = Targets { tokens: &tokens, counted: &counted };
            let value = |logits: &[f64]| {
                let mut losses = vec![f64::NAN; rows];
                forward(logits, targets, &mut losses);
                losses.iter().sum::<f64>() * 0.25
            };
            let (mut gradient, mut losses) = (logits.clone(), vec![f64::NAN; rows]);
            forward_backward((&mut gradient, Rounding::Exact), targets, 0.25, &mut losses);
            check_gradient("logits", &logits, &gradient, 1e-7, &value);
            let mut again = vec![f64::NAN; rows];
            forward(&logits, targets, &mut again);
            for (loss, again) in losses.iter().zip(&again) {
                assert!((loss - again).abs() < 1e-14 * loss.abs().max(1.0));
            }
            // Each row's gradient sums to zero: probabilities do.
            assert!(dot(&gradient, &vec![1.0; gradient.len()]).abs() < 1e-13);
            for (row, &counted) in counted.iter().enumerate() {
                let zero = gradient[row * vocabulary..][..vocabulary].iter().all(|value| *value == 0.0);
                assert!(counted != zero && counted != (losses[row] == 0.0));
            }
        }
    }

    #[test]
    fn equal_logits_give_the_logarithm_of_the_vocabulary() {
        for vocabulary in [1_usize, 2, 1000, 32_000] {
            let check = |loss: f64| {
                let expected = (vocabulary as f64).ln();
                assert!((loss - expected).abs() < 1e-12, "{vocabulary}: {loss}");
            };
            let mut losses = [0.0];
            let targets = Targets { tokens: &[0], counted: &[true] };
            forward(&vec![3.25_f64; vocabulary], targets, &mut losses);
            check(losses[0]);
            forward_backward((&mut vec![-7.5_f64; vocabulary], Rounding::Exact), targets, 1.0, &mut losses);
            check(losses[0]);
            check(-log_probability(&vec![2.0_f32; vocabulary], 0));
        }
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let mut logits = [3e38_f32, -3e38, 0.0];
        assert!((log_probability(&logits, 0)).abs() < 1e-6);
        let mut losses = [0.0];
        let targets = Targets { tokens: &[0], counted: &[true] };
        forward_backward((&mut logits, Rounding::Bf16), targets, 1.0, &mut losses);
        assert!(losses[0].abs() < 1e-6 && logits.iter().all(|value| value.abs() < 1e-6));
    }
}
