//! `plan`: what a recipe comes to, from the recipe and, where they exist, its inputs and its work folder. Touches nothing.
//!
//! What is not known is said to be unknown; training figures never depend on the inputs.

use std::collections::BTreeMap;

use mellama_shards::mixture::{DOMAIN_NAMES, Mixture, SourceSupply, plan_mixture};
use mellama_shards::{RunTotals, apportion};
use mellama_storage::{StageManifest, Workdir};
use mellama_train::Shape;
use mellama_train::hf::ModelConfig;
use serde::Serialize;

use crate::failure::{Failure, chain};
use crate::inputs;
use crate::plan::{Plan, TASK_INPUT_BYTES};
use crate::recipe::{Recipe, RecipeFile, TotalRecipe};
use crate::stage::Stage;
use crate::stages::{self, mix};

/// Bytes of one ranged read, for counting requests.
const READ_BYTES: u64 = 8 << 20;
/// Dense bf16 rate of an A100, FLOP/s, as published.
const A100_FLOPS: f64 = 312e12;
/// Model FLOPs utilizations that GPU-hours are given for.
const UTILIZATIONS: [f64; 3] = [0.30, 0.45, 0.60];
/// Vocabulary assumed for a named shape while the tokenizer is unknown: LLaMA-2's.
const ASSUMED_VOCABULARY: usize = 32_000;

/// The forecast of a recipe.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// The run's name.
    pub name: String,
    /// Where output would go.
    pub workdir: String,
    /// Plan id, when every input is there.
    pub plan: Option<String>,
    /// Stages with their tasks, as far as known.
    pub stages: Vec<StageForecast>,
    /// Sources in recipe order.
    pub sources: Vec<SourceForecast>,
    /// Token quotas.
    pub mixture: Option<MixtureForecast>,
    /// Continual pre-training.
    pub training: Option<TrainingForecast>,
    /// Least memory in bytes that one worker needs.
    pub memory_bytes_per_worker: u64,
    /// Requests to read the inputs once: ranged reads of 8 MiB and one head an object; null when inputs are unknown.
    pub input_requests: Option<u64>,
}

/// One stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageForecast {
    /// Name.
    pub stage: &'static str,
    /// Tasks; null while an earlier stage decides them.
    pub tasks: Option<u64>,
    /// First task and the one behind the last of each wave, where the tasks of a stage come in several: those of one may run
    /// side by side once the waves before it are done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<(u64, u64)>,
    /// Its manifest exists.
    pub complete: bool,
}

/// One source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceForecast {
    /// Name.
    pub source: String,
    /// Domain.
    pub domain: String,
    /// Input objects; null when unknown.
    pub objects: Option<u64>,
    /// Their bytes; null when unknown.
    pub bytes: Option<u64>,
    /// Why they are unknown.
    pub unknown: Option<String>,
    /// Tokens for training, once counted.
    pub supply_tokens: Option<u64>,
    /// Tokens taken, once planned.
    pub quota_tokens: Option<u64>,
    /// Passes, once planned.
    pub epochs: Option<f64>,
    /// Passes allowed.
    pub max_epochs: u32,
}

/// Quotas of the domains.
#[derive(Debug, Clone, Serialize)]
pub struct MixtureForecast {
    /// Tokens in all; null for `"all"` while the supply is unknown.
    pub total: Option<u64>,
    /// Tokens by domain.
    pub quotas: BTreeMap<String, u64>,
    /// Why the counted supply cannot fill it.
    pub refusal: Option<String>,
}

/// Cost of continual pre-training.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingForecast {
    /// Shape or checkpoint.
    pub model: String,
    /// Parameters; null when the checkpoint is absent.
    pub parameters: Option<u64>,
    /// Tokens trained on; null when unknown.
    pub tokens: Option<u64>,
    /// Sequences a step.
    pub batch_sequences: u64,
    /// Optimizer steps, null when unknown. Counted without padding.
    pub steps: Option<u64>,
    /// FLOP per token as the `PaLM` paper counts them, 6·Nm + 12·L·C·T.
    pub flops_per_token: Option<u64>,
    /// A100 hours by utilization ("0.45": hours); empty when unknown.
    pub a100_hours: BTreeMap<String, f64>,
}

