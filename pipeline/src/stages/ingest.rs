//! `ingest`: raw objects to documents, rejects, drops, sketches and benchmark hits, in one pass over the text.
//!
//! A task is some objects of one source. Text is read, cleaned and sketched once; nothing is compared between documents.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};

use mellama_dedup::{NormalForm, Sketch, Sketcher};
use mellama_sources::{
    Changes, Cleaned, Cleaner, Document, DocumentWriter, Domain, DropReason, Input, Item, Limits, PhiFindings, PhiHit, RangeRead,
    ReadError, Reject, SourceContext, Verdict,
};
use mellama_storage::{Counts, ObjectEntry, PartWriter, RangeReader, StoreError, Tally, TaskCommit};
use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::inputs::InputObject;
use crate::overlaps::{DocumentHits, OverlapWriter};
use crate::plan::IngestTask;
use crate::recipe::SourceRecipe;
use crate::signatures::SignatureWriter;
use crate::stage::TaskOutput;

/// Documents that are cleaned and sketched together.
const BATCH_DOCUMENTS: usize = 512;
/// Text bytes after which a batch is closed early.
const BATCH_BYTES: usize = 32 << 20;
/// Read buffer on an input object, in bytes.
const READ_BUFFER_BYTES: usize = 1 << 20;
/// Identifiers of one document's text, and of its title, whose places are written; all are counted.
const PHI_PLACES: usize = 10_000;
/// Formats of clinical notes, whose sections are found by their headings.
const SECTIONED: [&str; 2] = ["mimic-notes", "mimic-cxr"];
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
    /// Identifiers that the scan found, by kind, in dropped documents too.
    pub phi: BTreeMap<String, u64>,
    /// The first rejects: object, byte offset and reason.
    pub places: Vec<String>,
}

/// A dropped document, one JSON line of `drops/SOURCE/…`.
#[derive(Serialize)]
struct Drop<'a> {
    id: &'a str,
    object: &'a str,
    byte_offset: u64,
    rule: &'a str,
}

/// Identifiers of one document, one JSON line of `phi/SOURCE/…`: kinds and byte ranges, never text.
#[derive(Serialize)]
struct PhiLine<'a> {
    id: &'a str,
    object: &'a str,
    byte_offset: u64,
    policy: &'a str,
    identifiers: u64,
    title_hits: Vec<PhiPlace>,
    text_hits: Vec<PhiPlace>,
}

/// Kind, first byte, byte behind it.
type PhiPlace = (&'static str, usize, usize);

/// Reads, cleans and sketches the objects of one task.
pub(crate) fn run_task(context: &Context<'_>, task: u64) -> Result<TaskOutput, Failure> {
    let planned = &context.plan.ingest[task as usize];
    let mut ingest = Ingest::begin(context, planned, task)?;
    for input in &planned.inputs {
        ingest.object(input)?;
        context.observer.advance(input.size_bytes);
    }
    ingest.finish()
}

/// Facts of the whole stage by source; refuses sources with more rejects than their budget.
pub(crate) fn close(context: &Context<'_>, commits: &[TaskCommit]) -> Result<Value, Failure> {
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
        let sums = [&mut self.drops, &mut self.changes, &mut self.removed, &mut self.rejects, &mut self.phi];
        let news = [&other.drops, &other.changes, &other.removed, &other.rejects, &other.phi];
        for (sums, new) in sums.into_iter().zip(news) {
            for (name, count) in new {
                *sums.entry(name.clone()).or_default() += count;
            }
        }
        self.places.extend(other.places.iter().cloned());
        self.places.truncate(PLACES_SHOWN);
    }
}

/// A document after cleaning, with what was computed from its text.
struct Prepared {
    document: Document,
    cleaned: Cleaned,
    sketch: Option<Sketch>,
    hits: DocumentHits,
}

