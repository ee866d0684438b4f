//! Writes shards: sequences in, one Parquet file with deterministic bytes out.
//!
//! It publishes nothing; the caller hands it a part of a work folder or any other writer.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanBuilder, FixedSizeBinaryArray, FixedSizeListArray, ListArray, ListBuilder, RecordBatch,
    UInt16Array, UInt16Builder, UInt32Array, UInt32Builder,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use serde::Serialize;

use crate::error::ShardError;
use crate::format::{
    DOCUMENT_KEY_BYTES, HEADER_KEY, Sequence, ShardHeader, ShardTotals, TOTALS_KEY, TotalsBuilder, Width, element,
    row_group_sequences, shard_schema,
};
use crate::page_checksums::{ChecksummedWriter, properties};
use crate::verify::check_sequence;

/// Writes one shard. Equal headers and sequences give equal bytes.
#[derive(Debug)]
pub struct ShardWriter<W: Write + Send> {
    file: ChecksummedWriter<W>,
    header: ShardHeader,
    schema: SchemaRef,
    totals: TotalsBuilder,
    rows: Rows,
    written: u64,
}

const SUBJECT: &str = "shard being written";

impl<W: Write + Send> ShardWriter<W> {
    /// Starts a shard.
    ///
    /// # Errors
    /// [`ShardError::Header`] or [`ShardError::Version`] for an impossible header; otherwise the writer's.
    pub fn new(w: W, header: &ShardHeader) -> Result<Self, ShardError> {
        header.check()?;
        let schema = Arc::new(shard_schema(header));
        let mut file = ChecksummedWriter::new(w, Arc::clone(&schema), properties().build())
            .map_err(|error| ShardError::parquet(SUBJECT, error))?;
        file.add_metadata(HEADER_KEY, sealed_text(header)?);
        let (totals, rows) = (TotalsBuilder::new(header.sources.len()), Rows::new(header));
        Ok(Self { file, header: header.clone(), schema, totals, rows, written: 0 })
    }

    /// Appends a sequence.
    ///
    /// # Errors
    /// [`ShardError::Sequence`] when it breaks a rule of [`crate::verify::verify_sequence`]; nothing is appended then.
    /// Otherwise the writer's, after which the shard must be given up.
    pub fn push(&mut self, sequence: &Sequence) -> Result<(), ShardError> {
        check_sequence(sequence, &self.header)
            .map_err(|problem| ShardError::Sequence { subject: format!("{SUBJECT}, sequence {}", self.written), problem })?;
        self.rows.push(sequence);
        self.totals.add(sequence);
        self.written += 1;
        if self.rows.length == row_group_sequences(self.header.sequence_length) { self.flush() } else { Ok(()) }
    }

    /// Writes the rest and the footer; returns what was written to and the number of sequences.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(self) -> Result<(W, u64), ShardError> {
        let (w, totals) = self.finish_with_totals()?;
        Ok((w, totals.sequences))
    }

    /// [`ShardWriter::finish`] with all totals of the shard.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish_with_totals(mut self) -> Result<(W, ShardTotals), ShardError> {
        if self.rows.length > 0 {
            self.flush()?;
        }
        let totals = self.totals.finish();
        self.file.add_metadata(TOTALS_KEY, sealed_text(&totals)?);
        let w = self.file.finish().map_err(|error| ShardError::parquet(SUBJECT, error))?;
        Ok((w, totals))
    }

    fn flush(&mut self) -> Result<(), ShardError> {
        let columns = self.rows.take_columns(&self.header)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        let batch = batch.map_err(|error| ShardError::parquet(SUBJECT, error.into()))?;
        self.file.write_row_group(&batch).map_err(|error| ShardError::parquet(SUBJECT, error))
    }
}

pub(crate) fn sealed_text<T: Serialize>(value: &T) -> Result<String, ShardError> {
    let bytes = mellama_storage::sealed::encode(value).map_err(|error| ShardError::Header { problem: error.to_string() })?;
    String::from_utf8(bytes).map_err(|_| ShardError::Header { problem: "sealed JSON is not UTF-8".to_owned() })
}

