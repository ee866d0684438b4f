//! Licences of documents, counted from what ingest wrote, for sources whose licence differs from document to document.
//!
//! Documents that later stages leave out are not counted; texts are not read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::array::{Array, StringArray};
use mellama_shards::StoreChunks;
use mellama_storage::{ObjectEntry, RangeReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::escape;
use crate::context::Context;
use crate::documents::object_of;
use crate::failure::Failure;
use crate::stage::Stage;
use crate::stages::dedup::{Removed, removed_rows};

/// Licences of one source that the table lists; what is left is one row.
const LISTED: usize = 20;

/// A table of the documents that are left, by source and licence; empty where every source has one licence.
pub(super) fn text(context: &Context<'_>) -> Result<String, Failure> {
    let mut text = String::new();
    for (index, source) in context.corpus().source.iter().enumerate().filter(|(_, source)| source.licence.is_none()) {
        let counts = count(context, index)?;
        let mut order: Vec<(&String, &u64)> = counts.iter().collect();
        // Most documents first; the map's order decides between equal ones.
        order.sort_by_key(|(_, documents)| std::cmp::Reverse(**documents));
        for (licence, documents) in order.iter().take(LISTED) {
            let licence = if licence.is_empty() { "not stated" } else { licence };
            let _ = writeln!(text, "| {} | {} | {documents} |", escape(&source.name), escape(licence));
        }
        if order.len() > LISTED {
            let rest: u64 = order[LISTED..].iter().map(|(_, documents)| **documents).sum();
            let _ = writeln!(text, "| {} | {} others | {rest} |", escape(&source.name), order.len() - LISTED);
        }
    }
    if text.is_empty() {
        return Ok(text);
    }
    Ok(format!("\nLicences of the documents that are left:\n\n| source | licence | documents |\n|---|---|---|\n{text}"))
}

fn count(context: &Context<'_>, source: usize) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    let tasks = context.plan.ingest.iter().zip(0..).filter(|(task, _)| task.source == source);
    for (_, task) in tasks {
        let commit = context.commit(Stage::Ingest, task)?;
        let Some(entry) = object_of(&commit) else { continue };
        let removed = removed_rows(context, task)?;
        for (row, licence) in licences(context, entry)?.into_iter().enumerate() {
            if !matches!(removed.get(&(row as u32)), Some(Removed::Whole)) {
                *counts.entry(licence).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

/// The licence of each row, empty where none is stated.
fn licences(context: &Context<'_>, entry: &ObjectEntry) -> Result<Vec<String>, Failure> {
    let damaged = |problem: &dyn std::fmt::Display| Failure::Verification(format!("{}: {problem}", entry.key));
    let reader = RangeReader::of(context.workdir.store().clone(), entry)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(StoreChunks(reader)).map_err(|e| damaged(&e))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["licence"]);
    let mut found = Vec::new();
    for batch in builder.with_projection(mask).build().map_err(|e| damaged(&e))? {
        let batch = batch.map_err(|e| damaged(&e))?;
        let column = batch.columns().first().and_then(|column| column.as_any().downcast_ref::<StringArray>());
        let column = column.ok_or_else(|| damaged(&"no column licence"))?;
        found.extend(column.iter().map(|licence| licence.unwrap_or_default().to_owned()));
    }
    Ok(found)
}
