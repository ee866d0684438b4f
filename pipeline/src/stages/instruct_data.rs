//! `instruct-data`: conversations to masked token runs to packed shards. One task: instruction sets are small.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};

use mellama_shards::masks::MaskedRun;
use mellama_shards::packing::{Method, pack_items, shuffle_sequences};
use mellama_shards::sequence::{RunTokens, assemble};
use mellama_shards::template::{Speaker, Template};
use mellama_shards::{Kind, ShardHeader, ShardWriter, Tokenizer, Width};
use mellama_sources::{
    Conversation, ConversationItem, Domain, Fields, Input, Limits, ReadOptions, Role, Sensitivity, SourceContext,
};
use mellama_storage::{Counts, ObjectEntry, PartWriter, Tally};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::conversations::{self, Listed, State};
use crate::failure::Failure;
use crate::inputs::InputObject;
use crate::recipe::{InstructRecipe, InstructSource};
use crate::stage::TaskOutput;
use crate::stages::{ingest, tokenize};

/// Tokens of a sequence where neither `[instruct]` nor `[corpus.pack]` says.
const DEFAULT_SEQUENCE_LENGTH: u32 = 4096;
/// Rows of an instruction shard where `[corpus.pack]` does not say.
const DEFAULT_SHARD_SEQUENCES: u64 = 8192;
/// Reject places that a message shows.
const PLACES_SHOWN: usize = 3;

/// What the stage says of itself.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct InstructFacts {
    /// Documents and bytes of each source.
    pub sources: BTreeMap<String, Counts>,
    /// Rejected records by reason, over all sources.
    pub rejects: BTreeMap<String, u64>,
    /// Conversations longer than a sequence.
    pub too_long: u64,
    /// Tokens of the conversations, template and end tokens included.
    pub tokens: u64,
    /// Tokens that are learned from.
    pub trained_tokens: u64,
    /// Sequences written.
    pub sequences: u64,
    /// Tokens a sequence.
    pub sequence_length: u32,
    /// Name of the template.
    pub template: String,
}

/// A conversation ready for packing.
struct Ready {
    run: MaskedRun,
    key: u128,
    source: u16,
    bytes: u64,
}

impl Ready {
    /// What becomes of it where a sequence has `length` tokens.
    fn state(&self, length: u32) -> State {
        if self.run.tokens.len() <= length as usize { State::Kept } else { State::TooLong }
    }
}

/// Reads, encodes, packs and writes all instruction sources.
pub(crate) fn run_task(context: &Context<'_>) -> Result<TaskOutput, Failure> {
    let recipe = context.file.recipe.instruct.as_ref().expect("the stage runs only with [instruct]");
    let tokenizer = context.tokenizer()?;
    let template: Template = recipe.template.parse().map_err(|e| Failure::Policy(format!("instruct.template: {e}")))?;
    let pack = context.file.recipe.corpus.as_ref().and_then(|c| c.pack.as_ref());
    let length = recipe.sequence_length.or(pack.map(|p| p.sequence_length)).unwrap_or(DEFAULT_SEQUENCE_LENGTH);
    let mut facts = InstructFacts { sequence_length: length, template: template.to_string(), ..InstructFacts::default() };
    let mut counts = Counts::default();
    let (mut objects, mut ready, mut listed) = (Vec::new(), Vec::new(), Vec::new());
    for (index, source) in recipe.source.iter().enumerate() {
        let read = read_source(context, index, source, &mut facts)?;
        objects.extend(read.rejects);
        let mut source_counts = read.counts;
        let encoded = encode(&read.conversations, index as u16, &tokenizer, template)?;
        listed.extend(read.conversations.iter().zip(&encoded).map(|(conversation, ready)| row(conversation, ready, length)));
        let (kept, long): (Vec<_>, Vec<_>) = encoded.into_iter().partition(|r| r.state(length) == State::Kept);
        let dropped = Tally { documents: long.len() as u64, bytes: long.iter().map(|r| r.bytes).sum() };
        facts.too_long += dropped.documents;
        source_counts.written = Tally { documents: kept.len() as u64, bytes: kept.iter().map(|r| r.bytes).sum() };
        source_counts.dropped = dropped;
        facts.sources.insert(source.name.clone(), source_counts);
        counts += source_counts;
        ready.extend(kept);
    }
    let header = header(recipe, &tokenizer, length);
    let shard_sequences = pack.map_or(DEFAULT_SHARD_SEQUENCES, |p| p.shard_sequences);
    objects.extend(write(context, &ready, &header, shard_sequences, &mut facts)?);
    objects.push(conversations::publish(context.workdir, &listed)?);
    Ok(TaskOutput { objects, counts, facts: serde_json::to_value(facts).expect("plain data") })
}