/// The sequences of the row group being filled, column by column.
#[derive(Debug)]
struct Rows {
    length: usize,
    tokens: Vec<u32>,
    ends: ListBuilder<UInt32Builder>,
    documents: Vec<[u8; DOCUMENT_KEY_BYTES as usize]>,
    sources: ListBuilder<UInt16Builder>,
    offsets: ListBuilder<UInt32Builder>,
    epochs: ListBuilder<UInt32Builder>,
    masks: ListBuilder<BooleanBuilder>,
}

impl Rows {
    fn new(header: &ShardHeader) -> Self {
        let u32_list = || ListBuilder::new(UInt32Builder::new()).with_field(element(DataType::UInt32));
        Self {
            length: 0,
            tokens: Vec::with_capacity(row_group_sequences(header.sequence_length) * header.sequence_length as usize),
            ends: u32_list(),
            documents: Vec::new(),
            sources: ListBuilder::new(UInt16Builder::new()).with_field(element(DataType::UInt16)),
            offsets: u32_list(),
            epochs: u32_list(),
            masks: ListBuilder::new(BooleanBuilder::new()).with_field(element(DataType::Boolean)),
        }
    }

    fn push(&mut self, sequence: &Sequence) {
        self.length += 1;
        self.tokens.extend_from_slice(&sequence.tokens);
        for segment in &sequence.segments {
            self.ends.values().append_value(segment.end);
            self.documents.push(segment.document.to_le_bytes());
            self.sources.values().append_value(segment.source);
            self.offsets.values().append_value(segment.offset);
            self.epochs.values().append_value(segment.epoch);
        }
        self.ends.append(true);
        self.sources.append(true);
        self.offsets.append(true);
        self.epochs.append(true);
        if let Some(mask) = &sequence.loss_mask {
            self.masks.values().append_slice(mask);
        }
        self.masks.append(sequence.loss_mask.is_some());
    }

    fn take_columns(&mut self, header: &ShardHeader) -> Result<Vec<ArrayRef>, ShardError> {
        self.length = 0;
        let tokens = std::mem::take(&mut self.tokens);
        self.tokens.reserve(tokens.len());
        let values: ArrayRef = match header.width {
            // Ids were compared with the vocabulary size, which fits the width.
            Width::U16 => Arc::new(UInt16Array::from_iter_values(tokens.iter().map(|&token| token as u16))),
            Width::U32 => Arc::new(UInt32Array::from(tokens)),
        };
        let field = element(header.width.data_type());
        let tokens = FixedSizeListArray::try_new(field, header.sequence_length as i32, values, None)
            .map_err(|error| ShardError::parquet(SUBJECT, error.into()))?;
        let ends = self.ends.finish();
        let documents = keys(header, &ends, &std::mem::take(&mut self.documents))?;
        Ok(vec![
            Arc::new(tokens),
            Arc::new(ends),
            Arc::new(documents),
            Arc::new(self.sources.finish()),
            Arc::new(self.offsets.finish()),
            Arc::new(self.epochs.finish()),
            Arc::new(self.masks.finish()),
        ])
    }
}

/// The keys of all segments in lists of the lengths of `ends`, in the type of the header's version.
fn keys(header: &ShardHeader, ends: &ListArray, keys: &[[u8; DOCUMENT_KEY_BYTES as usize]]) -> Result<ListArray, ShardError> {
    let values: ArrayRef = if header.format_version == 1 {
        let flat = Buffer::from_vec(keys.as_flattened().to_vec());
        Arc::new(FixedSizeBinaryArray::new(DOCUMENT_KEY_BYTES, flat, None))
    } else {
        Arc::new(BinaryArray::from_iter_values(keys))
    };
    let list = ListArray::try_new(element(values.data_type().clone()), ends.offsets().clone(), values, None);
    list.map_err(|error| ShardError::parquet(SUBJECT, error.into()))
}

#[cfg(test)]
mod tests;
