//! The loop over steps: resume, measure, checkpoint, stop.

use std::sync::Arc;
use std::thread::Scope;
use std::time::{Duration, Instant};

use mellama_storage::Workdir;
use serde_json::Value;

use super::fit::engine_spec;
use super::heldout::Heldout;
use super::job::{Hooks, StepTiming, TrainError, TrainJob, TrainOutcome, check_layout};
use super::prefetch::Prefetch;
use super::record::{MetricLine, RewindRecord, StepRecord, decode_lines};
use super::save::{ADAPTERS, MODEL, OPTIMIZER, Saver};
use super::saving::Saving;
use super::spec::TrainSpec;
use super::step::{Done, Plan, State, UnderWay};
use crate::backend::DeviceError;
use crate::checkpoint::{
    CheckpointError, CheckpointManifest, Digests, Found, Piece, TensorSet, discard_after, newest_of, read_file,
};
use crate::engine::{Engine, State as Of, Tensors};
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
    let found = newest_of(workdir, job.kind, &|step, steps| step == total_steps || can_resume(&job.spec, step, steps))?;
    if let Some(found) = &found {
        check_same_run(&found.manifest, &digests, (total_steps, &job.sensitivity))?;
    }
    let plan = Plan {
        job: &job,
        data,
        order: TrainingOrder { sequences: data.len(), seed: job.seed },
        schedule: job.spec.schedule(total_steps),
        total_positions: job.spec.total_positions(data.len()),
        model,
    };
    if let Some(done) = found.as_ref().filter(|found| found.manifest.is_final()) {
        let lines = read_metrics(workdir, &done.manifest)?;
        return Ok(outcome(done, Some(total_steps), &lines));
    }
    let choices = found.as_ref().and_then(|found| found.manifest.choices.as_ref());
    let mut state = start(&plan, &base, choices)?;
    // Adapters are merged into the original weights; otherwise the engine's are all that is needed.
    let base = job.spec.lora.is_some().then_some(base);
    let saver = Saver { plan: &plan, workdir, digests, total_steps, base };
    let resumed_from = found.as_ref().map(|found| found.manifest.step);
    let lines = match &found {
        Some(found) => take(&saver, &mut state, &found.manifest)?,
        None => Vec::new(),
    };
    hooks.on_start(state.step, total_steps, state.engine.memory().total_bytes() as u64);
    std::thread::scope(|scope| {
        let saving = Saving::start(scope, &saver, &state.engine, found)?;
        let data = Prefetch::start(scope, &plan, state.step);
        let (save_wait, mark) = (Duration::ZERO, Instant::now());
        let mut run = Run { scope, saver: &saver, heldout, lines, state, saving, data, under_way: None, save_wait, mark };
        if let Err(error) = run.go(hooks) {
            // What is being written comes to its end and is told; the error is this one.
            let _ = run.saving.settle(hooks);
            return Err(run.ended_by(error));
        }
        let last = run.saving.last().expect("a run ends with a checkpoint or an error");
        Ok(outcome(last, resumed_from, &run.lines))
    })
}

struct Run<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    saver: &'scope Saver<'scope>,
    heldout: Option<&'scope Heldout<'scope>>,
    /// Records since the last scheduled checkpoint.
    lines: Vec<MetricLine>,
    state: State,
    saving: Saving,
    data: Prefetch,
    /// The last step that was asked for, until it is finished, with what it waited for.
    under_way: Option<(UnderWay, StepTiming)>,
    /// How long the last checkpoint kept the next step waiting.
    save_wait: Duration,
    /// When the last step ended; later by as long as was measured since.
    mark: Instant,
}

impl Run<'_, '_> {
    fn go(&mut self, hooks: &mut dyn Hooks) -> Result<(), TrainError> {
        let total_steps = self.saver.total_steps;
        if self.state.step == 0 && self.saver.plan.job.spec.heldout_every > 0 {
            self.measure(hooks)?;
        }
        while self.state.step < total_steps {
            if !self.step(hooks)? {
                continue;
            }
            let ahead = self.state.engine.works_ahead() && !self.is_boundary(self.state.step);
            if !ahead && !self.finish(hooks)? {
                continue;
            }
            let stop = hooks.should_stop() && self.state.step < total_steps;
            if ahead && (!stop || !self.finish(hooks)?) {
                continue;
            }
            if self.is_measured(self.state.step) {
                self.measure(hooks)?;
            }
            self.saving.poll(hooks)?;
            let stop = stop || (hooks.should_stop() && self.state.step < total_steps);
            if stop || self.saver.is_scheduled(self.state.step) {
                let began = Instant::now();
                self.saving.begin((self.saver, &mut self.state), &self.lines, hooks)?;
                self.save_wait = began.elapsed();
            }
            if stop || self.state.step == total_steps {
                return self.saving.finish(self.state.step, hooks);
            }
            if self.saver.is_scheduled(self.state.step) {
                self.lines.clear();
            }
        }
        Ok(())
    }

