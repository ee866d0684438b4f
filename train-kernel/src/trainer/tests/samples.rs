//! A model and data small enough to train in milliseconds, and the run that most tests vary.

use std::collections::BTreeMap;
use std::sync::Arc;

use mellama_shards::{Segment, Sequence};
use mellama_storage::{Key, MemoryStore, Store, Workdir};

use crate::backend::Processor;
use crate::checkpoint::FILE_LIMIT_BYTES;
use crate::hf::SpecialTokens;
use crate::lora::{LoraSpec, Target};
use crate::random::{Purpose, Stream};
use crate::shape::Shape;
use crate::trainer::{Base, Companion, Heldout, HeldoutSource, Hooks, Kind, NoHooks, TrainJob, TrainOutcome, TrainSpec, train};

pub(super) const LENGTH: usize = 10;
pub(super) const SEQUENCES: usize = 11;

pub(super) fn shape() -> Shape {
    Shape {
        width: 16,
        feed_forward: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        vocabulary: 20,
        max_positions: 32,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-5,
        tied_embeddings: false,
        rope_scaling: None,
        window: None,
    }
}

/// Sequences of two documents each, the second cut short by one token of padding, from two sources in turn.
pub(super) fn sequences(count: usize, seed: u64) -> Vec<Sequence> {
    let random = Stream::new(seed, Purpose::Initialisation, 0, 0);
    let sequence = |index: usize| {
        let id = |at: usize| 3 + random.bits((index * LENGTH + at) as u64) % 17;
        let mut tokens: Vec<u32> = (0..LENGTH).map(id).collect();
        tokens[LENGTH - 1] = 0;
        let source = (index % 2) as u16;
        let segment = |end: u32, document: u128| Segment { end, document, source, offset: 0, epoch: 0 };
        let segments = vec![segment(4, 2 * index as u128), segment(LENGTH as u32 - 1, 2 * index as u128 + 1)];
        Sequence { tokens, segments, loss_mask: None }
    };
    (0..count).map(sequence).collect()
}

/// Two passes over 11 sequences in steps of 4, the last of 2: 6 steps, checkpoints after 2, 4 and 6.
pub(super) fn job() -> TrainJob {
    let spec = TrainSpec {
        learning_rate: 1e-2,
        warmup_ratio: 0.2,
        batch_sequences: 4,
        micro_batch_sequences: 3,
        epochs: 2,
        checkpoint_every: 2,
        heldout_every: 3,
        ..TrainSpec::cpt()
    };
    TrainJob {
        kind: Kind::Cpt,
        spec,
        seed: 7,
        base: Base::fresh(shape(), 7, SpecialTokens { bos: Some(1), eos: Some(2) }, "test-shape").unwrap(),
        data_digest: "d".repeat(64),
        source_names: vec!["papers".to_owned(), "notes".to_owned()],
        sensitivity: "phi".to_owned(),
        companions: vec![Companion { name: "tokenizer.model".to_owned(), bytes: b"not text".to_vec() }],
        merged_companions: Vec::new(),
        file_limit_bytes: FILE_LIMIT_BYTES,
        machine: Arc::new(Processor),
    }
}

/// The same with adapters on two projections.
pub(super) fn adapter_job() -> TrainJob {
    let job = job();
    let targets = vec![Target::Query, Target::Down];
    let lora = LoraSpec { rank: 2, alpha: 4.0, dropout: 0.25, targets, rslora: false };
    let spec = TrainSpec { lora: Some(lora), ..job.spec };
    TrainJob { kind: Kind::Instruct, spec, ..job }
}

pub(super) fn run_on(
    store: Arc<dyn Store>,
    job: TrainJob,
    hooks: &mut dyn Hooks,
) -> Result<TrainOutcome, super::super::TrainError> {
    let held = sequences(3, 99);
    let source = |name: &str, domain: &str| HeldoutSource { name: name.to_owned(), domain: domain.to_owned() };
    let heldout = Heldout { sequences: &held, sources: vec![source("papers", "biomedical"), source("notes", "clinical")] };
    train(job, &sequences(SEQUENCES, 1), Some(&heldout), &Workdir::new(store), hooks)
}

/// An uninterrupted run in a store of its own.
pub(super) fn clean_run(job: TrainJob) -> (TrainOutcome, BTreeMap<Key, Vec<u8>>) {
    let store = MemoryStore::new("clean");
    let outcome = run_on(Arc::new(store.clone()), job, &mut NoHooks).unwrap();
    (outcome, store.snapshot())
}
