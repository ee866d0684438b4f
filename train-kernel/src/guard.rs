//! The guards of the training loop: a step whose loss or gradient is not finite is passed over, counted and remembered with its
//! place in the data, and too many in a row end the run; a gradient norm far above the last ones is met by a policy.
//!
//! It decides and remembers, nothing else; the loop leaves the weights alone when told to. What it remembers is part of a
//! checkpoint, so that a resumed run decides as an uninterrupted one would.

use serde::{Deserialize, Serialize};

/// Accepted steps that a norm is compared with.
const WINDOW_STEPS: usize = 128;
/// Accepted steps without which nothing is called a spike.
const LEAST_STEPS: usize = 32;
/// Deviations are taken to be at least this share of the mean: norms that hardly change would else make spikes of nothing.
const LEAST_DEVIATION: f64 = 0.01;
/// Most steps whose data a rewind passes over.
pub const REWIND_STEPS: u64 = 64;

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
    /// The gradient norm is a spike, and the policy is to skip it.
    Spike,
    /// The step lies in what a rewind passes over.
    Rewound,
}

impl SkipReason {
    /// Whether it counts towards the end of the run.
    fn is_bad(self) -> bool {
        matches!(self, Self::NonFiniteLoss | Self::NonFiniteGradient | Self::Spike)
    }
}

/// What is done about a gradient norm that is a spike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpikePolicy {
    /// It is recorded.
    #[default]
    Log,
    /// The gradient is scaled down to the threshold.
    Clip,
    /// The step changes nothing.
    Skip,
    /// The last checkpoint is loaded again, and the data from there to the spike are passed over, at most those of
    /// [`REWIND_STEPS`] steps.
    Rewind,
}

/// What is a spike, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpikeSpec {
    /// Standard deviations above the mean of the last 128 accepted norms; 0 for none.
    pub zscore: f64,
    /// What is done.
    pub policy: SpikePolicy,
}

impl Default for SpikeSpec {
    /// Six deviations, recorded.
    fn default() -> Self {
        Self { zscore: 6.0, policy: SpikePolicy::Log }
    }
}

impl SpikeSpec {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
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

/// A gradient norm far above the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spike {
    /// Where.
    pub place: StepPlace,
    /// Its norm.
    pub norm: f64,
    /// The norm above which it is one.
    pub threshold: f64,
    /// What was done.
    pub policy: SpikePolicy,
}

/// What the loop does with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Apply the update.
    Apply,
    /// Leave the weights alone and go on.
    Skip(SkipReason),
    /// Go back to the last checkpoint.
    Rewind,
}

/// Counts the steps passed over, and knows the norms of the last ones that were not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Guard {
    /// Bad steps since the last good one.
    pub in_a_row: u32,
    /// Every step passed over.
    pub skipped: Vec<SkippedStep>,
    /// Norms of the last accepted steps, the newest last, at most 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub norms: Vec<f64>,
    /// Every spike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spikes: Vec<Spike>,
    /// Steps, first and one past the last, whose data a rewind passes over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewound: Vec<(u64, u64)>,
}

/// Too many bad steps followed each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "step {step}: {count} steps in a row without a finite loss and gradient below the threshold, positions {first_position} to \
     {last_position}; lower the learning rate or look at these sequences"
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

/// What a step measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Mean loss; none without loss tokens.
    pub loss: Option<f64>,
    /// Norm of the gradient.
    pub norm: f64,
}

impl Guard {
    /// The norm above which a step is a spike: mean and deviations of the last accepted ones; none while there are too few.
    pub fn threshold(&self, spec: SpikeSpec) -> Option<f64> {
        if spec.zscore <= 0.0 || self.norms.len() < LEAST_STEPS {
            return None;
        }
        let count = self.norms.len() as f64;
        let mean = self.norms.iter().sum::<f64>() / count;
        let variance = self.norms.iter().map(|norm| (norm - mean) * (norm - mean)).sum::<f64>() / count;
        Some(mean + spec.zscore * variance.sqrt().max(LEAST_DEVIATION * mean))
    }

