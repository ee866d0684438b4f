//! What an ingest task writes: documents and what later stages need of them, and the lines that say where the others went.
//!
//! It reads no input. Everything is written in the order of the items it is given.

use std::io::Write;

use mellama_sources::{Document, DocumentWriter, DropReason, Item, PhiHit, Reject, Verdict, Withdrawal, WithdrawalReason};
use mellama_storage::{Counts, ObjectEntry, PartWriter, Tally};
use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use serde::Serialize;

use super::prepare::{Prepared, Preparer};
use super::reading::Batch;
use super::{IngestFacts, PLACES_SHOWN};
use crate::context::Context;
use crate::failure::Failure;
use crate::overlaps::OverlapWriter;
use crate::plan::IngestTask;
use crate::recipe::SourceRecipe;
use crate::sequence::{Event, SequenceWriter, Step};
use crate::signatures::SignatureWriter;
use crate::stage::TaskOutput;

/// Identifiers of one document's text, and of its title, whose places are written; all are counted.
const PHI_PLACES: usize = 10_000;

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

/// A notice, one JSON line of `withdrawals/SOURCE/…`.
#[derive(Serialize)]
struct Notice<'a> {
    native_id: &'a str,
    object: &'a str,
    byte_offset: u64,
    reason: WithdrawalReason,
}

/// A batch with what was computed from it, in its order.
pub(super) struct Made {
    items: Vec<(u32, MadeItem)>,
    finished_bytes: u64,
}

/// An item with what was computed from it.
enum MadeItem {
    Document(Box<Prepared>),
    Reject(Reject),
    Withdrawal(Withdrawal),
}

impl Made {
    /// Cleans and sketches a batch over all threads.
    pub(super) fn of(context: &Context<'_>, preparer: &Preparer<'_>, batch: Batch) -> Result<Made, Failure> {
        context.check_stop()?;
        let make = |(object, item): (u32, Item)| {
            let made = match item {
                Item::Document(document) => MadeItem::Document(Box::new(preparer.prepare(document)?)),
                Item::Reject(reject) => MadeItem::Reject(reject),
                Item::Withdrawal(notice) => MadeItem::Withdrawal(notice),
            };
            Ok((object, made))
        };
        let items = batch.items.into_par_iter().map(make).collect::<Result<_, Failure>>()?;
        Ok(Made { items, finished_bytes: batch.finished_bytes })
    }
}

/// JSON lines of one object, opened with the first of them.
#[derive(Default)]
struct Lines(Option<(PartWriter, u64)>);

/// The objects of one task while they are written.
pub(super) struct Output<'a> {
    context: &'a Context<'a>,
    planned: &'a IngestTask,
    source: &'a SourceRecipe,
    task: u64,
    /// Bands of a sketch.
    bands: u32,
    rows: u64,
    documents: Option<DocumentWriter<PartWriter>>,
    signatures: Option<SignatureWriter>,
    overlaps: Option<OverlapWriter>,
    /// Of sources whose records replace each other.
    sequence: Option<SequenceWriter>,
    rejects: Lines,
    drops: Lines,
    phi: Lines,
    withdrawals: Lines,
    counts: Counts,
    facts: IngestFacts,
}

