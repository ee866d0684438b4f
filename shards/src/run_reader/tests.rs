//! Runs read back from a store, few requests for neighbours, damage found.

use std::sync::Arc;

use bytes::Bytes;
use mellama_storage::{FaultStore, Key, RangeReader, Schedule, Workdir};

use super::{COALESCE_GAP_BYTES, COALESCE_READ_BYTES, RunBytes, RunPart, RunReader, Wanted, coalesced};
use crate::error::ShardError;
use crate::runs::tests::{made_runs, run_header, write_runs};
use crate::runs::{RunEntry, RunIndex};
use crate::testing::{Random, workdir};

fn reader(tokens: &Bytes, index: Bytes) -> Result<(RunReader, Arc<FaultStore>), ShardError> {
    let (workdir, _): (Workdir, _) = workdir(&[("tokens/pubmed/00000.tokens", tokens, 0)]);
    let store = Arc::new(FaultStore::new(Arc::clone(workdir.store()), Schedule::none()));
    let object = RangeReader::open(store.clone(), &Key::new("tokens/pubmed/00000.tokens").unwrap())?;
    Ok((RunReader::new(RunIndex::open("index", index)?, object)?, store))
}

#[test]
fn documents_come_back_in_the_order_asked_for() {
    for vocabulary in [100, 70_000] {
        let runs = made_runs(200, vocabulary, 1);
        let (tokens, index, _) = write_runs(&run_header(vocabulary), &runs);
        let (reader, store) = reader(&tokens, index).unwrap();
        let check = |rows: &[u32]| {
            let expected: Vec<&Vec<u32>> = rows.iter().map(|&row| &runs[row as usize].3).collect();
            assert_eq!(reader.read_many(rows).unwrap().iter().collect::<Vec<_>>(), expected, "{rows:?}");
        };
        check(&[]);
        check(&[0]);
        check(&[199, 0, 7, 7, 3]);
        let before = store.calls();
        check(&(0..200).collect::<Vec<_>>());
        assert_eq!(store.calls() - before, 1, "neighbours are one read");
        let mut random = Random(4);
        check(&(0..50).map(|_| random.below(200) as u32).collect::<Vec<_>>());
        for row in 0..200 {
            assert_eq!(reader.read(row).unwrap(), runs[row as usize].3);
        }
        assert!(matches!(reader.read(200), Err(ShardError::OutOfRange { index: 200, length: 200, .. })));
    }
}

#[test]
fn parts_are_the_tokens_asked_for_and_a_document_is_read_once() {
    for vocabulary in [100, 70_000] {
        let runs = made_runs(60, vocabulary, 3);
        let (tokens, index, _) = write_runs(&run_header(vocabulary), &runs);
        let (reader, store) = reader(&tokens, index).unwrap();
        let mut random = Random(5);
        let part = |random: &mut Random| {
            let row = random.below(60) as u32;
            let length = runs[row as usize].3.len() as u64;
            let offset = random.below(length + 1);
            RunPart { row, offset: offset as u32, length: random.below(length - offset + 1) as u32 }
        };
        let parts: Vec<RunPart> = (0..300).map(|_| part(&mut random)).collect();
        let before = store.calls();
        let mut seen = vec![None; parts.len()];
        let take = &mut |place: usize, tokens: RunBytes<'_>| {
            let mut found = vec![0; tokens.len()];
            tokens.copy_to(&mut found);
            assert!(seen[place].replace(found).is_none(), "part {place} came twice");
        };
        reader.read_parts(&parts, take).unwrap();
        assert_eq!(store.calls() - before, 1, "neighbours are one read");
        for (part, found) in parts.iter().zip(seen) {
            let expected = &runs[part.row as usize].3[part.offset as usize..][..part.length as usize];
            assert_eq!(found.as_deref(), Some(expected), "{part:?}");
        }
    }
}

#[test]
fn a_part_past_its_document_is_refused() {
    let runs = made_runs(10, 100, 1);
    let (tokens, index, _) = write_runs(&run_header(100), &runs);
    let (reader, _) = reader(&tokens, index).unwrap();
    let length = runs[4].3.len() as u32;
    for (offset, length) in [(0, length + 1), (length, 1), (u32::MAX, u32::MAX)] {
        let error = reader.read_parts(&[RunPart { row: 4, offset, length }], &mut |_, _| panic!("nothing is shown")).unwrap_err();
        assert!(error.to_string().contains("document 4"), "{error}");
    }
}

#[test]
fn reads_grow_to_their_limits_and_no_further() {
    let wanted = |runs: &[(u64, u64)]| -> Vec<Wanted> {
        let entry = |offset, length: u64| RunEntry { key: 0, offset, length: length as u32, heldout: false, check: 0 };
        runs.iter()
            .map(|&(offset, length)| Wanted {
                part: RunPart { row: 0, offset: 0, length: 0 },
                place: 0,
                entry: entry(offset, length),
            })
            .collect()
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

#[test]
fn damage_is_found_on_every_read() {
    let runs = made_runs(50, 100, 2);
    let (tokens, index, _) = write_runs(&run_header(100), &runs);
    let damaged_row = (0..50).find(|&row: &u32| runs[row as usize].3.len() > 5).unwrap();
    let before: usize = runs[..damaged_row as usize].iter().map(|run| run.3.len()).sum();
    let mut damaged = tokens.to_vec();
    // Another id that is in the vocabulary too: only the check finds it.
    damaged[2 * before + 4] ^= 1;
    let (reader, _) = reader(&damaged.into(), index.clone()).unwrap();
    for row in 0..50 {
        assert_eq!(reader.read(row).is_err(), row == damaged_row, "{row}");
    }
    let message = reader.read_many(&(0..50).collect::<Vec<_>>()).unwrap_err().to_string();
    assert!(message.contains(&format!("document {damaged_row}: its bytes are not those that were written")), "{message}");
    for length in [0, tokens.len() - 2, tokens.len() - 1] {
        let error = self::reader(&tokens.slice(..length), index.clone()).unwrap_err();
        assert!(error.to_string().contains("its index lists"), "{error}");
    }
}
