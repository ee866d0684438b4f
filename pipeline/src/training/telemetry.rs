//! What a training run tells while it works: the progress line, one JSON object a step with its speed, and `TensorBoard` events.
//!
//! Times lie in objects of their own, which no record names: `metrics/KIND-STEP.timed-DIGEST.jsonl` and
//! `metrics/tensorboard/KIND/`. They are written every minute and when a checkpoint is complete, by a thread of their own; what cannot be written is
//! told and passed over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mellama_storage::{Held, Interrupt, Workdir, list_all};
use mellama_train::Shape;
use mellama_train::backend::product_rate;
use mellama_train::checkpoint::publish;
use mellama_train::planner::TokenFlops;
use mellama_train::trainer::{
    CheckpointInfo, FailedSave, HeldoutRecord, Hooks, Kind, MeanLoss, RewindRecord, StepRecord, StepTiming,
};
use serde::Serialize;

use super::events::EventFile;
use crate::failure::chain;
use crate::layout::{self, timed_steps};
use crate::observer::Observer;

/// How long what was told waits to be written where no checkpoint comes first.
const FLUSH_EVERY: Duration = Duration::from_mins(1);
/// Steps whose time says how much is left.
const RECENT_STEPS: usize = 32;

/// A step with its speed: one line of `metrics/KIND-STEP.timed-DIGEST.jsonl`.
#[derive(Debug, Clone, Serialize)]
struct TimedStep {
    #[serde(flatten)]
    record: StepRecord,
    /// Loss by domain of the sources.
    domains: BTreeMap<String, MeanLoss>,
    /// When it ended, in seconds since 1970.
    time: f64,
    /// How long it took, waiting included.
    seconds: f64,
    data_wait_seconds: f64,
    save_wait_seconds: f64,
    tokens_per_second: f64,
    /// Model FLOPs utilization as the `PaLM` paper counts it, a share of `peak_flops_per_second`.
    mfu_palm: f64,
    /// The same by 6 N.
    mfu_6n: f64,
    /// What products of matrices reach on this machine, measured when the run began.
    peak_flops_per_second: f64,
    /// Memory laid out for model, optimizer and activations.
    memory_bytes: u64,
    /// Most memory that the process has had; none where the system does not say.
    resident_bytes: Option<u64>,
}

/// A held-out measurement and when it was made.
#[derive(Debug)]
struct TimedHeldout {
    record: HeldoutRecord,
    time: f64,
}

/// What is trained, as far as it is told of.
pub(crate) struct Told<'a> {
    pub kind: Kind,
    pub shape: &'a Shape,
    /// Parameters of the adapters; none when all weights are trained.
    pub adapters: Option<u64>,
    /// Tokens of a sequence.
    pub length: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Domain of each source by its name.
    pub domains: BTreeMap<String, String>,
}

/// The hooks of a training stage.
pub(crate) struct Telemetry<'a> {
    observer: &'a dyn Observer,
    kind: Kind,
    domains: BTreeMap<String, String>,
    flops: TokenFlops,
    peak: f64,
    memory_bytes: u64,
    total_steps: u64,
    recent: VecDeque<Duration>,
    steps: Vec<TimedStep>,
    heldout: Vec<TimedHeldout>,
    flushed: Instant,
    stopped: bool,
    /// A checkpoint was written since the stop was asked for.
    saved: bool,
    checkpoint_every: u64,
    writer: Writer,
    /// Calls to stores are not given up between the first step and the last checkpoint, which a signal asks for.
    interrupt: &'a Interrupt,
    held: Option<Held>,
}

impl<'a> Telemetry<'a> {
    /// Of one stage.
    pub(crate) fn new(observer: &'a dyn Observer, workdir: &Workdir, (interrupt, told): (&'a Interrupt, Told<'_>)) -> Self {
        let flops = match told.adapters {
            None => TokenFlops::of(told.shape, told.length),
            Some(parameters) => TokenFlops::of_adapters(told.shape, told.length, parameters),
        };
        Self {
            observer,
            kind: told.kind,
            domains: told.domains,
            flops,
            peak: 0.0,
            memory_bytes: 0,
            total_steps: 0,
            recent: VecDeque::with_capacity(RECENT_STEPS),
            steps: Vec::new(),
            heldout: Vec::new(),
            flushed: Instant::now(),
            stopped: false,
            saved: false,
            checkpoint_every: told.checkpoint_every.max(1),
            writer: Writer::start(workdir.clone()),
            interrupt,
            held: None,
        }
    }

