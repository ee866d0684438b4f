//! Records of retractions: their chain, what holds after them, every fault of the store, every flipped byte.

use super::*;
use crate::counts::{Counts, Tally};
use crate::error::StoreError;
use crate::fault::{Effect, Fault, FaultStore, Schedule};
use crate::memory::MemoryStore;
use crate::store::Store;
use crate::{Finding, Problem, TaskCommit};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;

const PLAN: &str = "plan-1";

fn part(workdir: &Workdir, stem: &str, bytes: &[u8]) -> Result<ObjectEntry, ProtocolError> {
    let mut part = workdir.part()?;
    part.write_all(bytes).map_err(|e| StoreError::from_io("part".into(), "writing", e))?;
    part.finish("shards/cpt", stem, "parquet", 1)
}

/// A run of one stage with three shards.
fn published() -> (MemoryStore, Workdir, Vec<ObjectEntry>) {
    let store = MemoryStore::new("work");
    let workdir = Workdir::new(Arc::new(store.clone()));
    workdir.freeze_plan(PLAN, &json!({"seed": 1})).unwrap();
    let objects: Vec<ObjectEntry> =
        (0..3).map(|n| part(&workdir, &format!("train-0000{n}"), format!("shard {n}").as_bytes()).unwrap()).collect();
    let counts = Counts { read: Tally::one(3), written: Tally::one(3), ..Counts::default() };
    let commit = TaskCommit {
        plan: PLAN.into(),
        stage: "publish".into(),
        task: 0,
        objects: objects.clone(),
        counts,
        facts: Value::Null,
        attempt: "a".into(),
    };
    workdir.commit_task(&commit).unwrap();
    let manifest = StageManifest {
        plan: PLAN.into(),
        stage: "publish".into(),
        tasks: 1,
        commits: vec![commit.digest()],
        objects: objects.clone(),
        counts,
        facts: Value::Null,
        attempt: "a".into(),
    };
    workdir.put_manifest(&manifest, &[commit]).unwrap();
    (store, workdir, objects)
}

/// Replaces the shards `gone` (or removes them) as a command would, with everything that it reads and writes.
fn retract(workdir: &Workdir, gone: &[(usize, Option<&str>)], what: &str) -> Result<RetractionOutcome, ProtocolError> {
    let before = workdir.read_retractions(PLAN)?;
    let manifest = workdir.effective_manifest(PLAN, "publish")?.expect("finished");
    let mut replaced = Vec::new();
    for (index, bytes) in gone {
        let old = manifest.objects[*index].clone();
        let new = bytes.map(|bytes| part(workdir, &old.key[11..22], bytes.as_bytes())).transpose()?;
        replaced.push(Replacement::object("publish", old, new));
    }
    let record = Retraction {
        plan: PLAN.into(),
        number: before.len() as u64,
        previous: before.last().map(Retraction::digest),
        replaced,
        facts: json!({"taken": what}),
        attempt: AttemptId::generate().to_string(),
    };
    let outcome = workdir.put_retraction(&record)?;
    workdir.delete_retracted(PLAN)?;
    Ok(outcome)
}

fn keys(workdir: &Workdir) -> Vec<String> {
    workdir.effective_manifest(PLAN, "publish").unwrap().unwrap().objects.into_iter().map(|entry| entry.key).collect()
}

fn findings(workdir: &Workdir) -> Vec<Finding> {
    workdir.verify(&mut |_| {}).unwrap().findings
}

#[test]
fn retractions_replace_and_remove_in_order_and_the_manifest_stays() {
    let (store, workdir, objects) = published();
    let manifest = workdir.read_manifest(PLAN, "publish").unwrap();
    retract(&workdir, &[(1, Some("shard 1 without"))], "a").unwrap();
    let once = keys(&workdir);
    assert_eq!((&once[0], &once[2]), (&objects[0].key, &objects[2].key));
    assert_ne!(once[1], objects[1].key);
    retract(&workdir, &[(1, Some("shard 1 without more")), (2, None)], "b").unwrap();
    assert_eq!(keys(&workdir).len(), 2);
    assert_eq!(workdir.read_manifest(PLAN, "publish").unwrap(), manifest);
    assert_eq!(findings(&workdir), []);
    assert_eq!(workdir.verify(&mut |_| {}).unwrap().unnamed, Vec::<String>::new());
    let there = store.snapshot();
    let is_there = |key: &str| there.contains_key(&Key::new(key).unwrap());
    assert!(!is_there(&objects[1].key) && !is_there(&objects[2].key) && !is_there(&once[1]), "what was replaced is gone");
    let records = workdir.read_retractions(PLAN).unwrap();
    assert_eq!(records[1].previous, Some(records[0].digest()));
}

