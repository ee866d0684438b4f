//! The loop over steps: resume, measure, checkpoint, stop.

use std::sync::Arc;

use mellama_storage::Workdir;

use super::heldout::Heldout;
use super::job::{Hooks, TrainError, TrainJob, TrainOutcome, check_layout};
use super::record::{MetricLine, RewindRecord, decode_lines};
use super::save::Saver;
use super::spec::Kind;
use super::step::{Done, Plan, State};
use crate::checkpoint::{CheckpointError, CheckpointManifest, Digests, Found, newest, newest_of, open_tensors, read_file};
use crate::engine::{Engine, EngineSpec, State as Of, Tensors};
use crate::guard::{SpikePolicy, SpikeSpec};
use crate::lora::Adapters;
use crate::model::Model;
use crate::parameters::{Layout, Parameters};
use crate::sequence_source::{SequenceSource, TrainingOrder};

/// Trains, from the newest complete checkpoint of the work folder if there is one, until the last step or until the
/// hooks ask to stop. A finished run is not repeated.
///
/// # Errors
/// [`TrainError`]; whatever was checkpointed before stays and is where the next call goes on.
///
/// # Panics
/// Never: a loop over at least one step ends with a checkpoint or an error.
pub fn train(
    mut job: TrainJob,
    data: &dyn SequenceSource,
    heldout: Option<&Heldout<'_>>,
    workdir: &Workdir,
    hooks: &mut dyn Hooks,
) -> Result<TrainOutcome, TrainError> {
    job.spec.check()?;
    if data.is_empty() {
        return Err(TrainError::NoSequences);
    }
    let model = Arc::new(Model::new(job.base.model.shape.clone())?);
    check_layout(model.shape(), &job.base.model.parameters)?;
    let base = std::mem::replace(&mut job.base.model.parameters, Parameters::zeros(Arc::new(Layout::from_tensors([]))));
    let total_steps = job.spec.total_steps(data.len());
    let digests = Digests {
        settings: job.spec.digest(job.kind, job.seed, total_steps),
        data: job.data_digest.clone(),
        base: job.base.model.digest.clone(),
    };
    let found = newest(workdir, job.kind)?;
    if let Some(found) = &found {
        check_same_run(&found.manifest, &digests, total_steps)?;
    }
    let plan = Plan {
        job: &job,
        data,
        order: TrainingOrder { sequences: data.len(), seed: job.seed },
        schedule: job.spec.schedule(total_steps),
        total_positions: job.spec.total_positions(data.len()),
        model,
    };
    let saver = Saver { plan: &plan, workdir, digests, total_steps, base: None };
    if let Some(done) = found.as_ref().filter(|found| found.manifest.is_final()) {
        let lines = read_metrics(workdir, &done.manifest)?;
        return Ok(outcome(done, Some(total_steps), &lines));
    }
    let state = start(&plan, &base)?;
    // Adapters are merged into the original weights; otherwise the engine's are all that is needed.
    let base = job.spec.lora.is_some().then_some(base);
    let saver = Saver { base, ..saver };
    let mut run = Run { saver, heldout, lines: Vec::new(), state, last: found };
    let resumed_from = run.resume()?;
    hooks.on_start(run.state.step, total_steps);
    run.go(hooks)?;
    let last = run.last.as_ref().expect("a run ends with a checkpoint or an error");
    Ok(outcome(last, resumed_from, &run.lines))
}

struct Run<'a> {
    saver: Saver<'a>,
    heldout: Option<&'a Heldout<'a>>,
    /// Records since the last scheduled checkpoint.
    lines: Vec<MetricLine>,
    state: State,
    last: Option<Found>,
}

