//! Small Parquet tables between stages (sketches, decisions, placements): one way to write them, one way to read them.
//!
//! Bytes depend on the rows alone: fixed writer name, zstd, page checksums, no statistics of the machine.

use std::io;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Float64Array, ListArray, RecordBatch, StringArray,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{Field, Schema};
use bytes::Bytes;
use mellama_shards::StoreChunks;
use mellama_shards::format::DOCUMENT_KEY_BYTES;
use mellama_shards::page_checksums::{ChecksummedWriter, properties};
use mellama_storage::{ObjectEntry, PartWriter, RangeReader, Workdir};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::file::reader::ChunkReader;

use crate::failure::Failure;

/// Bytes of a table that is read whole.
const WHOLE_BYTES: u64 = 16 << 20;
/// Rows of a batch that is read while others wait.
const STREAM_ROWS: usize = 8192;
/// Rows of a row group.
pub(crate) const ROW_GROUP_ROWS: usize = 65_536;

/// Named columns of equal length to a record batch; none may be null.
pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), array.is_nullable())).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns of equal length and their own types")
}

/// Writes a table as `folder/stem-DIGEST.parquet`, row groups of `ROW_GROUP_ROWS`.
///
/// # Errors
/// `Failure::Storage`.
pub(crate) fn publish(workdir: &Workdir, folder: &str, stem: &str, batch: &RecordBatch) -> Result<ObjectEntry, Failure> {
    let mut writer = TableWriter::new(workdir, folder, batch)?;
    writer.push(batch)?;
    writer.finish(stem)
}

/// Writes a table batch by batch, a row group each.
pub(crate) struct TableWriter {
    writer: ChecksummedWriter<PartWriter>,
    folder: String,
    rows: u64,
}

impl TableWriter {
    /// Starts a table with the columns of `like`, whose rows are not written.
    ///
    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn new(workdir: &Workdir, folder: &str, like: &RecordBatch) -> Result<TableWriter, Failure> {
        let writer = ChecksummedWriter::new(workdir.part()?, like.schema(), properties().build());
        let writer = writer.map_err(|e| Failure::writing(&format!("{folder}: writing a table"), &e))?;
        Ok(TableWriter { writer, folder: folder.to_owned(), rows: 0 })
    }

