//! What a training run does: the keys of the recipe's `[train]` and `[instruct]` tables, their defaults and ranges.
//!
//! Defaults are the published hyper-parameters where there are any. It resolves nothing that depends on data, except the
//! number of steps.

use std::fmt::Display;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::{Machine, Processor};
use crate::engine::{MomentPrecision, Precision, Recompute};
use crate::gpu::SumOrder;
use crate::gpu::cuda::FirstCard;
use crate::guard::SpikeSpec;
use crate::lora::{LoraError, LoraSpec};
use crate::optimizer::AdamWConstants;
use crate::planner::{self, Zero};
use crate::schedule::Schedule;

/// Which training a run is; it names the folder of its checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Continual pre-training.
    Cpt,
    /// Instruction tuning.
    Instruct,
}

impl Kind {
    /// `cpt` or `instruct`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpt => "cpt",
            Self::Instruct => "instruct",
        }
    }
}

/// Steps between two replays.
const REPLAY_EVERY: u64 = 100;

/// Hyper-parameters of one run. A table in a recipe need name only what differs from the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSpec {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end of the cosine.
    pub min_learning_rate: f64,
    /// Share of the steps that warm up.
    pub warmup_ratio: f64,
    /// AdamW's β₁ and β₂.
    pub betas: [f64; 2],
    /// AdamW's ε.
    pub epsilon: f64,
    /// Decoupled decay, matrices only.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for no limit.
    pub clip: f64,
    /// Sequences of one optimizer step, over all micro-batches.
    pub batch_sequences: u64,
    /// Sequences of one micro-batch. It changes speed and memory, and the result only by rounding.
    pub micro_batch_sequences: u64,
    /// Passes over the data.
    pub epochs: u32,
    /// Most optimizer steps; absent for as many as the passes need.
    pub steps: Option<u64>,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept; absent for all.
    pub keep_last: Option<u64>,
    /// Steps between held-out losses, the first before step 0; 0 for one at the end only.
    pub heldout_every: u64,
    /// Steps in a row without a finite loss and gradient that end the run.
    pub max_bad_steps: u32,
    /// What is done about gradient norms far above the last ones.
    #[serde(skip_serializing_if = "SpikeSpec::is_default")]
    pub spike: SpikeSpec,
    /// Steps between two replays of a micro-batch, whose loss has to be the same bit for bit; 0 for none.
    #[serde(skip_serializing_if = "is_replay_default")]
    pub replay_every: u64,
    /// Arithmetic.
    pub precision: Precision,
    /// How AdamW's moments are stored; bf16 only with weights in bf16.
    #[serde(skip_serializing_if = "MomentPrecision::is_default")]
    pub moments: MomentPrecision,
    /// What computes.
    #[serde(skip_serializing_if = "DeviceKind::is_default")]
    pub device: DeviceKind,
    /// Whether a card computes the same bits in every run. Without it gradients of attention take less time. The processor always
    /// does.
    #[serde(skip_serializing_if = "bool::clone")]
    pub deterministic: bool,
    /// What is computed again in the backward in place of being kept: memory against time, never the result.
    #[serde(skip_serializing_if = "is_default")]
    pub recompute: Recompute,
    /// Adapters to train in place of all weights.
    pub lora: Option<LoraSpec>,
    /// The cluster that `plan` computes times and memory for, and how its ranks share the work; never the result.
    #[serde(skip_serializing_if = "ParallelSpec::is_default")]
    pub parallel: ParallelSpec,
}

/// What computes a run. Their results differ in the last bits, so it is part of the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor.
    #[default]
    Cpu,
    /// The first NVIDIA card that the driver shows.
    Cuda,
}

impl DeviceKind {
    /// Whether it is the processor.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A cluster, and what of its layout is fixed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParallelSpec {
    /// A GPU of [`MACHINES`](crate::planner::MACHINES).
    pub gpu: String,
    /// How many.
    pub gpus: u64,
    /// Ranks that share each matrix; absent for what fits.
    pub tensor_parallel: Option<u64>,
    /// What data-parallel ranks share; absent for what fits.
    pub zero: Option<Zero>,
}

impl Default for ParallelSpec {
    /// The paper's cluster: 160 A100 with 80 GiB.
    fn default() -> Self {
        Self { gpu: planner::A100.name.to_owned(), gpus: 160, tensor_parallel: None, zero: None }
    }
}

