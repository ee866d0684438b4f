//! Benchmark hits: found a document at a time during ingest, decided for the whole corpus in dedup.
//!
//! A hit is an n-gram that an evaluation item holds too, or the name of a record that an item was made from. Here is what ingest
//! finds and writes; `verdict` decides, `facts` counts.

mod facts;
mod verdict;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ListArray, StringArray, UInt32Array, UInt64Array};
use mellama_dedup::BenchmarkIndex;
use mellama_sources::Document;
use mellama_storage::{ObjectEntry, Workdir};

use crate::context::Context;
use crate::documents::Place;
use crate::failure::{Failure, chain};
use crate::recipe::SourceRecipe;
use crate::{benchmarks, names, tables};

pub(crate) use verdict::{Fates, Findings, Leak, leaks, publish_leaks};

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
        names_of(context, document).iter().flat_map(|name| index.items_excluding(name)).map(u64::from).collect();
    Ok(DocumentHits { grams: index.grams(&document.text), excluded: excluded.into_iter().collect() })
}

/// The names under which benchmarks may know a document: those of its meta data, and its native id where its source says what
/// that is.
pub(crate) fn names_of(context: &Context<'_>, document: &Document) -> Vec<String> {
    let source = context.corpus().source.iter().find(|source| source.name == document.source);
    source.map_or_else(|| names::of_document(document, ""), |source| names_by(source, document))
}

/// [`names_of`] for a document of a known source.
pub(crate) fn names_by(source: &SourceRecipe, document: &Document) -> Vec<String> {
    let id_field = match source.format.as_str() {
        "pubmed-xml" => "pmid".to_owned(),
        // A path names its last member: `meta.pmid`.
        _ => source.fields.id.as_deref().map_or(String::new(), |id| id.rsplit('.').next().unwrap_or(id).to_lowercase()),
    };
    names::of_document(document, &id_field)
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
