//! Every call to the store of a run meets each thing that can happen to it, once: it fails before it took effect or after, is done
//! by half, is slow, or is refused as a server or a full disk refuses. After a rerun the objects are those of an undisturbed run.

use std::sync::Arc;

use mellama_storage::{Effect, Fault, FaultStore, LocalStore, MemoryStore, Refusal, Schedule, Store};

use crate::small_run::{SmallRun, is_whole, published};

/// What happens to calls.
const EFFECTS: [Effect; 8] = [
    Effect::FailBefore,
    Effect::FailAfter,
    Effect::Torn,
    Effect::Slow,
    Effect::Refused(Refusal::SlowDown),
    Effect::Refused(Refusal::Conflict),
    Effect::Refused(Refusal::Expired),
    Effect::Refused(Refusal::DiskFull),
];

/// A run with one fault and its rerun without.
struct Disturbed<'a> {
    small: &'a SmallRun,
    expected: &'a std::collections::BTreeMap<String, Vec<u8>>,
}

impl Disturbed<'_> {
    /// Whether the disturbed run failed; its rerun never does.
    fn check(&self, store: &Arc<dyn Store>, call: u64, effect: Effect) -> bool {
        let faults = FaultStore::new(Arc::clone(store), Fault::once(call, effect));
        let outcome = self.small.run(Arc::new(faults.clone()));
        assert!(faults.fired() > 0, "call {call} is made");
        // Exit 1 would blame the program for what a store did.
        assert!(!outcome.as_ref().is_err_and(|failure| failure.exit_code() == 1), "call {call}, {effect:?}: {outcome:?}");
        assert!(is_whole(store), "call {call}, {effect:?}: what is published is whole at any time");
        self.small.run(Arc::clone(store)).unwrap_or_else(|failure| panic!("call {call}, {effect:?}: rerun: {failure}"));
        assert!(published(&**store) == *self.expected, "call {call}, {effect:?}");
        outcome.is_err()
    }
}

/// What an undisturbed run publishes, and its calls.
fn undisturbed(small: &SmallRun, clean: &Arc<dyn Store>) -> (std::collections::BTreeMap<String, Vec<u8>>, u64) {
    let counting = FaultStore::new(Arc::clone(clean), Schedule::none());
    small.run(Arc::new(counting.clone())).expect("nothing fails");
    let (expected, calls) = (published(&**clean), counting.calls());
    assert!(calls > 250 && expected.len() > 30, "{calls} calls, {} objects are too few to show anything", expected.len());
    (expected, calls)
}

#[test]
fn case_13_after_a_failure_of_any_call_of_a_run_a_rerun_gives_the_same_bytes() {
    let small = SmallRun::new();
    let clean: Arc<dyn Store> = Arc::new(MemoryStore::new("clean"));
    let (expected, calls) = undisturbed(&small, &clean);
    let disturbed = Disturbed { small: &small, expected: &expected };
    let mut failed = 0;
    for call in 1..=calls {
        for effect in EFFECTS {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new("disturbed"));
            failed += u64::from(disturbed.check(&store, call, effect));
        }
    }
    println!("{calls} calls, {} disturbed runs, {failed} of them failed and were run again", calls * EFFECTS.len() as u64);
    assert!(failed > 3 * calls, "only {failed} runs failed, so little was tested");
}

#[test]
fn case_13_after_a_failure_of_any_call_of_a_run_in_a_folder_a_rerun_gives_the_same_bytes() {
    let small = SmallRun::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = |name: &str| -> Arc<dyn Store> { Arc::new(LocalStore::open(folder.path().join(name)).expect("a new folder")) };
    let (expected, calls) = undisturbed(&small, &open("clean"));
    let disturbed = Disturbed { small: &small, expected: &expected };
    let mut failed = 0;
    for call in 1..=calls {
        // Another effect from call to call; in memory each call meets all of them.
        let effect = EFFECTS[call as usize % EFFECTS.len()];
        failed += u64::from(disturbed.check(&open("run"), call, effect));
        std::fs::remove_dir_all(folder.path().join("run")).expect("removed");
    }
    println!("{calls} calls, one disturbed run each, {failed} of them failed and were run again");
    assert!(failed > calls / 4, "only {failed} runs failed, so little was tested");
}
