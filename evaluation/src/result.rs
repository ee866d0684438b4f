//! What an evaluation leaves: one result a task and one line an item, with ids and numbers and no word of the data.
//!
//! Every number traces to digests of data, prompt, weights and tokenizer. The same inputs give the same bytes.

use serde::{Deserialize, Serialize};

use crate::bootstrap::Spread;
use crate::metrics::{ClassScore, Confusion, Mean};
use crate::spec::{BosPolicy, Profile, Sensitivity, TaskFormat};

/// Version of the result and prediction formats.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// How many items were too long, and by how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Truncation {
    /// Items of which some choice's ids were cut from the left.
    pub items: u64,
    /// Ids cut, over all choices.
    pub tokens: u64,
    /// The side that is cut.
    pub side: Side,
}

/// A side of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The beginning.
    #[default]
    Left,
}

/// Names of the classes, where all items have the same choices and these may be shown.
pub type LabelNames = Option<Vec<String>>;

/// The result of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskResult {
    /// Version of this format.
    pub format: u32,
    /// The task's name.
    pub task: String,
    /// Layout of its data.
    pub data_format: TaskFormat,
    /// Scoring profile.
    pub profile: Profile,
    /// Highest sensitivity of data and model.
    pub sensitivity: Sensitivity,
    /// BLAKE3 of the data file.
    pub data_digest: String,
    /// BLAKE3 of the ground-truth file.
    pub ground_truth_digest: Option<String>,
    /// The prompt's name.
    pub prompt: String,
    /// The prompt's digest.
    pub prompt_digest: String,
    /// Chat template around the prompt.
    pub template: String,
    /// Begin token.
    pub bos: BosPolicy,
    /// What the model is called.
    pub model: String,
    /// Digest of its weights.
    pub model_digest: String,
    /// Digest of the tokenizer file.
    pub tokenizer_digest: String,
    /// Tokens of prompt and answer.
    pub max_length: u64,
    /// Items in the data.
    pub items: u64,
    /// Items scored.
    pub scored: u64,
    /// The limit that was asked for.
    pub limit: Option<u64>,
    /// Items without an answer; a likelihood always answers.
    pub missing: u64,
    /// Items whose answer text is not their gold choice.
    pub answer_mismatches: u64,
    /// Items too long.
    pub truncated: Truncation,
    /// Share right by the sum of log-probabilities.
    pub acc: Mean,
    /// Share right by the sum per character.
    pub acc_norm: Mean,
    /// Share right by the sum per byte.
    pub acc_bytes: Mean,
    /// Mean F1 over gold classes, predictions as for `acc`.
    pub macro_f1: f64,
    /// Spread of `acc` by resampling the items.
    pub acc_spread: Spread,
    /// Spread of `macro_f1` by the same resamples.
    pub macro_f1_spread: Spread,
    /// Resamples drawn.
    pub bootstrap_draws: u64,
    /// Names of the classes.
    pub labels: LabelNames,
    /// Scores by class.
    pub classes: Vec<ClassScore>,
    /// Counts by gold and predicted class.
    pub confusion: Confusion,
    /// BLAKE3 of the predictions file.
    pub predictions_digest: String,
}

/// One line of the predictions file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The item's id.
    pub id: String,
    /// Index of the right choice.
    pub gold: usize,
    /// Choice by the sum.
    pub prediction: usize,
    /// Choice by the sum per character.
    pub prediction_norm: usize,
    /// Choice by the sum per byte.
    pub prediction_bytes: usize,
    /// Sums of log-probabilities, one a choice.
    pub log_likelihoods: Vec<f64>,
    /// Whether each choice was the greedy continuation.
    pub greedy: Vec<bool>,
    /// Tokens of each choice.
    pub tokens: Vec<usize>,
    /// Ids cut from the left, one number a choice.
    pub cut: Vec<usize>,
}

impl TaskResult {
    /// The result as a JSON file.
    ///
    /// # Panics
    /// Never: finite numbers and names are JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("finite numbers and names are JSON");
        bytes.push(b'\n');
        bytes
    }
}

/// The predictions as JSON lines.
pub(crate) fn encode_predictions(predictions: &[Prediction]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for prediction in predictions {
        serde_json::to_writer(&mut bytes, prediction).expect("numbers and ids are JSON, and a vector takes any bytes");
        bytes.push(b'\n');
    }
    bytes
}
