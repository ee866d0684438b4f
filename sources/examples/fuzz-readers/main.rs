//! Seeded fuzzing of the readers: whatever the bytes, there are documents and rejects, the same for every cut of the stream,
//! in bounded time and memory.
//!
//! `fuzz-readers xml|csv|jsonl|tar|zip [--seconds N] [--seed S]` makes case after case; each follows from its number alone.
//! `--case N` runs one again and `--write FILE` keeps its bytes. Exit 0 where every case held, else 1 (2 for usage), or aborted, with the number of the
//! case. A panic, a case of more than twenty seconds and memory over the bound end it.

mod archives;
mod memory;
mod mutation;
mod random;
mod samples;

use std::io::{BufReader, Cursor};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mellama_sources::{
    Domain, Fields, Format, Formulas, Input, Item, Limits, Markers, ReadOptions, Sensitivity, SourceContext, SubArticles, Tables,
    open,
};

use random::Random;

/// The most that all cases together may bring the process to: a zstd window of 128 MiB, a record, and what an allocator keeps.
const RESIDENT_BYTES: u64 = 400 << 20;
/// Cases between two looks at it.
const CASES_PER_LOOK: u64 = 64;
const SECONDS_PER_CASE: u64 = 20;

/// The case that is running, and since when: seconds after the start, and one.
static CASE: AtomicU64 = AtomicU64::new(0);
static SINCE: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Xml,
    Csv,
    Jsonl,
    Tar,
    Zip,
}

struct Options {
    target: Target,
    seconds: u64,
    seed: u64,
    case: Option<u64>,
    write: Option<String>,
}

/// One input and how it is read.
struct Case {
    format: Format,
    object: &'static str,
    bytes: Vec<u8>,
    limits: Limits,
    read: ReadOptions,
    piece: usize,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("fuzz-readers: {message}");
            return ExitCode::from(2);
        }
    };
    let begin = Instant::now();
    std::thread::spawn(move || watch(begin));
    let (mut cases, mut bytes, mut items) = (0_u64, 0_u64, 0_u64);
    while options.case.is_some() || begin.elapsed() < Duration::from_secs(options.seconds) {
        let number = options.case.unwrap_or_else(|| random::mixed(options.seed.wrapping_add(cases)));
        CASE.store(number, Ordering::SeqCst);
        SINCE.store(begin.elapsed().as_secs() + 1, Ordering::SeqCst);
        let case = case(options.target, number);
        if let Some(path) = &options.write
            && let Err(error) = std::fs::write(path, &case.bytes)
        {
            eprintln!("fuzz-readers: {path}: {error}");
            return ExitCode::from(2);
        }
        match hold(&case) {
            Ok(count) => items += count,
            Err(message) => {
                eprintln!("fuzz-readers: case {number}: {} bytes of {}: {message}", case.bytes.len(), case.format);
                return ExitCode::FAILURE;
            }
        }
        cases += 1;
        bytes += case.bytes.len() as u64;
        if cases.is_multiple_of(CASES_PER_LOOK)
            && let Some(resident) = memory::highest().filter(|&resident| resident > RESIDENT_BYTES)
        {
            eprintln!("fuzz-readers: up to case {number}: {resident} bytes resident, bound {RESIDENT_BYTES}");
            return ExitCode::FAILURE;
        }
        if options.case.is_some() {
            break;
        }
    }
    SINCE.store(0, Ordering::SeqCst);
    let peak = memory::highest().map_or_else(|| "unknown".to_string(), |bytes| format!("{} MiB", bytes >> 20));
    let (target, seconds) = (options.target, begin.elapsed().as_secs_f64());
    println!("{target:?}: {cases} cases, {bytes} bytes, {items} items, {seconds:.0} s, highest memory {peak}: all held");
    ExitCode::SUCCESS
}

fn options() -> Result<Options, String> {
    let usage = "expected xml|csv|jsonl|tar|zip [--seconds N] [--seed S] [--case N] [--write FILE]";
    let mut arguments = std::env::args().skip(1);
    let target = match arguments.next().as_deref() {
        Some("xml") => Target::Xml,
        Some("csv") => Target::Csv,
        Some("jsonl") => Target::Jsonl,
        Some("tar") => Target::Tar,
        Some("zip") => Target::Zip,
        _ => return Err(usage.to_string()),
    };
    let mut options = Options { target, seconds: 60, seed: 1, case: None, write: None };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(usage)?;
        let number = || value.parse::<u64>().map_err(|_| usage.to_string());
        match name.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--case" => options.case = Some(number()?),
            "--write" => options.write = Some(value),
            _ => return Err(usage.to_string()),
        }
    }
    Ok(options)
}

