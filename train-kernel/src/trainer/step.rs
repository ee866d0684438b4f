//! One optimizer step: its sequences, its micro-batches, their gradients, one update.
//!
//! A step is asked for in two parts, its gradients and its update, and finished later: the next step's gradients are under way
//! before this one's loss is read. The loss is divided by the number of loss tokens of the whole step, counted before the first
//! backward pass, so the result does not depend on how the step is cut into micro-batches (up to rounding).

use std::ops::Range;
use std::sync::Arc;

use mellama_shards::Sequence;

use super::job::{TrainError, TrainJob};
use super::record::{StepRecord, by_source};
use crate::backend::{DeviceError, Limits, Ticket};
use crate::batch::{Batch, SequenceParts};
use crate::engine::{Engine, LossSum, PendingLoss, Tensors};
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
    /// Updates applied in the steps that are finished.
    pub(super) updates: u64,
    /// Steps whose update was asked for.
    pub(super) step: u64,
}

/// Losses of a micro-batch.
enum Losses {
    /// The device may still be computing them.
    Pending(PendingLoss),
    /// They are known.
    Collected(LossSum),
}

impl Losses {
    fn collect(self, engine: &mut Engine<f32>, batch: &Batch) -> Result<LossSum, DeviceError> {
        match self {
            Self::Pending(pending) => engine.collect(pending, batch),
            Self::Collected(sum) => Ok(sum),
        }
    }
}

/// A step whose gradients were asked for.
pub(super) struct Asked {
    place: StepPlace,
    /// Whether a rewind passes over its data.
    passed_over: bool,
    loss_tokens: u64,
    batches: Vec<Batch>,
    /// Of each micro-batch.
    losses: Vec<Losses>,
}

/// A step whose update was asked for: what it measured is not known yet, and the device needs no answer to go on.
pub(super) struct UnderWay {
    asked: Asked,
    learning_rate: f64,
    spike: SpikeSpec,
    /// The norm above which it is a spike.
    threshold: Option<f64>,
    judged: Option<Ticket>,
    adapter_norm: Option<Ticket>,
}

/// How a step went.
pub(super) enum Done {
    /// It is done.
    Step(Box<StepRecord>),
    /// It is a spike: the last checkpoint is to be loaded again.
    Rewind {
        /// The step.
        step: u64,
    },
}

