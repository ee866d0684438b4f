//! `pack`: one window of the order to sequences. A task packs by lengths alone and writes which piece stands where.
//!
//! It reads the rows of its own window and no others, and no token.

mod packed;
mod rules;
mod turns;

use std::collections::BTreeMap;

use arrow::array::{FixedSizeBinaryArray, UInt32Array, UInt64Array};
use mellama_shards::packing::{Method, PackedSequence, PackingCounts, pack_window, shuffle_sequences};
use mellama_shards::{Kind, RunPlace, ShardHeader, Tokenizer, Width};
use mellama_storage::{Counts, ObjectEntry, Tally, TaskCommit};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::stage::TaskOutput;
use crate::stages::mix::{self, MixFacts, Stream, Window};
use crate::tables;

pub(crate) use packed::{Packed, PlacedPiece};
pub(crate) use turns::{Lane, Measure, Turns, lanes};

/// Most sequences of one task where documents are concatenated, and most tokens of longer sequences.
const CONCATENATED_SEQUENCES: u64 = 8192;
const CONCATENATED_TOKENS: u64 = 1 << 25;
/// The stream of a task and what of it is packed.
struct Job<'s> {
    stream: &'s Stream,
    stream_index: u64,
    part: u64,
}

impl Job<'_> {
    /// Tokens of the order that are packed, from what `mix` says of the stream.
    fn tokens(&self, context: &Context<'_>) -> u64 {
        match method(context) {
            Method::BestFit => self.stream.windows[self.part as usize].tokens,
            Method::Concatenate => {
                let of_part = tokens_per_part(sequence_length(context));
                (self.stream.tokens - self.part * of_part).min(of_part)
            }
        }
    }
}

/// One document of the order.
#[derive(Clone, Copy)]
struct Placement {
    /// Tokenize task whose object holds it.
    object: u32,
    /// Row there.
    row: u32,
    /// Tokens of the whole document.
    tokens: u32,
    place: RunPlace,
    key: u128,
    source: u16,
    epoch: u32,
    /// Tokens used, from its start.
    take: u32,
}

/// Windows of all streams; with concatenation, runs of whole sequences.
pub(crate) fn task_count(context: &Context<'_>) -> Result<u64, Failure> {
    let facts = mix::facts_of(context)?;
    Ok(facts.streams.iter().map(|stream| parts(context, stream)).sum())
}

/// Packs one window.
pub(crate) fn run_task(context: &Context<'_>, task: u64) -> Result<TaskOutput, Failure> {
    let facts = mix::facts_of(context)?;
    let job = job(context, &facts, task);
    let length = sequence_length(context);
    let (placements, sequences) = match method(context) {
        Method::BestFit => best_fit(context, &job, length)?,
        Method::Concatenate => concatenate(context, &job, length)?,
    };
    let mut totals = PackingCounts::default();
    for pieces in &sequences {
        totals.add(pieces, length);
    }
    let pieces = sequences.iter().flatten();
    let fragmented = pieces.filter(|piece| piece.offset == 0 && piece.length < placements[piece.run as usize].take).count();
    let entry = packed::write(context, &job.stream.name, job.part, &placements, &sequences)?;
    // Units of this stage: placements of documents, and tokens in place of bytes.
    let documents = placements.len() as u64;
    let counts = Counts {
        read: Tally { documents, bytes: job.tokens(context) },
        written: Tally { documents, bytes: totals.tokens },
        ..Counts::default()
    };
    let facts = json!({ "stream": job.stream.name, "totals": totals, "fragmented_documents": fragmented });
    Ok(TaskOutput { objects: vec![entry], counts, facts })
}

/// Sequences, tokens, padding and fragments by stream, and the rules they were made by. Every token of the order is in a
/// sequence, or the stage does not close.
pub(crate) fn close(context: &Context<'_>, commits: &[TaskCommit]) -> Result<Value, Failure> {
    let mut streams: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
    for commit in commits {
        let name = commit.facts["stream"].as_str().unwrap_or_default();
        let sums = streams.entry(name.to_owned()).or_default();
        for key in ["sequences", "tokens", "padding", "pieces", "cuts"] {
            *sums.entry(key).or_default() += commit.facts["totals"][key].as_u64().unwrap_or_default();
        }
        *sums.entry("fragmented_documents").or_default() += commit.facts["fragmented_documents"].as_u64().unwrap_or_default();
    }
    let facts = mix::facts_of(context)?;
    for stream in &facts.streams {
        let packed = streams.get(&stream.name).and_then(|sums| sums.get("tokens")).copied().unwrap_or_default();
        if packed != stream.tokens {
            let (uri, name, wanted) = (context.workdir.store().uri(), &stream.name, stream.tokens);
            let lost = format!("{uri}: pack: {name}: {packed} tokens packed, the order has {wanted}; report this as a bug");
            return Err(Failure::Failed(lost));
        }
    }
    // In the order of the tasks, as in the manifest.
    let objects: Vec<ObjectEntry> = commits.iter().flat_map(|commit| commit.objects.iter().cloned()).collect();
    let sequences = |stream: &str| streams.get(stream).and_then(|sums| sums.get("sequences")).copied().unwrap_or_default();
    let shards = |heldout: bool| {
        let lanes = turns::lanes(&facts, heldout, sequence_length(context), &sequences);
        let packed: Vec<Packed> = lanes.iter().map(|lane| Packed::of(&objects, &lane.stream.name)).collect();
        turns::beginnings(context, Measure::of(&facts), &lanes, &packed, shard_sequences(context))
    };
    let shards = json!({ "train": shards(false)?, "heldout": shards(true)? });
    Ok(json!({ "streams": streams, "lost_tokens": 0, "rules": rules::of(context)?, "shards": shards }))
}