impl Run<'_> {
    /// Takes weights, moments and counters from the checkpoint found, if there is one.
    fn resume(&mut self) -> Result<Option<u64>, TrainError> {
        let Some(Found { manifest, .. }) = &self.last else {
            return Ok(None);
        };
        let manifest = manifest.clone();
        self.take(&manifest)?;
        Ok(Some(manifest.step))
    }

    /// Takes the state of a checkpoint.
    fn take(&mut self, manifest: &CheckpointManifest) -> Result<(), TrainError> {
        let workdir = self.saver.workdir;
        let weights = if manifest.lora.is_some() { "adapter_model.safetensors" } else { "model.safetensors" };
        let tensors = self.state.engine.trained();
        let parts = [
            (weights, "", Of::Weights),
            ("optimizer.safetensors", "first.", Of::First),
            ("optimizer.safetensors", "second.", Of::Second),
        ];
        for (file, prefix, state) in parts {
            read_tensors(workdir, manifest, (file, prefix), (tensors, state), &mut self.state.engine)?;
        }
        self.state.updates = manifest.updates;
        self.state.guard = manifest.guard.clone();
        self.state.step = manifest.step;
        // A checkpoint off the schedule was made by a stop; its records belong to the next scheduled one.
        if !self.saver.is_scheduled(manifest.step) {
            self.lines = read_metrics(workdir, manifest)?;
        }
        Ok(())
    }

    fn go(&mut self, hooks: &mut dyn Hooks) -> Result<(), TrainError> {
        if self.state.step == 0 && self.saver.plan.job.spec.heldout_every > 0 {
            self.measure(hooks)?;
        }
        while self.state.step < self.saver.total_steps {
            let spike = self.spike_spec();
            match self.saver.plan.run_step(&mut self.state, spike)? {
                Done::Rewind => {
                    self.rewind(hooks)?;
                    continue;
                }
                Done::Step(record) => {
                    hooks.on_step(&record);
                    self.lines.push(MetricLine::Step(*record));
                }
            }
            if self.is_measured(self.state.step) {
                self.measure(hooks)?;
            }
            let stop = hooks.should_stop() && self.state.step < self.saver.total_steps;
            if stop || self.saver.is_scheduled(self.state.step) {
                self.last = Some(self.saver.save(&mut self.state, &self.lines, hooks)?);
            }
            if stop {
                return Ok(());
            }
            if self.saver.is_scheduled(self.state.step) && self.state.step < self.saver.total_steps {
                self.lines.clear();
            }
        }
        Ok(())
    }

    /// What is done about spikes: before the first scheduled checkpoint there is nothing to go back to, so they are skipped.
    fn spike_spec(&self) -> SpikeSpec {
        let spec = &self.saver.plan.job.spec;
        let nowhere = spec.spike.policy == SpikePolicy::Rewind && self.state.step < spec.checkpoint_every;
        if nowhere { SpikeSpec { policy: SpikePolicy::Skip, ..spec.spike } } else { spec.spike }
    }

    /// Loads the last scheduled checkpoint again (one that a stop made would make the result depend on the stop), and remembers
    /// which data to pass over from there.
    fn rewind(&mut self, hooks: &mut dyn Hooks) -> Result<(), TrainError> {
        let mut guard = std::mem::take(&mut self.state.guard);
        let (saver, step) = (&self.saver, self.state.step);
        let scheduled = |at: u64| at <= step && saver.is_scheduled(at);
        let found = newest_of(saver.workdir, saver.plan.job.kind, &scheduled)?;
        let found = found.ok_or(TrainError::NothingToRewind { step })?;
        self.lines.clear();
        self.take(&found.manifest)?;
        let to_step = self.state.step;
        guard.rewind(&self.state.guard, to_step, self.saver.plan.job.spec.max_bad_steps)?;
        if let Some(&spike) = guard.spikes.last() {
            let record = RewindRecord { spike, to_step };
            hooks.on_rewind(&record);
            self.lines.push(MetricLine::Rewind(record));
        }
        self.state.guard = guard;
        Ok(())
    }

    /// Whether held-out loss is measured after this many steps.
    fn is_measured(&self, step: u64) -> bool {
        let every = self.saver.plan.job.spec.heldout_every;
        step == self.saver.total_steps || (every > 0 && step.is_multiple_of(every))
    }

    fn measure(&mut self, hooks: &mut dyn Hooks) -> Result<(), TrainError> {
        let Some(heldout) = self.heldout else {
            return Ok(());
        };
        let plan = self.saver.plan;
        let State { engine, step, .. } = &mut self.state;
        let record = heldout.measure(engine, plan.job.spec.micro_batch_sequences, *step)?;
        hooks.on_heldout(&record);
        self.lines.push(MetricLine::Heldout(record));
        Ok(())
    }
}

