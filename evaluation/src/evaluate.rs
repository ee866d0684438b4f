//! From a task and a model to a result: items one by one, numbers in the order of the file.

use std::borrow::Cow;

use mellama_shards::Tokenizer;
use mellama_shards::template::{Template, UnknownTemplate};
use mellama_train::backend::DeviceError;
use mellama_train::generation::Decoder;

use crate::bootstrap::{DRAWS, Spread, bootstrap};
use crate::item::Item;
use crate::metrics::{Confusion, macro_f1, mean_and_error};
use crate::model::LoadedModel;
use crate::result::{FORMAT_VERSION, LabelNames, Prediction, TaskResult, Truncation, encode_predictions};
use crate::score::{ItemScore, ScoreError, Window, requests, score};
use crate::spec::{BosPolicy, EvaluateSpec, Sensitivity, TaskSpec};
use crate::task::{LoadError, Task};

/// Longest class name that is shown, in bytes.
const LABEL_LIMIT_BYTES: usize = 64;

/// What happens while items are scored.
pub trait Progress: Sync {
    /// So many items are scored.
    fn on_item(&self, _done: usize, _all: usize) {}
    /// Asked between items; true ends the evaluation with [`EvaluationError::Stopped`].
    fn should_stop(&self) -> bool {
        false
    }
}

/// Says nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// A result and its predictions file.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The result.
    pub result: TaskResult,
    /// JSON lines of [`Prediction`].
    pub predictions: Vec<u8>,
}

/// A task that was not scored.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// Its data.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The template's name.
    #[error(transparent)]
    Template(#[from] UnknownTemplate),
    /// The tokenizer does not fit the model.
    #[error("tokenizer {tokenizer}: {got} tokens, model {model} has rows for {expected}; use the model's tokenizer")]
    Vocabulary {
        /// The tokenizer.
        tokenizer: String,
        /// The model.
        model: String,
        /// Tokens of the tokenizer.
        got: u32,
        /// Rows of the model.
        expected: usize,
    },
    /// The window is too small, or larger than the model.
    #[error("max_length: {got}, expected 3 to {expected}, the positions of model {model}")]
    MaxLength {
        /// What was asked for.
        got: u32,
        /// Positions of the model.
        expected: usize,
        /// The model.
        model: String,
    },
    /// One item cannot be scored.
    #[error("task {task}: item {id:?}: {problem}")]
    Item {
        /// The task.
        task: String,
        /// The item.
        id: String,
        /// What went wrong, without its text.
        problem: String,
    },
    /// The device has not enough memory, known before the first item, or fails.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The caller asked to stop.
    #[error("task {task}: stopped before all items were scored; run the same command again")]
    Stopped {
        /// The task.
        task: String,
    },
}

