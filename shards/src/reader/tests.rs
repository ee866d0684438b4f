//! Reading back, and damage: every truncation and every flipped byte is an error or changes nothing.

use bytes::Bytes;
use parquet::file::metadata::KeyValue;

use super::ShardFile;
use crate::error::ShardError;
use crate::format::{FORMAT_VERSION, HEADER_KEY, Kind, Sequence, ShardHeader, TOTALS_KEY};
use crate::testing::{header, open, sequences, write_shard};
use crate::verify::verify_shard_with;

#[test]
fn sequences_come_back_by_row_and_by_range() {
    for (length, vocabulary, kind) in [(16, 100, Kind::Cpt), (17, 70_000, Kind::Instruct), (1, 2, Kind::Cpt)] {
        let header = ShardHeader { kind, ..header(length, vocabulary) };
        let made = sequences(600, &header, 9);
        let shard = open(&write_shard(&header, &made));
        assert_eq!((shard.header(), shard.rows(), shard.row_groups()), (&header, 600, 3));
        assert_eq!(shard.read_rows(0..600).unwrap(), made);
        for row in [0, 1, 255, 256, 511, 512, 599] {
            assert_eq!(shard.sequence(row).unwrap(), made[row as usize], "{row}");
        }
        for rows in [0..0, 3..3, 0..1, 255..257, 100..520, 599..600] {
            assert_eq!(shard.read_rows(rows.clone()).unwrap(), made[rows.start as usize..rows.end as usize], "{rows:?}");
        }
    }
}

#[test]
fn rows_past_the_end_are_errors() {
    let header = header(16, 100);
    let shard = open(&write_shard(&header, &sequences(10, &header, 9)));
    let out_of_range = |error: ShardError| {
        assert_eq!(error.to_string(), "shards/test.parquet: sequence 10, it has 10");
    };
    out_of_range(shard.sequence(10).unwrap_err());
    out_of_range(shard.read_rows(5..11).unwrap_err());
    assert!(matches!(shard.sequence(u64::MAX), Err(ShardError::OutOfRange { .. })));
    assert!(matches!(shard.read_row_group(1), Err(ShardError::OutOfRange { .. })));
    assert!(matches!(shard.read_row_group(0).unwrap().sequence(10), Err(ShardError::OutOfRange { .. })));
}

/// Reads everything; the error, or what was read.
fn read_all(bytes: Bytes) -> Result<(ShardHeader, Vec<Sequence>), ShardError> {
    let shard = ShardFile::open("damaged", bytes)?;
    let mut found = Vec::new();
    verify_shard_with(&shard, &mut |_, sequence| found.push(sequence.clone()))?;
    for placement in crate::lineage::lineage(&shard) {
        placement?;
    }
    Ok((shard.header().clone(), found))
}

#[test]
fn case_every_flipped_byte_is_an_error_or_changes_nothing() {
    let header = ShardHeader { kind: Kind::Instruct, ..header(8, 100) };
    let made = sequences(5, &header, 9);
    let bytes = write_shard(&header, &made);
    let (mut flips, mut unnoticed) = (0, 0);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            flips += 1;
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            match read_all(damaged.into()) {
                Err(_) => {}
                Ok(found) => {
                    assert_eq!(
                        found,
                        (header.clone(), made.clone()),
                        "byte {at}, bit {bit}: read other content without an error"
                    );
                    unnoticed += 1;
                }
            }
        }
    }
    // Statistics, the page index and Arrow's schema hint are not used for reading; the object's digest covers them.
    assert!(unnoticed * 2 < flips, "{unnoticed} of {flips} changed nothing");
}

#[test]
fn case_every_truncation_is_an_error() {
    let header = header(8, 100);
    let bytes = write_shard(&header, &sequences(5, &header, 9));
    for length in 0..bytes.len() {
        assert!(read_all(bytes.slice(..length)).is_err(), "{length} of {} bytes", bytes.len());
        assert!(read_all(bytes.slice(length + 1..)).is_err(), "without the first {}", length + 1);
    }
}

