//! Documents and rejects at rest: documents as Parquet, rejects as JSON lines.
//!
//! The bytes depend on the documents and on nothing else. Integrity of whole objects is the store's matter (BLAKE3); here
//! every page carries a CRC-32, which every reader of Parquet can check.
//!
//! | column | Parquet type | |
//! |---|---|---|
//! | `id`, `source`, `domain`, `native_id`, `sensitivity`, `text`, `origin_object` | string | required |
//! | `version` | unsigned 32-bit | required |
//! | `licence`, `title` | string | optional |
//! | `year` | unsigned 16-bit | optional |
//! | `origin_offset` | unsigned 64-bit | required |
//! | `meta` | string, a JSON object of strings with sorted keys | required |
//! | `key` | 16 bytes of fixed width, little-endian: [`Document::key`] | required |
//!
//! Version 1 of the layout has no `key` and is read too.
//!
//! Compressed with zstd; a row group ends at 64 MiB of text and meta data or 65,536 rows. No statistics are kept: the footer
//! holds no text.

use std::borrow::Cow;
use std::io::Write;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::{ColumnWriter, get_column_writer};
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::document::Document;
use crate::pages::{CheckedPages, PageBytes};

pub use crate::archive_reader::{DocumentReader, TextReader};
pub use crate::keyed_text_reader::{KeyedText, KeyedTextReader};
pub use crate::reject::write_rejects;

/// Bytes of text and meta data after which a row group is closed.
pub const ROW_GROUP_TEXT_BYTES: usize = 64 << 20;
/// Rows after which a row group is closed.
pub const ROW_GROUP_ROWS: usize = 65_536;
/// Zstandard level of every page.
pub const ZSTD_LEVEL: i32 = 3;
/// Key and value in the footer that name the layout and its version.
pub const FORMAT_KEY: &str = "mellama.documents";
/// Version of the layout that is written. Since 2 there is a column `key`; version 1 is read too.
pub const FORMAT_VERSION: &str = "2";

/// Fixed, so that the version of a library never shows in the bytes by name.
const CREATED_BY: &str = "mellama version 1";
/// Uncompressed bytes after which a page is closed.
const PAGE_BYTES: usize = 1 << 20;
/// Values between two looks at the size of a page.
const VALUES_PER_CHECK: usize = 16;
/// Values that are copied for the writer at a time; a multiple of [`VALUES_PER_CHECK`], so that the pages do not depend on it.
const VALUES_PER_BATCH: usize = 16 * VALUES_PER_CHECK;

/// The layout as Parquet spells it. Version 1 has all columns but the last.
pub(crate) const SCHEMA: &str = "message documents {
    required binary id (STRING);
    required int32 version (INTEGER(32,false));
    required binary source (STRING);
    required binary domain (STRING);
    required binary native_id (STRING);
    optional binary licence (STRING);
    required binary sensitivity (STRING);
    optional binary title (STRING);
    required binary text (STRING);
    optional int32 year (INTEGER(16,false));
    required binary origin_object (STRING);
    required int64 origin_offset (INTEGER(64,false));
    required binary meta (STRING);
    required fixed_len_byte_array(16) key;
}";

/// Columns in the order of [`SCHEMA`].
const COLUMNS: [Column; 14] = [
    Column::Text(|document| Some(Cow::Borrowed(&document.id))),
    Column::Int32(|document| Some(document.version as i32)),
    Column::Text(|document| Some(Cow::Borrowed(&document.source))),
    Column::Text(|document| Some(Cow::Borrowed(document.domain.as_str()))),
    Column::Text(|document| Some(Cow::Borrowed(&document.native_id))),
    Column::Text(|document| document.licence.as_deref().map(Cow::Borrowed)),
    Column::Text(|document| Some(Cow::Borrowed(document.sensitivity.as_str()))),
    Column::Text(|document| document.title.as_deref().map(Cow::Borrowed)),
    Column::Text(|document| Some(Cow::Borrowed(&document.text))),
    Column::Int32(|document| document.year.map(i32::from)),
    Column::Text(|document| Some(Cow::Borrowed(&document.origin.object))),
    Column::Int64(|document| document.origin.byte_offset as i64),
    Column::Text(|document| Some(Cow::Owned(meta_json(document)))),
    Column::Key,
];
/// Columns whose values hardly repeat, which a dictionary would only slow down.
const WITHOUT_DICTIONARY: [&str; 7] = ["id", "native_id", "title", "text", "origin_offset", "meta", "key"];

