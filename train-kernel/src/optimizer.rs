//! AdamW with decoupled decay on the CPU, and the global gradient norm that clipping needs.
//!
//! Everything here works on flat vectors in fixed chunks of [`CHUNK`] elements, so the result does not depend on
//! the number of threads. No learning-rate schedule (`schedule`) and no decision to skip a step (`guard`).

use std::ops::Range;

use rayon::prelude::{IntoParallelIterator, ParallelIterator, ParallelSlice};
use serde::{Deserialize, Serialize};

/// Elements of one unit of parallel work. It decides the order of summation of the norm, so it is part of the
/// result and never changes with the machine.
pub const CHUNK: usize = 65_536;

/// Accumulators of one chunk of the norm; fixed, so that the compiler may use vector registers without
/// changing the order of summation.
const LANES: usize = 8;

/// The constants of AdamW. Loshchilov & Hutter 2019, algorithm 2, with the learning rate inside the decay term
/// as PyTorch and Hugging Face apply it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWConstants {
    /// Decay rates of the first and second moment, each in [0, 1).
    pub betas: [f64; 2],
    /// Added to the root of the second moment; always explicit, because 1e-5 shrinks the updates of a large
    /// model several-fold against 1e-8.
    pub epsilon: f64,
    /// Decoupled decay, applied to matrices only.
    pub weight_decay: f64,
}

/// A part of the flat parameter vector that is decayed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecayRange {
    /// Elements of the flat vector.
    pub elements: Range<usize>,
    /// Whether weight decay applies: true for matrices, false for norm weights.
    pub decayed: bool,
}

/// What one update multiplies by; computed on the host in f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Factor on every gradient, from [`clip_factor`].
    pub gradient_factor: f64,
}

/// AdamW with its moments. Moments and arithmetic are f32, bias corrections come from f64.
#[derive(Debug, Clone)]
pub struct AdamW {
    constants: AdamWConstants,
    ranges: Vec<DecayRange>,
    first: Vec<f32>,
    second: Vec<f32>,
    updates: u64,
}

impl AdamW {
    /// Moments of zero for a vector that `ranges` cover without gap, in ascending order.
    ///
    /// # Panics
    /// When the ranges leave a gap or overlap: the layout they come from would be wrong.
    pub fn new(constants: AdamWConstants, ranges: Vec<DecayRange>) -> Self {
        let mut end = 0;
        for range in &ranges {
            assert_eq!(range.elements.start, end, "the ranges of a layout follow each other without a gap");
            end = range.elements.end;
        }
        Self { constants, ranges, first: vec![0.0; end], second: vec![0.0; end], updates: 0 }
    }

    /// Puts moments back that were read from a checkpoint.
    ///
    /// # Errors
    /// [`MomentLength`] when a vector has not the length of the parameters.
    pub fn restore(&mut self, first: Vec<f32>, second: Vec<f32>, updates: u64) -> Result<(), MomentLength> {
        for got in [first.len(), second.len()] {
            if got != self.first.len() {
                return Err(MomentLength { got, expected: self.first.len() });
            }
        }
        (self.first, self.second, self.updates) = (first, second, updates);
        Ok(())
    }

    /// First moments, one an element of the parameters.
    pub fn first(&self) -> &[f32] {
        &self.first
    }

    /// Second moments, one an element of the parameters.
    pub fn second(&self) -> &[f32] {
        &self.second
    }

