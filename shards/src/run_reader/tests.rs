//! Runs read back from a store, few requests for neighbours, damage found.

use std::sync::Arc;

use bytes::Bytes;
use mellama_storage::{FaultStore, Key, RangeReader, Schedule, Workdir};

use super::RunReader;
use crate::error::ShardError;
use crate::runs::RunIndex;
use crate::runs::tests::{made_runs, run_header, write_runs};
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
