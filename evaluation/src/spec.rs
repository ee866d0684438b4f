//! What to evaluate: the keys of the recipe's `[evaluate]` table.
//!
//! Types and defaults only; files are opened by `task`.

use mellama_shards::template::Template;
use serde::{Deserialize, Serialize};

/// `[evaluate]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSpec {
    /// `[[evaluate.task]]`.
    #[serde(alias = "tasks")]
    pub task: Vec<TaskSpec>,
    /// Scoring profile.
    #[serde(default)]
    pub profile: Profile,
    /// Most tokens of prompt and answer together; the model's positions by default.
    #[serde(default)]
    pub max_length: Option<u32>,
    /// A checkpoint folder to score in place of the run's own.
    #[serde(default)]
    pub checkpoint: Option<String>,
    /// Whether prompts begin with the tokenizer's begin token.
    #[serde(default)]
    pub bos: BosPolicy,
    /// Chat template around each prompt: `none`, `mellama` or `llama2-chat`.
    #[serde(default = "no_template")]
    pub template: String,
}

impl Default for EvaluateSpec {
    fn default() -> Self {
        Self {
            task: Vec::new(),
            profile: Profile::default(),
            max_length: None,
            checkpoint: None,
            bos: BosPolicy::default(),
            template: no_template(),
        }
    }
}

/// One `[[evaluate.task]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Unique name; it names the result file.
    pub name: String,
    /// Layout of the data file.
    pub format: TaskFormat,
    /// The data file.
    pub path: String,
    /// PubMedQA: the official ground-truth file, which restricts the items to the test set.
    #[serde(default)]
    pub ground_truth: Option<String>,
    /// At most so many items, those whose ids hash lowest.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Sensitivity of the data.
    #[serde(default)]
    pub sensitivity: Sensitivity,
}

/// Layouts of data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskFormat {
    /// JSON lines `{id, query, answer, choices, gold}`; the query is the whole prompt.
    MellamaRows,
    /// PubMedQA's JSON object, keyed by PMID.
    Pubmedqa,
}

/// Rules of prompting, reading answers and averaging, under a name that changes with any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Profile {
    /// Log-likelihood of each choice; what this project stands behind.
    #[default]
    #[serde(rename = "strict-1")]
    Strict1,
}

/// Whether the begin token stands before each prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BosPolicy {
    /// Once, at the start, if the tokenizer has one: as documents begin in training.
    #[default]
    Start,
    /// Nowhere, as scoring over HTTP has it.
    Never,
}

/// Who may see the data; the highest of data and model goes into every result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// Anybody.
    #[default]
    Open,
    /// Under a data use agreement.
    Dua,
    /// Protected health information.
    Phi,
}

fn no_template() -> String {
    Template::None.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{BosPolicy, EvaluateSpec, Profile, Sensitivity, TaskFormat};

    #[test]
    fn defaults_and_names() {
        let json = r#"{"task":[{"name":"q","format":"pubmedqa","path":"a.json"},
            {"name":"m","format":"mellama-rows","path":"b.jsonl","limit":5,"sensitivity":"dua"}]}"#;
        let spec: EvaluateSpec = serde_json::from_str(json).unwrap();
        assert_eq!((spec.profile, spec.bos, spec.template.as_str()), (Profile::Strict1, BosPolicy::Start, "none"));
        assert_eq!((spec.task[0].format, spec.task[1].format), (TaskFormat::Pubmedqa, TaskFormat::MellamaRows));
        assert_eq!((spec.task[0].sensitivity, spec.task[1].sensitivity), (Sensitivity::Open, Sensitivity::Dua));
        assert_eq!(spec.task[1].limit, Some(5));
    }

    #[test]
    fn unknown_keys_and_names_are_refused() {
        for json in [
            r#"{"task":[],"fewshot":3}"#,
            r#"{"task":[{"name":"q","format":"pubmedqa","path":"a","shots":1}]}"#,
            r#"{"task":[{"name":"q","format":"medqa","path":"a"}]}"#,
            r#"{"task":[],"profile":"strict-2"}"#,
        ] {
            assert!(serde_json::from_str::<EvaluateSpec>(json).is_err(), "{json}");
        }
    }
}
