//! Benchmark hits: found a document at a time during ingest, decided for the whole corpus in dedup.
//!
//! A hit is an n-gram that an evaluation item holds too, or an id that an item was made from.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ListArray, StringArray, UInt32Array, UInt64Array};
use mellama_dedup::{BOILERPLATE_DOCUMENTS, BenchmarkIndex, Boilerplate, Frequencies, PartOverlap};
use mellama_sources::Document;
use mellama_storage::{ObjectEntry, TaskCommit, Workdir};
use serde::Serialize;
use serde_json::{Value, json};

use crate::benchmarks;
use crate::context::Context;
use crate::documents::{self, Place};
use crate::failure::{Failure, chain};
use crate::recipe::DecontaminateRecipe;
use crate::tables;

/// What one document shares with the benchmarks, before boilerplate is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DocumentHits {
    grams: Vec<u64>,
    excluded: Vec<u64>,
}

impl DocumentHits {
    pub(crate) fn is_empty(&self) -> bool {
        self.grams.is_empty() && self.excluded.is_empty()
    }
}

/// A document that holds a benchmark item.
#[derive(Debug, Clone)]
pub(crate) struct Leak {
    pub place: Place,
    pub id: String,
    /// Bytes of its text.
    pub bytes: u64,
    /// Byte ranges to cut; empty when the id alone gives it away.
    pub ranges: Vec<(u64, u64)>,
    items: Vec<LeakedItem>,
}

/// One item that a document holds.
#[derive(Debug, Clone, Serialize)]
struct LeakedItem {
    benchmark: String,
    item: String,
    /// Share of the n-grams of the item's best part; null for a match by id.
    share: Option<f64>,
}

/// The leaks of a corpus.
pub(crate) struct Leaks {
    pub rows: Vec<Leak>,
    pub facts: Value,
}

/// The index over the recipe's benchmarks, built once a process; `None` without `[corpus.decontaminate]`.
///
/// # Errors
/// `Failure::Input` for unreadable benchmarks.
pub(crate) fn index(context: &Context<'_>) -> Result<Option<Arc<BenchmarkIndex>>, Failure> {
    if let Some(index) = context.cache.benchmarks.get() {
        return Ok(index.clone());
    }
    let built = match &context.corpus().decontaminate {
        None => None,
        Some(recipe) => {
            let items = benchmarks::read(&context.plan.benchmarks)?;
            let index = BenchmarkIndex::build(items, recipe.ngram as usize);
            Some(Arc::new(index.map_err(|e| Failure::Policy(chain(&e)))?))
        }
    };
    Ok(context.cache.benchmarks.get_or_init(|| built).clone())
}

/// The hits of one document.
///
/// # Errors
/// As `index`.
pub(crate) fn hits(context: &Context<'_>, document: &Document) -> Result<DocumentHits, Failure> {
    let Some(index) = index(context)? else { return Ok(DocumentHits::default()) };
    let excluded: BTreeSet<u64> =
        names(context, document).iter().flat_map(|name| index.items_excluding(name)).map(u64::from).collect();
    Ok(DocumentHits { grams: index.grams(&document.text), excluded: excluded.into_iter().collect() })
}

/// The ids under which benchmarks may know a document.
fn names(context: &Context<'_>, document: &Document) -> Vec<String> {
    let named = |kind: &str| document.meta.get(kind).map(|value| format!("{kind}:{value}"));
    let mut names: Vec<String> = ["pmid", "pmcid", "doi"].into_iter().filter_map(named).collect();
    let source = context.corpus().source.iter().find(|source| source.name == document.source);
    if source.is_some_and(|source| source.format == "pubmed-xml") {
        names.push(format!("pmid:{}", document.native_id));
    }
    names
}

/// Collects the hits of one ingest task.
#[derive(Debug, Default)]
pub(crate) struct OverlapWriter {
    rows: Vec<u32>,
    ids: Vec<String>,
    bytes: Vec<u64>,
    grams: Vec<Vec<u64>>,
    excluded: Vec<Vec<u64>>,
}

