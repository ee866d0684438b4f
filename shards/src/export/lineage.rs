//! Lineage of an export: for every segment its document, source, tokens and bytes in an object; and a table of the documents.
//!
//! Both are Parquet like the shards. It looks no document up: the caller hands the rows of the table over.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryBuilder, RecordBatch, StringBuilder, UInt32Builder, UInt64Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use mellama_storage::{ObjectEntry, PartWriter, Workdir};

use crate::error::ShardError;
use crate::export::ExportError;
use crate::format::DOCUMENT_KEY_BYTES;
use crate::page_checksums::{ChecksummedWriter, properties};

/// Name of the table of documents.
pub const DOCUMENTS_KEY: &str = "lineage/documents.parquet";
/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 65_536;

/// One segment of an object.
#[derive(Debug)]
pub(crate) struct LineageRow<'a> {
    pub(crate) window: u64,
    pub(crate) document: u128,
    pub(crate) source: &'a str,
    pub(crate) epoch: u32,
    /// First token, counted in the document.
    pub(crate) offset: u32,
    /// Tokens of the object.
    pub(crate) tokens: (u64, u64),
    /// Bytes of the object.
    pub(crate) bytes: (u64, u64),
}

/// Writes the lineage of one object.
pub(crate) struct LineageWriter {
    table: Table,
    object: String,
    source: StringBuilder,
    keys: FixedSizeBinaryBuilder,
    objects: StringBuilder,
    longs: [UInt64Builder; 5],
    shorts: [UInt32Builder; 2],
}

impl LineageWriter {
    pub(crate) fn begin(store: &Workdir, object: &str) -> Result<Self, ExportError> {
        let table = Table::begin(store, format!("lineage/{object}.parquet"), lineage_schema())?;
        Ok(Self {
            table,
            object: object.to_owned(),
            source: StringBuilder::new(),
            keys: FixedSizeBinaryBuilder::new(DOCUMENT_KEY_BYTES),
            objects: StringBuilder::new(),
            longs: std::array::from_fn(|_| UInt64Builder::new()),
            shorts: std::array::from_fn(|_| UInt32Builder::new()),
        })
    }

    pub(crate) fn push(&mut self, row: &LineageRow<'_>) -> Result<(), ExportError> {
        self.objects.append_value(&self.object);
        let values = [row.window, row.tokens.0, row.tokens.1, row.bytes.0, row.bytes.1];
        self.longs.iter_mut().zip(values).for_each(|(column, value)| column.append_value(value));
        self.keys.append_value(row.document.to_le_bytes()).expect("a document key has 16 bytes");
        self.source.append_value(row.source);
        self.shorts.iter_mut().zip([row.offset, row.epoch]).for_each(|(column, value)| column.append_value(value));
        self.table.pending += 1;
        if self.table.pending == ROW_GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.objects.finish())];
        columns.extend(self.longs.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.push(Arc::new(self.keys.finish()));
        columns.push(Arc::new(self.source.finish()));
        columns.extend(self.shorts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        self.table.write(columns)
    }

    pub(crate) fn finish(mut self) -> Result<ObjectEntry, ExportError> {
        if self.table.pending > 0 {
            self.flush()?;
        }
        self.table.finish()
    }
}

pub(super) fn lineage_schema() -> SchemaRef {
    let field = |name: &str, kind| Field::new(name, kind, false);
    let long = |name| field(name, DataType::UInt64);
    Arc::new(Schema::new(vec![
        field("object", DataType::Utf8),
        long("window"),
        long("token_start"),
        long("token_end"),
        long("byte_start"),
        long("byte_end"),
        field("document", DataType::FixedSizeBinary(DOCUMENT_KEY_BYTES)),
        field("source", DataType::Utf8),
        field("offset", DataType::UInt32),
        field("epoch", DataType::UInt32),
    ]))
}

