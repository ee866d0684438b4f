//! A run that was stopped, killed at any call to the store, or left with half a checkpoint ends with the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use mellama_storage::{Effect, Fault, FaultStore, Key, MemoryStore, Schedule, Workdir};

use super::samples::{adapter_job, clean_run, job, run_on};
use crate::checkpoint::CheckpointError;
use crate::engine::{MomentPrecision, Precision};
use crate::trainer::{Hooks, NoHooks, StepRecord, StepTiming, TrainError, TrainJob, TrainSpec};

/// Stops after the step that it names, and keeps every record.
struct StopAfter {
    step: u64,
    records: Vec<StepRecord>,
}

impl Hooks for StopAfter {
    fn on_step(&mut self, record: &StepRecord, _: &StepTiming) {
        self.records.push(record.clone());
    }

    fn should_stop(&mut self) -> bool {
        self.records.last().is_some_and(|record| record.step == self.step)
    }
}

fn records(job: TrainJob, store: &MemoryStore, stop_after: u64) -> Vec<StepRecord> {
    let mut hooks = StopAfter { step: stop_after, records: Vec::new() };
    run_on(Arc::new(store.clone()), job, &mut hooks).unwrap();
    hooks.records
}

/// The same in bf16, moments too.
fn narrow(job: TrainJob) -> TrainJob {
    let spec = TrainSpec { precision: Precision::Bf16, moments: MomentPrecision::Bf16, ..job.spec };
    TrainJob { spec, ..job }
}

/// Everything but the checkpoint that a stop made off the schedule.
fn without(mut objects: BTreeMap<Key, Vec<u8>>, step: u64) -> BTreeMap<Key, Vec<u8>> {
    objects.retain(|key, _| !key.as_str().contains(&format!("step-{step:08}/")));
    objects
}

#[test]
fn resume_after_a_stop_at_any_step_equals_the_uninterrupted_run() {
    for job in [job(), adapter_job(), narrow(job()), narrow(adapter_job())] {
        let all = records(job.clone(), &MemoryStore::new("whole"), u64::MAX);
        let (outcome, clean) = clean_run(job.clone());
        assert_eq!((outcome.step, outcome.total_steps, outcome.resumed_from), (6, 6, None));
        for stop in 0..5 {
            let store = MemoryStore::new("stopped");
            let mut seen = records(job.clone(), &store, stop);
            assert_eq!(seen.len() as u64, stop + 1);
            seen.extend(records(job.clone(), &store, u64::MAX));
            assert_eq!(seen, all, "losses after a stop at step {stop}");
            let off_schedule = if stop % 2 == 0 { stop + 1 } else { u64::MAX };
            assert_eq!(without(store.snapshot(), off_schedule), clean, "objects after a stop at step {stop}");
        }
    }
}

#[test]
fn moments_in_bf16_halve_their_files() {
    let bytes = |job: TrainJob| {
        let (_, objects) = clean_run(job);
        let size = |file: &str| objects[&Key::new(format!("checkpoints/cpt/step-00000006/{file}")).unwrap()].len();
        [size("model.safetensors"), size("optimizer.safetensors")]
    };
    let ([weights, moments], [narrow_weights, narrow_moments]) = (bytes(job()), bytes(narrow(job())));
    assert_eq!(weights, narrow_weights, "weights stay f32");
    // The headers differ by the names of types.
    assert!(narrow_moments > moments / 2 && narrow_moments < moments * 6 / 10, "{narrow_moments} of {moments}");
}

/// Fifty steps of four sequences, cut into so many micro-batches, without a checkpoint before the last.
fn long_job(accumulation: u64) -> TrainJob {
    let spec = TrainSpec {
        epochs: 19,
        steps: Some(50),
        batch_sequences: 4,
        micro_batch_sequences: 4 / accumulation,
        checkpoint_every: 1_000,
        heldout_every: 0,
        replay_every: 10,
        ..job().spec
    };
    TrainJob { spec, ..job() }
}

#[test]
fn resume_at_every_step_of_fifty_with_threads_and_accumulation_is_bit_equal() {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for accumulation in [1, 4] {
            let whole = MemoryStore::new("whole");
            let all = pool.install(|| records(long_job(accumulation), &whole, u64::MAX));
            let weights = |store: &MemoryStore, file: &str| {
                store.snapshot()[&Key::new(format!("checkpoints/cpt/step-00000050/{file}")).unwrap()].clone()
            };
            for stop in 0..49 {
                let store = MemoryStore::new("stopped");
                let seen = pool.install(|| {
                    let mut seen = records(long_job(accumulation), &store, stop);
                    seen.extend(records(long_job(accumulation), &store, u64::MAX));
                    seen
                });
                let at = format!("{threads} threads, accumulation {accumulation}, stopped after step {stop}");
                assert_eq!(seen, all, "{at}");
                for file in ["model.safetensors", "optimizer.safetensors", "manifest.json"] {
                    assert_eq!(weights(&store, file), weights(&whole, file), "{at}: {file}");
                }
            }
        }
    }
}