impl Plan<'_> {
    /// Global positions of a step.
    pub(super) fn positions(&self, step: u64) -> Range<u64> {
        let first = step * self.job.spec.batch_sequences;
        first..(first + self.job.spec.batch_sequences).min(self.total_positions)
    }

    /// Asks for the gradients of step `state.step`, or for nothing where a rewind passes over its data.
    ///
    /// # Errors
    /// [`TrainError::Replay`] when the loss of the first micro-batch, computed again, is another one; [`TrainError::Device`] when
    /// the device fails there.
    pub(super) fn ask(&self, state: &mut State, batches: Vec<Batch>) -> Result<Asked, TrainError> {
        let step = state.step;
        let positions = self.positions(step);
        let place = StepPlace { step, first_position: positions.start, sequences: positions.end - positions.start };
        let passed_over = state.guard.passes_over(step);
        let loss_tokens: u64 = batches.iter().map(Batch::loss_tokens).sum();
        let mut asked = Asked { place, passed_over, loss_tokens, batches, losses: Vec::new() };
        if !passed_over {
            state.engine.begin_step();
            if loss_tokens > 0 {
                self.accumulate(state, &mut asked)?;
            }
        }
        Ok(asked)
    }

    /// Asks for the update of a step whose gradients were asked for. Every step before it is finished, so that the guard knows
    /// their norms.
    pub(super) fn decide(&self, state: &mut State, asked: Asked, spike: SpikeSpec) -> UnderWay {
        let learning_rate = self.schedule.learning_rate(asked.place.step);
        let threshold = state.guard.threshold(spike);
        let (mut judged, mut adapter_norm) = (None, None);
        if !asked.passed_over && asked.loss_tokens > 0 {
            judged = Some(state.engine.judge(self.limits(spike.policy, threshold)));
            state.engine.update(self.job.spec.adamw(), learning_rate, state.updates + 1);
        }
        if !asked.passed_over && state.engine.trained() == Tensors::Adapters {
            adapter_norm = Some(state.engine.weight_norm());
        }
        state.step += 1;
        UnderWay { asked, learning_rate, spike, threshold, judged, adapter_norm }
    }

    /// Waits for a step, and lets the guard judge it.
    ///
    /// # Errors
    /// [`TrainError`] when the guard stops the run, or the device failed.
    pub(super) fn finish(&self, state: &mut State, under_way: UnderWay) -> Result<Done, TrainError> {
        let UnderWay { asked, learning_rate, spike, threshold, judged, adapter_norm } = under_way;
        let place = asked.place;
        let empty = StepRecord::empty(place, self.order.epoch(place.first_position), learning_rate);
        if asked.passed_over {
            state.guard.pass_over(place);
            return Ok(Done::Step(Box::new(StepRecord { skipped: Some(SkipReason::Rewound), ..empty })));
        }
        let mut sum = LossSum::default();
        for (losses, batch) in asked.losses.into_iter().zip(&asked.batches) {
            sum += &losses.collect(&mut state.engine, batch)?;
        }
        let loss = (asked.loss_tokens > 0).then(|| sum.sum / asked.loss_tokens as f64);
        let norm = judged.map_or(Ok(0.0), |ticket| state.engine.judgement(ticket).map(|judgement| judgement.norm))?;
        let adapter_norm = adapter_norm.map(|ticket| state.engine.found_norm(ticket)).transpose()?;
        let verdict = state.guard.judge(place, Measured { loss, norm }, (spike, threshold), self.job.spec.max_bad_steps)?;
        match verdict {
            Verdict::Rewind => return Ok(Done::Rewind { step: place.step }),
            Verdict::Apply => state.updates += 1,
            Verdict::Skip(_) => {}
        }
        Ok(Done::Step(Box::new(StepRecord {
            tokens: asked.batches.iter().map(|batch| batch.rows() as u64).sum(),
            loss_tokens: asked.loss_tokens,
            loss: loss.filter(|loss| loss.is_finite()),
            gradient_norm: norm.is_finite().then_some(norm),
            adapter_norm,
            spike: threshold.filter(|threshold| norm > *threshold),
            skipped: match verdict {
                Verdict::Skip(reason) => Some(reason),
                Verdict::Apply | Verdict::Rewind => None,
            },
            sources: by_source(&sum, &self.job.source_names),
            ..empty
        })))
    }

    /// Waits for the losses of a step that is not to be, and forgets them.
    ///
    /// # Errors
    /// [`TrainError::Device`] when the device failed.
    pub(super) fn discard(state: &mut State, asked: Asked) -> Result<(), TrainError> {
        for (losses, batch) in asked.losses.into_iter().zip(&asked.batches) {
            losses.collect(&mut state.engine, batch)?;
        }
        Ok(())
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

    /// Asks for the gradients of the step's mean loss.
    fn accumulate(&self, state: &mut State, asked: &mut Asked) -> Result<(), TrainError> {
        let scale = 1.0 / asked.loss_tokens as f64;
        let mut first_row = 0;
        for batch in &asked.batches {
            let dropout = DropoutKey { seed: self.job.seed, step: asked.place.step, first_row };
            let pending = state.engine.accumulate(batch, scale, Some(dropout));
            if first_row == 0 && self.is_replayed(asked.place.step) {
                let sum = state.engine.collect(pending, batch)?;
                replay(asked.place.step, &mut state.engine, (batch, dropout), &sum)?;
                asked.losses.push(Losses::Collected(sum));
            } else {
                asked.losses.push(Losses::Pending(pending));
            }
            first_row += batch.rows() as u64;
        }
        Ok(())
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
    check_replay(step, first, &engine.loss(batch, Some(dropout))?)
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