/// The header of every sequence file of the corpus.
pub(crate) fn header(context: &Context<'_>, tokenizer: &Tokenizer, length: u32) -> ShardHeader {
    let sources = &context.corpus().source;
    let highest = sources.iter().map(crate::recipe::SourceRecipe::resolved_sensitivity).max();
    ShardHeader {
        format_version: mellama_shards::format::FORMAT_VERSION,
        kind: Kind::Cpt,
        sequence_length: length,
        vocabulary_size: tokenizer.vocabulary_size(),
        width: Width::for_vocabulary(tokenizer.vocabulary_size()),
        tokenizer_digest: tokenizer.digest().to_owned(),
        sources: sources.iter().map(|s| s.name.clone()).collect(),
        sensitivity: highest.map_or("open", |s| s.as_str()).to_owned(),
    }
}

fn method(context: &Context<'_>) -> Method {
    match context.corpus().pack.as_ref().map(|pack| pack.method.as_str()) {
        Some("concatenate") => Method::Concatenate,
        _ => Method::BestFit,
    }
}

fn sequence_length(context: &Context<'_>) -> u32 {
    context.corpus().pack.as_ref().expect("the stage runs only with [corpus.pack]").sequence_length
}

fn shard_sequences(context: &Context<'_>) -> u64 {
    context.corpus().pack.as_ref().expect("the stage runs only with [corpus.pack]").shard_sequences
}

/// Whole sequences that one task lays end to end, in tokens.
fn tokens_per_part(length: u32) -> u64 {
    let length = u64::from(length);
    length * (CONCATENATED_TOKENS / length).clamp(1, CONCATENATED_SEQUENCES)
}

fn parts(context: &Context<'_>, stream: &Stream) -> u64 {
    match method(context) {
        Method::BestFit => stream.windows.len() as u64,
        Method::Concatenate => stream.tokens.div_ceil(tokens_per_part(sequence_length(context))),
    }
}

fn job<'s>(context: &Context<'_>, facts: &'s MixFacts, task: u64) -> Job<'s> {
    let mut part = task;
    for (stream_index, stream) in (0..).zip(&facts.streams) {
        let of_stream = parts(context, stream);
        if part < of_stream {
            return Job { stream, stream_index, part };
        }
        part -= of_stream;
    }
    unreachable!("the runner asks only for tasks below the count")
}

fn best_fit(context: &Context<'_>, job: &Job<'_>, length: u32) -> Result<(Vec<Placement>, Vec<PackedSequence>), Failure> {
    let window = job.stream.windows[job.part as usize];
    let placements = placements(context, job.stream, window.first_row, window.rows)?;
    let lengths: Vec<u32> = placements.iter().map(|p| p.take).collect();
    let packed = pack_window(&lengths, length, Method::BestFit);
    // The window's number is unique over all streams of a run.
    let number = job.stream_index << 40 | job.part;
    Ok((placements, shuffle_sequences(context.file.recipe.seed, number, packed)))
}

/// Part `part` of the stream laid end to end. Of the order only the windows that hold it are read.
fn concatenate(context: &Context<'_>, job: &Job<'_>, length: u32) -> Result<(Vec<Placement>, Vec<PackedSequence>), Failure> {
    let start = job.part * tokens_per_part(length);
    let end = job.stream.tokens.min(start + tokens_per_part(length));
    let Covering { first_row, rows, tokens_before } = covering(&job.stream.windows, start, end);
    let all = placements(context, job.stream, first_row, rows)?;
    let mut position = tokens_before;
    let mut chosen = Vec::new();
    let mut first_offset = 0;
    for placement in all {
        let after = position + u64::from(placement.take);
        if after > start && position < end {
            if chosen.is_empty() {
                first_offset = start.saturating_sub(position) as u32;
            }
            chosen.push(placement);
        }
        position = after;
    }
    let sequences = lay_end_to_end(&chosen, first_offset, end - start, length);
    Ok((chosen, sequences))
}

/// Rows of some consecutive windows, and the tokens before them.
#[derive(Debug, PartialEq, Eq)]
struct Covering {
    first_row: u64,
    rows: u64,
    tokens_before: u64,
}

