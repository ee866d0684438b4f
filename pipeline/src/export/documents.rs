//! The table of an export's documents: id, source, licence and sensitivity by document key, read from what `ingest` wrote, or,
//! of conversations, `instruct-data`.
//!
//! Texts are not read. In memory are the keys of the export, which the caller has, and a byte for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray};
use mellama_shards::export::{DocumentRow, DocumentTable};
use mellama_shards::{Kind, StoreChunks};
use mellama_sources::Sensitivity;
use mellama_storage::{ObjectEntry, RangeReader, Workdir};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::conversations::{self, Listed};
use crate::documents::object_of;
use crate::export::failure;
use crate::failure::Failure;
use crate::lookup::Folder;
use crate::recipe::InstructSource;
use crate::stage::Stage;
use crate::{tables, token_runs};

/// What is read of a document.
const COLUMNS: [&str; 5] = ["id", "source", "licence", "sensitivity", "key"];

/// Writes one row for each of `keys`, which ascend, in the order of the input.
///
/// # Errors
/// `Failure::Verification` when a document of the shards is in no table.
pub(super) fn write(folder: &Folder, kind: Kind, to: &Workdir, keys: &[u128]) -> Result<ObjectEntry, Failure> {
    let mut rows = Rows { table: DocumentTable::begin(to).map_err(failure)?, is_written: vec![false; keys.len()], keys };
    match kind {
        Kind::Cpt => rows.corpus(folder)?,
        Kind::Instruct => rows.conversations(folder)?,
    }
    match rows.is_written.iter().filter(|written| !**written).count() {
        0 => rows.table.finish().map_err(failure),
        missing => Err(Failure::Verification(format!(
            "{}: {missing} documents of the shards are in no table; run \"mellama verify\"",
            folder.uri()
        ))),
    }
}

/// The table in the making.
struct Rows<'k> {
    table: DocumentTable,
    keys: &'k [u128],
    is_written: Vec<bool>,
}

impl Rows<'_> {
    /// Writes a document of the export; of records that are the same document the first one.
    fn push(&mut self, row: &DocumentRow<'_>) -> Result<(), Failure> {
        let Ok(place) = self.keys.binary_search(&row.key) else { return Ok(()) };
        if std::mem::replace(&mut self.is_written[place], true) {
            return Ok(());
        }
        self.table.push(row).map_err(failure)
    }

    fn corpus(&mut self, folder: &Folder) -> Result<(), Failure> {
        for commit in folder.commits(Stage::Ingest)? {
            let Some(entry) = object_of(&commit) else { continue };
            let by_id = if folder.has_keys() { None } else { Some(keys_by_id(folder, commit.task)?) };
            for batch in open(&folder.workdir, entry)? {
                let batch = batch.map_err(|e| damaged(entry, &e))?;
                let columns = Columns::of(&batch).ok_or_else(|| damaged(entry, &"other columns than documents have"))?;
                for row in 0..batch.num_rows() {
                    for key in columns.keys(row, by_id.as_ref())? {
                        self.push(&columns.row(row, key))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn conversations(&mut self, folder: &Folder) -> Result<(), Failure> {
        let sources = folder.recipe.instruct.iter().flat_map(|instruct| &instruct.source);
        let sources: BTreeMap<&str, &InstructSource> = sources.map(|source| (source.name.as_str(), source)).collect();
        conversations::for_each(folder, |Listed { id, source, key, .. }| {
            let known = sources.get(source.as_str());
            let sensitivity = known.map_or(Sensitivity::Phi, |source| source.sensitivity.unwrap_or(Sensitivity::Open));
            let licence = known.and_then(|source| source.licence.as_deref());
            self.push(&DocumentRow { key, id: &id, source: &source, licence, sensitivity: sensitivity.as_str() })
        })
    }
}

/// The keys of a task's documents in a folder of an earlier version, whose documents have none: the token runs say them, by id.
fn keys_by_id(folder: &Folder, task: u64) -> Result<BTreeMap<String, BTreeSet<u128>>, Failure> {
    let mut keys: BTreeMap<String, BTreeSet<u128>> = BTreeMap::new();
    let commit = folder.workdir.read_commit(&folder.plan, Stage::Tokenize.name(), task)?;
    let index = commit.map(|commit| token_runs::index(&folder.workdir, &commit)).transpose()?.flatten();
    if let Some(index) = index {
        let ids = index.read_ids().map_err(|e| Failure::reading("", &e))?;
        for (id, entry) in ids.into_iter().zip(index.entries()) {
            keys.entry(id).or_default().insert(entry.key);
        }
    }
    Ok(keys)
}

fn damaged(entry: &ObjectEntry, problem: &dyn std::fmt::Display) -> Failure {
    Failure::Verification(format!("{}: {problem}; run \"mellama verify\"", entry.key))
}

fn open(workdir: &Workdir, entry: &ObjectEntry) -> Result<ParquetRecordBatchReader, Failure> {
    let reader = RangeReader::of(Arc::clone(workdir.store()), entry)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(StoreChunks(reader)).map_err(|e| damaged(entry, &e))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
    builder.with_projection(mask).build().map_err(|e| damaged(entry, &e))
}

/// The columns of a batch by type.
struct Columns<'a> {
    texts: [&'a StringArray; 4],
    /// Absent in a folder of an earlier version.
    keys: Option<&'a FixedSizeBinaryArray>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Columns<'a>> {
        let text = |name: &str| batch.column_by_name(name)?.as_any().downcast_ref::<StringArray>();
        let texts = [text("id")?, text("source")?, text("licence")?, text("sensitivity")?];
        let keys = batch.column_by_name("key").map(|keys| keys.as_any().downcast_ref().ok_or(())).transpose().ok()?;
        Some(Columns { texts, keys })
    }

    /// The key of a row; where `by_id` has them, all of its id.
    fn keys(&self, row: usize, by_id: Option<&BTreeMap<String, BTreeSet<u128>>>) -> Result<Vec<u128>, Failure> {
        match (by_id, self.keys) {
            (Some(by_id), _) => Ok(by_id.get(self.texts[0].value(row)).into_iter().flatten().copied().collect()),
            (None, Some(keys)) => Ok(vec![tables::key(keys, row)?]),
            (None, None) => Err(Failure::Verification("documents: no column key; run \"mellama verify\"".to_owned())),
        }
    }

    fn row(&self, row: usize, key: u128) -> DocumentRow<'a> {
        let [ids, sources, licences, sensitivities] = self.texts;
        DocumentRow {
            key,
            id: ids.value(row),
            source: sources.value(row),
            licence: licences.is_valid(row).then(|| licences.value(row)),
            sensitivity: sensitivities.value(row),
        }
    }
}
