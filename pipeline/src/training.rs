//! What continual pre-training and instruction tuning share: the starting weights, the commit of the result. Files of this folder:
//! what a run tells (`telemetry`, `events`), its records read back (`metrics`), whether weights and data fit (`fit`), what lies beside weights
//! (`companions`), whether the machine is large enough (`memory`) and has the card that is asked for (`device`).

mod companions;
pub(crate) mod device;
mod events;
mod fit;
pub(crate) mod memory;
pub(crate) mod metrics;
mod telemetry;

pub(crate) use companions::tokenizer_file_name;
pub(crate) use fit::{check_checkpoint, check_fit};

use mellama_shards::ShardSet;
use mellama_shards::template::Template;
use mellama_sources::Sensitivity;
use mellama_storage::{Counts, Key, ObjectEntry, StageManifest, Stores, Tally};
use mellama_train::Shape;
use mellama_train::checkpoint::{self, CheckpointError, CheckpointManifest, FILE_LIMIT_BYTES, check_object, list_steps};
use mellama_train::hf::{HfModel, SpecialTokens, load};
use mellama_train::trainer::{
    Base, Companion, Heldout, HeldoutRecord, Kind, TrainError, TrainJob, TrainOutcome, TrainSpec, train,
};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::location::Location;
use crate::model_card::{self, Form, TrainedOn};
use crate::runner;
use crate::stage::{Stage, TaskOutput};
use telemetry::{Telemetry, Told};

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
    /// The sources that the sequences number.
    pub sources: Vec<TrainedOn>,
    pub sensitivity: Sensitivity,
    /// How conversations are written, where it learns from any.
    pub template: Option<Template>,
}

impl Training<'_> {
    /// Trains, or goes on from the newest checkpoint, and returns what is to be committed.
    pub(crate) fn run(self, context: &Context<'_>) -> Result<TaskOutput, Failure> {
        let (shape, base) = (self.base.model.shape.clone(), self.base.name.clone());
        let header = self.sequences.header();
        fit::check_shards(header, &shape, self.sensitivity)?;
        let (sequences, batch) = (self.sequences.len(), self.spec.batch_sequences);
        if batch > sequences {
            context.observer.warn(&format!(
                "{}: {batch} sequences a step, the shards hold {sequences}: a step a pass; lower batch_sequences",
                self.kind.as_str()
            ));
        }
        let told = Told {
            kind: self.kind,
            shape: &shape,
            adapters: self.spec.lora.as_ref().map(|lora| lora.parameter_count(&shape)),
            length: u64::from(header.sequence_length),
            checkpoint_every: self.spec.checkpoint_every,
            domains: self.sources.iter().filter_map(|source| Some((source.name.clone(), source.domain.clone()?))).collect(),
        };
        let mut telemetry = Telemetry::new(context.observer, context.workdir, (&context.resources.interrupt, told));
        let mut companions = companions::of(context, shape.max_positions, self.template)?;
        let data_digest = runner::shards_digest(self.data);
        let mut merged_companions = companions.clone();
        let card = |form: Form| Companion { name: model_card::CARD.into(), bytes: self.card(context, (&data_digest, form)) };
        companions.push(card(if self.spec.lora.is_some() { Form::Adapters } else { Form::Model }));
        merged_companions.push(card(Form::Merged));
        let machine = self.spec.machine();
        let job = TrainJob {
            kind: self.kind,
            spec: self.spec,
            seed: context.file.recipe.seed,
            base: self.base,
            data_digest,
            source_names: self.sources.iter().map(|source| source.name.clone()).collect(),
            sensitivity: self.sensitivity.as_str().to_owned(),
            companions,
            merged_companions,
            file_limit_bytes: FILE_LIMIT_BYTES,
            machine,
        };
        let outcome = train(job, &self.sequences, self.heldout.as_ref(), context.workdir, &mut telemetry)
            .map_err(|error| refused(context, self.kind, error))?;
        if !outcome.finished() {
            context.check_stop()?;
            return Err(Failure::Failed(format!(
                "training stopped at step {} of {}; run the same command again",
                outcome.step, outcome.total_steps
            )));
        }
        let metrics = metrics::read(context, self.kind)?;
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
            parameters: shape.parameter_count(),
            base,
            sensitivity: self.sensitivity.as_str().to_owned(),
        };
        let seen = Tally { documents: sequences, bytes: 0 };
        let counts = Counts { read: seen, written: seen, ..Counts::default() };
        let objects = checkpoint_objects(context, &outcome)?.into_iter().chain(metrics.objects).collect();
        Ok(TaskOutput { objects, counts, facts: serde_json::to_value(facts).expect("plain data") })
    }

    /// The model card of every checkpoint of this run.
    fn card(&self, context: &Context<'_>, (data_digest, form): (&str, Form)) -> Vec<u8> {
        let recipe = &context.file.recipe;
        let lineage = model_card::Lineage {
            recipe: &recipe.name,
            seed: recipe.seed,
            kind: self.kind,
            base: (&self.base.name, &self.base.model.digest),
            data_digest,
            tokenizer_digest: self.sequences.header().tokenizer_digest.as_str(),
            sources: &self.sources,
            spec: &self.spec,
            form,
        };
        model_card::trained(&lineage, self.sensitivity)
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
        fit::check_named(checkpoint, &model.shape, recipe.shape.as_deref())?;
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
    load(&store, "").map_err(|e| Failure::loading(&e))
}

