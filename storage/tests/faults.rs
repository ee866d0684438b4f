//! A small run of the commit protocol, disturbed at each of its calls in turn and run again: the published bytes are those of
//! an undisturbed run. Errors on a store in memory; the end of the process, without a word, on a folder.

use mellama_storage::{
    AttemptId, CommitOutcome, Counts, Effect, Fault, FaultStore, Key, LocalStore, MemoryStore, ObjectEntry, ProtocolError,
    Schedule, StageManifest, Store, StoreError, Tally, TaskCommit, Workdir, list_all, sealed,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Tasks a stage: enough to have a first, an inner and a last one.
const TASKS: u64 = 3;
/// The same where every call costs a process and its disk: one task passes through every kind of call.
const CHILD_TASKS: u64 = 1;

/// Two stages as every stage works: skip what is committed, write parts, commit, put the manifest; then mark success.
fn run(store: Arc<dyn Store>, tasks: u64) -> Result<(), ProtocolError> {
    let workdir = Workdir::new(store);
    let attempt = AttemptId::generate();
    workdir.freeze_plan("plan-1", &json!({"seed": 42}))?;
    let mut digests = BTreeMap::new();
    for stage in ["ingest", "pack"] {
        if let Some(manifest) = workdir.read_manifest("plan-1", stage)? {
            digests.insert(stage, manifest.digest());
            continue;
        }
        let commits: Vec<TaskCommit> =
            (0..tasks).map(|task| run_task(&workdir, stage, task, &attempt)).collect::<Result<_, _>>()?;
        let manifest = StageManifest {
            plan: "plan-1".into(),
            stage: stage.into(),
            tasks,
            commits: commits.iter().map(TaskCommit::digest).collect(),
            objects: commits.iter().flat_map(|commit| commit.objects.clone()).collect(),
            counts: commits.iter().map(|commit| commit.counts).sum(),
            facts: json!({"tasks": tasks}),
            attempt: attempt.to_string(),
        };
        workdir.put_manifest(&manifest, &commits)?;
        digests.insert(stage, manifest.digest());
    }
    workdir.mark_success(&json!({"manifests": digests}))
}

fn run_task(workdir: &Workdir, stage: &str, task: u64, attempt: &AttemptId) -> Result<TaskCommit, ProtocolError> {
    if let Some(commit) = workdir.read_commit("plan-1", stage, task)? {
        return Ok(commit);
    }
    let objects = write_part(workdir, stage, task)?;
    let read_back = workdir.read_object(&objects)?;
    let tally = Tally { documents: 1, bytes: read_back.len() as u64 };
    let commit = TaskCommit {
        plan: "plan-1".into(),
        stage: stage.into(),
        task,
        objects: vec![objects],
        counts: Counts { read: tally, written: tally, ..Counts::default() },
        facts: json!({"first_byte": read_back[0]}),
        attempt: attempt.to_string(),
    };
    let outcome = workdir.commit_task(&commit)?;
    assert!(matches!(outcome, CommitOutcome::Committed | CommitOutcome::AlreadyThere));
    Ok(commit)
}

fn write_part(workdir: &Workdir, stage: &str, task: u64) -> Result<ObjectEntry, ProtocolError> {
    let mut part = workdir.part()?;
    for line in 0..2 {
        writeln!(part, "{stage} {task} {line}").map_err(|e| StoreError::from_io("part".into(), "writing", e))?;
    }
    part.finish(&format!("{stage}/parts"), &format!("{task:05}"), "txt", 2)
}

/// What is published, by key: bytes of the data, and of the records everything but the attempt.
fn published(store: &dyn Store) -> BTreeMap<String, Vec<u8>> {
    list_all(store, "")
        .map(|object| {
            let key = object.expect("a listing without faults").key;
            let bytes = store.read(&key, None, None).expect("an object that was listed");
            let content = match key.segments().next() {
                Some("commits") => sealed::decode::<TaskCommit>(&bytes).expect("a whole commit").digest().into_bytes(),
                Some("manifests") => sealed::decode::<StageManifest>(&bytes).expect("a whole manifest").digest().into_bytes(),
                _ => bytes,
            };
            (String::from(key), content)
        })
        .collect()
}

/// Published bytes and number of calls of a run that nothing disturbs.
fn undisturbed(tasks: u64) -> (BTreeMap<String, Vec<u8>>, u64) {
    let memory = MemoryStore::new("undisturbed");
    let counting = FaultStore::new(Arc::new(memory.clone()), Schedule::none());
    run(Arc::new(counting.clone()), tasks).expect("nothing fails");
    assert_eq!(memory.snapshot().len() as u64, 2 + 2 * (2 * tasks + 1));
    (published(&memory), counting.calls())
}

fn is_whole(store: Arc<dyn Store>) -> bool {
    Workdir::new(store).verify(&mut |_| {}).expect("a listing without faults").is_ok()
}

#[test]
fn case_13_after_a_failure_of_any_call_a_rerun_gives_the_same_bytes() {
    let (expected, calls) = undisturbed(TASKS);
    assert!(calls > 50, "{calls} calls are too few to show anything");
    let mut failed_runs = 0;
    for call in 1..=calls {
        for effect in [Effect::FailBefore, Effect::FailAfter, Effect::Torn, Effect::FlippedBit] {
            for fault in [Fault::once(call, effect), Fault::from(call, effect)] {
                let memory = MemoryStore::new("disturbed");
                let faults = FaultStore::new(Arc::new(memory.clone()), fault);
                let result = run(Arc::new(faults.clone()), TASKS);
                assert!(faults.fired() > 0, "{fault:?}");
                failed_runs += u64::from(result.is_err());
                // A fault of the store is never taken for a bug of the stage or for another plan.
                let is_blamed = matches!(
                    result,
                    Err(ProtocolError::Nondeterministic { .. }
                        | ProtocolError::OtherPlan { .. }
                        | ProtocolError::Manifest { .. })
                );
                assert!(!is_blamed, "{fault:?}: {result:?}");
                assert!(is_whole(Arc::new(memory.clone())), "{fault:?}: what is published is whole at any time");
                run(Arc::new(memory.clone()), TASKS).unwrap_or_else(|error| panic!("{fault:?}: rerun: {error}"));
                assert!(published(&memory) == expected, "{fault:?}");
            }
        }
    }
    assert!(failed_runs > calls, "only {failed_runs} runs failed, so little was tested");
}

/// Where the child works, and what strikes it: a folder, a call number and "before" or "after".
const CHILD: &str = "MELLAMA_STORAGE_FAULT_CHILD";

/// Not a test of its own: the process that ends in the middle of the next test. Does nothing without the variable.
#[test]
fn child_that_ends_without_a_word() {
    let Ok(order) = std::env::var(CHILD) else {
        return;
    };
    let mut words = order.splitn(3, ' ');
    let call = words.next().and_then(|word| word.parse().ok()).expect("a call number");
    let effect = if words.next() == Some("before") { Effect::AbortBefore } else { Effect::AbortAfter };
    let store = LocalStore::open(words.next().expect("a folder")).expect("a folder that can be opened");
    run(Arc::new(FaultStore::new(Arc::new(store), Fault::once(call, effect))), CHILD_TASKS).expect("no error, but an end");
}

/// Runs the child and says whether it came to its end by itself.
fn child_finishes(folder: &Path, call: u64, moment: &str) -> bool {
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", "child_that_ends_without_a_word"])
        .env(CHILD, format!("{call} {moment} {}", folder.display()))
        .output()
        .expect("this program can be started");
    output.status.success()
}

#[test]
fn case_13_after_the_end_of_the_process_at_any_call_a_rerun_gives_the_same_bytes() {
    let (expected, calls) = undisturbed(CHILD_TASKS);
    for call in 1..=calls {
        for moment in ["before", "after"] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            assert!(!child_finishes(folder.path(), call, moment), "{moment} call {call}");
            let store = Arc::new(LocalStore::open(folder.path()).expect("a folder that can be opened"));
            assert!(is_whole(store.clone()), "{moment} call {call}");
            run(store.clone(), CHILD_TASKS).unwrap_or_else(|error| panic!("{moment} call {call}: rerun: {error}"));
            assert!(published(&*store) == expected, "{moment} call {call}");
            assert_eq!(temporary_files(folder.path()), 0, "{moment} call {call}");
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(child_finishes(folder.path(), calls + 1, "before"), "the calls counted are all there are");
}

fn temporary_files(folder: &Path) -> usize {
    std::fs::read_dir(folder.join(".mellama-tmp")).map_or(0, Iterator::count)
}

#[test]
fn case_04_runs_at_once_on_one_folder_give_the_same_bytes() {
    let (expected, _) = undisturbed(TASKS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                // A handle each, as processes have.
                let store = LocalStore::open(folder.path()).expect("a folder that can be opened");
                scope.spawn(move || run(Arc::new(store), TASKS))
            })
            .collect();
        for worker in workers {
            worker.join().expect("no worker panics").expect("every worker finds its output published");
        }
    });
    let store = LocalStore::open(folder.path()).expect("a folder that can be opened");
    assert!(published(&store) == expected);
    assert!(store.head(&Key::new("_SUCCESS").expect("a valid key")).is_ok());
    assert_eq!(temporary_files(folder.path()), 0);
}
