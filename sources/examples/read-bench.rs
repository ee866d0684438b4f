//! Times a reader alone: bytes in memory to documents, which are counted and dropped. `bench/readers.py` runs it.
//!
//! `read-bench FORMAT [--repeat N] [--two-threads] FILE…` reads every file N times, each as one object; with two threads one
//! decompresses and one reads. `read-bench inflate FILE…` decompresses only. Prints one line of JSON; seconds are those of
//! the reading, without that of the files.

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Instant;

use mellama_sources::{
    DecodedBlock, DecodedBlocks, Domain, Fields, Format, Input, Item, Limits, ReadOptions, Sensitivity, SourceContext, open,
};

const USAGE: &str = "expected FORMAT|inflate [--repeat N] [--two-threads] FILE…";
/// Blocks that wait between the two threads.
const BLOCKS_AHEAD: usize = 4;

struct Options {
    /// `None` decompresses only.
    format: Option<Format>,
    repeat: u32,
    two_threads: bool,
    files: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Counts {
    bytes: u64,
    documents: u64,
    text_bytes: u64,
    others: u64,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("read-bench: {message}");
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<Options, String> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().ok_or(USAGE)?;
    let format = if what == "inflate" { None } else { Some(what.parse::<Format>().map_err(|error| error.to_string())?) };
    let mut options = Options { format, repeat: 1, two_threads: false, files: Vec::new() };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--repeat" => options.repeat = arguments.next().and_then(|count| count.parse().ok()).ok_or(USAGE)?,
            "--two-threads" => options.two_threads = true,
            path => options.files.push(std::fs::read(path).map_err(|error| format!("{path}: {error}"))?),
        }
    }
    if options.files.is_empty() { Err(USAGE.to_string()) } else { Ok(options) }
}

fn run(options: &Options) -> Result<String, String> {
    let mut counts = Counts::default();
    let mut seconds = 0.0;
    for _ in 0..options.repeat {
        for file in &options.files {
            // A copy, for a reader owns its input; made before the clock runs.
            let input = Input::from_bytes(file.clone());
            let begin = Instant::now();
            match options.format {
                Some(format) => read(format, input, options.two_threads, &mut counts)?,
                None => inflate(input, &mut counts)?,
            }
            seconds += begin.elapsed().as_secs_f64();
        }
    }
    let Counts { bytes, documents, text_bytes, others } = counts;
    Ok(format!(
        "{{\"bytes\": {bytes}, \"documents\": {documents}, \"text_bytes\": {text_bytes}, \"others\": {others}, \"seconds\": {seconds:.6}}}"
    ))
}

fn read(format: Format, input: Input, two_threads: bool, counts: &mut Counts) -> Result<(), String> {
    let limits = Limits::default();
    let context = SourceContext {
        name: "bench".to_string(),
        domain: Domain::Biomedical,
        sensitivity: Sensitivity::Open,
        licence: None,
        fields: Fields::default(),
        read: ReadOptions::default(),
        object: "bench".to_string(),
    };
    let input = if two_threads { ahead(input, &limits) } else { input };
    let mut reader = open(format, context, input, &limits).map_err(|error| error.to_string())?;
    while let Some(item) = reader.next() {
        match item.map_err(|error| error.to_string())? {
            Item::Document(document) => {
                counts.documents += 1;
                counts.text_bytes += document.text.len() as u64;
            }
            Item::Reject(_) | Item::Withdrawal(_) => counts.others += 1,
        }
    }
    Ok(())
}

fn inflate(input: Input, counts: &mut Counts) -> Result<(), String> {
    let mut blocks = input.into_decoded(&Limits::default());
    loop {
        let block = blocks.next_block().map_err(|error| error.to_string())?;
        if block.bytes.is_empty() {
            return Ok(());
        }
        counts.bytes += block.bytes.len() as u64;
    }
}

/// Decompresses on a thread of its own.
fn ahead(input: Input, limits: &Limits) -> Input {
    let mut blocks = input.into_decoded(limits);
    let (sender, receiver) = sync_channel(BLOCKS_AHEAD);
    thread::spawn(move || {
        loop {
            let block = blocks.next_block();
            let is_last = block.as_ref().map_or(true, |block| block.bytes.is_empty());
            if sender.send(block).is_err() || is_last {
                return;
            }
        }
    });
    Input::Decoded(Box::new(Ahead(receiver)))
}

struct Ahead(Receiver<io::Result<DecodedBlock>>);

impl DecodedBlocks for Ahead {
    fn next_block(&mut self) -> io::Result<DecodedBlock> {
        self.0.recv().unwrap_or_else(|_| Err(io::Error::other("decompression ended before the object did")))
    }
}
