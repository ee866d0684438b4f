//! `dedup`: which documents go, and why. Replaced and withdrawn records, duplicates and benchmark leaks of the whole corpus,
//! decided once.
//!
//! One task. It reads sequences, sketches and hits, and the text of proposed pairs only; documents stay as ingest wrote them.

use std::collections::BTreeMap;

use arrow::array::{ListArray, UInt32Array};
use mellama_dedup::{Entry, Options, Outcome, SketchSpec, VerifyMode, deduplicate};
use mellama_storage::{Counts, ObjectEntry, Tally, TaskCommit, Workdir};
use serde_json::json;

use crate::context::Context;
use crate::documents::{self, Place, StoredTexts};
use crate::failure::{Failure, chain};
use crate::overlaps::{self, Leak};
use crate::recipe::DedupRecipe;
use crate::sequence::{self, Fate, Gone};
use crate::signatures;
use crate::stage::{Stage, TaskOutput};
use crate::stages::ingest::normal_form;
use crate::tables;

/// Share of the memory budget for band records.
const BAND_MEMORY_SHARE: u64 = 2;

/// The sketch setting of a recipe.
pub(crate) fn spec(recipe: &DedupRecipe) -> SketchSpec {
    SketchSpec { bands: recipe.bands, rows: recipe.rows, shingle_words: recipe.shingle_words }
}

/// What later stages must leave out of one document's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removed {
    /// The whole document.
    Whole,
    /// These byte ranges of its text, ascending.
    Ranges(Vec<(u64, u64)>),
}

/// A removal by place, with what it takes.
struct Out {
    reason: &'static str,
    bytes: u64,
    cuts: Vec<(u64, u64)>,
}

/// A document with another in its place: one row of `decisions/`.
struct Decision {
    place: Place,
    dropped_id: String,
    kept_id: String,
    rule: &'static str,
    similarity: f64,
}

/// Decides which records stand, then duplicates among them, then leaks among what is left.
pub(crate) fn run_task(context: &Context<'_>) -> Result<TaskOutput, Failure> {
    let commits = context.commits(Stage::Ingest)?;
    let mut out: BTreeMap<Place, Out> = BTreeMap::new();
    let mut objects = Vec::new();
    let mut facts = serde_json::Map::new();
    let settled = sequence::settle(context, &commits)?;
    for gone in &settled.gone {
        out.insert(gone.place, Out { reason: gone.fate.as_str(), bytes: gone.bytes, cuts: Vec::new() });
    }
    let mut found = None;
    if let Some(recipe) = &context.corpus().dedup {
        let corpus = load(context, &commits, |place| out.contains_key(&place))?;
        let outcome = duplicates(context, recipe, &commits, &corpus)?;
        for removal in &outcome.removals {
            let bytes = corpus.bytes[removal.dropped];
            out.insert(corpus.places[removal.dropped], Out { reason: removal.rule.as_str(), bytes, cuts: Vec::new() });
        }
        facts.insert("duplicates".into(), summary(recipe, &outcome));
        found = Some((corpus, outcome));
    }
    if found.is_some() || !settled.facts.is_null() {
        objects.push(decisions(context.workdir, &settled.gone, found.as_ref())?);
    }
    drop(found);
    if !settled.facts.is_null() {
        facts.insert("sequence".into(), settled.facts);
    }
    if let Some(recipe) = &context.corpus().decontaminate {
        let leaks = overlaps::leaks(context, &commits, recipe, |place| out.contains_key(&place))?;
        objects.push(overlaps::publish_leaks(context, &leaks.rows)?);
        facts.insert("contamination".into(), leaks.facts.clone());
        for leak in &leaks.rows {
            take(&recipe.policy, leak, &mut out);
        }
    }
    objects.push(removed(context.workdir, &out)?);
    facts.insert("removed".into(), by_source(context, &out));
    let counts = count(context, &out)?;
    Ok(TaskOutput { objects, counts, facts: facts.into() })
}

