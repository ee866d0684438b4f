//! Every kind of damage to every kind of object, found and named.

use super::*;
use crate::counts::Tally;
use crate::fault::{Effect, Fault, FaultStore, Operation};
use crate::memory::MemoryStore;
use proptest::prelude::{any, proptest};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;

fn part(workdir: &Workdir, stem: &str, bytes: &[u8]) -> ObjectEntry {
    let mut part = workdir.part().unwrap();
    part.write_all(bytes).unwrap();
    part.finish("shards/cpt", stem, "parquet", 1).unwrap()
}

/// A finished run of one stage with two tasks, a heldout list named in a manifest's facts, and a checkpoint.
fn finished() -> (MemoryStore, Workdir) {
    let store = MemoryStore::new("work");
    let workdir = Workdir::new(Arc::new(store.clone()));
    workdir.freeze_plan("plan-1", &json!({"name": "quickstart", "seed": 42})).unwrap();
    let mut commits = Vec::new();
    for task in 0..2 {
        let commit = TaskCommit {
            plan: "plan-1".into(),
            stage: "pack".into(),
            task,
            objects: vec![part(&workdir, "train", format!("rows of task {task}").as_bytes())],
            counts: Counts { read: Tally::one(9), written: Tally::one(9), ..Counts::default() },
            facts: json!({"sequences": 3}),
            attempt: "a-1".into(),
        };
        workdir.commit_task(&commit).unwrap();
        commits.push(commit);
    }
    let manifest = StageManifest {
        plan: "plan-1".into(),
        stage: "pack".into(),
        tasks: 2,
        commits: commits.iter().map(TaskCommit::digest).collect(),
        objects: commits.iter().flat_map(|commit| commit.objects.clone()).collect(),
        counts: commits.iter().map(|commit| commit.counts).sum(),
        facts: json!({"heldout": [part(&workdir, "heldout", b"held out rows")]}),
        attempt: "a-2".into(),
    };
    workdir.put_manifest(&manifest, &commits).unwrap();
    let mut weights = workdir.part().unwrap();
    weights.write_all(b"weights").unwrap();
    let weights = weights.finish_named("checkpoints/cpt/step-00000100/model.safetensors", 1).unwrap();
    let mut index = workdir.part().unwrap();
    index.write_all(&sealed::encode(&json!({"step": 100, "objects": [weights]})).unwrap()).unwrap();
    index.finish_named("checkpoints/cpt/step-00000100/manifest.json", 1).unwrap();
    workdir.mark_success(&json!({"manifests": {"pack": manifest.digest()}})).unwrap();
    (store, workdir)
}

fn verify(workdir: &Workdir) -> VerifyReport {
    workdir.verify(&mut |_| {}).unwrap()
}

fn names(report: &VerifyReport, key: &Key) -> bool {
    report.findings.iter().any(|finding| finding.key == key.as_str())
}

#[test]
fn a_finished_run_is_whole_and_every_object_is_read_once() {
    let (store, _) = finished();
    let counting = FaultStore::new(Arc::new(store.clone()), vec![]);
    let workdir = Workdir::new(Arc::new(counting.clone()));
    let mut visited = Vec::new();
    let report = workdir.verify(&mut |key| visited.push(key.to_owned())).unwrap();
    let snapshot = store.snapshot();
    assert_eq!(report.findings, []);
    assert_eq!(report.unnamed, Vec::<String>::new());
    assert_eq!(report.objects, snapshot.len() as u64);
    assert_eq!(report.bytes, snapshot.values().map(|body| body.len() as u64).sum::<u64>());
    visited.sort();
    assert_eq!(visited, snapshot.keys().map(Key::to_string).collect::<Vec<_>>());
    // Records are small and read whole; named objects of any size are streamed.
    assert_eq!((counting.calls_of(Operation::Read), counting.calls_of(Operation::Open)), (6, 4));
}

