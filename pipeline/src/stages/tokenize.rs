//! `tokenize`: the kept documents of one ingest task to token runs, begin and end tokens included, counted once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::PoisonError;

use mellama_shards::order::Prf;
use mellama_shards::{
    NewRun, RunHeader, RunIndex, RunTotals, RunWriter, ShardError, TokenObject, Tokenizer, TokenizerError, Width,
};
use mellama_sources::archive::KeyedText;
use mellama_storage::{Counts, ObjectEntry, PartWriter, Tally, TaskCommit};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ahead::{Take, ahead};
use crate::context::Context;
use crate::documents;
use crate::failure::{Failure, chain};
use crate::separators::Separators;
use crate::stage::{Stage, TaskOutput};
use crate::stages::dedup::{Removed, removed_rows};
use crate::token_runs;

/// Documents that are encoded together.
const BATCH_DOCUMENTS: usize = 256;
/// Text bytes after which a batch is closed early. Two batches are held at most: one that is read, one that is encoded.
const BATCH_BYTES: usize = 16 << 20;
/// Batches that wait.
const BATCHES_AHEAD: usize = 0;
/// Memory that the `tokenizers` library takes for a byte of text, measured for files of usual rules: 100 to 215.
const LIBRARY_BYTES: u64 = 256;
/// Purpose of the hash that chooses held-out documents. Frozen: it decides which documents are never trained on.
const HELDOUT_PURPOSE: &str = "heldout";

/// What a tokenize task says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct TokenizeFacts {
    /// Source name.
    pub source: String,
    /// Tokens and documents, the held-out part apart.
    pub totals: RunTotals,
}

/// One task for each ingest task.
pub(crate) fn task_count(context: &Context<'_>) -> Result<u64, Failure> {
    let before = if Stage::of(&context.file.recipe).contains(&Stage::Dedup) { Stage::Dedup } else { Stage::Ingest };
    context.manifest(before)?;
    Ok(context.plan.ingest.len() as u64)
}

/// Encodes the kept documents of ingest task `task`.
pub(crate) fn run_task(context: &Context<'_>, task: u64) -> Result<TaskOutput, Failure> {
    let source = context.source_name(context.plan.ingest[task as usize].source).to_owned();
    let commit = context.commit(Stage::Ingest, task)?;
    let mut facts = TokenizeFacts { source: source.clone(), totals: RunTotals::default() };
    let mut counts = Counts::default();
    let mut objects = Vec::new();
    if let Some(entry) = documents::object_of(&commit) {
        let tokenizer = context.tokenizer()?;
        let mut work = Tokenize::begin(context, &tokenizer, &source)?;
        work.object(entry, &removed_rows(context, task)?)?;
        let (written, totals, bytes) = work.finish(&source, task)?;
        objects.extend(written);
        let tally = Tally { documents: totals.documents, bytes };
        counts = Counts { read: tally, written: tally, ..counts };
        facts.totals = totals;
    }
    Ok(TaskOutput { objects, counts, facts: serde_json::to_value(facts).expect("plain data") })
}

/// Tokens by source.
pub(crate) fn close(context: &Context<'_>, commits: &[TaskCommit]) -> Value {
    let mut sources: BTreeMap<String, RunTotals> = BTreeMap::new();
    for facts in commits.iter().filter_map(|c| serde_json::from_value::<TokenizeFacts>(c.facts.clone()).ok()) {
        let sum = sources.entry(facts.source).or_default();
        sum.documents += facts.totals.documents;
        sum.tokens += facts.totals.tokens;
        sum.heldout_documents += facts.totals.heldout_documents;
        sum.heldout_tokens += facts.totals.heldout_tokens;
    }
    let tokenizer = context.tokenizer().map(|t| {
        let (name, digest, vocabulary) = (t.name(), t.digest(), t.vocabulary_size());
        let encoder = t.encoder().as_str();
        json!({"name": name, "digest": digest, "vocabulary": vocabulary, "bos": t.bos(), "eos": t.eos(), "encoder": encoder})
    });
    json!({ "sources": sources, "tokenizer": tokenizer.ok(), "separators": context.separators().ok() })
}

/// The facts of a finished task.
///
/// # Errors
/// `Failure::Verification` when they are not understood.
pub(crate) fn facts_of(commit: &TaskCommit) -> Result<TokenizeFacts, Failure> {
    serde_json::from_value(commit.facts.clone())
        .map_err(|e| Failure::Verification(format!("commits/tokenize/{:05}.json: facts not understood: {e}", commit.task)))
}

