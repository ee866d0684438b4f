//! The decisions of `dedup` read back: which document stands for which, row by row.

use arrow::array::{Float64Array, StringArray};
use mellama_storage::{ObjectEntry, Workdir};

use crate::failure::Failure;
use crate::tables;

/// One row of `decisions/`.
pub(crate) struct Decision<'a> {
    pub dropped_id: &'a str,
    pub kept_id: &'a str,
    pub rule: &'a str,
    pub similarity: f64,
    /// The release that keeps it; empty for this run.
    pub kept_release: &'a str,
}

/// Calls `visit` with every decision, a batch of rows in memory.
///
/// # Errors
/// `Failure::Verification` for damaged tables.
pub(crate) fn for_each(workdir: &Workdir, tables: &[ObjectEntry], mut visit: impl FnMut(&Decision<'_>)) -> Result<(), Failure> {
    for entry in tables {
        for batch in tables::stream(workdir, entry, &["dropped_id", "kept_id", "rule", "similarity", "kept_release"])? {
            let batch = batch?;
            let text = |name: &str| tables::column::<StringArray>(&batch, name);
            let (dropped, kept, rules, releases) = (text("dropped_id")?, text("kept_id")?, text("rule")?, text("kept_release")?);
            let similarity: &Float64Array = tables::column(&batch, "similarity")?;
            for row in 0..batch.num_rows() {
                visit(&Decision {
                    dropped_id: dropped.value(row),
                    kept_id: kept.value(row),
                    rule: rules.value(row),
                    similarity: similarity.value(row),
                    kept_release: releases.value(row),
                });
            }
        }
    }
    Ok(())
}
