//! The training loop: continual pre-training and instruction tuning, with exact resume.
//!
//! It takes sequences from a source, checkpoints to a work folder, and tells what happened through hooks. Data are read ahead and
//! checkpoints are written beside the steps, each on a thread of its own. It draws no progress and knows nothing of recipes, and
//! no clock has a part in what it writes; the mathematics is `engine`'s.

mod fit;
mod heldout;
mod job;
mod prefetch;
mod record;
mod run;
mod save;
mod saving;
mod spec;
mod step;

#[cfg(test)]
mod tests;

pub use fit::check_memory;
pub use heldout::{Heldout, HeldoutSource};
pub use job::{Base, CheckpointInfo, Companion, FailedSave, Hooks, NoHooks, StepTiming, TrainError, TrainJob, TrainOutcome};
pub use record::{HeldoutRecord, MeanLoss, MetricLine, RewindRecord, StepRecord};
pub use run::train;
pub use spec::{DeviceKind, Kind, ParallelSpec, SpecError, TrainSpec};
