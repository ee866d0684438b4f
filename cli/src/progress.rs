//! Draws progress: a bar when standard error is a terminal, else a line now and then, or JSON lines. And carries the stop flag.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mellama_pipeline::{Interrupt, Observer, Signal, Unit};

use crate::arguments::{How, LogFormat};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The command line's observer.
pub(crate) struct Progress {
    mode: Mode,
    state: Mutex<State>,
    stop: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Quiet,
    Bar,
    Lines,
    Json,
}

struct State {
    stage: &'static str,
    unit: Unit,
    done: u64,
    total: u64,
    note: String,
    began: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// As the flags ask; `stop` holds a signal number once one arrived.
    pub(crate) fn new(how: &How, stop: Arc<AtomicUsize>) -> Progress {
        let mode = match how.log_format {
            _ if how.quiet => Mode::Quiet,
            LogFormat::Json => Mode::Json,
            LogFormat::Text if std::io::stderr().is_terminal() => Mode::Bar,
            LogFormat::Text => Mode::Lines,
        };
        let now = Instant::now();
        let state =
            State { stage: "", unit: Unit::Tasks, done: 0, total: 0, note: String::new(), began: now, last_line: now, bar: None };
        Progress { mode, state: Mutex::new(state), stop }
    }

    /// Says whether a signal asked to stop, to whoever waits for a server.
    pub(crate) fn interrupt(&self) -> Interrupt {
        let stop = Arc::clone(&self.stop);
        Interrupt::new(move || stop.load(Ordering::Relaxed) != 0)
    }

    fn line(&self, level: &str, stage: &str, text: &str) {
        let line = match self.mode {
            Mode::Json => serde_json::json!({"level": level, "stage": stage, "message": text}).to_string(),
            _ if stage.is_empty() => format!("{level}: {text}"),
            _ => format!("{stage:<14} {text}"),
        };
        // A closed standard error is no reason to stop a run.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    fn shown(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().expect("no holder panics");
        change(&mut state);
        if let Some(bar) = &state.bar {
            bar.set_length(state.total.max(state.done));
            bar.set_position(state.done);
            bar.set_message(state.note.clone());
        }
        if matches!(self.mode, Mode::Lines | Mode::Json) && state.last_line.elapsed() >= LINE_EVERY {
            state.last_line = Instant::now();
            let text = state.text();
            let stage = state.stage;
            drop(state);
            self.line("info", stage, &text);
        }
    }
}

impl State {
    fn text(&self) -> String {
        let amount = |n: u64| if self.unit == Unit::Bytes { crate::size::show(n) } else { n.to_string() };
        let unit = match self.unit {
            Unit::Bytes => "",
            Unit::Tasks => " tasks",
            Unit::Steps => " steps",
            Unit::Items => " items",
        };
        let of = if self.total > 0 { format!(" of {}", amount(self.total)) } else { String::new() };
        format!("{}{of}{unit} {}", amount(self.done), self.note).trim_end().to_owned()
    }
}

impl Observer for Progress {
    fn begin(&self, stage: &'static str, total: u64, unit: Unit) {
        let bar = (self.mode == Mode::Bar).then(|| {
            let counter = if unit == Unit::Bytes { "{bytes}/{total_bytes}" } else { "{pos}/{len}" };
            // Training tells its time left itself: what was done before this start took none of its time.
            let left = if unit == Unit::Steps { "" } else { " eta {eta}" };
            let template = format!("{{prefix:<14}} [{{bar:30}}] {counter} {{elapsed}}{left} {{wide_msg}}");
            let style = ProgressStyle::with_template(&template).expect("a fixed template").progress_chars("=> ");
            ProgressBar::new(total).with_style(style).with_prefix(stage)
        });
        let now = Instant::now();
        let mut state = self.state.lock().expect("no holder panics");
        *state = State { stage, unit, done: 0, total, note: String::new(), began: now, last_line: now, bar };
    }

    fn grow(&self, total: u64) {
        self.shown(|state| state.total = total);
    }

    fn advance(&self, units: u64) {
        self.shown(|state| state.done += units);
    }

    fn state(&self, text: &str) {
        self.shown(|state| text.clone_into(&mut state.note));
    }

    fn end(&self, stage: &'static str, summary: &str) {
        let mut state = self.state.lock().expect("no holder panics");
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        let seconds = state.began.elapsed().as_secs_f64();
        drop(state);
        if self.mode != Mode::Quiet {
            self.line("info", stage, &format!("{summary} ({seconds:.1} s)"));
        }
    }

    fn note(&self, text: &str) {
        if self.mode != Mode::Quiet {
            let stage = self.state.lock().expect("no holder panics").stage;
            self.line("info", stage, text);
        }
    }

    fn warn(&self, text: &str) {
        // Shown by the quiet too: what is wrong with a recipe, or with its data, is no progress.
        self.line("warning", "", text);
    }

    fn stopped(&self) -> Option<Signal> {
        match self.stop.load(Ordering::Relaxed) as i32 {
            signal_hook::consts::SIGINT => Some(Signal::Interrupt),
            signal_hook::consts::SIGTERM => Some(Signal::Terminate),
            _ => None,
        }
    }
}
