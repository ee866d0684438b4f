//! What continual pre-training and instruction tuning share: the starting weights, the hooks, the commit of the result.

use std::sync::Arc;

use mellama_shards::{ShardSet, Tokenizer};
use mellama_sources::Sensitivity;
use mellama_storage::{Counts, Key, ObjectEntry, RangeReader, StageManifest, StoreError, Stores, Tally};
use mellama_train::Shape;
use mellama_train::checkpoint::{CheckpointError, CheckpointManifest};
use mellama_train::hf::{HfModel, ModelConfig, SpecialTokens, load};
use mellama_train::trainer::{
    Base, CheckpointInfo, Heldout, HeldoutRecord, Hooks, Kind, RewindRecord, StepRecord, TokenizerFile, TrainError, TrainJob,
    TrainOutcome, TrainSpec, train,
};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::location::Location;
use crate::model_card;
use crate::observer::Observer;
use crate::runner;
use crate::stage::{Stage, TaskOutput};

/// What a training stage says of its result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrainFacts {
    /// Steps done.
    pub steps: u64,
    /// Folder of the last checkpoint.
    pub folder: String,
    /// Folder of a model that loads by itself.
    pub model_folder: String,
    /// Tokens that were trained on, padding included.
    pub tokens: u64,
    /// The first and the last step's loss.
    pub first_loss: Option<f64>,
    /// The last step's loss.
    pub last_loss: Option<f64>,
    /// The last held-out measurement.
    pub heldout: Option<HeldoutRecord>,
    /// Steps passed over by the guards.
    pub skipped_steps: u64,
    /// Parameters of the model.
    pub parameters: u64,
    /// What the weights started from.
    pub base: String,
    /// Highest sensitivity of data and base.
    pub sensitivity: String,
}

/// One training stage, ready to run.
pub(crate) struct Training<'a> {
    pub kind: Kind,
    pub spec: TrainSpec,
    pub base: Base,
    pub data: &'a StageManifest,
    pub sequences: ShardSet,
    pub heldout: Option<Heldout<'a>>,
    pub source_names: Vec<String>,
    pub sensitivity: String,
}

impl Training<'_> {
    /// Trains, or goes on from the newest checkpoint, and returns what is to be committed.
    pub(crate) fn run(self, context: &Context<'_>) -> Result<TaskOutput, Failure> {
        let parameters = self.base.model.shape.parameter_count();
        let base = self.base.name.clone();
        let job = TrainJob {
            kind: self.kind,
            spec: self.spec,
            seed: context.file.recipe.seed,
            base: self.base,
            data_digest: runner::shards_digest(self.data),
            source_names: self.source_names,
            sensitivity: self.sensitivity.clone(),
            tokenizer_files: tokenizer_files(context)?,
        };
        let mut hooks = Drawing { observer: context.observer, stopped: false };
        let outcome = train(job, &self.sequences, self.heldout.as_ref(), context.workdir, &mut hooks)
            .map_err(|error| refused(context, self.kind, error))?;
        if !outcome.finished() {
            context.check_stop()?;
            return Err(Failure::Failed(format!(
                "training stopped at step {} of {}; run the same command again",
                outcome.step, outcome.total_steps
            )));
        }
        let metrics = read_metrics(context, self.kind)?;
        let sequences: u64 = metrics.steps.iter().map(|record| record.sequences).sum();
        let model_folder = outcome.model_folder.clone();
        let facts = TrainFacts {
            steps: outcome.step,
            folder: outcome.folder.clone(),
            model_folder: model_folder.ok_or_else(|| Failure::Failed("training ended without a model".into()))?,
            tokens: metrics.steps.iter().map(|record| record.tokens).sum(),
            first_loss: metrics.steps.first().and_then(|record| record.loss),
            last_loss: outcome.last_step.as_ref().and_then(|record| record.loss),
            heldout: outcome.last_heldout.clone(),
            skipped_steps: outcome.skipped_steps,
            parameters,
            base,
            sensitivity: self.sensitivity,
        };
        let seen = Tally { documents: sequences, bytes: 0 };
        let counts = Counts { read: seen, written: seen, ..Counts::default() };
        let objects = checkpoint_objects(context, &outcome)?.into_iter().chain(metrics.objects).collect();
        Ok(TaskOutput { objects, counts, facts: serde_json::to_value(facts).expect("plain data") })
    }
}

