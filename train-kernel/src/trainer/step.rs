//! One optimizer step: its sequences, its micro-batches, their gradients, one update.
//!
//! The loss is divided by the number of loss tokens of the whole step, counted before the first backward pass, so the
//! result does not depend on how the step is cut into micro-batches (up to rounding).

use std::ops::Range;
use std::sync::Arc;

use mellama_shards::Sequence;

use super::job::{TrainError, TrainJob};
use super::record::{StepRecord, by_source};
use crate::backend::Limits;
use crate::batch::{Batch, SequenceParts};
use crate::engine::{Engine, LossSum, Tensors};
use crate::guard::{Guard, Measured, SkipReason, SpikePolicy, SpikeSpec, StepPlace, Verdict};
use crate::lora::DropoutKey;
use crate::model::Model;
use crate::schedule::Schedule;
use crate::sequence_source::{SequenceSource, TrainingOrder};
use crate::shape::Shape;

/// What stays the same over a run.
pub(super) struct Plan<'a> {
    pub(super) job: &'a TrainJob,
    pub(super) data: &'a dyn SequenceSource,
    pub(super) order: TrainingOrder,
    pub(super) schedule: Schedule,
    pub(super) total_positions: u64,
    pub(super) model: Arc<Model>,
}

/// What changes from step to step.
pub(super) struct State {
    pub(super) engine: Engine<f32>,
    pub(super) guard: Guard,
    /// Updates applied; steps done less steps skipped.
    pub(super) updates: u64,
    /// Steps done.
    pub(super) step: u64,
}

/// How a step went.
pub(super) enum Done {
    /// It is done.
    Step(Box<StepRecord>),
    /// It is a spike: the last checkpoint is to be loaded again.
    Rewind,
}

impl Plan<'_> {
    /// Global positions of a step.
    pub(super) fn positions(&self, step: u64) -> Range<u64> {
        let first = step * self.job.spec.batch_sequences;
        first..(first + self.job.spec.batch_sequences).min(self.total_positions)
    }

    /// Does step `state.step` on its micro-batches, and counts it unless it has to be done again from the last checkpoint.
    ///
    /// # Errors
    /// [`TrainError`] when the guard stops the run, or when a replay differs.
    pub(super) fn run_step(&self, state: &mut State, batches: &[Batch], spike: SpikeSpec) -> Result<Done, TrainError> {
        let step = state.step;
        let positions = self.positions(step);
        let place = StepPlace { step, first_position: positions.start, sequences: positions.end - positions.start };
        let learning_rate = self.schedule.learning_rate(step);
        if state.guard.passes_over(step) {
            state.guard.pass_over(place);
            state.step += 1;
            let empty = StepRecord::empty(place, self.order.epoch(positions.start), learning_rate);
            return Ok(Done::Step(Box::new(StepRecord { skipped: Some(SkipReason::Rewound), ..empty })));
        }
        let loss_tokens: u64 = batches.iter().map(Batch::loss_tokens).sum();
        let sum = self.accumulate(state, batches, loss_tokens)?;
        let loss = (loss_tokens > 0).then(|| sum.sum / loss_tokens as f64);
        let spec = &self.job.spec;
        let threshold = state.guard.threshold(spike);
        let judgement = state.engine.judge(self.limits(spike.policy, threshold));
        let norm = judgement.norm;
        let verdict = state.guard.judge(place, Measured { loss, norm }, (spike, threshold), spec.max_bad_steps)?;
        if verdict == Verdict::Rewind {
            return Ok(Done::Rewind);
        }
        if verdict == Verdict::Apply {
            state.updates += 1;
            state.engine.update(spec.adamw(), learning_rate, state.updates);
        }
        state.step += 1;
        Ok(Done::Step(Box::new(StepRecord {
            tokens: batches.iter().map(|batch| batch.rows() as u64).sum(),
            loss_tokens,
            loss: loss.filter(|loss| loss.is_finite()),
            gradient_norm: norm.is_finite().then_some(norm),
            adapter_norm: (state.engine.trained() == Tensors::Adapters).then(|| state.engine.weight_norm()),
            spike: threshold.filter(|threshold| norm > *threshold),
            skipped: match verdict {
                Verdict::Skip(reason) => Some(reason),
                Verdict::Apply | Verdict::Rewind => None,
            },
            sources: by_source(&sum, &self.job.source_names),
            ..StepRecord::empty(place, self.order.epoch(positions.start), learning_rate)
        })))
    }

    /// What the update may do, given the norm above which it is a spike.
    fn limits(&self, policy: SpikePolicy, threshold: Option<f64>) -> Limits {
        let clip = self.job.spec.clip;
        match (policy, threshold) {
            (SpikePolicy::Clip, Some(threshold)) => {
                let clip = if clip > 0.0 { clip.min(threshold) } else { threshold };
                Limits { clip, skip_above: f64::INFINITY }
            }
            (SpikePolicy::Skip | SpikePolicy::Rewind, Some(threshold)) => Limits { clip, skip_above: threshold },
            _ => Limits { clip, skip_above: f64::INFINITY },
        }
    }

    /// Whether the first micro-batch of a step is computed twice, to find silent corruption.
    fn is_replayed(&self, step: u64) -> bool {
        let every = self.job.spec.replay_every;
        every > 0 && step.is_multiple_of(every)
    }

    /// The micro-batches of these positions.
    pub(super) fn batches(&self, positions: Range<u64>) -> Result<Vec<Batch>, TrainError> {
        let micro = self.job.spec.micro_batch_sequences;
        let mut batches = Vec::new();
        let mut first = positions.start;
        while first < positions.end {
            let end = positions.end.min(first + micro);
            let read = |position| self.data.sequence(self.order.index(position));
            let sequences = (first..end).map(read).collect::<Result<Vec<_>, _>>()?;
            batches.push(batch_of(&sequences, self.model.shape(), first)?);
            first = end;
        }
        Ok(batches)
    }

    /// Gradients of the step's mean loss, from zero; returns the sums over all micro-batches.
    ///
    /// # Errors
    /// [`TrainError::Replay`] when the loss of the first micro-batch, computed again, is another one.
    fn accumulate(&self, state: &mut State, batches: &[Batch], loss_tokens: u64) -> Result<LossSum, TrainError> {
        let mut sum = LossSum::default();
        state.engine.begin_step();
        if loss_tokens == 0 {
            return Ok(sum);
        }
        let scale = 1.0 / loss_tokens as f64;
        let mut first_row = 0;
        for batch in batches {
            let dropout = DropoutKey { seed: self.job.seed, step: state.step, first_row };
            sum += &state.engine.accumulate(batch, scale, Some(dropout));
            if first_row == 0 && self.is_replayed(state.step) {
                replay(state.step, &mut state.engine, (batch, dropout), &sum)?;
            }
            first_row += batch.rows() as u64;
        }
        Ok(sum)
    }
}

