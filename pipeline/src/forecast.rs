//! `plan`: what a recipe comes to, from the recipe and, where they exist, its inputs and its work folder. Touches nothing.
//!
//! What is not known is said to be unknown; training figures never depend on the inputs.

mod mixture;
mod text;
mod training;

use std::collections::BTreeMap;

use mellama_shards::{RunTotals, Tokenizer};
use mellama_storage::{ObjectEntry, StageManifest, Workdir, foreign_scheme, requests_to_read};
use serde::Serialize;

use crate::context::{Context, Resources};
use crate::failure::{Failure, chain};
use crate::inputs::{self, InputError, Patterns};
use crate::location::Location;
use crate::observer::Silent;
use crate::other_plan;
use crate::plan::Plan;
use crate::recipe::{Recipe, RecipeFile, SourceRecipe};
use crate::requests::Requests;
use crate::separators::Separators;
use crate::stage::Stage;
use crate::stages;

pub use self::mixture::{DomainForecast, MixtureForecast};
pub use self::training::{LayoutForecast, PaperCheck, TrainingForecast};

/// The forecast of a recipe.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// The run's name.
    pub name: String,
    /// Where output would go.
    pub workdir: String,
    /// Plan id, when every input is there.
    pub plan: Option<String>,
    /// Inputs that are not there, those of the corpus's sources aside, and why.
    pub unknown: Vec<String>,
    /// What a person should look at before a run.
    pub warnings: Vec<String>,
    /// Stages with their tasks, as far as known.
    pub stages: Vec<StageForecast>,
    /// Sources in recipe order.
    pub sources: Vec<SourceForecast>,
    /// The tokenizer, where the recipe names one.
    pub tokenizer: Option<TokenizerForecast>,
    /// Token quotas.
    pub mixture: Option<MixtureForecast>,
    /// Continual pre-training.
    pub training: Option<TrainingForecast>,
    /// Least memory in bytes that one worker needs.
    pub memory_bytes_per_worker: u64,
    /// Requests to read every input once, by ranges of 8 MiB; null when inputs are unknown.
    pub input_requests: Option<u64>,
    /// What one undisturbed run of the recipe has to ask of an object store, each object that a later step needs read once; null
    /// until every stage is finished, for what stages write is not known before.
    pub run_requests: Option<Requests>,
}

/// What a scheduler needs of a forecast.
#[derive(Debug, Clone, Serialize)]
pub struct TasksForecast<'a> {
    /// Plan id, when every input is there.
    pub plan: Option<&'a str>,
    /// Where output would go.
    pub workdir: &'a str,
    /// Stages with their tasks, as far as known.
    pub stages: &'a [StageForecast],
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
    /// `open`, `dua` or `phi`; everything that is made of it inherits it.
    pub sensitivity: String,
    /// Input objects; null when unknown.
    pub objects: Option<u64>,
    /// Their bytes; null when unknown.
    pub bytes: Option<u64>,
    /// Why they are unknown.
    pub unknown: Option<String>,
    /// Tokens for training, held-out documents aside: counted, else expected.
    pub supply_tokens: Option<u64>,
    /// `counted` by a run, or `expected` by the recipe.
    pub supply_from: Option<&'static str>,
    /// Tokens held out of training.
    pub heldout_tokens: Option<u64>,
    /// Tokens taken; where the mixture is refused, those that it would take if every source had epochs enough.
    pub quota_tokens: Option<u64>,
    /// Passes over the whole source in the quota.
    pub full_epochs: Option<u64>,
    /// Tokens of the last, partial pass, whose last document is cut to end there.
    pub remainder_tokens: Option<u64>,
    /// Passes, the partial one included.
    pub epochs: Option<f64>,
    /// Passes allowed.
    pub max_epochs: u32,
}

/// The tokenizer and what it puts around documents.
#[derive(Debug, Clone, Serialize)]
pub struct TokenizerForecast {
    /// As the recipe names it.
    pub path: String,
    /// Ids before and behind every document; null while the file is not there.
    pub separators: Option<Separators>,
    /// `own` or `tokenizers`: which encoder its texts go through; null while the file is not there.
    pub encoder: Option<&'static str>,
    /// Ids of its vocabulary; null while the file is not there.
    pub vocabulary: Option<u32>,
    /// Why they are unknown, or what is unusual about them.
    pub note: Option<String>,
}