    fn timed(&self, record: &StepRecord, timing: &StepTiming) -> TimedStep {
        let seconds = timing.total.as_secs_f64().max(1e-9);
        let speed = record.tokens as f64 / seconds;
        let share = |flops: u64| speed * flops as f64 / self.peak.max(1.0);
        TimedStep {
            domains: by_domain(record, &self.domains),
            time: now(),
            seconds,
            data_wait_seconds: timing.data_wait.as_secs_f64(),
            save_wait_seconds: timing.save_wait.as_secs_f64(),
            tokens_per_second: speed,
            mfu_palm: share(self.flops.palm),
            mfu_6n: share(self.flops.six_n),
            peak_flops_per_second: self.peak,
            memory_bytes: self.memory_bytes,
            resident_bytes: resident_bytes(),
            record: record.clone(),
        }
    }

    fn remaining(&self, steps_done: u64) -> Duration {
        let sum: Duration = self.recent.iter().sum();
        let left = self.total_steps.saturating_sub(steps_done) as f64;
        Duration::from_secs_f64(sum.as_secs_f64() / self.recent.len().max(1) as f64 * left)
    }

    /// Writes what was told up to a checkpoint.
    fn flush(&mut self, before: u64) {
        let steps: Vec<TimedStep> = self.steps.extract_if(.., |timed| timed.record.step < before).collect();
        let heldout: Vec<TimedHeldout> = self.heldout.extract_if(.., |timed| timed.record.steps_done <= before).collect();
        let last_step = steps.iter().map(|timed| timed.record.step + 1).max();
        let step = last_step.max(heldout.iter().map(|timed| timed.record.steps_done).max()).unwrap_or(0);
        self.flushed = Instant::now();
        let times = steps.iter().map(|timed| timed.time - timed.seconds).chain(heldout.iter().map(|timed| timed.time));
        let began = times.fold(f64::INFINITY, f64::min);
        if began.is_infinite() {
            return;
        }
        let kind = self.kind.as_str();
        let mut lines = Vec::new();
        for timed in &steps {
            serde_json::to_writer(&mut lines, timed).expect("numbers and names are JSON, and a vector takes any bytes");
            lines.push(b'\n');
        }
        let events = event_file(began, &steps, &heldout);
        let mut objects = vec![(layout::event_file(kind, step, &events), events)];
        if !lines.is_empty() {
            objects.push((timed_steps(kind, step, &lines), lines));
        }
        self.writer.send(Work::Put(objects));
        self.warn_of_losses();
    }

    fn warn_of_losses(&self) {
        self.writer.problems.try_iter().for_each(|problem| self.observer.warn(&problem));
    }
}

impl Drop for Telemetry<'_> {
    /// Waits for what is still to be written.
    fn drop(&mut self) {
        // What a run that ended with an error told is written too.
        self.flush(u64::MAX);
        if self.stopped && !self.saved {
            // A store that did not take the checkpoint need not be waited for.
            self.held = None;
        }
        self.writer.finish();
        self.warn_of_losses();
    }
}

/// What the writing thread is to do.
enum Work {
    /// Publish objects.
    Put(Vec<(String, Vec<u8>)>),
    /// Delete those of a kind after a step: the run went back.
    DiscardAfter(&'static str, u64),
}

/// A thread that writes, so that no step waits for a bucket.
struct Writer {
    sender: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    problems: Receiver<String>,
}

impl Writer {
    fn start(workdir: Workdir) -> Self {
        let (sender, work) = channel();
        let (told, problems) = channel();
        let thread = std::thread::spawn(move || {
            while let Ok(next) = work.recv() {
                // Nobody listens any more only when the stage is over.
                if !do_work(&workdir, next, &|problem| drop(told.send(problem))) {
                    // Each try at a store in trouble takes minutes: what has queued up meanwhile is not tried.
                    let dropped = work.try_iter().count();
                    drop((dropped > 0).then(|| told.send(format!("metrics/: {dropped} more are not tried"))));
                }
            }
        });
        Self { sender: Some(sender), thread: Some(thread), problems }
    }