    /// Whether a rewind passes over the data of this step.
    pub fn passes_over(&self, step: u64) -> bool {
        self.rewound.iter().any(|&(first, end)| (first..end).contains(&step))
    }

    /// Remembers a step that a rewind passes over.
    pub fn pass_over(&mut self, at: StepPlace) {
        self.remember(at, SkipReason::Rewound);
    }

    /// Judges a step by what it measured, and remembers it when it is passed over. The threshold is that of
    /// [`Self::threshold`] before the step.
    ///
    /// # Errors
    /// [`GuardStop`] when this is the `limit`-th bad step in a row.
    pub fn judge(
        &mut self,
        at: StepPlace,
        measured: Measured,
        (spec, threshold): (SpikeSpec, Option<f64>),
        limit: u32,
    ) -> Result<Verdict, GuardStop> {
        let Measured { loss, norm } = measured;
        let Some(loss) = loss else {
            self.remember(at, SkipReason::NoLossTokens);
            return Ok(Verdict::Skip(SkipReason::NoLossTokens));
        };
        if !loss.is_finite() || !norm.is_finite() {
            let reason = if loss.is_finite() { SkipReason::NonFiniteGradient } else { SkipReason::NonFiniteLoss };
            return self.bad(at, reason, limit);
        }
        let Some(threshold) = threshold.filter(|threshold| norm > *threshold) else {
            self.accept(norm);
            return Ok(Verdict::Apply);
        };
        self.spikes.push(Spike { place: at, norm, threshold, policy: spec.policy });
        match spec.policy {
            SpikePolicy::Log => self.accept(norm),
            SpikePolicy::Clip => self.accept(threshold),
            SpikePolicy::Skip => return self.bad(at, SkipReason::Spike, limit),
            SpikePolicy::Rewind => return Ok(Verdict::Rewind),
        }
        Ok(Verdict::Apply)
    }

    /// Goes back: the state of a checkpoint takes this one's place, but for what it remembers of the spike, and passes over the
    /// data of the steps up to and with `spike`.
    ///
    /// # Errors
    /// [`GuardStop`] when rewinds to this checkpoint have been `limit` in a row: the spike is not in the data.
    pub fn rewind(&mut self, checkpoint: &Self, from_step: u64, limit: u32) -> Result<(), GuardStop> {
        let Some(spike) = self.spikes.last().copied() else { return Ok(()) };
        let first = from_step.max((spike.place.step + 1).saturating_sub(REWIND_STEPS));
        let (spikes, mut rewound) = (std::mem::take(&mut self.spikes), std::mem::take(&mut self.rewound));
        rewound.push((first, spike.place.step + 1));
        let here = rewound.iter().filter(|range| range.0 >= from_step).count();
        *self = Self { spikes, rewound, ..checkpoint.clone() };
        if here < limit as usize {
            return Ok(());
        }
        let StepPlace { step, first_position, sequences } = spike.place;
        let last_position = first_position + sequences.saturating_sub(1);
        Err(GuardStop { step, count: limit, first_position, last_position })
    }

    fn accept(&mut self, norm: f64) {
        self.in_a_row = 0;
        if self.norms.len() == WINDOW_STEPS {
            self.norms.remove(0);
        }
        self.norms.push(norm);
    }

    fn bad(&mut self, at: StepPlace, reason: SkipReason, limit: u32) -> Result<Verdict, GuardStop> {
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

    fn remember(&mut self, at: StepPlace, reason: SkipReason) {
        let StepPlace { step, first_position, sequences } = at;
        self.skipped.push(SkippedStep { step, first_position, sequences, reason });
    }

    /// Position where the present run of bad steps began.
    fn first_of_run(&self) -> u64 {
        let bad = self.skipped.iter().rev().filter(|step| step.reason.is_bad());
        bad.take(self.in_a_row as usize).last().map_or(0, |step| step.first_position)
    }
}

/// Where a step stands in the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlace {
    /// The step, from 0.
    pub step: u64,
    /// First global position of the step.
    pub first_position: u64,
    /// Sequences of the step.
    pub sequences: u64,
}

