//! What a shard file looks like from outside: column types, codecs, checksums, row groups, deterministic bytes.

use bytes::{Buf, Bytes};
use parquet::basic::{Compression, Encoding, LogicalType, Type};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::ShardWriter;
use crate::ShardFile;
use crate::error::ShardError;
use crate::format::{HEADER_KEY, Kind, ShardHeader, TOTALS_KEY};
use crate::page_checksums::CREATED_BY;
use crate::testing::{header, sequences, write_shard};

#[test]
fn golden_columns_have_their_types_and_codecs() {
    for (vocabulary, bits) in [(32_000, 16), (128_256, 32)] {
        let header = header(16, vocabulary);
        let bytes = write_shard(&header, &sequences(600, &header, 1));
        let reader = SerializedFileReader::new(bytes).unwrap();
        let metadata = reader.metadata();
        assert_eq!(metadata.file_metadata().created_by(), Some(CREATED_BY));
        let rows: Vec<i64> = metadata.row_groups().iter().map(RowGroupMetaData::num_rows).collect();
        assert_eq!(rows, [256, 256, 88]);
        let unsigned = |bits| Some(LogicalType::integer(bits, false));
        let expected = [
            ("tokens.list.element", Type::INT32, unsigned(bits)),
            ("segment_ends.list.element", Type::INT32, unsigned(32)),
            ("segment_documents.list.element", Type::BYTE_ARRAY, None),
            ("segment_sources.list.element", Type::INT32, unsigned(16)),
            ("segment_offsets.list.element", Type::INT32, unsigned(32)),
            ("segment_epochs.list.element", Type::INT32, unsigned(32)),
            ("loss_mask.list.element", Type::BOOLEAN, None),
        ];
        for (column, (path, physical, logical)) in metadata.row_group(0).columns().iter().zip(expected) {
            let descriptor = column.column_descr();
            assert_eq!(descriptor.path().string(), path);
            assert_eq!((descriptor.physical_type(), descriptor.logical_type_ref().cloned()), (physical, logical), "{path}");
            assert!(matches!(column.compression(), Compression::ZSTD(_)), "{path}");
            assert_eq!(column.dictionary_page_offset(), None, "{path}");
            assert!(column.encodings().all(|encoding| encoding != Encoding::RLE_DICTIONARY), "{path}");
        }
        let keys: Vec<&str> =
            metadata.file_metadata().key_value_metadata().unwrap().iter().map(|pair| pair.key.as_str()).collect();
        assert_eq!(keys, ["ARROW:schema", HEADER_KEY, TOTALS_KEY]);
    }
}

/// Fields of a Thrift compact struct of integers and nested structs, as (id, integer): enough for a page header.
fn page_header(bytes: &mut Bytes) -> Vec<(i16, i64)> {
    let mut fields = Vec::new();
    let mut id = 0;
    loop {
        let head = bytes.get_u8();
        if head == 0 {
            return fields;
        }
        assert_ne!(head >> 4, 0, "a long field header does not occur");
        id += i16::from(head >> 4);
        match head & 0x0f {
            1 | 2 => fields.push((id, i64::from(head & 0x0f == 1))),
            5 | 6 => fields.push((id, varint(bytes))),
            12 => {
                page_header(bytes);
                fields.push((id, 0));
            }
            other => panic!("type {other} does not occur in a page header without statistics"),
        }
    }
}

fn varint(bytes: &mut Bytes) -> i64 {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
        shift += 7;
    }
}

#[test]
fn golden_every_page_has_its_crc() {
    let header = ShardHeader { kind: Kind::Instruct, ..header(2048, 32_000) };
    let bytes = write_shard(&header, &sequences(300, &header, 2));
    let reader = SerializedFileReader::new(bytes.clone()).unwrap();
    let mut pages = 0;
    for group in reader.metadata().row_groups() {
        for column in group.columns() {
            let (start, length) = column.byte_range();
            let mut chunk = bytes.slice(start as usize..(start + length) as usize);
            while chunk.has_remaining() {
                let fields = page_header(&mut chunk);
                let field = |id| fields.iter().find(|field| field.0 == id).map(|field| field.1);
                let data = chunk.split_to(usize::try_from(field(3).unwrap()).unwrap());
                assert_eq!(field(4), Some(i64::from(crc32fast::hash(&data) as i32)), "{}", column.column_path());
                pages += 1;
            }
        }
    }
    assert!(pages > 2 * 7, "{pages} pages: tokens have several a chunk");
}

#[test]
fn determinism_equal_sequences_give_equal_bytes() {
    let header = header(64, 32_000);
    let made = sequences(300, &header, 5);
    let bytes = write_shard(&header, &made);
    assert_eq!(write_shard(&header, &made), bytes);
    let mut other = made.clone();
    other.swap(3, 4);
    assert_ne!(write_shard(&header, &other), bytes);
}

#[test]
fn golden_shard_bytes_are_frozen() {
    // A digest changes when the format does: then FORMAT_VERSION has to change too, and old files stay readable.
    let digests = [
        "e63c2ef06883a313238bf815e2900a65548e33367a00fd0c032e973ab51a1be2",
        "a7a43ffecb0c5d870d26ca6c27330aacec5fe526b8afd50072d9be4190dcde5b",
    ];
    for (format_version, digest) in (1..).zip(digests) {
        let header = ShardHeader { format_version, ..header(8, 100) };
        let made = sequences(3, &header, 1);
        let bytes = write_shard(&header, &made);
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), digest, "version {format_version}");
        let file = ShardFile::open("shard", bytes).unwrap();
        assert_eq!(file.read_rows(0..3).unwrap(), made, "version {format_version}");
    }
}

#[test]
fn a_broken_sequence_is_refused_and_leaves_the_shard_as_it_was() {
    let header = header(8, 100);
    let made = sequences(5, &header, 1);
    let mut writer = ShardWriter::new(Vec::new(), &header).unwrap();
    for sequence in &made {
        let mut broken = sequence.clone();
        broken.tokens[0] = 100;
        let error = writer.push(&broken).unwrap_err();
        assert!(matches!(error, ShardError::Sequence { .. }), "{error}");
        writer.push(sequence).unwrap();
    }
    assert_eq!(Bytes::from(writer.finish().unwrap().0), write_shard(&header, &made));
}

#[test]
fn a_failing_writer_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            if self.0 < buffer.len() {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0 -= buffer.len();
            Ok(buffer.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let header = header(8, 100);
    let made = sequences(300, &header, 1);
    let whole = write_shard(&header, &made).len();
    for room in [0, 3, 4, 100, whole / 2, whole - 1] {
        let written = ShardWriter::new(Full(room), &header).and_then(|mut writer| {
            made.iter().try_for_each(|sequence| writer.push(sequence))?;
            writer.finish().map(|_| ())
        });
        assert!(written.is_err(), "{room} of {whole} bytes");
    }
}

#[test]
fn a_shard_without_sequences_opens() {
    let header = header(8, 100);
    let shard = crate::testing::open(&write_shard(&header, &[]));
    assert_eq!((shard.rows(), shard.row_groups()), (0, 0));
    assert_eq!(crate::verify::verify_shard(&shard).unwrap().tokens, 0);
}