/// What is computed from one document's text alone, on any thread.
struct Preparer<'a> {
    context: &'a Context<'a>,
    source: &'a SourceRecipe,
    cleaner: Cleaner,
    sketcher: Option<Sketcher>,
}

impl Preparer<'_> {
    fn prepare(&self, mut document: Document) -> Result<Prepared, Failure> {
        if !self.source.read.selects(&document) {
            let verdict = Verdict::Drop(DropReason::NotSelected);
            let cleaned = Cleaned { verdict, changes: Changes::default(), phi: PhiFindings::default() };
            return Ok(Prepared { document, cleaned, sketch: None, hits: DocumentHits::default() });
        }
        let cleaned = self.cleaner.clean(&mut document);
        if matches!(cleaned.verdict, Verdict::Drop(_)) {
            return Ok(Prepared { document, cleaned, sketch: None, hits: DocumentHits::default() });
        }
        if SECTIONED.contains(&self.source.format.as_str())
            && let Some(sections) = mellama_sources::sections::summary(&document.text)
        {
            document.meta.insert("sections".to_owned(), sections);
        }
        let form = normal_form(document.domain);
        let sketch = self.sketcher.as_ref().map(|sketcher| sketcher.sketch(&document.text, form));
        let hits = crate::overlaps::hits(self.context, &document)?;
        Ok(Prepared { document, cleaned, sketch, hits })
    }
}

struct Ingest<'a> {
    context: &'a Context<'a>,
    source: &'a SourceRecipe,
    task: u64,
    preparer: Preparer<'a>,
    batch: Vec<Document>,
    batch_bytes: usize,
    rows: u64,
    documents: Option<DocumentWriter<PartWriter>>,
    signatures: Option<SignatureWriter>,
    overlaps: Option<OverlapWriter>,
    rejects: Option<(PartWriter, u64)>,
    drops: Option<(PartWriter, u64)>,
    phi: Option<(PartWriter, u64)>,
    counts: Counts,
    facts: IngestFacts,
}

