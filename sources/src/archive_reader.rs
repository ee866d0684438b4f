//! Reads documents at rest, all of them or chosen rows, a small batch at a time.
//!
//! It reads the layouts of `archive`, version 2 and version 1, and no other: a column missing, added or of another type is refused
//! at the start.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt16Array, UInt32Array, UInt64Array};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::ChunkReader;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;

use crate::archive::{ArchiveError, SCHEMA};
use crate::batch_rows::{BATCH_ROWS, BatchColumns, BatchRows};
use crate::document::{Document, Domain, Origin, Sensitivity};

type Start = Box<dyn FnOnce(Option<RowSelection>) -> Result<ParquetRecordBatchReader, ParquetError> + Send>;

/// Documents of one file in order. After an error it yields nothing more.
pub struct DocumentReader {
    rows: u64,
    layout: u32,
    chosen: Option<Vec<Range<usize>>>,
    start: Option<Start>,
    batches: Option<BatchRows<Columns>>,
    /// Rows in the file of the documents still to come.
    places: Box<dyn Iterator<Item = u64> + Send>,
}

impl DocumentReader {
    /// Reads the footer and checks the layout.
    ///
    /// # Errors
    /// [`ArchiveError::Parquet`] when it is no Parquet file or cannot be read, [`ArchiveError::Layout`] when it is another one.
    pub fn open<R: ChunkReader + 'static>(reader: R) -> Result<Self, ArchiveError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&reader, options)?;
        let layout = check_layout(metadata.parquet_schema())?;
        let rows = metadata.metadata().file_metadata().num_rows();
        let rows = u64::try_from(rows).map_err(|_| ParquetError::General("a negative number of rows".to_string()))?;
        let start: Start = Box::new(move |selection| {
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, metadata).with_batch_size(BATCH_ROWS);
            if let Some(selection) = selection {
                builder = builder.with_row_selection(selection);
            }
            builder.build()
        });
        let places = Box::new(0..rows);
        Ok(Self { rows, layout, chosen: None, start: Some(start), batches: None, places })
    }

    /// Rows in the file, chosen or not.
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// Version of the file's layout: 2, or 1, which has no keys.
    pub fn layout(&self) -> u32 {
        self.layout
    }

    /// Only these rows, cut at the end of the file. To be called before the first document.
    #[must_use]
    pub fn rows(self, range: Range<u64>) -> Self {
        let end = range.end.min(self.rows);
        self.choose(std::iter::once(range.start.min(end)..end).collect())
    }

    /// Only these rows, which must be in rising order; repetitions and rows past the end are skipped. To be called before the
    /// first document.
    #[must_use]
    pub fn select(self, rows: &[u64]) -> Self {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for &row in rows {
            match ranges.last_mut() {
                Some(last) if row == last.end => last.end += 1,
                Some(last) if row < last.end => {}
                _ => ranges.push(row..row + 1),
            }
        }
        ranges.retain(|range| range.start < self.rows);
        if let Some(last) = ranges.last_mut() {
            last.end = last.end.min(self.rows);
        }
        self.choose(ranges)
    }

    fn choose(mut self, ranges: Vec<Range<u64>>) -> Self {
        self.places = Box::new(ranges.clone().into_iter().flatten());
        self.chosen = Some(ranges.into_iter().map(|range| range.start as usize..range.end as usize).collect());
        self
    }
}

impl Iterator for DocumentReader {
    type Item = Result<Document, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(start) = self.start.take() {
            let rows = self.rows as usize;
            let selection = self.chosen.take().map(|ranges| RowSelection::from_consecutive_ranges(ranges.into_iter(), rows));
            match start(selection) {
                Ok(batches) => self.batches = Some(BatchRows::new(batches)),
                Err(error) => return Some(Err(error.into())),
            }
        }
        let (places, rows) = (&mut self.places, self.rows);
        self.batches.as_mut()?.next(|columns, index| columns.document(index, places.next().unwrap_or(rows)))
    }
}

impl std::fmt::Debug for DocumentReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DocumentReader").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Texts of chosen rows of one file in rising order; the other columns are not read. After an error it yields nothing more.
pub struct TextReader(BatchRows<Texts>);

