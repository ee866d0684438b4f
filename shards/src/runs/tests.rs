//! Token runs written and read back, and indexes that do not hold together.

use std::sync::Arc;

use bytes::Bytes;

use super::{NewRun, RUNS_FORMAT_VERSION, RunEntry, RunHeader, RunIndex, RunTotals, RunWriter, run_check};
use crate::error::ShardError;
use crate::format::Width;
use crate::testing::Random;

pub(crate) fn run_header(vocabulary_size: u32) -> RunHeader {
    RunHeader {
        format_version: RUNS_FORMAT_VERSION,
        source: "pubmed".into(),
        vocabulary_size,
        width: Width::for_vocabulary(vocabulary_size),
        tokenizer_digest: "cd".repeat(32),
    }
}

/// Made-up documents: key, id, heldout, tokens.
pub(crate) fn made_runs(count: usize, vocabulary: u32, seed: u64) -> Vec<(u128, String, bool, Vec<u32>)> {
    let mut random = Random(seed);
    let mut made = |index: usize| {
        let length = random.below(40) * random.below(3);
        let tokens = (0..length).map(|_| random.below(vocabulary.into()) as u32).collect();
        (u128::from(random.next()), format!("pubmed:{index}"), random.below(10) == 0, tokens)
    };
    (0..count).map(&mut made).collect()
}

pub(crate) fn write_runs(header: &RunHeader, runs: &[(u128, String, bool, Vec<u32>)]) -> (Bytes, Bytes, RunTotals) {
    let mut writer = RunWriter::new(Vec::new(), Vec::new(), header).unwrap();
    for (key, id, heldout, tokens) in runs {
        writer.push(NewRun { key: *key, id, heldout: *heldout, tokens }).unwrap();
    }
    let (tokens, index, totals) = writer.finish().unwrap();
    (tokens.into(), index.into(), totals)
}

#[test]
fn an_index_says_what_was_written() {
    for (count, vocabulary) in [(0, 100), (1, 100), (500, 32_000), (66_000, 70_000)] {
        let header = run_header(vocabulary);
        let runs = made_runs(count, vocabulary, 3);
        let (tokens, index, totals) = write_runs(&header, &runs);
        let index = RunIndex::open("index", index).unwrap();
        assert_eq!((index.header(), index.totals()), (&header, &totals));
        assert_eq!(totals.documents, count as u64);
        assert_eq!(tokens.len() as u64, totals.tokens * header.width.bytes());
        assert_eq!(totals.heldout_documents, runs.iter().filter(|run| run.2).count() as u64);
        let heldout: usize = runs.iter().filter(|run| run.2).map(|run| run.3.len()).sum();
        assert_eq!(totals.heldout_tokens, heldout as u64);
        let ids: Vec<String> = runs.iter().map(|run| run.1.clone()).collect();
        assert_eq!(index.read_ids().unwrap(), ids);
        for (entry, run) in index.entries().iter().zip(&runs) {
            assert_eq!((entry.key, entry.heldout, entry.length as usize), (run.0, run.2, run.3.len()));
        }
    }
}

#[test]
fn golden_bytes_are_back_to_back_little_endian() {
    let runs = [(7, "a:1".to_owned(), false, vec![1, 2, 3, 2]), (8, "a:2".to_owned(), true, vec![5, 2])];
    let (tokens, index, totals) = write_runs(&run_header(32_000), &runs);
    // The golden corpus of the format notes.
    assert_eq!(&tokens[..], [1, 0, 2, 0, 3, 0, 2, 0, 5, 0, 2, 0]);
    assert_eq!(totals, RunTotals { documents: 2, tokens: 6, heldout_documents: 1, heldout_tokens: 2 });
    let index = RunIndex::open("index", index).unwrap();
    let check = |bytes: &[u8]| u64::from_le_bytes(blake3::hash(bytes).as_bytes()[..8].try_into().unwrap());
    let expected = [
        RunEntry { key: 7, offset: 0, length: 4, heldout: false, check: check(&tokens[..8]) },
        RunEntry { key: 8, offset: 4, length: 2, heldout: true, check: check(&tokens[8..]) },
    ];
    assert_eq!(index.entries(), expected);
    assert_eq!(run_check(&tokens[8..]), expected[1].check);
    let (wide, _, _) = write_runs(&run_header(70_000), &runs[1..]);
    assert_eq!(&wide[..], [5, 0, 0, 0, 2, 0, 0, 0]);
}

#[test]
fn determinism_equal_runs_give_equal_objects() {
    let runs = made_runs(300, 100, 1);
    let header = run_header(100);
    assert_eq!(write_runs(&header, &runs), write_runs(&header, &runs));
}