impl<'a> Output<'a> {
    pub(super) fn begin(context: &'a Context<'a>, planned: &'a IngestTask, task: u64, bands: u32) -> Output<'a> {
        let source = &context.corpus().source[planned.source];
        Output {
            context,
            planned,
            source,
            task,
            bands,
            rows: 0,
            documents: None,
            signatures: None,
            overlaps: None,
            sequence: source.is_sequence().then(SequenceWriter::default),
            rejects: Lines::default(),
            drops: Lines::default(),
            phi: Lines::default(),
            withdrawals: Lines::default(),
            counts: Counts::default(),
            facts: IngestFacts { source: source.name.clone(), ..IngestFacts::default() },
        }
    }

    /// Writes a batch in its order.
    pub(super) fn write(&mut self, made: Made) -> Result<(), Failure> {
        for (object, item) in made.items {
            match item {
                MadeItem::Document(prepared) => self.document(object, &prepared)?,
                MadeItem::Reject(reject) => self.reject(&reject)?,
                MadeItem::Withdrawal(notice) => self.withdrawal(object, &notice)?,
            }
        }
        self.context.observer.advance(made.finished_bytes);
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
        let part = self.rejects.next(self.context)?;
        mellama_sources::write_rejects(part, reject).map_err(|e| part_failure(&e))
    }

    fn withdrawal(&mut self, object: u32, notice: &Withdrawal) -> Result<(), Failure> {
        *self.facts.withdrawals.entry(notice.reason.as_str().into()).or_default() += 1;
        let (native_id, byte_offset) = (notice.native_id.as_str(), notice.byte_offset);
        if let Some(sequence) = &mut self.sequence {
            let event = match notice.reason {
                WithdrawalReason::Deleted => Event::Deleted,
                WithdrawalReason::Retracted => Event::Retracted,
            };
            sequence.push(&Step { event, native_id, version: 0, object, byte_offset, document: None });
        }
        let name = self.planned.inputs[object as usize].name.as_str();
        self.withdrawals.write(self.context, &Notice { native_id, object: name, byte_offset, reason: notice.reason })
    }

    fn document(&mut self, object: u32, prepared: &Prepared) -> Result<(), Failure> {
        let document = &prepared.document;
        let tally = Tally { documents: 1, bytes: document.text.len() as u64 };
        self.counts.read += tally;
        self.facts.clean(&prepared.cleaned);
        self.identifiers(prepared)?;
        if let Verdict::Drop(rule) = prepared.cleaned.verdict {
            self.counts.dropped += tally;
            return self.drop(object, document, rule);
        }
        self.counts.written += tally;
        self.facts.characters += prepared.characters;
        if self.documents.is_none() {
            let part = self.context.workdir.part()?;
            self.documents = Some(DocumentWriter::new(part).map_err(|e| Failure::writing("", &e))?);
        }
        let writer = self.documents.as_mut().expect("opened above");
        writer.push(document, prepared.key).map_err(|e| Failure::writing("", &e))?;
        if let Some((sketch, standing)) = &prepared.sketch {
            if self.signatures.is_none() {
                let folder = format!("signatures/{}", self.source.name);
                self.signatures = Some(SignatureWriter::new(self.context.workdir, &folder, self.bands)?);
            }
            let signatures = self.signatures.as_mut().expect("opened above");
            signatures.push(document, prepared.characters, sketch, standing)?;
        }
        if !prepared.hits.is_empty() {
            self.overlaps.get_or_insert_with(OverlapWriter::default).push(self.rows, document, &prepared.hits);
        }
        self.step(Event::Written, object, document, Some((self.rows as u32, tally.bytes)));
        self.rows += 1;
        Ok(())
    }

    fn drop(&mut self, object: u32, document: &Document, rule: DropReason) -> Result<(), Failure> {
        *self.facts.drops.entry(rule.to_string()).or_default() += 1;
        let (name, byte_offset) = (document.origin.object.as_str(), document.origin.byte_offset);
        // What the recipe does not ask for is counted; a collection would list most of its records here.
        if rule != DropReason::NotSelected {
            self.drops.write(self.context, &Drop { id: &document.id, object: name, byte_offset, rule: rule.as_str() })?;
        }
        if rule == DropReason::Retracted && self.sequence.is_some() {
            // The record says so of itself: that reaches its older versions too.
            let native_id = document.native_id.clone();
            return self.withdrawal(object, &Withdrawal { native_id, byte_offset, reason: WithdrawalReason::Retracted });
        }
        self.step(Event::Dropped, object, document, None);
        Ok(())
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
        self.phi.write(self.context, &line)
    }

    fn step(&mut self, event: Event, object: u32, record: &Document, document: Option<(u32, u64)>) {
        let (version, byte_offset) = (record.version, record.origin.byte_offset);
        if let Some(sequence) = &mut self.sequence {
            sequence.push(&Step { event, native_id: &record.native_id, version, object, byte_offset, document });
        }
    }

    pub(super) fn finish(self) -> Result<TaskOutput, Failure> {
        let (name, stem, workdir) = (&self.source.name, format!("{:05}", self.task), self.context.workdir);
        let mut objects: Vec<ObjectEntry> = Vec::new();
        if let Some(writer) = self.documents {
            let (part, rows) = writer.finish().map_err(|e| Failure::writing("", &e))?;
            objects.push(part.finish(&format!("documents/{name}"), &stem, "parquet", rows)?);
        }
        let lines = [("rejects", self.rejects), ("drops", self.drops), ("phi", self.phi), ("withdrawals", self.withdrawals)];
        for (folder, lines) in lines {
            if let Some((part, lines)) = lines.0 {
                objects.push(part.finish(&format!("{folder}/{name}"), &stem, "jsonl", lines)?);
            }
        }
        if let Some(signatures) = self.signatures {
            objects.push(signatures.publish(&stem)?);
        }
        if let Some(overlaps) = self.overlaps {
            objects.push(overlaps.publish(workdir, &format!("overlaps/{name}"), &stem)?);
        }
        if let Some(sequence) = self.sequence {
            objects.extend(sequence.publish(workdir, &format!("sequence/{name}"), &stem)?);
        }
        let facts = serde_json::to_value(&self.facts).expect("plain data");
        Ok(TaskOutput { objects, counts: self.counts, facts })
    }
}

impl Lines {
    /// Where the next line goes.
    fn next(&mut self, context: &Context<'_>) -> Result<&mut PartWriter, Failure> {
        if self.0.is_none() {
            self.0 = Some((context.workdir.part()?, 0));
        }
        let (part, lines) = self.0.as_mut().expect("opened above");
        *lines += 1;
        Ok(part)
    }

    fn write(&mut self, context: &Context<'_>, line: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(line).expect("plain data");
        writeln!(self.next(context)?, "{line}").map_err(|e| part_failure(&e))
    }
}

fn part_failure(error: &std::io::Error) -> Failure {
    Failure::writing("writing a part; check the space and the rights of the work folder", error)
}
