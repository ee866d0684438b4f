//! Parts of documents read back from a store, few requests for neighbours, and parts that are nowhere.

use std::sync::Arc;

use bytes::Bytes;
use mellama_storage::{FaultStore, Key, RangeReader, Schedule, Workdir};

use super::{COALESCE_GAP_BYTES, COALESCE_READ_BYTES, RunBytes, RunPart, RunPlace, TokenObject, coalesced};
use crate::runs::RunIndex;
use crate::runs::tests::{made_runs, run_header, write_runs};
use crate::testing::{Random, workdir};

fn object(tokens: &Bytes, index: &RunIndex) -> (TokenObject, Arc<FaultStore>) {
    let (workdir, _): (Workdir, _) = workdir(&[("tokens/pubmed/00000.tokens", tokens, 0)]);
    let store = Arc::new(FaultStore::new(Arc::clone(workdir.store()), Schedule::none()));
    let object = RangeReader::open(store.clone(), &Key::new("tokens/pubmed/00000.tokens").unwrap()).unwrap();
    (TokenObject::new(object, index.header().width, index.totals().tokens).unwrap(), store)
}

/// All of a document.
fn whole(index: &RunIndex, row: u32) -> RunPart {
    let entry = index.entries()[row as usize];
    RunPart { row, tokens: entry.length, place: entry.place(), offset: 0, length: entry.length }
}

#[test]
fn parts_are_the_tokens_asked_for_and_a_document_is_read_once() {
    for vocabulary in [100, 70_000] {
        let runs = made_runs(60, vocabulary, 3);
        let (tokens, index, _) = write_runs(&run_header(vocabulary), &runs);
        let index = RunIndex::open("index", index).unwrap();
        let (object, store) = object(&tokens, &index);
        let mut random = Random(5);
        let part = |random: &mut Random| {
            let row = random.below(60) as u32;
            let length = runs[row as usize].3.len() as u64;
            let offset = random.below(length + 1);
            RunPart { offset: offset as u32, length: random.below(length - offset + 1) as u32, ..whole(&index, row) }
        };
        let parts: Vec<RunPart> = (0..300).map(|_| part(&mut random)).collect();
        let before = store.calls();
        let mut seen = vec![None; parts.len()];
        let take = &mut |place: usize, tokens: RunBytes<'_>| {
            let mut found = vec![0; tokens.len()];
            tokens.copy_to(&mut found);
            assert!(seen[place].replace(found).is_none(), "part {place} came twice");
        };
        object.read_parts(&parts, take).unwrap();
        assert_eq!(store.calls() - before, 1, "neighbours are one read");
        for (part, found) in parts.iter().zip(seen) {
            let expected = &runs[part.row as usize].3[part.offset as usize..][..part.length as usize];
            assert_eq!(found.as_deref(), Some(expected), "{part:?}");
        }
    }
}

#[test]
fn a_part_outside_its_document_or_object_is_refused() {
    let runs = made_runs(10, 100, 1);
    let (tokens, index, _) = write_runs(&run_header(100), &runs);
    let index = RunIndex::open("index", index).unwrap();
    let (object, _) = object(&tokens, &index);
    let whole = whole(&index, 4);
    let check = |part: RunPart, expected: &str| {
        let error = object.read_parts(&[part], &mut |_, _| panic!("nothing is shown")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(RunPart { length: whole.tokens + 1, ..whole }, "document 4: ");
    check(RunPart { offset: whole.tokens, length: 1, ..whole }, "document 4: 1 tokens from");
    check(RunPart { offset: u32::MAX, length: u32::MAX, ..whole }, "document 4: ");
    check(RunPart { place: RunPlace { start: index.totals().tokens, ..whole.place }, ..whole }, "past the end of the object");
    check(RunPart { place: RunPlace { start: u64::MAX, ..whole.place }, ..whole }, "past the end of the object");
    check(RunPart { place: RunPlace { check: whole.place.check ^ 1, ..whole.place }, ..whole }, "not those that were written");
}

#[test]
fn reads_grow_to_their_limits_and_no_further() {
    let wanted = |runs: &[(u64, u64)]| -> Vec<(RunPart, usize)> {
        let part = |start, tokens: u64| {
            let place = RunPlace { start, check: 0 };
            RunPart { row: 0, tokens: tokens as u32, place, offset: 0, length: 0 }
        };
        runs.iter().map(|&(start, tokens)| (part(start, tokens), 0)).collect()
    };
    let check = |runs: &[(u64, u64)], expected| {
        assert_eq!(coalesced(&wanted(runs), 2), expected, "{runs:?}");
    };
    let (gap, read) = (COALESCE_GAP_BYTES / 2, COALESCE_READ_BYTES / 2);
    check(&[(5, 9)], 1);
    check(&[(5, 9), (5, 9), (14, 2)], 3);
    check(&[(0, 10), (10 + gap, 1)], 2);
    check(&[(0, 10), (11 + gap, 1)], 1);
    check(&[(0, read - 1), (read - 1, 1), (read, 1)], 2);
    check(&[(0, 3 * read), (3 * read, 1)], 1);
}
