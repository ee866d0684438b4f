//! That training learns, counts what it learns from exactly once, and leaves a model that loads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mellama_shards::Sequence;
use mellama_storage::{Key, MemoryStore, Store, Workdir};

use super::samples::{SEQUENCES, adapter_job, clean_run, job, run_on, sequences, shape};
use crate::checkpoint::tensor_file::TensorFile;
use crate::hf::load;
use crate::lora::{Adapters, merge};
use crate::sequence_source::{SequenceSource, SourceError};
use crate::trainer::{HeldoutRecord, Hooks, NoHooks, StepRecord, StepTiming, TrainJob, TrainSpec, train};

#[derive(Default)]
struct Log {
    steps: Vec<StepRecord>,
    heldout: Vec<HeldoutRecord>,
}

impl Hooks for Log {
    fn on_step(&mut self, record: &StepRecord, _: &StepTiming) {
        self.steps.push(record.clone());
    }

    fn on_heldout(&mut self, record: &HeldoutRecord) {
        self.heldout.push(record.clone());
    }
}

fn logged(job: TrainJob, data: &dyn SequenceSource) -> Log {
    let mut log = Log::default();
    train(job, data, None, &Workdir::new(Arc::new(MemoryStore::new("log"))), &mut log).unwrap();
    log
}

#[test]
fn training_overfits_one_batch() {
    let spec = TrainSpec {
        learning_rate: 2e-2,
        weight_decay: 0.0,
        batch_sequences: 2,
        epochs: 400,
        checkpoint_every: 1_000,
        ..job().spec
    };
    // Two sequences whose continuation is never ambiguous: a count up and a count down.
    let mut data = sequences(2, 1);
    data[0].tokens = vec![3, 4, 5, 6, 7, 8, 9, 10, 11, 0];
    data[1].tokens = vec![19, 18, 17, 16, 15, 14, 13, 12, 2, 0];
    for sequence in &mut data {
        sequence.segments.remove(0);
    }
    let log = logged(TrainJob { spec, ..job() }, &data);
    let first = log.steps[0].loss.unwrap();
    let last = log.steps.last().unwrap().loss.unwrap();
    // Fresh weights know nothing: ln 20 up to the small spread of the first logits.
    assert!((first - 20.0_f64.ln()).abs() < 0.1, "first loss {first}");
    assert!(last < 0.01, "last loss {last}");
}

/// Counts how often each sequence is read.
struct Counting {
    data: Vec<Sequence>,
    reads: Mutex<Vec<u32>>,
}

impl SequenceSource for Counting {
    fn len(&self) -> u64 {
        self.data.len() as u64
    }

    fn sequence(&self, index: u64) -> Result<Sequence, SourceError> {
        self.reads.lock().unwrap()[index as usize] += 1;
        SequenceSource::sequence(&self.data, index)
    }
}