#[test]
fn every_flipped_byte_of_every_object_is_found_and_named() {
    let (store, workdir) = finished();
    for (key, body) in store.snapshot() {
        for position in 0..body.len() {
            for mask in [1 << (position % 8), 0xff] {
                let mut damaged = body.clone();
                damaged[position] ^= mask;
                store.overwrite(&key, &damaged);
                let report = verify(&workdir);
                assert!(names(&report, &key), "{key} byte {position} ^ {mask:#04x}: {:?}", report.findings);
            }
        }
        store.overwrite(&key, &body);
    }
    assert!(verify(&workdir).is_ok());
}

#[test]
fn every_cut_of_every_object_is_found_and_named_with_its_place() {
    let (store, workdir) = finished();
    for (key, body) in store.snapshot() {
        for length in 0..body.len() {
            store.overwrite(&key, &body[..length]);
            let report = verify(&workdir);
            let found = report.findings.iter().find(|finding| finding.key == key.as_str());
            let finding = found.unwrap_or_else(|| panic!("{key} cut to {length}"));
            assert!(finding.offset.is_some_and(|offset| offset <= length as u64), "{finding}");
        }
        store.overwrite(&key, &[body.as_slice(), b"x"].concat());
        assert!(names(&verify(&workdir), &key), "{key} with a byte more");
        store.overwrite(&key, &body);
    }
}

#[test]
fn every_missing_object_that_something_names_is_found_and_named() {
    let (store, workdir) = finished();
    for (key, body) in store.snapshot() {
        // Nothing names these two: without them the run is not finished, or the checkpoint was never published.
        let nameless = key.as_str() == SUCCESS_KEY || key.as_str().ends_with("/manifest.json");
        store.delete(&key).unwrap();
        let report = verify(&workdir);
        assert_eq!(names(&report, &key), !nameless, "{key}: {:?}", report.findings);
        store.overwrite(&key, &body);
    }
}

#[test]
fn records_that_are_whole_but_wrong_are_found() {
    type Change = fn(&mut TaskCommit);
    let check = |name: &str, change: Change, wrong_key: &str, expected: &str| {
        let (store, workdir) = finished();
        let key = Key::new("commits/pack/00001.json").unwrap();
        let mut commit: TaskCommit = sealed::decode(&store.read(&key, None, None).unwrap()).unwrap();
        change(&mut commit);
        store.overwrite(&key, &sealed::encode(&commit).unwrap());
        let report = verify(&workdir);
        let found = report.findings.iter().any(|f| f.key == wrong_key && f.problem.to_string().contains(expected));
        assert!(found, "{name}: {:?}", report.findings);
    };
    let own = "commits/pack/00001.json";
    check("another plan", |c| c.plan = "plan-2".into(), own, "plan plan-2, expected plan-1");
    check("another task", |c| c.task = 7, own, "expected commits/pack/00007.json");
    check("another stage", |c| c.stage = "mix".into(), own, "expected commits/mix/00001.json");
    check("a stage that is no name", |c| c.stage = "../x".into(), own, "expected a valid stage name");
    check("other facts", |c| c.facts = json!(1), own, "digest");
    check("no balance", |c| c.counts.read = Tally::one(1), own, "written + dropped + rejected");
    check("other counts", |c| c.counts = Counts::default(), "manifests/pack.json", "documents read, 2, expected 1");
    check("an object outside", |c| c.objects[0].key = "../etc/x".into(), "../etc/x", "not a valid key");
}

#[test]
fn a_manifest_other_than_the_one_that_success_names_is_found() {
    let (store, workdir) = finished();
    let key = Key::new("manifests/pack.json").unwrap();
    let mut manifest: StageManifest = sealed::decode(&store.read(&key, None, None).unwrap()).unwrap();
    manifest.facts = json!({});
    store.overwrite(&key, &sealed::encode(&manifest).unwrap());
    assert!(names(&verify(&workdir), &key));
}

