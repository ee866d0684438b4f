//! Training and generation of `LLaMA` models: exact mathematics, hand-written forward and backward, on the processor.
//!
//! A [`Shape`] gives a [`Layout`] of named tensors; [`Parameters`] hold the values of one; an [`Engine`] computes losses, gradients
//! and updates of a [`Batch`] on a [`Backend`](backend::Backend) whose memory is allocated once. There is no autograd and no
//! tensor library, and no result depends on the number of threads. The crate knows nothing of text, corpora or recipes.

pub mod backend;
pub mod batch;
pub mod checkpoint;
pub mod engine;
pub mod generation;
pub mod gpu;
pub mod guard;
pub mod hf;
pub mod llama2c;
pub mod lora;
pub mod model;
pub mod ops;
pub mod optimizer;
pub mod parameters;
pub mod planner;
pub mod random;
pub mod real;
pub mod schedule;
pub mod sequence_source;
pub mod shape;
pub mod trainer;

pub use batch::{Batch, BatchError, SegmentSpan, SequenceParts};
pub use engine::{Engine, EngineSpec, LossSum, MomentPrecision, Precision, Purpose, Recompute, SourceLoss};
pub use generation::{Continuation, ContinuationScore, Decoder, Finish, Generated, GenerationError, Sampling};
pub use lora::{AdapterParameters, Adapters, DropoutKey, LoraError, LoraSpec, Merged, Target, merge};
pub use model::Model;
pub use parameters::{Layout, Parameters, TensorSpec};
pub use real::Real;
pub use sequence_source::{SequenceSource, SourceError};
pub use shape::{Shape, ShapeError};
pub use trainer::{TrainError, TrainJob, TrainOutcome, TrainSpec, train};
