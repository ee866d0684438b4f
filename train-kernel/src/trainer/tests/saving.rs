//! Checkpoints written beside the steps: what a failed one changes, files of bounded size, and those of several ranks.

use std::collections::BTreeMap;
use std::sync::Arc;

use mellama_storage::{Effect, Fault, FaultStore, Key, MemoryStore, Refusal, Schedule, Workdir};

use super::guards::{ODD_STEP, data, spiky};
use super::samples::{adapter_job, clean_run, job, run_on};
use crate::checkpoint::tensor_file::Dtype;
use crate::checkpoint::{
    CheckpointError, CheckpointManifest, CheckpointWriter, FileKind, Partition, Share, TensorSet, newest, put_tensors,
};
use crate::guard::SpikePolicy;
use crate::hf::load;
use crate::parameters::{Layout, Parameters};
use crate::trainer::{
    CheckpointInfo, FailedSave, Hooks, Kind, NoHooks, RewindRecord, StepRecord, StepTiming, TrainError, TrainJob, train,
};

/// Which checkpoints were written, and which were not, with the last good one at that time.
#[derive(Default)]
struct Saves {
    written: Vec<u64>,
    failed: Vec<(u64, Option<String>)>,
}

impl Hooks for Saves {
    fn on_checkpoint(&mut self, info: &CheckpointInfo) {
        self.written.push(info.step);
    }

    fn on_failed_save(&mut self, failed: &FailedSave<'_>) {
        self.failed.push((failed.step, failed.last_good.map(str::to_owned)));
    }
}

/// A complete checkpoint of another run, which appears while this one trains.
struct Intruder(MemoryStore, BTreeMap<Key, Vec<u8>>);

impl Hooks for Intruder {
    fn on_checkpoint(&mut self, _: &CheckpointInfo) {
        for (key, body) in self.1.iter().filter(|(key, _)| key.as_str().starts_with(&folder(6))) {
            self.0.overwrite(key, body);
        }
    }
}

/// Deletes every manifest as soon as it is there.
struct Deleting(MemoryStore);

impl Hooks for Deleting {
    fn on_checkpoint(&mut self, info: &CheckpointInfo) {
        let key = Key::new(format!("{}/manifest.json", info.folder)).unwrap();
        mellama_storage::Store::delete(&self.0, &key).unwrap();
    }
}

fn folder(step: u64) -> String {
    format!("checkpoints/cpt/step-{step:08}")
}

