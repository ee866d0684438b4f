//! A device that is lost in the middle of a run, at any call: the run ends with an error that names the last good checkpoint, and
//! goes on from there on a healthy one as if nothing had happened. And what a device chose, which a run goes on with.

use std::collections::BTreeMap;
use std::sync::Arc;

use mellama_storage::{Key, MemoryStore, Workdir};
use serde_json::{Value, json};

use super::machines::Fragile;
use super::samples::{adapter_job, clean_run, job, run_on};
use crate::backend::DeviceError;
use crate::checkpoint::newest;
use crate::trainer::{CheckpointInfo, Hooks, NoHooks, StepRecord, StepTiming, TrainError, TrainJob};

/// The checkpoints and warnings that were told; stops after a step.
#[derive(Default)]
struct Told {
    checkpoints: Vec<String>,
    warnings: Vec<String>,
    stop_after: Option<u64>,
    steps: u64,
}

impl Hooks for Told {
    fn on_warning(&mut self, line: &str) {
        self.warnings.push(line.to_owned());
    }

    fn on_step(&mut self, record: &StepRecord, _: &StepTiming) {
        self.steps = record.step + 1;
    }

    fn on_checkpoint(&mut self, info: &CheckpointInfo) {
        self.checkpoints.push(info.folder.clone());
    }

    fn should_stop(&mut self) -> bool {
        self.stop_after.is_some_and(|steps| self.steps >= steps)
    }
}

/// A run on a machine that is lost at this call, then one that goes on where it is healthy. Returns what was the last good
/// checkpoint.
fn lost_at(job: &TrainJob, call: u64, clean: &BTreeMap<Key, Vec<u8>>) -> Option<String> {
    let store = MemoryStore::new("lost");
    let machine = Fragile::lost_at(call);
    let mut told = Told::default();
    let error = run_on(Arc::new(store.clone()), TrainJob { machine, ..job.clone() }, &mut told).unwrap_err();
    let TrainError::Lost { last_good, source: DeviceError::Lost { .. }, .. } = &error else { panic!("call {call}: {error:?}") };
    assert_eq!(*last_good, told.checkpoints.last().cloned(), "call {call}");
    let message = error.to_string();
    assert!(message.contains(last_good.as_deref().unwrap_or("there is no checkpoint yet")), "call {call}: {message}");
    // Nothing but whole checkpoints of the undisturbed run is there.
    let there = store.snapshot();
    for (key, bytes) in &there {
        assert!(clean.get(key) == Some(bytes), "call {call}: {key} is not that of an undisturbed run");
    }
    let outcome = run_on(Arc::new(store.clone()), job.clone(), &mut NoHooks).unwrap();
    assert_eq!(outcome.resumed_from.is_some(), last_good.is_some(), "call {call}");
    assert!(store.snapshot() == *clean, "call {call}: other bytes after going on");
    last_good.clone()
}

#[test]
fn resume_after_a_lost_device_gives_the_same_bytes() {
    for job in [job(), adapter_job()] {
        let (_, clean) = clean_run(job.clone());
        let healthy = Fragile::healthy();
        let machine = Arc::clone(&healthy);
        run_on(Arc::new(MemoryStore::new("healthy")), TrainJob { machine, ..job.clone() }, &mut NoHooks).unwrap();
        let calls = healthy.calls();
        assert!(calls > 500, "{calls} calls");
        // The last calls read the state for the last checkpoint.
        let mut at: Vec<u64> = (0..calls).step_by(17).chain(calls - 5..calls).collect();
        at.dedup();
        let last_good: Vec<Option<String>> = at.into_iter().map(|call| lost_at(&job, call, &clean)).collect();
        let kind = job.kind.as_str();
        for step in [2, 4] {
            let folder = format!("checkpoints/{kind}/step-{step:08}");
            assert!(last_good.contains(&Some(folder.clone())), "{folder} was never the last good one");
        }
        assert!(last_good.contains(&None), "it was never lost before the first checkpoint");
        assert_eq!(last_good.last().unwrap().as_deref(), Some(format!("checkpoints/{kind}/step-00000004").as_str()));
    }
}

/// The choices in the newest checkpoint.
fn stored(store: &MemoryStore) -> Option<Value> {
    newest(&Workdir::new(Arc::new(store.clone())), job().kind).unwrap().unwrap().manifest.choices
}

/// A run on a machine that chooses, up to so many steps or the end.
fn choosing(store: &MemoryStore, choice: &str, stop_after: Option<u64>) -> (Vec<Option<Value>>, Vec<String>) {
    let machine = Fragile::choosing(json!(choice));
    let mut told = Told { stop_after, ..Told::default() };
    run_on(Arc::new(store.clone()), TrainJob { machine: machine.clone(), ..job() }, &mut told).unwrap();
    (machine.given(), told.warnings)
}

#[test]
fn resume_goes_on_with_what_the_device_chose() {
    let store = MemoryStore::new("chosen");
    assert_eq!(choosing(&store, "first", Some(2)), (vec![None], vec![]));
    let chosen = json!({ "chosen": "first" });
    assert_eq!(stored(&store), Some(chosen.clone()));
    // Another machine would choose otherwise; it gets what was chosen, and stores it again.
    assert_eq!(choosing(&store, "second", Some(4)), (vec![Some(chosen.clone())], vec![]));
    assert_eq!(stored(&store), Some(chosen.clone()));
    assert_eq!(choosing(&store, "third", None), (vec![Some(chosen.clone())], vec![]));
    assert_eq!(stored(&store), Some(chosen));
}

#[test]
fn choices_that_cannot_be_read_are_made_again_and_told() {
    let store = MemoryStore::new("unreadable");
    choosing(&store, "first", Some(2));
    let workdir = Workdir::new(Arc::new(store.clone()));
    let mut manifest = newest(&workdir, job().kind).unwrap().unwrap().manifest;
    manifest.choices = Some(json!("of another program"));
    let key = Key::new(format!("{}/manifest.json", manifest.folder())).unwrap();
    store.overwrite(&key, &mellama_storage::sealed::encode(&manifest).unwrap());
    let (given, warnings) = choosing(&store, "second", None);
    assert_eq!(given, [Some(json!("of another program"))]);
    assert_eq!(warnings, ["GPU: algorithms are chosen again"]);
    assert_eq!(stored(&store), Some(json!({ "chosen": "second" })));
}