#[test]
fn case_random_bytes_and_random_splices_never_panic() {
    let header = header(8, 100);
    let bytes = write_shard(&header, &sequences(300, &header, 9));
    let mut random = crate::testing::Random(1);
    for _ in 0..3000 {
        let mut damaged = bytes.to_vec();
        for _ in 0..=random.below(4) {
            let (from, to) = (random.below(bytes.len() as u64) as usize, random.below(bytes.len() as u64) as usize);
            let length = (random.below(64) as usize).min(bytes.len() - from.max(to));
            damaged.copy_within(from..from + length, to);
        }
        if let Ok((found, rows)) = read_all(damaged.into()) {
            assert_eq!((found, rows.len()), (header.clone(), 300));
        }
    }
}

/// A Parquet file of a shard's columns with other footer metadata.
fn with_metadata(header: &ShardHeader, pairs: Vec<(&str, String)>) -> Bytes {
    use crate::page_checksums::{ChecksummedWriter, properties};
    let pairs = pairs.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
    let properties = properties().set_key_value_metadata(Some(pairs)).build();
    let schema = std::sync::Arc::new(crate::format::shard_schema(header));
    ChecksummedWriter::new(Vec::new(), schema, properties).unwrap().finish().unwrap().into()
}

#[test]
fn files_of_other_versions_and_other_kinds_are_named_as_such() {
    let header = header(8, 100);
    let sealed = |value: serde_json::Value| String::from_utf8(mellama_storage::sealed::encode(&value).unwrap()).unwrap();
    let good_header = sealed(serde_json::to_value(&header).unwrap());
    let message = |pairs: Vec<(&str, String)>| ShardFile::open("x", with_metadata(&header, pairs)).unwrap_err().to_string();
    assert_eq!(message(vec![]), "x: footer: no mellama.header, expected a file of this program; run \"mellama verify\"");
    let newer = sealed(serde_json::json!({"format_version": FORMAT_VERSION + 1, "whatever": []}));
    assert_eq!(
        message(vec![(HEADER_KEY, newer)]),
        "x: format version 3, this program reads 1 to 2; use the program that wrote it, or write it again"
    );
    let tampered = good_header.replace("100", "101");
    assert!(message(vec![(HEADER_KEY, tampered)]).starts_with("x: footer: mellama.header: seal "));
    assert!(message(vec![(HEADER_KEY, good_header.clone())]).starts_with("x: footer: no mellama.totals"));
    let totals = |sequences: u64, tokens: u64, sources: usize| {
        let totals = serde_json::json!({
            "sequences": sequences, "tokens": tokens, "padding": 0, "trained": 0, "segments": 0,
            "source_tokens": vec![0; sources], "content": "",
        });
        vec![(HEADER_KEY, good_header.clone()), (TOTALS_KEY, sealed(totals))]
    };
    assert!(message(totals(1, 8, 3)).starts_with("x: 0 rows in 0 row groups, expected 1 in 1"));
    assert!(message(totals(0, 1, 3)).starts_with("x: footer totals: 1 tokens and padding, 0 sequences have 0"));
    assert!(message(totals(0, 0, 2)).starts_with("x: footer totals"));
    assert!(ShardFile::open("x", with_metadata(&header, totals(0, 0, 3))).is_ok());
    let other_length = sealed(
        serde_json::to_value(ShardHeader { vocabulary_size: 70_000, width: crate::Width::U32, ..header.clone() }).unwrap(),
    );
    let mut pairs = totals(0, 0, 3);
    pairs[0].1 = other_length;
    assert!(message(pairs).starts_with("x: column 0: tokens List"), "a header of another width");
}

#[test]
fn a_shard_that_only_arrow_wrote_is_refused() {
    let bytes = Bytes::from_static(b"PAR1 this is not a Parquet file PAR1");
    assert!(matches!(ShardFile::open("x", bytes), Err(ShardError::Parquet { .. })));
}