/// The facts that a training stage left.
///
/// # Errors
/// `Failure::Policy` when it is not done.
pub(crate) fn facts_of(context: &Context<'_>, stage: Stage) -> Result<TrainFacts, Failure> {
    let manifest = context.manifest(stage)?;
    serde_json::from_value(manifest.facts)
        .map_err(|e| Failure::Verification(format!("manifests/{stage}.json: facts not understood: {e}")))
}

/// The weights that `[model]` names, checked against the tokenizer.
///
/// # Errors
/// `Failure::Policy` when shape, checkpoint and tokenizer do not fit.
pub(crate) fn starting_weights(context: &Context<'_>) -> Result<Base, Failure> {
    let recipe = context.file.recipe.model.as_ref().expect("training stages run only with [model]");
    let tokenizer = context.tokenizer()?;
    if let Some(checkpoint) = &recipe.checkpoint {
        let model = load_place(context, checkpoint)?;
        check_fit(checkpoint, &model, &tokenizer)?;
        check_named(checkpoint, &model, recipe.shape.as_deref())?;
        return Ok(Base::loaded(model, checkpoint.clone()));
    }
    let name = recipe.shape.as_deref().expect("checked: shape or checkpoint");
    let mut shape = Shape::named(name, tokenizer.vocabulary_size() as usize).map_err(|e| Failure::Policy(chain(&e)))?;
    let lengths = [
        context.file.recipe.corpus.as_ref().and_then(|c| c.pack.as_ref()).map(|p| p.sequence_length),
        context.file.recipe.instruct.as_ref().and_then(|i| i.sequence_length),
    ];
    let longest = lengths.into_iter().flatten().max().unwrap_or(0) as usize;
    shape.max_positions = shape.max_positions.max(longest);
    let tokens = SpecialTokens { bos: tokenizer.bos(), eos: tokenizer.eos() };
    Base::fresh(shape, context.file.recipe.seed, tokens, name).map_err(|e| Failure::Policy(chain(&e)))
}