/// Where a column's values come from. Unsigned numbers are stored in the bits of signed ones, as Parquet does.
enum Column {
    Text(fn(&Document) -> Option<Cow<'_, str>>),
    Int32(fn(&Document) -> Option<i32>),
    Int64(fn(&Document) -> i64),
    Key,
}

/// A document that waits for its page, with its key.
struct Waiting {
    document: Document,
    key: u128,
}

/// What can go wrong with documents at rest.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file is damaged, or the store below failed.
    #[error("document file: damaged or unreadable; verify the object and write it again if it is")]
    Parquet(#[from] ParquetError),
    /// Another layout.
    #[error("document file: column {column}: expected the layout of version 1 or 2; write it again with this version")]
    Layout {
        /// The first column that differs.
        column: String,
    },
    /// A value that the layout does not allow.
    #[error("document file: row {row}, column {column}: a value that this version does not know")]
    Value {
        /// Row in the file, from 0.
        row: u64,
        /// The column.
        column: &'static str,
    },
}

/// Writes documents to one Parquet file in the order given. In memory are the compressed pages of one row group and the
/// documents of the page that is next.
pub struct DocumentWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    properties: WriterPropertiesPtr,
    group: Option<Group>,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    rows: u64,
}

/// A row group while its columns are written side by side.
struct Group {
    columns: Vec<(ColumnWriter<'static>, PageBytes)>,
    /// Rows and bytes of text and meta data, those that wait too.
    rows: usize,
    bytes: usize,
}

impl<W: Write + Send> DocumentWriter<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// When `w` fails.
    pub fn new(w: W) -> Result<Self, ArchiveError> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = Arc::new(properties());
        let file = SerializedFileWriter::new(w, schema, Arc::clone(&properties))?;
        Ok(Self { file, properties, group: None, waiting: Vec::new(), waiting_bytes: 0, rows: 0 })
    }

    /// Adds a document with its key, [`Document::key`], which the caller makes where it has threads for it.
    ///
    /// # Errors
    /// When the writer below fails.
    pub fn push(&mut self, document: &Document, key: u128) -> Result<(), ArchiveError> {
        let meta: usize = document.meta.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = document.text.len() + meta;
        let full = |group: &Group| group.bytes + bytes > ROW_GROUP_TEXT_BYTES || group.rows >= ROW_GROUP_ROWS;
        if self.group.as_ref().is_some_and(full) {
            self.close_group()?;
        }
        let group = self.open_group();
        group.rows += 1;
        group.bytes += bytes;
        self.waiting.push(Waiting { document: document.clone(), key });
        self.waiting_bytes += bytes;
        if self.waiting.len() >= VALUES_PER_BATCH || self.waiting_bytes >= PAGE_BYTES {
            // Whole looks at a page's size alone, so that pages do not depend on when this happens.
            self.write_waiting(self.waiting.len() / VALUES_PER_CHECK * VALUES_PER_CHECK)?;
        }
        Ok(())
    }

    /// Writes what is waiting and the footer; returns what was written to and the number of rows.
    ///
    /// # Errors
    /// When the writer below fails.
    pub fn finish(mut self) -> Result<(W, u64), ArchiveError> {
        self.close_group()?;
        Ok((self.file.into_inner()?, self.rows))
    }

    fn open_group(&mut self) -> &mut Group {
        let (schema, properties) = (self.file.schema_descr(), &self.properties);
        self.group.get_or_insert_with(|| {
            let column = |index: usize| {
                let bytes = PageBytes::default();
                let pages = Box::new(CheckedPages::new(Arc::clone(&bytes)));
                (get_column_writer(schema.column(index), Arc::clone(properties), pages), bytes)
            };
            Group { columns: (0..COLUMNS.len()).map(column).collect(), rows: 0, bytes: 0 }
        })
    }

    /// Writes the first `count` documents that wait.
    fn write_waiting(&mut self, count: usize) -> Result<(), ArchiveError> {
        let Some(group) = &mut self.group else { return Ok(()) };
        for (column, (writer, _)) in COLUMNS.iter().zip(&mut group.columns) {
            column.write(&self.waiting[..count], writer)?;
        }
        self.waiting.drain(..count);
        self.waiting_bytes = 0;
        Ok(())
    }

    fn close_group(&mut self) -> Result<(), ArchiveError> {
        self.write_waiting(self.waiting.len())?;
        let Some(group) = self.group.take() else { return Ok(()) };
        self.rows += group.rows as u64;
        let mut written = self.file.next_row_group()?;
        for (writer, bytes) in group.columns {
            let chunk = writer.close()?;
            let bytes = std::mem::take(&mut *bytes.lock().unwrap_or_else(PoisonError::into_inner));
            written.append_column(&Bytes::from(bytes), chunk)?;
        }
        written.close()?;
        Ok(())
    }
}

