//! The commit protocol against stores that answer well, badly and not at all.

use super::*;
use crate::counts::Tally;
use crate::fault::{Effect, Fault, FaultStore, Operation};
use crate::memory::MemoryStore;
use crate::store::list_all;
use serde_json::json;
use std::io::Write;

fn memory() -> (MemoryStore, Workdir) {
    let store = MemoryStore::new("run");
    (store.clone(), Workdir::new(Arc::new(store)))
}

fn faulty(fault: Fault) -> (MemoryStore, FaultStore, Workdir) {
    let memory = MemoryStore::new("run");
    let faults = FaultStore::new(Arc::new(memory.clone()), fault);
    (memory, faults.clone(), Workdir::new(Arc::new(faults)))
}

fn commit(task: u64, attempt: &str) -> TaskCommit {
    TaskCommit {
        plan: "plan-1".into(),
        stage: "ingest".into(),
        task,
        objects: vec![ObjectEntry { key: "a".into(), bytes: 1, blake3: "0".repeat(64), records: 1 }],
        counts: Counts { read: Tally::one(9), written: Tally::one(9), ..Counts::default() },
        facts: json!({"tokens": 3}),
        attempt: attempt.into(),
    }
}

fn manifest(commits: &[TaskCommit]) -> StageManifest {
    StageManifest {
        plan: "plan-1".into(),
        stage: "ingest".into(),
        tasks: commits.len() as u64,
        commits: commits.iter().map(TaskCommit::digest).collect(),
        objects: commits.iter().flat_map(|commit| commit.objects.clone()).collect(),
        counts: commits.iter().map(|commit| commit.counts).sum(),
        facts: Value::Null,
        attempt: "m".into(),
    }
}

fn write_part(workdir: &Workdir, bytes: &[u8]) -> Result<ObjectEntry, ProtocolError> {
    let mut part = workdir.part()?;
    part.write_all(bytes).map_err(|e| StoreError::from_io("part".into(), "writing", e))?;
    part.finish("documents/pubmed", "00007", "parquet", 3)
}

fn names(store: &dyn Store) -> Vec<String> {
    list_all(store, "").map(|object| object.unwrap().key.into()).collect()
}

#[test]
fn case_19_the_first_plan_keeps_the_folder() {
    let (_, workdir) = memory();
    assert!(workdir.read_plan().unwrap().is_none());
    workdir.freeze_plan("plan-1", &json!({"seed": 42})).unwrap();
    workdir.freeze_plan("plan-1", &json!({"seed": 42})).unwrap();
    assert_eq!(workdir.read_plan().unwrap(), Some(json!({"seed": 42})));
    assert_eq!(workdir.read_plan_id().unwrap().as_deref(), Some("plan-1"));
    let error = workdir.freeze_plan("plan-2", &json!({"seed": 43})).unwrap_err();
    assert!(matches!(&error, ProtocolError::OtherPlan { found, wanted, .. } if found == "plan-1" && wanted == "plan-2"));
    assert_eq!(
        error.to_string(),
        "memory://run/plan.json: belongs to plan plan-1, this run is plan plan-2; give another work folder, or --new-version"
    );
}

#[test]
fn a_commit_is_there_once_whoever_commits() {
    let (store, workdir) = memory();
    assert_eq!(workdir.commit_task(&commit(7, "1")).unwrap(), CommitOutcome::Committed);
    assert_eq!(workdir.commit_task(&commit(7, "1")).unwrap(), CommitOutcome::Committed, "the same attempt again");
    assert_eq!(workdir.commit_task(&commit(7, "2")).unwrap(), CommitOutcome::AlreadyThere);
    assert_eq!(names(&store), ["commits/ingest/00007.json"]);
    assert_eq!(workdir.read_commit("plan-1", "ingest", 7).unwrap(), Some(commit(7, "1")));
    assert_eq!(workdir.read_commit("plan-1", "ingest", 8).unwrap(), None);
}

