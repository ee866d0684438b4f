//! What a training run is given, what it tells, and what comes out.

use std::sync::Arc;
use std::time::Duration;

use super::record::{HeldoutRecord, RewindRecord, StepRecord};
use super::spec::{Kind, SpecError, TrainSpec};
use crate::backend::{DeviceError, Machine};
use crate::batch::BatchError;
use crate::checkpoint::CheckpointError;
use crate::guard::GuardStop;
use crate::hf::{Dtype, HfModel, SpecialTokens, weights_digest};
use crate::lora::LoraError;
use crate::parameters::{Layout, Parameters};
use crate::sequence_source::SourceError;
use crate::shape::{Shape, ShapeError};

/// The model that training starts from.
#[derive(Debug, Clone)]
pub struct Base {
    /// Its sizes and weights, its begin and end tokens, its digest.
    pub model: HfModel,
    /// What to call it in files made from it: a path or a shape's name.
    pub name: String,
}

impl Base {
    /// A loaded model.
    pub fn loaded(model: HfModel, name: impl Into<String>) -> Self {
        Self { model, name: name.into() }
    }

    /// Fresh weights, a pure function of the shape and the seed.
    ///
    /// # Errors
    /// [`ShapeError`] when the shape is impossible.
    pub fn fresh(shape: Shape, seed: u64, tokens: SpecialTokens, name: impl Into<String>) -> Result<Self, ShapeError> {
        shape.check()?;
        let parameters = Parameters::initialised(&shape, seed);
        let digest = weights_digest(&shape, &parameters);
        Ok(Self { model: HfModel { shape, parameters, dtype: Dtype::F32, tokens, digest }, name: name.into() })
    }
}

/// A file that is put beside the weights as it is: of the tokenizer, or the model card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Plain name: `tokenizer.json`, `tokenizer_config.json`, `README.md`.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// One training run.
#[derive(Debug, Clone)]
pub struct TrainJob {
    /// Which training; it names the folder of the checkpoints.
    pub kind: Kind,
    /// Hyper-parameters.
    pub spec: TrainSpec,
    /// The recipe's seed.
    pub seed: u64,
    /// Where training starts.
    pub base: Base,
    /// Digest of the shards' manifest.
    pub data_digest: String,
    /// Names of the sources that the sequences number.
    pub source_names: Vec<String>,
    /// Highest sensitivity of data and base: `open`, `dua` or `phi`.
    pub sensitivity: String,
    /// Files put beside the weights of every checkpoint.
    pub companions: Vec<Companion>,
    /// Files put beside a merged model, in the place of those.
    pub merged_companions: Vec<Companion>,
    /// Size above which tensors are cut into several files.
    pub file_limit_bytes: u64,
    /// What computes.
    pub machine: Arc<dyn Machine>,
}

/// A checkpoint that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Steps done.
    pub step: u64,
    /// Its folder, relative to the work folder.
    pub folder: String,
}

/// A checkpoint that could not be written. Training goes on without it.
#[derive(Debug)]
pub struct FailedSave<'a> {
    /// Steps done.
    pub step: u64,
    /// Folder of the newest complete checkpoint, relative to the work folder; none before the first one.
    pub last_good: Option<&'a str>,
    /// Why.
    pub error: &'a CheckpointError,
}

/// How long a step took, and what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepTiming {
    /// From the end of the step before, held-out measurements excepted.
    pub total: Duration,
    /// Waiting for data.
    pub data_wait: Duration,
    /// Waiting for the checkpoint before, and copying the state for the next one, before this step.
    pub save_wait: Duration,
}

