//! Header rules, schema, the digest of content, and the format page against the constants.

use arrow::datatypes::DataType;

use super::{
    COLUMNS, FORMAT_VERSION, HEADER_KEY, Kind, MAX_SEQUENCE_LENGTH, OLDEST_VERSION, ROW_GROUP_POSITIONS, ROW_GROUP_SEQUENCES,
    ShardHeader, TOTALS_KEY, TotalsBuilder, Width, shard_schema,
};
use crate::page_checksums::{CREATED_BY, ZSTD_LEVEL};
use crate::runs::{INDEX_COLUMNS, INDEX_ROW_GROUP, RUN_HEADER_KEY, RUN_TOTALS_KEY, index_schema};
use crate::sequence::{PADDING_TOKEN, Segment, Sequence};
use crate::testing::header;

#[test]
fn the_width_is_the_narrowest() {
    let check = |size, expected| assert_eq!(Width::for_vocabulary(size), expected, "{size}");
    check(1, Width::U16);
    check(32_000, Width::U16);
    check(65_536, Width::U16);
    check(65_537, Width::U32);
    check(128_256, Width::U32);
    assert_eq!((Width::U16.bytes(), Width::U32.bytes()), (2, 4));
}

#[test]
fn impossible_headers_are_refused() {
    let check = |change: &dyn Fn(&mut ShardHeader), expected: &str| {
        let mut changed = header(16, 100);
        change(&mut changed);
        assert_eq!(changed.check().unwrap_err().to_string(), expected);
    };
    assert!(header(16, 100).check().is_ok());
    check(
        &|header| header.format_version = 3,
        "shard header: format version 3, this program reads 1 to 2; use the program that wrote it, or write it again",
    );
    check(
        &|header| header.format_version = 0,
        "shard header: format version 0, this program reads 1 to 2; use the program that wrote it, or write it again",
    );
    check(&|header| header.sequence_length = 0, "shard header: sequence length 0, expected 1 to 1048576");
    check(
        &|header| header.sequence_length = MAX_SEQUENCE_LENGTH + 1,
        "shard header: sequence length 1048577, expected 1 to 1048576",
    );
    check(&|header| header.vocabulary_size = 0, "shard header: vocabulary size 0, expected at least 1");
    check(&|header| header.width = Width::U32, "shard header: width U32 for 100 ids, expected the narrowest");
    let digest = "shard header: tokenizer digest: expected 64 lower-case hexadecimal digits";
    check(&|header| header.tokenizer_digest = "ab".into(), digest);
    check(&|header| header.tokenizer_digest = "AB".repeat(32), digest);
    check(&|header| header.sources.clear(), "shard header: 0 sources, expected 1 to 65536");
    check(&|header| header.sensitivity = "secret".into(), "shard header: sensitivity: expected open, dua or phi");
}

#[test]
fn golden_header_json() {
    let text = serde_json::to_string(&header(4096, 32_000)).unwrap();
    let expected = format!(
        "{{\"format_version\":2,\"kind\":\"cpt\",\"sequence_length\":4096,\"vocabulary_size\":32000,\"width\":\"u16\",\
         \"tokenizer_digest\":\"{}\",\"sources\":[\"pubmed\",\"notes\",\"web\"],\"sensitivity\":\"open\"}}",
        "ab".repeat(32)
    );
    assert_eq!(text, expected);
    assert_eq!(serde_json::to_string(&Kind::Instruct).unwrap(), "\"instruct\"");
}