#[test]
fn determinism_another_digest_for_the_same_task_stops() {
    let (store, workdir) = memory();
    workdir.commit_task(&commit(7, "1")).unwrap();
    let before = store.snapshot();
    let mut other = commit(7, "2");
    other.objects[0].blake3 = "1".repeat(64);
    let error = workdir.commit_task(&other).unwrap_err();
    let ProtocolError::Nondeterministic { stage, task, ours, theirs } = &error else { panic!("{error:?}") };
    assert_eq!((stage.as_str(), task.as_str()), ("ingest", "7"));
    assert_eq!((ours, theirs), (&other.digest(), &commit(7, "1").digest()));
    assert_eq!(store.snapshot(), before, "nothing is replaced");
}

#[test]
fn case_19_a_commit_of_another_plan_is_refused_when_it_is_read_and_when_it_is_in_the_way() {
    let (_, workdir) = memory();
    workdir.commit_task(&commit(7, "1")).unwrap();
    assert!(matches!(workdir.read_commit("plan-2", "ingest", 7), Err(ProtocolError::OtherPlan { .. })));
    let other = TaskCommit { plan: "plan-2".into(), ..commit(7, "2") };
    assert!(matches!(workdir.commit_task(&other), Err(ProtocolError::OtherPlan { .. })));
}

#[test]
fn case_02_a_put_that_took_effect_and_answered_with_an_error_is_success() {
    let (store, faults, workdir) = faulty(Fault::once(1, Effect::FailAfter).on(Operation::PutNew));
    assert_eq!(workdir.commit_task(&commit(7, "1")).unwrap(), CommitOutcome::Committed);
    assert_eq!((faults.fired(), faults.calls_of(Operation::PutNew)), (1, 1));
    assert_eq!(names(&store), ["commits/ingest/00007.json"]);
}

#[test]
fn case_01_a_put_that_did_nothing_is_tried_again_and_not_for_ever() {
    let (_, faults, workdir) = faulty(Fault::once(1, Effect::FailBefore).on(Operation::PutNew));
    assert_eq!(workdir.commit_task(&commit(7, "1")).unwrap(), CommitOutcome::Committed);
    assert_eq!(faults.calls_of(Operation::PutNew), 2);
    let (store, faults, workdir) = faulty(Fault::from(1, Effect::FailBefore).on(Operation::PutNew));
    let error = workdir.commit_task(&commit(7, "1")).unwrap_err();
    assert!(matches!(error, ProtocolError::Store(StoreError::Unknown { .. })), "{error:?}");
    assert_eq!(faults.calls_of(Operation::PutNew), PUT_ATTEMPTS as u64);
    assert_eq!(names(&store), Vec::<String>::new());
}

#[test]
fn case_02_an_unclear_answer_over_another_attempts_commit_is_compared_and_not_claimed() {
    let (_, _, workdir) = faulty(Fault::once(2, Effect::FailAfter).on(Operation::PutNew));
    workdir.commit_task(&commit(7, "1")).unwrap();
    assert_eq!(workdir.commit_task(&commit(7, "2")).unwrap(), CommitOutcome::AlreadyThere);
    let (_, _, workdir) = faulty(Fault::once(2, Effect::FailAfter).on(Operation::PutNew));
    workdir.commit_task(&commit(7, "1")).unwrap();
    let other = TaskCommit { facts: json!({"tokens": 4}), ..commit(7, "2") };
    assert!(matches!(workdir.commit_task(&other), Err(ProtocolError::Nondeterministic { .. })));
}

#[test]
fn case_04_of_many_workers_at_once_one_commits_and_the_others_find_it() {
    let (store, workdir) = memory();
    let outcomes: Vec<CommitOutcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let workdir = workdir.clone();
                scope.spawn(move || workdir.commit_task(&commit(7, &format!("worker-{worker}"))).unwrap())
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == CommitOutcome::Committed).count(), 1);
    assert_eq!(names(&store).len(), 1);
}

#[test]
fn what_does_not_balance_is_not_published() {
    let (store, workdir) = memory();
    let mut unbalanced = commit(7, "1");
    unbalanced.counts.dropped = Tally::one(1);
    assert!(matches!(workdir.commit_task(&unbalanced), Err(ProtocolError::Imbalance { .. })));
    assert_eq!(names(&store), Vec::<String>::new());
}

