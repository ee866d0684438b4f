//! The last task: what became of every document, with the evidence. It stops the run before anything of that is published
//! when a source would lose too much.
//!
//! It holds 4 bytes a document, what was removed after a comparison, the ids of the documents that stand for others, the
//! sequences and the leaks; all else is read and written in the order of the corpus.

use std::collections::BTreeMap;

use mellama_storage::{Counts, ObjectEntry, Tally, TaskCommit, Workdir};
use serde_json::{Value, json};

use crate::context::Context;
use crate::documents::Place;
use crate::failure::Failure;
use crate::overlaps::{self, Fates, Findings, Leak};
use crate::sequence::{self, Fate, Gone, Settled};
use crate::signatures;
use crate::stage::{Stage, TaskOutput};
use crate::tables::{self, TableWriter};

use super::Phases;
use super::corpus::{Corpus, Inputs};
use super::found::Found;

/// A removal by row, with what it takes.
struct Out {
    reason: &'static str,
    bytes: u64,
    cuts: Vec<(u64, u64)>,
}

/// A document with another in its place: one row of `decisions/`.
struct Decision {
    dropped_id: String,
    kept_id: String,
    rule: &'static str,
    similarity: f64,
    containment: f64,
    /// The release that keeps it; empty for this run.
    kept_release: String,
}

/// Decides which records stand, then duplicates among them, then leaks among what is left.
pub(super) fn run(context: &Context<'_>, phases: Option<&Phases<'_>>) -> Result<TaskOutput, Failure> {
    let inputs = Inputs::read(context)?;
    let settled = sequence::settle(context, &inputs.commits)?;
    let corpus = phases.map(|_| Corpus::of(context, &inputs)).transpose()?;
    let mut facts = serde_json::Map::new();
    let mut found: Option<Found<'_>> = None;
    let mut duplicate_facts = None;
    if let (Some(phases), Some(corpus)) = (phases, &corpus) {
        let names = inputs.releases.iter().map(|release| release.name.clone()).collect();
        let (loaded, summary) = Found::load(context, phases, corpus, names)?;
        duplicate_facts = Some(summary);
        found = Some(loaded);
    }
    if !settled.facts.is_null() {
        facts.insert("sequence".into(), settled.facts.clone());
    }
    let mut objects = Vec::new();
    let mut leaks = Findings::default();
    if let Some(recipe) = &context.corpus().decontaminate {
        let mut held = overlaps::leaks(context, &inputs.commits, recipe, &Standing { settled: &settled, found: found.as_ref() })?;
        while let Some(found) = &mut found
            && found.restore(&held.rows) > 0
        {
            let fates = Standing { settled: &settled, found: Some(found) };
            held = overlaps::leaks(context, &inputs.commits, recipe, &fates)?;
        }
        objects.push(overlaps::publish_leaks(context, &held.rows)?);
        facts.insert("contamination".into(), held.facts);
        leaks = held.rows;
    }
    if let (Some(mut summary), Some(found)) = (duplicate_facts, &found) {
        (summary["rules"], summary["restored"]) = (json!(found.rules()), json!(found.restored()));
        facts.insert("duplicates".into(), summary);
    }
    let mut writer = Writer::new(context, found.as_mut(), &settled, &leaks)?;
    for commit in &inputs.commits {
        context.check_stop()?;
        writer.task(commit)?;
    }
    let (written, removed, dropped) = writer.finish()?;
    objects.extend(written);
    facts.insert("removed".into(), removed);
    let read = context.manifest(Stage::Ingest)?.counts.written;
    let written = Tally { documents: read.documents - dropped.documents, bytes: read.bytes - dropped.bytes };
    let counts = Counts { read, written, dropped, rejected: Tally::default() };
    Ok(TaskOutput { objects, counts, facts: facts.into() })
}

/// What stands once sequences and duplicates are settled.
struct Standing<'a> {
    settled: &'a Settled,
    found: Option<&'a Found<'a>>,
}

impl Standing<'_> {
    fn gone(&self, place: Place) -> Option<&Gone> {
        let gone = &self.settled.gone;
        gone.binary_search_by_key(&place, |gone| gone.place).ok().map(|found| &gone[found])
    }
}

