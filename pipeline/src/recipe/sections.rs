//! The tables of a recipe with their keys and defaults. Types only; checks across keys are in `check.rs`.

use mellama_evaluation::EvaluateSpec;
use mellama_shards::mixture::{MixtureSpec, Total, Unit};
use mellama_sources::{Cleaning, Domain, Fields, Format, Limits, ReadOptions, Sensitivity};
use mellama_train::guard::SpikeSpec;
use mellama_train::trainer::{DeviceKind, ParallelSpec, TrainSpec};
use mellama_train::{LoraSpec, MomentPrecision, Precision, Recompute};
use serde::{Deserialize, Serialize};

use super::storage::StorageRecipe;

/// A whole recipe.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The run's name; appears in reports.
    pub name: String,
    /// Seed of everything that is drawn: order, held-out choice, initial weights, dropout.
    #[serde(default)]
    pub seed: u64,
    /// Folder or bucket prefix of all output.
    pub workdir: String,
    /// How buckets are reached. It says where, not what, and is no part of a plan.
    #[serde(default, skip_serializing)]
    pub storage: Option<StorageRecipe>,
    /// Raw text to shards.
    pub corpus: Option<CorpusRecipe>,
    /// The model to train.
    pub model: Option<ModelRecipe>,
    /// Continual pre-training.
    pub train: Option<TrainSpec>,
    /// Instruction tuning.
    pub instruct: Option<InstructRecipe>,
    /// Scoring.
    pub evaluate: Option<EvaluateSpec>,
}

/// `[corpus]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusRecipe {
    /// `[[corpus.source]]`, in survivor order: an earlier source is preferred when two hold the same text.
    #[serde(default)]
    pub source: Vec<SourceRecipe>,
    /// `[corpus.clean]`; absent: valid UTF-8 and NFC only.
    pub clean: Option<Cleaning>,
    /// `[corpus.dedup]`; absent: nothing is removed as a duplicate.
    pub dedup: Option<DedupRecipe>,
    /// `[corpus.decontaminate]`; absent: no benchmark is looked for.
    pub decontaminate: Option<DecontaminateRecipe>,
    /// `[corpus.tokenizer]`.
    pub tokenizer: Option<TokenizerRecipe>,
    /// `[corpus.mixture]`; absent with `[corpus.pack]`: every token once, no ratio.
    pub mixture: Option<MixtureRecipe>,
    /// `[corpus.pack]`.
    pub pack: Option<PackRecipe>,
    /// `[corpus.limits]`: what readers accept; absent: the defaults.
    pub limits: Option<Limits>,
}

/// One `[[corpus.source]]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecipe {
    /// Unique name; lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// One of the reader names.
    pub format: String,
    /// Paths, globs or `s3://` addresses.
    pub inputs: Vec<String>,
    /// Part of the mixture it belongs to.
    pub domain: Domain,
    /// `open`; `dua` for `mimic-*`.
    pub sensitivity: Option<Sensitivity>,
    /// Licence of records that name none.
    pub licence: Option<String>,
    /// Passes over the source that the mixture may use.
    #[serde(default = "one")]
    pub max_epochs: u32,
    /// Tokens the source is expected to give once, held-out ones included: what `plan` reckons with until they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_tokens: Option<u64>,
    /// Columns or keys of `jsonl`, `csv`, `parquet`.
    #[serde(default)]
    pub fields: Fields,
    /// What is kept of a record: tables, citation markers, footnotes, ….
    #[serde(default)]
    pub read: ReadOptions,
    /// A public bucket, read without credentials.
    #[serde(default)]
    pub anonymous: bool,
    /// Text from templates: only exact copies are removed.
    #[serde(default)]
    pub templated: bool,
    /// Of copies in two sources that of the smaller rank is kept; the place in the recipe by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u16>,
    /// Share of records that may be rejected.
    #[serde(default = "max_rejects")]
    pub max_rejects: f64,
}

/// `[corpus.dedup]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DedupRecipe {
    /// Bands of the signature.
    pub bands: u32,
    /// Rows a band.
    pub rows: u32,
    /// Words a shingle.
    pub shingle_words: u32,
    /// `strict` or `tolerant`.
    pub verify: String,
    /// `tolerant` only: verified Jaccard.
    pub min_similarity: f64,
    /// Share of one source's characters in verified removals that stops the run.
    pub max_source_loss: f64,
    /// Work folders of earlier runs: what they kept is kept, and what is new is compared with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<String>,
}