#[test]
fn every_sequence_is_learned_from_once_a_pass() {
    let data = Counting { data: sequences(SEQUENCES, 1), reads: Mutex::new(vec![0; SEQUENCES]) };
    let log = logged(job(), &data);
    let mut reads = data.reads.into_inner().unwrap();
    reads[0] -= 1; // one look at the first, for the length of a sequence
    assert_eq!(reads, vec![2; SEQUENCES]);
    let sizes: Vec<u64> = log.steps.iter().map(|record| record.sequences).collect();
    assert_eq!(sizes, [4, 4, 4, 4, 4, 2]);
    assert_eq!(log.steps.iter().map(|record| record.epoch).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
    // 9 tokens in two documents: 7 targets a sequence.
    assert!(log.steps.iter().all(|record| record.loss_tokens == 7 * record.sequences));
}

#[test]
fn micro_batches_change_the_result_by_rounding_only() {
    let with = |micro: u64| {
        let spec = TrainSpec { micro_batch_sequences: micro, ..job().spec };
        logged(TrainJob { spec, ..job() }, &sequences(SEQUENCES, 1)).steps
    };
    let whole = with(4);
    for micro in [1, 3, 100] {
        for (a, b) in whole.iter().zip(with(micro)) {
            let (x, y) = (a.loss.unwrap(), b.loss.unwrap());
            // f32 sums of at most 28 losses of about 3, in another order, and what six updates of 1e-2 make of the
            // difference: well below 1e-4; a wrong normalisation is off by tens of per cent.
            assert!((x - y).abs() < 1e-4, "micro-batch {micro}, step {}: {x} {y}", a.step);
            assert_eq!(a.loss_tokens, b.loss_tokens);
        }
    }
    let different = |micro: u64| with(micro).last().unwrap().loss.unwrap().to_bits();
    assert_eq!(different(4), different(100), "more than the batch is the batch");
}

#[test]
fn steps_without_loss_tokens_are_skipped_and_change_nothing() {
    let mut data = sequences(4, 1);
    for sequence in &mut data {
        sequence.loss_mask = Some(vec![false; sequence.tokens.len()]);
    }
    let spec = TrainSpec { epochs: 1, ..job().spec };
    let store = MemoryStore::new("mask");
    let outcome = train(TrainJob { spec, ..job() }, &data, None, &Workdir::new(Arc::new(store.clone())), &mut NoHooks).unwrap();
    assert_eq!(outcome.skipped_steps, 1);
    let store: Arc<dyn Store> = Arc::new(store);
    let model = load(&store, &outcome.model_folder.unwrap()).unwrap();
    assert_eq!(model.parameters, job().base.model.parameters);
}

#[test]
fn held_out_loss_is_measured_on_schedule_by_domain_and_source() {
    let mut log = Log::default();
    let outcome = run_on(Arc::new(MemoryStore::new("heldout")), job(), &mut log).unwrap();
    assert_eq!(log.heldout.iter().map(|record| record.steps_done).collect::<Vec<_>>(), [0, 3, 6]);
    let first = &log.heldout[0];
    assert_eq!(first.all.tokens, 21);
    assert_eq!(first.domains.keys().map(String::as_str).collect::<Vec<_>>(), ["biomedical", "clinical"]);
    assert_eq!((first.sources["papers"].tokens, first.sources["notes"].tokens), (14, 7));
    let parts = first.sources.values().map(|part| part.loss.unwrap() * part.tokens as f64).sum::<f64>();
    assert!((parts / 21.0 - first.all.loss.unwrap()).abs() < 1e-12);
    assert_eq!(outcome.last_heldout.as_ref(), log.heldout.last());
    let sources = &log.steps[0].sources;
    assert_eq!(sources.keys().map(String::as_str).collect::<Vec<_>>(), ["notes", "papers"]);
}

#[test]
fn the_last_checkpoint_is_a_model_that_loads() {
    let store = MemoryStore::new("loads");
    let outcome = run_on(Arc::new(store.clone()), job(), &mut NoHooks).unwrap();
    assert!(outcome.finished());
    let folder = outcome.model_folder.unwrap();
    assert_eq!(folder, "checkpoints/cpt/step-00000006");
    let objects = store.snapshot();
    let names: Vec<&str> = objects.keys().filter_map(|key| key.as_str().strip_prefix("checkpoints/cpt/step-00000006/")).collect();
    let expected = [
        "B3SUMS",
        "config.json",
        "generation_config.json",
        "manifest.json",
        "metrics.jsonl",
        "model.safetensors",
        "optimizer.safetensors",
        "tokenizer.model",
    ];
    assert_eq!(names, expected);
    let store: Arc<dyn Store> = Arc::new(store);
    let model = load(&store, &folder).unwrap();
    assert_eq!((&model.shape, model.tokens), (&shape(), job().base.model.tokens));
    assert_ne!(model.parameters, job().base.model.parameters);
}

#[test]
fn adapters_leave_a_peft_folder_and_a_merged_model() {
    let (outcome, objects) = clean_run(adapter_job());
    assert_eq!(outcome.model_folder.as_deref(), Some("checkpoints/instruct/step-00000006/merged"));
    let file = |name: &str| &objects[&Key::new(format!("checkpoints/instruct/step-00000006/{name}")).unwrap()];
    let config: serde_json::Value = serde_json::from_slice(file("adapter_config.json")).unwrap();
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(2), Some(4.0)));
    assert_eq!(config["target_modules"], serde_json::json!(["q_proj", "down_proj"]));
    assert_eq!((&config["peft_type"], &config["task_type"]), (&"LORA".into(), &"CAUSAL_LM".into()));

    let lora = adapter_job().spec.lora.unwrap();
    let mut adapters = Adapters::<f32>::initialised(&shape(), lora, 0).unwrap();
    let layout = Arc::clone(&adapters.parameters.layout);
    let mut tensors = TensorFile::open("adapters", std::io::Cursor::new(file("adapter_model.safetensors"))).unwrap();
    assert_eq!(tensors.tensors().len(), layout.tensors().len());
    for tensor in layout.tensors() {
        tensors.read(&tensor.name, &tensor.shape, &mut adapters.parameters.data[tensor.range()]).unwrap();
    }
    let merged = merge(&shape(), &job().base.model.parameters, &adapters).unwrap();
    assert!(merged.max_change > 0.0);
    let store = MemoryStore::new("merged");
    for (key, body) in &objects {
        store.overwrite(key, body);
    }
    let store: Arc<dyn Store> = Arc::new(store);
    assert_eq!(load(&store, &outcome.model_folder.unwrap()).unwrap().parameters, merged.parameters);
    let middle: Vec<_> = objects.keys().filter(|key| key.as_str().contains("step-00000002/merged")).collect();
    assert!(middle.is_empty(), "only the last checkpoint is merged");
}

#[test]
fn adapter_norms_are_logged() {
    let log = logged(adapter_job(), &sequences(SEQUENCES, 1));
    let norms: Vec<f64> = log.steps.iter().map(|record| record.adapter_norm.unwrap()).collect();
    assert!(norms.windows(2).all(|pair| pair[0].to_bits() != pair[1].to_bits()), "{norms:?}");
}

#[test]
fn old_checkpoints_go_and_their_metrics_stay() {
    let spec = TrainSpec { keep_last: Some(1), checkpoint_every: 1, ..job().spec };
    let (_, objects) = clean_run(TrainJob { spec, ..job() });
    let mut folders = BTreeMap::new();
    for key in objects.keys() {
        let (folder, _) = key.as_str().rsplit_once('/').unwrap();
        *folders.entry(folder).or_insert(0) += 1;
    }
    assert_eq!(folders, BTreeMap::from([("checkpoints/cpt/step-00000006", 8), ("metrics", 6)]));
}