/// The state before the first step.
fn start(plan: &Plan<'_>, base: &Parameters<f32>) -> Result<State, TrainError> {
    let spec = &plan.job.spec;
    let length = plan.data.sequence(0)?.tokens.len();
    let micro = spec.micro_batch_sequences.min(spec.batch_sequences).min(plan.total_positions);
    let wanted = EngineSpec {
        precision: spec.precision,
        recompute: spec.recompute,
        ..EngineSpec::train(micro as usize, length).with_lora(spec.lora.clone())
    };
    let mut engine = Engine::on_cpu(Arc::clone(&plan.model), wanted)?;
    engine.load((Tensors::Base, Of::Weights), base);
    if let Some(lora) = &spec.lora {
        let adapters = Adapters::initialised(plan.model.shape(), lora.clone(), plan.job.seed)?;
        engine.load((Tensors::Adapters, Of::Weights), &adapters.parameters);
    }
    Ok(State { engine, guard: crate::guard::Guard::default(), updates: 0, step: 0 })
}

/// Refuses checkpoints of another run.
fn check_same_run(found: &CheckpointManifest, wanted: &Digests, total_steps: u64) -> Result<(), TrainError> {
    let steps = (found.total_steps.to_string(), total_steps.to_string());
    let pairs = [
        ("steps", &steps.0, &steps.1),
        ("settings", &found.digests.settings, &wanted.settings),
        ("data", &found.digests.data, &wanted.data),
        ("base weights", &found.digests.base, &wanted.base),
    ];
    for (what, there, here) in pairs {
        if there != here {
            let folder = found.folder();
            return Err(TrainError::OtherRun { folder, what, found: there.clone(), wanted: here.clone() });
        }
    }
    Ok(())
}

fn read_tensors(
    workdir: &Workdir,
    manifest: &CheckpointManifest,
    (file, prefix): (&str, &str),
    into: (Tensors, Of),
    engine: &mut Engine<f32>,
) -> Result<(), CheckpointError> {
    let mut tensors = open_tensors(workdir, manifest, file)?;
    let layout = Arc::clone(engine.layout(into.0));
    let mut values = Vec::new();
    for (index, tensor) in layout.tensors().iter().enumerate() {
        values.resize(tensor.length(), 0.0);
        let read = tensors.read(&format!("{prefix}{}", tensor.name), &tensor.shape, &mut values);
        read.map_err(|source| CheckpointError::Tensors { folder: manifest.folder(), source })?;
        engine.load_tensor(into, index, &values);
    }
    Ok(())
}

fn read_metrics(workdir: &Workdir, manifest: &CheckpointManifest) -> Result<Vec<MetricLine>, CheckpointError> {
    let bytes = read_file(workdir, manifest, "metrics.jsonl")?;
    let key = format!("{}/metrics.jsonl", manifest.folder());
    decode_lines(&bytes).map_err(|error| CheckpointError::Content { key, problem: error.to_string() })
}

fn outcome(last: &Found, resumed_from: Option<u64>, lines: &[MetricLine]) -> TrainOutcome {
    let manifest = &last.manifest;
    let folder = manifest.folder();
    let model_folder = match manifest.lora {
        None => Some(folder.clone()),
        Some(_) => manifest.entry("merged/config.json").map(|_| format!("{folder}/merged")),
    };
    let step = |line: &MetricLine| {
        if let MetricLine::Step(record) = line { Some(record.clone()) } else { None }
    };
    let heldout = |line: &MetricLine| {
        if let MetricLine::Heldout(record) = line { Some(record.clone()) } else { None }
    };
    TrainOutcome {
        step: manifest.step,
        total_steps: manifest.total_steps,
        resumed_from,
        folder,
        model_folder,
        manifest_digest: last.digest.clone(),
        last_step: lines.iter().rev().find_map(step),
        last_heldout: lines.iter().rev().find_map(heldout),
        skipped_steps: manifest.guard.skipped.len() as u64,
    }
}

impl Saver<'_> {
    /// Whether a checkpoint belongs after this many steps whether or not the run is asked to stop.
    pub(super) fn is_scheduled(&self, step: u64) -> bool {
        step > 0 && (step == self.total_steps || step.is_multiple_of(self.plan.job.spec.checkpoint_every))
    }

    /// The folder of metrics, beside the checkpoints so that pruning leaves them.
    pub(super) fn metrics_key(kind: Kind, step: u64) -> String {
        format!("metrics/{}-{step:08}.jsonl", kind.as_str())
    }
}
