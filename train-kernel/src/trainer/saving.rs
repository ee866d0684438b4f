//! Checkpoints written while training goes on: the state is copied, a thread writes the copy.
//!
//! One checkpoint is written at a time, so there is one copy, allocated before the first step. A checkpoint of the schedule that
//! cannot be written does not stop the run.

use std::collections::TryReserveError;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::Scope;

use super::job::{CheckpointInfo, FailedSave, Hooks, TrainError};
use super::record::MetricLine;
use super::save::Saver;
use super::step::State;
use crate::backend::DeviceError;
use crate::checkpoint::{CheckpointError, CheckpointManifest, Found};
use crate::engine::{Engine, State as Of};
use crate::parameters::{Layout, Parameters};

/// The records between two checkpoints of the schedule, and the step of the later one.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) step: u64,
    pub(super) lines: Vec<MetricLine>,
}

/// What a checkpoint holds of the tensors that are trained.
pub(super) struct Tensors {
    pub(super) weights: Parameters<f32>,
    pub(super) moments: [Parameters<f32>; 2],
}

/// A copy of a run's state, and all else that its checkpoint holds.
pub(super) struct Snapshot {
    /// Its manifest, without objects.
    pub(super) manifest: CheckpointManifest,
    pub(super) tensors: Tensors,
    /// Records since the last checkpoint of the schedule.
    pub(super) lines: Vec<MetricLine>,
    /// Records that are to lie beside the checkpoints, where pruning does not reach them.
    pub(super) segments: Vec<Segment>,
}

impl Tensors {
    /// Room for the tensors of an engine.
    fn of(engine: &Engine<f32>) -> Result<Self, TryReserveError> {
        let layout = engine.layout(engine.trained());
        let room = |layout: &Arc<Layout>| {
            let mut data = Vec::new();
            data.try_reserve_exact(layout.length())?;
            // Written now, so that memory that the system only promised is missed here and not in the middle of a run.
            data.resize(layout.length(), 0.0);
            Ok::<_, TryReserveError>(Parameters { layout: Arc::clone(layout), data })
        };
        Ok(Self { weights: room(layout)?, moments: [room(layout)?, room(layout)?] })
    }

    fn take(&mut self, engine: &mut Engine<f32>) -> Result<(), DeviceError> {
        let trained = engine.trained();
        let [first, second] = &mut self.moments;
        for (state, to) in [(Of::Weights, &mut self.weights), (Of::First, first), (Of::Second, second)] {
            for index in 0..to.layout.tensors().len() {
                engine.read_tensor((trained, state), index, to.slice_mut(index))?;
            }
        }
        Ok(())
    }
}

/// Writes the checkpoints of one run, one at a time.
pub(super) struct Saving {
    sender: Sender<Box<Snapshot>>,
    receiver: Receiver<(Box<Snapshot>, Result<Found, CheckpointError>)>,
    /// The room of the copy; none while it is being written.
    room: Option<Tensors>,
    /// Records of steps of the schedule whose checkpoints are not there yet.
    pending: Vec<Segment>,
    /// The newest complete checkpoint.
    last: Option<Found>,
}