#[cfg(test)]
mod tests {
    use super::{Guard, GuardStop, Measured, REWIND_STEPS, SkipReason, SpikePolicy, SpikeSpec, StepPlace, Verdict};

    fn place(step: u64) -> StepPlace {
        StepPlace { step, first_position: step * 8, sequences: 8 }
    }

    fn spec(policy: SpikePolicy) -> SpikeSpec {
        SpikeSpec { zscore: 3.0, policy }
    }

    fn judge(guard: &mut Guard, step: u64, loss: Option<f64>, norm: f64, policy: SpikePolicy) -> Result<Verdict, GuardStop> {
        let threshold = guard.threshold(spec(policy));
        guard.judge(place(step), Measured { loss, norm }, (spec(policy), threshold), 3)
    }

    /// A guard that has accepted 40 norms of 0.9 and 1.1: mean 1, deviation 0.1.
    fn seasoned(policy: SpikePolicy) -> Guard {
        let mut guard = Guard::default();
        for step in 0..40 {
            let norm = if step % 2 == 0 { 0.9 } else { 1.1 };
            assert_eq!(judge(&mut guard, step, Some(2.0), norm, policy), Ok(Verdict::Apply));
        }
        assert!((guard.threshold(spec(policy)).unwrap() - 1.3).abs() < 1e-12);
        guard
    }