    /// Writes a batch of at least one row as row groups of `ROW_GROUP_ROWS`.
    ///
    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        for first in (0..batch.num_rows()).step_by(ROW_GROUP_ROWS) {
            let rows = batch.slice(first, ROW_GROUP_ROWS.min(batch.num_rows() - first));
            let written = self.writer.write_row_group(&rows);
            written.map_err(|e| Failure::writing(&format!("{}: writing a table", self.folder), &e))?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Publishes `folder/stem-DIGEST.parquet`.
    ///
    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn finish(self, stem: &str) -> Result<ObjectEntry, Failure> {
        let rows = self.rows;
        self.finish_counting(stem, rows)
    }

    /// [`TableWriter::finish`] with a count of what the rows describe in place of their number.
    ///
    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn finish_counting(self, stem: &str, records: u64) -> Result<ObjectEntry, Failure> {
        let part = self.writer.finish().map_err(|e| Failure::writing(&format!("{}: writing a table", self.folder), &e))?;
        Ok(part.finish(&self.folder, stem, "parquet", records)?)
    }
}

/// Reads a table back, checked against its entry.
///
/// # Errors
/// `Failure::Verification` when the object is not what the entry says or not a table.
pub(crate) fn read(workdir: &Workdir, entry: &ObjectEntry) -> Result<Vec<RecordBatch>, Failure> {
    let bytes = Bytes::from(workdir.read_object(entry)?);
    let wrong = |e: &(dyn std::error::Error + 'static)| Failure::reading(&format!("{}: not a readable table", entry.key), e);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| wrong(&e))?;
    let reader = builder.with_batch_size(ROW_GROUP_ROWS).build().map_err(|e| wrong(&e))?;
    reader.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(&e))
}

/// A typed column of a batch that this crate wrote.
///
/// # Errors
/// `Failure::Verification` when it is absent or of another type.
pub(crate) fn column<'b, A: Array + 'static>(batch: &'b RecordBatch, name: &str) -> Result<&'b A, Failure> {
    let found = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<A>());
    found.ok_or_else(|| Failure::Verification(format!("column {name}: absent or of another type; run \"mellama verify\"")))
}

pub(crate) fn u32s(values: impl IntoIterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

pub(crate) fn u64s(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

pub(crate) fn f64s(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

pub(crate) fn strings<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// Byte strings of one width; `width` counts for an empty column.
pub(crate) fn fixed(width: usize, values: &[Vec<u8>]) -> ArrayRef {
    if values.is_empty() {
        return Arc::new(FixedSizeBinaryArray::new(width as i32, arrow::buffer::Buffer::from(&[] as &[u8]), None));
    }
    Arc::new(FixedSizeBinaryArray::try_from_iter(values.iter()).expect("values of one width"))
}

/// Document keys, 16 bytes each, little-endian.
pub(crate) fn keys(values: impl ExactSizeIterator<Item = u128>) -> ArrayRef {
    let mut keys = FixedSizeBinaryBuilder::with_capacity(values.len(), DOCUMENT_KEY_BYTES);
    for value in values {
        keys.append_value(value.to_le_bytes()).expect("a document key has 16 bytes");
    }
    Arc::new(keys.finish())
}

/// One document key of a column.
pub(crate) fn key(keys: &FixedSizeBinaryArray, row: usize) -> Result<u128, Failure> {
    let bytes: Option<[u8; 16]> = keys.value(row).try_into().ok();
    bytes
        .map(u128::from_le_bytes)
        .ok_or_else(|| Failure::Verification(format!("a document key of {} bytes; run \"mellama verify\"", keys.value_length())))
}

/// Lists of integers.
pub(crate) fn lists(values: &[Vec<u64>]) -> ArrayRef {
    let rows = values.iter().map(|row| Some(row.iter().map(|v| Some(*v)).collect::<Vec<_>>()));
    Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::UInt64Type, _, _>(rows))
}

/// One row of a list column.
pub(crate) fn list_row(lists: &ListArray, row: usize) -> Vec<u64> {
    let values = lists.value(row);
    values.as_any().downcast_ref::<UInt64Array>().map_or_else(Vec::new, |v| v.values().to_vec())
}

/// Reads some columns of a table, a batch at a time. A table of at most [`WHOLE_BYTES`] is read whole and checked by its digest;
/// of a larger one every page is checked by its checksum.
///
/// # Errors
/// As `read`; a column that is absent is.
pub(crate) fn stream(
    workdir: &Workdir,
    entry: &ObjectEntry,
    columns: &[&str],
) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, Failure>>>, Failure> {
    if entry.bytes <= WHOLE_BYTES {
        return stream_from(Bytes::from(workdir.read_object(entry)?), workdir, entry, columns);
    }
    let reader = RangeReader::of(Arc::clone(workdir.store()), entry)?;
    stream_from(StoreChunks(reader), workdir, entry, columns)
}

fn stream_from<R: ChunkReader + 'static>(
    reader: R,
    workdir: &Workdir,
    entry: &ObjectEntry,
    columns: &[&str],
) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, Failure>>>, Failure> {
    // A table may be of an earlier release, so it is named with its folder.
    let place = format!("{}/{}", workdir.store().uri(), entry.key);
    let wrong = move |e: &(dyn std::error::Error + 'static)| {
        Failure::reading(&format!("{place}: not a readable table, run \"mellama verify\" on that folder"), e)
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(reader).map_err(|e| wrong(&e))?;
    let known = builder.schema();
    if let Some(absent) = columns.iter().find(|name| known.column_with_name(name).is_none()) {
        return Err(wrong(&io::Error::other(format!("column {absent} is absent"))));
    }
    let roots = columns.iter().filter_map(|name| known.column_with_name(name)).map(|(index, _)| index);
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(STREAM_ROWS).build().map_err(|e| wrong(&e))?;
    Ok(Box::new(reader.map(move |batch| batch.map_err(|e| wrong(&e)))))
}

/// Reads `rows` rows from `first` of a table, without the rest of it.
///
/// # Errors
/// As `read`.
pub(crate) fn read_rows(workdir: &Workdir, entry: &ObjectEntry, first: u64, rows: u64) -> Result<Vec<RecordBatch>, Failure> {
    if entry.bytes <= WHOLE_BYTES {
        let batches = read(workdir, entry)?;
        let schema = batches.first().map(RecordBatch::schema);
        let all = schema.map(|schema| arrow::compute::concat_batches(&schema, &batches)).transpose();
        let all = all.map_err(|e| Failure::reading(&format!("{}: not a readable table", entry.key), &e))?;
        let slice = |all: RecordBatch| {
            let first = (first as usize).min(all.num_rows());
            all.slice(first, (rows as usize).min(all.num_rows() - first))
        };
        return Ok(all.map(slice).into_iter().collect());
    }
    let wrong = |e: &(dyn std::error::Error + 'static)| Failure::reading(&format!("{}: not a readable table", entry.key), e);
    let reader = RangeReader::of(Arc::clone(workdir.store()), entry)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(StoreChunks(reader)).map_err(|e| wrong(&e))?;
    let sizes: Vec<u64> = builder.metadata().row_groups().iter().map(|group| group.num_rows().unsigned_abs()).collect();
    let (groups, before, there) = overlapping(&sizes, first, rows);
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let (skip, select) = (first - before, rows.min(before + there - first));
    let selection = RowSelection::from(vec![RowSelector::skip(skip as usize), RowSelector::select(select as usize)]);
    let reader = builder.with_row_groups(groups).with_row_selection(selection).with_batch_size(ROW_GROUP_ROWS);
    reader.build().map_err(|e| wrong(&e))?.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(&e))
}

/// Row groups that hold any of `rows` rows from `first`, the rows before the first of them, and the rows in them.
fn overlapping(sizes: &[u64], first: u64, rows: u64) -> (Vec<usize>, u64, u64) {
    let (mut groups, mut start, mut before, mut there) = (Vec::new(), 0, 0, 0);
    for (index, size) in sizes.iter().enumerate() {
        if (start + size).min(first.saturating_add(rows)) > start.max(first) {
            if groups.is_empty() {
                before = start;
            }
            groups.push(index);
            there += size;
        }
        start += size;
    }
    (groups, before, there)
}

#[cfg(test)]
mod tests {
    use super::overlapping;

    #[test]
    fn only_the_row_groups_of_the_rows_are_read() {
        let check = |first, rows, expected: (&[usize], u64, u64)| {
            let (groups, before, there) = overlapping(&[10, 10, 10, 3], first, rows);
            assert_eq!((groups.as_slice(), before, there), expected, "{rows} from {first}");
        };
        check(0, 10, (&[0], 0, 10));
        check(9, 2, (&[0, 1], 0, 20));
        check(10, 1, (&[1], 10, 10));
        check(15, 100, (&[1, 2, 3], 10, 23));
        check(32, u64::MAX, (&[3], 30, 3));
        check(33, 5, (&[], 0, 0));
        check(5, 0, (&[], 0, 0));
    }
}