/// Reads a task's files and scores its items.
///
/// # Errors
/// [`EvaluationError`]; a task is scored whole or not at all.
pub fn evaluate(
    task: &TaskSpec,
    spec: &EvaluateSpec,
    model: &LoadedModel,
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<Evaluation, EvaluationError> {
    score_task(&Task::load(task)?, spec, model, tokenizer, progress)
}

/// Scores the items of a task that is loaded already.
///
/// # Errors
/// As [`evaluate`].
pub fn score_task(
    task: &Task,
    spec: &EvaluateSpec,
    model: &LoadedModel,
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<Evaluation, EvaluationError> {
    let template: Template = spec.template.parse()?;
    let window = window(spec, model, tokenizer)?;
    let mut decoder = Decoder::on_cpu(&model.model, &model.parameters, None, (1, window.max_length))?;
    let mut scores: Vec<ItemScore> = Vec::with_capacity(task.items.len());
    for item in &task.items {
        if progress.should_stop() {
            return Err(EvaluationError::Stopped { task: task.spec.name.clone() });
        }
        let score = score_item(&mut decoder, item, template, tokenizer, window).map_err(|error| EvaluationError::Item {
            task: task.spec.name.clone(),
            id: item.id.clone(),
            problem: error.to_string(),
        })?;
        scores.push(score);
        progress.on_item(scores.len(), task.items.len());
    }
    let predictions: Vec<Prediction> = task.items.iter().zip(&scores).map(|(item, score)| predict(item, score)).collect();
    let bytes = encode_predictions(&predictions);
    let result = summarise(task, spec, (model, tokenizer, window), &predictions, &bytes);
    Ok(Evaluation { result, predictions: bytes })
}

/// Checks that tokenizer and window fit the model.
fn window(spec: &EvaluateSpec, model: &LoadedModel, tokenizer: &Tokenizer) -> Result<Window, EvaluationError> {
    let shape = model.model.shape();
    if tokenizer.vocabulary_size() as usize != shape.vocabulary {
        return Err(EvaluationError::Vocabulary {
            tokenizer: tokenizer.name().to_owned(),
            model: model.name.clone(),
            got: tokenizer.vocabulary_size(),
            expected: shape.vocabulary,
        });
    }
    let asked = spec.max_length.unwrap_or(u32::try_from(shape.max_positions).unwrap_or(u32::MAX));
    if asked < 3 || asked as usize > shape.max_positions {
        let (expected, model) = (shape.max_positions, model.name.clone());
        return Err(EvaluationError::MaxLength { got: asked, expected, model });
    }
    let bos = match spec.bos {
        BosPolicy::Start => tokenizer.bos(),
        BosPolicy::Never => None,
    };
    Ok(Window { max_length: asked as usize, bos })
}

fn score_item(
    decoder: &mut Decoder<f32>,
    item: &Item,
    template: Template,
    tokenizer: &Tokenizer,
    window: Window,
) -> Result<ItemScore, ScoreError> {
    let prompt = match template {
        // Prompts that travel with the data are kept byte for byte.
        Template::None => Cow::Borrowed(item.prompt.as_str()),
        chat => Cow::Owned(chat.prompt(None, &item.prompt) + chat.answer_start()),
    };
    score(decoder, &requests(tokenizer, &prompt, &item.choices, window)?)
}

fn predict(item: &Item, score: &ItemScore) -> Prediction {
    let choices = &score.choices;
    Prediction {
        id: item.id.clone(),
        gold: item.gold,
        prediction: score.best(),
        prediction_norm: score.best_by_characters(item),
        prediction_bytes: score.best_by_bytes(item),
        log_likelihoods: choices.iter().map(|choice| choice.log_likelihood).collect(),
        greedy: choices.iter().map(|choice| choice.greedy).collect(),
        tokens: choices.iter().map(|choice| choice.tokens).collect(),
        cut: choices.iter().map(|choice| choice.cut).collect(),
    }
}

fn summarise(
    task: &Task,
    spec: &EvaluateSpec,
    (model, tokenizer, window): (&LoadedModel, &Tokenizer, Window),
    predictions: &[Prediction],
    bytes: &[u8],
) -> TaskResult {
    let share = |pick: fn(&Prediction) -> usize| {
        let right = |prediction: &Prediction| f64::from(u8::from(pick(prediction) == prediction.gold));
        mean_and_error(&predictions.iter().map(right).collect::<Vec<_>>())
    };
    let classes = task.items.iter().map(|item| item.choices.len()).max().unwrap_or(0);
    let pairs: Vec<(usize, usize)> = predictions.iter().map(|p| (p.gold, p.prediction)).collect();
    let confusion = Confusion::of(classes, pairs.iter().copied());
    let class_scores = confusion.classes();
    let [acc_spread, macro_f1_spread] = spreads(classes, &pairs);
    let sensitivity = task.spec.sensitivity.max(model.sensitivity);
    let mut truncated = Truncation::default();
    for cut in predictions.iter().map(|prediction| prediction.cut.iter().sum::<usize>() as u64) {
        truncated.items += u64::from(cut > 0);
        truncated.tokens += cut;
    }
    TaskResult {
        format: FORMAT_VERSION,
        task: task.spec.name.clone(),
        data_format: task.spec.format,
        profile: spec.profile,
        sensitivity,
        data_digest: task.data_digest.clone(),
        ground_truth_digest: task.ground_truth_digest.clone(),
        prompt: task.prompt.name.to_owned(),
        prompt_digest: task.prompt.digest(),
        template: spec.template.clone(),
        bos: spec.bos,
        model: model.name.clone(),
        model_digest: model.digest.clone(),
        tokenizer_digest: tokenizer.digest().to_owned(),
        max_length: window.max_length as u64,
        items: task.all_items,
        scored: predictions.len() as u64,
        limit: task.spec.limit,
        missing: 0,
        answer_mismatches: task.answer_mismatches,
        truncated,
        acc: share(|prediction| prediction.prediction),
        acc_norm: share(|prediction| prediction.prediction_norm),
        acc_bytes: share(|prediction| prediction.prediction_bytes),
        macro_f1: macro_f1(&class_scores),
        acc_spread,
        macro_f1_spread,
        bootstrap_draws: DRAWS as u64,
        labels: label_names(&task.items, sensitivity),
        classes: class_scores,
        confusion,
        predictions_digest: blake3::hash(bytes).to_hex().to_string(),
    }
}

/// Spread of accuracy and macro-F1 when the items are drawn anew.
fn spreads(classes: usize, pairs: &[(usize, usize)]) -> [Spread; 2] {
    bootstrap(pairs.len(), DRAWS, &|drawn| {
        let confusion = Confusion::of(classes, drawn.iter().map(|&index| pairs[index]));
        let right: u64 = (0..classes).map(|class| confusion.counts[class][class]).sum();
        [right as f64 / drawn.len() as f64, macro_f1(&confusion.classes())]
    })
}

/// Names of the classes: only of open data, and only where all of several items share short choices, so that a choice
/// cannot be a piece of one item's text.
fn label_names(items: &[Item], sensitivity: Sensitivity) -> LabelNames {
    let first = &items.first()?.choices;
    let shared = items.len() > 1 && items.iter().all(|item| item.choices == *first);
    let short = first.iter().all(|choice| choice.len() <= LABEL_LIMIT_BYTES);
    (sensitivity == Sensitivity::Open && shared && short).then(|| first.clone())
}

#[cfg(test)]
mod tests;