struct SourceRead {
    conversations: Vec<Conversation>,
    counts: Counts,
    rejects: Option<ObjectEntry>,
}

fn read_source(
    context: &Context<'_>,
    index: usize,
    source: &InstructSource,
    facts: &mut InstructFacts,
) -> Result<SourceRead, Failure> {
    let mut read = SourceRead { conversations: Vec::new(), counts: Counts::default(), rejects: None };
    let mut rejects: Option<PartWriter> = None;
    let mut places = Vec::new();
    let limits = context.limits();
    for input in &context.plan.instruct[index] {
        context.check_stop()?;
        let mut reader = open(source, input, &limits)?;
        while let Some(item) = reader.next() {
            match item.map_err(|e| ingest::read_failure(input, &e))? {
                ConversationItem::Conversation(conversation) => {
                    let bytes = conversation.turns.iter().map(|turn| turn.text.len() as u64).sum();
                    read.counts.read += Tally { documents: 1, bytes };
                    read.conversations.push(conversation);
                }
                ConversationItem::Reject(reject) => {
                    let tally = Tally { documents: 1, bytes: reject.bytes };
                    read.counts.read += tally;
                    read.counts.rejected += tally;
                    *facts.rejects.entry(reject.reason.code().into()).or_default() += 1;
                    if places.len() < PLACES_SHOWN {
                        places.push(format!("{} at byte {}: {}", reject.object, reject.byte_offset, reject.reason));
                    }
                    if rejects.is_none() {
                        rejects = Some(context.workdir.part()?);
                    }
                    let part = rejects.as_mut().expect("opened above");
                    mellama_sources::write_rejects(part, &reject)
                        .and_then(|()| part.flush())
                        .map_err(|e| Failure::writing("", &e))?;
                }
            }
        }
    }
    let (rejected, all) = (read.counts.rejected.documents, read.counts.read.documents);
    if rejected as f64 > source.max_rejects * all as f64 {
        return Err(Failure::Input(format!(
            "instruct source \"{}\": {rejected} of {all} records rejected, max_rejects is {}; first: {}; \
             correct the input or raise max_rejects for this source, and give a new work folder",
            source.name,
            source.max_rejects,
            places.join("; ")
        )));
    }
    let folder = format!("rejects/{}", source.name);
    read.rejects = rejects.map(|part| part.finish(&folder, "instruct", "jsonl", rejected)).transpose()?;
    Ok(read)
}

fn open(
    source: &InstructSource,
    input: &InputObject,
    limits: &Limits,
) -> Result<Box<dyn mellama_sources::ConversationReader>, Failure> {
    let reader = input.open().map_err(|e| ingest::changed(input, &e))?;
    let context = SourceContext {
        name: source.name.clone(),
        domain: Domain::General,
        sensitivity: source.sensitivity.unwrap_or(Sensitivity::Open),
        licence: source.licence.clone(),
        fields: Fields::default(),
        read: ReadOptions::default(),
        object: input.name.clone(),
    };
    let raw = Input::Stream(Box::new(BufReader::new(reader)));
    mellama_sources::open_conversations(context, raw, limits).map_err(|e| ingest::read_failure(input, &e))
}