impl OverlapWriter {
    pub(crate) fn push(&mut self, row: u64, document: &Document, hits: &DocumentHits) {
        self.rows.push(row as u32);
        self.ids.push(document.id.clone());
        self.bytes.push(document.text.len() as u64);
        self.grams.push(hits.grams.clone());
        self.excluded.push(hits.excluded.clone());
    }

    /// Publishes `folder/stem-DIGEST.parquet`.
    ///
    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn publish(self, workdir: &Workdir, folder: &str, stem: &str) -> Result<ObjectEntry, Failure> {
        let batch = tables::batch(vec![
            ("row", tables::u32s(self.rows)),
            ("id", tables::strings(&self.ids)),
            ("bytes", tables::u64s(self.bytes)),
            ("grams", tables::lists(&self.grams)),
            ("excluded_items", tables::lists(&self.excluded)),
        ]);
        tables::publish(workdir, folder, stem, &batch)
    }
}

/// A document with hits, as read back.
struct Hit {
    place: Place,
    id: String,
    bytes: u64,
    hits: DocumentHits,
}

/// Decides which documents of the corpus hold a benchmark item; those for which `gone` holds do not count.
///
/// # Errors
/// `Failure::Verification` for damaged objects.
pub(crate) fn leaks(
    context: &Context<'_>,
    commits: &[TaskCommit],
    recipe: &DecontaminateRecipe,
    gone: impl Fn(Place) -> bool,
) -> Result<Leaks, Failure> {
    let index = index(context)?.expect("called with [corpus.decontaminate]");
    let mut found = Vec::new();
    for commit in commits {
        for entry in commit.objects.iter().filter(|entry| entry.key.starts_with("overlaps/")) {
            found.extend(read(context.workdir, commit.task as u32, entry)?);
        }
    }
    found.retain(|hit| !gone(hit.place));
    let numbered = found.iter().enumerate().map(|(i, hit)| (i as u64, hit.hits.grams.as_slice()));
    let verdict = index.resolve(numbered, BOILERPLATE_DOCUMENTS, recipe.min_share);
    let mut shared: BTreeMap<usize, Vec<PartOverlap>> =
        verdict.contaminated.iter().map(|(document, parts)| (*document as usize, parts.clone())).collect();
    for i in (0..found.len()).filter(|i| !found[*i].hits.excluded.is_empty()) {
        shared.entry(i).or_default();
    }
    let boilerplate = boilerplate(&index, &found);
    let finder = Finder { context, commits, index: &index, boilerplate: &boilerplate, recipe };
    let mut rows = Vec::new();
    for (i, parts) in shared {
        rows.push(finder.leak(&found[i], &parts)?);
    }
    let facts = facts(context, &index, &rows, &verdict.partial, (verdict.boilerplate_grams, verdict.boilerplate_parts), recipe);
    Ok(Leaks { rows, facts })
}

/// Publishes who holds what: ids and shares, one JSON line a document.
///
/// # Errors
/// `Failure::Storage`.
pub(crate) fn publish_leaks(context: &Context<'_>, rows: &[Leak]) -> Result<ObjectEntry, Failure> {
    let mut part = context.workdir.part()?;
    for leak in rows {
        let line = json!({"id": leak.id, "items": leak.items}).to_string();
        writeln!(part, "{line}").map_err(|e| Failure::Storage(format!("contamination: {e}")))?;
    }
    Ok(part.finish("contamination", "documents", "jsonl", rows.len() as u64)?)
}

fn read(workdir: &Workdir, task: u32, entry: &ObjectEntry) -> Result<Vec<Hit>, Failure> {
    let mut found = Vec::new();
    for batch in tables::read(workdir, entry)? {
        let rows: &UInt32Array = tables::column(&batch, "row")?;
        let ids: &StringArray = tables::column(&batch, "id")?;
        let bytes: &UInt64Array = tables::column(&batch, "bytes")?;
        let grams: &ListArray = tables::column(&batch, "grams")?;
        let excluded: &ListArray = tables::column(&batch, "excluded_items")?;
        for i in 0..batch.num_rows() {
            let hits = DocumentHits { grams: tables::list_row(grams, i), excluded: tables::list_row(excluded, i) };
            let place = Place { task, row: rows.value(i) };
            found.push(Hit { place, id: ids.value(i).to_owned(), bytes: bytes.value(i), hits });
        }
    }
    Ok(found)
}

