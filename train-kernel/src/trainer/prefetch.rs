//! Batches of the next steps, read on a thread of their own while a step is computed.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use super::job::TrainError;
use super::step::Plan;
use crate::batch::Batch;

/// Steps whose batches wait; one more is being read.
const STEPS_AHEAD: usize = 1;

/// The batches of consecutive steps, from one step on.
pub(super) struct Prefetch {
    receiver: Receiver<Result<Vec<Batch>, TrainError>>,
}

impl Prefetch {
    /// Begins to read the batches of `first_step` and the steps after it. The thread ends after the last step, after an error,
    /// or when this is dropped.
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, plan: &'scope Plan<'scope>, first_step: u64) -> Self {
        let (sender, receiver) = sync_channel(STEPS_AHEAD);
        scope.spawn(move || {
            let mut step = first_step;
            while !plan.positions(step).is_empty() {
                let batches = plan.batches(plan.positions(step));
                let failed = batches.is_err();
                if sender.send(batches).is_err() || failed {
                    return;
                }
                step += 1;
            }
        });
        Self { receiver }
    }

    /// The batches of the next step.
    ///
    /// # Errors
    /// [`TrainError`] when they cannot be read or do not fit the model.
    ///
    /// # Panics
    /// After the last step or after an error: a mistake of the caller.
    pub(super) fn next(&self) -> Result<Vec<Batch>, TrainError> {
        self.receiver.recv().expect("batches are asked for once a step, and no further after an error")
    }
}
