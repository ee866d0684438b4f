//! `ingest`: raw objects to documents, rejects, drops, sketches and benchmark hits, in one pass over the text.
//!
//! A task is some objects of one source. Text is read, cleaned and sketched once; nothing is compared between documents.

mod decoding;
mod output;
mod prepare;
mod reading;
mod sequential;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;

use mellama_dedup::NormalForm;
use mellama_sources::{Cleaned, Domain, ReadError};
use mellama_storage::{Counts, StoreError, TaskCommit};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::inputs::InputObject;
use crate::recipe::SourceRecipe;
use crate::stage::TaskOutput;

use output::{Made, Output};
use prepare::Preparer;

pub(crate) use sequential::KeptReaders;

/// Prepared batches that wait to be written.
const BATCHES_TO_WRITE: usize = 1;
/// Reject places that a message shows.
const PLACES_SHOWN: usize = 3;

/// What an ingest task says of itself in its commit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct IngestFacts {
    /// Source name.
    pub source: String,
    /// Documents written, in Unicode scalars.
    pub characters: u64,
    /// Dropped documents by the cleaning rule that dropped them.
    pub drops: BTreeMap<String, u64>,
    /// Read documents that a cleaning rule changed, by rule; dropped ones too.
    #[serde(default)]
    pub changes: BTreeMap<String, u64>,
    /// What cleaning removed from documents: `boilerplate-lines`, `repeated-paragraphs`.
    #[serde(default)]
    pub removed: BTreeMap<String, u64>,
    /// Rejected records by reason.
    pub rejects: BTreeMap<String, u64>,
    /// Notices that take records back, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub withdrawals: BTreeMap<String, u64>,
    /// Identifiers that the scan found, by kind, in dropped documents too.
    pub phi: BTreeMap<String, u64>,
    /// The first rejects: object, byte offset and reason.
    pub places: Vec<String>,
}

/// Reads, cleans and sketches the objects of one task.
pub(crate) fn run_task(context: &Context<'_>, task: u64) -> Result<TaskOutput, Failure> {
    let planned = &context.plan.ingest[task as usize];
    let preparer = Preparer::new(context, &context.corpus().source[planned.source])?;
    let mut output = Output::begin(context, planned, task, preparer.bands());
    if context.resources.threads < 2 {
        reading::read(context, planned, &mut |batch| output.write(Made::of(context, &preparer, batch)?))?;
        return output.finish();
    }
    // What is prepared is written, and so compressed, while the next batch is prepared.
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Made>(BATCHES_TO_WRITE);
        let writing = scope.spawn(move || receiver.iter().try_for_each(|made| output.write(made)).map(|()| output));
        // Nobody receives any more only where writing has failed: its failure is the one that is told.
        let unwanted = |_| Failure::Failed("ingest: nobody writes what is read".into());
        let read =
            reading::read(context, planned, &mut |batch| sender.send(Made::of(context, &preparer, batch)?).map_err(unwanted));
        drop(sender);
        let output = writing.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        read?;
        output.finish()
    })
}

/// Facts of the whole stage by source; refuses sources with more rejects than their budget.
pub(crate) fn close(context: &Context<'_>, commits: &[TaskCommit]) -> Result<Value, Failure> {
    context.cache.readers.clear();
    let mut sources: BTreeMap<String, (Counts, IngestFacts)> = BTreeMap::new();
    for commit in commits {
        let facts = facts_of(commit)?;
        let (counts, sum) = sources.entry(facts.source.clone()).or_default();
        *counts += commit.counts;
        sum.add(&facts);
    }
    for source in &context.corpus().source {
        if let Some((counts, facts)) = sources.get(&source.name) {
            check_rejects(source, counts, facts)?;
            if let Some(warning) = many_drops(&source.name, counts, facts) {
                context.observer.warn(&warning);
            }
        }
    }
    let facts: BTreeMap<&String, Value> =
        sources.iter().map(|(name, (counts, facts))| (name, serde_json::json!({"counts": counts, "facts": facts}))).collect();
    Ok(serde_json::json!({ "sources": facts }))
}

