//! Reads of documents at rest what encoding them needs: key, id and text. The other columns are not read.

use arrow::array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::ChunkReader;

use crate::archive::ArchiveError;
use crate::archive_reader::{check_layout, column};
use crate::batch_rows::{BATCH_ROWS, BatchColumns, BatchRows};

/// Columns that are read.
const COLUMNS: [&str; 3] = ["id", "text", "key"];
/// The first layout with keys.
const LAYOUT_WITH_KEYS: u32 = 2;

/// A document's text with what names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedText {
    /// Document key, see [`crate::document_key`].
    pub key: u128,
    /// Document id.
    pub id: String,
    /// Text.
    pub text: String,
}

/// Texts of one file in order, with their keys and ids. After an error it yields nothing more.
pub struct KeyedTextReader(BatchRows<Columns>);

impl KeyedTextReader {
    /// Reads the footer and checks the layout.
    ///
    /// # Errors
    /// [`ArchiveError::Parquet`] when it is no Parquet file or cannot be read, [`ArchiveError::Layout`] when it is another one
    /// or has no keys, as files of version 1.
    pub fn open<R: ChunkReader + 'static>(reader: R) -> Result<Self, ArchiveError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(&reader, options)?;
        if check_layout(metadata.parquet_schema())? < LAYOUT_WITH_KEYS {
            return Err(ArchiveError::Layout { column: "key".to_string() });
        }
        let columns = ProjectionMask::columns(metadata.parquet_schema(), COLUMNS);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, metadata).with_batch_size(BATCH_ROWS);
        Ok(Self(BatchRows::new(builder.with_projection(columns).build()?)))
    }
}

impl Iterator for KeyedTextReader {
    type Item = Result<KeyedText, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(|columns, index| Ok(columns.text(index)))
    }
}

impl std::fmt::Debug for KeyedTextReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeyedTextReader").finish_non_exhaustive()
    }
}

/// One batch, its columns by type.
struct Columns {
    ids: StringArray,
    texts: StringArray,
    keys: FixedSizeBinaryArray,
}

impl BatchColumns for Columns {
    fn of(batch: &RecordBatch) -> Result<Self, ArchiveError> {
        Ok(Self { ids: column(batch, "id")?, texts: column(batch, "text")?, keys: column(batch, "key")? })
    }

    fn len(&self) -> usize {
        self.ids.len()
    }
}

impl Columns {
    fn text(&self, index: usize) -> KeyedText {
        let key = self.keys.value(index).try_into().expect("the layout has keys of 16 bytes");
        KeyedText {
            key: u128::from_le_bytes(key),
            id: self.ids.value(index).to_string(),
            text: self.texts.value(index).to_string(),
        }
    }
}
