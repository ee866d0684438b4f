//! Parquet.

use std::io;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMillisecondArray,
};
use arrow::datatypes::{Field, Int32Type};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;

use super::{context, documents, items, outline, read, rejects};
use crate::input::{Input, RangeRead};
use crate::reader::{Fields, Format, Item, Limits, open};

fn write(columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

pub(super) fn many(rows: usize) -> Vec<u8> {
    let text: Vec<String> = (0..rows).map(|i| format!("text {i} {}", "x".repeat(i % 50))).collect();
    let ids: Vec<i64> = (0..rows as i64).collect();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(300)).build();
    write(vec![("id", Arc::new(Int64Array::from(ids))), ("text", Arc::new(StringArray::from(text)))], properties)
}

#[test]
fn rows_become_documents() {
    let date: ArrayRef = Arc::new(Date32Array::from(vec![Some(19_782), None, None]));
    let time: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1_700_000_000_123, 0, 0]));
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)]), None, None]);
    let bytes = write(
        vec![
            ("id", Arc::new(Int64Array::from(vec![Some(7), None, Some(9)]))),
            ("text", texts(&[Some("Téxt"), Some("b"), None])),
            ("title", texts(&[Some("Ti"), None, None])),
            ("score", Arc::new(Float64Array::from(vec![0.5, 1.0, 2.0]))),
            ("flag", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("date", date),
            ("time", time),
            ("list", Arc::new(list)),
        ],
        WriterProperties::new(),
    );
    let found = read(Format::Parquet, &bytes);
    let hash = crate::text_id("b");
    assert_eq!(
        outline(&found),
        ["0 7".to_owned(), format!("1 {hash}"), format!("2+{} missing-field: field text", 1 + 1 + 4 + 19)]
    );
    let first = documents(&found)[0];
    assert_eq!((first.text.as_str(), first.title.as_deref()), ("Téxt", Some("Ti")));
    let meta: Vec<(&str, &str)> = first.meta.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(meta, [("date", "2024-02-29"), ("flag", "true"), ("score", "0.5"), ("time", "2023-11-14T22:13:20.123")]);
}

#[test]
fn members_of_structs_dictionaries_and_binaries_are_columns() {
    let inner: ArrayRef = texts(&[Some("k1"), Some("k2")]);
    let meta = StructArray::from(vec![(Arc::new(Field::new("key", inner.data_type().clone(), true)), inner)]);
    let dictionary: DictionaryArray<Int32Type> = vec!["same", "same"].into_iter().collect();
    let binary = BinaryArray::from(vec![b"good".as_slice(), b"\xff".as_slice()]);
    let bytes = write(
        vec![("meta", Arc::new(meta)), ("body", Arc::new(binary)), ("kind", Arc::new(dictionary))],
        WriterProperties::new(),
    );
    let mut context = context("o");
    context.fields = Fields { id: Some("meta.key".into()), text: Some("body".into()), ..Fields::default() };
    let found = items(Format::Parquet, context, bytes, &Limits::default());
    assert_eq!(outline(&found)[0], "0 k1");
    assert_eq!(rejects(&found)[0].reason.code(), "invalid-utf8");
    assert_eq!(documents(&found)[0].meta["kind"], "same");
}

#[test]
fn several_batches_and_row_groups_are_read_in_order() {
    for rows in [0, 1, 128, 129, 1_000] {
        let found = read(Format::Parquet, &many(rows));
        let expected: Vec<String> = (0..rows).map(|i| format!("{i} {i}")).collect();
        assert_eq!(outline(&found), expected);
    }
}

#[test]
fn a_stream_is_read_as_well() {
    let stream = Input::Stream(Box::new(io::Cursor::new(many(10))));
    let mut reader = open(Format::Parquet, context("o"), stream, &Limits::default()).unwrap();
    assert_eq!(std::iter::from_fn(|| reader.next()).count(), 10);
}

#[test]
fn case_34_wrong_schemas_are_one_reject() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let list: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)]), Some(vec![Some(2)])]));
    let plain = WriterProperties::new;
    let check = |bytes: &[u8], expected: &str| {
        assert_eq!(outline(&read(Format::Parquet, bytes)), [expected]);
    };
    check(&write(vec![("text", numbers.clone())], plain()), "0+0 wrong-type: field text");
    check(&write(vec![("text", list)], plain()), "0+0 wrong-type: field text");
    check(&write(vec![("body", texts(&[Some("a"), None]))], plain()), "0+0 missing-field: field text");
    let mut named = context("o");
    named.fields.id = Some("key".into());
    let bytes = write(vec![("text", texts(&[Some("a"), Some("b")]))], plain());
    assert_eq!(outline(&items(Format::Parquet, named, bytes, &Limits::default())), ["0+0 missing-field: field key"]);
}

