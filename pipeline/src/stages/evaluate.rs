//! `evaluate`: one task for each evaluation task; each scores the models of the run, so that what tuning changed is seen.

use std::io::Write;

use mellama_evaluation::{
    EvaluateSpec, Evaluation, EvaluationError, LoadedModel, Progress, Sensitivity, Task, TaskSpec, score_task,
};
use mellama_sources::Sensitivity as DataSensitivity;
use mellama_storage::{Counts, ObjectEntry, Tally};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::inputs::InputObject;
use crate::observer::Observer;
use crate::stage::{Stage, TaskOutput};
use crate::training;

/// What a task says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct EvaluateFacts {
    task: String,
    models: Vec<ModelScore>,
}

/// One model's scores on one task.
#[derive(Debug, Serialize, Deserialize)]
struct ModelScore {
    model: String,
    items: u64,
    accuracy: f64,
    accuracy_stderr: Option<f64>,
    accuracy_norm: f64,
    macro_f1: f64,
    /// Accuracy of choosing blindly.
    chance: f64,
}

/// Scores one task with every model of the run.
pub(crate) fn run_task(context: &Context<'_>, task: u64) -> Result<TaskOutput, Failure> {
    let recipe = context.file.recipe.evaluate.as_ref().expect("the stage runs only with [evaluate]");
    let spec = &recipe.task[task as usize];
    let loaded = load_task(context, spec, task as usize)?;
    let chance = chance(&loaded);
    let tokenizer = context.tokenizer()?;
    let mut facts = EvaluateFacts { task: spec.name.clone(), models: Vec::new() };
    let mut objects = Vec::new();
    let models = models(context, recipe)?;
    context.observer.grow((models.len() * loaded.items.len()) as u64);
    for (label, model) in models {
        let drawing = Drawing(context.observer);
        let evaluation = score_task(&loaded, recipe, &model, &tokenizer, &drawing).map_err(|e| failure(context, &e))?;
        objects.extend(publish(context, &spec.name, &label, &evaluation)?);
        let result = &evaluation.result;
        facts.models.push(ModelScore {
            model: label,
            items: result.scored,
            accuracy: result.acc.value,
            accuracy_stderr: result.acc.standard_error,
            accuracy_norm: result.acc_norm.value,
            macro_f1: result.macro_f1,
            chance,
        });
    }
    let seen = Tally { documents: loaded.items.len() as u64, bytes: 0 };
    let counts = Counts { read: seen, written: seen, ..Counts::default() };
    Ok(TaskOutput { objects, counts, facts: serde_json::to_value(facts).expect("plain data") })
}

/// One line for each task and model, for the closing summary.
pub(crate) fn lines(facts: &Value) -> Vec<String> {
    let Ok(facts) = serde_json::from_value::<EvaluateFacts>(facts.clone()) else { return Vec::new() };
    let line = |score: &ModelScore| {
        let error = score.accuracy_stderr.map_or(String::new(), |error| format!(" ± {:.1}", 100.0 * error));
        format!(
            "{} with {}: accuracy {:.1} %{error} of {} items (by chance {:.1} %)",
            facts.task,
            score.model,
            100.0 * score.accuracy,
            score.items,
            100.0 * score.chance
        )
    };
    facts.models.iter().map(line).collect()
}

/// Mean of one over the number of choices.
fn chance(task: &Task) -> f64 {
    let sum: f64 = task.items.iter().map(|item| 1.0 / item.choices.len() as f64).sum();
    sum / task.items.len() as f64
}

fn load_task(context: &Context<'_>, spec: &TaskSpec, index: usize) -> Result<Task, Failure> {
    let files = context.plan.evaluation[index].iter().map(InputObject::read).collect::<Result<Vec<_>, _>>()?;
    Task::from_bytes(spec, &files[0], files.get(1).map(Vec::as_slice)).map_err(|e| Failure::Input(chain(&e)))
}