/// The model that lies in a place of the recipe.
fn load_place(context: &Context<'_>, folder: &str) -> Result<HfModel, Failure> {
    let place = context.file.resolve(folder)?;
    let policy =
        |e: &(dyn std::error::Error + 'static)| Failure::passing_or(e, |text| Failure::Policy(format!("{place}: {text}")));
    let store = place.store(context.file.stores()).map_err(|e| policy(&e))?;
    load(&store, "").map_err(|e| policy(&e))
}

/// Sensitivity of a checkpoint folder: what the manifest in it, or in the folder above (`merged/`), says, else the model card in it.
/// Weights without either come from elsewhere and count as open; a manifest that cannot be read counts as the highest level.
pub(crate) fn checkpoint_sensitivity(stores: &Stores, folder: &Location) -> Sensitivity {
    let above = (folder.name() == "merged").then(|| folder.ancestor(1)).flatten();
    let read = |folder: Location| folder.join("manifest.json").read(stores).ok();
    let Some(bytes) = [Some(folder.clone()), above].into_iter().flatten().find_map(read) else {
        let card = folder.join(model_card::CARD).read(stores).ok();
        let card = card.filter(|card| card.len() as u64 <= model_card::CARD_LIMIT_BYTES);
        return card.and_then(|card| model_card::sensitivity(&card)).unwrap_or(Sensitivity::Open);
    };
    let manifest = mellama_storage::sealed::decode::<CheckpointManifest>(&bytes).ok();
    manifest.and_then(|manifest| Sensitivity::from_name(&manifest.sensitivity)).unwrap_or(Sensitivity::Phi)
}

/// Sensitivity of the checkpoint that `[model]` names.
///
/// # Errors
/// `Failure::Policy` for an unset variable in its path.
pub(crate) fn starting_sensitivity(context: &Context<'_>) -> Result<Sensitivity, Failure> {
    let named = context.file.recipe.model.as_ref().and_then(|model| model.checkpoint.as_ref());
    named
        .map_or(Ok(Sensitivity::Open), |folder| Ok(checkpoint_sensitivity(context.file.stores(), &context.file.resolve(folder)?)))
}

/// A model that an earlier stage of this run published.
///
/// # Errors
/// `Failure::Verification` when its files are damaged.
pub(crate) fn published_model(context: &Context<'_>, folder: &str) -> Result<HfModel, Failure> {
    load(context.workdir.store(), folder).map_err(|e| Failure::reading("", &e))
}

/// Refuses a tokenizer with ids that the model has no embedding for.
///
/// # Errors
/// `Failure::Policy`.
pub(crate) fn check_fit(name: &str, model: &HfModel, tokenizer: &Tokenizer) -> Result<(), Failure> {
    fit(name, model.shape.vocabulary, tokenizer)
}

/// Refuses a checkpoint that has not the shape that the recipe says it has. Positions may be others.
fn check_named(checkpoint: &str, model: &HfModel, name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else { return Ok(()) };
    let wanted = Shape::named(name, model.shape.vocabulary).map_err(|e| Failure::Policy(chain(&e)))?;
    if (Shape { max_positions: model.shape.max_positions, ..wanted.clone() }) == model.shape {
        return Ok(());
    }
    Err(Failure::Policy(format!(
        "{checkpoint}: {} parameters, model.shape {name} has {} or other constants; name the shape that the checkpoint has, or leave it out",
        model.shape.parameter_count(),
        wanted.parameter_count()
    )))
}

fn fit(name: &str, rows: usize, tokenizer: &Tokenizer) -> Result<(), Failure> {
    let ids = tokenizer.vocabulary_size();
    if ids as usize == rows {
        return Ok(());
    }
    Err(Failure::Policy(format!(
        "{name}: the checkpoint has {rows} tokens, the tokenizer has {ids}; give the tokenizer that the checkpoint was trained with"
    )))
}

/// Refuses a checkpoint whose configuration does not fit the tokenizer, without loading its weights.
///
/// # Errors
/// `Failure::Policy`.
pub(crate) fn check_checkpoint(context: &Context<'_>, folder: &str, tokenizer: &Tokenizer) -> Result<(), Failure> {
    let shown = context.file.resolve(folder)?.join("config.json");
    let no_folder = |text: String| Failure::Policy(format!("{shown}: cannot be read: {text}; give a checkpoint folder"));
    let unreadable = |e: StoreError| Failure::passing_or(&e, no_folder);
    let bytes = shown.read(context.file.stores()).map_err(unreadable)?;
    let config = ModelConfig::parse(&bytes).map_err(|e| Failure::Policy(format!("{shown}: {}", chain(&e))))?;
    fit(folder, config.shape.vocabulary, tokenizer)
}

/// File name under which a tokenizer lies beside weights.
pub(crate) fn tokenizer_file_name(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("model") => "tokenizer.model",
        Some("bin") => "tokenizer.bin",
        _ => "tokenizer.json",
    }
}

fn tokenizer_files(context: &Context<'_>) -> Result<Vec<TokenizerFile>, Failure> {
    let Some(file) = &context.plan.tokenizer else { return Ok(Vec::new()) };
    Ok(vec![TokenizerFile { name: tokenizer_file_name(&file.name).into(), bytes: file.read()? }])
}

/// The manifest of the last checkpoint and every file that it names.
fn checkpoint_objects(context: &Context<'_>, outcome: &TrainOutcome) -> Result<Vec<ObjectEntry>, Failure> {
    let key = Key::new(format!("{}/manifest.json", outcome.folder))?;
    let manifest: Option<CheckpointManifest> = context.workdir.read_sealed(&key)?;
    let missing = || Failure::Verification(format!("{key}: missing right after it was written; check the storage"));
    Ok(manifest.ok_or_else(missing)?.objects)
}

struct Metrics {
    steps: Vec<StepRecord>,
    objects: Vec<ObjectEntry>,
}