/// What the dedup stage takes from the documents of one ingest task, by row. Empty without that stage.
///
/// # Errors
/// As `Context::manifest`.
pub(crate) fn removed_rows(context: &Context<'_>, task: u64) -> Result<BTreeMap<u32, Removed>, Failure> {
    if !Stage::of(&context.file.recipe).contains(&Stage::Dedup) {
        return Ok(BTreeMap::new());
    }
    let commit = context.commit(Stage::Dedup, 0)?;
    let mut rows = BTreeMap::new();
    for entry in commit.objects.iter().filter(|entry| entry.key.starts_with("removed/")) {
        for batch in tables::read(context.workdir, entry)? {
            let tasks: &UInt32Array = tables::column(&batch, "task")?;
            let row: &UInt32Array = tables::column(&batch, "row")?;
            let starts: &ListArray = tables::column(&batch, "cut_starts")?;
            let ends: &ListArray = tables::column(&batch, "cut_ends")?;
            for i in (0..batch.num_rows()).filter(|i| u64::from(tasks.value(*i)) == task) {
                let cuts: Vec<(u64, u64)> = tables::list_row(starts, i).into_iter().zip(tables::list_row(ends, i)).collect();
                rows.insert(row.value(i), if cuts.is_empty() { Removed::Whole } else { Removed::Ranges(cuts) });
            }
        }
    }
    Ok(rows)
}

/// Sketches of the whole corpus, with the place of each.
struct Sketches {
    entries: Vec<Entry>,
    places: Vec<Place>,
    bytes: Vec<u64>,
}

/// All but those for which `gone` holds: what does not stand takes no part, neither as a duplicate nor as a keeper.
fn load(context: &Context<'_>, commits: &[TaskCommit], gone: impl Fn(Place) -> bool) -> Result<Sketches, Failure> {
    let mut corpus = Sketches { entries: Vec::new(), places: Vec::new(), bytes: Vec::new() };
    for commit in commits {
        let index = context.plan.ingest[commit.task as usize].source;
        let source = &context.corpus().source[index];
        for entry in commit.objects.iter().filter(|entry| entry.key.starts_with("signatures/")) {
            for (row, signature) in signatures::read(context.workdir, entry)?.into_iter().enumerate() {
                let place = Place { task: commit.task as u32, row: row as u32 };
                if gone(place) {
                    continue;
                }
                corpus.places.push(place);
                corpus.bytes.push(signature.bytes);
                corpus.entries.push(Entry {
                    id: signature.id,
                    source: index as u32,
                    version: signature.version,
                    rank: index as u32,
                    characters: signature.characters,
                    form: normal_form(source.domain),
                    exact_only: source.templated,
                    sketch: signature.sketch,
                });
            }
        }
    }
    Ok(corpus)
}

fn duplicates(
    context: &Context<'_>,
    recipe: &DedupRecipe,
    commits: &[TaskCommit],
    corpus: &Sketches,
) -> Result<Outcome, Failure> {
    let verify = match recipe.verify.as_str() {
        "tolerant" => VerifyMode::Tolerant { min_similarity: recipe.min_similarity },
        _ => VerifyMode::Strict,
    };
    let memory = context.resources.memory_bytes;
    let options =
        Options { spec: spec(recipe), verify, max_source_loss: recipe.max_source_loss, memory_bytes: memory / BAND_MEMORY_SHARE };
    let sources: Vec<String> = context.corpus().source.iter().map(|s| s.name.clone()).collect();
    let objects: Vec<Option<ObjectEntry>> = commits.iter().map(|c| documents::object_of(c).cloned()).collect();
    let texts = StoredTexts::new(context.workdir, &objects, &corpus.places, memory);
    deduplicate(&corpus.entries, &sources, &options, &context.resources.scratch, &texts).map_err(|error| {
        let text = chain(&error);
        match error {
            mellama_dedup::DedupError::SourceLoss { .. } => Failure::Input(text),
            mellama_dedup::DedupError::Spec(_) => Failure::Policy(text),
            _ => Failure::Storage(text),
        }
    })
}