/// Encodes conversations over all threads.
fn encode(conversations: &[Conversation], source: u16, tokenizer: &Tokenizer, template: Template) -> Result<Vec<Ready>, Failure> {
    let one = |conversation: &Conversation| -> Result<Ready, Failure> {
        let turns: Vec<(Speaker, &str)> =
            conversation.turns.iter().map(|turn| (speaker(turn.role), turn.text.as_str())).collect();
        let run = template.encode(tokenizer, &turns).map_err(|e| tokenize::not_encoded(&conversation.id, &e))?;
        let bytes = turns.iter().map(|(_, text)| text.len() as u64).sum();
        Ok(Ready { run, key: conversation.key(), source, bytes })
    };
    conversations.par_iter().map(one).collect()
}

/// What the table of conversations says of one.
fn row(conversation: &Conversation, ready: &Ready, length: u32) -> Listed {
    Listed {
        id: conversation.id.clone(),
        source: conversation.source.clone(),
        key: ready.key,
        tokens: ready.run.tokens.len() as u32,
        state: ready.state(length),
    }
}

fn speaker(role: Role) -> Speaker {
    match role {
        Role::System => Speaker::System,
        Role::User => Speaker::User,
        Role::Assistant => Speaker::Assistant,
    }
}

fn header(recipe: &InstructRecipe, tokenizer: &Tokenizer, length: u32) -> ShardHeader {
    let sensitivity = recipe.source.iter().map(|s| s.sensitivity.unwrap_or(Sensitivity::Open)).max();
    ShardHeader {
        format_version: mellama_shards::format::FORMAT_VERSION,
        kind: Kind::Instruct,
        sequence_length: length,
        vocabulary_size: tokenizer.vocabulary_size(),
        width: Width::for_vocabulary(tokenizer.vocabulary_size()),
        tokenizer_digest: tokenizer.digest().to_owned(),
        sources: recipe.source.iter().map(|s| s.name.clone()).collect(),
        sensitivity: sensitivity.unwrap_or(Sensitivity::Open).as_str().to_owned(),
    }
}

/// Packs whole conversations, shuffles the sequences and writes shards.
fn write(
    context: &Context<'_>,
    ready: &[Ready],
    header: &ShardHeader,
    shard_sequences: u64,
    facts: &mut InstructFacts,
) -> Result<Vec<ObjectEntry>, Failure> {
    let lengths: Vec<u32> = ready.iter().map(|r| r.run.tokens.len() as u32).collect();
    let packed = pack_items(&lengths, header.sequence_length, Method::BestFit, false)
        .map_err(|e| Failure::Failed(format!("instruct-data: {e}")))?;
    let packed = shuffle_sequences(context.file.recipe.seed, 0, packed);
    let documents: Vec<RunTokens<'_>> = ready
        .iter()
        .map(|r| RunTokens { tokens: &r.run.tokens, mask: Some(&r.run.mask), document: r.key, source: r.source, epoch: 0 })
        .collect();
    facts.tokens = lengths.iter().map(|length| u64::from(*length)).sum();
    facts.trained_tokens = ready.iter().map(|r| r.run.trained() as u64).sum();
    facts.sequences = packed.len() as u64;
    let mut objects = Vec::new();
    for (number, chunk) in packed.chunks(shard_sequences as usize).enumerate() {
        let failed = |e: &(dyn std::error::Error + 'static)| Failure::writing("shards/instruct", e);
        let mut writer = ShardWriter::new(context.workdir.part()?, header).map_err(|e| failed(&e))?;
        for pieces in chunk {
            let sequence = assemble(pieces, &documents, header.sequence_length).map_err(|e| Failure::Failed(e.to_string()))?;
            writer.push(&sequence).map_err(|e| failed(&e))?;
        }
        let (part, rows) = writer.finish().map_err(|e| failed(&e))?;
        objects.push(part.finish("shards/instruct", &format!("train-{number:05}"), "parquet", rows)?);
    }
    Ok(objects)
}
