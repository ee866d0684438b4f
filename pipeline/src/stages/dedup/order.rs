//! The first task: documents in the order of their priority; equal ids and exact copies settled, links found.
//!
//! It reads profiles, never bands or texts.

use std::collections::BTreeMap;

use arrow::array::{Float64Array, StringArray, UInt32Array};
use mellama_dedup::{Arranger, LinkKind, NO_ORDINAL, Removal, Rule};
use mellama_storage::{ObjectEntry, Workdir};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::documents::scratch_failure;
use crate::failure::Failure;
use crate::sequence;
use crate::stage::TaskOutput;
use crate::tables::{self, TableWriter};

use super::corpus::{Corpus, Inputs, removed_of};

/// Part of the budget that sorted records take; the rest is for the readers.
const SORT_SHARE: (u64, u64) = (3, 4);
/// Rows of a batch that is written.
const BATCH_ROWS: usize = tables::ROW_GROUP_ROWS;

/// What the first task leaves for the others, beside its tables.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct OrderFacts {
    /// Documents with a number, those of releases first.
    pub documents: u32,
    /// Of releases.
    pub released: u32,
    /// Documents whose bands are joined.
    pub joined: u32,
    /// Characters of each source of this run, of the documents that stand before duplicates are looked for.
    pub characters: Vec<u64>,
}

pub(super) fn run(context: &Context<'_>) -> Result<TaskOutput, Failure> {
    let inputs = Inputs::read(context)?;
    let corpus = Corpus::of(context, &inputs)?;
    let budget = context.resources.memory_bytes / SORT_SHARE.1 * SORT_SHARE.0;
    let mut arranger = Arranger::new(budget, &context.resources.scratch);
    let mut facts = OrderFacts { characters: vec![0; context.corpus().source.len()], ..OrderFacts::default() };
    let mut joined = Vec::new();
    let absent = absent(context, &inputs, &corpus)?;
    for part in &corpus.parts {
        context.check_stop()?;
        part.for_each_profile(|number, profile, links| {
            facts.released += u32::from(profile.release.is_some());
            if absent.binary_search(&number).is_ok() {
                arranger.skip();
                joined.push(false);
                return Ok(());
            }
            if profile.release.is_none() {
                facts.characters[usize::from(profile.source)] += profile.characters;
            }
            joined.push(profile.has_bands());
            arranger.push(profile, links).map_err(|e| scratch_failure(&e))?;
            Ok(())
        })?;
    }
    let arranged = arranger.finish().map_err(|e| scratch_failure(&e))?;
    let takes_part = |number: usize| joined[number] && arranged.ordinals[number] != NO_ORDINAL;
    facts.documents = corpus.documents;
    facts.joined = (0..joined.len()).filter(|&number| takes_part(number)).count() as u32;
    let ordinals = ordinals(context.workdir, &arranged.ordinals, takes_part)?;
    let removals = removals(context.workdir, "dedup", "exact", &arranged.removals)?;
    let links = tables::batch(vec![
        ("dependent", tables::u32s(arranged.links.iter().map(|link| link.dependent))),
        ("owner", tables::u32s(arranged.links.iter().map(|link| link.owner))),
        ("preprint", tables::u32s(arranged.links.iter().map(|link| u32::from(link.kind == LinkKind::Preprint)))),
    ]);
    let links = tables::publish(context.workdir, "dedup", "links", &links)?;
    let facts = serde_json::to_value(&facts).expect("plain data");
    Ok(TaskOutput { objects: vec![ordinals, removals, links], facts, ..TaskOutput::default() })
}

/// Numbers of documents that take no part: what its source replaced or took back, and what a release removed. Rising.
fn absent(context: &Context<'_>, inputs: &Inputs, corpus: &Corpus<'_>) -> Result<Vec<u32>, Failure> {
    let removed = inputs.releases.iter().map(removed_of).collect::<Result<Vec<BTreeMap<u32, Vec<u32>>>, _>>()?;
    let mut numbers: Vec<u32> = Vec::new();
    for part in &corpus.parts {
        let rows = part.release.and_then(|release| removed[usize::from(release)].get(&part.task));
        numbers.extend(rows.into_iter().flatten().map(|row| part.first + row));
    }
    let settled = sequence::settle(context, &inputs.commits)?;
    numbers.extend(settled.gone.iter().filter_map(|gone| corpus.number(gone.place)));
    numbers.sort_unstable();
    Ok(numbers)
}

fn ordinals(workdir: &Workdir, ordinals: &[u32], takes_part: impl Fn(usize) -> bool) -> Result<ObjectEntry, Failure> {
    let batch = |first: usize, ordinals: &[u32]| {
        let joined = (first..first + ordinals.len()).map(|number| u32::from(takes_part(number)));
        tables::batch(vec![("ordinal", tables::u32s(ordinals.iter().copied())), ("joined", tables::u32s(joined))])
    };
    let mut writer = TableWriter::new(workdir, "dedup", &batch(0, &[]))?;
    for (index, chunk) in ordinals.chunks(BATCH_ROWS).enumerate() {
        writer.push(&batch(index * BATCH_ROWS, chunk))?;
    }
    writer.finish("ordinals")
}

/// Publishes removals, in the order given.
pub(super) fn removals(workdir: &Workdir, folder: &str, stem: &str, removals: &[Removal]) -> Result<ObjectEntry, Failure> {
    let batch = |removals: &[Removal]| {
        tables::batch(vec![
            ("dropped", tables::u32s(removals.iter().map(|r| r.dropped))),
            ("kept", tables::u32s(removals.iter().map(|r| r.kept))),
            ("rule", tables::strings(removals.iter().map(|r| r.rule.as_str()))),
            ("similarity", tables::f64s(removals.iter().map(|r| r.similarity))),
            ("containment", tables::f64s(removals.iter().map(|r| r.containment))),
        ])
    };
    let mut writer = TableWriter::new(workdir, folder, &batch(&[]))?;
    for chunk in removals.chunks(BATCH_ROWS) {
        writer.push(&batch(chunk))?;
    }
    writer.finish(stem)
}

/// Calls `visit` with each removal of a table.
pub(super) fn for_each_removal(workdir: &Workdir, entry: &ObjectEntry, mut visit: impl FnMut(Removal)) -> Result<(), Failure> {
    for batch in tables::stream(workdir, entry, &["dropped", "kept", "rule", "similarity", "containment"])? {
        let batch = batch?;
        let (dropped, kept): (&UInt32Array, &UInt32Array) = (tables::column(&batch, "dropped")?, tables::column(&batch, "kept")?);
        let rules: &StringArray = tables::column(&batch, "rule")?;
        let similarity: &Float64Array = tables::column(&batch, "similarity")?;
        let containment: &Float64Array = tables::column(&batch, "containment")?;
        for row in 0..batch.num_rows() {
            let rule = Rule::parse(rules.value(row))
                .ok_or_else(|| Failure::Verification(format!("{}: row {row}: rule not known", entry.key)))?;
            let (similarity, containment) = (similarity.value(row), containment.value(row));
            visit(Removal { dropped: dropped.value(row), kept: kept.value(row), rule, similarity, containment });
        }
    }
    Ok(())
}