#[test]
fn case_34_damaged_files_are_rejects_and_never_panics() {
    let good = many(700);
    assert_eq!(outline(&read(Format::Parquet, b"")), ["0+0 empty-object"]);
    for bad in [b"PAR1".to_vec(), b"PAR1\xff\xff\xff\x7fPAR1".to_vec(), vec![0xff; 64], good[..good.len() - 1].to_vec()] {
        let found = read(Format::Parquet, &bad);
        assert_eq!(found.len(), 1);
        assert_eq!(rejects(&found)[0].reason.code(), "malformed-parquet");
    }
    // A list that claims 2^31 entries in the footer's Thrift.
    let mut claims = b"PAR1\x15\x02\x19\xfc\xff\xff\xff\xff\x07".to_vec();
    claims.extend_from_slice(&9_u32.to_le_bytes());
    claims.extend_from_slice(b"PAR1");
    assert_eq!(rejects(&read(Format::Parquet, &claims)).len(), 1);
    for cut in (0..good.len()).step_by(97) {
        assert!(!rejects(&read(Format::Parquet, &good[..cut])).is_empty());
    }
    for place in (0..good.len()).step_by(41) {
        let mut flipped = good.clone();
        flipped[place] ^= 0x55;
        let found = read(Format::Parquet, &flipped);
        assert!(found.len() <= 701, "{place}");
    }
}

#[test]
fn case_34_repeated_values_stop_at_the_expansion_limit() {
    let long = "x".repeat(100_000);
    let dictionary: DictionaryArray<Int32Type> = std::iter::repeat_n(long.as_str(), 5_000).collect();
    let bytes = write(
        vec![("text", Arc::new(dictionary))],
        WriterProperties::builder().set_compression(Compression::UNCOMPRESSED).build(),
    );
    assert!(bytes.len() < 300_000);
    let limits = Limits { expansion_free_bytes: 1 << 20, expansion_ratio: 10, ..Limits::default() };
    let found = items(Format::Parquet, context("o"), bytes.clone(), &limits);
    assert_eq!(rejects(&found)[0].reason.to_string(), "over-limit: expansion_ratio = 10");
    assert!(found.len() < 50);
    let small = Limits { record_bytes: 99_999, ..Limits::default() };
    let mut reader = open(Format::Parquet, context("o"), Input::from_bytes(bytes), &small).unwrap();
    let Some(Ok(Item::Reject(reject))) = reader.next() else { panic!("over the limit") };
    assert_eq!(reject.bytes, 100_000);
}

#[test]
fn values_built_from_the_value_before_are_read_one_at_a_time() {
    let text: Vec<String> = (0..300).map(|i| format!("{}{i}", "prefix ".repeat(20))).collect();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_column_encoding("text".into(), Encoding::DELTA_BYTE_ARRAY)
        .build();
    let bytes = write(vec![("text", Arc::new(StringArray::from(text.clone())))], properties);
    let found = read(Format::Parquet, &bytes);
    assert_eq!(documents(&found).iter().map(|d| d.text.clone()).collect::<Vec<_>>(), text);
}

struct Failing(Vec<u8>, u64);

impl RangeRead for Failing {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        if offset < self.1 { Err(io::ErrorKind::TimedOut.into()) } else { self.0.read_at(offset, length) }
    }
}

#[test]
fn failures_of_the_store_are_errors_and_not_rejects() {
    let bytes = many(700);
    let all = Failing(bytes.clone(), u64::MAX);
    assert!(open(Format::Parquet, context("o"), Input::Random(Box::new(all)), &Limits::default()).is_err());
    let end = bytes.len() as u64 - 3_000;
    let pages = Failing(bytes, end);
    let mut reader = open(Format::Parquet, context("o"), Input::Random(Box::new(pages)), &Limits::default()).unwrap();
    assert!(matches!(reader.next(), Some(Err(_))));
    assert!(reader.next().is_none());
}
