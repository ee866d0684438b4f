//! Times signing alone, on one thread: texts in memory to sketches. `bench/dedup/head_to_head.py` runs it.
//!
//! `sign-bench [--repeat N] < LINES` reads JSON lines with a `text` from standard input, then sketches every text N times
//! with the default setting. Prints one line of JSON; seconds are those of the fastest round, without reading and parsing.
//! `cpu_seconds` are those of the processor, where the system tells them (Linux): on a busy machine they are the ones to compare.

use std::io::{self, BufRead};
use std::process::ExitCode;
use std::time::Instant;

use mellama_dedup::{NormalForm, SketchSpec, Sketcher};
use serde::Deserialize;

const USAGE: &str = "expected [--repeat N], N at least 1, and JSON lines on standard input";

#[derive(Deserialize)]
struct Line {
    text: String,
}

fn main() -> ExitCode {
    match repeat().and_then(run) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("sign-bench: {message}");
            ExitCode::from(2)
        }
    }
}

fn repeat() -> Result<u32, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => Ok(1),
        [flag, count] if flag == "--repeat" => count.parse().ok().filter(|&count| count > 0).ok_or(USAGE.into()),
        _ => Err(USAGE.into()),
    }
}

fn run(repeat: u32) -> Result<String, String> {
    let texts = texts()?;
    let sketcher = Sketcher::new(SketchSpec::default()).map_err(|error| error.to_string())?;
    let (mut least, mut least_cpu) = (f64::INFINITY, f64::INFINITY);
    let mut mixed = 0;
    for _ in 0..repeat {
        let (begin, begin_cpu) = (Instant::now(), cpu_seconds());
        mixed = texts.iter().fold(0, |mixed, text| mixed ^ first_key(&sketcher, text));
        let seconds = begin.elapsed().as_secs_f64();
        least = least.min(seconds);
        least_cpu = least_cpu.min(begin_cpu.zip(cpu_seconds()).map_or(seconds, |(from, to)| to - from));
    }
    let text_bytes: usize = texts.iter().map(String::len).sum();
    // The mixed keys keep the work from being left out, and show that two versions sign alike.
    Ok(format!(
        "{{\"documents\": {}, \"text_bytes\": {text_bytes}, \"keys\": \"{mixed:016x}\", \
         \"seconds\": {{\"signing\": {least:.6}}}, \"cpu_seconds\": {{\"signing\": {least_cpu:.6}}}}}",
        texts.len()
    ))
}

/// Time that this thread has had a processor.
fn cpu_seconds() -> Option<f64> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: u64 = line.split(' ').next()?.parse().ok()?;
    Some(nanoseconds as f64 / 1e9)
}

fn first_key(sketcher: &Sketcher, text: &str) -> u64 {
    sketcher.sketch(text, NormalForm::Plain).bands.first().copied().unwrap_or_default()
}

fn texts() -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    for (line, number) in io::stdin().lock().lines().zip(1..) {
        let line = line.map_err(|error| format!("line {number}: {error}"))?;
        // The message of the parser quotes text, so the place alone is told.
        let read: Line = serde_json::from_str(&line).map_err(|_| format!("line {number}: not JSON with a text"))?;
        texts.push(read.text);
    }
    Ok(texts)
}