#[test]
fn a_manifest_agrees_with_the_commits_or_is_not_published() {
    let (store, workdir) = memory();
    let commits: Vec<TaskCommit> = (0..3).map(|task| commit(task, "1")).collect();
    let good = manifest(&commits);
    let check = |name: &str, change: fn(&mut StageManifest)| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = workdir.put_manifest(&bad, &commits).unwrap_err();
        assert!(matches!(error, ProtocolError::Manifest { .. }), "{name}: {error:?}");
    };
    check("a commit too few", |m| drop(m.commits.pop()));
    check("a task without commit", |m| {
        m.tasks = 4;
        m.commits.push("0".repeat(64));
    });
    check("another digest", |m| m.commits[1] = "0".repeat(64));
    check("counts", |m| {
        m.counts.read += Tally::one(1);
        m.counts.written += Tally::one(1);
    });
    assert!(workdir.read_manifest("plan-1", "ingest").unwrap().is_none());
    assert_eq!(workdir.put_manifest(&good, &commits).unwrap(), CommitOutcome::Committed);
    let again = StageManifest { attempt: "other".into(), ..good.clone() };
    assert_eq!(workdir.put_manifest(&again, &commits).unwrap(), CommitOutcome::AlreadyThere);
    assert_eq!(workdir.read_manifest("plan-1", "ingest").unwrap(), Some(good.clone()));
    assert!(matches!(workdir.read_manifest("plan-2", "ingest"), Err(ProtocolError::OtherPlan { .. })));
    let differs = StageManifest { facts: json!(1), ..good };
    assert!(matches!(workdir.put_manifest(&differs, &commits), Err(ProtocolError::Nondeterministic { .. })));
    assert!(names(&store).contains(&"manifests/ingest.json".to_owned()));
}

#[test]
fn a_record_under_a_wrong_name_or_with_a_broken_seal_is_not_believed() {
    let (store, workdir) = memory();
    workdir.commit_task(&commit(7, "1")).unwrap();
    let body = store.read(&commit_key("ingest", 7).unwrap(), None, None).unwrap();
    store.overwrite(&commit_key("ingest", 8).unwrap(), &body);
    store.overwrite(&commit_key("pack", 7).unwrap(), &body);
    let is_moved = |result| matches!(result, Err(ProtocolError::Mismatch { .. }));
    assert!(is_moved(workdir.read_commit("plan-1", "ingest", 8)));
    assert!(is_moved(workdir.read_commit("plan-1", "pack", 7)));
    let mut damaged = body;
    damaged[20] ^= 1;
    store.overwrite(&commit_key("ingest", 9).unwrap(), &damaged);
    assert!(matches!(workdir.read_commit("plan-1", "ingest", 9), Err(ProtocolError::Damaged { .. })));
    assert!(matches!(workdir.commit_task(&commit(9, "2")), Err(ProtocolError::Damaged { .. })));
}

#[test]
fn stage_names_are_one_plain_segment() {
    let (_, workdir) = memory();
    let check = |stage: &str, valid: bool| {
        assert_eq!(workdir.read_commit("p", stage, 0).is_ok(), valid, "{stage:?}");
    };
    check("ingest", true);
    check("instruct-data", true);
    check("", false);
    check("..", false);
    check("a/b", false);
    check("Ingest", false);
}

#[test]
fn a_part_is_named_by_its_content_and_attempts_converge() {
    let (store, workdir) = memory();
    let entry = write_part(&workdir, b"some rows").unwrap();
    let digest = blake3::hash(b"some rows").to_hex().to_string();
    assert_eq!(entry.key, format!("documents/pubmed/00007-{}.parquet", &digest[..16]));
    assert_eq!((entry.bytes, &entry.blake3, entry.records), (9, &digest, 3));
    assert_eq!(write_part(&workdir, b"some rows").unwrap(), entry);
    assert_eq!(names(&store), std::slice::from_ref(&entry.key));
    assert_ne!(write_part(&workdir, b"other rows").unwrap().key, entry.key);
    assert_eq!(workdir.read_object(&entry).unwrap(), b"some rows");
}

