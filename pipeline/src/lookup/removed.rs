//! What `dedup` removed of the documents of a task: which rows, why, and whether wholly.

use arrow::array::{ListArray, StringArray, UInt32Array};

use super::Folder;
use crate::failure::Failure;
use crate::stage::Stage;
use crate::tables;

/// A document that `dedup` removed, all of it or ranges.
#[derive(Debug, Clone)]
pub(crate) struct RemovedRow {
    /// Row in the documents object of the task.
    pub row: u32,
    /// The rule, as `decisions/` names it, or `contaminated`, `withdrawn` and the like.
    pub reason: String,
    /// Nothing of it is left.
    pub is_whole: bool,
}

/// What `dedup` removed of the documents of a task, by row; nothing where the recipe has no such stage.
///
/// # Errors
/// `Failure::Verification` for damaged tables.
pub(crate) fn removed(folder: &Folder, task: u32) -> Result<Vec<RemovedRow>, Failure> {
    let mut removed = Vec::new();
    for entry in folder.objects(Stage::Dedup, &format!("removed/{task:05}-"))? {
        for batch in tables::read(&folder.workdir, &entry)? {
            let rows: &UInt32Array = tables::column(&batch, "row")?;
            let reasons: &StringArray = tables::column(&batch, "reason")?;
            let cuts: &ListArray = tables::column(&batch, "cut_starts")?;
            removed.extend((0..batch.num_rows()).map(|at| RemovedRow {
                row: rows.value(at),
                reason: reasons.value(at).to_owned(),
                is_whole: tables::list_row(cuts, at).is_empty(),
            }));
        }
    }
    Ok(removed)
}
