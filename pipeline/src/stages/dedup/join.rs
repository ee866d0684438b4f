//! The tasks of the bands: which documents share the key of one band, as a forest of ordinals.
//!
//! A task reads one column of every signature object and publishes at most one pair a document.

use arrow::array::{UInt32Array, UInt64Array};
use mellama_dedup::{Forest, join_band};
use mellama_storage::ObjectEntry;
use serde_json::json;

use crate::context::Context;
use crate::documents::scratch_failure;
use crate::failure::Failure;
use crate::signatures::band_column;
use crate::stage::TaskOutput;
use crate::tables::{self, TableWriter};

use super::corpus::{Corpus, Inputs};
use super::order::OrderFacts;
use super::{Phases, join_budget};

/// Bytes of the forest a document.
pub(super) const FOREST_BYTES: u64 = 4;

pub(super) fn run(context: &Context<'_>, phases: &Phases<'_>, band: u32) -> Result<TaskOutput, Failure> {
    let inputs = Inputs::read(context)?;
    let corpus = Corpus::of(context, &inputs)?;
    let order = phases.order(context)?;
    let facts: OrderFacts = order.facts()?;
    let mut forest = Forest::new(facts.documents);
    let mut failure = None;
    let ordinals = ordinals(context, order.object("ordinals")?)?;
    let keys = keys(&corpus, band);
    let mut read = 0u32;
    let pairs = keys.zip(ordinals).inspect(|_| read += 1);
    let records = pairs.filter_map(|(key, ordinal)| match (key, ordinal) {
        (Ok(key), Ok((ordinal, true))) => Some(Ok((key, ordinal))),
        (Ok(_), Ok((_, false))) => None,
        (Err(error), _) | (_, Err(error)) => {
            failure = Some(error);
            Some(Err(std::io::Error::other("a table could not be read")))
        }
    });
    let memory = join_budget(context, facts.documents);
    let candidates = join_band(records, facts.joined as usize, memory, &context.resources.scratch, &mut |a, b| forest.join(a, b));
    let candidates = candidates.map_err(|error| failure.unwrap_or_else(|| scratch_failure(&error)))?;
    if read != facts.documents {
        let documents = facts.documents;
        return Err(Failure::Verification(format!("band {band}: {read} keys for {documents} documents; run \"mellama verify\"")));
    }
    let object = publish(context, forest, &format!("{}-forest", band_column(band)))?;
    Ok(TaskOutput { objects: vec![object], facts: json!({ "candidates": candidates }), ..TaskOutput::default() })
}

/// The keys of a band, by document number.
fn keys<'a>(corpus: &'a Corpus<'_>, band: u32) -> impl Iterator<Item = Result<u64, Failure>> + use<'a> {
    let name = band_column(band);
    corpus.parts.iter().flat_map(move |part| {
        let keys = tables::stream(part.workdir, part.signatures, &[name.as_str()]);
        let (batches, failed) = match keys {
            Ok(batches) => (Some(batches), None),
            Err(error) => (None, Some(Err(error))),
        };
        failed.into_iter().chain(batches.into_iter().flatten().flat_map(|batch| match batch {
            Ok(batch) => values(&batch),
            Err(error) => vec![Err(error)],
        }))
    })
}

fn values(batch: &arrow::array::RecordBatch) -> Vec<Result<u64, Failure>> {
    let column = batch.column(0).as_any().downcast_ref::<UInt64Array>();
    match column {
        Some(keys) => keys.values().iter().map(|key| Ok(*key)).collect(),
        None => vec![Err(Failure::Verification("a band column: of another type; run \"mellama verify\"".into()))],
    }
}

/// Ordinal of each document by number, and whether its bands are joined.
pub(super) fn ordinals(
    context: &Context<'_>,
    entry: &ObjectEntry,
) -> Result<impl Iterator<Item = Result<(u32, bool), Failure>> + use<>, Failure> {
    let batches = tables::stream(context.workdir, entry, &["ordinal", "joined"])?;
    Ok(batches.flat_map(|batch| {
        let rows = batch.and_then(|batch| {
            let (ordinals, joined): (&UInt32Array, &UInt32Array) =
                (tables::column(&batch, "ordinal")?, tables::column(&batch, "joined")?);
            Ok(ordinals.values().iter().zip(joined.values()).map(|(ordinal, joined)| Ok((*ordinal, *joined == 1))).collect())
        });
        rows.unwrap_or_else(|error| vec![Err(error)])
    }))
}

fn publish(context: &Context<'_>, forest: Forest, stem: &str) -> Result<ObjectEntry, Failure> {
    let batch = |links: &[(u32, u32)]| {
        tables::batch(vec![
            ("root", tables::u32s(links.iter().map(|link| link.0))),
            ("ordinal", tables::u32s(links.iter().map(|link| link.1))),
        ])
    };
    let mut writer = TableWriter::new(context.workdir, "dedup", &batch(&[]))?;
    let mut links = forest.links().peekable();
    while links.peek().is_some() {
        let chunk: Vec<(u32, u32)> = links.by_ref().take(tables::ROW_GROUP_ROWS).collect();
        writer.push(&batch(&chunk))?;
    }
    writer.finish(stem)
}

/// Joins what another task published.
pub(super) fn read(context: &Context<'_>, entry: &ObjectEntry, forest: &mut Forest) -> Result<(), Failure> {
    for batch in tables::stream(context.workdir, entry, &["root", "ordinal"])? {
        let batch = batch?;
        let (roots, ordinals): (&UInt32Array, &UInt32Array) =
            (tables::column(&batch, "root")?, tables::column(&batch, "ordinal")?);
        for (root, ordinal) in roots.values().iter().zip(ordinals.values()) {
            forest.join(*root, *ordinal);
        }
    }
    Ok(())
}
