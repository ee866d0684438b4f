//! `publish`: packed sequences of the domains interleaved into shards, held-out shards, and the dataset card.
//!
//! A task is one shard; the last one is the card. Nothing is packed or tokenized again: tokens are gathered from where
//! `tokenize` wrote them.

mod gather;

use std::collections::BTreeMap;

use mellama_shards::interleave::Given;
use mellama_shards::mixture::DOMAIN_NAMES;
use mellama_shards::prefix::PrefixCheck;
use mellama_shards::{Sequence, ShardTotals, ShardWriter};
use mellama_storage::{Counts, StageManifest, Tally, TaskCommit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ahead::ahead;
use crate::card::{self, Published};
use crate::context::Context;
use crate::failure::Failure;
use crate::runner;
use crate::stage::{Stage, TaskOutput};
use crate::stages::mix::{self, MixFacts};
use crate::stages::pack::{self, Lane, Measure, Packed, PlacedPiece, Turns};
use crate::stages::publish::gather::gather;

/// Tokens that are gathered together: 32 MiB of ids.
const BATCH_TOKENS: u64 = 1 << 23;
/// Batches that wait while one is gathered and one is written.
const BATCHES_AHEAD: usize = 0;
/// Batches that a task holds.
const BATCHES: u64 = 2 + BATCHES_AHEAD as u64;

/// Memory of a task beside gathered tokens: reads, an index of token runs, a row group.
const BASE_MEMORY_BYTES: u64 = 64 << 20;
/// Memory of a token that is gathered or read.
const TOKEN_MEMORY_BYTES: u64 = 4;

/// Facts of a shard's task; the card's task has none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShardFacts {
    /// `train` or `heldout`.
    pub part: String,
    /// What the shard adds up to.
    pub totals: ShardTotals,
    /// Sequences of each domain, by their segments' sources.
    #[serde(default)]
    pub domain_sequences: [u64; 3],
}

/// The shards of a run.
struct Layout {
    train: Vec<Lane>,
    heldout: Vec<Lane>,
    measure: Measure,
    shard_sequences: u64,
    sequence_length: u32,
}

/// Training shards, held-out shards, and the card.
pub(crate) fn task_count(context: &Context<'_>) -> Result<u64, Failure> {
    let layout = Layout::read(context)?;
    Ok(layout.shards(&layout.train) + layout.shards(&layout.heldout) + 1)
}

/// Tasks that run at once within the memory. A task holds two batches of gathered tokens, and reads a document whole: a long one
/// is a window of its own.
pub(crate) fn workers(context: &Context<'_>) -> Result<usize, Failure> {
    let facts = mix::facts_of(context)?;
    let windows = facts.streams.iter().flat_map(|stream| &stream.windows).filter(|window| window.rows == 1);
    let longest = windows.map(|window| window.tokens).max().unwrap_or(0);
    Ok((context.resources.memory_bytes / task_memory(longest)).clamp(1, context.resources.threads as u64) as usize)
}

/// Memory of a task whose longest document has so many tokens, in bytes.
fn task_memory(longest: u64) -> u64 {
    (BASE_MEMORY_BYTES + TOKEN_MEMORY_BYTES * (BATCHES * BATCH_TOKENS + longest)).max(runner::TASK_MEMORY_BYTES)
}

/// Writes one shard, or the card.
pub(crate) fn run_task(context: &Context<'_>, task: u64) -> Result<TaskOutput, Failure> {
    let layout = Layout::read(context)?;
    let (train, heldout) = (layout.shards(&layout.train), layout.shards(&layout.heldout));
    if task < train {
        return layout.shard(context, "train", &layout.train, task);
    }
    if task < train + heldout {
        return layout.shard(context, "heldout", &layout.heldout, task - train);
    }
    let part = card::write(context, &layout.published(context)?)?;
    let entry = part.finish_named("README.md", 0)?;
    let left_out = layout.left_out(context);
    let counts = Counts { read: left_out, dropped: left_out, ..Counts::default() };
    Ok(TaskOutput { objects: vec![entry], counts, facts: Value::Null })
}

