//! Parquet files with a CRC-32 in every page header, which the `parquet` crate checks when reading but does not write.
//!
//! Column chunks are encoded by the crate; each page's header gets the checksum before the chunk joins the file. No column
//! may use a dictionary. It knows nothing of what the columns mean.
//!
//! For whoever changes this: sizes recorded elsewhere (column chunk, offset index) grow by what the headers grew; `grow_chunk`
//! keeps them true, and a test reads every page back by them.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::page_store::{PageKey, PageStore, PageStoreArgs, PageStoreFactory};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{KeyValue, OffsetIndexBuilder};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;

use crate::page_headers::header_with_crc;

/// The `created_by` of every file written here. Fixed, so that bytes never depend on the version of the `parquet` crate alone.
pub const CREATED_BY: &str = "mellama version 1";

/// Zstandard level of every column.
pub const ZSTD_LEVEL: i32 = 3;

/// Writer properties shared by all formats of this crate: zstd, no dictionaries, fixed `created_by`, chunk statistics.
///
/// # Panics
/// Never: 3 is a level of zstd.
pub fn properties() -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("zstd has a level 3");
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(level))
        .set_created_by(CREATED_BY.to_owned())
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(None)
        .set_statistics_enabled(EnabledStatistics::Chunk)
}

/// A Parquet writer that takes one record batch a row group and puts a checksum on every page.
pub struct ChecksummedWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: ArrowRowGroupWriterFactory,
    growths: Arc<Growths>,
    schema: SchemaRef,
    row_groups: usize,
}

impl<W: Write + Send> std::fmt::Debug for ChecksummedWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChecksummedWriter").field("row_groups", &self.row_groups).finish_non_exhaustive()
    }
}

impl<W: Write + Send> ChecksummedWriter<W> {
    /// Starts a file of `schema` with properties that began as [`properties`].
    ///
    /// # Errors
    /// When a column type has no Parquet form, when a column would use a dictionary, or when `w` fails.
    pub fn new(w: W, schema: SchemaRef, mut properties: WriterProperties) -> Result<Self> {
        let parquet_schema = ArrowSchemaConverter::new().convert(&schema)?;
        if let Some(column) = parquet_schema.columns().iter().find(|column| properties.dictionary_enabled(column.path())) {
            return Err(ParquetError::General(format!("column {}: dictionary on, expected off", column.path())));
        }
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        let file = SerializedFileWriter::new(w, parquet_schema.root_schema_ptr(), Arc::new(properties))?;
        let growths = Arc::new(Growths::default());
        let columns =
            ArrowRowGroupWriterFactory::new(&file, Arc::clone(&schema)).with_page_store_factory(Arc::<Growths>::clone(&growths));
        Ok(Self { file, columns, growths, schema, row_groups: 0 })
    }

    /// Writes `batch` as one row group.
    ///
    /// # Errors
    /// When the batch does not have the file's schema or the writer below fails.
    pub fn write_row_group(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.schema_ref() != &self.schema {
            return Err(ParquetError::General("record batch: its schema is not the file's".to_owned()));
        }
        self.growths.clear();
        let mut writers = self.columns.create_column_writers(self.row_groups)?.into_iter();
        let mut group = self.file.next_row_group()?;
        let mut leaf = 0;
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            for levels in compute_leaves(field, array)? {
                let mut writer = writers.next().ok_or_else(|| missing_column(field.name()))?;
                writer.write(&levels)?;
                let mut chunk = writer.close()?;
                grow_chunk(&mut chunk, &self.growths.of_column(leaf))?;
                chunk.append_to_row_group(&mut group)?;
                leaf += 1;
            }
        }
        group.close()?;
        self.row_groups += 1;
        Ok(())
    }

    /// Adds a key and value to the footer.
    pub fn add_metadata(&mut self, key: &str, value: String) {
        self.file.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }

    /// Writes the footer and returns what was written to.
    ///
    /// # Errors
    /// When the writer below fails.
    pub fn finish(self) -> Result<W> {
        self.file.into_inner()
    }
}