#[test]
fn determinism_the_digest_is_of_everything_but_the_attempt() {
    let entry = |key: &str| ObjectEntry { key: key.into(), bytes: 1, blake3: "0".repeat(64), records: 1 };
    let record = Retraction {
        plan: PLAN.into(),
        number: 1,
        previous: Some("d".into()),
        replaced: vec![Replacement::object("publish", entry("a"), None)],
        facts: json!({"b": 1, "a": 2}),
        attempt: "1".into(),
    };
    let check = |name: &str, change: fn(&mut Retraction), same: bool| {
        let mut changed = record.clone();
        change(&mut changed);
        assert_eq!(changed.digest() == record.digest(), same, "{name}");
    };
    check("attempt", |r| r.attempt = "2".into(), true);
    check("order of facts", |r| r.facts = json!({"a": 2, "b": 1}), true);
    check("facts", |r| r.facts = json!({"a": 2}), false);
    check("previous", |r| r.previous = None, false);
    check("number", |r| r.number = 2, false);
    check("plan", |r| r.plan = "q".into(), false);
    check("stage", |r| r.replaced[0].stage = "pack".into(), false);
    check("old", |r| r.replaced[0].old.bytes = 2, false);
    check("new", |r| r.replaced[0].new = Some(r.replaced[0].old.clone()), false);
}

#[test]
fn what_is_replaced_and_still_there_is_a_finding_until_it_is_deleted() {
    let (store, workdir, objects) = published();
    retract(&workdir, &[(0, Some("without"))], "a").unwrap();
    store.overwrite(&Key::new(&*objects[0].key).unwrap(), b"shard 0");
    let replaced_by = "retractions/00000.json".to_owned();
    let expected = Finding { key: objects[0].key.clone(), offset: None, problem: Problem::Retracted { replaced_by } };
    assert_eq!(findings(&workdir), [expected]);
    assert_eq!(workdir.delete_retracted(PLAN).unwrap(), 1);
    assert_eq!(workdir.delete_retracted(PLAN).unwrap(), 0);
    assert_eq!(findings(&workdir), []);
}

#[test]
fn another_retraction_of_the_number_wins_and_the_same_one_is_content() {
    let (_, workdir, objects) = published();
    let record = |what: &str| Retraction {
        plan: PLAN.into(),
        number: 0,
        previous: None,
        replaced: vec![Replacement::object("publish", objects[0].clone(), None)],
        facts: json!({"taken": what}),
        attempt: AttemptId::generate().to_string(),
    };
    assert_eq!(workdir.put_retraction(&record("a")).unwrap(), RetractionOutcome::Recorded);
    assert_eq!(workdir.put_retraction(&record("a")).unwrap(), RetractionOutcome::Recorded);
    assert_eq!(workdir.put_retraction(&record("b")).unwrap(), RetractionOutcome::Overtaken);
    assert_eq!(workdir.read_retractions(PLAN).unwrap().len(), 1);
}

#[test]
fn a_record_of_absent_or_cut_objects_is_not_put() {
    let (store, workdir, objects) = published();
    let new = part(&workdir, "train-00000", b"without").unwrap();
    let record = Retraction {
        plan: PLAN.into(),
        number: 0,
        previous: None,
        replaced: vec![Replacement::object("publish", objects[0].clone(), Some(new.clone()))],
        facts: Value::Null,
        attempt: "a".into(),
    };
    store.overwrite(&Key::new(&*new.key).unwrap(), b"with");
    assert!(matches!(workdir.put_retraction(&record), Err(ProtocolError::Mismatch { .. })));
    store.delete(&Key::new(&*new.key).unwrap()).unwrap();
    assert!(matches!(workdir.put_retraction(&record), Err(ProtocolError::Store(StoreError::NotFound { .. }))));
    assert_eq!(workdir.read_retractions(PLAN).unwrap(), []);
}