impl TextReader {
    /// Reads the footer and checks the layout. `rows` must rise; a row past the end of the file has no text.
    ///
    /// # Errors
    /// As [`DocumentReader::open`].
    pub fn open<R: ChunkReader + 'static>(reader: R, rows: &[u64]) -> Result<Self, ArchiveError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&reader, options)?;
        check_layout(metadata.parquet_schema())?;
        let count = usize::try_from(metadata.metadata().file_metadata().num_rows())
            .map_err(|_| ParquetError::General("a negative number of rows".to_string()))?;
        let ranges = rows.iter().map(|&row| row as usize).take_while(|&row| row < count).map(|row| row..row + 1);
        let selection = RowSelection::from_consecutive_ranges(ranges, count);
        let columns = metadata.parquet_schema().columns();
        let text = ProjectionMask::leaves(
            metadata.parquet_schema(),
            (0..columns.len()).filter(|&column| columns[column].name() == "text"),
        );
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, metadata).with_batch_size(BATCH_ROWS);
        let batches = builder.with_row_selection(selection).with_projection(text).build()?;
        Ok(Self(BatchRows::new(batches)))
    }
}

impl Iterator for TextReader {
    type Item = Result<String, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(|Texts(texts), index| Ok(texts.value(index).to_string()))
    }
}

impl std::fmt::Debug for TextReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TextReader").finish_non_exhaustive()
    }
}

/// The texts of one batch.
struct Texts(StringArray);

impl BatchColumns for Texts {
    fn of(batch: &RecordBatch) -> Result<Self, ArchiveError> {
        Ok(Self(column(batch, "text")?))
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The version of the layout: that of version 1 is all columns but the last.
pub(crate) fn check_layout(found: &SchemaDescriptor) -> Result<u32, ArchiveError> {
    let expected = SchemaDescriptor::new(std::sync::Arc::new(parse_message_type(SCHEMA)?));
    let is_first = found.num_columns() + 1 == expected.num_columns();
    let columns = expected.num_columns().max(found.num_columns()) - usize::from(is_first);
    for index in 0..columns {
        let expected = expected.columns().get(index);
        let found = found.columns().get(index);
        let same = expected.zip(found).is_some_and(|(expected, found)| {
            expected.path() == found.path()
                && expected.self_type() == found.self_type()
                && expected.max_def_level() == found.max_def_level()
        });
        if !same {
            let column = expected.or(found).map(|column| column.name().to_string()).unwrap_or_default();
            return Err(ArchiveError::Layout { column });
        }
    }
    Ok(if is_first { 1 } else { 2 })
}

/// One batch, its columns by type.
struct Columns {
    id: StringArray,
    version: UInt32Array,
    source: StringArray,
    domain: StringArray,
    native_id: StringArray,
    licence: StringArray,
    sensitivity: StringArray,
    title: StringArray,
    text: StringArray,
    year: UInt16Array,
    origin_object: StringArray,
    origin_offset: UInt64Array,
    meta: StringArray,
}

impl BatchColumns for Columns {
    fn of(batch: &RecordBatch) -> Result<Self, ArchiveError> {
        Ok(Self {
            id: column(batch, "id")?,
            version: column(batch, "version")?,
            source: column(batch, "source")?,
            domain: column(batch, "domain")?,
            native_id: column(batch, "native_id")?,
            licence: column(batch, "licence")?,
            sensitivity: column(batch, "sensitivity")?,
            title: column(batch, "title")?,
            text: column(batch, "text")?,
            year: column(batch, "year")?,
            origin_object: column(batch, "origin_object")?,
            origin_offset: column(batch, "origin_offset")?,
            meta: column(batch, "meta")?,
        })
    }

    fn len(&self) -> usize {
        self.id.len()
    }
}

impl Columns {
    /// The document at an index of the batch; `row` is its place in the file.
    fn document(&self, index: usize, row: u64) -> Result<Document, ArchiveError> {
        let unknown = |column| ArchiveError::Value { row, column };
        let domain = Domain::from_name(self.domain.value(index)).ok_or_else(|| unknown("domain"))?;
        let sensitivity = Sensitivity::from_name(self.sensitivity.value(index)).ok_or_else(|| unknown("sensitivity"))?;
        let meta: BTreeMap<String, String> = serde_json::from_str(self.meta.value(index)).map_err(|_| unknown("meta"))?;
        Ok(Document {
            id: self.id.value(index).to_string(),
            version: self.version.value(index),
            source: self.source.value(index).to_string(),
            domain,
            native_id: self.native_id.value(index).to_string(),
            licence: optional(&self.licence, index),
            sensitivity,
            title: optional(&self.title, index),
            text: self.text.value(index).to_string(),
            year: self.year.is_valid(index).then(|| self.year.value(index)),
            origin: Origin { object: self.origin_object.value(index).to_string(), byte_offset: self.origin_offset.value(index) },
            meta,
        })
    }
}

fn optional(column: &StringArray, index: usize) -> Option<String> {
    column.is_valid(index).then(|| column.value(index).to_string())
}

pub(crate) fn column<A: Array + Clone + 'static>(batch: &RecordBatch, name: &'static str) -> Result<A, ArchiveError> {
    let column: Option<&ArrayRef> = batch.column_by_name(name);
    let typed = column.and_then(|column| column.as_any().downcast_ref::<A>());
    typed.cloned().ok_or_else(|| ArchiveError::Layout { column: name.to_string() })
}

#[cfg(test)]
mod tests {
    use arrow::array::FixedSizeBinaryArray;
    use bytes::Bytes;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;
    use crate::archive::{DocumentWriter, KeyedText, KeyedTextReader};

