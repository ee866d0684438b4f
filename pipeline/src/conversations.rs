//! The table of conversations: what every instruction record is called, and what became of it. `instruct-data` writes it,
//! everything that is asked for an id or a key reads it.
//!
//! It holds no text, and no conversation that was rejected: those have no id.

use std::collections::BTreeSet;

use arrow::array::{FixedSizeBinaryArray, StringArray, UInt32Array};
use mellama_storage::{ObjectEntry, Workdir};

use crate::failure::Failure;
use crate::lookup::{Folder, Wanted};
use crate::stage::Stage;
use crate::tables;

/// The folder of the table.
const FOLDER: &str = "conversations";
const COLUMNS: [&str; 5] = ["id", "source", "key", "tokens", "state"];

/// What became of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is in the shards.
    Kept,
    /// It has more tokens than a sequence.
    TooLong,
}

impl State {
    /// The name used in the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Kept => "kept",
            State::TooLong => "too-long",
        }
    }

    fn from_name(name: &str) -> Option<State> {
        [State::Kept, State::TooLong].into_iter().find(|state| state.as_str() == name)
    }
}

/// One row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// `SOURCE:NATIVE_ID`.
    pub id: String,
    /// Name in the recipe.
    pub source: String,
    /// Document key.
    pub key: u128,
    /// Tokens, the template's included.
    pub tokens: u32,
    pub state: State,
}

/// Publishes the table: all conversations of all sources, in the order of the input.
///
/// # Errors
/// `Failure::Storage`.
pub(crate) fn publish(workdir: &Workdir, rows: &[Listed]) -> Result<ObjectEntry, Failure> {
    let batch = tables::batch(vec![
        ("id", tables::strings(rows.iter().map(|row| &row.id))),
        ("source", tables::strings(rows.iter().map(|row| &row.source))),
        ("key", tables::keys(rows.iter().map(|row| row.key))),
        ("tokens", tables::u32s(rows.iter().map(|row| row.tokens))),
        ("state", tables::strings(rows.iter().map(|row| row.state.as_str()))),
    ]);
    tables::publish(workdir, FOLDER, "index", &batch)
}

/// Calls `visit` with every conversation of a folder in the order of the input; with none before `instruct-data` is finished.
///
/// # Errors
/// `Failure::Verification` for a damaged table, and those of `visit`.
pub(crate) fn for_each(folder: &Folder, mut visit: impl FnMut(Listed) -> Result<(), Failure>) -> Result<(), Failure> {
    for entry in folder.objects(Stage::InstructData, &format!("{FOLDER}/"))? {
        for batch in tables::stream(&folder.workdir, &entry, &COLUMNS)? {
            let batch = batch?;
            let text = |name: &str| tables::column::<StringArray>(&batch, name);
            let (ids, sources, states) = (text("id")?, text("source")?, text("state")?);
            let keys: &FixedSizeBinaryArray = tables::column(&batch, "key")?;
            let tokens: &UInt32Array = tables::column(&batch, "tokens")?;
            for row in 0..batch.num_rows() {
                let unknown = || {
                    Failure::Verification(format!(
                        "{}: state of {}: not known; run \"mellama verify\"",
                        entry.key,
                        ids.value(row)
                    ))
                };
                visit(Listed {
                    id: ids.value(row).to_owned(),
                    source: sources.value(row).to_owned(),
                    key: tables::key(keys, row)?,
                    tokens: tokens.value(row),
                    state: State::from_name(states.value(row)).ok_or_else(unknown)?,
                })?;
            }
        }
    }
    Ok(())
}

/// The conversations that are wanted by id or key, each once, in the order of the input, with the ids that asked for them.
///
/// # Errors
/// `Failure::Verification` for a damaged table.
pub(crate) fn find(folder: &Folder, wanted: &Wanted) -> Result<Vec<(Listed, BTreeSet<String>)>, Failure> {
    let (mut found, mut keys) = (Vec::new(), BTreeSet::new());
    for_each(folder, |listed| {
        let by_id = wanted.asks_for(&listed.id);
        let asked: BTreeSet<String> = by_id.into_iter().chain(wanted.keys().get(&listed.key)).cloned().collect();
        // Records of one id and text are one conversation.
        if !asked.is_empty() && keys.insert(listed.key) {
            found.push((listed, asked));
        }
        Ok(())
    })?;
    Ok(found)
}