    /// The error that ends the run, with the newest checkpoint where the device failed.
    fn ended_by(&self, error: TrainError) -> TrainError {
        let TrainError::Device(source) = error else { return error };
        // Others are of the program, its libraries and the recipe, and going on meets them again.
        if !matches!(source, DeviceError::Lost { .. } | DeviceError::Driver { .. } | DeviceError::Full { .. }) {
            return TrainError::Device(source);
        }
        let last_good = self.saving.last().map(|found| found.manifest.folder());
        TrainError::Lost { step: self.state.step, last_good, source }
    }

    /// Whether something follows this step that needs it finished: a measurement, a checkpoint, the end.
    fn is_boundary(&self, step: u64) -> bool {
        self.is_measured(step) || self.saver.is_scheduled(step) || step == self.saver.total_steps
    }

    /// Asks for a step, and finishes the one before, if that is still under way. False when that one was a spike, and the run went
    /// back to the last checkpoint.
    fn step(&mut self, hooks: &mut dyn Hooks) -> Result<bool, TrainError> {
        let began = Instant::now();
        let batches = self.data.next()?;
        let waits =
            StepTiming { data_wait: began.elapsed(), save_wait: std::mem::take(&mut self.save_wait), ..StepTiming::default() };
        let asked = self.saver.plan.ask(&mut self.state, batches)?;
        if let Some(previous) = self.under_way.take() {
            match self.saver.plan.finish(&mut self.state, previous.0)? {
                Done::Step(record) => self.tell(*record, previous.1, hooks),
                Done::Rewind { step } => {
                    Plan::discard(&mut self.state, asked)?;
                    self.rewind(step, hooks)?;
                    return Ok(false);
                }
            }
        }
        let spike = self.spike_spec();
        self.under_way = Some((self.saver.plan.decide(&mut self.state, asked, spike), waits));
        Ok(true)
    }

    /// Finishes the step that is under way. False when it was a spike, and the run went back to the last checkpoint.
    fn finish(&mut self, hooks: &mut dyn Hooks) -> Result<bool, TrainError> {
        let Some((under_way, waits)) = self.under_way.take() else { return Ok(true) };
        match self.saver.plan.finish(&mut self.state, under_way)? {
            Done::Step(record) => {
                self.tell(*record, waits, hooks);
                Ok(true)
            }
            Done::Rewind { step } => {
                self.rewind(step, hooks)?;
                Ok(false)
            }
        }
    }

    fn tell(&mut self, record: StepRecord, waits: StepTiming, hooks: &mut dyn Hooks) {
        let ended = Instant::now();
        let total = ended.saturating_duration_since(std::mem::replace(&mut self.mark, ended));
        for warning in self.state.engine.take_warnings() {
            hooks.on_warning(&warning);
        }
        hooks.on_step(&record, &StepTiming { total, ..waits });
        self.lines.push(MetricLine::Step(record));
    }

    /// What is done about spikes: before the first scheduled checkpoint there is nothing to go back to, so they are skipped.
    fn spike_spec(&self) -> SpikeSpec {
        let spec = &self.saver.plan.job.spec;
        let nowhere = spec.spike.policy == SpikePolicy::Rewind && self.state.step < spec.checkpoint_every;
        if nowhere { SpikeSpec { policy: SpikePolicy::Skip, ..spec.spike } } else { spec.spike }
    }

    /// Loads the last scheduled checkpoint again (one that a stop made would make the result depend on the stop, and an earlier one
    /// in place of one that could not be written, on the failure), and remembers which data to pass over from there.
    fn rewind(&mut self, step: u64, hooks: &mut dyn Hooks) -> Result<(), TrainError> {
        let mut guard = std::mem::take(&mut self.state.guard);
        let saver = self.saver;
        let every = saver.plan.job.spec.checkpoint_every;
        let scheduled = |at: u64, _: &[u64]| at == step / every * every;
        let there = self.saving.is_complete(hooks)?;
        let found = newest_of(saver.workdir, saver.plan.job.kind, &scheduled)?.filter(|_| there);
        let found = found.ok_or(TrainError::NothingToRewind { step })?;
        self.lines = take(saver, &mut self.state, &found.manifest)?;
        let to_step = self.state.step;
        // Stops may have saved since; a later start must not take those for the newest.
        discard_after(saver.workdir, saver.plan.job.kind, to_step)?;
        self.saving.go_back(found);
        self.data = Prefetch::start(self.scope, saver.plan, to_step);
        guard.rewind(&self.state.guard, to_step, saver.plan.job.spec.max_bad_steps)?;
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
        let (plan, began) = (self.saver.plan, Instant::now());
        let State { engine, step, .. } = &mut self.state;
        let record = heldout.measure(engine, plan.job.spec.micro_batch_sequences, *step)?;
        self.mark += began.elapsed();
        hooks.on_heldout(&record);
        self.lines.push(MetricLine::Heldout(record));
        Ok(())
    }
}

