//! Every call to the store of a run fails in turn, once: before it took effect, after it did, half done, or as a server that
//! refuses. The store is in memory, for speed; a folder and a bucket have the same contract.

use std::sync::Arc;

use mellama_storage::{Effect, Fault, FaultStore, MemoryStore, Schedule, Store};

use crate::small_run::{SmallRun, is_whole, published};

#[test]
fn case_13_after_a_failure_of_any_call_of_a_run_a_rerun_gives_the_same_bytes() {
    let small = SmallRun::new();
    let clean = MemoryStore::new("clean");
    let counting = FaultStore::new(Arc::new(clean.clone()), Schedule::none());
    small.run(Arc::new(counting.clone())).expect("nothing fails");
    let (expected, calls) = (published(&clean), counting.calls());
    assert!(calls > 300 && expected.len() > 30, "{calls} calls, {} objects are too few to show anything", expected.len());
    let mut failed = 0;
    for call in 1..=calls {
        for effect in [Effect::FailBefore, Effect::FailAfter, Effect::Torn] {
            let memory = MemoryStore::new("disturbed");
            let faults = FaultStore::new(Arc::new(memory.clone()), Fault::once(call, effect));
            let outcome = small.run(Arc::new(faults.clone()));
            assert!(faults.fired() > 0, "call {call} is made");
            // Exit 1 would blame the program for what a store did.
            assert!(!outcome.as_ref().is_err_and(|failure| failure.exit_code() == 1), "call {call}, {effect:?}: {outcome:?}");
            failed += u64::from(outcome.is_err());
            let store: Arc<dyn Store> = Arc::new(memory.clone());
            assert!(is_whole(&store), "call {call}, {effect:?}: what is published is whole at any time");
            small.run(store).unwrap_or_else(|failure| panic!("call {call}, {effect:?}: rerun: {failure}"));
            assert!(published(&memory) == expected, "call {call}, {effect:?}");
        }
    }
    println!("{calls} calls, {} disturbed runs, {failed} of them failed and were run again", 3 * calls);
    assert!(failed > calls, "only {failed} runs failed, so little was tested");
}