impl<'a> Ingest<'a> {
    fn begin(context: &'a Context<'a>, planned: &IngestTask, task: u64) -> Result<Ingest<'a>, Failure> {
        let corpus = context.corpus();
        let source = &corpus.source[planned.source];
        let sketcher = corpus.dedup.as_ref().map(|dedup| Sketcher::new(crate::stages::dedup::spec(dedup))).transpose();
        Ok(Ingest {
            context,
            source,
            task,
            preparer: Preparer {
                context,
                source,
                cleaner: Cleaner::new(corpus.clean.as_ref()),
                sketcher: sketcher.map_err(|e| Failure::Policy(format!("corpus.dedup: {e}")))?,
            },
            batch: Vec::new(),
            batch_bytes: 0,
            rows: 0,
            documents: None,
            signatures: None,
            overlaps: None,
            rejects: None,
            drops: None,
            phi: None,
            counts: Counts::default(),
            facts: IngestFacts { source: source.name.clone(), ..IngestFacts::default() },
        })
    }

    fn object(&mut self, input: &InputObject) -> Result<(), Failure> {
        let reader = input.open().map_err(|e| changed(input, &e))?;
        let format = self.source.format.parse().map_err(|e| Failure::Policy(format!("{e}")))?;
        let raw = match format {
            mellama_sources::Format::Parquet => Input::Random(Box::new(Ranges(reader))),
            _ => Input::Stream(Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, reader))),
        };
        let source_context = SourceContext {
            name: self.source.name.clone(),
            domain: self.source.domain,
            sensitivity: self.source.resolved_sensitivity(),
            licence: self.source.licence.clone(),
            fields: self.source.fields.clone(),
            read: self.source.read.clone(),
            object: input.name.clone(),
        };
        let mut reader =
            mellama_sources::open(format, source_context, raw, &Limits::default()).map_err(|e| read_failure(input, &e))?;
        while let Some(item) = reader.next() {
            match item.map_err(|e| read_failure(input, &e))? {
                Item::Document(document) => self.document(document)?,
                Item::Reject(reject) => self.reject(&reject)?,
                Item::Withdrawal(_) => {}
            }
        }
        Ok(())
    }

    fn document(&mut self, document: Document) -> Result<(), Failure> {
        self.batch_bytes += document.text.len();
        self.batch.push(document);
        if self.batch.len() >= BATCH_DOCUMENTS || self.batch_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn reject(&mut self, reject: &Reject) -> Result<(), Failure> {
        let tally = Tally { documents: 1, bytes: reject.bytes };
        self.counts.read += tally;
        self.counts.rejected += tally;
        *self.facts.rejects.entry(reject.reason.code().into()).or_default() += 1;
        if self.facts.places.len() < PLACES_SHOWN {
            self.facts.places.push(format!("{} at byte {}: {}", reject.object, reject.byte_offset, reject.reason));
        }
        let (part, lines) = open_lines(self.context, &mut self.rejects)?;
        *lines += 1;
        mellama_sources::write_rejects(part, reject).map_err(|e| part_failure(&e))
    }

    /// Cleans and sketches a batch over all threads, then writes it in order.
    fn flush(&mut self) -> Result<(), Failure> {
        self.context.check_stop()?;
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let preparer = &self.preparer;
        let prepared: Result<Vec<Prepared>, Failure> = batch.into_par_iter().map(|d| preparer.prepare(d)).collect();
        prepared?.iter().try_for_each(|document| self.write(document))
    }

    fn write(&mut self, prepared: &Prepared) -> Result<(), Failure> {
        let document = &prepared.document;
        let tally = Tally { documents: 1, bytes: document.text.len() as u64 };
        self.counts.read += tally;
        self.facts.clean(&prepared.cleaned);
        self.identifiers(prepared)?;
        if let Verdict::Drop(rule) = prepared.cleaned.verdict {
            return self.drop(document, rule, tally);
        }
        self.counts.written += tally;
        let characters = document.text.chars().count() as u64;
        self.facts.characters += characters;
        if self.documents.is_none() {
            let part = self.context.workdir.part()?;
            self.documents = Some(DocumentWriter::new(part).map_err(|e| Failure::Storage(e.to_string()))?);
        }
        let writer = self.documents.as_mut().expect("opened above");
        writer.push(document).map_err(|e| Failure::Storage(e.to_string()))?;
        if let Some(sketch) = &prepared.sketch {
            let bands = self.preparer.sketcher.as_ref().map_or(0, |s| s.spec().bands);
            let signatures = self.signatures.get_or_insert_with(|| SignatureWriter::new(bands));
            signatures.push(&document.id, document.version, &document.text, sketch);
        }
        if !prepared.hits.is_empty() {
            self.overlaps.get_or_insert_with(OverlapWriter::default).push(self.rows, document, &prepared.hits);
        }
        self.rows += 1;
        Ok(())
    }

    fn drop(&mut self, document: &Document, rule: DropReason, tally: Tally) -> Result<(), Failure> {
        self.counts.dropped += tally;
        *self.facts.drops.entry(rule.to_string()).or_default() += 1;
        // What the recipe does not ask for is counted; a collection would list most of its records here.
        if rule == DropReason::NotSelected {
            return Ok(());
        }
        let (object, byte_offset) = (document.origin.object.as_str(), document.origin.byte_offset);
        let line = Drop { id: &document.id, object, byte_offset, rule: rule.as_str() };
        write_line(self.context, &mut self.drops, &line)
    }

    fn identifiers(&mut self, prepared: &Prepared) -> Result<(), Failure> {
        let (document, found) = (&prepared.document, &prepared.cleaned.phi);
        if found.is_empty() {
            return Ok(());
        }
        let places = |hits: &[PhiHit]| -> Vec<PhiPlace> {
            hits.iter().take(PHI_PLACES).map(|hit| (hit.kind.as_str(), hit.range.start, hit.range.end)).collect()
        };
        let line = PhiLine {
            id: &document.id,
            object: &document.origin.object,
            byte_offset: document.origin.byte_offset,
            policy: found.policy.as_str(),
            identifiers: (found.text.len() + found.title.len()) as u64,
            title_hits: places(&found.title),
            text_hits: places(&found.text),
        };
        write_line(self.context, &mut self.phi, &line)
    }

    fn finish(mut self) -> Result<TaskOutput, Failure> {
        self.flush()?;
        let (name, stem) = (&self.source.name, format!("{:05}", self.task));
        let mut objects: Vec<ObjectEntry> = Vec::new();
        if let Some(writer) = self.documents {
            let (part, rows) = writer.finish().map_err(|e| Failure::Storage(e.to_string()))?;
            objects.push(part.finish(&format!("documents/{name}"), &stem, "parquet", rows)?);
        }
        if let Some((part, lines)) = self.rejects {
            objects.push(part.finish(&format!("rejects/{name}"), &stem, "jsonl", lines)?);
        }
        if let Some((part, lines)) = self.drops {
            objects.push(part.finish(&format!("drops/{name}"), &stem, "jsonl", lines)?);
        }
        if let Some((part, lines)) = self.phi {
            objects.push(part.finish(&format!("phi/{name}"), &stem, "jsonl", lines)?);
        }
        if let Some(signatures) = self.signatures {
            objects.push(signatures.publish(self.context.workdir, &format!("signatures/{name}"), &stem)?);
        }
        if let Some(overlaps) = self.overlaps {
            objects.push(overlaps.publish(self.context.workdir, &format!("overlaps/{name}"), &stem)?);
        }
        let facts = serde_json::to_value(&self.facts).expect("plain data");
        Ok(TaskOutput { objects, counts: self.counts, facts })
    }
}