/// What is known of a document of the export.
#[derive(Debug, Clone, Copy)]
pub struct DocumentRow<'a> {
    /// Document key, as segments hold it.
    pub key: u128,
    /// `SOURCE:NATIVE_ID`.
    pub id: &'a str,
    /// Its source.
    pub source: &'a str,
    /// Licence, where the source or the document states one.
    pub licence: Option<&'a str>,
    /// `open`, `dua` or `phi`.
    pub sensitivity: &'a str,
}

/// Writes `lineage/documents.parquet`: one row a document of the export.
pub struct DocumentTable {
    table: Table,
    keys: FixedSizeBinaryBuilder,
    ids: StringBuilder,
    sources: StringBuilder,
    licences: StringBuilder,
    sensitivities: StringBuilder,
}

impl std::fmt::Debug for DocumentTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DocumentTable").field("rows", &self.table.rows).finish_non_exhaustive()
    }
}

impl DocumentTable {
    /// Starts the table in the folder of an export.
    ///
    /// # Errors
    /// The store's.
    pub fn begin(store: &Workdir) -> Result<Self, ExportError> {
        let table = Table::begin(store, DOCUMENTS_KEY.to_owned(), documents_schema())?;
        Ok(Self {
            table,
            keys: FixedSizeBinaryBuilder::new(DOCUMENT_KEY_BYTES),
            ids: StringBuilder::new(),
            sources: StringBuilder::new(),
            licences: StringBuilder::new(),
            sensitivities: StringBuilder::new(),
        })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Panics
    /// Never: a key has the 16 bytes of its column.
    pub fn push(&mut self, row: &DocumentRow<'_>) -> Result<(), ExportError> {
        self.keys.append_value(row.key.to_le_bytes()).expect("a document key has 16 bytes");
        self.ids.append_value(row.id);
        self.sources.append_value(row.source);
        self.licences.append_option(row.licence);
        self.sensitivities.append_value(row.sensitivity);
        self.table.pending += 1;
        if self.table.pending == ROW_GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        self.table.write(vec![
            Arc::new(self.keys.finish()),
            Arc::new(self.ids.finish()),
            Arc::new(self.sources.finish()),
            Arc::new(self.licences.finish()),
            Arc::new(self.sensitivities.finish()),
        ])
    }

    /// Publishes the table.
    ///
    /// # Errors
    /// The store's.
    pub fn finish(mut self) -> Result<ObjectEntry, ExportError> {
        if self.table.pending > 0 {
            self.flush()?;
        }
        self.table.finish()
    }
}

pub(super) fn documents_schema() -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        Field::new("document", DataType::FixedSizeBinary(DOCUMENT_KEY_BYTES), false),
        text("id", false),
        text("source", false),
        text("licence", true),
        text("sensitivity", false),
    ]))
}

/// A Parquet file in the making, row group by row group.
struct Table {
    key: String,
    schema: SchemaRef,
    file: ChecksummedWriter<PartWriter>,
    pending: usize,
    rows: u64,
}

impl Table {
    fn begin(store: &Workdir, key: String, schema: SchemaRef) -> Result<Self, ExportError> {
        let part = store.part()?;
        let file = ChecksummedWriter::new(part, Arc::clone(&schema), properties().build());
        let file = file.map_err(|error| ShardError::parquet(&key, error))?;
        Ok(Self { key, schema, file, pending: 0, rows: 0 })
    }

    fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), ExportError> {
        let wrong = |error| ShardError::parquet(&self.key, error);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| wrong(error.into()))?;
        self.file.write_row_group(&batch).map_err(wrong)?;
        self.rows += batch.num_rows() as u64;
        self.pending = 0;
        Ok(())
    }

    fn finish(self) -> Result<ObjectEntry, ExportError> {
        let mut part = self.file.finish().map_err(|error| ShardError::parquet(&self.key, error))?;
        part.flush().map_err(ExportError::io(&self.key))?;
        Ok(part.finish_named(&self.key, self.rows)?)
    }
}