/// Forecasts a recipe.
///
/// # Errors
/// `Failure::Policy` for keys that contradict each other; absent inputs are no error.
pub fn forecast(file: &RecipeFile, workdir: Option<&str>) -> Result<Forecast, Failure> {
    let mut file = file.clone();
    let uri = workdir.map_or_else(|| file.recipe.workdir.clone(), String::from);
    let place = std::path::absolute(file.expand(&uri).unwrap_or_else(|_| uri.clone())).ok();
    file.excluded = place.map(|path| path.canonicalize().unwrap_or(path));
    let file = &file;
    let recipe = &file.recipe;
    let plan = Plan::resolve(file).ok();
    let done = Done::read(&file.expand(&uri).unwrap_or(uri.clone()), plan.as_ref());
    let mut sources = sources(file);
    let mixture = mixture(file, &done, &mut sources);
    let training = training(file, mixture.as_ref().and_then(|m| m.total));
    let objects: Option<u64> = sources.iter().map(|s| s.objects).sum();
    let bytes: Option<u64> = sources.iter().map(|s| s.bytes).sum();
    let stages = Stage::of(recipe).into_iter().map(|stage| StageForecast {
        stage: stage.name(),
        tasks: done.manifest(stage).map(|m| m.tasks).or_else(|| planned_tasks(stage, recipe, plan.as_ref())),
        waves: waves(stage, recipe, plan.as_ref()),
        complete: done.manifest(stage).is_some(),
    });
    Ok(Forecast {
        name: recipe.name.clone(),
        workdir: uri,
        plan: plan.as_ref().map(|plan| plan.id.clone()),
        stages: stages.collect(),
        sources,
        mixture,
        training,
        memory_bytes_per_worker: crate::runner::TASK_MEMORY_BYTES,
        input_requests: objects.zip(bytes).map(|(objects, bytes)| 2 * objects + bytes / READ_BYTES),
    })
}