/// Opens the tokens of a finished tokenize task without their index, if it wrote any.
///
/// # Errors
/// `Failure::Verification` for damaged objects.
pub(crate) fn open_tokens(context: &Context<'_>, commit: &TaskCommit) -> Result<Option<TokenObject>, Failure> {
    let width = Width::for_vocabulary(context.tokenizer()?.vocabulary_size());
    token_runs::tokens(context.workdir, commit, width, facts_of(commit)?.totals.tokens)
}

/// Opens the index of a finished tokenize task, if it wrote any.
///
/// # Errors
/// `Failure::Verification` for damaged objects.
pub(crate) fn index_of(context: &Context<'_>, commit: &TaskCommit) -> Result<Option<RunIndex>, Failure> {
    token_runs::index(context.workdir, commit)
}

/// A document to encode, and what goes of it before.
struct Pending<'a> {
    document: KeyedText,
    /// Byte ranges of the text.
    cut: &'a [(u64, u64)],
}

impl Pending<'_> {
    /// Memory that the `tokenizers` library takes for it.
    fn library_bytes(&self) -> u64 {
        LIBRARY_BYTES * self.document.text.len() as u64
    }

    /// Refuses a text that the library cannot take within `memory` bytes.
    fn check_memory(&self, memory: u64) -> Result<(), Failure> {
        let (id, text, needed) = (&self.document.id, self.document.text.len(), self.library_bytes());
        if needed <= memory {
            return Ok(());
        }
        Err(Failure::Input(format!(
            "{id}: {text} bytes of text, for which the tokenizers library takes about {} MiB, half of --memory is {} MiB; give more \
             memory, or lower corpus.limits.record_bytes to reject it",
            needed >> 20,
            memory >> 20
        )))
    }
}

/// A document whose tokens are known.
struct Encoded {
    key: u128,
    id: String,
    heldout: bool,
    tokens: Vec<u32>,
    /// Text that was encoded.
    bytes: u64,
}

/// What is computed from one document's text alone, on any thread.
struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    separators: Separators,
    /// The hash that chooses, and the bound below which a document is held out.
    heldout: (Prf, u128),
}

impl Encoder<'_> {
    fn encode(&self, Pending { document, cut: ranges }: &Pending<'_>) -> Result<Encoded, Failure> {
        let text = if ranges.is_empty() { Cow::Borrowed(&document.text) } else { Cow::Owned(cut(&document.text, ranges)) };
        let mut tokens = Vec::with_capacity(text.len() / 3 + 8);
        tokens.extend(self.separators.bos);
        let encoded = self.tokenizer.encode_into(&text, &mut tokens);
        encoded.map_err(|e| not_encoded(&document.id, &e))?;
        tokens.extend(self.separators.eos);
        let heldout = u128::from(self.heldout.0.hash(0, document.id.as_bytes())) < self.heldout.1;
        Ok(Encoded { key: document.key, id: document.id.clone(), heldout, tokens, bytes: text.len() as u64 })
    }
}

/// Reads the documents that are left of an object and gives them away batch by batch.
fn read<'r>(
    context: &Context<'_>,
    entry: &ObjectEntry,
    removed: &'r BTreeMap<u32, Removed>,
    give: &mut Take<'_, Vec<Pending<'r>>>,
) -> Result<(), Failure> {
    let damaged = |e: &(dyn std::error::Error + 'static)| Failure::reading(&entry.key, e);
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    for (row, document) in documents::keyed_texts(context.workdir, entry)?.enumerate() {
        let document = document.map_err(|e| damaged(&e))?;
        let cut: &[(u64, u64)] = match removed.get(&(row as u32)) {
            Some(Removed::Whole) => continue,
            Some(Removed::Ranges(ranges)) => ranges,
            None => &[],
        };
        batch_bytes += document.text.len();
        batch.push(Pending { document, cut });
        if batch.len() >= BATCH_DOCUMENTS || batch_bytes >= BATCH_BYTES {
            give(std::mem::take(&mut batch))?;
            batch_bytes = 0;
        }
    }
    give(batch)
}

struct Tokenize<'a> {
    context: &'a Context<'a>,
    encoder: Encoder<'a>,
    writer: RunWriter<PartWriter, PartWriter>,
    bytes: u64,
}