impl Default for DedupRecipe {
    fn default() -> Self {
        DedupRecipe {
            bands: 14,
            rows: 8,
            shingle_words: 5,
            verify: "strict".into(),
            min_similarity: 0.95,
            max_source_loss: 0.2,
            against: Vec::new(),
        }
    }
}

/// `[corpus.decontaminate]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DecontaminateRecipe {
    /// Benchmark files to keep out of the corpus: Me-LLaMA rows, PubMedQA's JSON, or JSONL with `question`, `text`, ….
    pub benchmarks: Vec<String>,
    /// Words an n-gram.
    #[serde(default = "ngram")]
    pub ngram: u32,
    /// `drop`, `cut` or `report`.
    #[serde(default = "policy")]
    pub policy: String,
    /// Share of an item's n-grams that makes a document contaminated.
    #[serde(default = "min_share")]
    pub min_share: f64,
}

/// `[corpus.tokenizer]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerRecipe {
    /// `tokenizer.json`, SentencePiece `tokenizer.model`, or llama2.c's `tokenizer.bin`.
    pub path: String,
    /// Put the begin token before every document; absent: where the tokenizer has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<bool>,
    /// Put the end token behind every document; absent: where the tokenizer has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos: Option<bool>,
}

/// `mixture.tokens`: a count or `"all"`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum TotalRecipe {
    /// Exactly so many.
    Tokens(u64),
    /// `"all"`: the largest total that the capped supply allows.
    Word(String),
}

/// `[corpus.mixture]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureRecipe {
    /// Total number of tokens.
    pub tokens: TotalRecipe,
    /// Weight of the biomedical domain; 0 leaves it out.
    #[serde(default)]
    pub biomedical: u32,
    /// Weight of the clinical domain.
    #[serde(default)]
    pub clinical: u32,
    /// Weight of the general domain.
    #[serde(default)]
    pub general: u32,
    /// `tokens` or `sequences`.
    #[serde(default = "unit")]
    pub unit: String,
}

impl MixtureRecipe {
    /// The weight of each domain.
    pub(crate) fn weights(&self) -> [(Domain, u32); 3] {
        [(Domain::Biomedical, self.biomedical), (Domain::Clinical, self.clinical), (Domain::General, self.general)]
    }

    /// What is asked of the mixture, with sequences of `sequence_length` tokens.
    pub(crate) fn spec(&self, sequence_length: u32) -> MixtureSpec {
        MixtureSpec {
            total: match &self.tokens {
                TotalRecipe::Tokens(tokens) => Total::Tokens(*tokens),
                TotalRecipe::Word(_) => Total::All,
            },
            weights: [self.biomedical, self.clinical, self.general],
            unit: if self.unit == "sequences" { Unit::Sequences } else { Unit::Tokens },
            sequence_length,
        }
    }
}

/// `[corpus.pack]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PackRecipe {
    /// Tokens a sequence, T.
    pub sequence_length: u32,
    /// `best-fit` or `concatenate`.
    #[serde(default = "method")]
    pub method: String,
    /// Share of documents per source kept for validation.
    #[serde(default = "heldout")]
    pub heldout: f64,
    /// Rows a shard.
    #[serde(default = "shard_sequences")]
    pub shard_sequences: u64,
}

/// `[model]`: a named shape, or a checkpoint to start from.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// A published shape or `tiny`: random initial weights, or what the checkpoint has to be.
    pub shape: Option<String>,
    /// Folder of a checkpoint in the Hugging Face layout.
    pub checkpoint: Option<String>,
}

/// One `[[instruct.source]]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InstructSource {
    /// Unique name.
    pub name: String,
    /// `jsonl` or `json`; the record layout is recognised.
    #[serde(default = "jsonl")]
    pub format: String,
    /// Paths, globs or `s3://` addresses.
    pub inputs: Vec<String>,
    /// `open` by default.
    pub sensitivity: Option<Sensitivity>,
    /// Licence of records that name none.
    pub licence: Option<String>,
    /// Share of records that may be rejected.
    #[serde(default = "max_rejects")]
    pub max_rejects: f64,
}

