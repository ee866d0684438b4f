//! The training loop: continual pre-training and instruction tuning, with exact resume.
//!
//! It takes sequences from a source, checkpoints to a work folder, and tells what happened through hooks. It draws no
//! progress, reads no clock and knows nothing of recipes; the mathematics is `model`'s.

mod heldout;
mod job;
mod record;
mod run;
mod save;
mod spec;
mod step;

#[cfg(test)]
mod tests;

pub use heldout::{Heldout, HeldoutSource};
pub use job::{Base, CheckpointInfo, Hooks, NoHooks, TokenizerFile, TrainError, TrainJob, TrainOutcome};
pub use record::{HeldoutRecord, MeanLoss, MetricLine, RewindRecord, StepRecord};
pub use run::train;
pub use spec::{Kind, ParallelSpec, SpecError, TrainSpec};
