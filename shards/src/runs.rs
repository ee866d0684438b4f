//! Token runs at rest: the ids of documents back to back in one raw object, and a Parquet index that says whose they are.
//!
//! It writes and reads; which documents are kept, and in which order they are used, is decided elsewhere.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, FixedSizeBinaryBuilder, RecordBatch, StringBuilder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::ShardError;
use crate::format::{DOCUMENT_KEY_BYTES, Width};
use crate::page_checksums::{ChecksummedWriter, properties};
pub use crate::run_index::{RunEntry, RunIndex};
use crate::writer::sealed_text;

/// Version of the token run format.
pub const RUNS_FORMAT_VERSION: u32 = 1;

/// Documents of a row group of the index; only the last one may have fewer.
pub const INDEX_ROW_GROUP: usize = 65_536;

/// Most documents of one object: a row is 32 bits.
pub const MAX_DOCUMENTS: u64 = u32::MAX as u64;

/// Most tokens of one document: lengths and offsets in a document fit 32 bits with sign, as other formats store them.
pub const MAX_DOCUMENT_TOKENS: u64 = i32::MAX as u64;

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
    /// Document key: opaque here, its text is [`crate::key::key_text`].
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
        let length = checked_length(run.id, run.tokens.len() as u64)?;
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

/// The number of tokens of document `id`, where it can be stored.
///
/// # Errors
/// [`ShardError::LongDocument`] above [`MAX_DOCUMENT_TOKENS`].
pub fn checked_length(id: &str, tokens: u64) -> Result<u32, ShardError> {
    if tokens > MAX_DOCUMENT_TOKENS {
        return Err(ShardError::LongDocument { id: id.to_owned(), tokens });
    }
    Ok(tokens as u32)
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

pub(crate) fn check_header(subject: &str, header: &RunHeader) -> Result<(), ShardError> {
    if header.format_version != RUNS_FORMAT_VERSION {
        let (found, known) = (header.format_version, RUNS_FORMAT_VERSION);
        return Err(ShardError::Version { subject: subject.to_owned(), found, oldest: known, known });
    }
    if header.vocabulary_size == 0 || header.width != Width::for_vocabulary(header.vocabulary_size) {
        let problem = format!("width {:?} for {} ids, expected the narrowest", header.width, header.vocabulary_size);
        return Err(ShardError::Header { problem });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
