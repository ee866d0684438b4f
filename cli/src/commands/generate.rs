//! `generate`: continues a prompt; the text goes to standard output as it comes.

use std::io::Write;
use std::path::Path;

use mellama_pipeline::{Failure, Observer, generation};

use crate::arguments::How;
use crate::progress::Progress;

pub(crate) fn run(
    how: &How,
    checkpoint: &Path,
    prompt: &str,
    max_tokens: usize,
    tokenizer: Option<&Path>,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    let mut failed = None;
    let request = generation::Request { checkpoint, prompt, max_tokens, tokenizer };
    let outcome = generation::generate(&request, &mut |bytes: &[u8]| {
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