#[test]
fn impossible_headers_and_tokens_are_refused() {
    let new = |header: &RunHeader| RunWriter::new(Vec::new(), Vec::new(), header).err().map(|error| error.to_string());
    assert_eq!(new(&run_header(100)), None);
    let wide = RunHeader { width: Width::U32, ..run_header(100) };
    assert_eq!(new(&wide).unwrap(), "shard header: width U32 for 100 ids, expected the narrowest");
    let newer = RunHeader { format_version: 9, ..run_header(100) };
    assert!(new(&newer).unwrap().contains("format version 9, this program reads 1"));
    let mut writer = RunWriter::new(Vec::new(), Vec::new(), &run_header(100)).unwrap();
    let error = writer.push(NewRun { key: 1, id: "a:1", heldout: false, tokens: &[1, 100] }).unwrap_err();
    assert_eq!(error.to_string(), "shard header: document 0: token at 1 is outside the vocabulary of 100");
}

#[test]
fn a_document_longer_than_31_bits_count_is_refused_with_its_id_and_figures() {
    assert_eq!(super::MAX_DOCUMENT_TOKENS, (1 << 31) - 1);
    let check = |tokens: u64, expected: Result<u32, &str>| {
        let found = super::checked_length("pmc:PMC7", tokens).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned));
    };
    check(0, Ok(0));
    check((1 << 31) - 1, Ok(i32::MAX as u32));
    let remedy = "a document has at most 2147483647; split it, or lower corpus.limits.record_bytes";
    check(1 << 31, Err(&format!("pmc:PMC7: 2147483648 tokens, {remedy}")));
    check(1 << 32, Err(&format!("pmc:PMC7: 4294967296 tokens, {remedy}")));
    check(u64::MAX, Err(&format!("pmc:PMC7: 18446744073709551615 tokens, {remedy}")));
}

#[test]
fn case_every_flipped_byte_of_an_index_is_an_error_or_changes_nothing() {
    let runs = made_runs(20, 100, 5);
    let (_, bytes, _) = write_runs(&run_header(100), &runs);
    let read = |bytes: Bytes| -> Result<_, ShardError> {
        let index = RunIndex::open("index", bytes)?;
        Ok((index.header().clone(), index.entries().to_vec(), index.read_ids()?))
    };
    let expected = read(bytes.clone()).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        if let Ok(found) = read(damaged.into()) {
            assert_eq!(found, expected, "byte {at}");
        }
        assert!(read(bytes.slice(..at)).is_err(), "{at} bytes");
    }
}

#[test]
fn an_index_whose_runs_do_not_follow_each_other_is_refused() {
    use crate::page_checksums::{ChecksummedWriter, properties};
    use crate::runs::{IndexRows, RUN_HEADER_KEY, RUN_TOTALS_KEY, index_schema};
    use crate::writer::sealed_text;
    let open = |offsets: [u64; 2], totals: RunTotals, source: &str| {
        let mut rows = IndexRows::new();
        for offset in offsets {
            rows.push(&NewRun { key: 1, id: "a:1", heldout: false, tokens: &[] }, offset, 3, 0, source);
        }
        let schema = Arc::new(index_schema());
        let mut file = ChecksummedWriter::new(Vec::new(), Arc::clone(&schema), properties().build()).unwrap();
        file.add_metadata(RUN_HEADER_KEY, sealed_text(&run_header(100)).unwrap());
        file.add_metadata(RUN_TOTALS_KEY, sealed_text(&totals).unwrap());
        file.write_row_group(&arrow::array::RecordBatch::try_new(schema, rows.take_columns()).unwrap()).unwrap();
        RunIndex::open("x", Bytes::from(file.finish().unwrap())).and_then(|index| index.read_ids())
    };
    let totals = |tokens| RunTotals { documents: 2, tokens, heldout_documents: 0, heldout_tokens: 0 };
    assert_eq!(open([0, 3], totals(6), "pubmed").unwrap(), ["a:1", "a:1"]);
    let message = |offsets, tokens, source| open(offsets, totals(tokens), source).unwrap_err().to_string();
    assert!(message([0, 4], 6, "pubmed").starts_with("x: row 1: offset 4, expected 3"));
    assert!(message([1, 4], 6, "pubmed").starts_with("x: row 0: offset 1, expected 0"));
    assert!(message([0, 3], 7, "pubmed").starts_with("x: footer totals"));
    assert!(message([0, 3], 6, "pmc").starts_with("x: column source: not the header's source"));
}
