//! Scoring of models on medical tasks: items, prompts, log-likelihoods, metrics, and results that trace to their inputs.
//!
//! A [`TaskSpec`] names a data file; [`Task`] holds its checked items; [`evaluate`] scores them with a [`LoadedModel`] and
//! returns an [`Evaluation`]: a [`TaskResult`] and the predictions, both without a word of the data. The model runs in this
//! process, so nothing is sent anywhere. It trains nothing and reads no corpus.

mod bootstrap;
mod evaluate;
mod item;
mod metrics;
mod model;
mod prompt;
mod pubmedqa;
mod result;
mod rows;
mod score;
mod spec;
mod task;

pub use bootstrap::{DRAWS, Spread, bootstrap};
pub use evaluate::{Evaluation, EvaluationError, Progress, Silent, evaluate, score_task};
pub use item::{Item, ItemProblems};
pub use metrics::{ClassScore, Confusion, Mean, macro_f1, mean_and_error};
pub use model::LoadedModel;
pub use prompt::{PUBMEDQA_PROMPT, PromptTemplate, QUERY_PROMPT};
pub use result::{LabelNames, Prediction, TaskResult, Truncation};
pub use score::{ChoiceScore, ItemScore, Window};
pub use spec::{BosPolicy, EvaluateSpec, Profile, Sensitivity, TaskFormat, TaskSpec};
pub use task::{LoadError, Task};
