//! Spikes of the gradient norm, by policy, and the replay of micro-batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use mellama_shards::Sequence;
use mellama_storage::{Key, MemoryStore, Workdir};

use super::samples::{adapter_job, job, sequences, shape};
use crate::engine::{Engine, EngineSpec, State, Tensors};
use crate::guard::{SkipReason, SpikePolicy, SpikeSpec};
use crate::lora::{Adapters, DropoutKey};
use crate::model::Model;
use crate::trainer::step::{batch_of, replay};
use crate::trainer::{Hooks, RewindRecord, StepRecord, StepTiming, TrainError, TrainJob, TrainOutcome, TrainSpec, train};

/// The step whose gradient is far larger than the others'.
pub(super) const ODD_STEP: u64 = 45;

/// Fifty equal sequences, of which one learns from a single token: its gradient is no mean over many.
pub(super) fn data() -> Vec<Sequence> {
    let plain = sequences(1, 1).remove(0);
    let mut all = vec![plain; 50];
    let odd = &mut all[ODD_STEP as usize];
    odd.loss_mask = Some((0..odd.tokens.len()).map(|place| place == 2).collect());
    all
}

pub(super) fn spiky(policy: SpikePolicy) -> TrainJob {
    let spec = TrainSpec {
        learning_rate: 1e-6,
        clip: 0.0,
        batch_sequences: 1,
        micro_batch_sequences: 1,
        epochs: 1,
        checkpoint_every: 40,
        heldout_every: 0,
        spike: SpikeSpec { zscore: 6.0, policy },
        replay_every: 7,
        ..job().spec
    };
    TrainJob { spec, ..job() }
}

#[derive(Default)]
struct Log {
    steps: Vec<StepRecord>,
    rewinds: Vec<RewindRecord>,
    stop_after: Option<u64>,
}

impl Hooks for Log {
    fn on_step(&mut self, record: &StepRecord, _: &StepTiming) {
        self.steps.push(record.clone());
    }

    fn on_rewind(&mut self, record: &RewindRecord) {
        self.rewinds.push(*record);
    }

    fn should_stop(&mut self) -> bool {
        self.stop_after.is_some() && self.steps.last().map(|record| record.step) == self.stop_after
    }
}

fn run(policy: SpikePolicy, store: &MemoryStore, stop_after: Option<u64>) -> (TrainOutcome, Log) {
    let mut log = Log { stop_after, ..Log::default() };
    let outcome = train(spiky(policy), &data(), None, &Workdir::new(Arc::new(store.clone())), &mut log).unwrap();
    (outcome, log)
}

/// The weights of the last checkpoint.
fn weights(store: &MemoryStore) -> Vec<u8> {
    store.snapshot()[&Key::new("checkpoints/cpt/step-00000050/model.safetensors").unwrap()].clone()
}

#[test]
fn spikes_are_logged_clipped_or_skipped() {
    let mut all = BTreeMap::new();
    for policy in [SpikePolicy::Log, SpikePolicy::Clip, SpikePolicy::Skip] {
        let store = MemoryStore::new("spike");
        let (outcome, log) = run(policy, &store, None);
        let spikes: Vec<u64> = log.steps.iter().filter(|record| record.spike.is_some()).map(|record| record.step).collect();
        assert_eq!(spikes, [ODD_STEP], "{policy:?}");
        let odd = &log.steps[ODD_STEP as usize];
        assert!(odd.gradient_norm.unwrap() > odd.spike.unwrap());
        let skipped = (policy == SpikePolicy::Skip).then_some(SkipReason::Spike);
        assert_eq!((odd.skipped, outcome.skipped_steps), (skipped, u64::from(skipped.is_some())));
        all.insert(format!("{policy:?}"), weights(&store));
    }
    assert!(all["Log"] != all["Clip"] && all["Log"] != all["Skip"] && all["Clip"] != all["Skip"]);
}

#[test]
fn a_rewind_goes_back_and_passes_over_the_data_to_the_spike() {
    let store = MemoryStore::new("rewind");
    let (outcome, log) = run(SpikePolicy::Rewind, &store, None);
    assert_eq!((log.rewinds.len(), log.rewinds[0].to_step, log.rewinds[0].spike.place.step), (1, 40, ODD_STEP));
    assert_eq!((outcome.step, outcome.skipped_steps), (50, 6));
    let steps: Vec<u64> = log.steps.iter().map(|record| record.step).collect();
    assert_eq!(steps, (0..45).chain(40..50).collect::<Vec<_>>());
    let rewound = |record: &StepRecord| record.skipped == Some(SkipReason::Rewound);
    assert_eq!(
        log.steps.iter().filter(|record| rewound(record)).map(|record| record.step).collect::<Vec<_>>(),
        [40, 41, 42, 43, 44, 45]
    );
    let metrics = &store.snapshot()[&Key::new("metrics/cpt-00000050.jsonl").unwrap()];
    let lines: Vec<&str> = std::str::from_utf8(metrics).unwrap().lines().collect();
    assert_eq!(lines.len(), 11, "the way back and ten steps");
    assert!(lines[0].starts_with("{\"rewind\":"), "{}", lines[0]);
}

#[test]
fn resume_around_a_rewind_equals_the_uninterrupted_run() {
    let clean = MemoryStore::new("clean");
    run(SpikePolicy::Rewind, &clean, None);
    let clean = clean.snapshot();
    for stop in [20, 39, 43, 44, 46, 48] {
        let store = MemoryStore::new("stopped");
        run(SpikePolicy::Rewind, &store, Some(stop));
        run(SpikePolicy::Rewind, &store, None);
        let mut objects = store.snapshot();
        objects.retain(|key, _| !key.as_str().contains(&format!("step-{:08}/", stop + 1)) || stop == 39);
        let differ = objects.iter().filter(|(key, body)| clean.get(*key) != Some(body)).map(|(key, _)| key.as_str());
        assert_eq!(differ.collect::<Vec<_>>(), [""; 0], "stopped after step {stop}");
        assert_eq!(objects.len(), clean.len(), "stopped after step {stop}");
    }
}

#[test]
fn a_bit_that_flips_between_two_computations_is_found() {
    let sequence = sequences(1, 1).remove(0);
    let batch = batch_of(&[sequence], &shape(), 0).unwrap();
    let lora = adapter_job().spec.lora.unwrap();
    let model = Arc::new(Model::new(shape()).unwrap());
    let spec = EngineSpec::train(1, batch.rows()).with_lora(Some(lora.clone()));
    let mut engine = Engine::on_cpu(model, spec).unwrap();
    let base = job().base.model.parameters;
    engine.load((Tensors::Base, State::Weights), &base);
    let adapters = Adapters::initialised(&shape(), lora, 3).unwrap();
    engine.load((Tensors::Adapters, State::Weights), &adapters.parameters);
    let dropout = DropoutKey { seed: 7, step: 4, first_row: 0 };
    engine.begin_step();
    let first = {
        let pending = engine.accumulate(&batch, 1.0, Some(dropout));
        engine.collect(pending, &batch).unwrap()
    };
    replay(4, &mut engine, (&batch, dropout), &first).unwrap();
    // One bit of one weight, as memory that fails gives it.
    let index = base.layout.index("model.layers.0.mlp.up_proj.weight").unwrap();
    let mut values = base.slice(index).to_vec();
    values[5] = f32::from_bits(values[5].to_bits() ^ (1 << 22));
    engine.load_tensor((Tensors::Base, State::Weights), index, &values);
    let found = replay(4, &mut engine, (&batch, dropout), &first);
    assert!(matches!(found, Err(TrainError::Replay { step: 4, .. })), "{found:?}");
}