/// Sums over shards, checked against the quotas of the mixture.
pub(crate) fn close(context: &Context<'_>, commits: &[TaskCommit]) -> Result<Value, Failure> {
    let facts = mix::facts_of(context)?;
    let mut parts = serde_json::Map::new();
    for part in ["train", "heldout"] {
        let shards = commits.iter().filter_map(|c| serde_json::from_value::<ShardFacts>(c.facts.clone()).ok());
        let shards: Vec<ShardFacts> = shards.filter(|s| s.part == part).collect();
        let totals: Vec<&ShardTotals> = shards.iter().map(|s| &s.totals).collect();
        let sum = |get: fn(&ShardTotals) -> u64| totals.iter().map(|t| get(t)).sum::<u64>();
        let sources = context.corpus().source.iter().enumerate();
        let by_source: serde_json::Map<String, Value> = sources
            .map(|(i, s)| {
                (s.name.clone(), json!(totals.iter().map(|t| t.source_tokens.get(i).copied().unwrap_or(0)).sum::<u64>()))
            })
            .collect();
        let tokens = sum(|t| t.tokens);
        check_quota(context, &facts, part, tokens)?;
        check_sources(context, &facts, part, &by_source)?;
        let of_domain = |domain: usize| shards.iter().map(|s| s.domain_sequences[domain]).sum::<u64>();
        let domains: BTreeMap<&str, u64> = DOMAIN_NAMES.into_iter().zip((0..3).map(of_domain)).collect();
        parts.insert(
            part.into(),
            json!({
                "shards": totals.len(),
                "sequences": sum(|t| t.sequences),
                "tokens": tokens,
                "padding": sum(|t| t.padding),
                "segments": sum(|t| t.segments),
                "source_tokens": by_source,
                "domain_sequences": domains,
            }),
        );
    }
    let tokenizer = context.tokenizer()?;
    let length = context.corpus().pack.as_ref().map_or(0, |pack| pack.sequence_length);
    Ok(json!({ "parts": parts, "header": pack::header(context, &tokenizer, length) }))
}

/// Whole sequences leave out what does not fill one; every other run publishes its quota exactly.
fn check_quota(context: &Context<'_>, facts: &MixFacts, part: &str, tokens: u64) -> Result<(), Failure> {
    let wanted: u64 = facts.streams.iter().filter(|s| s.heldout == (part == "heldout")).map(|s| s.tokens).sum();
    let exact = facts.unit != "sequences" || part == "heldout";
    if (exact && tokens == wanted) || (!exact && tokens <= wanted) {
        return Ok(());
    }
    let uri = context.workdir.store().uri();
    Err(Failure::Failed(format!(
        "{uri}: publish: {part} shards hold {tokens} tokens, the mixture has {wanted}; report this as a bug"
    )))
}

/// With exact tokens every source has given its quota, no more and no less.
fn check_sources(
    context: &Context<'_>,
    facts: &MixFacts,
    part: &str,
    tokens: &serde_json::Map<String, Value>,
) -> Result<(), Failure> {
    if part != "train" || facts.unit == "sequences" {
        return Ok(());
    }
    match facts.sources.iter().find(|share| tokens.get(&share.source).and_then(Value::as_u64) != Some(share.quota)) {
        None => Ok(()),
        Some(share) => Err(Failure::Failed(format!(
            "{}: publish: source {}: {} tokens in the shards, its quota is {}; report this as a bug",
            context.workdir.store().uri(),
            share.source,
            tokens.get(&share.source).and_then(Value::as_u64).unwrap_or(0),
            share.quota
        ))),
    }
}

