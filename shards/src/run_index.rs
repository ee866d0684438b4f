//! The index of a token run object: read whole, checked, kept in memory without the document ids.
//!
//! It reads no tokens: [`crate::run_reader`] does.

use arrow::array::{Array, BooleanArray, FixedSizeBinaryArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use parquet::file::reader::ChunkReader;

use crate::columns::ColumnFile;
use crate::error::ShardError;
use crate::runs::{INDEX_ROW_GROUP, RUN_HEADER_KEY, RUN_TOTALS_KEY, RunHeader, RunTotals, check_header, index_schema};
use crate::token_object::RunPlace;

/// Where one document's tokens lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunEntry {
    /// Document key.
    pub key: u128,
    /// First token in the object.
    pub offset: u64,
    /// Number of tokens.
    pub length: u32,
    /// Whether it is kept for validation.
    pub heldout: bool,
    /// First 8 bytes, little-endian, of BLAKE3 over its bytes.
    pub check: u64,
}

impl RunEntry {
    /// Where its tokens lie, and what proves them.
    pub fn place(&self) -> RunPlace {
        RunPlace { start: self.offset, check: self.check }
    }
}

/// The index of one object in memory, 48 bytes a document, without the ids.
#[derive(Clone)]
pub struct RunIndex {
    file: ColumnFile,
    header: RunHeader,
    totals: RunTotals,
    entries: Vec<RunEntry>,
}

impl std::fmt::Debug for RunIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunIndex").field("name", &self.file.name()).field("totals", &self.totals).finish_non_exhaustive()
    }
}

impl RunIndex {
    /// Reads an index and checks that its runs follow each other from 0 and add up to its totals.
    ///
    /// # Errors
    /// [`ShardError::Version`], [`ShardError::Parquet`] or [`ShardError::Corrupt`].
    pub fn open<R: ChunkReader + 'static>(name: &str, reader: R) -> Result<Self, ShardError> {
        let file = ColumnFile::open(name, reader)?;
        let header: RunHeader = file.sealed(RUN_HEADER_KEY)?;
        check_header(name, &header)?;
        let totals: RunTotals = file.sealed(RUN_TOTALS_KEY)?;
        file.check_schema(&index_schema())?;
        file.check_row_groups(totals.documents, INDEX_ROW_GROUP)?;
        let mut entries = Vec::new();
        for group in 0..file.row_groups() {
            append_entries(&file, group, &mut entries)?;
        }
        check_entries(name, &entries, &totals)?;
        Ok(Self { file, header, totals, entries })
    }

    /// What holds for every run.
    pub fn header(&self) -> &RunHeader {
        &self.header
    }

    /// What the runs add up to.
    pub fn totals(&self) -> &RunTotals {
        &self.totals
    }

    /// All runs, by row.
    pub fn entries(&self) -> &[RunEntry] {
        &self.entries
    }

    /// Document ids by row; they are read now and not kept.
    ///
    /// # Errors
    /// The damage found.
    pub fn read_ids(&self) -> Result<Vec<String>, ShardError> {
        let mut ids = Vec::with_capacity(self.entries.len());
        for group in 0..self.file.row_groups() {
            let batch = self.file.read(group, 5..7)?;
            let of_group = column::<StringArray>(&batch, "id");
            if column::<StringArray>(&batch, "source").iter().any(|source| source != Some(self.header.source.as_str())) {
                return Err(ShardError::corrupt(self.file.name(), "column source: not the header's source"));
            }
            ids.extend(of_group.iter().map(|id| id.unwrap_or_default().to_owned()));
        }
        Ok(ids)
    }
}

fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> &'a A {
    let array = batch.column_by_name(name).and_then(|array| array.as_any().downcast_ref());
    array.expect("the schema was checked when the index was opened")
}

fn append_entries(file: &ColumnFile, group: usize, entries: &mut Vec<RunEntry>) -> Result<(), ShardError> {
    let batch = file.read(group, 0..5)?;
    let keys: &FixedSizeBinaryArray = column(&batch, "key");
    let offsets: &UInt64Array = column(&batch, "offset");
    let lengths: &UInt32Array = column(&batch, "length");
    let checks: &UInt64Array = column(&batch, "check");
    let heldout: &BooleanArray = column(&batch, "heldout");
    entries.extend((0..batch.num_rows()).map(|row| {
        let mut key = [0; 16];
        key.copy_from_slice(keys.value(row));
        RunEntry {
            key: u128::from_le_bytes(key),
            offset: offsets.value(row),
            length: lengths.value(row),
            heldout: heldout.value(row),
            check: checks.value(row),
        }
    }));
    Ok(())
}

fn check_entries(name: &str, entries: &[RunEntry], totals: &RunTotals) -> Result<(), ShardError> {
    let mut found = RunTotals::default();
    for (row, entry) in entries.iter().enumerate() {
        if entry.offset != found.tokens {
            let problem = format!("row {row}: offset {}, expected {}", entry.offset, found.tokens);
            return Err(ShardError::corrupt(name, problem));
        }
        found.documents += 1;
        found.tokens += u64::from(entry.length);
        found.heldout_documents += u64::from(entry.heldout);
        found.heldout_tokens += u64::from(entry.length) * u64::from(entry.heldout);
    }
    if &found == totals {
        return Ok(());
    }
    Err(ShardError::corrupt(name, format!("footer totals {totals:?}, the rows add up to {found:?}")))
}