fn boilerplate(index: &BenchmarkIndex, found: &[Hit]) -> Boilerplate {
    let mut frequencies = Frequencies::new(index);
    for hit in found {
        frequencies.add(index, &hit.hits.grams);
    }
    frequencies.boilerplate(index, BOILERPLATE_DOCUMENTS)
}

/// What the verdict on one document needs.
struct Finder<'a> {
    context: &'a Context<'a>,
    commits: &'a [TaskCommit],
    index: &'a BenchmarkIndex,
    boilerplate: &'a Boilerplate,
    recipe: &'a DecontaminateRecipe,
}

impl Finder<'_> {
    /// The items that a document holds, and what to cut of it.
    fn leak(&self, hit: &Hit, parts: &[PartOverlap]) -> Result<Leak, Failure> {
        let mut shares: BTreeMap<u32, Option<f64>> = hit.hits.excluded.iter().map(|item| (*item as u32, None)).collect();
        for part in parts.iter().filter(|part| part.share >= self.recipe.min_share) {
            let best = shares.entry(part.item).or_default();
            *best = Some(best.map_or(part.share, |b| b.max(part.share)));
        }
        let mut ranges = Vec::new();
        // A document known by its id is the item's own source: cutting what matches would leave the rest of the abstract.
        if self.recipe.policy == "cut" && hit.hits.excluded.is_empty() {
            let items: BTreeSet<u32> = shares.keys().copied().collect();
            let found = self.index.matched_ranges(&self.text(hit.place)?, &items, self.boilerplate);
            ranges = found.into_iter().map(|r| (r.start as u64, r.end as u64)).collect();
        }
        let item = |(item, share): (&u32, &Option<f64>)| {
            let known = self.index.item(*item);
            LeakedItem { benchmark: known.benchmark.clone(), item: known.item.clone(), share: *share }
        };
        let items = shares.iter().map(item).collect();
        Ok(Leak { place: hit.place, id: hit.id.clone(), bytes: hit.bytes, ranges, items })
    }

    fn text(&self, place: Place) -> Result<String, Failure> {
        let entry = documents::object_of(&self.commits[place.task as usize]).expect("a hit lies in an object that was written");
        let (first, texts) = documents::texts_around(self.context.workdir, entry, place.row)?;
        Ok(texts[(place.row - first) as usize].clone())
    }
}

fn facts(
    context: &Context<'_>,
    index: &BenchmarkIndex,
    rows: &[Leak],
    partial: &[(u64, Vec<PartOverlap>)],
    boilerplate: (u64, u64),
    recipe: &DecontaminateRecipe,
) -> Value {
    // Source × benchmark, and items a benchmark has.
    let mut matrix: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for leak in rows {
        let source = context.source_name(context.plan.ingest[leak.place.task as usize].source);
        let sets: BTreeSet<&str> = leak.items.iter().map(|item| item.benchmark.as_str()).collect();
        for set in sets {
            *matrix.entry(source.to_owned()).or_default().entry(set.to_owned()).or_default() += 1;
        }
    }
    let mut items: BTreeMap<&str, u64> = BTreeMap::new();
    for item in index.items() {
        *items.entry(item.benchmark.as_str()).or_default() += 1;
    }
    json!({
        "policy": recipe.policy,
        "ngram": recipe.ngram,
        "min_share": recipe.min_share,
        "items": items,
        "items_unchecked": index.items_unchecked(),
        "documents": rows.len(),
        "documents_partial": partial.len(),
        "boilerplate_grams": boilerplate.0,
        "boilerplate_parts": boilerplate.1,
        "source_by_benchmark": matrix,
    })
}