    /// Updates applied so far; skipped steps do not count.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Applies one update in place: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
    /// w ← w − lr·(m̂ / (√v̂ + ε) + decay·w), with g the gradient times `update.gradient_factor`.
    ///
    /// # Panics
    /// When `weights` or `gradients` have another length than the moments.
    pub fn apply(&mut self, weights: &mut [f32], gradients: &[f32], update: Update) {
        assert_eq!(weights.len(), self.first.len(), "weights and moments come from one layout");
        assert_eq!(gradients.len(), self.first.len(), "gradients and moments come from one layout");
        self.updates += 1;
        let kernel = Kernel::new(&self.constants, update, self.updates);
        let mut chunks = Vec::with_capacity(weights.len() / CHUNK + self.ranges.len());
        let mut rest = (weights, self.first.as_mut_slice(), self.second.as_mut_slice(), gradients);
        for range in &self.ranges {
            let mut left = range.elements.len();
            while left > 0 {
                let size = left.min(CHUNK);
                let (w, w_rest) = rest.0.split_at_mut(size);
                let (m, m_rest) = rest.1.split_at_mut(size);
                let (v, v_rest) = rest.2.split_at_mut(size);
                let (g, g_rest) = rest.3.split_at(size);
                chunks.push((w, m, v, g, range.decayed));
                rest = (w_rest, m_rest, v_rest, g_rest);
                left -= size;
            }
        }
        chunks.into_par_iter().for_each(|(w, m, v, g, decayed)| kernel.run(w, m, v, g, decayed));
    }
}

/// Moments of a checkpoint that do not fit the parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("optimizer moments: {got} elements, the parameters have {expected}")]
pub struct MomentLength {
    /// Elements found.
    pub got: usize,
    /// Elements of the parameters.
    pub expected: usize,
}

/// The constants of one update, rounded to f32 once.
struct Kernel {
    beta1: f32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    correction1: f32,
    correction2: f32,
    epsilon: f32,
    learning_rate: f32,
    weight_decay: f32,
    gradient_factor: f32,
}

impl Kernel {
    fn new(constants: &AdamWConstants, update: Update, updates: u64) -> Self {
        let [beta1, beta2] = constants.betas;
        let exponent = i32::try_from(updates).unwrap_or(i32::MAX);
        Self {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            correction1: (1.0 / (1.0 - beta1.powi(exponent))) as f32,
            correction2: (1.0 / (1.0 - beta2.powi(exponent))) as f32,
            epsilon: constants.epsilon as f32,
            learning_rate: update.learning_rate as f32,
            weight_decay: constants.weight_decay as f32,
            gradient_factor: update.gradient_factor as f32,
        }
    }

    fn run(&self, weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradients: &[f32], decayed: bool) {
        let decay = if decayed { self.weight_decay } else { 0.0 };
        for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(gradients) {
            let g = g * self.gradient_factor;
            *m = self.beta1 * *m + self.one_minus_beta1 * g;
            *v = self.beta2 * *v + self.one_minus_beta2 * g * g;
            let direction = *m * self.correction1 / ((*v * self.correction2).sqrt() + self.epsilon);
            *w -= self.learning_rate * (direction + decay * *w);
        }
    }
}

/// Euclidean norm of the whole gradient, summed in f64 in a fixed order; not finite when an element is not.
pub fn gradient_norm(gradients: &[f32]) -> f64 {
    let partial: Vec<f64> = gradients.par_chunks(CHUNK).map(sum_of_squares).collect();
    partial.iter().sum::<f64>().sqrt()
}

/// The factor that brings a norm down to `limit`: limit / norm above it, else 1. A limit of 0 never clips.
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    if limit > 0.0 && norm > limit { limit / norm } else { 1.0 }
}