#[test]
fn a_finished_run_has_the_manifest_of_every_stage_and_is_of_its_own_plan() {
    let check = |body: serde_json::Value, manifest_stays: bool, wrong_key: Option<&str>| {
        let (store, workdir) = finished();
        store.overwrite(&Key::new(SUCCESS_KEY).unwrap(), &sealed::encode(&body).unwrap());
        if !manifest_stays {
            store.delete(&Key::new("manifests/pack.json").unwrap()).unwrap();
        }
        let report = verify(&workdir);
        let keys: Vec<&str> = report.findings.iter().map(|f| f.key.as_str()).collect();
        assert_eq!(keys, Vec::from_iter(wrong_key), "{body}: {:?}", report.findings);
    };
    check(json!({}), true, None);
    check(json!({}), false, Some("manifests/pack.json"));
    check(json!({"manifests": {"pack": "0"}}), false, Some("manifests/pack.json"));
    check(json!({"manifests": {"mix": "0"}}), true, Some("manifests/mix.json"));
    check(json!({"plan": "plan-1"}), true, None);
    check(json!({"plan": "plan-2"}), true, Some(SUCCESS_KEY));
}

#[test]
fn what_nothing_names_is_listed_and_is_no_failure() {
    let (store, workdir) = finished();
    let leftovers = ["README.md", "checkpoints/cpt/step-00000200/model.safetensors", "shards/cpt/train-0123.parquet"];
    for name in leftovers {
        store.overwrite(&Key::new(name).unwrap(), b"x");
    }
    let report = verify(&workdir);
    assert!(report.is_ok(), "{:?}", report.findings);
    assert_eq!(report.unnamed, leftovers);
}

#[test]
fn an_empty_folder_and_one_with_checkpoints_alone_are_whole() {
    let store = MemoryStore::new("work");
    let workdir = Workdir::new(Arc::new(store.clone()));
    assert_eq!(verify(&workdir), VerifyReport::default());
    let key = Key::new("checkpoints/cpt/step-00000100/manifest.json").unwrap();
    store.overwrite(&key, &sealed::encode(&json!({"objects": []})).unwrap());
    assert!(verify(&workdir).is_ok());
}

#[test]
fn case_08_damage_on_the_way_is_no_finding_and_damage_that_stays_is() {
    for operation in [Operation::Read, Operation::Open] {
        for effect in [Effect::FlippedBit, Effect::Torn, Effect::FailBefore] {
            let check = |fault: Fault, expected: bool| {
                let faults = FaultStore::new(Arc::new(finished().0), fault.on(operation));
                assert_eq!(verify(&Workdir::new(Arc::new(faults))).is_ok(), expected, "{fault:?} {operation:?}");
            };
            check(Fault::once(2, effect), true);
            check(Fault::from(2, effect), false);
        }
    }
}

#[test]
fn a_store_that_cannot_list_is_an_error_and_no_clean_report() {
    let faults = FaultStore::new(Arc::new(finished().0), Fault::once(1, Effect::FailBefore).on(Operation::List));
    assert!(Workdir::new(Arc::new(faults)).verify(&mut |_| {}).is_err());
}

proptest! {
    #[test]
    fn any_change_of_any_byte_of_a_large_object_is_found(seed in any::<u64>(), place in any::<u64>(), mask in 1_u8..) {
        let store = MemoryStore::new("work");
        let workdir = Workdir::new(Arc::new(store.clone()));
        let mut bytes = vec![0; 200_000 + (seed % 200_000) as usize];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        let entry = part(&workdir, "train", &bytes);
        let index = sealed::encode(&json!({"objects": [entry]})).unwrap();
        store.overwrite(&Key::new("checkpoints/cpt/step-00000001/manifest.json").unwrap(), &index);
        assert!(verify(&workdir).is_ok());
        let position = (place % bytes.len() as u64) as usize;
        bytes[position] ^= mask;
        let key = Key::new(entry.key).unwrap();
        store.overwrite(&key, &bytes);
        assert!(names(&verify(&workdir), &key));
    }
}
