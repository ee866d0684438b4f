//! The lineage of an object read again, row by row.

use std::sync::Arc;

use arrow::array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use mellama_storage::Store;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::object::Object;
use super::{Checked, Trouble, wrong};
use crate::chunks::StoreChunks;
use crate::export::DOCUMENTS_KEY;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) window: u64,
    pub(super) tokens: (u64, u64),
    pub(super) bytes: (u64, u64),
    pub(super) document: u128,
    pub(super) source: String,
    pub(super) offset: u32,
}

/// The rows of one object in order.
pub(super) struct Rows {
    key: String,
    object: String,
    batches: ParquetRecordBatchReader,
    batch: Option<(RecordBatch, usize)>,
}

impl Rows {
    pub(super) fn open(store: &Arc<dyn Store>, key: &str, object: &str) -> Checked<Self> {
        let batches = table(store, key)?;
        Ok(Self { key: key.to_owned(), object: object.to_owned(), batches, batch: None })
    }

    pub(super) fn next(&mut self) -> Checked<Option<Row>> {
        loop {
            if let Some((batch, at)) = self.batch.as_mut().filter(|(batch, at)| *at < batch.num_rows()) {
                *at += 1;
                let row = row(batch, *at - 1, &self.object);
                return row.map_or_else(|| wrong(&self.key, "a row of another object or type"), |row| Ok(Some(row)));
            }
            match self.batches.next() {
                None => return Ok(None),
                Some(Ok(batch)) => self.batch = Some((batch, 0)),
                Some(Err(error)) => return wrong(&self.key, error),
            }
        }
    }
}

fn table(store: &Arc<dyn Store>, key: &str) -> Checked<ParquetRecordBatchReader> {
    let reader = Object::open(store, key)?.reader();
    let builder = ParquetRecordBatchReaderBuilder::try_new(StoreChunks(reader)).and_then(ParquetRecordBatchReaderBuilder::build);
    builder.map_err(|error| Trouble::Wrong(format!("{key}: {error}")))
}

fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Option<&'a A> {
    batch.column_by_name(name)?.as_any().downcast_ref()
}

fn key_of(keys: &FixedSizeBinaryArray, row: usize) -> Option<u128> {
    Some(u128::from_le_bytes(keys.value(row).try_into().ok()?))
}

fn row(batch: &RecordBatch, row: usize, object: &str) -> Option<Row> {
    let long = |name: &str| Some(column::<UInt64Array>(batch, name)?.value(row));
    if column::<StringArray>(batch, "object")?.value(row) != object {
        return None;
    }
    Some(Row {
        window: long("window")?,
        tokens: (long("token_start")?, long("token_end")?),
        bytes: (long("byte_start")?, long("byte_end")?),
        document: key_of(column(batch, "document")?, row)?,
        source: column::<StringArray>(batch, "source")?.value(row).to_owned(),
        offset: column::<UInt32Array>(batch, "offset")?.value(row),
    })
}

/// Keys of the table of documents, ascending.
pub(super) fn document_keys(store: &Arc<dyn Store>) -> Checked<Vec<u128>> {
    let mut keys = Vec::new();
    for batch in table(store, DOCUMENTS_KEY)? {
        let Ok(batch) = batch else { return wrong(DOCUMENTS_KEY, "it cannot be decoded") };
        let Some(column) = column::<FixedSizeBinaryArray>(&batch, "document") else {
            return wrong(DOCUMENTS_KEY, "no column document");
        };
        keys.extend((0..column.len()).filter_map(|row| key_of(column, row)));
    }
    keys.sort_unstable();
    Ok(keys)
}