impl Fates for Standing<'_> {
    fn is_gone(&self, place: Place) -> bool {
        self.gone(place).is_some() || self.found.is_some_and(|found| found.is_removed(place))
    }

    fn stands_for(&self, place: Place) -> Option<Place> {
        let place = match self.gone(place).map(|gone| gone.fate) {
            Some(Fate::Replaced(by)) => by,
            Some(_) => return None,
            None => place,
        };
        match self.found {
            Some(found) => found.last_place(place),
            None => Some(place),
        }
    }
}

/// Writes `decisions/` and `removed/`, one ingest task after the other.
struct Writer<'a> {
    context: &'a Context<'a>,
    found: Option<&'a Found<'a>>,
    settled: &'a Settled,
    /// In the order of the corpus.
    leaks: Vec<&'a Leak>,
    decisions: Option<TableWriter>,
    objects: Vec<ObjectEntry>,
    /// Removed documents by source and reason.
    removed: BTreeMap<&'a str, BTreeMap<&'static str, u64>>,
    dropped: Tally,
}

impl<'a> Writer<'a> {
    fn new(
        context: &'a Context<'a>,
        found: Option<&'a mut Found<'a>>,
        settled: &'a Settled,
        leaks: &'a Findings,
    ) -> Result<Writer<'a>, Failure> {
        let mut decisions = None;
        if found.is_some() || !settled.facts.is_null() {
            decisions = Some(TableWriter::new(context.workdir, "decisions", &batch(&BTreeMap::new()))?);
        }
        let found = match found {
            None => None,
            Some(found) => {
                found.name_survivors(settled)?;
                Some(&*found)
            }
        };
        let (removed, dropped) = (BTreeMap::new(), Tally::default());
        let leaks = leaks.into_iter().collect();
        Ok(Writer { context, found, settled, leaks, decisions, objects: Vec::new(), removed, dropped })
    }

    /// Everything that goes of one ingest task.
    fn task(&mut self, commit: &TaskCommit) -> Result<(), Failure> {
        let task = commit.task as u32;
        let mut out: BTreeMap<u32, Out> = BTreeMap::new();
        let mut decisions: BTreeMap<u32, Decision> = BTreeMap::new();
        let gone = &self.settled.gone;
        let gone = &gone[gone.partition_point(|g| g.place.task < task)..gone.partition_point(|g| g.place.task <= task)];
        for gone in gone {
            out.insert(gone.place.row, Out { reason: gone.fate.as_str(), bytes: gone.bytes, cuts: Vec::new() });
            if let Fate::Replaced(by) = gone.fate {
                // Where the newer record is itself a copy of another document, that one stands in the end.
                let survivor = self.found.and_then(|found| found.survivor_at(by));
                let (kept_id, kept_release) = survivor.unwrap_or_else(|| (gone.id.clone(), String::new()));
                let (dropped_id, rule) = (gone.id.clone(), gone.fate.as_str());
                decisions.insert(
                    gone.place.row,
                    Decision { dropped_id, kept_id, rule, similarity: 1.0, containment: 1.0, kept_release },
                );
            }
        }
        if let Some(found) = self.found {
            duplicates(found, task, &mut out, &mut decisions)?;
        }
        let policy = self.context.corpus().decontaminate.as_ref().map_or("", |recipe| recipe.policy.as_str());
        let first = self.leaks.partition_point(|leak| leak.place.task < task);
        for leak in self.leaks[first..].iter().take_while(|leak| leak.place.task == task) {
            take(policy, leak, &mut out);
        }
        self.count(task, &out);
        if let Some(writer) = self.decisions.as_mut().filter(|_| !decisions.is_empty()) {
            writer.push(&batch(&decisions))?;
        }
        if !out.is_empty() {
            self.objects.push(removed(self.context.workdir, task, &out)?);
        }
        Ok(())
    }

    fn count(&mut self, task: u32, out: &BTreeMap<u32, Out>) {
        if out.is_empty() {
            return;
        }
        let source = self.context.source_name(self.context.plan.ingest[task as usize].source);
        let reasons = self.removed.entry(source).or_default();
        for out in out.values() {
            let reason = if out.cuts.is_empty() { out.reason } else { "contaminated-cut" };
            *reasons.entry(reason).or_default() += 1;
            self.dropped.documents += u64::from(out.cuts.is_empty());
            self.dropped.bytes += out.bytes;
        }
    }

    /// The objects, the counts by source and reason, and what was removed in all.
    fn finish(mut self) -> Result<(Vec<ObjectEntry>, Value, Tally), Failure> {
        if let Some(writer) = self.decisions {
            self.objects.insert(0, writer.finish("duplicates")?);
        }
        Ok((self.objects, json!(self.removed), self.dropped))
    }
}