/// Takes weights, moments and counters of a checkpoint; returns its records, where they belong to the next scheduled one: a
/// checkpoint off the schedule was made by a stop.
fn take(saver: &Saver<'_>, state: &mut State, manifest: &CheckpointManifest) -> Result<Vec<MetricLine>, TrainError> {
    let weights = if manifest.lora.is_some() { ADAPTERS } else { MODEL };
    read_tensors(saver.workdir, manifest, (weights, &[("", Of::Weights)]), &mut state.engine)?;
    let moments = [("first.", Of::First), ("second.", Of::Second)];
    read_tensors(saver.workdir, manifest, (OPTIMIZER, &moments), &mut state.engine)?;
    state.updates = manifest.updates;
    state.guard = manifest.guard.clone();
    state.step = manifest.step;
    if saver.is_scheduled(manifest.step) { Ok(Vec::new()) } else { Ok(read_metrics(saver.workdir, manifest)?) }
}

/// Whether a run may go on from a checkpoint after this step: one that a stop made needs the one of the schedule before it where
/// spikes go back to that, and its steps are done again where that one could not be written.
fn can_resume(spec: &TrainSpec, step: u64, steps: &[u64]) -> bool {
    let before = step / spec.checkpoint_every * spec.checkpoint_every;
    spec.spike.policy != SpikePolicy::Rewind || before == 0 || steps.contains(&before)
}

/// The state before the first step.
fn start(plan: &Plan<'_>, base: &Parameters<f32>, choices: Option<&Value>) -> Result<State, TrainError> {
    let spec = &plan.job.spec;
    let length = plan.data.sequence(0)?.tokens.len();
    let wanted = engine_spec(spec, plan.job.seed, plan.total_positions, length);
    let backend = plan.job.machine.backend(plan.model.shape(), choices)?;
    let mut engine = Engine::new(backend, Arc::clone(&plan.model), wanted)?;
    engine.load((Tensors::Base, Of::Weights), base);
    if let Some(lora) = &spec.lora {
        let adapters = Adapters::initialised(plan.model.shape(), lora.clone(), plan.job.seed)?;
        engine.load((Tensors::Adapters, Of::Weights), &adapters.parameters);
    }
    Ok(State { engine, guard: crate::guard::Guard::default(), updates: 0, step: 0 })
}

/// Refuses checkpoints of another run.
fn check_same_run(
    found: &CheckpointManifest,
    wanted: &Digests,
    (total_steps, sensitivity): (u64, &String),
) -> Result<(), TrainError> {
    let steps = (found.total_steps.to_string(), total_steps.to_string());
    let pairs = [
        ("steps", &steps.0, &steps.1),
        ("settings", &found.digests.settings, &wanted.settings),
        ("data", &found.digests.data, &wanted.data),
        ("base weights", &found.digests.base, &wanted.base),
        ("sensitivity", &found.sensitivity, sensitivity),
    ];
    for (what, there, here) in pairs {
        if there != here {
            let folder = found.folder();
            return Err(TrainError::OtherRun { folder, what, found: there.clone(), wanted: here.clone() });
        }
    }
    Ok(())
}

/// Puts the tensors of the files of one stem, each under its prefix, into the engine.
fn read_tensors(
    workdir: &Workdir,
    manifest: &CheckpointManifest,
    (stem, states): (&str, &[(&str, Of)]),
    engine: &mut Engine<f32>,
) -> Result<(), CheckpointError> {
    let mut files = TensorSet::open(workdir, manifest, stem)?;
    let trained = engine.trained();
    let layout = Arc::clone(engine.layout(trained));
    let prefixes: Vec<&str> = states.iter().map(|(prefix, _)| *prefix).collect();
    files.check_names(&prefixes, &layout)?;
    let mut values = Vec::new();
    for &(prefix, state) in states {
        for (index, tensor) in layout.tensors().iter().enumerate() {
            values.resize(tensor.length(), 0.0);
            files.read((prefix, tensor), &Piece::whole(tensor), &mut values)?;
            engine.load_tensor((trained, state), index, &values);
        }
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