impl<'a> Tokenize<'a> {
    fn begin(context: &'a Context<'a>, tokenizer: &'a Tokenizer, source: &str) -> Result<Tokenize<'a>, Failure> {
        let header = RunHeader {
            format_version: mellama_shards::runs::RUNS_FORMAT_VERSION,
            source: source.to_owned(),
            vocabulary_size: tokenizer.vocabulary_size(),
            width: Width::for_vocabulary(tokenizer.vocabulary_size()),
            tokenizer_digest: tokenizer.digest().to_owned(),
        };
        let writer = RunWriter::new(context.workdir.part()?, context.workdir.part()?, &header).map_err(|e| writing(&e))?;
        let share = context.corpus().pack.as_ref().map_or(0.0, |pack| pack.heldout);
        // A share of 2^64, exact for every share that a recipe writes: 1.0 holds every document out.
        let limit = (share * 2f64.powi(64)) as u128;
        let prf = Prf::new(context.file.recipe.seed, HELDOUT_PURPOSE);
        let encoder = Encoder { tokenizer, separators: context.separators()?, heldout: (prf, limit) };
        Ok(Tokenize { context, encoder, writer, bytes: 0 })
    }

    /// Encodes and writes what `read` gives, while it reads on.
    fn object(&mut self, entry: &ObjectEntry, removed: &BTreeMap<u32, Removed>) -> Result<(), Failure> {
        let context = self.context;
        let mut write = |batch: Vec<Pending<'_>>| self.flush(&batch);
        ahead(context.resources.threads, BATCHES_AHEAD, |give| read(context, entry, removed, give), &mut write)
    }

    fn flush(&mut self, batch: &[Pending<'_>]) -> Result<(), Failure> {
        if self.encoder.tokenizer.encoder() == mellama_shards::Encoder::Own {
            return self.together(batch);
        }
        // Half of the memory is for the texts of all tasks, the other half for one that is longer than its task's part.
        let memory = self.context.resources.memory_bytes / 2;
        let part = memory / Stage::Tokenize.workers(self.context)? as u64;
        let mut rest = batch;
        while let Some(first) = rest.first() {
            let mut needed = 0;
            let fitting = rest.iter().take_while(|pending| {
                needed += pending.library_bytes();
                needed <= part
            });
            let count = fitting.count().max(1);
            let (now, later) = rest.split_at(count);
            rest = later;
            if first.library_bytes() <= part {
                self.together(now)?;
                continue;
            }
            first.check_memory(memory)?;
            let context = self.context;
            let _alone = context.cache.long_text.lock().unwrap_or_else(PoisonError::into_inner);
            self.together(now)?;
        }
        Ok(())
    }

    fn together(&mut self, batch: &[Pending<'_>]) -> Result<(), Failure> {
        self.context.check_stop()?;
        let encoder = &self.encoder;
        let encoded = batch.par_iter().map(|pending| encoder.encode(pending)).collect::<Result<Vec<_>, _>>()?;
        self.bytes += encoded.iter().map(|run| run.bytes).sum::<u64>();
        for run in &encoded {
            let new = NewRun { key: run.key, id: &run.id, heldout: run.heldout, tokens: &run.tokens };
            self.writer.push(new).map_err(|e| not_written(&e))?;
        }
        Ok(())
    }

    fn finish(self, source: &str, task: u64) -> Result<(Vec<ObjectEntry>, RunTotals, u64), Failure> {
        let (tokens, index, totals) = self.writer.finish().map_err(|e| writing(&e))?;
        let (folder, stem) = (format!("tokens/{source}"), format!("{task:05}"));
        let tokens = tokens.finish(&folder, &stem, "tokens", totals.documents)?;
        let index = index.finish(&folder, &format!("{stem}-index"), "parquet", totals.documents)?;
        Ok((vec![tokens, index], totals, self.bytes))
    }
}

/// A text that is too long is the input's fault; what an encoder cannot do is its own.
pub(crate) fn not_encoded(id: &str, error: &TokenizerError) -> Failure {
    match error {
        TokenizerError::TextTooLong { .. } => {
            Failure::Input(format!("{id}: {error}, or lower corpus.limits.record_bytes to reject it"))
        }
        TokenizerError::LongRun { .. } => Failure::Input(format!("{id}: {error}")),
        _ => Failure::Failed(format!("{id}: {error}")),
    }
}

fn not_written(error: &ShardError) -> Failure {
    match error {
        ShardError::LongDocument { .. } => Failure::Input(chain(error)),
        _ => writing(error),
    }
}

fn writing(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::writing("tokens", error)
}

/// The text without the given byte ranges, which ascend and lie on character boundaries.
fn cut(text: &str, ranges: &[(u64, u64)]) -> String {
    let mut left = String::with_capacity(text.len());
    let mut from = 0;
    for (start, end) in ranges {
        left.push_str(&text[from..*start as usize]);
        from = *end as usize;
    }
    left.push_str(&text[from..]);
    left
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn ranges_are_cut_out() {
        let check = |ranges: &[(u64, u64)], expected: &str| assert_eq!(cut("0123456789", ranges), expected);
        check(&[], "0123456789");
        check(&[(0, 3)], "3456789");
        check(&[(2, 4), (8, 10)], "014567");
    }
}