    #[test]
    fn case_24_non_finite_steps_are_skipped_counted_and_stop_the_run() {
        let (mut guard, log) = (Guard::default(), SpikePolicy::Log);
        assert_eq!(judge(&mut guard, 0, Some(1.0), 1.0, log), Ok(Verdict::Apply));
        assert_eq!(judge(&mut guard, 1, Some(f64::NAN), 1.0, log), Ok(Verdict::Skip(SkipReason::NonFiniteLoss)));
        assert_eq!(judge(&mut guard, 2, Some(1.0), 2.0, log), Ok(Verdict::Apply));
        let infinite = f64::INFINITY;
        assert_eq!(judge(&mut guard, 3, Some(2.0), infinite, log), Ok(Verdict::Skip(SkipReason::NonFiniteGradient)));
        assert_eq!(judge(&mut guard, 4, None, 0.0, log), Ok(Verdict::Skip(SkipReason::NoLossTokens)));
        assert_eq!(judge(&mut guard, 5, Some(infinite), 1.0, log), Ok(Verdict::Skip(SkipReason::NonFiniteLoss)));
        let stop = judge(&mut guard, 6, Some(f64::NAN), f64::NAN, log).unwrap_err();
        assert_eq!((stop.count, stop.first_position, stop.last_position), (3, 24, 55));
        assert_eq!(guard.skipped.iter().map(|skipped| skipped.step).collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
        assert_eq!(guard.norms, [1.0, 2.0], "norms of accepted steps alone");
    }

    #[test]
    fn a_step_without_loss_tokens_neither_counts_nor_clears_the_run() {
        let (mut guard, log) = (Guard::default(), SpikePolicy::Log);
        assert!(judge(&mut guard, 0, Some(f64::NAN), 0.0, log).is_ok());
        assert!(judge(&mut guard, 1, None, 0.0, log).is_ok());
        assert_eq!(guard.in_a_row, 1);
        assert!(judge(&mut guard, 2, Some(f64::NAN), 0.0, log).is_ok());
        assert!(judge(&mut guard, 3, Some(f64::NAN), 0.0, log).is_err());
    }

    #[test]
    fn spikes_are_met_by_their_policy() {
        let check = |policy: SpikePolicy, expected: Verdict, last: f64| {
            let mut guard = seasoned(policy);
            assert_eq!(judge(&mut guard, 40, Some(2.0), 1.29, policy), Ok(Verdict::Apply), "{policy:?}");
            assert!(guard.spikes.is_empty());
            assert_eq!(judge(&mut guard, 41, Some(2.0), 5.0, policy), Ok(expected), "{policy:?}");
            let spike = guard.spikes[0];
            assert_eq!((spike.place.step, spike.norm.to_bits(), spike.policy), (41, 5.0_f64.to_bits(), policy));
            let window = guard.norms.last().unwrap();
            assert!((window - last).abs() < 0.05, "{policy:?}: {window}");
        };
        check(SpikePolicy::Log, Verdict::Apply, 5.0);
        check(SpikePolicy::Clip, Verdict::Apply, 1.33);
        check(SpikePolicy::Skip, Verdict::Skip(SkipReason::Spike), 1.29);
        check(SpikePolicy::Rewind, Verdict::Rewind, 1.29);
        let mut guard = seasoned(SpikePolicy::Skip);
        for step in 40..42 {
            assert!(judge(&mut guard, step, Some(2.0), 9.0, SpikePolicy::Skip).is_ok());
        }
        assert!(judge(&mut guard, 42, Some(2.0), 9.0, SpikePolicy::Skip).is_err(), "as many as bad steps may be");
    }

    #[test]
    fn few_norms_and_a_score_of_zero_know_no_spike() {
        let mut guard = Guard::default();
        for step in 0..31 {
            assert_eq!(judge(&mut guard, step, Some(1.0), 10.0_f64.powi(step as i32 % 5), SpikePolicy::Skip), Ok(Verdict::Apply));
        }
        assert!(guard.spikes.is_empty());
        let guard = seasoned(SpikePolicy::Log);
        assert_eq!(guard.threshold(SpikeSpec { zscore: 0.0, ..SpikeSpec::default() }), None);
        let even = Guard { norms: vec![2.0; 50], ..Guard::default() };
        assert!((even.threshold(spec(SpikePolicy::Log)).unwrap() - 2.06).abs() < 1e-12, "no deviation is a small one");
    }

    #[test]
    fn the_window_holds_the_last_norms() {
        let mut guard = Guard::default();
        for step in 0..300 {
            assert!(judge(&mut guard, step, Some(1.0), step as f64, SpikePolicy::Log).is_ok());
        }
        assert_eq!(guard.norms, (172..300).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_rewind_takes_the_checkpoints_state_and_passes_over_the_data_to_the_spike() {
        let checkpoint = seasoned(SpikePolicy::Rewind);
        let mut guard = checkpoint.clone();
        for step in 40..50 {
            assert!(judge(&mut guard, step, Some(2.0), 1.0, SpikePolicy::Rewind).is_ok());
        }
        assert_eq!(judge(&mut guard, 50, Some(2.0), 7.0, SpikePolicy::Rewind), Ok(Verdict::Rewind));
        guard.rewind(&checkpoint, 40, 3).unwrap();
        assert_eq!((guard.norms.len(), guard.spikes.len(), &guard.rewound), (40, 1, &vec![(40, 51)]));
        assert!(guard.passes_over(40) && guard.passes_over(50) && !guard.passes_over(51) && !guard.passes_over(39));
        // Far from its checkpoint the data of the last steps alone.
        let mut late = checkpoint.clone();
        assert_eq!(judge(&mut late, 1000, Some(2.0), 7.0, SpikePolicy::Rewind), Ok(Verdict::Rewind));
        late.rewind(&checkpoint, 40, 3).unwrap();
        assert_eq!(late.rewound, [(1001 - REWIND_STEPS, 1001)]);
        // Again and again to one checkpoint: the spike is not in the data.
        for (step, ends) in [(60, false), (70, true)] {
            assert_eq!(judge(&mut guard, step, Some(2.0), 7.0, SpikePolicy::Rewind), Ok(Verdict::Rewind));
            assert_eq!(guard.rewind(&checkpoint, 40, 3).is_err(), ends, "{step}");
        }
    }
}