#[test]
fn every_flipped_byte_of_a_record_is_found_and_a_missing_one_too() {
    let (store, workdir, _) = published();
    retract(&workdir, &[(0, Some("without"))], "a").unwrap();
    retract(&workdir, &[(1, None)], "b").unwrap();
    for number in 0..2 {
        let key = Key::new(retraction_key(number)).unwrap();
        let sound = store.read(&key, None, None).unwrap();
        for position in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[position] ^= 1 << (position % 8);
            store.overwrite(&key, &damaged);
            let error = workdir.read_retractions(PLAN).unwrap_err().to_string();
            // The usual remedy for a damaged record, deleting it, would lose the only name of the shards that hold.
            assert!(error.contains("never delete it") && error.contains("retractions/"), "{key} byte {position}: {error}");
            assert!(findings(&workdir).iter().any(|f| f.key == key.as_str()), "{key} byte {position}");
        }
        store.delete(&key).unwrap();
        assert!(!findings(&workdir).is_empty(), "{key} missing");
        assert_eq!(workdir.read_retractions(PLAN).is_err(), number == 0, "{key} missing");
        store.overwrite(&key, &sound);
    }
    assert_eq!(findings(&workdir), []);
}

#[test]
fn a_record_that_was_sealed_elsewhere_is_not_believed() {
    let (store, workdir, _) = published();
    retract(&workdir, &[(0, Some("without"))], "a").unwrap();
    let (first, second) = (Key::new(retraction_key(0)).unwrap(), Key::new(retraction_key(1)).unwrap());
    let mut record = workdir.read_retractions(PLAN).unwrap().remove(0);
    let check = |record: &Retraction, at: &Key, what: &str| {
        store.overwrite(at, &crate::sealed::encode(record).unwrap());
        let error = workdir.effective_manifest(PLAN, "publish").unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(findings(&workdir).iter().any(|finding| finding.key == at.as_str()), "{what}");
    };
    check(&record, &second, "number 0");
    (record.number, record.previous) = (1, Some("0".repeat(64)));
    check(&record, &second, "record before");
    store.delete(&second).unwrap();
    record.previous = workdir.read_retractions(PLAN).unwrap().first().map(Retraction::digest);
    check(&record, &second, "replaced object");
    store.delete(&second).unwrap();
    (record.number, record.previous, record.plan) = (0, None, "plan-2".into());
    check(&record, &first, "plan-2");
}

/// What lies in a store: bytes of the objects, and of the records everything but the attempt.
fn content(store: &MemoryStore) -> Vec<(String, Vec<u8>)> {
    let of = |(key, bytes): (Key, Vec<u8>)| {
        let digest = || crate::sealed::decode::<Retraction>(&bytes).expect("whole").digest().into_bytes();
        let bytes = if key.as_str().starts_with(RETRACTIONS) { digest() } else { bytes.clone() };
        (String::from(key), bytes)
    };
    store.snapshot().into_iter().map(of).collect()
}

#[test]
fn case_13_resume_after_a_failure_of_any_call_gives_the_same_bytes() {
    let whole = |store: Arc<dyn Store>| -> Result<(), ProtocolError> {
        let workdir = Workdir::new(store);
        // As the command: what was replaced before goes first; what is taken out already is not taken out again.
        workdir.delete_retracted(PLAN)?;
        if workdir.read_retractions(PLAN)?.is_empty() {
            retract(&workdir, &[(0, Some("without")), (2, None)], "a")?;
        }
        Ok(())
    };
    let undisturbed = |faults: Fault| {
        let (memory, ..) = published();
        let store = FaultStore::new(Arc::new(memory.clone()), faults);
        let result = whole(Arc::new(store.clone()));
        (memory, store, result)
    };
    let (memory, ..) = published();
    let counting = FaultStore::new(Arc::new(memory.clone()), Schedule::none());
    whole(Arc::new(counting.clone())).unwrap();
    let (expected, calls) = (content(&memory), counting.calls());
    assert!(calls > 10, "{calls} calls are too few to show anything");
    let mut failed = 0;
    for call in 1..=calls {
        for effect in [Effect::FailBefore, Effect::FailAfter, Effect::Torn, Effect::FlippedBit] {
            for fault in [Fault::once(call, effect), Fault::from(call, effect)] {
                let (memory, store, result) = undisturbed(fault);
                assert!(store.fired() > 0, "{fault:?}");
                failed += u64::from(result.is_err());
                let left = findings(&Workdir::new(Arc::new(memory.clone())));
                let is_left = |finding: &Finding| matches!(finding.problem, Problem::Retracted { .. });
                assert!(left.iter().all(is_left), "{fault:?}: {left:?}");
                whole(Arc::new(memory.clone())).unwrap_or_else(|error| panic!("{fault:?}: again: {error}"));
                assert_eq!(findings(&Workdir::new(Arc::new(memory.clone()))), [], "{fault:?}");
                assert!(content(&memory) == expected, "{fault:?}");
            }
        }
    }
    assert!(failed > calls, "only {failed} failed, so little was tested");
}