/// Every step's record so far, in order, from the objects under `metrics/`.
fn read_metrics(context: &Context<'_>, kind: Kind) -> Result<Metrics, Failure> {
    let prefix = format!("metrics/{}-", kind.as_str());
    let mut metrics = Metrics { steps: Vec::new(), objects: Vec::new() };
    let store = Arc::clone(context.workdir.store());
    for object in mellama_storage::list_all(&*store, &prefix) {
        let meta = object?;
        let object = RangeReader::known(Arc::clone(&store), meta.clone());
        let bytes = object.read_at(0, meta.size_bytes as usize)?;
        let mut records = 0;
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            records += 1;
            let line = serde_json::from_slice(line);
            let line = line.map_err(|e| Failure::Verification(format!("{}: line {records}: {e}", meta.key)))?;
            if let mellama_train::trainer::MetricLine::Step(record) = line {
                metrics.steps.push(record);
            }
        }
        metrics.objects.push(ObjectEntry {
            key: meta.key.as_str().to_owned(),
            bytes: bytes.len() as u64,
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            records,
        });
    }
    metrics.steps.sort_by_key(|record| record.step);
    metrics.steps.dedup_by_key(|record| record.step);
    Ok(metrics)
}

/// Every step's record of a finished training stage.
///
/// # Errors
/// `Failure::Verification` for damaged metrics.
pub(crate) fn step_records(context: &Context<'_>, kind: Kind) -> Result<Vec<StepRecord>, Failure> {
    Ok(read_metrics(context, kind)?.steps)
}

/// The failure of a training, with the reason where a retraction changed the data under checkpoints that it goes on from.
fn refused(context: &Context<'_>, kind: Kind, error: TrainError) -> Failure {
    let other_data = matches!(error, TrainError::OtherRun { what: "data", .. });
    let retractions = context.workdir.read_retractions(&context.plan.id).map_or(0, |records| records.len());
    let failure = failure(error);
    if !other_data || retractions == 0 {
        return failure;
    }
    let kind = kind.as_str();
    Failure::Policy(format!(
        "{failure}, or, as {retractions} retractions changed the shards, delete checkpoints/{kind}/ and metrics/{kind}-* to train anew \
         without what was retracted"
    ))
}

fn failure(error: TrainError) -> Failure {
    let text = chain(&error);
    match error {
        TrainError::Spec(_) | TrainError::OtherRun { .. } | TrainError::NoSequences | TrainError::Batch { .. } => {
            Failure::Policy(text)
        }
        TrainError::Checkpoint(error) => match *error {
            CheckpointError::Protocol(error) => error.into(),
            CheckpointError::Store(error) => error.into(),
            CheckpointError::Conflict { .. } => Failure::Failed(text),
            error => Failure::of(&error, text, Failure::Verification),
        },
        TrainError::Source(_) => Failure::reading("", &error),
        _ => Failure::Failed(text),
    }
}

/// Shows the loss and passes the stop signal on.
struct Drawing<'a> {
    observer: &'a dyn Observer,
    stopped: bool,
}

impl Hooks for Drawing<'_> {
    fn on_start(&mut self, first_step: u64, total_steps: u64) {
        self.observer.grow(total_steps);
        self.observer.advance(first_step);
    }

    fn on_step(&mut self, record: &StepRecord) {
        self.observer.advance(1);
        if let Some(loss) = record.loss {
            self.observer.state(&format!("loss {loss:.3}"));
        }
    }

    fn on_rewind(&mut self, record: &RewindRecord) {
        let spike = record.spike;
        self.observer.warn(&format!(
            "step {}: gradient norm {:.3} above {:.3}: back to step {}, passing over the data up to the spike",
            spike.place.step, spike.norm, spike.threshold, record.to_step
        ));
    }

    fn on_checkpoint(&mut self, _: &CheckpointInfo) {}

    fn should_stop(&mut self) -> bool {
        self.stopped |= self.observer.stopped().is_some();
        self.stopped
    }
}

/// The shards of a manifest under a prefix; `None` when there are none.
///
/// # Errors
/// `Failure::Verification` when they are damaged.
pub(crate) fn open_shards(context: &Context<'_>, data: &StageManifest, prefix: &str) -> Result<Option<ShardSet>, Failure> {
    let objects: Vec<ObjectEntry> = data.objects.iter().filter(|o| o.key.starts_with(prefix)).cloned().collect();
    if objects.is_empty() {
        return Ok(None);
    }
    ShardSet::open(context.workdir, &objects).map(Some).map_err(|e| Failure::reading("", &e))
}
