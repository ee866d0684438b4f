//! Time and memory of the training order alone, on synthetic token counts: no token exists, and no table is written.
//!
//!     cargo run --release -p mellama-pipeline --example mix-bench -- DOCUMENTS MEMORY_MIB SCRATCH_FOLDER
//!
//! Documents are divided like the corpus of `recipes/me-llama-corpus.toml`: 53,000,000 of them fill 129,000,000,000 tokens at
//! 15:1:4, with three passes over literature and notes. Other numbers are scaled. It proves every quota, and that one document
//! a source at most is cut; then every prefix of the sequences' interleaving.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mellama_pipeline::draws::Draws;
use mellama_shards::RunPlace;
use mellama_shards::interleave::Interleave;
use mellama_shards::mixture::{DOMAIN_NAMES, Mixture, MixtureSpec, SourceSupply, Total, Unit, plan_mixture};
use mellama_shards::order::Run;
use mellama_shards::prefix::PrefixCheck;

/// Documents at which the total is the paper's.
const PAPER_DOCUMENTS: u64 = 53_000_000;
const PAPER_TOKENS: u64 = 129_000_000_000;
/// Documents that are pushed together: those of a token object.
const OBJECT_DOCUMENTS: u64 = 20_000;

/// A synthetic source: thousandths of all documents, mean of its documents' tokens, passes allowed.
struct Made {
    name: &'static str,
    domain: usize,
    thousandths: u64,
    mean: u64,
    max_epochs: u32,
}

const SOURCES: [Made; 4] = [
    Made { name: "pmc", domain: 0, thousandths: 39, mean: 13_000, max_epochs: 4 },
    Made { name: "abstracts", domain: 0, thousandths: 378, mean: 290, max_epochs: 4 },
    Made { name: "notes", domain: 1, thousandths: 93, mean: 450, max_epochs: 4 },
    Made { name: "web", domain: 2, thousandths: 490, mean: 1_000, max_epochs: 1 },
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [documents, memory, scratch] = arguments.as_slice() else {
        return Err("give the number of documents, the memory in MiB and a scratch folder".into());
    };
    let (documents, scratch) = (documents.parse::<u64>()?, PathBuf::from(scratch));
    let memory_bytes = memory.parse::<u64>()? << 20;
    let supplies: Vec<SourceSupply> = SOURCES.iter().enumerate().map(|(source, made)| supply(source, made, documents)).collect();
    let total = u64::try_from(u128::from(PAPER_TOKENS) * u128::from(documents) / u128::from(PAPER_DOCUMENTS))?;
    let spec = MixtureSpec { total: Total::Tokens(total), weights: [15, 1, 4], unit: Unit::Tokens, sequence_length: 4096 };
    let mixture = plan_mixture(&spec, &supplies)?;
    println!("{documents} documents, {} tokens: {:?}", mixture.total, mixture.quotas);
    let start = Instant::now();
    let mut placements = 0;
    for domain in 0..DOMAIN_NAMES.len() {
        placements += order(&mixture, domain, documents, memory_bytes, &scratch)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("order: {placements} placements in {seconds:.1} s, {:.2} million a second", placements as f64 / seconds / 1e6);
    interleave(&mixture)?;
    println!("peak resident memory: {} MiB of {} MiB", peak_mib(), memory_bytes >> 20);
    Ok(())
}

/// Orders one domain and proves its quotas. Returns the number of its placements.
fn order(mixture: &Mixture, domain: usize, documents: u64, memory_bytes: u64, scratch: &Path) -> Result<u64, Box<dyn Error>> {
    let start = Instant::now();
    let numbered = (0_u16..).zip(&mixture.sources).filter(|(_, share)| share.domain == domain);
    let shares: Vec<_> = numbered.map(|(number, share)| (number, share.clone())).collect();
    let numbers: Vec<u16> = shares.iter().map(|(number, _)| *number).collect();
    let mut draws = Draws::new(42, shares, memory_bytes, scratch);
    for (position, &source) in numbers.iter().enumerate() {
        let count = count(usize::from(source), documents);
        for (object, first) in (0..).zip((0..count).step_by(usize::try_from(OBJECT_DOCUMENTS)?)) {
            let rows = first..count.min(first + OBJECT_DOCUMENTS);
            let runs: Vec<Run> = (0..).zip(rows).map(|(row, document)| run(source, object, row, document)).collect();
            draws.push(position, &runs)?;
        }
    }
    let pushed = start.elapsed().as_secs_f64();
    let mut taken = [0_u64; SOURCES.len()];
    let mut cut = [0_u64; SOURCES.len()];
    let mut placements = 0;
    for placed in draws.finish()? {
        let placed = placed?;
        let source = usize::from(placed.run.source);
        taken[source] += u64::from(placed.take);
        cut[source] += u64::from(placed.take < placed.run.tokens);
        placements += 1;
    }
    for &source in &numbers {
        let share = &mixture.sources[usize::from(source)];
        let (taken, cut) = (taken[usize::from(source)], cut[usize::from(source)]);
        if taken != share.quota || cut > 1 {
            return Err(format!("{}: {taken} tokens of {}, {cut} documents cut", share.source, share.quota).into());
        }
        let passes = share.quota as f64 / share.supply as f64;
        println!("  {}: {taken} tokens, {passes:.3} passes over {}, {cut} document cut", share.source, share.supply);
    }
    let all = start.elapsed().as_secs_f64();
    println!(
        "{}: {placements} placements, {pushed:.1} s to take documents, {:.1} s to merge",
        DOMAIN_NAMES[domain],
        all - pushed
    );
    Ok(placements)
}

fn interleave(mixture: &Mixture) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut left = mixture.quotas;
    let mut check = PrefixCheck::new(&left, 4096);
    let mut interleave = Interleave::new(&left);
    while let Some(domain) = interleave.turn(|domain| Some(left[domain].min(4096)).filter(|&size| size > 0)) {
        let size = left[domain].min(4096);
        check.push(domain, size)?;
        left[domain] -= size;
    }
    check.finish()?;
    let sequences: u64 = interleave.given().sequences.iter().sum();
    println!("interleaving: {sequences} sequences, every prefix within one of the ratio, {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn count(source: usize, documents: u64) -> u64 {
    documents * SOURCES[source].thousandths / 1000
}

fn supply(source: usize, made: &Made, documents: u64) -> SourceSupply {
    let count = count(source, documents);
    let tokens = (0..count).map(|document| u64::from(tokens(source, document))).sum();
    let (domain, max_epochs) = (made.domain, made.max_epochs);
    SourceSupply { source: made.name.into(), domain, documents: count, tokens, max_epochs }
}

fn run(source: u16, object: u32, row: u32, document: u64) -> Run {
    let key = mix(document << 4 | u64::from(source));
    let key = u128::from(key) << 64 | u128::from(mix(key));
    Run { object, row, tokens: tokens(usize::from(source), document), key, source, place: RunPlace::default() }
}

/// Half of the documents have up to half of the mean, three in eight up to twice as much, one in eight up to four times.
/// Expected: 1/8 + 3/8 + 1/4 of the mean, so the bounds are stretched by 4/3.
fn tokens(source: usize, document: u64) -> u32 {
    let hash = mix(document << 8 | source as u64);
    let bound = SOURCES[source].mean * 4 / 3 * [1, 1, 1, 1, 4, 4, 4, 8][(hash & 7) as usize] / 2;
    (2 + (hash >> 3) % bound) as u32
}

/// The finaliser of `SplitMix64`.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `VmHWM` of this process, 0 where the system does not tell.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) >> 10
}