/// A run of one stage with a card.
fn with_card() -> (MemoryStore, Workdir, ObjectEntry) {
    let store = MemoryStore::new("work");
    let workdir = Workdir::new(Arc::new(store.clone()));
    workdir.freeze_plan(PLAN, &json!({"seed": 1})).unwrap();
    let mut part = workdir.part().unwrap();
    part.write_all(b"1 of 1").unwrap();
    let card = part.finish_named("README.md", 0).unwrap();
    let manifest = StageManifest {
        plan: PLAN.into(),
        stage: "publish".into(),
        tasks: 0,
        commits: Vec::new(),
        objects: vec![card.clone()],
        counts: Counts::default(),
        facts: Value::Null,
        attempt: "a".into(),
    };
    workdir.put_manifest(&manifest, &[]).unwrap();
    (store, workdir, card)
}

fn rewrite(workdir: &Workdir, old: ObjectEntry, text: &str) -> ObjectEntry {
    let before = workdir.read_retractions(PLAN).unwrap();
    let replacement = Replacement::text("publish", old, text.to_owned());
    let new = replacement.new.clone().unwrap();
    let record = Retraction {
        plan: PLAN.into(),
        number: before.len() as u64,
        previous: before.last().map(Retraction::digest),
        replaced: vec![replacement],
        facts: Value::Null,
        attempt: AttemptId::generate().to_string(),
    };
    assert_eq!(workdir.put_retraction(&record).unwrap(), RetractionOutcome::Recorded);
    new
}

#[test]
fn a_text_is_rewritten_in_its_place_by_whoever_finds_the_old_one() {
    let (store, workdir, card) = with_card();
    let key = Key::new("README.md").unwrap();
    let first = rewrite(&workdir, card, "0 of 1");
    // As if the end had come right after the record, and then after the old text was deleted.
    for left in [Some(b"1 of 1".as_slice()), Some(b"damaged"), None] {
        match left {
            Some(left) => store.overwrite(&key, left),
            None => store.delete(&key).unwrap(),
        }
        let found = findings(&workdir);
        assert!(matches!(&found[..], [Finding { problem: Problem::Rewritten { .. }, .. }]), "{found:?}");
        assert_eq!(workdir.delete_retracted(PLAN).unwrap(), 0);
        assert_eq!(store.read(&key, None, None).unwrap(), b"0 of 1");
        assert_eq!(findings(&workdir), []);
    }
    // The last one stands, and equal texts are no change.
    let second = rewrite(&workdir, first, "none of 1");
    workdir.delete_retracted(PLAN).unwrap();
    assert_eq!(store.read(&key, None, None).unwrap(), b"none of 1");
    let manifest = workdir.effective_manifest(PLAN, "publish").unwrap().unwrap();
    assert_eq!(manifest.objects, [second]);
    let mut history = Vec::new();
    workdir.manifest_history(PLAN, "publish", &mut |manifest| history.push(manifest.objects[0].bytes)).unwrap();
    assert_eq!(history, [6, 6, 9]);
    assert_eq!((findings(&workdir), workdir.verify(&mut |_| {}).unwrap().unnamed), (Vec::new(), Vec::new()));
}

#[test]
fn a_text_that_is_not_what_its_entry_says_is_not_believed() {
    let (store, workdir, card) = with_card();
    let mut replacement = Replacement::text("publish", card, "0 of 1".into());
    replacement.text = Some("2 of 1".into());
    let record = Retraction {
        plan: PLAN.into(),
        number: 0,
        previous: None,
        replaced: vec![replacement],
        facts: Value::Null,
        attempt: "a".into(),
    };
    store.overwrite(&Key::new(retraction_key(0)).unwrap(), &crate::sealed::encode(&record).unwrap());
    let error = workdir.delete_retracted(PLAN).unwrap_err().to_string();
    assert!(error.contains("text of"), "{error}");
    assert!(findings(&workdir).iter().any(|finding| finding.key == retraction_key(0)));
}