#[test]
fn a_failed_call_to_the_store_costs_at_most_one_checkpoint() {
    let (_, clean) = clean_run(job());
    let counted = FaultStore::new(Arc::new(MemoryStore::new("count")), Schedule::none());
    run_on(Arc::new(counted.clone()), job(), &mut NoHooks).unwrap();
    let (mut survived, mut ended) = (0, 0);
    for call in 1..=counted.calls() {
        for effect in [Effect::FailBefore, Effect::Refused(Refusal::DiskFull)] {
            let store = MemoryStore::new("once");
            let faulty = FaultStore::new(Arc::new(store.clone()), Fault::once(call, effect));
            let mut saves = Saves::default();
            let outcome = run_on(Arc::new(faulty), job(), &mut saves);
            let at = format!("call {call} {effect:?}");
            let failed: Vec<u64> = saves.failed.iter().map(|(step, _)| *step).collect();
            match outcome {
                Ok(outcome) => {
                    assert_eq!(outcome.step, 6, "{at}");
                    let mut expected = clean.clone();
                    let gone = |key: &Key| failed.iter().any(|step| key.as_str().starts_with(&folder(*step)));
                    expected.retain(|key, _| !gone(key));
                    assert_eq!(store.snapshot().keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{at}");
                    assert!(store.snapshot() == expected, "{at}: other bytes");
                    survived += u32::from(!failed.is_empty());
                }
                Err(TrainError::Unsaved { step: 6, last_good, .. }) => {
                    assert!(failed.is_empty(), "{at}: training does not go on after the last one");
                    assert_eq!(last_good.as_deref(), Some(folder(4).as_str()), "{at}");
                    ended += 1;
                }
                // Before the first step.
                Err(TrainError::Checkpoint(_)) => assert!(saves.written.is_empty() && failed.is_empty(), "{at}"),
                Err(other) => panic!("{at}: {other:?}"),
            }
            // Whatever happened, the next run ends as it should.
            run_on(Arc::new(store.clone()), job(), &mut NoHooks).unwrap();
            let there = store.snapshot();
            let last = |objects: &BTreeMap<Key, Vec<u8>>| {
                let wanted = |key: &&Key| key.as_str().starts_with(&folder(6)) || key.as_str().starts_with("metrics/");
                objects.keys().filter(wanted).map(|key| (key.clone(), objects[key].clone())).collect::<Vec<_>>()
            };
            assert!(last(&there) == last(&clean), "{at}: other bytes at the end");
        }
    }
    assert!(survived > 20 && ended > 10, "{survived} survived, {ended} ended");
}

#[test]
fn a_failed_checkpoint_is_told_with_the_last_good_one_and_leaves_nothing() {
    let store = MemoryStore::new("full");
    // The first checkpoint is written, the second is not.
    let counted = FaultStore::new(Arc::new(MemoryStore::new("count")), Schedule::none());
    let mut short = job();
    short.spec.steps = Some(2);
    run_on(Arc::new(counted.clone()), short, &mut NoHooks).unwrap();
    let faulty = FaultStore::new(Arc::new(store.clone()), Fault::once(counted.calls() + 3, Effect::Refused(Refusal::DiskFull)));
    let mut saves = Saves::default();
    run_on(Arc::new(faulty), job(), &mut saves).unwrap();
    assert_eq!((saves.written, saves.failed), (vec![2, 6], vec![(4, Some(folder(2)))]));
    assert!(!store.snapshot().keys().any(|key| key.as_str().starts_with(&folder(4))));
}

#[test]
fn another_checkpoint_where_this_one_belongs_ends_the_run() {
    let (_, clean) = clean_run(job());
    let store = MemoryStore::new("other");
    let mut other = job();
    other.spec.learning_rate *= 2.0;
    let outcome = run_on(Arc::new(store.clone()), other, &mut Intruder(store.clone(), clean));
    match outcome {
        Err(TrainError::Checkpoint(error)) => assert!(!error.is_of_store(), "{error:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_spike_does_not_go_back_past_a_checkpoint_that_is_missing() {
    let store = MemoryStore::new("spike");
    let workdir = Workdir::new(Arc::new(store.clone()));
    let error = train(spiky(SpikePolicy::Rewind), &data(), None, &workdir, &mut Deleting(store.clone())).unwrap_err();
    assert!(matches!(error, TrainError::NothingToRewind { step: ODD_STEP }), "{error:?}");
}

/// Stops after the first step that is at least as far as it names, and notes what was told.
#[derive(Default)]
struct Stopping {
    after: u64,
    last: Option<u64>,
    rewound: u64,
    failed: Vec<u64>,
}

impl Hooks for Stopping {
    fn on_step(&mut self, record: &StepRecord, _: &StepTiming) {
        self.last = Some(record.step);
    }

    fn on_rewind(&mut self, _: &RewindRecord) {
        self.rewound += 1;
    }

    fn on_failed_save(&mut self, failed: &FailedSave<'_>) {
        self.failed.push(failed.step);
    }

    fn should_stop(&mut self) -> bool {
        self.last == Some(self.after)
    }
}

#[test]
fn stops_before_and_after_a_rewind_lose_nothing_and_change_nothing() {
    let run = |store: &MemoryStore, after: u64| {
        let mut hooks = Stopping { after, ..Stopping::default() };
        let workdir = Workdir::new(Arc::new(store.clone()));
        let outcome = train(spiky(SpikePolicy::Rewind), &data(), None, &workdir, &mut hooks).unwrap();
        (outcome.step, hooks.rewound)
    };
    let whole = MemoryStore::new("whole");
    assert_eq!(run(&whole, u64::MAX), (50, 1));
    let store = MemoryStore::new("stopped");
    // Two stops on the way to the spike at step 45, one on the way from the checkpoint of step 40 past it.
    assert_eq!(run(&store, 41), (42, 0));
    assert_eq!(run(&store, 43), (44, 0));
    let mut hooks = RewindThenStop::default();
    let workdir = Workdir::new(Arc::new(store.clone()));
    let outcome = train(spiky(SpikePolicy::Rewind), &data(), None, &workdir, &mut hooks).unwrap();
    assert_eq!((outcome.step, hooks.rewound), (41, true));
    // It goes on from there, without meeting the spike again.
    assert_eq!(run(&store, u64::MAX), (50, 0));
    let last = |store: &MemoryStore| {
        let objects = store.snapshot();
        objects.into_iter().filter(|(key, _)| key.as_str().contains("00000050")).collect::<Vec<_>>()
    };
    assert!(last(&store) == last(&whole));
}

/// Stops at the first step after a rewind.
#[derive(Default)]
struct RewindThenStop {
    rewound: bool,
    stop: bool,
}

impl Hooks for RewindThenStop {
    fn on_rewind(&mut self, _: &RewindRecord) {
        self.rewound = true;
    }

    fn on_step(&mut self, _: &StepRecord, _: &StepTiming) {
        self.stop = self.rewound;
    }

    fn should_stop(&mut self) -> bool {
        self.stop
    }
}

#[test]
fn a_stop_whose_checkpoint_before_it_is_missing_is_passed_over_where_a_spike_would_need_it() {
    let store = MemoryStore::new("stuck");
    let workdir = Workdir::new(Arc::new(store.clone()));
    let mut hooks = Stopping { after: 42, ..Stopping::default() };
    train(spiky(SpikePolicy::Rewind), &data(), None, &workdir, &mut hooks).unwrap();
    mellama_storage::Store::delete(&store, &Key::new(format!("{}/manifest.json", folder(40))).unwrap()).unwrap();
    let outcome = train(spiky(SpikePolicy::Rewind), &data(), None, &workdir, &mut NoHooks).unwrap();
    assert_eq!((outcome.resumed_from, outcome.step), (None, 50));
    let whole = MemoryStore::new("whole");
    train(spiky(SpikePolicy::Rewind), &data(), None, &Workdir::new(Arc::new(whole.clone())), &mut NoHooks).unwrap();
    assert!(store.snapshot() == whole.snapshot());
}

#[test]
fn large_tensors_lie_in_several_files_that_load_and_resume_alike() {
    for job in [job(), adapter_job()] {
        let (outcome, whole) = clean_run(job.clone());
        let cut = TrainJob { file_limit_bytes: 3_000, ..job.clone() };
        let store = MemoryStore::new("cut");
        run_on(Arc::new(store.clone()), cut.clone(), &mut NoHooks).unwrap();
        let model = outcome.model_folder.unwrap();
        let names: Vec<String> = store.snapshot().keys().map(ToString::to_string).collect();
        let files = names.iter().filter(|name| name.starts_with(&format!("{model}/model-0"))).count();
        assert!(files > 2 && names.contains(&format!("{model}/model.safetensors.index.json")), "{names:?}");
        let from = |objects: MemoryStore| load(&(Arc::new(objects) as Arc<dyn mellama_storage::Store>), &model).unwrap();
        let of = MemoryStore::new("whole");
        for (key, body) in &whole {
            of.overwrite(key, body);
        }
        assert_eq!(from(store.clone()).parameters, from(of).parameters);
        // The last checkpoint is made again from the one before it.
        let complete = store.snapshot();
        let kind = job.kind.as_str();
        for key in complete.keys().filter(|key| key.as_str().contains("step-00000006")) {
            mellama_storage::Store::delete(&store, key).unwrap();
        }
        let again = run_on(Arc::new(store.clone()), cut, &mut NoHooks).unwrap();
        assert_eq!(again.resumed_from, Some(4), "{kind}");
        assert!(store.snapshot() == complete, "{kind}: other bytes after a resume from cut files");
    }
}

/// The tensors of a checkpoint, written anew by so many ranks.
fn reshard(workdir: &Workdir, manifest: &CheckpointManifest, partition: Partition) -> CheckpointManifest {
    let layout = Arc::new(Layout::of(&manifest.shape));
    let read = |stem: &str, prefix: &str| {
        let mut files = TensorSet::open(workdir, manifest, stem).unwrap();
        let mut values = Parameters::<f32>::zeros(Arc::clone(&layout));
        for (index, tensor) in layout.tensors().iter().enumerate() {
            let whole = crate::checkpoint::Piece::whole(tensor);
            files.read((prefix, tensor), &whole, values.slice_mut(index)).unwrap();
        }
        values
    };
    let (weights, first, second) = (read("model", ""), read("optimizer", "first."), read("optimizer", "second."));
    let metrics = crate::checkpoint::read_file(workdir, manifest, "metrics.jsonl").unwrap();
    for entry in &manifest.objects {
        workdir.store().delete(&Key::new(entry.key.as_str()).unwrap()).unwrap();
    }
    workdir.store().delete(&Key::new(format!("{}/manifest.json", manifest.folder())).unwrap()).unwrap();
    let mut writer = CheckpointWriter::new(workdir, manifest.kind, manifest.step);
    for rank in 0..partition.ranks() {
        let share = Share { partition, rank, limit_bytes: 2_000 };
        let kind = |stem| FileKind { stem, format: "test", dtype: Dtype::F32 };
        put_tensors(&mut writer, kind("model"), &[("", &weights)], share).unwrap();
        put_tensors(&mut writer, kind("optimizer"), &[("first.", &first), ("second.", &second)], share).unwrap();
    }
    writer.put_bytes("metrics.jsonl", 0, &metrics).unwrap();
    writer.finish(CheckpointManifest { partition, objects: Vec::new(), ..manifest.clone() }).unwrap().0
}

#[test]
fn a_checkpoint_of_any_number_of_ranks_resumes_to_the_same_bytes() {
    let mut half = job();
    half.spec.checkpoint_every = 3;
    let (_, clean) = clean_run(half.clone());
    for (tensor_parallel, data_parallel) in [(1, 1), (2, 1), (1, 3), (2, 3), (4, 2)] {
        let store = MemoryStore::new("ranks");
        let kept = |key: &&Key| !key.as_str().contains("00000006");
        clean.keys().filter(kept).for_each(|key| store.overwrite(key, &clean[key]));
        let workdir = Workdir::new(Arc::new(store.clone()));
        let manifest = newest(&workdir, Kind::Cpt).unwrap().unwrap().manifest;
        let partition = Partition { tensor_parallel, data_parallel };
        let many = reshard(&workdir, &manifest, partition);
        assert!(partition.ranks() == 1 || many.objects.iter().any(|entry| entry.key.contains("/rank-00001/")));
        // From one partition to another, over the middle of pieces.
        let again = reshard(&workdir, &many, Partition { tensor_parallel: data_parallel, data_parallel: tensor_parallel });
        assert_eq!(again.step, 3);
        run_on(Arc::new(store.clone()), half.clone(), &mut NoHooks).unwrap();
        let last = |objects: &BTreeMap<Key, Vec<u8>>| {
            objects
                .iter()
                .filter(|(key, _)| key.as_str().contains("00000006"))
                .map(|(k, b)| (k.clone(), b.clone()))
                .collect::<Vec<_>>()
        };
        assert!(last(&store.snapshot()) == last(&clean), "{partition:?}");
    }
}

#[test]
fn parts_that_do_not_make_up_a_tensor_are_refused() {
    let partition = Partition { tensor_parallel: 2, data_parallel: 2 };
    let check = |change: &dyn Fn(&mut CheckpointManifest), expected: &str| {
        let store = MemoryStore::new("parts");
        run_on(Arc::new(store.clone()), job(), &mut NoHooks).unwrap();
        let workdir = Workdir::new(Arc::new(store));
        let manifest = newest(&workdir, Kind::Cpt).unwrap().unwrap().manifest;
        let mut manifest = reshard(&workdir, &manifest, partition);
        change(&mut manifest);
        let layout = Layout::of(&manifest.shape);
        let mut set = TensorSet::open(&workdir, &manifest, "model").unwrap();
        let mut values = vec![0.0; layout.tensors()[0].length()];
        let whole = crate::checkpoint::Piece::whole(&layout.tensors()[0]);
        let error = set.read(("", &layout.tensors()[0]), &whole, &mut values).unwrap_err();
        let CheckpointError::Tensors { source, .. } = error else { panic!("{error:?}") };
        assert!(source.to_string().contains(expected), "{source}");
    };
    check(&|manifest| manifest.objects.retain(|entry| !entry.key.contains("/rank-00003/")), "of 320 elements");
    check(&|manifest| manifest.objects.extend(manifest.objects.clone()), "overlap");
    let missing = |manifest: &mut CheckpointManifest| manifest.objects.retain(|entry| !entry.key.contains("model-00001-of"));
    check(&missing, "missing");
}
