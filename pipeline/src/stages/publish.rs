//! `publish`: packed sequences of the domains interleaved into shards, held-out shards, and the dataset card.
//!
//! A task is one shard; the last one is the card. Nothing is packed or tokenized again: tokens are gathered from where
//! `tokenize` wrote them.

mod gather;

use mellama_shards::interleave::Interleave;
use mellama_shards::{ShardTotals, ShardWriter};
use mellama_storage::{Counts, Tally, TaskCommit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::card;
use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::stage::{Stage, TaskOutput};
use crate::stages::mix::{self, MixFacts, Stream};
use crate::stages::pack::{self, Packed, PlacedPiece};
use crate::stages::publish::gather::gather;

/// Tokens that are gathered together: 32 MiB of ids.
const BATCH_TOKENS: u64 = 1 << 23;

/// Facts of a shard's task; the card's task has none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShardFacts {
    /// `train` or `heldout`.
    pub part: String,
    /// What the shard adds up to.
    pub totals: ShardTotals,
}

/// Sequences of one domain to publish.
struct Lane {
    stream: Stream,
    /// Sequences packed.
    packed: u64,
    /// Sequences published; fewer than packed only where whole sequences are asked for.
    wanted: u64,
}

/// The shards of a run.
struct Layout {
    train: Vec<Lane>,
    heldout: Vec<Lane>,
    shard_sequences: u64,
    sequence_length: u32,
}

/// Training shards, held-out shards, and the card.
pub(crate) fn task_count(context: &Context<'_>) -> Result<u64, Failure> {
    let layout = Layout::read(context)?;
    Ok(layout.shards(&layout.train) + layout.shards(&layout.heldout) + 1)
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
    let part = card::write(context)?;
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
        let totals: Vec<ShardTotals> = shards.filter(|s| s.part == part).map(|s| s.totals).collect();
        let sum = |get: fn(&ShardTotals) -> u64| totals.iter().map(get).sum::<u64>();
        let sources = context.corpus().source.iter().enumerate();
        let by_source: serde_json::Map<String, Value> = sources
            .map(|(i, s)| {
                (s.name.clone(), json!(totals.iter().map(|t| t.source_tokens.get(i).copied().unwrap_or(0)).sum::<u64>()))
            })
            .collect();
        let tokens = sum(|t| t.tokens);
        check_quota(context, &facts, part, tokens)?;
        parts.insert(
            part.into(),
            json!({
                "shards": totals.len(),
                "sequences": sum(|t| t.sequences),
                "tokens": tokens,
                "padding": sum(|t| t.padding),
                "segments": sum(|t| t.segments),
                "source_tokens": by_source,
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

impl Layout {
    fn read(context: &Context<'_>) -> Result<Layout, Failure> {
        let facts = mix::facts_of(context)?;
        let packed = context.manifest(Stage::Pack)?.facts;
        let recipe = context.corpus().pack.as_ref().expect("the stage runs only with [corpus.pack]");
        let mut layout = Layout {
            train: Vec::new(),
            heldout: Vec::new(),
            shard_sequences: recipe.shard_sequences,
            sequence_length: recipe.sequence_length,
        };
        let whole = facts.unit == "sequences";
        for stream in facts.streams {
            let packed = packed["streams"][&stream.name]["sequences"].as_u64().unwrap_or(0);
            let quota = stream.tokens / u64::from(recipe.sequence_length);
            let wanted = if whole && !stream.heldout { packed.min(quota) } else { packed };
            let lanes = if stream.heldout { &mut layout.heldout } else { &mut layout.train };
            lanes.push(Lane { stream, packed, wanted });
        }
        Ok(layout)
    }

    fn shards(&self, lanes: &[Lane]) -> u64 {
        lanes.iter().map(|lane| lane.wanted).sum::<u64>().div_ceil(self.shard_sequences)
    }

    /// Sequences that whole-sequence mixtures leave unpublished.
    fn left_out(&self, context: &Context<'_>) -> Tally {
        let sequences: u64 = self.train.iter().map(|lane| lane.packed - lane.wanted).sum();
        Tally { documents: sequences, bytes: sequences * self.sequence_bytes(context) }
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
        let counts: Vec<u64> = lanes.iter().map(|lane| lane.wanted).collect();
        let mut order = Interleave::new(&counts);
        let start = number * self.shard_sequences;
        let mut taken = vec![0; lanes.len()];
        for _ in 0..start {
            let lane = order.next().expect("a shard begins before the last sequence");
            taken[lane] += 1;
        }
        let packed = lanes.iter().map(|lane| Packed::open(context, &lane.stream.name)).collect::<Result<Vec<_>, _>>()?;
        let tokenizer = context.tokenizer()?;
        let header = pack::header(context, &tokenizer, self.sequence_length);
        let failed = |e: &dyn std::error::Error| Failure::Storage(format!("shards/cpt: {}", chain(e)));
        let mut writer = ShardWriter::new(context.workdir.part()?, &header).map_err(|e| failed(&e))?;
        let turns: Vec<usize> = order.take(self.shard_sequences as usize).collect();
        for turns in turns.chunks(self.batch_sequences()) {
            let pieces = next_pieces(context, &packed, &mut taken, turns)?;
            for sequence in gather(context, &pieces, self.sequence_length)? {
                writer.push(&sequence).map_err(|e| failed(&e))?;
            }
        }
        context.check_stop()?;
        let (file, totals) = writer.finish_with_totals().map_err(|e| failed(&e))?;
        let entry = file.finish("shards/cpt", &format!("{part}-{number:05}"), "parquet", totals.sequences)?;
        let seen = Tally { documents: totals.sequences, bytes: totals.sequences * self.sequence_bytes(context) };
        let counts = Counts { read: seen, written: seen, ..Counts::default() };
        let facts = serde_json::to_value(ShardFacts { part: part.to_owned(), totals }).expect("plain data");
        Ok(TaskOutput { objects: vec![entry], counts, facts })
    }
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