/// Ends the process when a case does not end.
fn watch(begin: Instant) {
    loop {
        std::thread::park_timeout(Duration::from_secs(1));
        let since = SINCE.load(Ordering::SeqCst);
        if since > 0 && begin.elapsed().as_secs() + 1 > since + SECONDS_PER_CASE {
            eprintln!("fuzz-readers: case {}: more than {SECONDS_PER_CASE} seconds", CASE.load(Ordering::SeqCst));
            std::process::abort();
        }
    }
}

/// The case with this number.
fn case(target: Target, number: u64) -> Case {
    let mut random = Random::new(number);
    let formats: &[(Format, &'static str)] = match target {
        Target::Xml => &[(Format::PubmedXml, "a.xml"), (Format::Jats, "a.nxml")],
        Target::Csv => &[(Format::MimicNotes, "a.csv"), (Format::Csv, "a.csv")],
        Target::Jsonl => &[(Format::Jsonl, "a"), (Format::Redpajama, "a"), (Format::Pile, "a"), (Format::S2orc, "a")],
        Target::Tar => &[(Format::PmcTar, "a.tar"), (Format::MimicCxr, "a.tar"), (Format::Jats, "a.tar")],
        Target::Zip => &[(Format::MimicCxr, "a.zip")],
    };
    let (format, object) = *random.one_of(formats);
    let plain = match target {
        Target::Xml => mutation::mutated(&mut random, &samples::xml(format), samples::XML_WORDS),
        Target::Csv => mutation::mutated(&mut random, &samples::csv(), samples::CSV_WORDS),
        Target::Jsonl => mutation::mutated(&mut random, &samples::jsonl(), samples::JSON_WORDS),
        Target::Tar => archives::tar(&mut random),
        Target::Zip => archives::zip(&mut random),
    };
    let bytes = if target == Target::Zip { plain } else { archives::perhaps_compressed(&mut random, plain) };
    let read = ReadOptions {
        tables: *random.one_of(&[Tables::Drop, Tables::Caption, Tables::Linearize]),
        formulas: *random.one_of(&[Formulas::Drop, Formulas::Readable, Formulas::Tex]),
        citations: *random.one_of(&[Markers::Keep, Markers::Drop]),
        cross_references: *random.one_of(&[Markers::Keep, Markers::Drop]),
        footnotes: random.below(2) == 0,
        acknowledgements: random.below(2) == 0,
        appendices: random.below(2) == 0,
        references: random.below(2) == 0,
        sub_articles: *random.one_of(&[SubArticles::Drop, SubArticles::Separate]),
        ..ReadOptions::default()
    };
    let longest = *random.one_of(&[16, 70_000]);
    let piece = 1 + random.below(longest);
    Case { format, object, bytes, limits: limits(&mut random), read, piece }
}

/// The defaults, but for bombs of a few MiB in the place of 64, which would take most of the time; or some so low that they
/// are met.
fn limits(random: &mut Random) -> Limits {
    if random.below(3) > 0 {
        return Limits { expansion_free_bytes: 4 << 20, ..Limits::default() };
    }
    Limits {
        record_bytes: 1 + random.below(4_000) as u64,
        depth: 1 + random.below(12),
        elements: 1 + random.below(200),
        attributes: random.below(4),
        object_bytes: 1 + random.below(100_000) as u64,
        expansion_ratio: 1 + random.below(20) as u64,
        expansion_free_bytes: random.below(10_000) as u64,
        ..Limits::default()
    }
}

/// Reads a case in one piece and in many. The number of its items, or what did not hold.
fn hold(case: &Case) -> Result<u64, String> {
    let whole = read(case, Input::from_bytes(case.bytes.clone()))?;
    if !case.format.wants_random_access(case.object) {
        let stream = BufReader::with_capacity(case.piece, Cursor::new(case.bytes.clone()));
        let pieces = read(case, Input::Stream(Box::new(stream)))?;
        if pieces != whole {
            return Err(format!("other items in pieces of {} bytes", case.piece));
        }
    }
    Ok(whole.len() as u64)
}

fn read(case: &Case, input: Input) -> Result<Vec<Item>, String> {
    let context = SourceContext {
        name: "fuzz".to_string(),
        domain: Domain::Biomedical,
        sensitivity: Sensitivity::Open,
        licence: None,
        fields: Fields::default(),
        read: case.read.clone(),
        object: case.object.to_string(),
    };
    let mut reader = open(case.format, context, input, &case.limits).map_err(|error| error.to_string())?;
    let mut items = Vec::new();
    while let Some(item) = reader.next() {
        items.push(item.map_err(|error| error.to_string())?);
        if items.len() > 1_000_000 {
            return Err("items without end".to_string());
        }
    }
    if reader.next().is_some() { Err("an item behind the end".to_string()) } else { Ok(items) }
}