impl Forecast {
    /// Whether a run of the recipe would go through, as far as is known without one.
    ///
    /// # Errors
    /// `Failure::Policy` when the supply, counted or expected, cannot fill the mixture.
    pub fn check(&self) -> Result<(), Failure> {
        let Some((refusal, from)) = self.mixture.iter().find_map(|m| m.refusal.as_ref()).zip(self.supply_from()) else {
            return Ok(());
        };
        let refusal = refusal.trim_start_matches("mixture: ");
        Err(Failure::Policy(format!("corpus.mixture: the {from} supply cannot fill it: {refusal}")))
    }

    /// The stages alone.
    pub fn tasks(&self) -> TasksForecast<'_> {
        TasksForecast { plan: self.plan.as_deref(), workdir: &self.workdir, stages: &self.stages }
    }

    /// `counted` or `expected`.
    fn supply_from(&self) -> Option<&'static str> {
        self.sources.iter().find_map(|source| source.supply_from)
    }
}

/// Forecasts a recipe.
///
/// # Errors
/// `Failure::Policy` for keys that contradict each other; absent inputs are no error.
pub fn forecast(file: &RecipeFile, workdir: Option<&str>) -> Result<Forecast, Failure> {
    let mut file = file.clone();
    let uri = workdir.map_or_else(|| file.recipe.workdir.clone(), String::from);
    if let Some(scheme) = foreign_scheme(&uri) {
        return Err(Failure::Policy(format!(
            "--workdir: an address of {scheme}:// is given; give a folder or s3://BUCKET/PREFIX"
        )));
    }
    // As `run` takes them: variables stand in recipes, and a shell has expanded what is given to it.
    let place = if workdir.is_none() { file.expand(&uri).unwrap_or_else(|_| uri.clone()) } else { uri.clone() };
    file.excluded = Some(Location::of(&place).canonical());
    let file = &file;
    let recipe = &file.recipe;
    let (plan, faults) = Plan::resolve_all(file);
    let mut warnings = plan.warnings.clone();
    let plan = Some(plan).filter(|_| faults.is_empty());
    let done = Done::read(file, &place, plan.as_ref());
    warnings
        .extend(plan.as_ref().and_then(|plan| taken(&place, file, plan)).map(|failure| format!("\"run\" refuses: {failure}")));
    let mut sources = sources(file, plan.as_ref());
    let is_told = |why: &String| sources.iter().any(|source| source.unknown.as_ref() == Some(why));
    let unknown = faults.iter().map(|fault| chain(fault)).filter(|why| !is_told(why)).collect();
    let mixture = mixture::forecast(file, &done.tokens(), &mut sources);
    let tokenizer = tokenizer(file);
    let vocabulary = tokenizer.as_ref().and_then(|tokenizer| tokenizer.vocabulary);
    let published = done.manifest(Stage::Publish).and_then(|m| m.facts["parts"]["train"]["sequences"].as_u64());
    let training = training::forecast(file, vocabulary, mixture.as_ref().and_then(|m| m.total), published);
    let stages = Stage::of(recipe).into_iter().map(|stage| StageForecast {
        stage: stage.name(),
        tasks: done
            .manifest(stage)
            .map(|m| m.tasks)
            .or_else(|| planned_tasks(stage, recipe, plan.as_ref()))
            .or_else(|| counted_tasks(stage, file, &place, plan.as_ref()?)),
        waves: waves(stage, recipe, plan.as_ref()),
        complete: done.manifest(stage).is_some(),
    });
    let run_requests = plan.as_ref().and_then(|plan| done.requests(file, &place, plan));
    Ok(Forecast {
        name: recipe.name.clone(),
        workdir: uri,
        plan: plan.as_ref().map(|plan| plan.id.clone()),
        unknown,
        warnings,
        stages: stages.collect(),
        sources,
        tokenizer,
        mixture,
        training,
        memory_bytes_per_worker: crate::runner::TASK_MEMORY_BYTES,
        input_requests: plan.as_ref().map(input_requests),
        run_requests,
    })
}

/// Requests that read every input once, whatever parts it is read in.
fn input_requests(plan: &Plan) -> u64 {
    let objects: BTreeMap<_, u64> = plan.objects().map(|object| (object.place(), object.size_bytes)).collect();
    objects.values().map(|size_bytes| requests_to_read(*size_bytes)).sum()
}

/// Why the work folder is not free for the plan, where it is not.
fn taken(uri: &str, file: &RecipeFile, plan: &Plan) -> Option<Failure> {
    let there = Workdir::open_existing(file.stores(), uri).ok()?;
    let other = there.read_plan_id().ok()?.filter(|id| *id != plan.id);
    let there = other.and_then(|_| there.read_plan().ok()?)?;
    Some(other_plan::refusal(uri, &there, file, plan))
}