/// Removed duplicates of one task.
fn duplicates(
    found: &Found<'_>,
    task: u32,
    out: &mut BTreeMap<u32, Out>,
    decisions: &mut BTreeMap<u32, Decision>,
) -> Result<(), Failure> {
    let Some(part) = found.part_with_removals(task) else { return Ok(()) };
    let mut number = part.first;
    signatures::for_each_id(part.workdir, part.signatures, |id, bytes| {
        if let Some(removal) = found.removal(number) {
            let row = number - part.first;
            let (kept_id, kept_release) = found.survivor(number);
            let (rule, dropped_id) = (removal.rule.as_str(), id.to_owned());
            let (similarity, containment) = (removal.similarity, removal.containment);
            out.insert(row, Out { reason: rule, bytes, cuts: Vec::new() });
            decisions.insert(row, Decision { dropped_id, kept_id, rule, similarity, containment, kept_release });
        }
        number += 1;
        Ok(())
    })
}

/// Who stands in whose place, by row.
fn batch(decisions: &BTreeMap<u32, Decision>) -> arrow::array::RecordBatch {
    let rows = || decisions.values();
    tables::batch(vec![
        ("dropped_id", tables::strings(rows().map(|row| &row.dropped_id))),
        ("kept_id", tables::strings(rows().map(|row| &row.kept_id))),
        ("rule", tables::strings(rows().map(|row| row.rule))),
        ("similarity", tables::f64s(rows().map(|row| row.similarity))),
        ("spec_version", tables::u32s(rows().map(|_| mellama_dedup::SPEC_VERSION))),
        ("containment", tables::f64s(rows().map(|row| row.containment))),
        ("kept_release", tables::strings(rows().map(|row| &row.kept_release))),
    ])
}

/// Applies the decontamination policy to one leak.
fn take(policy: &str, leak: &Leak, out: &mut BTreeMap<u32, Out>) {
    match policy {
        "drop" => {
            out.entry(leak.place.row).or_insert(Out { reason: "contaminated", bytes: leak.bytes, cuts: Vec::new() });
        }
        "cut" => {
            let bytes = leak.ranges.iter().map(|(start, end)| end - start).sum();
            let whole = bytes >= leak.bytes || leak.ranges.is_empty();
            let cuts = if whole { Vec::new() } else { leak.ranges.clone() };
            let bytes = if whole { leak.bytes } else { bytes };
            out.entry(leak.place.row).or_insert(Out { reason: "contaminated", bytes, cuts });
        }
        _ => {}
    }
}

fn removed(workdir: &Workdir, task: u32, out: &BTreeMap<u32, Out>) -> Result<ObjectEntry, Failure> {
    let starts: Vec<Vec<u64>> = out.values().map(|o| o.cuts.iter().map(|cut| cut.0).collect()).collect();
    let ends: Vec<Vec<u64>> = out.values().map(|o| o.cuts.iter().map(|cut| cut.1).collect()).collect();
    let batch = tables::batch(vec![
        ("task", tables::u32s(out.keys().map(|_| task))),
        ("row", tables::u32s(out.keys().copied())),
        ("reason", tables::strings(out.values().map(|o| o.reason))),
        ("bytes", tables::u64s(out.values().map(|o| o.bytes))),
        ("cut_starts", tables::lists(&starts)),
        ("cut_ends", tables::lists(&ends)),
    ]);
    tables::publish(workdir, "removed", &format!("{task:05}"), &batch)
}
