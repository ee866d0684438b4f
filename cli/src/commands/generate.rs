//! `generate`: continues a prompt; the text goes to standard output as it comes.

use std::io::Write;

pub(crate) use mellama_pipeline::generation::Request;
use mellama_pipeline::generation::{self, Sampling};
use mellama_pipeline::{Failure, Observer};

use crate::arguments::How;
use crate::progress::Progress;

/// The most likely token, unless a temperature or a share says otherwise.
pub(crate) fn sampling(temperature: Option<f64>, top_p: Option<f64>, seed: u64) -> Sampling {
    match (temperature, top_p) {
        (None, None) => Sampling::Greedy,
        _ => Sampling::Draw { temperature: temperature.unwrap_or(1.0), top_p: top_p.unwrap_or(1.0), seed, text: 0 },
    }
}

pub(crate) fn run(how: &How, request: &Request<'_>, progress: &Progress) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    let mut failed = None;
    let outcome = generation::generate(request, &mut |bytes: &[u8]| {
        if !how.json {
            failed = output.write_all(bytes).and_then(|()| output.flush()).err();
        }
        failed.is_none() && progress.stopped().is_none()
    })?;
    if let Some(signal) = progress.stopped() {
        return Err(Failure::Stopped(signal));
    }
    if let Some(error) = failed {
        return Err(Failure::Storage(format!("standard output: {error}")));
    }
    let end = if how.json { serde_json::to_string(&outcome).expect("plain data") } else { String::new() };
    writeln!(output, "{end}").map_err(|e| Failure::Storage(format!("standard output: {e}")))
}