fn sum_of_squares(chunk: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let mut groups = chunk.chunks_exact(LANES);
    for group in groups.by_ref() {
        for (lane, &value) in lanes.iter_mut().zip(group) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    let tail: f64 = groups.remainder().iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    lanes.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::{AdamW, AdamWConstants, CHUNK, DecayRange, Update, clip_factor, gradient_norm};

    const CONSTANTS: AdamWConstants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.1 };

    fn wave(length: usize, phase: f32) -> Vec<f32> {
        (0..length).map(|i| ((i as f32) * 0.37 + phase).sin()).collect()
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
        let split = CHUNK + 5;
        let ranges =
            vec![DecayRange { elements: 0..split, decayed: true }, DecayRange { elements: split..length, decayed: false }];
        let mut adam = AdamW::new(CONSTANTS, ranges);
        let start = wave(length, 1.0);
        let mut weights = start.clone();
        let steps: Vec<Vec<f32>> = (0..10_u8).map(|t| wave(length, f32::from(t) * 1.7)).collect();
        for gradients in &steps {
            adam.apply(&mut weights, gradients, Update { learning_rate: 1e-2, gradient_factor: 0.5 });
        }
        assert_eq!(adam.updates(), 10);
        for i in (0..length).step_by(997).chain([0, split - 1, split, CHUNK, length - 1]) {
            let gradients: Vec<f64> = steps.iter().map(|g| f64::from(g[i] * 0.5)).collect();
            let expected = reference(f64::from(start[i]), &gradients, 1e-2, if i < split { 0.1 } else { 0.0 });
            // Ten updates of at most 1e-2, each with a relative f32 error of a few 2^-24, on weights of at most 1:
            // 10 · (2^-24 + 1e-2 · 8 · 2^-24) < 7e-7.
            assert!((f64::from(weights[i]) - expected).abs() < 7e-7, "element {i}: {} {expected}", weights[i]);
        }
    }

    #[test]
    fn first_update_moves_by_the_learning_rate_against_the_sign() {
        let mut adam = AdamW::new(CONSTANTS, vec![DecayRange { elements: 0..2, decayed: false }]);
        let mut weights = [1.0_f32, 1.0];
        adam.apply(&mut weights, &[3e-4, -7.0], Update { learning_rate: 0.125, gradient_factor: 1.0 });
        // The direction is g/(|g|+ε): ±1 up to ε/|g| = 3.4e-5 for the small one.
        assert!((weights[0] - 0.875).abs() < 1e-5 && (weights[1] - 1.125).abs() < 1e-6, "{weights:?}");
    }

    #[test]
    fn determinism_any_number_of_threads_gives_the_same_bits() {
        let length = 5 * CHUNK + 13;
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let gradients = wave(length, 0.5);
                let mut weights = wave(length, 2.0);
                let mut adam = AdamW::new(CONSTANTS, vec![DecayRange { elements: 0..length, decayed: true }]);
                adam.apply(&mut weights, &gradients, Update { learning_rate: 0.1, gradient_factor: 1.0 });
                let bits: Vec<u32> = weights.iter().map(|w| w.to_bits()).collect();
                (gradient_norm(&gradients).to_bits(), bits)
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn norm_and_clip() {
        let check = |gradients: &[f32], limit: f64, norm: f64, factor: f64| {
            let got = gradient_norm(gradients);
            assert!((got - norm).abs() <= 1e-12 * norm, "{got} {norm}");
            assert!((clip_factor(got, limit) - factor).abs() < 1e-15);
        };
        check(&[3.0, 4.0], 1.0, 5.0, 0.2);
        check(&[3.0, 4.0], 5.0, 5.0, 1.0);
        check(&[3.0, 4.0], 0.0, 5.0, 1.0);
        check(&vec![2.0; 4 * CHUNK], 1.0, 2.0 * (4.0 * CHUNK as f64).sqrt(), 1.0 / 1024.0);
        assert!(!gradient_norm(&[1.0, f32::NAN]).is_finite());
        assert!(!gradient_norm(&[1.0, f32::INFINITY]).is_finite());
        assert!(gradient_norm(&[f32::MAX, f32::MAX]).is_finite(), "squares are summed in f64");
    }

    #[test]
    fn restored_moments_must_fit() {
        let mut adam = AdamW::new(CONSTANTS, vec![DecayRange { elements: 0..3, decayed: true }]);
        assert!(adam.restore(vec![0.0; 3], vec![0.0; 2], 4).is_err());
        assert!(adam.restore(vec![0.5; 3], vec![0.25; 3], 4).is_ok());
        assert_eq!((adam.first(), adam.second(), adam.updates()), (&[0.5_f32; 3][..], &[0.25_f32; 3][..], 4));
    }
}