impl ParallelSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The GPU.
    ///
    /// # Errors
    /// [`SpecError::Range`] for one that nobody knows, no GPU at all, or no rank.
    pub fn machine(&self) -> Result<planner::Machine, SpecError> {
        require(self.gpus > 0, "parallel.gpus", &self.gpus, "at least 1")?;
        require(self.tensor_parallel != Some(0), "parallel.tensor_parallel", &0, "at least 1")?;
        planner::Machine::named(&self.gpu).ok_or_else(|| SpecError::Range {
            key: "parallel.gpu",
            got: format!("{:?}", self.gpu),
            expected: "a100-80gb, h100-80gb or h200",
        })
    }
}

impl Default for TrainSpec {
    /// [`TrainSpec::cpt`].
    fn default() -> Self {
        Self::cpt()
    }
}

/// A hyper-parameter out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// One key.
    #[error("{key}: {got}, expected {expected}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// The adapters.
    #[error(transparent)]
    Lora(#[from] LoraError),
}

impl TrainSpec {
    /// Defaults of continual pre-training: AdamW 0.9/0.95, 8e-6, decay 1e-5, cosine with 5 % warm-up, one pass (npj
    /// paper); clip 1.0, ε 1e-8, 1,024 sequences a step (ours, where it is silent).
    pub fn cpt() -> Self {
        Self {
            learning_rate: 8e-6,
            min_learning_rate: 0.0,
            warmup_ratio: 0.05,
            betas: [0.9, 0.95],
            epsilon: 1e-8,
            weight_decay: 1e-5,
            clip: 1.0,
            batch_sequences: 1024,
            micro_batch_sequences: 1,
            epochs: 1,
            steps: None,
            checkpoint_every: 1000,
            keep_last: None,
            heldout_every: 0,
            max_bad_steps: 8,
            spike: SpikeSpec::default(),
            replay_every: REPLAY_EVERY,
            precision: Precision::F32,
            moments: MomentPrecision::F32,
            device: DeviceKind::Cpu,
            deterministic: true,
            recompute: Recompute::SelA,
            lora: None,
            parallel: ParallelSpec::default(),
        }
    }

    /// Defaults of instruction tuning: LoRA, 3 passes, 1e-5 (npj paper); 1 % warm-up, 128 sequences a step, rank 16.
    pub fn instruct() -> Self {
        Self {
            learning_rate: 1e-5,
            warmup_ratio: 0.01,
            batch_sequences: 128,
            epochs: 3,
            lora: Some(LoraSpec::default()),
            ..Self::cpt()
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`SpecError`] for the first key out of its range.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_numbers()?;
        let counts = [
            ("batch_sequences", self.batch_sequences),
            ("micro_batch_sequences", self.micro_batch_sequences),
            ("epochs", u64::from(self.epochs)),
            ("steps", self.steps.unwrap_or(1)),
            ("checkpoint_every", self.checkpoint_every),
            ("keep_last", self.keep_last.unwrap_or(1)),
            ("max_bad_steps", u64::from(self.max_bad_steps)),
        ];
        for (key, count) in counts {
            require(count > 0, key, &count, "at least 1")?;
        }
        let computes = self.device == DeviceKind::Cpu || self.precision == Precision::Bf16;
        require(computes, "precision", &"f32", "\"bf16\" where device is \"cuda\"")?;
        let stores = self.moments == MomentPrecision::F32 || self.precision == Precision::Bf16;
        require(stores, "moments", &"bf16", "\"f32\" where precision is \"f32\"")?;
        self.parallel.machine()?;
        self.lora.as_ref().map_or(Ok(()), LoraSpec::check)?;
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), SpecError> {
        let (rate, floor, ratio) = (self.learning_rate, self.min_learning_rate, self.warmup_ratio);
        require(is_positive(rate), "learning_rate", &rate, "above 0")?;
        let expected = "0 to learning_rate";
        require((0.0..=rate).contains(&floor), "min_learning_rate", &floor, expected)?;
        require((0.0..=1.0).contains(&ratio), "warmup_ratio", &ratio, "0 to 1")?;
        for beta in self.betas {
            require((0.0..1.0).contains(&beta), "betas", &beta, "from 0 to below 1")?;
        }
        require(is_positive(self.epsilon), "epsilon", &self.epsilon, "above 0")?;
        for (key, value) in [("weight_decay", self.weight_decay), ("clip", self.clip), ("spike.zscore", self.spike.zscore)] {
            require(value.is_finite() && value >= 0.0, key, &value, "0 or above")?;
        }
        Ok(())
    }

