//! Runs on the emulated card, passes recorded and repeated: the same bytes whatever the order of its threads, and after a stop.

use std::collections::BTreeMap;
use std::sync::Arc;

use mellama_storage::{Key, MemoryStore};
use serde_json::Value;

use super::samples::{adapter_job, clean_run, job, run_on, shape};
use crate::backend::{Backend, DeviceError, Machine};
use crate::engine::{MomentPrecision, Precision};
use crate::gpu::Gpu;
use crate::gpu::emulated::{Emulated, is_available};
use crate::gpu::recorded::Recorded;
use crate::hf::SpecialTokens;
use crate::shape::Shape;
use crate::trainer::{Base, Hooks, StepRecord, StepTiming, TrainJob, TrainSpec};

/// A card whose threads run in an order of this number.
#[derive(Debug)]
struct EmulatedCard {
    order: u64,
}

impl Machine for EmulatedCard {
    fn backend(&self, shape: &Shape, choices: Option<&Value>) -> Result<Box<dyn Backend<f32>>, DeviceError> {
        assert!(choices.is_none(), "the emulated card chooses nothing");
        Ok(Box::new(Gpu::new(Recorded::new(Emulated::new(self.order)), shape)?))
    }
}

/// Four steps of two micro-batches, with heads that kernels take; a checkpoint after two of them.
fn on_card(job: TrainJob, order: u64, moments: MomentPrecision) -> TrainJob {
    let shape = Shape { width: 128, heads: 2, kv_heads: 1, layers: 1, ..shape() };
    let spec = TrainSpec { precision: Precision::Bf16, moments, steps: Some(4), heldout_every: 0, replay_every: 3, ..job.spec };
    let base = Base::fresh(shape, 7, SpecialTokens { bos: Some(1), eos: Some(2) }, "test-shape").unwrap();
    TrainJob { spec, base, machine: Arc::new(EmulatedCard { order }), ..job }
}

struct StopAfter(u64, bool);

impl Hooks for StopAfter {
    fn on_step(&mut self, record: &StepRecord, _: &StepTiming) {
        self.1 |= record.step == self.0;
    }

    fn should_stop(&mut self) -> bool {
        self.1
    }
}

#[test]
fn runs_on_a_card_are_the_same_bytes_in_any_order_of_threads_and_after_a_stop() {
    if !is_available() {
        println!("not run: there is no C++ compiler");
        return;
    }
    let cases = [(job(), MomentPrecision::F32), (job(), MomentPrecision::Bf16), (adapter_job(), MomentPrecision::F32)];
    for (job, moments) in cases {
        let (outcome, objects) = clean_run(on_card(job.clone(), 0, moments));
        assert_eq!((outcome.step, outcome.resumed_from), (4, None));
        for stop in 0..3 {
            let store = MemoryStore::new("stopped");
            let run = |order: u64, hooks: &mut StopAfter| {
                run_on(Arc::new(store.clone()), on_card(job.clone(), order, moments), hooks).unwrap()
            };
            run(1 + stop, &mut StopAfter(stop, false));
            let again = run(11 + stop, &mut StopAfter(u64::MAX, false));
            assert!(again.resumed_from.is_some(), "nothing to go on from after a stop at step {stop}");
            // But for the checkpoint that the stop made off the schedule.
            let off_schedule = ["step-00000001/", "step-00000003/"];
            let mut found: BTreeMap<Key, Vec<u8>> = store.snapshot();
            found.retain(|key, _| !off_schedule.iter().any(|step| key.as_str().contains(step)));
            assert!(found == objects, "other bytes after a stop at step {stop}");
        }
    }
}