fn missing_column(name: &str) -> ParquetError {
    ParquetError::General(format!("column {name}: no writer for it, the schema has fewer leaves than the batch"))
}

/// Makes the sizes and offsets of a chunk true after page `i` grew by `growths[i]` bytes.
fn grow_chunk(chunk: &mut ArrowColumnChunk, growths: &[usize]) -> Result<()> {
    let close = chunk.close_mut();
    let growth: usize = growths.iter().sum();
    close.bytes_written += growth as u64;
    let metadata = close.metadata.clone();
    let (compressed, uncompressed) = (metadata.compressed_size(), metadata.uncompressed_size());
    close.metadata = metadata
        .into_builder()
        .set_total_compressed_size(compressed + growth as i64)
        .set_total_uncompressed_size(uncompressed + growth as i64)
        .build()?;
    let Some(index) = close.offset_index.take() else {
        return Ok(());
    };
    let locations = index.page_locations();
    if locations.len() != growths.len() {
        let (pages, listed) = (growths.len(), locations.len());
        return Err(ParquetError::General(format!("column chunk: {pages} pages, offset index lists {listed}")));
    }
    let mut builder = OffsetIndexBuilder::new();
    let mut offset = 0;
    for (place, (location, &growth)) in locations.iter().zip(growths).enumerate() {
        let end = locations.get(place + 1).map_or(close.rows_written as i64, |next| next.first_row_index);
        builder.append_row_count(end - location.first_row_index);
        let size = location.compressed_page_size + growth as i32;
        builder.append_offset_and_size(offset, size);
        let text_bytes = index.unencoded_byte_array_data_bytes().and_then(|bytes| bytes.get(place).copied());
        builder.append_unencoded_byte_array_data_bytes(text_bytes);
        offset += i64::from(size);
    }
    close.offset_index = Some(builder.build());
    Ok(())
}

/// How many bytes each page of each column chunk of the current row group grew by.
#[derive(Debug, Default)]
struct Growths {
    columns: Mutex<Vec<Arc<Mutex<Vec<usize>>>>>,
}

