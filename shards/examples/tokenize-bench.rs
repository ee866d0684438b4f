//! Times the tokenizer on texts in memory, or on long texts without a space. It checks nothing; what it prints does.
//!
//! `tokenize-bench TOKENIZER TEXTS.jsonl [--threads N] [--passes P] [--library]` reads one JSON text a line (`{"text": …}`),
//! loads the tokenizer and encodes all texts `P` times. The last line printed is JSON: seconds of loading and of each
//! pass, tokens, and the CRC-32 of all ids. `--library` encodes with the `tokenizers` crate instead.
//!
//! `tokenize-bench TOKENIZER --long` prints seconds for 1, 2, 4 and 8 MB of several texts without a space.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;
use std::time::Instant;

use mellama_shards::Tokenizer;
use rayon::prelude::*;
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Options {
    tokenizer: String,
    texts: Option<String>,
    threads: usize,
    passes: usize,
    library: bool,
}

/// One of the two encoders under the clock.
enum Timed {
    Own(Tokenizer),
    Library(Box<tokenizers::Tokenizer>),
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tokenize-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, Failure> {
    let usage = "expected TOKENIZER (TEXTS.jsonl | --long) [--threads N] [--passes P] [--library]";
    let mut arguments = std::env::args().skip(1);
    let tokenizer = arguments.next().ok_or(usage)?;
    let mut options = Options { tokenizer, texts: None, threads: 1, passes: 2, library: false };
    let mut long = false;
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse().ok()).ok_or(usage);
        match argument.as_str() {
            "--threads" => options.threads = number()?,
            "--passes" => options.passes = number()?,
            "--library" => options.library = true,
            "--long" => long = true,
            _ => options.texts = Some(argument),
        }
    }
    if long == options.texts.is_some() { Err(usage.into()) } else { Ok(options) }
}

fn run(options: &Options) -> Result<(), Failure> {
    let Some(path) = &options.texts else { return long_texts(&options.tokenizer) };
    let mut texts = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let value: Value = serde_json::from_str(&line?)?;
        texts.push(value["text"].as_str().ok_or("a line without text")?.to_owned());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    let (begin, cpu_begin) = (Instant::now(), cpu_seconds());
    let timed = open(&options.tokenizer, options.library)?;
    let load_seconds = begin.elapsed().as_secs_f64();
    let load_cpu_seconds = cpu_seconds() - cpu_begin;
    let (mut passes, mut cpu_passes) = (Vec::new(), Vec::new());
    let mut ids = Vec::new();
    for _ in 0..options.passes {
        drop(std::mem::take(&mut ids));
        let (begin, cpu_begin) = (Instant::now(), cpu_seconds());
        ids = pool.install(|| texts.par_iter().map(|text| encode(&timed, text)).collect::<Result<Vec<_>, _>>())?;
        passes.push(begin.elapsed().as_secs_f64());
        cpu_passes.push(cpu_seconds() - cpu_begin);
    }
    let mut checksum = crc32fast::Hasher::new();
    for id in ids.iter().flatten() {
        checksum.update(&id.to_le_bytes());
    }
    let tokens: usize = ids.iter().map(Vec::len).sum();
    let bytes: usize = texts.iter().map(String::len).sum();
    let encoder = match &timed {
        Timed::Own(tokenizer) => tokenizer.encoder().as_str(),
        Timed::Library(_) => "tokenizers",
    };
    println!(
        "{}",
        json!({"load_seconds": load_seconds, "seconds": passes, "load_cpu_seconds": load_cpu_seconds, "cpu_seconds": cpu_passes, "texts": texts.len(), "bytes": bytes, "tokens": tokens,
            "encoder": encoder, "threads": options.threads, "crc32": checksum.finalize()})
    );
    Ok(())
}

fn open(path: &str, library: bool) -> Result<Timed, Failure> {
    let bytes = std::fs::read(path)?;
    if !library {
        return Ok(Timed::Own(Tokenizer::from_bytes(path, &bytes)?));
    }
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(&bytes)?;
    tokenizer.set_encode_special_tokens(true);
    Ok(Timed::Library(Box::new(tokenizer)))
}

fn encode(timed: &Timed, text: &str) -> Result<Vec<u32>, Failure> {
    match timed {
        Timed::Own(tokenizer) => Ok(tokenizer.encode(text)?),
        Timed::Library(tokenizer) => Ok(tokenizer.encode_fast(text, false)?.get_ids().to_vec()),
    }
}

/// Processor time of all threads, where the system tells it (Linux, in hundredths of a second), else 0.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may hold spaces; the state is the first field behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn long_texts(path: &str) -> Result<(), Failure> {
    let tokenizer = Tokenizer::from_bytes(path, &std::fs::read(path)?)?;
    println!("| text | 1 MB | 2 MB | 4 MB | 8 MB |\n|---|---|---|---|---|");
    let samples = [
        ("one letter", "a"),
        ("letters", "acetylsalicylicacidhydroxychloroquine"),
        ("digits", "3141592653589793"),
        ("spaces", " "),
        ("line ends", "\n"),
        ("Chinese", "\u{60a3}\u{8005}\u{4e3b}\u{8bc9}\u{5934}\u{75db}\u{4e09}\u{5929}"),
        ("combining marks", "\u{301}"),
        ("bases", "GATTACAACGTTGCA"),
        ("hyphens", "-"),
    ];
    for (name, sample) in samples {
        let mut seconds = Vec::new();
        for megabytes in [1, 2, 4, 8] {
            let text = sample.repeat(megabytes * 1_000_000 / sample.len());
            let begin = Instant::now();
            let ids = tokenizer.encode(&text)?;
            seconds.push(format!("{:.3} s", begin.elapsed().as_secs_f64()));
            drop(ids);
        }
        println!("| {name} | {} |", seconds.join(" | "));
    }
    Ok(())
}
