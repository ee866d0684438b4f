//! Sets over a store: seek, cache, threads, ranks, and objects that are not what the manifest says.

use std::sync::Arc;

use mellama_storage::{Key, ObjectEntry, Workdir};
use proptest::prelude::{ProptestConfig, proptest};

use super::{Prefetch, ShardSet, rank_indices};
use crate::error::ShardError;
use crate::format::{Sequence, ShardHeader};
use crate::testing::{header, sequences, workdir, write_shard};

struct Fixture {
    workdir: Workdir,
    objects: Vec<ObjectEntry>,
    sequences: Vec<Sequence>,
}

/// Shards of these lengths.
fn fixture(lengths: &[usize]) -> Fixture {
    let header = header(16, 100);
    let all = sequences(lengths.iter().sum(), &header, 7);
    let mut rest = all.as_slice();
    let mut shards = Vec::new();
    for (index, &length) in lengths.iter().enumerate() {
        let (of_shard, after) = rest.split_at(length);
        shards.push((format!("shards/cpt/train-{index:05}.parquet"), write_shard(&header, of_shard), length as u64));
        rest = after;
    }
    let named: Vec<_> = shards.iter().map(|(key, bytes, rows)| (key.as_str(), bytes, *rows)).collect();
    let (workdir, objects) = workdir(&named);
    Fixture { workdir, objects, sequences: all }
}

#[test]
fn any_sequence_is_found_by_its_global_index() {
    let Fixture { workdir, objects, sequences } = fixture(&[300, 1, 0, 257, 256]);
    let set = ShardSet::open(&workdir, &objects).unwrap().with_cached_row_groups(2);
    assert_eq!((set.len(), set.is_empty(), set.header().sequence_length), (814, false, 16));
    for index in [0, 299, 300, 301, 556, 557, 558, 812, 813, 0, 555, 299] {
        assert_eq!(set.sequence(index).unwrap(), sequences[index as usize], "{index}");
    }
    assert_eq!(set.locate(300).unwrap(), (1, 0));
    assert_eq!(set.locate(301).unwrap(), (3, 0));
    let all: Vec<Sequence> = (0..set.len()).map(|index| set.sequence(index).unwrap()).collect();
    assert_eq!(all, sequences);
    assert_eq!(set.sequence(814).unwrap_err().to_string(), "shard set: sequence 814, it has 814");
}

#[test]
fn a_row_group_is_read_once_while_it_is_kept() {
    use mellama_storage::{FaultStore, Schedule};
    let Fixture { workdir, objects, .. } = fixture(&[512]);
    let counting = Arc::new(FaultStore::new(Arc::clone(workdir.store()), Schedule::none()));
    let set = ShardSet::open(&Workdir::new(counting.clone()), &objects).unwrap();
    let calls = || counting.calls();
    let opened = calls();
    set.sequence(0).unwrap();
    assert_eq!(calls() - opened, 1, "one ranged read a row group");
    for index in 0..256 {
        set.sequence(index).unwrap();
    }
    assert_eq!(calls() - opened, 1);
    for index in [300, 5, 511, 255] {
        set.sequence(index).unwrap();
    }
    assert_eq!(calls() - opened, 2);
}

#[test]
fn threads_share_a_set() {
    let Fixture { workdir, objects, sequences } = fixture(&[300, 300]);
    let set = ShardSet::open(&workdir, &objects).unwrap().with_cached_row_groups(1);
    std::thread::scope(|scope| {
        for rank in 0..4 {
            let (set, sequences) = (&set, &sequences);
            scope.spawn(move || {
                for index in rank_indices(0, set.len(), rank, 4) {
                    assert_eq!(set.sequence(index).unwrap(), sequences[index as usize]);
                }
            });
        }
    });
}

#[test]
fn ranks_split_the_indices_exactly() {
    let check = |cursor, end, world, expected: &[&[u64]]| {
        let found: Vec<Vec<u64>> = (0..world).map(|rank| rank_indices(cursor, end, rank, world).collect()).collect();
        assert_eq!(found, expected, "{cursor}..{end} of {world}");
    };
    check(0, 5, 1, &[&[0, 1, 2, 3, 4]]);
    check(0, 5, 2, &[&[0, 2, 4], &[1, 3]]);
    check(3, 8, 3, &[&[3, 6], &[4, 7], &[5]]);
    check(7, 8, 3, &[&[7], &[], &[]]);
    check(8, 8, 2, &[&[], &[]]);
    check(u64::MAX - 1, u64::MAX, 2, &[&[u64::MAX - 1], &[]]);
}

#[test]
fn prefetching_gives_the_same_sequences_and_can_be_dropped() {
    let Fixture { workdir, objects, sequences } = fixture(&[300, 40]);
    let set = Arc::new(ShardSet::open(&workdir, &objects).unwrap());
    let indices = rank_indices(0, set.len(), 1, 3);
    let found: Vec<Sequence> = Prefetch::new(Arc::clone(&set), indices, 8).map(Result::unwrap).collect();
    let expected: Vec<Sequence> = rank_indices(0, set.len(), 1, 3).map(|index| sequences[index as usize].clone()).collect();
    assert_eq!(found, expected);
    let mut early = Prefetch::new(Arc::clone(&set), 0..set.len(), 2);
    assert_eq!(early.next().unwrap().unwrap(), sequences[0]);
    drop(early);
    assert_eq!(Arc::strong_count(&set), 1, "the reading thread has ended");
    let mut failing = Prefetch::new(set, 339..400, 2);
    assert!(failing.next().unwrap().is_ok());
    assert!(matches!(failing.next(), Some(Err(ShardError::OutOfRange { .. }))));
    assert!(failing.next().is_none());
}