/// Computes the loss of a micro-batch again, with the same dropout.
///
/// # Errors
/// [`TrainError::Replay`] when it is another one.
pub(super) fn replay(
    step: u64,
    engine: &mut Engine<f32>,
    (batch, dropout): (&Batch, DropoutKey),
    first: &LossSum,
) -> Result<(), TrainError> {
    check_replay(step, first, &engine.loss(batch, Some(dropout)))
}

/// Refuses a loss that is another one the second time.
fn check_replay(step: u64, first: &LossSum, again: &LossSum) -> Result<(), TrainError> {
    let same = first.sum.to_bits() == again.sum.to_bits() && first == again;
    // A loss that is not a number is the guard's.
    if same || first.sum.is_nan() && again.sum.is_nan() {
        Ok(())
    } else {
        Err(TrainError::Replay { step, first: first.sum, again: again.sum })
    }
}

/// Sequences of a source, in its own order.
pub(super) fn read_sequences(source: &dyn SequenceSource, range: Range<u64>) -> Result<Vec<Sequence>, TrainError> {
    Ok(range.map(|index| source.sequence(index)).collect::<Result<_, _>>()?)
}

/// One micro-batch, checked against the model; `first` names it in errors.
pub(super) fn batch_of(sequences: &[Sequence], shape: &Shape, first: u64) -> Result<Batch, TrainError> {
    let explain = |source| TrainError::Batch { first, source };
    let ends = |sequence: &Sequence| sequence.segments.iter().map(|s| (s.end, s.source)).collect::<Vec<_>>();
    let segments: Vec<Vec<(u32, u16)>> = sequences.iter().map(ends).collect();
    let part = |(sequence, segments)| -> SequenceParts<'_> {
        let sequence: &Sequence = sequence;
        let segments: &Vec<(u32, u16)> = segments;
        SequenceParts { tokens: &sequence.tokens, segments, loss_mask: sequence.loss_mask.as_deref() }
    };
    let parts: Vec<SequenceParts<'_>> = sequences.iter().zip(&segments).map(part).collect();
    let batch = Batch::from_parts(&parts).map_err(explain)?;
    batch.check(shape).map_err(explain)?;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::check_replay;
    use crate::engine::LossSum;
    use crate::trainer::TrainError;

    #[test]
    fn a_replay_that_differs_in_one_bit_is_found() {
        let sum = |value: f64| LossSum { sum: value, tokens: 3, sources: Vec::new() };
        assert!(check_replay(7, &sum(1.5), &sum(1.5)).is_ok());
        assert!(check_replay(7, &sum(f64::NAN), &sum(f64::NAN)).is_ok());
        let other = f64::from_bits(1.5_f64.to_bits() ^ 1);
        match check_replay(7, &sum(1.5), &sum(other)) {
            Err(error @ TrainError::Replay { step: 7, .. }) => assert!(error.to_string().contains("computed twice"), "{error}"),
            other => panic!("{other:?}"),
        }
        assert!(check_replay(7, &sum(f64::NAN), &sum(1.0)).is_err());
    }
}
