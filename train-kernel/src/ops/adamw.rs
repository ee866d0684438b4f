//! AdamW on flat vectors, and the Euclidean norm that clipping needs.
//!
//! Everything here works in fixed chunks of [`CHUNK`] elements, so that the result does not depend on the number of threads.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::ops::rounding::Rounding;
use crate::optimizer::AdamWScalars;
use crate::real::Real;

/// Elements of one unit of parallel work. It decides the order of summation of the norm, so it is part of the
/// result and never changes with the machine.
pub const CHUNK: usize = 65_536;

/// Accumulators of one chunk of the norm; fixed, so that the compiler may use vector registers without
/// changing the order of summation.
const LANES: usize = 8;

/// What one update changes, element by element.
#[derive(Debug)]
pub struct Weights<'a, R> {
    /// Full-precision weights.
    pub master: &'a mut [R],
    /// First moments.
    pub first: &'a mut [R],
    /// Second moments.
    pub second: &'a mut [R],
}

/// One update in place: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², w ← w − lr·(m̂ / (√v̂ + ε) + decay·w), with g the gradient times
/// `factor`; moments are rounded where they are stored so.
///
/// # Panics
/// When the lengths differ.
pub fn update<R: Real>(weights: Weights<'_, R>, gradient: &[R], factor: f64, scalars: AdamWScalars, moments: Rounding) {
    let Weights { master, first, second } = weights;
    let length = master.len();
    assert!(first.len() == length && second.len() == length && gradient.len() == length, "adamw: lengths differ");
    let kernel = Kernel::new(scalars, factor);
    let state = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    master.par_chunks_mut(CHUNK).zip(state).zip(gradient.par_chunks(CHUNK)).for_each(|((w, (m, v)), g)| {
        kernel.run(w, m, v, g);
        moments.apply(m);
        moments.apply(v);
    });
}

/// The constants of one update, rounded to the width of the weights once.
struct Kernel<R> {
    beta1: R,
    beta2: R,
    one_minus_beta1: R,
    one_minus_beta2: R,
    correction1: R,
    correction2: R,
    epsilon: R,
    learning_rate: R,
    decay: R,
    factor: R,
}

impl<R: Real> Kernel<R> {
    fn new(scalars: AdamWScalars, factor: f64) -> Self {
        let [beta1, beta2] = scalars.betas;
        Self {
            beta1: R::from_f64(beta1),
            beta2: R::from_f64(beta2),
            one_minus_beta1: R::from_f64(1.0 - beta1),
            one_minus_beta2: R::from_f64(1.0 - beta2),
            correction1: R::from_f64(scalars.corrections[0]),
            correction2: R::from_f64(scalars.corrections[1]),
            epsilon: R::from_f64(scalars.epsilon),
            learning_rate: R::from_f64(scalars.learning_rate),
            decay: R::from_f64(scalars.weight_decay),
            factor: R::from_f64(factor),
        }
    }

    fn run(&self, weights: &mut [R], first: &mut [R], second: &mut [R], gradient: &[R]) {
        for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(gradient) {
            let g = *g * self.factor;
            *m = self.beta1 * *m + self.one_minus_beta1 * g;
            *v = self.beta2 * *v + self.one_minus_beta2 * g * g;
            let direction = *m * self.correction1 / ((*v * self.correction2).square_root() + self.epsilon);
            *w -= self.learning_rate * (direction + self.decay * *w);
        }
    }
}

/// Euclidean norm, summed in f64 in a fixed order; not finite when an element is not.
pub fn norm<R: Real>(values: &[R]) -> f64 {
    let partial: Vec<f64> = values.par_chunks(CHUNK).map(sum_of_squares).collect();
    partial.iter().sum::<f64>().sqrt()
}

