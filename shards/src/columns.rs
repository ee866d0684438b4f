//! What every Parquet format of this crate reads alike: footer, sealed metadata, columns of one row group in one read.
//!
//! Numbers of the footer are checked before anything is allocated or indexed by them.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use serde::de::DeserializeOwned;

use crate::chunks::{Ranges, Window, window};
use crate::error::ShardError;
use crate::page_headers::check_pages;

/// A Parquet object with its footer.
#[derive(Clone)]
pub(crate) struct ColumnFile {
    name: String,
    object: Arc<dyn Ranges>,
    metadata: ArrowReaderMetadata,
}

impl ColumnFile {
    /// Reads the footer. Arrow's own schema hint is left aside: the Parquet types alone decide.
    pub(crate) fn open<R: ChunkReader + 'static>(name: &str, reader: R) -> Result<Self, ShardError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_page_index_policy(PageIndexPolicy::Skip);
        let metadata = guarded(|| ArrowReaderMetadata::load(&reader, options));
        let metadata = metadata.map_err(|error| ShardError::parquet(name, error))?;
        Ok(Self { name: name.to_owned(), object: Arc::new(reader), metadata })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.metadata.metadata()
    }

    pub(crate) fn row_groups(&self) -> usize {
        self.metadata().num_row_groups()
    }

    /// A sealed JSON value of the footer.
    pub(crate) fn sealed<T: DeserializeOwned>(&self, key: &str) -> Result<T, ShardError> {
        let pairs = self.metadata().file_metadata().key_value_metadata();
        let value = pairs.into_iter().flatten().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref());
        let value =
            value.ok_or_else(|| ShardError::corrupt(&self.name, format!("footer: no {key}, expected a file of this program")))?;
        mellama_storage::sealed::decode(value.as_bytes())
            .map_err(|error| ShardError::corrupt(&self.name, format!("footer: {key}: {error}")))
    }

    /// Columns have exactly these names, types and nullability.
    pub(crate) fn check_schema(&self, expected: &Schema) -> Result<(), ShardError> {
        let describe = |field: &Arc<Field>| {
            format!("{} {}{}", field.name(), field.data_type(), if field.is_nullable() { " nullable" } else { "" })
        };
        let fields = |schema: &Schema| -> Vec<String> { schema.fields().iter().map(describe).collect() };
        let (found, expected) = (fields(self.metadata.schema()), fields(expected));
        if found == expected {
            return Ok(());
        }
        let differing = (0..expected.len()).find(|&index| found.get(index) != expected.get(index)).unwrap_or(expected.len());
        let shown = |fields: &[String]| fields.get(differing).map_or_else(|| "no column".to_owned(), Clone::clone);
        let problem = format!("column {differing}: {}, expected {}", shown(&found), shown(&expected));
        Err(ShardError::corrupt(&self.name, problem))
    }

    /// Rows of the first row group, 0 where there is none; to be checked by [`ColumnFile::check_row_groups`].
    pub(crate) fn first_group_rows(&self) -> usize {
        self.metadata().row_groups().first().map_or(0, |group| usize::try_from(group.num_rows()).unwrap_or(0))
    }

    /// All row groups hold `full` rows but the last, `rows` in all, and every chunk lies inside the file.
    pub(crate) fn check_row_groups(&self, rows: u64, full: usize) -> Result<(), ShardError> {
        let groups = self.metadata().row_groups();
        let wanted = rows.div_ceil(full as u64);
        let footer_rows = self.metadata().file_metadata().num_rows();
        if groups.len() as u64 != wanted || u64::try_from(footer_rows) != Ok(rows) {
            let problem = format!("{footer_rows} rows in {} row groups, expected {rows} in {wanted}", groups.len());
            return Err(ShardError::corrupt(&self.name, problem));
        }
        for (index, group) in groups.iter().enumerate() {
            let wanted = (rows - (index * full) as u64).min(full as u64);
            if u64::try_from(group.num_rows()) != Ok(wanted) {
                let problem = format!("row group {index}: {} rows, expected {wanted}", group.num_rows());
                return Err(ShardError::corrupt(&self.name, problem));
            }
            let file_bytes = self.object.size_bytes();
            let inside = |column| chunk_span(group, column).is_some_and(|(_, end)| end <= file_bytes);
            if !(0..group.num_columns()).all(inside) {
                let problem = format!("row group {index}: a column lies outside the file");
                return Err(ShardError::corrupt(&self.name, problem));
            }
        }
        Ok(())
    }

    /// Decodes adjacent columns, as the schema numbers its fields, of one row group from one ranged read.
    /// Each field has one leaf. [`ColumnFile::check_row_groups`] came before.
    pub(crate) fn read(&self, index: usize, columns: Range<usize>) -> Result<RecordBatch, ShardError> {
        let subject = format!("{}: row group {index}", self.name);
        if index >= self.row_groups() {
            let length = self.row_groups() as u64;
            return Err(ShardError::OutOfRange { subject, index: index as u64, length });
        }
        let group = self.metadata().row_group(index);
        let spans = columns.clone().map(|column| chunk_span(group, column));
        let span = spans.reduce(|a, b| {
            let ((a_start, a_end), (b_start, b_end)) = (a?, b?);
            Some((a_start.min(b_start), a_end.max(b_end)))
        });
        let (start, end) = span.flatten().ok_or_else(|| ShardError::corrupt(&subject, "no columns to read"))?;
        let bytes = window(&*self.object, start, end).map_err(|error| ShardError::parquet(&subject, error))?;
        for column in columns.clone() {
            self.check_chunk(&bytes, index, column).map_err(|problem| ShardError::corrupt(&subject, problem))?;
        }
        let batch = guarded(|| self.decode(bytes, index, columns)).map_err(|error| ShardError::parquet(&subject, error))?;
        match batch {
            Some(batch) if batch.num_rows() as i64 == group.num_rows() => Ok(batch),
            other => {
                let found = other.map_or(0, |batch| batch.num_rows());
                Err(ShardError::corrupt(&subject, format!("{found} rows decoded, footer says {}", group.num_rows())))
            }
        }
    }

    /// Proves the pages of one column before the decoder sees them.
    fn check_chunk(&self, window: &Window, index: usize, column: usize) -> Result<(), String> {
        let group = self.metadata().row_group(index);
        let (start, end) = chunk_span(group, column).ok_or("a column lies outside the file")?;
        let chunk = window.bytes.get((start - window.start) as usize..(end - window.start) as usize);
        let name = || group.column(column).column_path().string();
        check_pages(chunk.ok_or("a column lies outside the file")?, group.column(column).num_values())
            .map_err(|problem| format!("column {}: {problem}", name()))
    }

    fn decode(&self, bytes: Window, index: usize, columns: Range<usize>) -> Result<Option<RecordBatch>, ParquetError> {
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), columns);
        let rows = self.metadata().row_group(index).num_rows();
        let mut batches = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, self.metadata.clone())
            .with_row_groups(vec![index])
            .with_projection(mask)
            .with_batch_size(usize::try_from(rows).unwrap_or(1))
            .build()?;
        Ok(batches.next().transpose()?)
    }
}

/// Runs a decoder of the `parquet` crate. It asserts some facts about a file instead of checking them, and a footer has no
/// checksum: what it panics about is damage, and the file is given up. Nothing else is touched by the closure.
fn guarded<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let result = catch_unwind(AssertUnwindSafe(decode));
    result.unwrap_or_else(|_| Err(ParquetError::General("the decoder gave up on a damaged file".to_owned())))
}

/// Where a column chunk lies in the file; `None` when the footer's numbers are impossible for a file of this crate.
fn chunk_span(group: &RowGroupMetaData, column: usize) -> Option<(u64, u64)> {
    let chunk = group.columns().get(column)?;
    if chunk.dictionary_page_offset().is_some() {
        return None;
    }
    let start = u64::try_from(chunk.data_page_offset()).ok()?;
    let length = u64::try_from(chunk.compressed_size()).ok()?;
    Some((start, start.checked_add(length)?))
}