    fn document(number: u64) -> Document {
        let odd = number % 2 == 1;
        Document {
            id: format!("s:{number}"),
            version: if odd { u32::MAX } else { 1 },
            source: "s".to_string(),
            domain: Domain::ALL[number as usize % 3],
            native_id: number.to_string(),
            licence: odd.then(|| "CC0-1.0".to_string()),
            sensitivity: Sensitivity::ALL[number as usize % 3],
            title: (!odd).then(|| format!("Title {number}")),
            text: format!("Text é {number}\n\n").repeat(number as usize % 7),
            year: odd.then_some(u16::MAX),
            origin: Origin { object: "o".to_string(), byte_offset: u64::MAX - number },
            meta: BTreeMap::from([("k\"".to_string(), number.to_string()), ("a".to_string(), String::new())]),
        }
    }

    fn written(documents: &[Document]) -> Vec<u8> {
        let mut writer = DocumentWriter::new(Vec::new()).unwrap();
        for document in documents {
            writer.push(document, document.key()).unwrap();
        }
        let (bytes, rows) = writer.finish().unwrap();
        assert_eq!(rows, documents.len() as u64);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<Document>, ArchiveError> {
        DocumentReader::open(Bytes::copy_from_slice(bytes))?.collect()
    }

    #[test]
    fn documents_come_back_as_they_were() {
        for count in [0, 1, 2, 63, 64, 65, 1_000] {
            let documents: Vec<_> = (0..count).map(document).collect();
            let bytes = written(&documents);
            assert!(read(&bytes).unwrap() == documents, "{count} documents");
            assert_eq!(DocumentReader::open(Bytes::from(bytes)).unwrap().row_count(), count);
        }
    }

    #[test]
    fn keyed_texts_are_those_of_the_documents() {
        let documents: Vec<Document> = (0..200).map(document).collect();
        let texts: Vec<KeyedText> =
            KeyedTextReader::open(Bytes::from(written(&documents))).unwrap().map(Result::unwrap).collect();
        let of = |document: &Document| KeyedText { key: document.key(), id: document.id.clone(), text: document.text.clone() };
        assert_eq!(texts, documents.iter().map(of).collect::<Vec<_>>());
        assert!(KeyedTextReader::open(Bytes::from_static(b"none")).is_err());
    }

    #[test]
    fn the_key_column_holds_the_bytes_of_the_keys() {
        let documents: Vec<_> = (0..300).map(document).collect();
        let bytes = Bytes::from(written(&documents));
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["key"]);
        let batches = builder.with_projection(mask).build().unwrap().map(Result::unwrap);
        let found: Vec<[u8; 16]> = batches
            .flat_map(|batch| {
                let keys: FixedSizeBinaryArray = column(&batch, "key").unwrap();
                (0..keys.len()).map(|row| keys.value(row).try_into().unwrap()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(found, documents.iter().map(|document| document.key().to_le_bytes()).collect::<Vec<_>>());
        assert_eq!(DocumentReader::open(bytes).unwrap().layout(), 2);
    }

    /// A file without rows and the columns whose lines of the schema `keep` accepts.
    fn with_columns(keep: impl Fn(&str) -> bool) -> Vec<u8> {
        let lines: Vec<&str> = SCHEMA.lines().filter(|line| keep(line)).collect();
        let schema = std::sync::Arc::new(parse_message_type(&lines.join("\n")).unwrap());
        let writer = parquet::file::writer::SerializedFileWriter::new(Vec::new(), schema, std::sync::Arc::default());
        writer.unwrap().into_inner().unwrap()
    }

    #[test]
    fn the_layout_without_keys_is_version_1_and_no_other_column_may_lack() {
        let open = |bytes: Vec<u8>| DocumentReader::open(Bytes::from(bytes)).map(|reader| reader.layout());
        assert_eq!(open(with_columns(|_| true)).unwrap(), 2);
        assert_eq!(open(with_columns(|line| !line.contains(" key;"))).unwrap(), 1);
        for name in ["id", "text", "meta"] {
            let lacking = open(with_columns(|line| !line.contains(&format!(" {name} ("))));
            assert!(matches!(lacking, Err(ArchiveError::Layout { .. })), "{name}: {lacking:?}");
        }
    }

    #[test]
    fn determinism_of_the_bytes() {
        let documents: Vec<_> = (0..500).map(document).collect();
        assert!(written(&documents) == written(&documents));
    }

    #[test]
    fn row_groups_are_bounded() {
        let mut big = document(2);
        big.text = "x".repeat(40 << 20);
        let bytes = written(&[big.clone(), document(1), big.clone(), big.clone()]);
        let groups = SerializedFileReader::new(Bytes::from(bytes.clone())).unwrap();
        let rows: Vec<_> =
            groups.metadata().row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).collect();
        assert_eq!(rows, [2, 1, 1]);
        assert_eq!(read(&bytes).unwrap().len(), 4);
        big.meta.insert("mesh".to_string(), std::mem::take(&mut big.text));
        let groups = SerializedFileReader::new(Bytes::from(written(&[big.clone(), big]))).unwrap();
        assert_eq!(groups.metadata().num_row_groups(), 2, "meta data counts too");
        let many: Vec<_> = (0..=crate::archive::ROW_GROUP_ROWS as u64).map(|_| document(0)).collect();
        let groups = SerializedFileReader::new(Bytes::from(written(&many))).unwrap();
        assert_eq!(groups.metadata().num_row_groups(), 2);
    }

    #[test]
    fn chosen_rows() {
        let documents: Vec<_> = (0..200).map(document).collect();
        let bytes = Bytes::from(written(&documents));
        let numbers = |reader: DocumentReader| -> Vec<u64> {
            reader.map(|document| document.unwrap().native_id.parse().unwrap()).collect()
        };
        let open = || DocumentReader::open(bytes.clone()).unwrap();
        assert_eq!(numbers(open().rows(60..70)), (60..70).collect::<Vec<_>>());
        assert_eq!(numbers(open().rows(190..900)), (190..200).collect::<Vec<_>>());
        assert_eq!(numbers(open().rows(300..900)), [0; 0]);
        assert_eq!(numbers(open().select(&[0, 1, 1, 63, 64, 199, 200, 500])), [0, 1, 63, 64, 199]);
        assert_eq!(numbers(open().select(&[])), [0; 0]);
    }

    #[test]
    fn texts_of_chosen_rows() {
        let documents: Vec<_> = (0..200).map(document).collect();
        let bytes = Bytes::from(written(&documents));
        let check = |rows: &[u64], expected: &[usize]| {
            let texts: Vec<String> = TextReader::open(bytes.clone(), rows).unwrap().map(Result::unwrap).collect();
            let expected: Vec<&str> = expected.iter().map(|&row| documents[row].text.as_str()).collect();
            assert_eq!(texts, expected, "{rows:?}");
        };
        check(&[], &[]);
        check(&[0, 1, 63, 64, 65, 199, 200, 900], &[0, 1, 63, 64, 65, 199]);
        check(&(0..200).collect::<Vec<u64>>(), &(0..200).collect::<Vec<usize>>());
    }

    #[test]
    fn every_page_has_a_checksum() {
        // Any flipped byte before the footer is found, or changes nothing that is read.
        let documents: Vec<_> = (0..40).map(document).collect();
        let bytes = written(&documents);
        let metadata = SerializedFileReader::new(Bytes::from(bytes.clone())).unwrap();
        let column = metadata.metadata().row_group(0).column(8);
        let (start, length) = column.byte_range();
        let mut found = 0;
        for position in start..start + length {
            let mut damaged = bytes.clone();
            damaged[position as usize] ^= 0x10;
            match read(&damaged) {
                Err(_) => found += 1,
                Ok(read) => assert!(read == documents, "byte {position}"),
            }
        }
        // Only bytes of the page header that no reader needs may go unnoticed.
        assert!(found as u64 >= length - 12, "{found} of {length}");
    }

    #[test]
    fn case_34_damaged_and_foreign_files_are_errors() {
        let bytes = written(&[document(1), document(2)]);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length} bytes");
        }
        let schema = std::sync::Arc::new(parse_message_type("message m { required binary id (STRING); }").unwrap());
        let properties = std::sync::Arc::default();
        let writer = parquet::file::writer::SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
        let foreign = writer.into_inner().unwrap();
        assert!(matches!(read(&foreign), Err(ArchiveError::Layout { column }) if column == "version"));
    }
}