impl Layout {
    fn read(context: &Context<'_>) -> Result<Layout, Failure> {
        let facts = mix::facts_of(context)?;
        let packed = context.manifest(Stage::Pack)?.facts;
        let recipe = context.corpus().pack.as_ref().expect("the stage runs only with [corpus.pack]");
        let sequences = |stream: &str| packed["streams"][stream]["sequences"].as_u64().unwrap_or(0);
        let lanes = |heldout: bool| pack::lanes(&facts, heldout, recipe.sequence_length, &sequences);
        Ok(Layout {
            train: lanes(false),
            heldout: lanes(true),
            measure: Measure::of(&facts),
            shard_sequences: recipe.shard_sequences,
            sequence_length: recipe.sequence_length,
        })
    }

    fn shards(&self, lanes: &[Lane]) -> u64 {
        lanes.iter().map(|lane| lane.wanted).sum::<u64>().div_ceil(self.shard_sequences)
    }

    /// Sequences that whole-sequence mixtures leave unpublished.
    fn left_out(&self, context: &Context<'_>) -> Tally {
        let sequences: u64 = self.train.iter().map(|lane| lane.packed - lane.wanted).sum();
        Tally { documents: sequences, bytes: sequences * self.sequence_bytes(context) }
    }

    /// What the shards are to hold. Of what is packed, the sequences that are left out are read.
    fn published(&self, context: &Context<'_>) -> Result<Published, Failure> {
        let packed = context.manifest(Stage::Pack)?.facts["streams"].clone();
        let mut published = Published { left_out: vec![0; context.corpus().source.len()], ..Published::default() };
        for lane in self.train.iter().chain(&self.heldout) {
            let name = &lane.stream.name;
            let mut sums = ["sequences", "tokens", "padding", "pieces"].map(|key| packed[name][key].as_u64().unwrap_or(0));
            sums[0] = lane.wanted;
            let all = Packed::open(context, name)?;
            let mut next = lane.wanted;
            while next < lane.packed {
                let end = lane.packed.min(next + self.batch_sequences() as u64);
                for piece in all.read(context, next..end)?.iter().flatten() {
                    let tokens = u64::from(piece.part.length);
                    sums[1] = sums[1].saturating_sub(tokens);
                    sums[3] = sums[3].saturating_sub(1);
                    if let Some(left_out) = published.left_out.get_mut(usize::from(piece.source)) {
                        *left_out += tokens;
                    }
                }
                next = end;
            }
            sums[2] = (sums[0] * u64::from(self.sequence_length)).saturating_sub(sums[1]);
            published.streams.insert(name.clone(), sums);
        }
        Ok(published)
    }

    fn sequence_bytes(&self, context: &Context<'_>) -> u64 {
        let width = context.tokenizer().map_or(4, |t| mellama_shards::Width::for_vocabulary(t.vocabulary_size()).bytes());
        u64::from(self.sequence_length) * width
    }

    /// Sequences whose tokens are gathered together.
    fn batch_sequences(&self) -> usize {
        (BATCH_TOKENS / u64::from(self.sequence_length)).max(1) as usize
    }