#[test]
fn a_part_under_a_chosen_name_never_replaces_another() {
    let (store, workdir) = memory();
    let finish = |bytes: &[u8]| {
        let mut part = workdir.part().unwrap();
        part.write_all(bytes).unwrap();
        part.finish_named("checkpoints/cpt/step-00000100/model.safetensors", 1)
    };
    assert_eq!(finish(b"weights").unwrap(), finish(b"weights").unwrap());
    assert!(matches!(finish(b"other"), Err(ProtocolError::Store(StoreError::Exists { .. }))));
    assert_eq!(names(&store).len(), 1);
}

#[test]
fn a_part_whose_end_was_not_answered_is_read_back() {
    let check = |fault: Fault, expected: bool| {
        let (store, faults, workdir) = faulty(fault);
        assert_eq!(write_part(&workdir, b"some rows").is_ok(), expected, "{fault:?}");
        assert_eq!(names(&store).len(), usize::from(expected), "{fault:?}");
        assert_eq!(faults.fired(), 1);
    };
    check(Fault::once(1, Effect::FailAfter).on(Operation::Finish), true);
    check(Fault::once(1, Effect::FailBefore).on(Operation::Finish), false);
    check(Fault::once(1, Effect::FailBefore).on(Operation::Upload), false);
    check(Fault::once(1, Effect::Torn).on(Operation::Write), false);
    check(Fault::once(1, Effect::FailAfter).on(Operation::Write), false);
}

#[test]
fn a_part_whose_end_was_not_answered_does_not_take_other_bytes_for_its_own() {
    let (store, _, workdir) = faulty(Fault::once(1, Effect::FailBefore).on(Operation::Finish));
    store.overwrite(&Key::new("named").unwrap(), b"other row");
    let mut part = workdir.part().unwrap();
    part.write_all(b"some rows").unwrap();
    let error = part.finish_named("named", 1).unwrap_err();
    assert!(matches!(error, ProtocolError::Store(StoreError::Unknown { .. })), "{error:?}");
}

#[test]
fn case_08_a_damaged_body_is_fetched_once_more_and_then_refused() {
    for effect in [Effect::FlippedBit, Effect::Torn] {
        let (_, faults, workdir) = faulty(Fault::once(1, effect).on(Operation::Open));
        let entry = write_part(&workdir, b"some rows").unwrap();
        assert_eq!(workdir.read_object(&entry).unwrap(), b"some rows");
        assert_eq!((faults.fired(), faults.calls_of(Operation::Open)), (1, 2));
        let (_, faults, workdir) = faulty(Fault::from(1, effect).on(Operation::Open));
        let entry = write_part(&workdir, b"some rows").unwrap();
        let error = workdir.read_object(&entry).unwrap_err();
        assert!(matches!(error, ProtocolError::Mismatch { .. }), "{error:?}");
        assert!(error.to_string().contains(&entry.key), "{error}");
        assert_eq!(faults.calls_of(Operation::Open), 2);
    }
}

#[test]
fn an_object_is_what_its_entry_says() {
    let (_, workdir) = memory();
    let good = write_part(&workdir, b"some rows").unwrap();
    let check = |change: fn(&mut ObjectEntry), expected: &str| {
        let mut entry = good.clone();
        change(&mut entry);
        let error = workdir.read_object(&entry).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(|e| e.bytes = 8, "length in bytes 9, its entry says 8");
    check(|e| e.bytes = 10, "length in bytes 9, its entry says 10");
    check(|e| e.bytes = u64::MAX, "length in bytes 9");
    check(|e| e.blake3 = "0".repeat(64), "its entry says 0000");
    check(|e| e.key = "absent".into(), "no such object");
    check(|e| e.key = "../absent".into(), "not a valid key");
}

#[test]
fn success_is_marked_once() {
    let (_, workdir) = memory();
    assert!(workdir.read_success().unwrap().is_none());
    for _ in 0..2 {
        workdir.mark_success(&json!({"manifests": {}})).unwrap();
    }
    assert_eq!(workdir.read_success().unwrap(), Some(json!({"manifests": {}})));
    let error = workdir.mark_success(&json!({"manifests": {"pack": "x"}})).unwrap_err();
    assert!(matches!(error, ProtocolError::Nondeterministic { .. }), "{error:?}");
}