#[test]
fn objects_that_are_not_what_the_manifest_says_are_errors() {
    let Fixture { workdir, objects, .. } = fixture(&[20, 30]);
    let check = |change: &dyn Fn(&mut Vec<ObjectEntry>), expected: &str| {
        let mut changed = objects.clone();
        change(&mut changed);
        let error = ShardSet::open(&workdir, &changed).and_then(|set| set.sequence(set.len() - 1)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(&|objects| objects.clear(), "shard set: no shards, expected at least one");
    check(&|objects| objects[1].bytes += 1, "bytes, manifest lists");
    check(&|objects| objects[1].records += 1, "shards/cpt/train-00001.parquet: 30 sequences, manifest lists 31");
    check(&|objects| objects[0].key = "shards/none.parquet".into(), "shards/none.parquet: no such object");
    check(&|objects| objects[0].key = "../x".into(), "not a valid key");
    check(&|objects| objects[1].records = u64::MAX, "more than 2^64 sequences in the set");
}

#[test]
fn shards_of_different_headers_are_no_set() {
    let (first, second) = (header(16, 100), ShardHeader { sensitivity: "phi".into(), ..header(16, 100) });
    let shards = [write_shard(&first, &sequences(3, &first, 1)), write_shard(&second, &sequences(3, &second, 1))];
    let (workdir, objects) = workdir(&[("a.parquet", &shards[0], 3), ("b.parquet", &shards[1], 3)]);
    let set = ShardSet::open(&workdir, &objects).unwrap();
    assert!(set.sequence(2).is_ok());
    let message = set.sequence(3).unwrap_err().to_string();
    assert!(message.starts_with("b.parquet: header differs from that of a.parquet"), "{message}");
}

#[test]
fn a_damaged_shard_is_an_error_each_time_and_the_others_still_read() {
    let header = header(16, 100);
    let made = sequences(600, &header, 3);
    let mut damaged = write_shard(&header, &made[..300]).to_vec();
    damaged[50] ^= 1;
    let damaged = damaged.into();
    let good = write_shard(&header, &made[300..]);
    let (workdir, objects) = workdir(&[("good.parquet", &good, 300), ("damaged.parquet", &damaged, 300)]);
    let set = ShardSet::open(&workdir, &objects).unwrap();
    for _ in 0..2 {
        assert!(set.sequence(300).is_err());
        assert!(set.sequence(10).is_ok());
        assert!(set.sequence(599).is_ok(), "another row group of the same shard");
    }
    assert!(workdir.store().head(&Key::new("damaged.parquet").unwrap()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn ranks_prefetch_from_any_cursor_what_the_sequences_are(
        lengths in proptest::collection::vec(0_usize..300, 1..6),
        cursor in 0_u64..1600,
        world in 1_u32..5,
        ahead in 0_usize..5,
        kept in 1_usize..4,
    ) {
        let Fixture { workdir, objects, sequences } = fixture(&lengths);
        let set = Arc::new(ShardSet::open(&workdir, &objects).unwrap().with_cached_row_groups(kept));
        let mut seen = vec![0; sequences.len()];
        for rank in 0..world {
            let indices = || rank_indices(cursor, set.len(), rank, world);
            let ahead: Vec<Sequence> = Prefetch::new(Arc::clone(&set), indices(), ahead).map(Result::unwrap).collect();
            assert_eq!(ahead.len(), indices().count());
            for (index, sequence) in indices().zip(&ahead) {
                assert_eq!(sequence, &sequences[index as usize]);
                assert_eq!(sequence, &set.sequence(index).unwrap());
                seen[index as usize] += 1;
            }
        }
        let first = sequences.len().min(cursor as usize);
        assert!(seen[..first].iter().all(|&times| times == 0) && seen[first..].iter().all(|&times| times == 1));
    }
}

#[test]
fn a_seek_opens_and_reads_only_the_shard_it_falls_into() {
    use mellama_storage::{FaultStore, Operation, Schedule};
    let Fixture { workdir, objects, sequences } = fixture(&[20; 40]);
    let counting = Arc::new(FaultStore::new(Arc::clone(workdir.store()), Schedule::none()));
    let set = ShardSet::open(&Workdir::new(counting.clone()), &objects).unwrap();
    let opened = counting.calls_of(Operation::Head);
    assert_eq!(opened, 1, "one shard is opened for the header");
    for (times, index) in [(2, 799_u64), (2, 0), (3, 411)] {
        let before = counting.calls();
        assert_eq!(set.sequence(index).unwrap(), sequences[index as usize]);
        assert!(counting.calls_of(Operation::Head) <= times, "{index}");
        assert!(counting.calls() - before <= 6, "{index}: {} calls", counting.calls() - before);
    }
}
