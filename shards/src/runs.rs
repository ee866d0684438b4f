//! Token runs at rest: the ids of documents back to back in one raw object, and a Parquet index that says whose they are.
//!
//! It writes and reads; which documents are kept, and in which order they are used, is decided elsewhere.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, BooleanArray, BooleanBuilder, FixedSizeBinaryArray, FixedSizeBinaryBuilder, RecordBatch,
    StringArray, StringBuilder, UInt32Array, UInt32Builder, UInt64Array, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::file::reader::ChunkReader;
use serde::{Deserialize, Serialize};

use crate::columns::ColumnFile;
use crate::error::ShardError;
use crate::format::{DOCUMENT_KEY_BYTES, Width};
use crate::page_checksums::{ChecksummedWriter, properties};
use crate::writer::sealed_text;

/// Version of the token run format.
pub const RUNS_FORMAT_VERSION: u32 = 1;

/// Documents of a row group of the index; only the last one may have fewer.
pub const INDEX_ROW_GROUP: usize = 65_536;

/// Most documents of one object: a row is 32 bits.
pub const MAX_DOCUMENTS: u64 = u32::MAX as u64;

/// Parquet metadata key of the sealed [`RunHeader`].
pub const RUN_HEADER_KEY: &str = "mellama.runs";

/// Parquet metadata key of the sealed [`RunTotals`].
pub const RUN_TOTALS_KEY: &str = "mellama.run-totals";

/// Names of the index's columns, in order.
pub const INDEX_COLUMNS: [&str; 7] = ["key", "offset", "length", "check", "heldout", "id", "source"];

/// What holds for every run of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunHeader {
    /// [`RUNS_FORMAT_VERSION`].
    pub format_version: u32,
    /// Name of the source that all documents are from.
    pub source: String,
    /// Number of token ids, V: every id is below it.
    pub vocabulary_size: u32,
    /// How ids are stored: the narrowest width for V.
    pub width: Width,
    /// BLAKE3 of the tokenizer file, 64 hexadecimal digits.
    pub tokenizer_digest: String,
}

/// What an object adds up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunTotals {
    /// Documents.
    pub documents: u64,
    /// Their tokens; the object has this many times the width in bytes.
    pub tokens: u64,
    /// Documents kept for validation, part of `documents`.
    pub heldout_documents: u64,
    /// Their tokens, part of `tokens`.
    pub heldout_tokens: u64,
}

/// One document as it is written.
#[derive(Debug, Clone, Copy)]
pub struct NewRun<'a> {
    /// Document key, see [`crate::lineage::document_key`].
    pub key: u128,
    /// Document id, `SOURCE:NATIVE_ID`.
    pub id: &'a str,
    /// Whether it is kept for validation.
    pub heldout: bool,
    /// Its token ids, BOS and EOS included.
    pub tokens: &'a [u32],
}

/// Writes the ids of documents to one writer and their index to another.
#[derive(Debug)]
pub struct RunWriter<W: Write, I: Write + Send> {
    tokens: W,
    index: ChecksummedWriter<I>,
    schema: SchemaRef,
    header: RunHeader,
    totals: RunTotals,
    rows: IndexRows,
    buffer: Vec<u8>,
}

const SUBJECT: &str = "token runs being written";

impl<W: Write, I: Write + Send> RunWriter<W, I> {
    /// Starts an object and its index.
    ///
    /// # Errors
    /// [`ShardError::Version`] or [`ShardError::Header`] for an impossible header; otherwise the writers'.
    pub fn new(tokens: W, index: I, header: &RunHeader) -> Result<Self, ShardError> {
        check_header(SUBJECT, header)?;
        let schema = Arc::new(index_schema());
        let mut index = ChecksummedWriter::new(index, Arc::clone(&schema), properties().build())
            .map_err(|error| ShardError::parquet(SUBJECT, error))?;
        index.add_metadata(RUN_HEADER_KEY, sealed_text(header)?);
        let (totals, rows) = (RunTotals::default(), IndexRows::new());
        Ok(Self { tokens, index, schema, header: header.clone(), totals, rows, buffer: Vec::new() })
    }

    /// Appends one document; its row is the number of documents before it.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, the document or the object is too long, or a writer fails. The object must be
    /// given up then.
    pub fn push(&mut self, run: NewRun<'_>) -> Result<(), ShardError> {
        let problem = |what: String| ShardError::Header { problem: format!("document {}: {what}", self.totals.documents) };
        let length = u32::try_from(run.tokens.len()).map_err(|_| problem(format!("{} tokens", run.tokens.len())))?;
        if self.totals.documents == MAX_DOCUMENTS {
            return Err(problem(format!("expected at most {MAX_DOCUMENTS} in one object")));
        }
        if let Some(position) = run.tokens.iter().position(|&token| token >= self.header.vocabulary_size) {
            let size = self.header.vocabulary_size;
            return Err(problem(format!("token at {position} is outside the vocabulary of {size}")));
        }
        encode_tokens(run.tokens, self.header.width, &mut self.buffer);
        self.tokens.write_all(&self.buffer).map_err(|error| ShardError::io(SUBJECT, error))?;
        self.rows.push(&run, self.totals.tokens, length, run_check(&self.buffer), &self.header.source);
        self.totals.documents += 1;
        self.totals.tokens += u64::from(length);
        self.totals.heldout_documents += u64::from(run.heldout);
        self.totals.heldout_tokens += u64::from(length) * u64::from(run.heldout);
        if self.rows.keys.len() == INDEX_ROW_GROUP { self.flush() } else { Ok(()) }
    }