    /// Sequences of the whole run over a pass of `sequences`, before any limit on steps.
    pub fn total_positions(&self, sequences: u64) -> u64 {
        sequences.saturating_mul(u64::from(self.epochs))
    }

    /// Optimizer steps of the run; the last one may be short, so that every sequence counts once a pass.
    pub fn total_steps(&self, sequences: u64) -> u64 {
        let all = self.total_positions(sequences).div_ceil(self.batch_sequences);
        self.steps.map_or(all, |most| most.min(all))
    }

    /// The learning-rate schedule of a run of `total_steps`.
    pub fn schedule(&self, total_steps: u64) -> Schedule {
        Schedule::new(self.learning_rate, self.min_learning_rate, self.warmup_ratio, total_steps)
    }

    /// The order of a card's sums.
    pub fn sum_order(&self) -> SumOrder {
        if self.deterministic { SumOrder::Fixed } else { SumOrder::Any }
    }

    /// What computes the run.
    pub fn machine(&self) -> Arc<dyn Machine> {
        match self.device {
            DeviceKind::Cpu => Arc::new(Processor),
            DeviceKind::Cuda => Arc::new(FirstCard { order: self.sum_order() }),
        }
    }

    /// AdamW's constants.
    pub fn adamw(&self) -> AdamWConstants {
        AdamWConstants { betas: self.betas, epsilon: self.epsilon, weight_decay: self.weight_decay }
    }

    /// BLAKE3, in hex, of everything that decides the result, with the number of steps resolved. `keep_last` does not.
    ///
    /// # Panics
    /// Never: numbers and names are JSON.
    pub fn digest(&self, kind: Kind, seed: u64, total_steps: u64) -> String {
        let (recompute, parallel) = (Recompute::default(), ParallelSpec::default());
        let resolved =
            Self { keep_last: None, replay_every: REPLAY_EVERY, recompute, parallel, steps: Some(total_steps), ..self.clone() };
        let json = serde_json::to_vec(&(kind, seed, resolved)).expect("finite numbers and names are JSON");
        blake3::hash(&json).to_hex().to_string()
    }
}

/// Likewise of the steps between replays.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_replay_default(steps: &u64) -> bool {
    *steps == REPLAY_EVERY
}

/// Whether a mode is the default, which digests of earlier versions do not know.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_default(mode: &Recompute) -> bool {
    *mode == Recompute::default()
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn require(holds: bool, key: &'static str, got: &dyn Display, expected: &'static str) -> Result<(), SpecError> {
    if holds {
        return Ok(());
    }
    let got = got.to_string();
    Err(SpecError::Range { key, got, expected })
}

#[cfg(test)]
mod tests {
    use super::{Kind, MomentPrecision, ParallelSpec, Recompute, SpecError, SumOrder, TrainSpec};
    use crate::backend::DeviceError;
    use crate::shape::Shape;
    use crate::trainer::{TrainError, check_memory};