    fn shard(&self, context: &Context<'_>, part: &str, lanes: &[Lane], number: u64) -> Result<TaskOutput, Failure> {
        let manifest = context.manifest(Stage::Pack)?;
        let given = beginning(&manifest, part, number)?;
        let totals: Vec<u64> = lanes.iter().map(|lane| lane.total).collect();
        let largest = self.measure.largest(self.sequence_length);
        let mut prefix = PrefixCheck::after(&totals, largest, given.sizes.clone());
        let mut taken = given.sequences.clone();
        let mut domain_sequences = [0; 3];
        let packed: Vec<Packed> = lanes.iter().map(|lane| Packed::of(&manifest.objects, &lane.stream.name)).collect();
        let order = self.order(Turns::after(context, self.measure, lanes, &packed, given))?;
        let tokenizer = context.tokenizer()?;
        let header = pack::header(context, &tokenizer, self.sequence_length);
        let failed = |e: &(dyn std::error::Error + 'static)| Failure::writing("shards/cpt", e);
        let mut writer = ShardWriter::new(context.workdir.part()?, &header).map_err(|e| failed(&e))?;
        let mut batches = order.chunks(self.batch_sequences());
        let mut gathered = |turns: &[usize]| -> Result<Vec<Sequence>, Failure> {
            gather(context, &next_pieces(context, &packed, &mut taken, turns)?, self.sequence_length)
        };
        let mut write = |(turns, sequences): (&[usize], Vec<Sequence>)| {
            for (sequence, lane) in sequences.iter().zip(turns) {
                domain_sequences[lanes[*lane].stream.domain] += 1;
                let domain = domain_of(context, sequence);
                let found = lanes.iter().position(|lane| Some(lane.stream.domain) == domain);
                prefix
                    .push(found.unwrap_or(lanes.len()), self.measure.size(&sequence.segments))
                    .map_err(|e| Failure::Failed(format!("publish: {part}: {e}; report this as a bug")))?;
                writer.push(sequence).map_err(|e| failed(&e))?;
            }
            Ok(())
        };
        ahead(
            context.resources.threads,
            BATCHES_AHEAD,
            |give| batches.try_for_each(|turns| give((turns, gathered(turns)?))),
            &mut write,
        )?;
        context.check_stop()?;
        let (file, totals) = writer.finish_with_totals().map_err(|e| failed(&e))?;
        let entry = file.finish("shards/cpt", &format!("{part}-{number:05}"), "parquet", totals.sequences)?;
        let seen = Tally { documents: totals.sequences, bytes: totals.sequences * self.sequence_bytes(context) };
        let counts = Counts { read: seen, written: seen, ..Counts::default() };
        let facts = ShardFacts { part: part.to_owned(), totals, domain_sequences };
        Ok(TaskOutput { objects: vec![entry], counts, facts: serde_json::to_value(facts).expect("plain data") })
    }

    /// The lanes of the sequences of a shard, in order.
    fn order(&self, mut turns: Turns<'_>) -> Result<Vec<usize>, Failure> {
        let mut order = Vec::new();
        while (order.len() as u64) < self.shard_sequences
            && let Some(lane) = turns.next()?
        {
            order.push(lane);
        }
        Ok(order)
    }
}

/// What the shards before one hold of each lane, as `pack` found it.
fn beginning(pack: &StageManifest, part: &str, number: u64) -> Result<Given, Failure> {
    Given::deserialize(&pack.facts["shards"][part][number as usize])
        .map_err(|e| Failure::Verification(format!("manifests/pack.json: beginning of {part} shard {number}: {e}")))
}

/// The domain that all segments of a sequence are from.
fn domain_of(context: &Context<'_>, sequence: &Sequence) -> Option<usize> {
    let sources = &context.corpus().source;
    let domain = |source: u16| sources.get(usize::from(source)).map(|source| mix::domain_index(source.domain));
    let first = domain(sequence.segments.first()?.source)?;
    sequence.segments.iter().all(|segment| domain(segment.source) == Some(first)).then_some(first)
}

/// The pieces of the sequences whose turn it is, and `taken` moved on by them.
fn next_pieces(
    context: &Context<'_>,
    packed: &[Packed],
    taken: &mut [u64],
    turns: &[usize],
) -> Result<Vec<Vec<PlacedPiece>>, Failure> {
    let mut lanes = Vec::with_capacity(packed.len());
    for (lane, packed) in packed.iter().enumerate() {
        let count = turns.iter().filter(|turn| **turn == lane).count() as u64;
        lanes.push(packed.read(context, taken[lane]..taken[lane] + count)?.into_iter());
        taken[lane] += count;
    }
    Ok(turns.iter().map(|lane| lanes[*lane].next().expect("as many were read as have their turn")).collect())
}

#[cfg(test)]
mod tests {
    use super::task_memory;

    #[test]
    fn a_task_counts_its_longest_document() {
        let check = |tokens, mebibytes: u64| assert_eq!(task_memory(tokens), mebibytes << 20, "{tokens}");
        check(0, 192);
        check(1 << 24, 192);
        check(1 << 26, 384);
        check(1 << 30, 4224);
    }
}