/// Manifests of an earlier run of the same plan.
struct Done(BTreeMap<&'static str, StageManifest>);

impl Done {
    fn read(uri: &str, plan: Option<&Plan>) -> Done {
        let (Some(plan), Ok(workdir)) = (plan, Workdir::open_existing(uri)) else { return Done(BTreeMap::new()) };
        let read = |stage: Stage| workdir.read_manifest(&plan.id, stage.name()).ok().flatten().map(|m| (stage.name(), m));
        Done(Stage::ALL.into_iter().filter_map(read).collect())
    }

    fn manifest(&self, stage: Stage) -> Option<&StageManifest> {
        self.0.get(stage.name())
    }

    /// Counted tokens by source.
    fn tokens(&self) -> BTreeMap<String, RunTotals> {
        let facts = self.manifest(Stage::Tokenize).map(|m| m.facts["sources"].clone());
        facts.and_then(|sources| serde_json::from_value(sources).ok()).unwrap_or_default()
    }
}

fn waves(stage: Stage, recipe: &Recipe, plan: Option<&Plan>) -> Vec<(u64, u64)> {
    let Some((corpus, plan)) = recipe.corpus.as_ref().zip(plan).filter(|_| stage == Stage::Dedup) else { return Vec::new() };
    stages::dedup::waves(corpus, plan).into_iter().map(|wave| (wave.start, wave.end)).collect()
}

fn planned_tasks(stage: Stage, recipe: &Recipe, plan: Option<&Plan>) -> Option<u64> {
    match stage {
        Stage::Dedup => waves(stage, recipe, plan).last().map(|wave| wave.1),
        Stage::Ingest | Stage::Tokenize => plan.map(|plan| plan.ingest.len() as u64),
        Stage::Evaluate => plan.map(|plan| plan.evaluation.len() as u64),
        Stage::Pack | Stage::Publish => None,
        _ => Some(1),
    }
}

fn sources(file: &RecipeFile) -> Vec<SourceForecast> {
    let corpus = file.recipe.corpus.iter().flat_map(|corpus| &corpus.source);
    corpus
        .map(|source| {
            let found = inputs::resolve(file, &format!("source \"{}\"", source.name), &source.inputs);
            let objects = found.as_ref().ok().map(|found| &found.objects);
            SourceForecast {
                source: source.name.clone(),
                domain: source.domain.to_string(),
                objects: objects.map(|objects| objects.len() as u64),
                bytes: objects.map(|objects| objects.iter().map(|o| o.size_bytes).sum()),
                unknown: found.as_ref().err().map(|e| chain(e)),
                supply_tokens: None,
                quota_tokens: None,
                epochs: None,
                max_epochs: source.max_epochs,
            }
        })
        .collect()
}

/// Quotas from the recipe alone, and supply and epochs where a run has counted tokens.
fn mixture(file: &RecipeFile, done: &Done, sources: &mut [SourceForecast]) -> Option<MixtureForecast> {
    let corpus = file.recipe.corpus.as_ref()?;
    let recipe = corpus.mixture.as_ref()?;
    let counted = done.tokens();
    let spec = mix::spec(recipe, corpus.pack.as_ref().map_or(1, |pack| pack.sequence_length));
    let named = |quotas: [u64; 3]| DOMAIN_NAMES.iter().map(ToString::to_string).zip(quotas).collect();
    if counted.is_empty() {
        let TotalRecipe::Tokens(total) = recipe.tokens else {
            return Some(MixtureForecast { total: None, quotas: BTreeMap::new(), refusal: None });
        };
        let weights = spec.weights.map(u64::from);
        let quotas = apportion::by_largest_remainder(total, &weights);
        let quotas = [quotas[0], quotas[1], quotas[2]];
        return Some(MixtureForecast { total: Some(total), quotas: named(quotas), refusal: None });
    }
    let supply: Vec<SourceSupply> = corpus
        .source
        .iter()
        .map(|source| {
            let totals = counted.get(&source.name).cloned().unwrap_or_default();
            SourceSupply {
                source: source.name.clone(),
                domain: mix::domain_index(source.domain),
                documents: totals.documents - totals.heldout_documents,
                tokens: totals.tokens - totals.heldout_tokens,
                max_epochs: source.max_epochs,
            }
        })
        .collect();
    for (source, supply) in sources.iter_mut().zip(&supply) {
        source.supply_tokens = Some(supply.tokens);
    }
    match plan_mixture(&spec, &supply) {
        Ok(mixture) => {
            shares(&mixture, sources);
            Some(MixtureForecast { total: Some(mixture.total), quotas: named(mixture.quotas), refusal: None })
        }
        Err(error) => Some(MixtureForecast { total: None, quotas: BTreeMap::new(), refusal: Some(chain(&error)) }),
    }
}

fn shares(mixture: &Mixture, sources: &mut [SourceForecast]) {
    for source in sources {
        if let Some(share) = mixture.sources.iter().find(|share| share.source == source.source) {
            source.quota_tokens = Some(share.quota);
            source.epochs = (share.supply > 0).then(|| share.quota as f64 / share.supply as f64);
        }
    }
}

fn training(file: &RecipeFile, tokens: Option<u64>) -> Option<TrainingForecast> {
    let (model, train) = (file.recipe.model.as_ref()?, file.recipe.train.as_ref()?);
    let shape = match (&model.shape, &model.checkpoint) {
        (Some(name), _) => Shape::named(name, ASSUMED_VOCABULARY).ok(),
        (None, Some(folder)) => checkpoint_shape(file, folder),
        (None, None) => None,
    };
    let length = file.recipe.corpus.as_ref().and_then(|c| c.pack.as_ref()).map(|pack| u64::from(pack.sequence_length));
    let sequences = tokens.zip(length).map(|(tokens, length)| tokens.div_ceil(length));
    let steps =
        train.steps.or_else(|| sequences.map(|n| n.saturating_mul(u64::from(train.epochs)).div_ceil(train.batch_sequences)));
    let seen = match (train.steps, length) {
        (Some(steps), Some(length)) => Some(steps.saturating_mul(train.batch_sequences).saturating_mul(length)),
        _ => tokens.map(|tokens| tokens.saturating_mul(u64::from(train.epochs))),
    };
    let flops = shape
        .as_ref()
        .zip(length)
        .map(|(shape, length)| 6 * shape.matrix_parameter_count() + 12 * (shape.layers * shape.width) as u64 * length);
    let hours = |utilization: f64| {
        let (tokens, flops) = seen.zip(flops)?;
        Some((format!("{utilization:.2}"), tokens as f64 * flops as f64 / (utilization * A100_FLOPS) / 3600.0))
    };
    Some(TrainingForecast {
        model: model.shape.clone().or_else(|| model.checkpoint.clone()).unwrap_or_default(),
        parameters: shape.as_ref().map(Shape::parameter_count),
        tokens: seen,
        batch_sequences: train.batch_sequences,
        steps,
        flops_per_token: flops,
        a100_hours: UTILIZATIONS.into_iter().filter_map(hours).collect(),
    })
}

fn checkpoint_shape(file: &RecipeFile, folder: &str) -> Option<Shape> {
    let bytes = std::fs::read(file.resolve(folder).ok()?.join("config.json")).ok()?;
    ModelConfig::parse(&bytes).ok().map(|config| config.shape)
}

impl Forecast {
    /// For people.
    pub fn text(&self) -> String {
        let number = |value: Option<u64>| value.map_or("unknown".to_owned(), |value| value.to_string());
        let mut lines = vec![format!("{}: output to {}", self.name, self.workdir), String::new()];
        lines.push(format!(
            "{:<20} {:<11} {:>8} {:>14} {:>14} {:>14} {:>7} {:>5}",
            "source", "domain", "objects", "bytes", "supply tokens", "quota tokens", "epochs", "max"
        ));
        for s in &self.sources {
            let epochs = s.epochs.map_or("unknown".to_owned(), |epochs| format!("{epochs:.3}"));
            lines.push(format!(
                "{:<20} {:<11} {:>8} {:>14} {:>14} {:>14} {:>7} {:>5}",
                s.source,
                s.domain,
                number(s.objects),
                number(s.bytes),
                number(s.supply_tokens),
                number(s.quota_tokens),
                epochs,
                s.max_epochs
            ));
        }
        lines.extend(self.sources.iter().filter_map(|s| s.unknown.clone()).map(|why| format!("  unknown: {why}")));
        if let Some(mixture) = &self.mixture {
            let quotas: Vec<String> = mixture.quotas.iter().map(|(domain, tokens)| format!("{domain} {tokens}")).collect();
            lines.push(format!("\nmixture: {} tokens; {}", number(mixture.total), quotas.join(", ")));
            lines.extend(mixture.refusal.clone());
        }
        lines.push(String::new());
        for stage in &self.stages {
            let state = if stage.complete { "done" } else { "to do" };
            let shown =
                |wave: &(u64, u64)| if wave.1 - wave.0 == 1 { wave.0.to_string() } else { format!("{}-{}", wave.0, wave.1 - 1) };
            let waves = stage.waves.iter().map(shown).collect::<Vec<_>>().join(", ");
            let waves = if stage.waves.len() > 1 { format!("; in waves {waves}") } else { String::new() };
            lines.push(format!("{:<14} {:>8} tasks  {state}{waves}", stage.stage, number(stage.tasks)));
        }
        lines.push(format!(
            "\nmemory: {} MiB a worker; requests to read the inputs: {}; a task reads at most {} MiB of input, or one object that cannot be cut",
            self.memory_bytes_per_worker >> 20,
            number(self.input_requests),
            TASK_INPUT_BYTES >> 20
        ));
        if let Some(t) = &self.training {
            lines.push(format!(
                "\ntraining: {}, {} parameters, {} tokens in {} steps of {} sequences",
                t.model,
                number(t.parameters),
                number(t.tokens),
                number(t.steps),
                t.batch_sequences
            ));
            for (utilization, hours) in &t.a100_hours {
                lines.push(format!("  at {utilization} of an A100's dense bf16 rate (PaLM count): {hours:.2} GPU-hours"));
            }
        }
        lines.join("\n")
    }
}