/// Who stands in whose place, by the place of what was removed.
fn decisions(workdir: &Workdir, gone: &[Gone], found: Option<&(Sketches, Outcome)>) -> Result<ObjectEntry, Failure> {
    let mut rows: Vec<Decision> = Vec::new();
    for gone in gone {
        let Fate::Replaced(by) = gone.fate else { continue };
        // Where the newer record is itself a copy of another document, that one stands in the end.
        let survivor = found.and_then(|(corpus, outcome)| {
            let index = corpus.places.binary_search(&by).ok()?;
            Some(corpus.entries[outcome.survivor(index)].id.clone())
        });
        let kept_id = survivor.unwrap_or_else(|| gone.id.clone());
        let (place, rule) = (gone.place, gone.fate.as_str());
        rows.push(Decision { place, dropped_id: gone.id.clone(), kept_id, rule, similarity: 1.0 });
    }
    if let Some((corpus, outcome)) = found {
        let id = |index: usize| corpus.entries[index].id.clone();
        rows.extend(outcome.removals.iter().map(|removal| Decision {
            place: corpus.places[removal.dropped],
            dropped_id: id(removal.dropped),
            kept_id: id(outcome.survivor(removal.dropped)),
            rule: removal.rule.as_str(),
            similarity: removal.similarity,
        }));
    }
    rows.sort_unstable_by_key(|row| row.place);
    let batch = tables::batch(vec![
        ("dropped_id", tables::strings(rows.iter().map(|row| &row.dropped_id))),
        ("kept_id", tables::strings(rows.iter().map(|row| &row.kept_id))),
        ("rule", tables::strings(rows.iter().map(|row| row.rule))),
        ("similarity", tables::f64s(rows.iter().map(|row| row.similarity))),
        ("spec_version", tables::u32s(rows.iter().map(|_| mellama_dedup::SPEC_VERSION))),
    ]);
    tables::publish(workdir, "decisions", "duplicates", &batch)
}

fn summary(recipe: &DedupRecipe, outcome: &Outcome) -> serde_json::Value {
    let mut rules: BTreeMap<&str, u64> = BTreeMap::new();
    for removal in &outcome.removals {
        *rules.entry(removal.rule.as_str()).or_default() += 1;
    }
    json!({
        "spec_version": mellama_dedup::SPEC_VERSION,
        "sketch": spec(recipe).summary(),
        "verify": recipe.verify,
        "rules": rules,
        "candidates": outcome.candidates,
        "comparisons": outcome.comparisons,
        "clusters": outcome.clusters,
        "losses": outcome.losses,
    })
}

/// Applies the decontamination policy to one leak.
fn take(policy: &str, leak: &Leak, out: &mut BTreeMap<Place, Out>) {
    match policy {
        "drop" => {
            out.entry(leak.place).or_insert(Out { reason: "contaminated", bytes: leak.bytes, cuts: Vec::new() });
        }
        "cut" => {
            let bytes = leak.ranges.iter().map(|(start, end)| end - start).sum();
            let whole = bytes >= leak.bytes || leak.ranges.is_empty();
            let cuts = if whole { Vec::new() } else { leak.ranges.clone() };
            let bytes = if whole { leak.bytes } else { bytes };
            out.entry(leak.place).or_insert(Out { reason: "contaminated", bytes, cuts });
        }
        _ => {}
    }
}

fn removed(workdir: &Workdir, out: &BTreeMap<Place, Out>) -> Result<ObjectEntry, Failure> {
    let starts: Vec<Vec<u64>> = out.values().map(|o| o.cuts.iter().map(|cut| cut.0).collect()).collect();
    let ends: Vec<Vec<u64>> = out.values().map(|o| o.cuts.iter().map(|cut| cut.1).collect()).collect();
    let batch = tables::batch(vec![
        ("task", tables::u32s(out.keys().map(|place| place.task))),
        ("row", tables::u32s(out.keys().map(|place| place.row))),
        ("reason", tables::strings(out.values().map(|o| o.reason))),
        ("bytes", tables::u64s(out.values().map(|o| o.bytes))),
        ("cut_starts", tables::lists(&starts)),
        ("cut_ends", tables::lists(&ends)),
    ]);
    tables::publish(workdir, "removed", "places", &batch)
}

/// Removed documents by source and reason.
fn by_source(context: &Context<'_>, out: &BTreeMap<Place, Out>) -> serde_json::Value {
    let mut sources: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (place, out) in out {
        let source = context.source_name(context.plan.ingest[place.task as usize].source);
        let reason = if out.cuts.is_empty() { out.reason } else { "contaminated-cut" };
        *sources.entry(source).or_default().entry(reason).or_default() += 1;
    }
    json!(sources)
}

fn count(context: &Context<'_>, out: &BTreeMap<Place, Out>) -> Result<Counts, Failure> {
    let read = context.manifest(Stage::Ingest)?.counts.written;
    let whole = out.values().filter(|o| o.cuts.is_empty()).count() as u64;
    let dropped = Tally { documents: whole, bytes: out.values().map(|o| o.bytes).sum() };
    let written = Tally { documents: read.documents - dropped.documents, bytes: read.bytes - dropped.bytes };
    Ok(Counts { read, written, dropped, rejected: Tally::default() })
}