/// The facts that an ingest task left.
pub(crate) fn facts_of(commit: &TaskCommit) -> Result<IngestFacts, Failure> {
    serde_json::from_value(commit.facts.clone())
        .map_err(|e| Failure::Verification(format!("commits/ingest/{:05}.json: facts not understood: {e}", commit.task)))
}

fn check_rejects(source: &SourceRecipe, counts: &Counts, facts: &IngestFacts) -> Result<(), Failure> {
    let (rejected, read) = (counts.rejected.documents, counts.read.documents);
    if rejected as f64 <= source.max_rejects * read as f64 {
        return Ok(());
    }
    let reasons: Vec<String> = facts.rejects.iter().map(|(code, n)| format!("{n} {code}")).collect();
    Err(Failure::Input(format!(
        "source \"{}\": {rejected} of {read} records rejected ({}), max_rejects is {}; first: {}; \
         correct the input or raise max_rejects for this source, and give a new work folder",
        source.name,
        reasons.join(", "),
        source.max_rejects,
        facts.places.join("; "),
    )))
}

/// What is said of a source that cleaning has dropped more than half of.
fn many_drops(source: &str, counts: &Counts, facts: &IngestFacts) -> Option<String> {
    let (dropped, read) = (counts.dropped.documents, counts.read.documents);
    let (rule, of_rule) = facts.drops.iter().max_by_key(|(_, documents)| **documents)?;
    (dropped > read / 2).then(|| {
        format!(
            "source \"{source}\": {dropped} of {read} documents dropped, {of_rule} of them by {rule}; look into drops/{source}/, and set the \
             rule under [corpus.clean] where they are wanted"
        )
    })
}

impl IngestFacts {
    /// Counts what cleaning did to one document, kept or not.
    fn clean(&mut self, cleaned: &Cleaned) {
        for change in cleaned.changes.iter() {
            *self.changes.entry(change.to_string()).or_default() += 1;
        }
        let removed = [
            ("boilerplate-lines", cleaned.changes.boilerplate_lines),
            ("repeated-paragraphs", cleaned.changes.repeated_paragraphs),
        ];
        for (name, count) in removed.into_iter().filter(|removed| removed.1 > 0) {
            *self.removed.entry(name.to_owned()).or_default() += count;
        }
        for hit in cleaned.phi.text.iter().chain(&cleaned.phi.title) {
            *self.phi.entry(hit.kind.to_string()).or_default() += 1;
        }
    }

    fn add(&mut self, other: &IngestFacts) {
        self.source.clone_from(&other.source);
        self.characters += other.characters;
        let (changes, removed) = (&mut self.changes, &mut self.removed);
        let sums = [&mut self.drops, changes, removed, &mut self.rejects, &mut self.withdrawals, &mut self.phi];
        let news = [&other.drops, &other.changes, &other.removed, &other.rejects, &other.withdrawals, &other.phi];
        for (sums, new) in sums.into_iter().zip(news) {
            for (name, count) in new {
                *sums.entry(name.clone()).or_default() += count;
            }
        }
        self.places.extend(other.places.iter().cloned());
        self.places.truncate(PLACES_SHOWN);
    }
}

/// The normal form that a domain's text is compared in.
pub(crate) fn normal_form(domain: Domain) -> NormalForm {
    match domain {
        Domain::Clinical => NormalForm::Clinical,
        Domain::Biomedical | Domain::General => NormalForm::Plain,
    }
}

pub(crate) fn changed(input: &InputObject, error: &StoreError) -> Failure {
    Failure::Input(format!("{}: the input is not as planned: {error}", input.name))
}

/// The failure of reading an input. A signal, a busy server and an input that is not as planned are told as such.
pub(crate) fn read_failure(input: &InputObject, error: &ReadError) -> Failure {
    let ReadError::Io { byte_offset, source, .. } = error;
    match source.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>()) {
        Some(cause @ (StoreError::Changed { .. } | StoreError::NotFound { .. })) => changed(input, cause),
        Some(cause) => {
            let place = format!("{}: at byte {byte_offset} of it, decompressed", input.name);
            Failure::of(cause, format!("{place}: {}", chain(cause)), Failure::Storage)
        }
        None => Failure::Storage(chain(error)),
    }
}

#[cfg(test)]
mod tests;