/// What a run tells while it runs. Times belong here and nowhere in the outputs.
pub trait Hooks {
    /// The number of steps, the step it goes on from, and the bytes of the memory laid out for it.
    fn on_start(&mut self, _first_step: u64, _total_steps: u64, _arena_bytes: u64) {}
    /// When the device has something to tell that is no error.
    fn on_warning(&mut self, _line: &str) {}
    /// After each step.
    fn on_step(&mut self, _record: &StepRecord, _timing: &StepTiming) {}
    /// After each held-out measurement.
    fn on_heldout(&mut self, _record: &HeldoutRecord) {}
    /// After each return to a checkpoint.
    fn on_rewind(&mut self, _record: &RewindRecord) {}
    /// When a checkpoint is complete; training may be some steps further.
    fn on_checkpoint(&mut self, _info: &CheckpointInfo) {}
    /// When a checkpoint of the schedule could not be written.
    fn on_failed_save(&mut self, _failed: &FailedSave<'_>) {}
    /// Asked after each step; true makes the run write a checkpoint and return.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Hooks that do nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOutcome {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Step that this call went on from, when there was a checkpoint.
    pub resumed_from: Option<u64>,
    /// Folder of the last checkpoint, relative to the work folder.
    pub folder: String,
    /// Folder of a model that loads by itself, once there is one: the last checkpoint, or the merged model in it.
    pub model_folder: Option<String>,
    /// BLAKE3 of the checkpoint's manifest.
    pub manifest_digest: String,
    /// The last step's record, when the checkpoint holds one.
    pub last_step: Option<StepRecord>,
    /// The last held-out measurement, when the checkpoint holds one.
    pub last_heldout: Option<HeldoutRecord>,
    /// Steps passed over in the whole run.
    pub skipped_steps: u64,
}

impl TrainOutcome {
    /// Whether the run is over.
    pub fn finished(&self) -> bool {
        self.step == self.total_steps
    }
}

/// A run that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A hyper-parameter is out of its range.
    #[error("training settings: refused")]
    Spec(#[from] SpecError),
    /// There is nothing to learn from.
    #[error("training data: no sequences; check the shards of the run")]
    NoSequences,
    /// A sequence could not be read.
    #[error("training data: cannot be read")]
    Source(#[from] SourceError),
    /// A sequence does not fit the model.
    #[error("training data: sequences from {first}: do not fit the model")]
    Batch {
        /// First sequence of the batch, as its source counts.
        first: u64,
        /// The cause.
        source: BatchError,
    },
    /// The guard ended the run.
    #[error(transparent)]
    Guard(#[from] GuardStop),
    /// The same computation gave two results: memory or processor are faulty.
    #[error(
        "step {step}: a micro-batch computed twice has the losses {first:e} and {again:e}; memory or processor are faulty, go on from the last \
         checkpoint on another machine"
    )]
    Replay {
        /// The step, from 0.
        step: u64,
        /// The sum of losses at first.
        first: f64,
        /// The sum of losses again.
        again: f64,
    },
    /// A spike is to be met by going back, and the checkpoint to go back to is gone.
    #[error(
        "step {step}: a spike, and the checkpoint of the schedule before it, to which it goes back, could not be written or is gone; run the \
         same command again, which does the steps since the one before that again"
    )]
    NothingToRewind {
        /// The step, from 0.
        step: u64,
    },
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(Box<CheckpointError>),
    /// The checkpoint that a run was to end with could not be written.
    #[error("the checkpoint after step {step} could not be written; {} is the last good one and stays", .last_good.as_deref().unwrap_or("none"))]
    Unsaved {
        /// Steps done.
        step: u64,
        /// Folder of the newest complete checkpoint.
        last_good: Option<String>,
        /// Why.
        source: Box<CheckpointError>,
    },
    /// No memory for the copy that checkpoints are written from; known before the first step.
    #[error(
        "checkpoints: a copy of weights and moments needs {bytes} bytes, there are less; take a smaller model or a larger machine"
    )]
    Copy {
        /// Bytes of the copy.
        bytes: u64,
    },
    /// The checkpoints in the work folder are those of another run.
    #[error("{folder}: made with other {what}: {found}, this run has {wanted}; give another work folder")]
    OtherRun {
        /// Folder of the checkpoint.
        folder: String,
        /// `steps`, `settings`, `data`, `base weights` or `sensitivity`.
        what: &'static str,
        /// What the checkpoint says.
        found: String,
        /// What this run has.
        wanted: String,
    },
    /// The weights do not have the shape's layout.
    #[error("base weights: {got} elements, the shape has {expected}; use the configuration they were saved with")]
    BaseLength {
        /// Elements found.
        got: usize,
        /// Elements of the shape.
        expected: usize,
    },
    /// The shape is impossible.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The adapters are impossible.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// The device has not enough memory or cannot be used, known before the first step.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device failed in the middle of the run.
    #[error("step {step}: the device failed; {}", named(.last_good.as_deref()))]
    Lost {
        /// The step that was asked for, from 0.
        step: u64,
        /// Folder of the newest complete checkpoint.
        last_good: Option<String>,
        /// What failed.
        source: DeviceError,
    },
}

fn named(folder: Option<&str>) -> String {
    folder.map_or_else(|| "there is no checkpoint yet".to_owned(), |folder| format!("the last good checkpoint is {folder}"))
}

impl From<CheckpointError> for TrainError {
    fn from(error: CheckpointError) -> Self {
        Self::Checkpoint(Box::new(error))
    }
}

/// Checks that weights are laid out as the shape says.
pub(super) fn check_layout(shape: &Shape, parameters: &Parameters<f32>) -> Result<(), TrainError> {
    let layout = Layout::of(shape);
    if *parameters.layout == layout && parameters.data.len() == layout.length() {
        return Ok(());
    }
    Err(TrainError::BaseLength { got: parameters.data.len(), expected: layout.length() })
}
