//! What a run reports: one line a step, one line a held-out measurement. No times: they would differ between reruns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{LossSum, SourceLoss};
use crate::guard::{SkipReason, Spike, StepPlace};

/// A mean cross-entropy, in nats, over a number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanLoss {
    /// Mean over the tokens; absent when it is not finite.
    pub loss: Option<f64>,
    /// Tokens.
    pub tokens: u64,
}

impl MeanLoss {
    /// The mean of a sum.
    pub fn of(sum: f64, tokens: u64) -> Self {
        let mean = sum / tokens as f64;
        Self { loss: mean.is_finite().then_some(mean), tokens }
    }
}

/// One optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    /// The step, from 0.
    pub step: u64,
    /// Pass over the data of its first sequence, from 0.
    pub epoch: u64,
    /// First global position of the step.
    pub first_position: u64,
    /// Sequences.
    pub sequences: u64,
    /// Tokens of these sequences, padding included.
    pub tokens: u64,
    /// Tokens that count in the loss, G.
    pub loss_tokens: u64,
    /// Mean loss over them, before the update; absent when not finite or when there are none.
    pub loss: Option<f64>,
    /// Norm of the whole gradient before clipping; absent when not finite.
    pub gradient_norm: Option<f64>,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Norm of the adapters after the step, when adapters are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_norm: Option<f64>,
    /// The threshold that the norm is above, when it is a spike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spike: Option<f64>,
    /// Why nothing was changed, when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<SkipReason>,
    /// Loss by source.
    pub sources: BTreeMap<String, MeanLoss>,
}

impl StepRecord {
    /// The record of a step that computed nothing.
    pub(super) fn empty(place: StepPlace, epoch: u64, learning_rate: f64) -> Self {
        Self {
            step: place.step,
            epoch,
            first_position: place.first_position,
            sequences: place.sequences,
            tokens: 0,
            loss_tokens: 0,
            loss: None,
            gradient_norm: None,
            learning_rate,
            adapter_norm: None,
            spike: None,
            skipped: None,
            sources: BTreeMap::new(),
        }
    }
}

/// Loss on held-out sequences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldoutRecord {
    /// Steps done when it was measured.
    pub steps_done: u64,
    /// Over everything held out.
    pub all: MeanLoss,
    /// By domain.
    pub domains: BTreeMap<String, MeanLoss>,
    /// By source.
    pub sources: BTreeMap<String, MeanLoss>,
}

/// A return to the last checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewindRecord {
    /// What it was for.
    pub spike: Spike,
    /// Steps done at the checkpoint.
    pub to_step: u64,
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricLine {
    /// A step.
    Step(StepRecord),
    /// A held-out measurement.
    Heldout(HeldoutRecord),
    /// A return to a checkpoint.
    Rewind(RewindRecord),
}

/// The lines as `metrics.jsonl` holds them.
pub(super) fn encode_lines(lines: &[MetricLine]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line).expect("numbers and names are JSON, and a vector takes any bytes");
        bytes.push(b'\n');
    }
    bytes
}

/// The lines of a `metrics.jsonl`.
pub(super) fn decode_lines(bytes: &[u8]) -> Result<Vec<MetricLine>, serde_json::Error> {
    bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}

/// Names the parts of a loss sum; a source without a name is called by its number.
pub(super) fn by_source(sum: &LossSum, names: &[String]) -> BTreeMap<String, MeanLoss> {
    let name = |part: &SourceLoss| names.get(usize::from(part.source)).cloned().unwrap_or_else(|| part.source.to_string());
    sum.sources.iter().map(|part| (name(part), MeanLoss::of(part.sum, part.tokens))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{HeldoutRecord, MeanLoss, MetricLine, StepRecord, by_source, decode_lines, encode_lines};
    use crate::engine::{LossSum, SourceLoss};
    use crate::guard::SkipReason;

    #[test]
    fn lines_read_back_bit_for_bit() {
        let step = StepRecord {
            step: 3,
            epoch: 0,
            first_position: 24,
            sequences: 8,
            tokens: 512,
            loss_tokens: 400,
            loss: Some(0.1 + 0.2),
            gradient_norm: None,
            learning_rate: 8e-6 / 3.0,
            adapter_norm: None,
            spike: Some(2.5),
            skipped: Some(SkipReason::NonFiniteGradient),
            sources: BTreeMap::from([("pubmed".to_owned(), MeanLoss::of(1.0, 3))]),
        };
        let all = MeanLoss::of(2.0_f64.sqrt(), 7);
        let heldout = HeldoutRecord { steps_done: 4, all, domains: BTreeMap::new(), sources: BTreeMap::new() };
        let lines = vec![MetricLine::Step(step), MetricLine::Heldout(heldout)];
        let bytes = encode_lines(&lines);
        assert_eq!(decode_lines(&bytes).unwrap(), lines);
        assert_eq!(bytes.split_inclusive(|&byte| byte == b'\n').count(), 2);
    }

    #[test]
    fn sources_are_named_and_a_loss_that_is_not_finite_is_absent() {
        let part = |source, sum, tokens| SourceLoss { source, sum, tokens };
        let sum = LossSum { sum: 0.0, tokens: 0, sources: vec![part(0, 6.0, 4), part(9, f64::NAN, 1)] };
        let named = by_source(&sum, &["notes".to_owned()]);
        assert_eq!(named["notes"], MeanLoss { loss: Some(1.5), tokens: 4 });
        assert_eq!(named["9"], MeanLoss { loss: None, tokens: 1 });
    }
}