/// Sensitivity of a checkpoint folder: what the manifest in it, or in the folder above (`merged/`), says, else the model card in it.
/// Weights without either come from elsewhere and count as open; what is there and cannot be read counts as the highest level.
pub(crate) fn checkpoint_sensitivity(stores: &Stores, folder: &Location) -> Sensitivity {
    let above = (folder.name() == "merged").then(|| folder.ancestor(1)).flatten();
    for folder in [Some(folder), above.as_ref()].into_iter().flatten() {
        match folder.join("manifest.json").read(stores) {
            Ok(bytes) => {
                let manifest = mellama_storage::sealed::decode::<CheckpointManifest>(&bytes).ok();
                return manifest.and_then(|manifest| Sensitivity::from_name(&manifest.sensitivity)).unwrap_or(Sensitivity::Phi);
            }
            Err(error) if error.is_not_found() => {}
            Err(_) => return Sensitivity::Phi,
        }
    }
    match folder.join(model_card::CARD).read(stores) {
        Ok(card) if card.len() as u64 <= model_card::CARD_LIMIT_BYTES => {
            model_card::sensitivity(&card).unwrap_or(Sensitivity::Open)
        }
        Err(error) if error.is_not_found() => Sensitivity::Open,
        _ => Sensitivity::Phi,
    }
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
pub(crate) fn published_model(context: &Context<'_>, stage: Stage, folder: &str) -> Result<HfModel, Failure> {
    check_published(context, stage, folder)?;
    load(context.workdir.store(), folder).map_err(|e| Failure::reading("", &e))
}

/// Compares the files of a model that a stage published with what its manifest lists.
///
/// # Errors
/// `Failure::Verification` for the first that differs.
pub(crate) fn check_published(context: &Context<'_>, stage: Stage, folder: &str) -> Result<(), Failure> {
    let prefix = format!("{folder}/");
    let objects = context.manifest(stage)?.objects;
    // Nobody reads moments and records of steps any more.
    let is_read = |name: &str| !name.contains('/') && !name.starts_with("optimizer") && name != "metrics.jsonl";
    let of_model = |entry: &&ObjectEntry| entry.key.strip_prefix(&prefix).is_some_and(is_read);
    for entry in objects.iter().filter(of_model) {
        let checked = check_object(context.workdir, entry).map_err(|e| Failure::reading("", &e))?;
        checked.map_err(|problem| {
            let key = &entry.key;
            Failure::Verification(format!(
                "{key}: {problem}: changed since {stage} published it; restore it, or delete the run and repeat it"
            ))
        })?;
    }
    Ok(())
}

/// The manifest of the last checkpoint and every file that it names.
fn checkpoint_objects(context: &Context<'_>, outcome: &TrainOutcome) -> Result<Vec<ObjectEntry>, Failure> {
    let key = Key::new(format!("{}/manifest.json", outcome.folder))?;
    let manifest: Option<CheckpointManifest> = context.workdir.read_sealed(&key)?;
    let missing = || Failure::Verification(format!("{key}: missing right after it was written; check the storage"));
    let mut objects = manifest.ok_or_else(missing)?.objects;
    let bytes = context.workdir.store().read(&key, None, None)?;
    let blake3 = blake3::hash(&bytes).to_hex().to_string();
    objects.push(ObjectEntry { key: key.into(), bytes: bytes.len() as u64, blake3, records: 1 });
    Ok(objects)
}

/// The failure of a training, with the reason where a retraction changed the data under checkpoints that it goes on from.
fn refused(context: &Context<'_>, kind: Kind, error: TrainError) -> Failure {
    let other_data = matches!(error, TrainError::OtherRun { what: "data", .. });
    let retractions = context.workdir.read_retractions(&context.plan.id).map_or(0, |records| records.len());
    let stopped = matches!(error, TrainError::Guard(_) | TrainError::Replay { .. });
    let failure = failure(error);
    if stopped {
        let newest = list_steps(context.workdir, kind).ok().and_then(|steps| steps.last().copied());
        let last_good = newest.map_or("there is no checkpoint yet".to_owned(), |step| {
            format!("the last good checkpoint is {}", checkpoint::folder(kind, step))
        });
        return Failure::Failed(format!("{failure}; {last_good}"));
    }
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
        TrainError::Unsaved { ref source, .. } => Failure::of(&**source, text, Failure::Failed),
        TrainError::Source(_) => Failure::reading("", &error),
        TrainError::Device(ref device) => device::failure(device, text),
        _ => Failure::Failed(text),
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
