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
use crate::guard::{Guard, SkippedPlace, Verdict};
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

impl Plan<'_> {
    /// Global positions of a step.
    pub(super) fn positions(&self, step: u64) -> Range<u64> {
        let first = step * self.job.spec.batch_sequences;
        first..(first + self.job.spec.batch_sequences).min(self.total_positions)
    }

    /// Does step `state.step`, and counts it.
    ///
    /// # Errors
    /// [`TrainError`] when data cannot be read or do not fit, or when the guard stops the run.
    pub(super) fn run_step(&self, state: &mut State) -> Result<StepRecord, TrainError> {
        let step = state.step;
        let positions = self.positions(step);
        let batches = self.batches(positions.clone())?;
        let loss_tokens: u64 = batches.iter().map(Batch::loss_tokens).sum();
        let sum = self.accumulate(state, &batches, loss_tokens);
        let loss = (loss_tokens > 0).then(|| sum.sum / loss_tokens as f64);
        let judgement = state.engine.judge(Limits { clip: self.job.spec.clip, skip_above: f64::INFINITY });
        let norm = judgement.norm;
        let learning_rate = self.schedule.learning_rate(step);
        let place = SkippedPlace { step, first_position: positions.start, sequences: positions.end - positions.start };
        let verdict = state.guard.judge(place, loss, norm, self.job.spec.max_bad_steps)?;
        if verdict == Verdict::Apply {
            state.updates += 1;
            state.engine.update(self.job.spec.adamw(), learning_rate, state.updates);
        }
        state.step += 1;
        Ok(StepRecord {
            step,
            epoch: self.order.epoch(positions.start),
            first_position: positions.start,
            sequences: positions.end - positions.start,
            tokens: batches.iter().map(|batch| batch.rows() as u64).sum(),
            loss_tokens,
            loss: loss.filter(|loss| loss.is_finite()),
            gradient_norm: norm.is_finite().then_some(norm),
            learning_rate,
            adapter_norm: (state.engine.trained() == Tensors::Adapters).then(|| state.engine.weight_norm()),
            skipped: match verdict {
                Verdict::Apply => None,
                Verdict::Skip(reason) => Some(reason),
            },
            sources: by_source(&sum, &self.job.source_names),
        })
    }

    /// The micro-batches of these positions.
    fn batches(&self, positions: Range<u64>) -> Result<Vec<Batch>, TrainError> {
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
    fn accumulate(&self, state: &mut State, batches: &[Batch], loss_tokens: u64) -> LossSum {
        let mut sum = LossSum::default();
        state.engine.begin_step();
        if loss_tokens == 0 {
            return sum;
        }
        let scale = 1.0 / loss_tokens as f64;
        let mut first_row = 0;
        for batch in batches {
            let dropout = DropoutKey { seed: self.job.seed, step: state.step, first_row };
            sum += &state.engine.accumulate(batch, scale, Some(dropout));
            first_row += batch.rows() as u64;
        }
        sum
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
