//! A machine that works ahead: the next step is asked for before the last one's loss is read, and nothing else is different.

use std::sync::Arc;

use mellama_storage::{MemoryStore, Workdir};
use serde_json::Value;

use super::guards::{self, spiky};
use super::samples::{adapter_job, clean_run, job};
use crate::backend::{Backend, Cpu, DeviceError, Machine};
use crate::guard::SpikePolicy;
use crate::shape::Shape;
use crate::trainer::{NoHooks, TrainJob, train};

/// The processor, saying that it works ahead.
#[derive(Debug)]
struct Ahead;

impl Machine for Ahead {
    fn backend(&self, shape: &Shape, choices: Option<&Value>) -> Result<Box<dyn Backend<f32>>, DeviceError> {
        assert!(choices.is_none(), "the processor chooses nothing");
        Ok(Box::new(Cpu::working_ahead(shape)))
    }
}

#[test]
fn steps_that_are_read_one_late_are_the_same_bytes() {
    for job in [job(), adapter_job()] {
        let (outcome, objects) = clean_run(job.clone());
        let ahead = clean_run(TrainJob { machine: Arc::new(Ahead), ..job });
        assert!(ahead.0 == outcome && ahead.1 == objects);
    }
}

#[test]
fn spikes_are_met_alike_when_they_are_seen_one_step_late() {
    let data = guards::data();
    for policy in [SpikePolicy::Log, SpikePolicy::Clip, SpikePolicy::Skip, SpikePolicy::Rewind] {
        let run = |job: TrainJob| {
            let store = MemoryStore::new("spikes");
            let outcome = train(job, &data, None, &Workdir::new(Arc::new(store.clone())), &mut NoHooks).unwrap();
            (outcome, store.snapshot())
        };
        let expected = run(spiky(policy));
        assert!(expected.1.values().any(|bytes| String::from_utf8_lossy(bytes).contains("\"spike\"")), "{policy:?}: no spike");
        assert!(run(TrainJob { machine: Arc::new(Ahead), ..spiky(policy) }) == expected, "{policy:?}");
    }
}