impl<W: Write + Send> std::fmt::Debug for DocumentWriter<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = self.rows + self.group.as_ref().map_or(0, |group| group.rows as u64);
        formatter.debug_struct("DocumentWriter").field("rows", &rows).finish_non_exhaustive()
    }
}

impl Column {
    fn write(&self, documents: &[Waiting], writer: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        for batch in documents.chunks(VALUES_PER_BATCH) {
            self.write_batch(batch, writer)?;
        }
        Ok(())
    }

    fn write_batch(&self, waiting: &[Waiting], writer: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        let documents = || waiting.iter().map(|waiting| &waiting.document);
        match (self, writer) {
            (Self::Text(value), ColumnWriter::ByteArrayColumnWriter(writer)) => {
                let (levels, values) = split(documents().map(value));
                let values: Vec<_> = values.into_iter().map(byte_array).collect();
                writer.write_batch(&values, Some(&levels), None)?;
            }
            (Self::Int32(value), ColumnWriter::Int32ColumnWriter(writer)) => {
                let (levels, values) = split(documents().map(value));
                writer.write_batch(&values, Some(&levels), None)?;
            }
            (Self::Int64(value), ColumnWriter::Int64ColumnWriter(writer)) => {
                let values: Vec<_> = documents().map(value).collect();
                writer.write_batch(&values, None, None)?;
            }
            (Self::Key, ColumnWriter::FixedLenByteArrayColumnWriter(writer)) => {
                let bytes = waiting.iter().map(|waiting| waiting.key.to_le_bytes().to_vec());
                let values: Vec<_> = bytes.map(FixedLenByteArray::from).collect();
                writer.write_batch(&values, None, None)?;
            }
            _ => {
                return Err(ParquetError::General("columns and schema do not agree".to_string()));
            }
        }
        Ok(())
    }
}

/// Definition levels (1 where there is a value) and the values. Required columns ignore the levels.
fn split<T>(values: impl Iterator<Item = Option<T>>) -> (Vec<i16>, Vec<T>) {
    let mut levels = Vec::new();
    let mut present = Vec::new();
    for value in values {
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    (levels, present)
}

fn byte_array(text: Cow<'_, str>) -> ByteArray {
    ByteArray::from(text.into_owned().into_bytes())
}

fn meta_json(document: &Document) -> String {
    serde_json::to_string(&document.meta).expect("a map of strings is always JSON")
}

fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("zstd has a level 3");
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(level))
        .set_created_by(CREATED_BY.to_string())
        .set_key_value_metadata(Some(vec![KeyValue::new(FORMAT_KEY.to_string(), FORMAT_VERSION.to_string())]))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(VALUES_PER_CHECK)
        .set_max_row_group_row_count(None);
    for name in WITHOUT_DICTIONARY {
        builder = builder.set_column_dictionary_enabled(name.into(), false);
    }
    builder.build()
}