/// The models to score, with their labels: the one that the recipe names, or those that this run trained.
fn models(context: &Context<'_>, recipe: &EvaluateSpec) -> Result<Vec<(String, LoadedModel)>, Failure> {
    let policy = |e: &(dyn std::error::Error + 'static)| Failure::passing_or(e, Failure::Policy);
    if let Some(folder) = &recipe.checkpoint {
        let place = context.file.resolve(folder)?;
        let inherited = sensitivity(training::checkpoint_sensitivity(context.file.stores(), &place).as_str());
        let store = place.store(context.file.stores()).map_err(|e| policy(&e))?;
        let model = LoadedModel::load(&store, "", inherited).map_err(|e| Failure::loading(&e))?;
        return Ok(vec![(label(folder), model)]);
    }
    let stages = Stage::of(&context.file.recipe);
    let mut models = Vec::new();
    for stage in [Stage::Cpt, Stage::Instruct].into_iter().filter(|stage| stages.contains(stage)) {
        let facts = training::facts_of(context, stage)?;
        let sensitivity = sensitivity(&facts.sensitivity);
        training::check_published(context, stage, &facts.model_folder)?;
        let model =
            LoadedModel::load(context.workdir.store(), &facts.model_folder, sensitivity).map_err(|e| Failure::reading("", &e))?;
        models.push((stage.name().to_owned(), model));
    }
    if models.is_empty() && context.file.recipe.model.is_some() {
        let base = training::starting_weights(context)?;
        let inherited = sensitivity(training::starting_sensitivity(context)?.as_str());
        let model = LoadedModel::new(base.name, base.model, inherited).map_err(|e| policy(&e))?;
        models.push(("base".to_owned(), model));
    }
    if models.is_empty() {
        return Err(Failure::Policy("evaluate: no model; add [model], or evaluate.checkpoint".into()));
    }
    Ok(models)
}

/// The last part of a path, safe inside an object's name.
fn label(folder: &str) -> String {
    let last = folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let safe: String = last.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    if safe.is_empty() { "checkpoint".to_owned() } else { safe }
}

/// An unknown name counts as the highest level.
fn sensitivity(name: &str) -> Sensitivity {
    match DataSensitivity::from_name(name) {
        Some(DataSensitivity::Open) => Sensitivity::Open,
        Some(DataSensitivity::Dua) => Sensitivity::Dua,
        Some(DataSensitivity::Phi) | None => Sensitivity::Phi,
    }
}

fn publish(context: &Context<'_>, task: &str, label: &str, evaluation: &Evaluation) -> Result<Vec<ObjectEntry>, Failure> {
    let write = |bytes: &[u8], suffix: &str, extension: &str, records: u64| -> Result<ObjectEntry, Failure> {
        let mut part = context.workdir.part()?;
        part.write_all(bytes).map_err(|e| Failure::writing("evaluation", &e))?;
        Ok(part.finish("evaluation", &format!("{task}-{label}{suffix}"), extension, records)?)
    };
    let result = write(&evaluation.result.to_json(), "", "json", 1)?;
    let predictions = write(&evaluation.predictions, "-predictions", "jsonl", evaluation.result.scored)?;
    Ok(vec![result, predictions])
}

fn failure(context: &Context<'_>, error: &EvaluationError) -> Failure {
    let text = chain(error);
    match error {
        EvaluationError::Stopped { .. } => context.check_stop().err().unwrap_or(Failure::Failed(text)),
        EvaluationError::Load(_) => Failure::Input(text),
        EvaluationError::Item { .. } | EvaluationError::Device(_) => Failure::Failed(text),
        _ => Failure::Policy(text),
    }
}

/// Shows the number of items done.
struct Drawing<'a>(&'a dyn Observer);

impl Progress for Drawing<'_> {
    fn on_item(&self, _done: usize, _all: usize) {
        self.0.advance(1);
    }

    fn should_stop(&self) -> bool {
        self.0.stopped().is_some()
    }
}
