//! The guard of the training loop: a step whose loss or gradient is not finite is passed over, counted and
//! remembered with its place in the data; too many in a row end the run.
//!
//! It decides and remembers, nothing else; the loop leaves the weights alone when told to.

use serde::{Deserialize, Serialize};

/// Why a step changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// The loss is NaN or infinite.
    NonFiniteLoss,
    /// The loss is finite, the gradient norm is not.
    NonFiniteGradient,
    /// No token of the step counts in the loss.
    NoLossTokens,
}

/// A step that changed nothing, and the sequences it would have learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedStep {
    /// The step, from 0.
    pub step: u64,
    /// First global position (sequence in training order) of the step.
    pub first_position: u64,
    /// Sequences of the step.
    pub sequences: u64,
    /// Why.
    pub reason: SkipReason,
}

/// What the loop does with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Apply the update.
    Apply,
    /// Leave the weights alone and go on.
    Skip(SkipReason),
}

/// Counts the steps passed over. It is part of a checkpoint, so that a resumed run stops where an uninterrupted
/// one would.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Guard {
    /// Non-finite steps since the last good one.
    pub in_a_row: u32,
    /// Every step passed over.
    pub skipped: Vec<SkippedStep>,
}

/// Too many non-finite steps followed each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "step {step}: {count} steps in a row without a finite loss and gradient, positions {first_position} to \
     {last_position}; lower the learning rate or look at these sequences, the last checkpoint is good"
)]
pub struct GuardStop {
    /// The step that was one too many.
    pub step: u64,
    /// Steps in a row.
    pub count: u32,
    /// First global position of these steps.
    pub first_position: u64,
    /// Last global position of these steps.
    pub last_position: u64,
}

impl Guard {
    /// Judges a step by its loss and its gradient norm, and remembers it when it is passed over.
    ///
    /// # Errors
    /// [`GuardStop`] when this is the `limit`-th non-finite step in a row.
    pub fn judge(&mut self, at: SkippedPlace, loss: Option<f64>, norm: f64, limit: u32) -> Result<Verdict, GuardStop> {
        let Some(loss) = loss else {
            self.remember(at, SkipReason::NoLossTokens);
            return Ok(Verdict::Skip(SkipReason::NoLossTokens));
        };
        if loss.is_finite() && norm.is_finite() {
            self.in_a_row = 0;
            return Ok(Verdict::Apply);
        }
        let reason = if loss.is_finite() { SkipReason::NonFiniteGradient } else { SkipReason::NonFiniteLoss };
        self.remember(at, reason);
        self.in_a_row += 1;
        if self.in_a_row < limit {
            return Ok(Verdict::Skip(reason));
        }
        Err(GuardStop {
            step: at.step,
            count: self.in_a_row,
            first_position: self.first_of_run(),
            last_position: at.first_position + at.sequences.saturating_sub(1),
        })
    }

    fn remember(&mut self, at: SkippedPlace, reason: SkipReason) {
        let SkippedPlace { step, first_position, sequences } = at;
        self.skipped.push(SkippedStep { step, first_position, sequences, reason });
    }

    /// Position where the present run of non-finite steps began.
    fn first_of_run(&self) -> u64 {
        let non_finite = self.skipped.iter().rev().filter(|step| step.reason != SkipReason::NoLossTokens);
        non_finite.take(self.in_a_row as usize).last().map_or(0, |step| step.first_position)
    }
}

/// Where a step stands in the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippedPlace {
    /// The step, from 0.
    pub step: u64,
    /// First global position of the step.
    pub first_position: u64,
    /// Sequences of the step.
    pub sequences: u64,
}

#[cfg(test)]
mod tests {
    use super::{Guard, SkipReason, SkippedPlace, Verdict};

    fn place(step: u64) -> SkippedPlace {
        SkippedPlace { step, first_position: step * 8, sequences: 8 }
    }

    #[test]
    fn case_24_non_finite_steps_are_skipped_counted_and_stop_the_run() {
        let mut guard = Guard::default();
        assert_eq!(guard.judge(place(0), Some(1.0), 1.0, 3), Ok(Verdict::Apply));
        assert_eq!(guard.judge(place(1), Some(f64::NAN), 1.0, 3), Ok(Verdict::Skip(SkipReason::NonFiniteLoss)));
        assert_eq!(guard.judge(place(2), Some(1.0), 2.0, 3), Ok(Verdict::Apply));
        let infinite = f64::INFINITY;
        assert_eq!(guard.judge(place(3), Some(2.0), infinite, 3), Ok(Verdict::Skip(SkipReason::NonFiniteGradient)));
        assert_eq!(guard.judge(place(4), None, 0.0, 3), Ok(Verdict::Skip(SkipReason::NoLossTokens)));
        assert_eq!(guard.judge(place(5), Some(infinite), 1.0, 3), Ok(Verdict::Skip(SkipReason::NonFiniteLoss)));
        let stop = guard.judge(place(6), Some(f64::NAN), f64::NAN, 3).unwrap_err();
        assert_eq!((stop.count, stop.first_position, stop.last_position), (3, 24, 55));
        assert_eq!(guard.skipped.iter().map(|skipped| skipped.step).collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
    }

    #[test]
    fn a_step_without_loss_tokens_neither_counts_nor_clears_the_run() {
        let mut guard = Guard::default();
        assert!(guard.judge(place(0), Some(f64::NAN), 0.0, 2).is_ok());
        assert!(guard.judge(place(1), None, 0.0, 2).is_ok());
        assert_eq!(guard.in_a_row, 1);
        assert!(guard.judge(place(2), Some(f64::NAN), 0.0, 2).is_err());
    }
}
