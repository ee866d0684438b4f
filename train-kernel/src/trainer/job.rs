//! What a training run is given, what it tells, and what comes out.

use super::record::{HeldoutRecord, RewindRecord, StepRecord};
use super::spec::{Kind, SpecError, TrainSpec};
use crate::backend::AllocationError;
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

/// A tokenizer file that is put beside the weights as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerFile {
    /// Plain name: `tokenizer.json`, `tokenizer.model`, `tokenizer_config.json`.
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
    pub tokenizer_files: Vec<TokenizerFile>,
}

/// A checkpoint that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Steps done.
    pub step: u64,
    /// Its folder, relative to the work folder.
    pub folder: String,
}

/// What a run tells while it runs. Times belong here and nowhere in the outputs.
pub trait Hooks {
    /// The number of steps, and the step it goes on from.
    fn on_start(&mut self, _first_step: u64, _total_steps: u64) {}
    /// After each step.
    fn on_step(&mut self, _record: &StepRecord) {}
    /// After each held-out measurement.
    fn on_heldout(&mut self, _record: &HeldoutRecord) {}
    /// After each return to a checkpoint.
    fn on_rewind(&mut self, _record: &RewindRecord) {}
    /// After each checkpoint.
    fn on_checkpoint(&mut self, _info: &CheckpointInfo) {}
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
        "step {step}: a spike, and no checkpoint of the schedule is left to rewind to; raise train.keep_last, or take another policy"
    )]
    NothingToRewind {
        /// The step, from 0.
        step: u64,
    },
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(Box<CheckpointError>),
    /// The checkpoints in the work folder are those of another run.
    #[error("{folder}: made with other {what}: {found}, this run has {wanted}; give another work folder")]
    OtherRun {
        /// Folder of the checkpoint.
        folder: String,
        /// `settings`, `data`, `base weights`, `model` or `steps`.
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
    /// The machine has not enough memory; known before the first step.
    #[error(transparent)]
    Memory(#[from] AllocationError),
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
