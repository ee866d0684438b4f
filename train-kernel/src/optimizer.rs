//! The constants of AdamW, and what one step makes of them.
//!
//! The arithmetic on weights is the backend's; no learning-rate schedule (`schedule`) and no decision to skip (`guard`).

use serde::{Deserialize, Serialize};

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

/// What one update of one tensor multiplies by; computed on the host in f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWScalars {
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// 1 / (1 − βᵗ) of both.
    pub corrections: [f64; 2],
    /// ε.
    pub epsilon: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of this tensor.
    pub weight_decay: f64,
}

impl AdamWScalars {
    /// Those of the `updates`-th update, from 1, of a tensor that is decayed or not.
    pub fn new(constants: AdamWConstants, learning_rate: f64, decayed: bool, updates: u64) -> Self {
        let exponent = i32::try_from(updates).unwrap_or(i32::MAX);
        Self {
            betas: constants.betas,
            corrections: constants.betas.map(|beta| 1.0 / (1.0 - beta.powi(exponent))),
            epsilon: constants.epsilon,
            learning_rate,
            weight_decay: if decayed { constants.weight_decay } else { 0.0 },
        }
    }
}

/// The factor that brings a norm down to `limit`: limit / norm above it, else 1. A limit of 0 never clips.
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    if limit > 0.0 && norm > limit { limit / norm } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::{AdamWConstants, AdamWScalars, clip_factor};

    #[test]
    fn clipping_brings_a_norm_down_to_the_limit() {
        let check = |norm: f64, limit: f64, factor: f64| assert!((clip_factor(norm, limit) - factor).abs() < 1e-15);
        check(5.0, 1.0, 0.2);
        check(5.0, 5.0, 1.0);
        check(5.0, 0.0, 1.0);
        check(0.5, 1.0, 1.0);
    }

    #[test]
    fn corrections_take_back_the_start_at_zero() {
        let constants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.1 };
        let first = AdamWScalars::new(constants, 1.0, true, 1);
        assert!((first.corrections[0] - 10.0).abs() < 1e-12 && (first.corrections[1] - 20.0).abs() < 1e-12);
        let late = AdamWScalars::new(constants, 1.0, false, u64::MAX);
        assert_eq!((late.corrections, late.weight_decay), ([1.0, 1.0], 0.0));
    }
}