#[test]
fn golden_content_digest() {
    let segments = vec![
        Segment { end: 2, document: 0x0102, source: 1, offset: 7, epoch: 3 },
        Segment { end: 3, document: u128::MAX, source: 0, offset: 0, epoch: 0 },
    ];
    let sequence = Sequence { tokens: vec![5, 99, 1, 0], segments, loss_mask: Some(vec![true, false, true, false]) };
    let mut bytes: Vec<u8> = Vec::new();
    for word in [5_u32, 99, 1, 0, 2] {
        bytes.extend(word.to_le_bytes());
    }
    let mut document = [0_u8; 16];
    document[..2].copy_from_slice(&[2, 1]);
    bytes.extend([&[2, 0, 0, 0][..], &document, &[1, 0], &[7, 0, 0, 0], &[3, 0, 0, 0]].concat());
    bytes.extend([&[3, 0, 0, 0][..], &[0xff; 16], &[0, 0], &[0; 4], &[0; 4]].concat());
    bytes.extend([1, 1, 0, 1, 0]);
    let mut totals = TotalsBuilder::new(2);
    totals.add(&sequence);
    let found = totals.finish();
    assert_eq!(found.content, blake3::hash(&bytes).to_hex().to_string());
    assert_eq!((found.sequences, found.tokens, found.padding, found.trained, found.segments), (1, 3, 1, 2, 2));
    assert_eq!(found.source_tokens, [1, 2]);
}

/// The rows of a page's table under a heading: first cell of each row, backticks taken off.
fn table_under(heading: &str) -> Vec<Vec<String>> {
    let page = include_str!("../../../docs/formats.md");
    let section = page.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("docs/formats.md has no section {heading:?}"));
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

/// How the page writes a column's type.
fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::List(element) => format!("list of {}", type_name(element.data_type())),
        DataType::FixedSizeList(element, _) => {
            format!("T times {}", type_name(element.data_type()))
        }
        DataType::FixedSizeBinary(bytes) => format!("{bytes} bytes"),
        DataType::Binary => "byte strings".into(),
        DataType::UInt16 => "u16".into(),
        DataType::UInt32 => "u32".into(),
        DataType::UInt64 => "u64".into(),
        DataType::Boolean => "bool".into(),
        DataType::Utf8 => "text".into(),
        other => other.to_string(),
    }
}

#[test]
fn golden_the_format_page_lists_the_columns() {
    let documented = |heading: &str, columns: &[&str]| -> Vec<(String, String)> {
        let rows = table_under(heading).into_iter().filter(|row| columns.contains(&row[0].as_str()));
        rows.map(|row| (row[0].clone(), row[1].clone())).collect()
    };
    let described = |schema: &arrow::datatypes::Schema| -> Vec<(String, String)> {
        let suffix = |nullable| if nullable { " or null" } else { "" };
        let fields = schema.fields().iter();
        fields.map(|field| (field.name().clone(), type_name(field.data_type()) + suffix(field.is_nullable()))).collect()
    };
    // The page writes the type of `tokens` for both widths.
    let mut shard = described(&shard_schema(&header(16, 100)));
    shard[0].1 = "T times u16 or u32".into();
    assert_eq!(documented("Shards", &COLUMNS), shard);
    assert_eq!(documented("Token runs", &INDEX_COLUMNS), described(&index_schema()));
}

#[test]
fn golden_the_format_page_states_the_constants() {
    let check = |heading: &str, name: &str, expected: String| {
        let row = table_under(heading).into_iter().find(|row| row[0] == name);
        let row = row.unwrap_or_else(|| panic!("docs/formats.md: {heading}: no row {name:?}"));
        assert_eq!(row[1], expected, "{heading}: {name}");
    };
    check("Shards", "version", format!("{FORMAT_VERSION}; {OLDEST_VERSION} is read too"));
    check("Shards", "most rows of a row group", ROW_GROUP_SEQUENCES.to_string());
    check("Shards", "most positions of a row group of several rows", ROW_GROUP_POSITIONS.to_string());
    check("Shards", "largest T", MAX_SEQUENCE_LENGTH.to_string());
    check("Shards", "padding id", PADDING_TOKEN.to_string());
    check("Shards", "header key", HEADER_KEY.into());
    check("Shards", "totals key", TOTALS_KEY.into());
    check("Token runs", "version", crate::runs::RUNS_FORMAT_VERSION.to_string());
    check("Token runs", "rows of a row group", INDEX_ROW_GROUP.to_string());
    check("Token runs", "header key", RUN_HEADER_KEY.into());
    check("Token runs", "totals key", RUN_TOTALS_KEY.into());
    check("Parquet", "created_by", CREATED_BY.into());
    check("Parquet", "compression", format!("zstd level {ZSTD_LEVEL}"));
}
