//! The `mellama` program: arguments in, one pipeline call, exit code out. No logic of its own.

mod arguments;
mod commands;
mod progress;
mod size;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use clap::Parser;
use mellama_pipeline::{Failure, Observer};
use signal_hook::consts::{SIGINT, SIGTERM};

use arguments::{Arguments, LogFormat};
use progress::Progress;

fn main() -> ExitCode {
    quiet_panics();
    let arguments = Arguments::parse();
    let how = arguments.how.clone();
    let work = || {
        signals().and_then(|stop| {
            threads(how.threads)?;
            how.cuda_libs.as_deref().map_or(Ok(()), mellama_pipeline::use_cuda_libraries)?;
            let progress = Progress::new(&how, stop);
            commands::dispatch(arguments, &progress).map_err(|failure| failure.signalled(progress.stopped()))
        })
    };
    // A panic is a bug of ours: exit 1, as the contract has it, its message already on standard error.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Failure::Failed("a bug: the message above says where; what was committed stays".into())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(how.log_format, &failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// A panic's message may hold text of a document: only its place is shown.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        // Standard error may be closed; the exit code still says it.
        let _ = writeln!(std::io::stderr().lock(), "panic at {place}; this is a bug, please report it with this line");
    }));
}

/// The first SIGINT or SIGTERM asks to stop; the second ends the process at once.
fn signals() -> Result<Arc<AtomicUsize>, Failure> {
    let (stop, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&again)))
            .and_then(|_| signal_hook::flag::register_usize(signal, Arc::clone(&stop), signal as usize))
            .map_err(|e| Failure::Failed(format!("signals: cannot be handled: {e}")))?;
    }
    Ok(stop)
}

fn threads(threads: Option<usize>) -> Result<(), Failure> {
    if threads == Some(0) {
        return Err(Failure::Policy("--threads 0: give at least 1".into()));
    }
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    builder.build_global().map_err(|e| Failure::Failed(format!("threads: cannot be started: {e}")))
}

fn complain(format: LogFormat, failure: &Failure) {
    let line = match format {
        LogFormat::Json => {
            serde_json::json!({"level": "error", "exit": failure.exit_code(), "message": failure.to_string()}).to_string()
        }
        LogFormat::Text => format!("error: {failure}"),
    };
    // Standard error may be closed; the exit code still says it.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
