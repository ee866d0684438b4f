//! Time and memory of the joins alone, on synthetic documents that are never materialized.
//!
//!     cargo run --release -p mellama-dedup --example join-bench -- DOCUMENTS MEMORY_MIB SCRATCH_FOLDER
//!
//! A tenth of the documents are exact copies, a tenth share three bands with another one, and one bucket in each band holds
//! a hundredth of all. Prints the seconds of each step, the peak of resident memory, and the bytes a document takes in each
//! structure. It compares no texts: there are none.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use mellama_dedup::{Arranger, Forest, Links, NO_ORDINAL, NormalForm, Profile, SketchSpec, join_band};

/// Bytes of a record of one band at rest: key and ordinal.
const RECORD_BYTES: u64 = 12;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [documents, memory, scratch] = arguments.as_slice() else {
        return Err("give the number of documents, the memory in MiB and a scratch folder".into());
    };
    let (documents, scratch) = (documents.parse::<u32>()?, PathBuf::from(scratch));
    let memory_bytes = memory.parse::<u64>()? << 20;
    let bands = SketchSpec::default().bands;

    let start = Instant::now();
    let mut arranger = Arranger::new(memory_bytes / 4 * 3, &scratch);
    for number in 0..documents {
        arranger.push(&profile(number), &Links::default())?;
    }
    let arranged = arranger.finish()?;
    println!("order: {:.1} s, {} exact copies", start.elapsed().as_secs_f64(), arranged.removals.len());

    let start = Instant::now();
    let left = memory_bytes.saturating_sub(8 * u64::from(documents));
    let mut forest = Forest::new(documents);
    let mut candidates = 0;
    for band in 0..bands {
        let ordinals = (0u32..).zip(&arranged.ordinals).filter(|(_, ordinal)| **ordinal != NO_ORDINAL);
        let records = ordinals.map(|(number, ordinal)| Ok::<_, io::Error>((key(number, band), *ordinal)));
        candidates += join_band(records, documents as usize, left / 2, &scratch, &mut |a, b| forest.join(a, b))?;
    }
    println!("join: {:.1} s for {bands} bands, {candidates} pairs proposed", start.elapsed().as_secs_f64());
    let clustered = forest.into_roots().into_iter().filter(|root| *root != NO_ORDINAL).count();
    println!("documents in clusters: {clustered}");
    println!("bytes a document: bands {}, forest {}, ordinals 4", RECORD_BYTES * u64::from(bands), size_of::<u32>());
    println!("peak resident memory: {} MiB of {} MiB", peak_mib(), memory_bytes >> 20);
    Ok(())
}

/// The finaliser of `SplitMix64`.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What number `number` is a copy of, itself for nine in ten.
fn original(number: u32) -> u32 {
    if number % 10 == 9 { number - 9 } else { number }
}

fn profile(number: u32) -> Profile {
    let (id, text) = (mix(u64::from(number)), mix(u64::from(original(number)) << 32));
    let wide = |value: u64| (u128::from(value) << 64 | u128::from(mix(value))).to_le_bytes();
    Profile {
        key: wide(id),
        release: None,
        source: 0,
        rank: 0,
        abridged: false,
        version: 1,
        words: (text % 1000) as u32 + 5,
        characters: text % 9000,
        quality: 0,
        exact: wide(text),
        group: 0,
        form: NormalForm::Plain,
        exact_only: false,
    }
}

fn key(number: u32, band: u32) -> u64 {
    if mix(u64::from(number) << 8 | u64::from(band)).is_multiple_of(100) {
        return u64::from(band);
    }
    let shared = number % 10 == 5 && band.is_multiple_of(5);
    let text = if shared { number - 1 } else { number };
    mix(u64::from(text) << 16 | u64::from(band))
}

/// `VmHWM` of this process, 0 where the system does not tell.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) >> 10
}