/// The windows that hold the tokens `start..end` of a stream.
fn covering(windows: &[Window], start: u64, end: u64) -> Covering {
    let mut found = Covering { first_row: 0, rows: 0, tokens_before: 0 };
    let mut position = 0;
    for window in windows {
        let after = position + window.tokens;
        if after > start && position < end {
            if found.rows == 0 {
                (found.first_row, found.tokens_before) = (window.first_row, position);
            }
            found.rows += window.rows;
        }
        position = after;
    }
    found
}

/// Pieces of `tokens` tokens from `first_offset` of the first document on, `length` a sequence.
fn lay_end_to_end(documents: &[Placement], first_offset: u32, tokens: u64, length: u32) -> Vec<PackedSequence> {
    let mut lengths: Vec<u32> = documents.iter().map(|document| document.take).collect();
    if let Some(first) = lengths.first_mut() {
        *first -= first_offset;
    }
    // Only the last document reaches past the range.
    let surplus = lengths.iter().map(|taken| u64::from(*taken)).sum::<u64>() - tokens;
    if let Some(last) = lengths.last_mut() {
        *last -= surplus as u32;
    }
    let mut sequences = pack_window(&lengths, length, Method::Concatenate);
    for piece in sequences.iter_mut().flatten().filter(|piece| piece.run == 0) {
        piece.offset += first_offset;
    }
    sequences
}

fn placements(context: &Context<'_>, stream: &Stream, first: u64, rows: u64) -> Result<Vec<Placement>, Failure> {
    let mut found = Vec::with_capacity(rows as usize);
    for batch in tables::read_rows(context.workdir, &stream.table, first, rows)? {
        let object: &UInt32Array = tables::column(&batch, "object")?;
        let row: &UInt32Array = tables::column(&batch, "row")?;
        let source: &UInt32Array = tables::column(&batch, "source")?;
        let epoch: &UInt32Array = tables::column(&batch, "epoch")?;
        let take: &UInt32Array = tables::column(&batch, "take")?;
        let tokens: &UInt32Array = tables::column(&batch, "tokens")?;
        let start: &UInt64Array = tables::column(&batch, "start")?;
        let check: &UInt64Array = tables::column(&batch, "check")?;
        let keys: &FixedSizeBinaryArray = tables::column(&batch, "key")?;
        for i in 0..batch.num_rows() {
            found.push(Placement {
                object: object.value(i),
                row: row.value(i),
                tokens: tokens.value(i),
                place: RunPlace { start: start.value(i), check: check.value(i) },
                key: tables::key(keys, i)?,
                source: source.value(i) as u16,
                epoch: epoch.value(i),
                take: take.value(i),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(take: u32) -> Placement {
        Placement { object: 0, row: 0, tokens: take, place: RunPlace::default(), key: 0, source: 0, epoch: 0, take }
    }

    fn check(takes: &[u32], first_offset: u32, tokens: u64, expected: &[&[(u32, u32, u32)]]) {
        let documents: Vec<Placement> = takes.iter().map(|take| placement(*take)).collect();
        let found: Vec<Vec<(u32, u32, u32)>> = lay_end_to_end(&documents, first_offset, tokens, 4)
            .iter()
            .map(|sequence| sequence.iter().map(|p| (p.run, p.offset, p.length)).collect())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_part_reads_the_windows_that_hold_its_tokens() {
        let window = |first_row, rows, tokens| Window { first_row, rows, tokens };
        let windows = [window(0, 3, 10), window(3, 1, 100), window(4, 5, 20)];
        let check = |start, end, (first_row, rows, tokens_before)| {
            assert_eq!(covering(&windows, start, end), Covering { first_row, rows, tokens_before }, "{start}..{end}");
        };
        check(0, 10, (0, 3, 0));
        check(0, 11, (0, 4, 0));
        check(9, 12, (0, 4, 0));
        check(10, 110, (3, 1, 10));
        check(50, 60, (3, 1, 10));
        check(109, 130, (3, 6, 10));
        check(110, 130, (4, 5, 110));
        check(130, 140, (0, 0, 0));
    }

    #[test]
    fn a_part_is_bounded_in_tokens_whatever_the_length_of_a_sequence() {
        let check = |length, expected| assert_eq!(tokens_per_part(length), expected, "{length}");
        check(8, 8 * 8192);
        check(4096, 4096 * 8192);
        check(5000, 5000 * 6710);
        check(1 << 20, 1 << 25);
    }

    #[test]
    fn documents_are_laid_end_to_end() {
        check(&[3, 3, 2], 0, 8, &[&[(0, 0, 3), (1, 0, 1)], &[(1, 1, 2), (2, 0, 2)]]);
        check(&[6, 3], 4, 3, &[&[(0, 4, 2), (1, 0, 1)]]);
        check(&[20], 8, 8, &[&[(0, 8, 4)], &[(0, 12, 4)]]);
        check(&[2], 0, 2, &[&[(0, 0, 2)]]);
    }
}