#[test]
fn case_21_resume_after_a_death_at_any_call_to_the_store_gives_the_same_bytes() {
    let (_, clean) = clean_run(job());
    let counted = FaultStore::new(Arc::new(MemoryStore::new("count")), Schedule::none());
    run_on(Arc::new(counted.clone()), job(), &mut NoHooks).unwrap();
    let calls = counted.calls();
    assert!(calls > 50, "{calls} calls");
    for call in 1..=calls {
        for effect in [Effect::FailBefore, Effect::FailAfter, Effect::Torn] {
            let store = MemoryStore::new("killed");
            let faulty = FaultStore::new(Arc::new(store.clone()), Fault::from(call, effect));
            let died = run_on(Arc::new(faulty), job(), &mut NoHooks).is_err();
            let resumed = run_on(Arc::new(store.clone()), job(), &mut NoHooks);
            resumed.unwrap_or_else(|error| panic!("call {call} {effect:?} (died: {died}): {error}"));
            assert_eq!(store.snapshot(), clean, "call {call} {effect:?}");
        }
    }
}

#[test]
fn resume_overwrites_half_a_checkpoint_and_never_reads_it() {
    let (_, clean) = clean_run(job());
    for (file, body) in [
        ("checkpoints/cpt/step-00000004/model.safetensors", &b"half"[..]),
        ("checkpoints/cpt/step-00000004/metrics.jsonl", b"{\"step\":"),
        ("checkpoints/cpt/step-00000004/manifest.json", b"{\"format\":1,\"ki"),
        ("metrics/cpt-00000004.jsonl", b""),
    ] {
        let store = MemoryStore::new("half");
        records(job(), &store, 2);
        store.overwrite(&Key::new(file).unwrap(), body);
        run_on(Arc::new(store.clone()), job(), &mut NoHooks).unwrap();
        assert_eq!(without(store.snapshot(), 3), clean, "{file}");
    }
}

#[test]
fn resume_of_a_finished_run_does_nothing_and_says_the_same() {
    let store = MemoryStore::new("finished");
    let first = run_on(Arc::new(store.clone()), job(), &mut NoHooks).unwrap();
    let before = store.snapshot();
    let again = run_on(Arc::new(store.clone()), job(), &mut NoHooks).unwrap();
    assert_eq!(again.resumed_from, Some(6));
    assert_eq!((&again.last_step, &again.last_heldout), (&first.last_step, &first.last_heldout));
    assert_eq!((again.manifest_digest, again.model_folder), (first.manifest_digest, first.model_folder));
    assert_eq!(store.snapshot(), before);
}

#[test]
fn case_23_a_damaged_or_missing_file_is_named_and_the_checkpoint_before_it_offered() {
    let (_, clean) = clean_run(job());
    let last = "checkpoints/cpt/step-00000006/";
    let files: Vec<&Key> = clean.keys().filter(|key| key.as_str().starts_with(last)).collect();
    assert!(files.len() >= 6, "{files:?}");
    for key in files.into_iter().filter(|key| !key.as_str().ends_with("manifest.json")) {
        let store = MemoryStore::new("damaged");
        run_on(Arc::new(store.clone()), job(), &mut NoHooks).unwrap();
        let mut body = clean[key].clone();
        let middle = body.len() / 2;
        body[middle] ^= 0x10;
        store.overwrite(key, &body);
        match run_on(Arc::new(store.clone()), job(), &mut NoHooks) {
            Err(TrainError::Checkpoint(error)) => match *error {
                CheckpointError::Damaged { key: named, previous, .. } => {
                    assert_eq!((named.as_str(), previous.as_str()), (key.as_str(), "checkpoints/cpt/step-00000004"));
                }
                other => panic!("{key}: {other:?}"),
            },
            other => panic!("{key}: {other:?}"),
        }
    }
}

#[test]
fn determinism_any_number_of_threads_gives_the_same_objects() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| clean_run(adapter_job()).1)
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn every_object_of_a_checkpoint_is_found_sound_by_verify() {
    let store = MemoryStore::new("verify");
    run_on(Arc::new(store.clone()), job(), &mut NoHooks).unwrap();
    let workdir = Workdir::new(Arc::new(store.clone()));
    let findings = |workdir: &Workdir| workdir.verify(&mut |_| {}).unwrap().findings.len();
    let before = findings(&workdir);
    store.overwrite(&Key::new("checkpoints/cpt/step-00000002/optimizer.safetensors").unwrap(), b"x");
    assert_eq!(findings(&workdir), before + 1);
}