/// Manifests of an earlier run of the same plan.
struct Done(BTreeMap<&'static str, StageManifest>);

impl Done {
    fn read(file: &RecipeFile, uri: &str, plan: Option<&Plan>) -> Done {
        let (Some(plan), Ok(workdir)) = (plan, Workdir::open_existing(file.stores(), uri)) else { return Done(BTreeMap::new()) };
        let read = |stage: Stage| workdir.read_manifest(&plan.id, stage.name()).ok().flatten().map(|m| (stage.name(), m));
        Done(Stage::ALL.into_iter().filter_map(read).collect())
    }

    fn manifest(&self, stage: Stage) -> Option<&StageManifest> {
        self.0.get(stage.name())
    }

    /// What the run has to ask for, where it is finished.
    fn requests(&self, file: &RecipeFile, uri: &str, plan: &Plan) -> Option<Requests> {
        let stages = Stage::of(&file.recipe);
        let manifests: Vec<&StageManifest> = stages.iter().map(|stage| self.manifest(*stage)).collect::<Option<_>>()?;
        let objects: Vec<ObjectEntry> = manifests.iter().flat_map(|manifest| manifest.objects.clone()).collect();
        let tasks = manifests.iter().map(|manifest| manifest.tasks).sum();
        let workdir = Workdir::open_existing(file.stores(), uri).ok()?;
        Requests::of_run(&workdir, plan, &stages, &objects, tasks).ok()
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

/// Tasks of a stage that an earlier one decides, once that is done.
fn counted_tasks(stage: Stage, file: &RecipeFile, uri: &str, plan: &Plan) -> Option<u64> {
    let workdir = Workdir::open_existing(file.stores(), uri).ok()?;
    let resources = Resources::default();
    stage.task_count(&Context::new(file, plan, &workdir, &resources, &Silent)).ok()
}

fn tokenizer(file: &RecipeFile) -> Option<TokenizerForecast> {
    let recipe = file.recipe.corpus.as_ref()?.tokenizer.as_ref()?;
    let loaded = inputs::resolve_file(file, &recipe.path).map_err(Failure::from).and_then(|object| {
        let tokenizer = Tokenizer::from_bytes(&object.name, &object.read()?).map_err(|e| Failure::Policy(e.to_string()))?;
        Ok((Separators::of(recipe, &tokenizer)?, (tokenizer.encoder().as_str(), tokenizer.vocabulary_size())))
    });
    let note = match &loaded {
        Ok((separators, _)) if separators.eos.is_none() => {
            Some("no end token behind documents: they run into each other".to_owned())
        }
        Ok(_) => None,
        Err(failure) => Some(failure.to_string()),
    };
    let (separators, of_file) = loaded.ok().unzip();
    let (encoder, vocabulary) = of_file.unzip();
    Some(TokenizerForecast { path: recipe.path.clone(), separators, encoder, vocabulary, note })
}

/// Sources as they were planned; where not every input is there, each is listed for itself.
fn sources(file: &RecipeFile, plan: Option<&Plan>) -> Vec<SourceForecast> {
    let corpus = file.recipe.corpus.iter().flat_map(|corpus| &corpus.source);
    corpus
        .enumerate()
        .map(|(index, source)| {
            let found = match plan {
                Some(plan) => Ok(plan.sizes_of(index)),
                None => listed(file, source),
            };
            let sizes = found.as_ref().ok();
            SourceForecast {
                source: source.name.clone(),
                domain: source.domain.to_string(),
                sensitivity: source.resolved_sensitivity().to_string(),
                objects: sizes.map(|sizes| sizes.len() as u64),
                bytes: sizes.map(|sizes| sizes.iter().sum()),
                unknown: found.as_ref().err().map(|e| chain(e)),
                supply_tokens: None,
                supply_from: None,
                heldout_tokens: None,
                quota_tokens: None,
                full_epochs: None,
                remainder_tokens: None,
                epochs: None,
                max_epochs: source.max_epochs,
            }
        })
        .collect()
}

/// Sizes of the objects of a source that are there.
fn listed(file: &RecipeFile, source: &SourceRecipe) -> Result<Vec<u64>, InputError> {
    let subject = format!("source \"{}\"", source.name);
    let wanted = Patterns { subject: &subject, inputs: &source.inputs, anonymous: source.anonymous };
    Ok(inputs::resolve(file, wanted)?.objects.iter().map(|object| object.size_bytes).collect())
}
