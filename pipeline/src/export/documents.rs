//! The table of an export's documents: id, source, licence and sensitivity by document key, read from what ingest wrote.
//!
//! Texts are not read. In memory are the keys of the export, which the caller has, and a byte for each.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, StringArray, UInt32Array};
use mellama_shards::export::{DocumentRow, DocumentTable};
use mellama_shards::{StoreChunks, document_key};
use mellama_storage::{Key, ObjectEntry, RangeReader, Workdir};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::documents::object_of;
use crate::export::failure;
use crate::failure::Failure;
use crate::stage::Stage;

/// What is read of a document.
const COLUMNS: [&str; 6] = ["id", "source", "native_id", "version", "licence", "sensitivity"];

/// Writes one row for each of `keys`, which ascend, in the order of ingest.
///
/// # Errors
/// `Failure::Verification` when a document of the shards is in no documents object.
pub(super) fn write(workdir: &Workdir, plan: &str, folder: &Workdir, keys: &[u128]) -> Result<ObjectEntry, Failure> {
    let mut table = DocumentTable::begin(folder).map_err(failure)?;
    let mut is_written = vec![false; keys.len()];
    let tasks = workdir.read_manifest(plan, Stage::Ingest.name())?.map_or(0, |manifest| manifest.tasks);
    for task in 0..tasks {
        let commit = workdir.read_commit(plan, Stage::Ingest.name(), task)?;
        let Some(entry) = commit.as_ref().and_then(object_of) else { continue };
        for batch in open(workdir, entry)? {
            let batch = batch.map_err(|e| damaged(entry, &e))?;
            let columns = Columns::of(&batch).ok_or_else(|| damaged(entry, &"other columns than documents have"))?;
            for row in (0..batch.num_rows()).map(|row| columns.row(row)) {
                // Records of one id and version that differ in text have one key: the first stands for them.
                let Ok(place) = keys.binary_search(&row.key) else { continue };
                if !std::mem::replace(&mut is_written[place], true) {
                    table.push(&row).map_err(failure)?;
                }
            }
        }
    }
    match is_written.iter().filter(|written| !**written).count() {
        0 => table.finish().map_err(failure),
        missing => Err(Failure::Verification(format!(
            "{}: {missing} documents of the shards are in no documents object; run \"mellama verify\"",
            workdir.store().uri()
        ))),
    }
}

fn damaged(entry: &ObjectEntry, problem: &dyn std::fmt::Display) -> Failure {
    Failure::Verification(format!("{}: {problem}; run \"mellama verify\"", entry.key))
}

fn open(workdir: &Workdir, entry: &ObjectEntry) -> Result<ParquetRecordBatchReader, Failure> {
    let reader = RangeReader::open(Arc::clone(workdir.store()), &Key::new(entry.key.as_str())?)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(StoreChunks(reader)).map_err(|e| damaged(entry, &e))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
    builder.with_projection(mask).build().map_err(|e| damaged(entry, &e))
}

/// The columns of a batch by type.
struct Columns<'a> {
    texts: [&'a StringArray; 5],
    versions: &'a UInt32Array,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Columns<'a>> {
        let text = |name: &str| batch.column_by_name(name)?.as_any().downcast_ref::<StringArray>();
        let texts = [text("id")?, text("source")?, text("native_id")?, text("licence")?, text("sensitivity")?];
        Some(Columns { texts, versions: batch.column_by_name("version")?.as_any().downcast_ref()? })
    }

    fn row(&self, row: usize) -> DocumentRow<'a> {
        let [ids, sources, natives, licences, sensitivities] = self.texts;
        DocumentRow {
            key: document_key(sources.value(row), natives.value(row), self.versions.value(row)),
            id: ids.value(row),
            source: sources.value(row),
            licence: licences.is_valid(row).then(|| licences.value(row)),
            sensitivity: sensitivities.value(row),
        }
    }
}