/// `[instruct]`: instruction tuning.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstructRecipe {
    /// `[[instruct.source]]`.
    pub source: Vec<InstructSource>,
    /// `mellama`, `llama2-chat` or `none`.
    pub template: String,
    /// Tokens a sequence; the corpus' length by default.
    pub sequence_length: Option<u32>,
    /// Adapters: rank, alpha, dropout and target projections.
    pub lora: LoraSpec,
    /// Tune every weight in place of adapters.
    pub full: bool,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end of the cosine.
    pub min_learning_rate: f64,
    /// Share of the steps that warm up.
    pub warmup_ratio: f64,
    /// `AdamW` β1 and β2.
    pub betas: [f64; 2],
    /// `AdamW` ε.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest gradient norm.
    pub clip: f64,
    /// Sequences an optimizer step.
    pub batch_sequences: u64,
    /// Sequences a micro-batch.
    pub micro_batch_sequences: u64,
    /// Passes over the instruction shards.
    pub epochs: u32,
    /// Optimizer steps; absent: as many as the epochs need.
    pub steps: Option<u64>,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept; absent: all.
    pub keep_last: Option<u64>,
    /// Non-finite steps in a row that stop training.
    pub max_bad_steps: u32,
    /// What is done about spikes of the gradient norm.
    pub spike: SpikeSpec,
    /// Steps between two replays of a micro-batch; 0 for none.
    pub replay_every: u64,
    /// Arithmetic.
    pub precision: Precision,
    /// Whether a card computes the same bits in every run.
    #[serde(skip_serializing_if = "bool::clone")]
    pub deterministic: bool,
    /// How AdamW's moments are stored.
    #[serde(skip_serializing_if = "MomentPrecision::is_default")]
    pub moments: MomentPrecision,
    /// As in `[train]`.
    #[serde(skip_serializing_if = "DeviceKind::is_default")]
    pub device: DeviceKind,
    /// What is computed again in the backward.
    pub recompute: Recompute,
    /// The cluster that plans are made for.
    pub parallel: ParallelSpec,
}

impl Default for InstructRecipe {
    fn default() -> Self {
        let spec = TrainSpec::instruct();
        InstructRecipe {
            source: Vec::new(),
            template: "mellama".into(),
            sequence_length: None,
            lora: LoraSpec::default(),
            full: false,
            learning_rate: spec.learning_rate,
            min_learning_rate: spec.min_learning_rate,
            warmup_ratio: spec.warmup_ratio,
            betas: spec.betas,
            epsilon: spec.epsilon,
            weight_decay: spec.weight_decay,
            clip: spec.clip,
            batch_sequences: spec.batch_sequences,
            micro_batch_sequences: spec.micro_batch_sequences,
            epochs: spec.epochs,
            steps: spec.steps,
            checkpoint_every: spec.checkpoint_every,
            keep_last: spec.keep_last,
            max_bad_steps: spec.max_bad_steps,
            spike: spec.spike,
            replay_every: spec.replay_every,
            precision: spec.precision,
            deterministic: spec.deterministic,
            moments: spec.moments,
            device: spec.device,
            recompute: spec.recompute,
            parallel: spec.parallel,
        }
    }
}

impl InstructRecipe {
    /// The hyper-parameters as the trainer takes them.
    pub fn spec(&self) -> TrainSpec {
        TrainSpec {
            learning_rate: self.learning_rate,
            min_learning_rate: self.min_learning_rate,
            warmup_ratio: self.warmup_ratio,
            betas: self.betas,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            clip: self.clip,
            batch_sequences: self.batch_sequences,
            micro_batch_sequences: self.micro_batch_sequences,
            epochs: self.epochs,
            steps: self.steps,
            checkpoint_every: self.checkpoint_every,
            keep_last: self.keep_last,
            max_bad_steps: self.max_bad_steps,
            spike: self.spike,
            replay_every: self.replay_every,
            precision: self.precision,
            deterministic: self.deterministic,
            moments: self.moments,
            device: self.device,
            recompute: self.recompute,
            parallel: self.parallel.clone(),
            lora: (!self.full).then(|| self.lora.clone()),
            ..TrainSpec::instruct()
        }
    }
}

impl SourceRecipe {
    /// `sensitivity`, or its default for the format: `dua` for `mimic-*`, else `open`.
    pub fn resolved_sensitivity(&self) -> Sensitivity {
        let default = if self.format.starts_with("mimic-") { Sensitivity::Dua } else { Sensitivity::Open };
        self.sensitivity.unwrap_or(default)
    }

    /// Whether later records of the source take the place of earlier ones ([`Format::is_sequence`]).
    pub fn is_sequence(&self) -> bool {
        self.format.parse::<Format>().is_ok_and(Format::is_sequence)
    }
}

fn one() -> u32 {
    1
}
fn max_rejects() -> f64 {
    0.05
}
fn ngram() -> u32 {
    13
}
fn policy() -> String {
    "drop".into()
}
fn min_share() -> f64 {
    0.8
}
fn unit() -> String {
    "tokens".into()
}
fn method() -> String {
    "best-fit".into()
}
fn heldout() -> f64 {
    0.005
}
fn shard_sequences() -> u64 {
    8192
}
fn jsonl() -> String {
    "jsonl".into()
}