    fn parse(json: &str) -> Result<TrainSpec, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn published_defaults() {
        let cpt = parse("{}").unwrap();
        assert_eq!(cpt, TrainSpec::cpt());
        assert_eq!((cpt.learning_rate, cpt.weight_decay, cpt.warmup_ratio), (8e-6, 1e-5, 0.05));
        assert_eq!((cpt.betas, cpt.epsilon, cpt.clip), ([0.9, 0.95], 1e-8, 1.0));
        let instruct = TrainSpec::instruct();
        assert_eq!((instruct.learning_rate, instruct.epochs, instruct.warmup_ratio), (1e-5, 3, 0.01));
        let lora = instruct.lora.clone().unwrap();
        assert_eq!((lora.rank, lora.alpha, lora.dropout, lora.targets.len()), (16, 32.0, 0.05, 7));
        assert!(cpt.check().is_ok() && instruct.check().is_ok());
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(parse(r#"{"learning_rat":1e-4}"#).is_err());
        assert!(parse(r#"{"precision":"bf17"}"#).is_err());
        assert!(parse(r#"{"lora":{"rank":4,"alpha":8,"dropout":0,"targets":["q_proj","x"]}}"#).is_err());
    }

    #[test]
    fn ranges_are_checked_by_key() {
        let check = |json: &str, expected: &str| match parse(json).unwrap().check() {
            Err(SpecError::Range { key, .. }) => assert_eq!(key, expected, "{json}"),
            other => panic!("{json}: {other:?}"),
        };
        check(r#"{"learning_rate":0}"#, "learning_rate");
        check(r#"{"learning_rate":1e-6,"min_learning_rate":1e-5}"#, "min_learning_rate");
        check(r#"{"warmup_ratio":1.5}"#, "warmup_ratio");
        check(r#"{"betas":[0.9,1.0]}"#, "betas");
        check(r#"{"epsilon":0}"#, "epsilon");
        check(r#"{"weight_decay":-1}"#, "weight_decay");
        check(r#"{"batch_sequences":0}"#, "batch_sequences");
        check(r#"{"steps":0}"#, "steps");
        check(r#"{"checkpoint_every":0}"#, "checkpoint_every");
        check(r#"{"keep_last":0}"#, "keep_last");
        check(r#"{"max_bad_steps":0}"#, "max_bad_steps");
        check(r#"{"moments":"bf16"}"#, "moments");
        check(r#"{"parallel":{"gpu":"a100"}}"#, "parallel.gpu");
        check(r#"{"parallel":{"gpus":0}}"#, "parallel.gpus");
        let lora = parse(r#"{"lora":{"rank":0,"alpha":8,"dropout":0,"targets":["q_proj"]}}"#).unwrap();
        assert!(matches!(lora.check(), Err(SpecError::Lora(_))));
    }

    #[test]
    fn steps_cover_every_pass_unless_capped() {
        let check = |epochs: u32, steps: Option<u64>, sequences: u64, expected: u64| {
            let spec = TrainSpec { epochs, steps, batch_sequences: 10, ..TrainSpec::cpt() };
            assert_eq!(spec.total_steps(sequences), expected);
        };
        check(1, None, 100, 10);
        check(1, None, 101, 11);
        check(3, None, 101, 31);
        check(3, Some(7), 101, 7);
        check(1, Some(1000), 100, 10);
    }

    #[test]
    fn the_order_of_sums_is_part_of_the_result_and_of_the_arena() {
        let fixed = parse(r#"{"precision":"bf16","device":"cuda"}"#).unwrap();
        let any = parse(r#"{"precision":"bf16","device":"cuda","deterministic":false}"#).unwrap();
        assert_eq!((fixed.sum_order(), any.sum_order()), (SumOrder::Fixed, SumOrder::Any));
        assert_ne!(fixed.digest(Kind::Cpt, 1, 10), any.digest(Kind::Cpt, 1, 10));
        assert!(!serde_json::to_string(&fixed).unwrap().contains("deterministic"), "plans without the key stay");
        assert!(serde_json::to_string(&any).unwrap().contains(r#""deterministic":false"#));
        // Gradients of queries are added up in f32, for every row of a micro-batch.
        let shape = Shape { width: 128, heads: 2, kv_heads: 2, ..Shape::named("tiny", 64).unwrap() };
        let needed = |spec: &TrainSpec| match check_memory(spec, &shape, 64, 0).unwrap_err() {
            TrainError::Device(DeviceError::Memory(refused)) => refused.needed_bytes,
            other => panic!("{other}"),
        };
        assert_eq!(needed(&any) - needed(&fixed), 4 * fixed.micro_batch_sequences * 64 * 128);
    }

    #[test]
    fn the_digest_follows_what_decides_the_result() {
        let spec = TrainSpec::cpt();
        let digest = |spec: &TrainSpec, steps: u64| spec.digest(Kind::Cpt, 1, steps);
        assert_eq!(digest(&spec, 10), digest(&TrainSpec { keep_last: Some(2), ..spec.clone() }, 10));
        let parallel = ParallelSpec { gpus: 8, ..ParallelSpec::default() };
        let other = TrainSpec { recompute: Recompute::Full, parallel, ..spec.clone() };
        assert_eq!(digest(&spec, 10), digest(&other, 10), "memory and speed decide nothing");
        assert_ne!(digest(&spec, 10), digest(&spec, 11));
        assert_ne!(digest(&spec, 10), digest(&TrainSpec { clip: 0.5, ..spec.clone() }, 10));
        assert_ne!(digest(&spec, 10), digest(&TrainSpec { moments: MomentPrecision::Bf16, ..spec.clone() }, 10));
        assert!(!serde_json::to_string(&spec).unwrap().contains("moments"), "digests of recipes without the key stay");
        assert_ne!(digest(&spec, 10), spec.digest(Kind::Instruct, 1, 10));
        assert_ne!(digest(&spec, 10), spec.digest(Kind::Cpt, 2, 10));
    }
}