    /// Writes the rest of the index and its footer.
    ///
    /// # Errors
    /// The writers'.
    pub fn finish(mut self) -> Result<(W, I, RunTotals), ShardError> {
        if !self.rows.keys.is_empty() {
            self.flush()?;
        }
        self.tokens.flush().map_err(|error| ShardError::io(SUBJECT, error))?;
        self.index.add_metadata(RUN_TOTALS_KEY, sealed_text(&self.totals)?);
        let index = self.index.finish().map_err(|error| ShardError::parquet(SUBJECT, error))?;
        Ok((self.tokens, index, self.totals))
    }

    fn flush(&mut self) -> Result<(), ShardError> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), self.rows.take_columns());
        let batch = batch.map_err(|error| ShardError::parquet(SUBJECT, error.into()))?;
        self.index.write_row_group(&batch).map_err(|error| ShardError::parquet(SUBJECT, error))
    }
}

/// The index's columns as they are written and read.
pub fn index_schema() -> Schema {
    let types = [
        DataType::FixedSizeBinary(DOCUMENT_KEY_BYTES),
        DataType::UInt64,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Boolean,
        DataType::Utf8,
        DataType::Utf8,
    ];
    let fields: Vec<Field> = INDEX_COLUMNS.iter().zip(types).map(|(&name, kind)| Field::new(name, kind, false)).collect();
    Schema::new(fields)
}

#[derive(Debug)]
struct IndexRows {
    keys: FixedSizeBinaryBuilder,
    offsets: UInt64Builder,
    lengths: UInt32Builder,
    checks: UInt64Builder,
    heldout: BooleanBuilder,
    ids: StringBuilder,
    sources: StringBuilder,
}

impl IndexRows {
    fn new() -> Self {
        Self {
            keys: FixedSizeBinaryBuilder::new(DOCUMENT_KEY_BYTES),
            offsets: UInt64Builder::new(),
            lengths: UInt32Builder::new(),
            checks: UInt64Builder::new(),
            heldout: BooleanBuilder::new(),
            ids: StringBuilder::new(),
            sources: StringBuilder::new(),
        }
    }

    fn push(&mut self, run: &NewRun<'_>, offset: u64, length: u32, check: u64, source: &str) {
        self.keys.append_value(run.key.to_le_bytes()).expect("a document key has 16 bytes");
        self.offsets.append_value(offset);
        self.lengths.append_value(length);
        self.checks.append_value(check);
        self.heldout.append_value(run.heldout);
        self.ids.append_value(run.id);
        self.sources.append_value(source);
    }

    fn take_columns(&mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.keys.finish()),
            Arc::new(self.offsets.finish()),
            Arc::new(self.lengths.finish()),
            Arc::new(self.checks.finish()),
            Arc::new(self.heldout.finish()),
            Arc::new(self.ids.finish()),
            Arc::new(self.sources.finish()),
        ]
    }
}

/// First 8 bytes, little-endian, of BLAKE3 over a run's bytes: every read of a run is proved by it.
pub(crate) fn run_check(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

fn encode_tokens(tokens: &[u32], width: Width, buffer: &mut Vec<u8>) {
    buffer.clear();
    match width {
        // Ids are below the vocabulary size, which fits the width.
        Width::U16 => tokens.iter().for_each(|&token| buffer.extend_from_slice(&(token as u16).to_le_bytes())),
        Width::U32 => tokens.iter().for_each(|&token| buffer.extend_from_slice(&token.to_le_bytes())),
    }
}

fn check_header(subject: &str, header: &RunHeader) -> Result<(), ShardError> {
    if header.format_version != RUNS_FORMAT_VERSION {
        let (found, known) = (header.format_version, RUNS_FORMAT_VERSION);
        return Err(ShardError::Version { subject: subject.to_owned(), found, known });
    }
    if header.vocabulary_size == 0 || header.width != Width::for_vocabulary(header.vocabulary_size) {
        let problem = format!("width {:?} for {} ids, expected the narrowest", header.width, header.vocabulary_size);
        return Err(ShardError::Header { problem });
    }
    Ok(())
}

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

#[cfg(test)]
pub(crate) mod tests;