impl Growths {
    fn clear(&self) {
        self.columns.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn of_column(&self, leaf: usize) -> Vec<usize> {
        let columns = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        columns.get(leaf).map_or_else(Vec::new, |pages| pages.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl PageStoreFactory for Growths {
    fn create(&self, _args: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>> {
        let growths = Arc::default();
        self.columns.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&growths));
        Ok(Box::new(ChecksummedPages { blobs: Vec::new(), growths }))
    }
}

/// Buffers the pages of one column chunk. Blobs come in pairs, a page's header and then its data.
struct ChecksummedPages {
    blobs: Vec<Bytes>,
    growths: Arc<Mutex<Vec<usize>>>,
}

impl PageStore for ChecksummedPages {
    fn put(&mut self, value: Bytes) -> Result<PageKey> {
        let is_data = self.blobs.len() % 2 == 1;
        if let Some(header) = self.blobs.last_mut().filter(|_| is_data) {
            let checksummed = header_with_crc(header, crc32fast::hash(&value))
                .ok_or_else(|| ParquetError::General("page header: not the fields this writer knows".to_owned()))?;
            let growth = checksummed.len() - header.len();
            self.growths.lock().unwrap_or_else(PoisonError::into_inner).push(growth);
            *header = checksummed;
        }
        self.blobs.push(value);
        Ok(PageKey::new(self.blobs.len() as u64 - 1))
    }

    fn take(&mut self, key: PageKey) -> Result<Bytes> {
        let blob = usize::try_from(key.get()).ok().and_then(|index| self.blobs.get_mut(index));
        blob.map(std::mem::take).ok_or_else(|| ParquetError::General(format!("page blob {}: not in the store", key.get())))
    }

    fn memory_size(&self) -> usize {
        self.blobs.iter().map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, ListArray, RecordBatch, StringArray, UInt32Array};
    use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
    use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy};

    use super::{ChecksummedWriter, properties};
    use crate::columns::ColumnFile;

    fn batch(rows: u32) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..rows));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("row {}", row * 7919))));
        let list = |row: u32| (!row.is_multiple_of(4)).then(|| (0..row % 5).map(Some));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<UInt32Type, _, _>((0..rows).map(list)));
        let schema = Schema::new(vec![
            Field::new("number", DataType::UInt32, false),
            Field::new("text", DataType::Utf8, false),
            Field::new("list", lists.data_type().clone(), true),
        ]);
        RecordBatch::try_new(Arc::new(schema), vec![numbers, texts, lists]).unwrap()
    }

    fn write(batches: &[RecordBatch]) -> Bytes {
        // Small pages, so that a chunk has many and every offset counts.
        let properties = properties().set_data_page_row_count_limit(100).set_write_batch_size(50).build();
        let mut writer = ChecksummedWriter::new(Vec::new(), batches[0].schema(), properties).unwrap();
        for batch in batches {
            writer.write_row_group(batch).unwrap();
        }
        writer.finish().unwrap().into()
    }

    #[test]
    fn rows_come_back_by_scan_and_by_page_index() {
        let batches = [batch(1000), batch(1), batch(377)];
        let bytes = write(&batches);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).unwrap();
        for (index, group) in builder.metadata().row_groups().iter().enumerate() {
            let ends: Vec<u64> =
                group.columns().iter().map(ColumnChunkMetaData::byte_range).map(|(start, size)| start + size).collect();
            let starts: Vec<u64> = group.columns().iter().map(|column| column.byte_range().0).collect();
            assert_eq!(starts[1..], ends[..ends.len() - 1], "chunks of row group {index} follow each other");
        }
        let scanned: Vec<RecordBatch> = builder.with_batch_size(5000).build().unwrap().map(Result::unwrap).collect();
        assert_eq!(
            arrow::compute::concat_batches(&batches[0].schema(), &scanned).unwrap(),
            arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
        );
        for (offset, length) in [(999, 3), (250, 120), (1000, 1), (1001, 377), (1376, 1)] {
            let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
            let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).unwrap();
            let rows: Vec<RecordBatch> =
                builder.with_offset(offset).with_limit(length).build().unwrap().map(Result::unwrap).collect();
            let all = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
            assert_eq!(arrow::compute::concat_batches(&batches[0].schema(), &rows).unwrap(), all.slice(offset, length));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_page_is_found() {
        let batches = [batch(300)];
        let bytes = write(&batches);
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
        let end = builder
            .metadata()
            .row_group(0)
            .columns()
            .iter()
            .map(ColumnChunkMetaData::byte_range)
            .map(|(start, size)| start + size)
            .max();
        let read = |bytes: Bytes| {
            let file = ColumnFile::open("test", bytes)?;
            file.check_row_groups(300, 300)?;
            file.read(0, 0..3)
        };
        // Compared by column: the schema read back has no field metadata of Arrow's.
        assert_eq!(read(bytes.clone()).unwrap().columns(), batches[0].columns());
        for at in 4..usize::try_from(end.unwrap()).unwrap() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            assert!(read(damaged.into()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn determinism_equal_batches_give_equal_bytes() {
        assert_eq!(write(&[batch(500), batch(3)]), write(&[batch(500), batch(3)]));
    }

    #[test]
    fn dictionaries_and_other_schemas_are_refused() {
        let schema = batch(1).schema();
        let with_dictionary = properties().set_dictionary_enabled(true).build();
        assert!(ChecksummedWriter::new(Vec::new(), Arc::clone(&schema), with_dictionary).is_err());
        let mut writer = ChecksummedWriter::new(Vec::new(), schema, properties().build()).unwrap();
        let other = RecordBatch::new_empty(Arc::new(Schema::new(vec![Field::new("x", DataType::UInt32, false)])));
        assert!(writer.write_row_group(&other).is_err());
    }
}