/// The normal form that a domain's text is compared in.
pub(crate) fn normal_form(domain: Domain) -> NormalForm {
    match domain {
        Domain::Clinical => NormalForm::Clinical,
        Domain::Biomedical | Domain::General => NormalForm::Plain,
    }
}

/// Random access for the Parquet reader over a pinned input object.
struct Ranges(RangeReader);

impl RangeRead for Ranges {
    fn len(&self) -> u64 {
        self.0.size_bytes()
    }

    fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        self.0.read_at(offset, length).map_err(std::io::Error::other)
    }
}

fn open_lines<'p>(
    context: &Context<'_>,
    slot: &'p mut Option<(PartWriter, u64)>,
) -> Result<(&'p mut PartWriter, &'p mut u64), Failure> {
    if slot.is_none() {
        *slot = Some((context.workdir.part()?, 0));
    }
    let (part, lines) = slot.as_mut().expect("opened above");
    Ok((part, lines))
}

fn write_line(context: &Context<'_>, slot: &mut Option<(PartWriter, u64)>, line: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(line).expect("plain data");
    let (part, lines) = open_lines(context, slot)?;
    *lines += 1;
    writeln!(part, "{line}").map_err(|e| part_failure(&e))
}

fn part_failure(error: &std::io::Error) -> Failure {
    Failure::Storage(format!("writing a part: {error}; check the space and the rights of the work folder"))
}

pub(crate) fn changed(input: &InputObject, error: &StoreError) -> Failure {
    Failure::Input(format!("{}: the input is not as planned: {error}", input.name))
}

pub(crate) fn read_failure(input: &InputObject, error: &ReadError) -> Failure {
    let text = format!("{}: {}", input.name, chain(error));
    let ReadError::Io { source, .. } = error;
    let cause = source.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>());
    match cause {
        Some(StoreError::Changed { .. } | StoreError::NotFound { .. }) => Failure::Input(text),
        _ => Failure::Storage(text),
    }
}
