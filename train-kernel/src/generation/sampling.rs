//! How the next token is chosen from logits: the most likely one, or one drawn at a temperature from the top share.
//!
//! A draw is a pure function of seed, text and place: the same request gives the same text, whatever else is decoded with it.

use crate::random::{Purpose, Stream};
use crate::real::Real;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// The most likely token, the smallest id among equals.
    Greedy,
    /// A draw from softmax(logits / temperature), cut to the fewest most likely tokens that together have `top_p`.
    Draw {
        /// Above 0.
        temperature: f64,
        /// Above 0, at most 1; 1 cuts nothing.
        top_p: f64,
        /// Seed of the draws.
        seed: u64,
        /// Which text of the seed.
        text: u32,
    },
}

impl Sampling {
    /// The token at `place` (tokens chosen before it) for these logits.
    pub fn choose<E: Real>(self, logits: &[E], place: u64) -> u32 {
        match self {
            Self::Greedy => argmax(logits),
            Self::Draw { temperature, top_p, seed, text } => {
                let uniform = Stream::new(seed, Purpose::Sampling, place, text as usize & 0x00ff_ffff).uniform(0);
                draw(logits, temperature, top_p, uniform)
            }
        }
    }
}

/// The token at `uniform`, in (0, 1), of the cut and sorted distribution.
fn draw<E: Real>(logits: &[E], temperature: f64, top_p: f64, uniform: f64) -> u32 {
    let best = argmax(logits);
    let most = logits[best as usize].to_f64();
    if !most.is_finite() {
        return best;
    }
    let weight = |logit: &E| {
        let value = logit.to_f64();
        if value.is_nan() { 0.0 } else { ((value - most) / temperature).exp() }
    };
    let mut weights: Vec<(f64, u32)> = logits.iter().map(weight).zip(0..).collect();
    // Equal weights in order of their ids, so that there is one order.
    weights.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let total: f64 = weights.iter().map(|(weight, _)| weight).sum();
    let mut kept = 0.0;
    let mut count = 0;
    while count < weights.len() && (count == 0 || kept < top_p * total) {
        kept += weights[count].0;
        count += 1;
    }
    let mut rest = uniform * kept;
    for (weight, token) in &weights[..count] {
        rest -= weight;
        if rest < 0.0 {
            return *token;
        }
    }
    weights[count - 1].1
}

/// The index of the largest logit, the smallest index among equals; NaN is never chosen over a number.
pub fn argmax<E: Real>(logits: &[E]) -> u32 {
    let mut best = 0;
    for (index, value) in logits.iter().enumerate() {
        let first_number = !logits[best].to_f64().is_nan() || value.to_f64().is_nan();
        if *value > logits[best] || !first_number {
            best = index;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::{Sampling, argmax, draw};

    #[test]
    fn the_smallest_of_equal_logits_is_taken() {
        let check = |logits: &[f32], expected: u32| assert_eq!(argmax(logits), expected, "{logits:?}");
        check(&[1.0, 3.0, 3.0, 2.0], 1);
        check(&[f32::NAN, -1.0, -2.0], 1);
        check(&[-1.0, f32::NAN, 0.0], 2);
        check(&[f32::NEG_INFINITY, f32::NEG_INFINITY], 0);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        // Probabilities 0.5, 0.3, 0.2 at temperature 1.
        let logits = [0.3_f64.ln(), 0.5_f64.ln(), 0.2_f64.ln()];
        let mut counts = [0_u32; 3];
        for text in 0..20_000 {
            let sampling = Sampling::Draw { temperature: 1.0, top_p: 1.0, seed: 4, text };
            counts[sampling.choose(&logits, 9) as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([0.3, 0.5, 0.2]) {
            // Five standard errors of a share of 20,000.
            let bound = 5.0 * (expected * (1.0 - expected) / 20_000_f64).sqrt();
            assert!((f64::from(*count) / 20_000.0 - expected).abs() < bound, "{counts:?}");
        }
    }

    #[test]
    fn the_cut_keeps_the_fewest_that_reach_the_share() {
        let logits = [0.3_f64.ln(), 0.5_f64.ln(), 0.2_f64.ln()];
        let check = |top_p: f64, uniform: f64, expected: u32| {
            assert_eq!(draw(&logits, 1.0, top_p, uniform), expected, "{top_p} {uniform}");
        };
        check(1e-9, 0.999, 1);
        check(0.49, 0.999, 1);
        check(0.51, 0.999, 0);
        check(0.51, 0.6, 1);
        check(0.51, 0.63, 0);
        check(1.0, 0.999, 2);
        check(1.0, 1e-12, 1);
    }

    #[test]
    fn temperatures_sharpen_and_flatten_and_nothing_breaks_a_draw() {
        let logits = [1.0_f32, 2.0, 0.0];
        assert_eq!(draw(&logits, 1e-6, 1.0, 0.999), 1, "cold is greedy");
        assert_eq!(draw(&logits, 1e6, 1.0, 0.999), 2, "hot is uniform");
        assert_eq!(draw(&[f32::NEG_INFINITY; 3], 1.0, 1.0, 0.5), 0);
        assert_eq!(draw(&[f32::NAN, 1.0, f32::NEG_INFINITY], 1.0, 1.0, 0.999), 1);
        assert_eq!(draw(&[f32::INFINITY, 1.0], 1.0, 1.0, 0.999), 0);
    }
}