fn sum_of_squares<R: Real>(chunk: &[R]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let mut groups = chunk.chunks_exact(LANES);
    for group in groups.by_ref() {
        for (lane, value) in lanes.iter_mut().zip(group) {
            *lane += value.to_f64() * value.to_f64();
        }
    }
    let tail: f64 = groups.remainder().iter().map(|value| value.to_f64() * value.to_f64()).sum();
    lanes.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Rounding, Weights, norm, update};
    use crate::optimizer::{AdamWConstants, AdamWScalars};

    const CONSTANTS: AdamWConstants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.1 };

    fn wave(length: usize, phase: f32) -> Vec<f32> {
        (0..length).map(|i| ((i as f32) * 0.37 + phase).sin()).collect()
    }

    fn scalars(learning_rate: f64, decayed: bool, updates: u64) -> AdamWScalars {
        AdamWScalars::new(CONSTANTS, learning_rate, decayed, updates)
    }

    /// AdamW of one element in f64, written from the formula and not from the kernel.
    fn reference(weight: f64, gradients: &[f64], learning_rate: f64, decay: f64) -> f64 {
        let (mut w, mut m, mut v) = (weight, 0.0_f64, 0.0_f64);
        for (i, g) in gradients.iter().enumerate() {
            let t = (i + 1) as f64;
            m = 0.9 * m + 0.1 * g;
            v = 0.95 * v + 0.05 * g * g;
            let mean = m / (1.0 - 0.9_f64.powf(t));
            let square = v / (1.0 - 0.95_f64.powf(t));
            w -= learning_rate * (mean / (square.sqrt() + 1e-8) + decay * w);
        }
        w
    }

    #[test]
    fn ten_updates_equal_the_formula_in_f64() {
        let length = 2 * CHUNK + 77;
        for decayed in [true, false] {
            let start = wave(length, 1.0);
            let (mut master, mut first, mut second) = (start.clone(), vec![0.0; length], vec![0.0; length]);
            let steps: Vec<Vec<f32>> = (0..10_u8).map(|t| wave(length, f32::from(t) * 1.7)).collect();
            for (index, gradient) in steps.iter().enumerate() {
                let weights = Weights { master: &mut master, first: &mut first, second: &mut second };
                update(weights, gradient, 0.5, scalars(1e-2, decayed, index as u64 + 1), Rounding::Exact);
            }
            for i in (0..length).step_by(997).chain([0, CHUNK, length - 1]) {
                let gradients: Vec<f64> = steps.iter().map(|g| f64::from(g[i] * 0.5)).collect();
                let expected = reference(f64::from(start[i]), &gradients, 1e-2, if decayed { 0.1 } else { 0.0 });
                // Ten updates of at most 1e-2, each with a relative f32 error of a few 2^-24, on weights of at most 1:
                // 10 · (2^-24 + 1e-2 · 8 · 2^-24) < 7e-7.
                assert!((f64::from(master[i]) - expected).abs() < 7e-7, "element {i}: {} {expected}", master[i]);
            }
        }
    }

    #[test]
    fn first_update_moves_by_the_learning_rate_against_the_sign() {
        let (mut master, mut first, mut second) = ([1.0_f32, 1.0], [0.0; 2], [0.0; 2]);
        let weights = Weights { master: &mut master, first: &mut first, second: &mut second };
        update(weights, &[3e-4, -7.0], 1.0, scalars(0.125, false, 1), Rounding::Exact);
        // The direction is g/(|g|+ε): ±1 up to ε/|g| = 3.4e-5 for the small one.
        assert!((master[0] - 0.875).abs() < 1e-5 && (master[1] - 1.125).abs() < 1e-6, "{master:?}");
    }

    #[test]
    fn determinism_any_number_of_threads_gives_the_same_bits() {
        let length = 5 * CHUNK + 13;
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let gradient = wave(length, 0.5);
                let (mut master, mut first, mut second) = (wave(length, 2.0), vec![0.0; length], vec![0.0; length]);
                let weights = Weights { master: &mut master, first: &mut first, second: &mut second };
                update(weights, &gradient, 1.0, scalars(0.1, true, 1), Rounding::Exact);
                let bits: Vec<u32> = master.iter().map(|w| w.to_bits()).collect();
                (norm(&gradient).to_bits(), bits)
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn norms() {
        let check = |values: &[f32], expected: f64| {
            let got = norm(values);
            assert!((got - expected).abs() <= 1e-12 * expected, "{got} {expected}");
        };
        check(&[3.0, 4.0], 5.0);
        check(&[], 0.0);
        check(&vec![2.0; 4 * CHUNK], 2.0 * (4.0 * CHUNK as f64).sqrt());
        assert!(!norm(&[1.0, f32::NAN]).is_finite());
        assert!(!norm(&[1.0, f32::INFINITY]).is_finite());
        assert!(norm(&[f32::MAX, f32::MAX]).is_finite(), "squares are summed in f64");
    }
}