    fn send(&self, work: Work) {
        // The thread lives as long as this, unless it panicked, which its end tells.
        let _ = self.sender.as_ref().map(|sender| sender.send(work));
    }

    fn finish(&mut self) {
        self.sender = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// False when the store refused.
fn do_work(workdir: &Workdir, work: Work, tell: &dyn Fn(String)) -> bool {
    match work {
        Work::Put(objects) => {
            for (key, bytes) in objects {
                if let Err(error) = publish(workdir, &key, 1, &bytes) {
                    tell(format!("{key}: the speeds of its steps are lost: {}", chain(&error)));
                    return false;
                }
            }
        }
        Work::DiscardAfter(kind, step) => {
            for object in list_all(&**workdir.store(), "metrics/") {
                let deleted = object.and_then(|object| match layout::telemetry_step(object.key.as_str(), kind) {
                    Some(found) if found > step => workdir.store().delete(&object.key),
                    _ => Ok(()),
                });
                if let Err(error) = deleted {
                    tell(format!("metrics/: speeds of {kind} after step {step} may be there twice: {}", chain(&error)));
                    return false;
                }
            }
        }
    }
    true
}

impl Hooks for Telemetry<'_> {
    fn on_start(&mut self, first_step: u64, total_steps: u64, arena_bytes: u64) {
        self.held = Some(self.interrupt.hold());
        self.observer.grow(total_steps);
        self.observer.advance(first_step);
        self.total_steps = total_steps;
        self.memory_bytes = arena_bytes;
        // Steps that were told of and never saved are done again.
        self.writer.send(Work::DiscardAfter(self.kind.as_str(), first_step));
        if first_step > 0 {
            self.observer.note(&format!("going on from step {first_step} of {total_steps}"));
        }
        self.peak = product_rate();
    }

    fn on_warning(&mut self, line: &str) {
        self.observer.warn(line);
    }

    fn on_step(&mut self, record: &StepRecord, timing: &StepTiming) {
        if self.recent.len() == RECENT_STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back(timing.total);
        let timed = self.timed(record, timing);
        let loss = record.loss.map_or("no loss".to_owned(), |loss| format!("loss {loss:.3}"));
        let left = in_words(self.remaining(record.step + 1));
        self.observer.state(&format!("{loss}, {:.0} tokens/s, {left} left", timed.tokens_per_second));
        self.observer.advance(1);
        self.steps.push(timed);
        if self.flushed.elapsed() > FLUSH_EVERY {
            // No object reaches over a checkpoint that a later start may go back to.
            let done = record.step + 1;
            self.flush(done / self.checkpoint_every * self.checkpoint_every);
            self.flush(done);
        }
    }

    fn on_heldout(&mut self, record: &HeldoutRecord) {
        let parts = record.domains.iter().filter_map(|(domain, mean)| Some(format!("{domain} {:.3}", mean.loss?)));
        if let Some(loss) = record.all.loss {
            let parts: Vec<String> = parts.collect();
            self.observer.note(&format!("held out after step {}: loss {loss:.3} ({})", record.steps_done, parts.join(", ")));
        }
        self.heldout.push(TimedHeldout { record: record.clone(), time: now() });
    }

    fn on_rewind(&mut self, record: &RewindRecord) {
        let spike = record.spike;
        self.observer.warn(&format!(
            "step {}: gradient norm {:.3} above {:.3}: back to step {}, passing over the data up to the spike",
            spike.place.step, spike.norm, spike.threshold, record.to_step
        ));
        self.steps.retain(|timed| timed.record.step < record.to_step);
        self.heldout.retain(|timed| timed.record.steps_done <= record.to_step);
        self.writer.send(Work::DiscardAfter(self.kind.as_str(), record.to_step));
    }

    fn on_checkpoint(&mut self, info: &CheckpointInfo) {
        self.flush(info.step);
        if self.stopped {
            self.saved = true;
            self.observer.note(&format!("saved {} (step {} of {})", info.folder, info.step, self.total_steps));
        }
    }

    fn on_failed_save(&mut self, failed: &FailedSave<'_>) {
        let last_good =
            failed.last_good.map_or("there is none yet".to_owned(), |folder| format!("the last good one is {folder}"));
        self.observer.warn(&format!(
            "the checkpoint after step {} could not be written: {}; {last_good}; training goes on",
            failed.step,
            chain(failed.error)
        ));
    }

    fn should_stop(&mut self) -> bool {
        if self.observer.stopped().is_some() && !self.stopped {
            self.stopped = true;
            self.observer.note("stopping after this step, and saving");
        }
        self.stopped
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Most memory that this process has had, where the system tells (`VmHWM` of Linux).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Sums of the sources' losses by their domains; sources without one are left out.
fn by_domain(record: &StepRecord, domains: &BTreeMap<String, String>) -> BTreeMap<String, MeanLoss> {
    let mut sums: BTreeMap<String, (f64, u64)> = BTreeMap::new();
    for (source, mean) in &record.sources {
        let Some(domain) = domains.get(source) else { continue };
        let entry = sums.entry(domain.clone()).or_default();
        entry.0 += mean.loss.unwrap_or(f64::NAN) * mean.tokens as f64;
        entry.1 += mean.tokens;
    }
    sums.into_iter().map(|(domain, (sum, tokens))| (domain, MeanLoss::of(sum, tokens))).collect()
}

fn event_file(began: f64, steps: &[TimedStep], heldout: &[TimedHeldout]) -> Vec<u8> {
    let mut file = EventFile::new(began);
    for timed in steps {
        let record = &timed.record;
        let mut scalars = vec![
            ("train/learning_rate".to_owned(), Some(record.learning_rate)),
            ("train/loss".to_owned(), record.loss),
            ("train/gradient_norm".to_owned(), record.gradient_norm),
            ("train/adapter_norm".to_owned(), record.adapter_norm),
            ("speed/tokens_per_second".to_owned(), Some(timed.tokens_per_second)),
            ("speed/mfu_palm".to_owned(), Some(timed.mfu_palm)),
            ("speed/mfu_6n".to_owned(), Some(timed.mfu_6n)),
            ("speed/data_wait_seconds".to_owned(), Some(timed.data_wait_seconds)),
            ("speed/save_wait_seconds".to_owned(), Some(timed.save_wait_seconds)),
        ];
        scalars.extend(timed.domains.iter().map(|(domain, mean)| (format!("train/loss/{domain}"), mean.loss)));
        let present = scalars.iter().filter_map(|(tag, value)| Some((tag.as_str(), (*value)?)));
        file.scalars((timed.time, record.step), present);
    }
    for timed in heldout {
        let record = &timed.record;
        let mut scalars = vec![("heldout/loss".to_owned(), record.all.loss)];
        scalars.extend(record.domains.iter().map(|(domain, mean)| (format!("heldout/loss/{domain}"), mean.loss)));
        let present = scalars.iter().filter_map(|(tag, value)| Some((tag.as_str(), (*value)?)));
        file.scalars((timed.time, record.steps_done), present);
    }
    file.into_bytes()
}

/// `3 d 4 h`, `2 h 5 min`, `3 min 20 s` or `12 s`.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min {} s", seconds % 60),
        () => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::in_words;

    #[test]
    fn time_left_is_told_in_two_units() {
        let check = |seconds: u64, expected: &str| assert_eq!(in_words(Duration::from_secs(seconds)), expected);
        check(12, "12 s");
        check(200, "3 min 20 s");
        check(7500, "2 h 5 min");
        check(273_600, "3 d 4 h");
    }
}