impl Saving {
    /// Starts the thread. `last` is the newest complete checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Copy`] when the machine has no room for the copy.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        saver: &'scope Saver<'scope>,
        engine: &Engine<f32>,
        last: Option<Found>,
    ) -> Result<Self, TrainError> {
        let bytes = 12 * engine.layout(engine.trained()).length() as u64;
        let room = Tensors::of(engine).map_err(|_| TrainError::Copy { bytes })?;
        let (sender, snapshots) = channel::<Box<Snapshot>>();
        let (results, receiver) = channel();
        scope.spawn(move || {
            for snapshot in snapshots {
                let result = saver.write(&snapshot);
                if results.send((snapshot, result)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { sender, receiver, room: Some(room), pending: Vec::new(), last })
    }

    /// The newest complete checkpoint.
    pub(super) fn last(&self) -> Option<&Found> {
        self.last.as_ref()
    }

    /// Takes an earlier checkpoint for the newest one: the run went back to it, and those after it are gone.
    pub(super) fn go_back(&mut self, to: Found) {
        self.last = Some(to);
    }

    /// Copies the state and has it written; waits for the checkpoint before. `lines` are the records since the last checkpoint of
    /// the schedule.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] when the checkpoint before failed for another reason than the store; [`TrainError::Device`] when
    /// the state cannot be read.
    pub(super) fn begin(
        &mut self,
        (saver, state): (&Saver<'_>, &mut State),
        lines: &[MetricLine],
        hooks: &mut dyn Hooks,
    ) -> Result<(), TrainError> {
        self.settle(hooks)?;
        let mut tensors = self.room.take().expect("the room is back once the checkpoint before is settled");
        if let Err(error) = tensors.take(&mut state.engine) {
            // Nothing is being written: nobody is to wait for it.
            self.room = Some(tensors);
            return Err(error.into());
        }
        if saver.is_scheduled(state.step) {
            self.pending.push(Segment { step: state.step, lines: lines.to_vec() });
        }
        let (manifest, segments) = (saver.manifest(state), self.pending.clone());
        let snapshot = Box::new(Snapshot { manifest, tensors, lines: lines.to_vec(), segments });
        self.sender.send(snapshot).expect("the thread lives as long as this");
        Ok(())
    }

    /// Takes note of a checkpoint that is complete by now, without waiting.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn poll(&mut self, hooks: &mut dyn Hooks) -> Result<(), TrainError> {
        match self.receiver.try_recv() {
            Ok((snapshot, result)) => {
                if let Some((step, error)) = self.note(*snapshot, result, hooks)? {
                    self.tell(step, &error, hooks);
                }
                Ok(())
            }
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => panic!("the thread that writes checkpoints ended"),
        }
    }

    /// Waits for the checkpoint that is being written, if there is one, and tells when training goes on without it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn settle(&mut self, hooks: &mut dyn Hooks) -> Result<(), TrainError> {
        match self.wait(hooks)? {
            None => Ok(()),
            Some((step, error)) => {
                self.tell(step, &error, hooks);
                Ok(())
            }
        }
    }

    /// Waits for the checkpoint that is being written; returns the step and the error of one that the store refused.
    fn wait(&mut self, hooks: &mut dyn Hooks) -> Result<Option<(u64, CheckpointError)>, TrainError> {
        if self.room.is_some() {
            return Ok(None);
        }
        let (snapshot, result) = self.receiver.recv().expect("the thread answers every checkpoint");
        self.note(*snapshot, result, hooks)
    }

    /// Waits for the last checkpoint, which has to be there.
    ///
    /// # Errors
    /// [`TrainError::Unsaved`] when it could not be written.
    pub(super) fn finish(&mut self, step: u64, hooks: &mut dyn Hooks) -> Result<(), TrainError> {
        match self.wait(hooks)? {
            None => Ok(()),
            Some((_, error)) => {
                let last_good = self.last.as_ref().map(|found| found.manifest.folder());
                Err(TrainError::Unsaved { step, last_good, source: Box::new(error) })
            }
        }
    }

    /// Waits for the checkpoint being written. False when checkpoints of the schedule are missing that should be there.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn is_complete(&mut self, hooks: &mut dyn Hooks) -> Result<bool, TrainError> {
        self.settle(hooks)?;
        Ok(self.pending.is_empty())
    }

    /// Takes the room back; returns the error of a checkpoint that the store refused.
    fn note(
        &mut self,
        snapshot: Snapshot,
        result: Result<Found, CheckpointError>,
        hooks: &mut dyn Hooks,
    ) -> Result<Option<(u64, CheckpointError)>, TrainError> {
        self.room = Some(snapshot.tensors);
        match result {
            Ok(found) => {
                self.pending.clear();
                hooks.on_checkpoint(&CheckpointInfo { step: found.manifest.step, folder: found.manifest.folder() });
                self.last = Some(found);
                Ok(None)
            }
            Err(error) if error.is_of_store() => Ok(Some((snapshot.manifest.step, error))),
            Err(error) => Err(error.into()),
        }
    }

    fn tell(&self, step: u64, error: &CheckpointError, hooks: &mut dyn Hooks) {
        let last_good = self.last.as_ref().map(|found| found.manifest.folder());
        hooks.on_failed_save(&FailedSave { step, last_good: last_good.as_deref(), error });
    }
}
