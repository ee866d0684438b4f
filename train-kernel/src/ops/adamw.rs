//! AdamW on flat vectors, and the Euclidean norm that clipping needs.
//!
//! Everything here works in fixed chunks of [`CHUNK`] elements, so that the result does not depend on the number of threads.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::backend::Draw;
use crate::optimizer::AdamWScalars;
use crate::random::{Purpose, Stream};
use crate::real::Real;

/// Elements of one unit of parallel work. It decides the order of summation of the norm, so it is part of the
/// result and never changes with the machine.
pub const CHUNK: usize = 65_536;

/// Elements that one block of random numbers rounds.
const DRAWN_ELEMENTS: u64 = 8;

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
/// `factor`. With a `draw` the moments are stored in bf16: the weight moves by what they are before they are rounded.
///
/// # Panics
/// When the lengths differ.
pub fn update<R: Real>(weights: Weights<'_, R>, gradient: &[R], factor: f64, scalars: AdamWScalars, draw: Option<Draw>) {
    let Weights { master, first, second } = weights;
    let length = master.len();
    assert!(first.len() == length && second.len() == length && gradient.len() == length, "adamw: lengths differ");
    let kernel = Kernel::new(scalars, factor);
    let state = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    let chunks = master.par_chunks_mut(CHUNK).zip(state).zip(gradient.par_chunks(CHUNK)).enumerate();
    chunks.for_each(|(index, ((w, (m, v)), g))| {
        kernel.run(w, m, v, g);
        if let Some(draw) = draw {
            let first_element = draw.first_element + (index * CHUNK) as u64;
            for (moment, values) in [m, v].into_iter().enumerate() {
                round_moment(Draw { first_element, ..draw }, moment, values);
            }
        }
    });
}

/// Rounds a part of the first moments (0) or the second (1) to bf16, stochastically (Gupta and others 2015): away from zero with the
/// probability that keeps the mean, by 16 bits of the generator for each element. To nearest, a moment would stay where it is once
/// an update moves it by less than half a spacing.
pub fn round_moment<R: Real>(draw: Draw, moment: usize, values: &mut [R]) {
    let stream = Stream::new(draw.seed, Purpose::Rounding, draw.update, moment);
    // The elements before the first whole block, and then a block at a time.
    let place = (draw.first_element % DRAWN_ELEMENTS) as usize;
    let (head, rest) = values.split_at_mut(values.len().min((DRAWN_ELEMENTS as usize - place) % DRAWN_ELEMENTS as usize));
    let blocks = std::iter::once((head, place)).chain(rest.chunks_mut(DRAWN_ELEMENTS as usize).map(|block| (block, 0)));
    let mut element = draw.first_element;
    for (block, place) in blocks {
        let bits = if block.is_empty() { continue } else { stream.halves(element / DRAWN_ELEMENTS) };
        for (value, bits) in block.iter_mut().zip(&bits[place..]) {
            *value = value.to_bf16_by(*bits);
        }
        element += block.len() as u64;
    }
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
    use super::{CHUNK, Weights, norm, round_moment, update};
    use crate::backend::Draw;
    use crate::optimizer::{AdamWConstants, AdamWScalars};
    use crate::real::Real;

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
                update(weights, gradient, 0.5, scalars(1e-2, decayed, index as u64 + 1), None);
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
        update(weights, &[3e-4, -7.0], 1.0, scalars(0.125, false, 1), None);
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
                for draw in [None, Some(Draw { seed: 5, update: 2, first_element: 3 })] {
                    let weights = Weights { master: &mut master, first: &mut first, second: &mut second };
                    update(weights, &gradient, 1.0, scalars(0.1, true, 1), draw);
                }
                let bits: Vec<u32> = [&master, &first, &second].into_iter().flatten().map(|value| value.to_bits()).collect();
                (norm(&gradient).to_bits(), bits)
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn determinism_parts_of_a_set_round_as_the_whole() {
        let length = CHUNK + 1000;
        let values = wave(length, 0.3);
        let draw = |first_element: usize| Draw { seed: 11, update: 9, first_element: first_element as u64 };
        let mut whole = values.clone();
        round_moment(draw(40), 1, &mut whole);
        for cut in [0, 1, 7, 8, 13, CHUNK, length - 3, length] {
            let mut parts = values.clone();
            let (left, right) = parts.split_at_mut(cut);
            round_moment(draw(40), 1, left);
            round_moment(draw(40 + cut), 1, right);
            assert!(parts == whole, "cut at {cut}");
        }
        let changed = |other: Draw, moment: usize| {
            let mut rounded = values.clone();
            round_moment(other, moment, &mut rounded);
            rounded != whole
        };
        assert!(
            changed(draw(48), 1) && changed(draw(41), 1) && changed(draw(40), 0),
            "elements and moments have their own numbers"
        );
        assert!(changed(Draw { update: 10, ..draw(40) }, 1) && changed(Draw { seed: 12, ..draw(40) }, 1));
    }

    #[test]
    fn rounding_by_chance_keeps_the_mean() {
        let count = 400_000;
        // Of spacings of 2^-7 and 2^-133: shares of a spacing from none to nearly all, both signs, subnormal numbers.
        let tiny = f32::from_bits(0x0001_4000);
        for (value, spacing) in
            [(1.0, 0.0), (1.0 + 0.25 / 128.0, 1.0 / 128.0), (-1.5 - 0.9 / 128.0, 1.0 / 128.0), (tiny, f32::from_bits(1 << 16))]
        {
            let mut values = vec![value; count];
            round_moment(Draw { seed: 3, update: 1, first_element: 0 }, 0, &mut values);
            let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count as f64;
            // Five standard errors of a choice between two values a spacing apart: at most half of it each.
            let bound = 5.0 * f64::from(spacing) * 0.5 / (count as f64).sqrt();
            assert!((mean - f64::from(value)).abs() <= bound, "{value:e}: {mean:e}");
            let near = |rounded: &f32| (rounded - value).abs() <= spacing && rounded.to_bits().trailing_zeros() >= 16;
            assert!(values.iter().all(near), "{value:e}: a value that is no neighbour");
        }
    }

    #[test]
    fn second_moments_in_bf16_do_not_freeze() {
        // β₂ = 0.95 and gradients of 1: v goes to 1. From 247/256 rounding to nearest never leaves: an update adds 0.05 · 9/256,
        // less than half of the spacing of 2^-8.
        let start = 247.0 / 256.0_f32;
        assert_eq!((0.95 * start + 0.05).to_bf16().to_bits(), start.to_bits());
        let (length, updates) = (4096, 150);
        let (mut master, mut first, mut second) = (vec![0.0_f32; length], vec![0.0; length], vec![start; length]);
        for number in 1..=updates {
            let draw = Some(Draw { seed: 1, update: number, first_element: 0 });
            let weights = Weights { master: &mut master, first: &mut first, second: &mut second };
            update(weights, &vec![1.0; length], 1.0, scalars(1e-3, false, number), draw);
        }
        let mean = second.iter().map(|value| f64::from(*value)).sum::<f64>() / length as f64;
        // What is left of the way: 9/256 · 0.95^150 < 2e-5. A rounding has a variance of at most (2^-7)²/4, of which
        // 1/(1 - 0.95²) = 10.3 times add up: a deviation of 0.0126, of the mean of 4,096 elements 2e-4; five of those.
        assert!((mean - 1.0).abs() < 1e-3 + 2e-5, "{mean}");
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
