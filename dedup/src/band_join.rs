//! Finds the documents that share a band key, one band at a time, within a memory budget.
//!
//! A bucket of n documents gives n − 1 *star edges* from its smallest ordinal, never n². It proposes only: whether two
//! documents are duplicates is decided in `cluster`.

use std::io;
use std::path::Path;

use rayon::slice::ParallelSliceMut;

use crate::spill::{Record, Spill};

/// Bytes of a record in memory, its padding included.
const RECORD_BYTES: u64 = size_of::<Record>() as u64;

/// Most partitions of a band: each is an open file.
const MAX_PARTITIONS: u64 = 256;

/// Least and most bytes of one partition's write buffer.
const WRITE_BUFFER_BYTES: (u64, u64) = (4 * 1024, 256 * 1024);

/// Records that are sorted at once whatever the budget, so that a small one does not open files for a handful.
const MIN_SORTED_RECORDS: u64 = 256;

/// How one band is cut to fit the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partitioning {
    /// 1: all records are sorted in memory. More: the records go through that many files.
    partitions: usize,
    /// Records that are gathered before duplicates of a key are dropped from the buffer.
    sorted_records: usize,
    /// Bytes of each file's buffer.
    buffer_bytes: usize,
}

impl Partitioning {
    /// The cut for `records` of one band under `memory_bytes`: ⌈2 × bytes / budget⌉ partitions, the factor leaving room
    /// for uneven ones.
    pub(crate) fn new(records: usize, memory_bytes: u64) -> Self {
        let bytes = records as u64 * RECORD_BYTES;
        let budget = memory_bytes.max(1);
        let partitions = (2 * bytes).div_ceil(budget).min(records as u64 / MIN_SORTED_RECORDS + 1).clamp(1, MAX_PARTITIONS);
        Self {
            partitions: partitions as usize,
            sorted_records: (budget / RECORD_BYTES).max(MIN_SORTED_RECORDS) as usize,
            buffer_bytes: (budget / 2 / partitions).clamp(WRITE_BUFFER_BYTES.0, WRITE_BUFFER_BYTES.1) as usize,
        }
    }
}

/// Calls `edge(smallest, other)` for each further document of each bucket of one band, and returns their number: the pairs
/// that the band proposes. `records` gives the band key and the ordinal of each document, in any order; `expected` is about
/// how many there are, and decides with `memory_bytes` whether they go through files in `scratch`. Neither changes which
/// pairs are proposed, only the order of the calls.
///
/// # Errors
/// What `records` ends with, or the scratch folder cannot be written or read.
pub fn join_band<E: From<io::Error>>(
    records: impl Iterator<Item = Result<(u64, u32), E>>,
    expected: usize,
    memory_bytes: u64,
    scratch: &Path,
    edge: &mut impl FnMut(u32, u32),
) -> Result<u64, E> {
    join(records, Partitioning::new(expected, memory_bytes), scratch, edge)
}

fn join<E: From<io::Error>>(
    records: impl Iterator<Item = Result<(u64, u32), E>>,
    cut: Partitioning,
    scratch: &Path,
    edge: &mut impl FnMut(u32, u32),
) -> Result<u64, E> {
    let mut buckets = Buckets::new(cut.sorted_records, edge);
    if cut.partitions == 1 {
        for record in records {
            buckets.push(record?);
        }
        buckets.close();
        return Ok(buckets.edges);
    }
    let mut spill = Spill::create(scratch, cut.partitions, cut.buffer_bytes)?;
    for record in records {
        spill.push(record?)?;
    }
    for reader in spill.into_readers() {
        let mut reader = reader?;
        while let Some(record) = reader.next()? {
            buckets.push(record);
        }
        buckets.close();
    }
    Ok(buckets.edges)
}

/// Gathers records and gives the edges of their buckets.
///
/// When the buffer is full, only the smallest ordinal of each key stays in it: a template shared by millions of documents
/// takes one record. Keys are uniform hashes, so the distinct ones of a partition fit; if they do not, the buffer grows.
struct Buckets<'a, F: FnMut(u32, u32)> {
    records: Vec<Record>,
    limit: usize,
    full: usize,
    edges: u64,
    edge: &'a mut F,
}

impl<'a, F: FnMut(u32, u32)> Buckets<'a, F> {
    fn new(limit: usize, edge: &'a mut F) -> Self {
        Self { records: Vec::new(), limit, full: limit, edges: 0, edge }
    }

    fn push(&mut self, record: Record) {
        if self.records.len() == self.full {
            self.compact();
            // At least half of the buffer must be free, or the next compaction would come too soon.
            self.full = self.limit.max(self.records.len() * 2);
        }
        self.records.push(record);
    }

    /// Gives the edges of what is gathered and leaves the smallest ordinal of each key.
    fn compact(&mut self) {
        self.records.par_sort_unstable();
        let Self { edges, edge, .. } = self;
        self.records.dedup_by(|next, first| {
            let same = next.0 == first.0;
            if same {
                edge(first.1, next.1);
                *edges += 1;
            }
            same
        });
    }

    /// Ends a partition.
    fn close(&mut self) {
        self.compact();
        self.records.clear();
        self.full = self.limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(keys: &[u64], cut: Partitioning) -> (Vec<(u32, u32)>, u64) {
        let scratch = tempfile::tempdir().unwrap();
        let mut edges = Vec::new();
        let records = keys.iter().copied().zip(0u32..).map(Ok::<_, io::Error>);
        let count = join(records, cut, scratch.path(), &mut |a, b| edges.push((a, b)));
        edges.sort_unstable();
        (edges, count.unwrap())
    }

    fn check(keys: &[u64], expected: &[(u32, u32)]) {
        for partitions in [1, 2, 5, 256] {
            for sorted_records in [1, 2, 3, 1000] {
                let cut = Partitioning { partitions, sorted_records, buffer_bytes: 16 };
                let got = edges(keys, cut);
                assert_eq!(got, (expected.to_vec(), expected.len() as u64), "{cut:?}");
            }
        }
    }

    #[test]
    fn star_edges_from_the_smallest_ordinal() {
        let h = u64::MAX;
        check(&[], &[]);
        check(&[7], &[]);
        check(&[7, 8, 9], &[]);
        check(&[7, 7], &[(0, 1)]);
        check(&[0, h, 0, h, 0], &[(0, 2), (0, 4), (1, 3)]);
        check(&[5, 5, 5, 5, 5], &[(0, 1), (0, 2), (0, 3), (0, 4)]);
        check(&[1, 1 << 63, 2, 1, 1 << 63, 3, 1], &[(0, 3), (0, 6), (1, 4)]);
    }

    #[test]
    fn a_large_bucket_is_linear_and_small_in_memory() {
        let mut linked = 0u64;
        let mut edge = |a, _| {
            assert_eq!(a, 0);
            linked += 1;
        };
        let mut buckets = Buckets::new(64, &mut edge);
        for ordinal in 0..100_000 {
            buckets.push((42, ordinal));
            assert!(buckets.records.len() <= 64);
        }
        buckets.close();
        assert_eq!(linked, 99_999);
    }

    fn check_cut(records: usize, memory_bytes: u64, partitions: usize) {
        let cut = Partitioning::new(records, memory_bytes);
        assert_eq!(cut.partitions, partitions, "{records} in {memory_bytes}");
    }

    #[test]
    fn partitions_follow_from_the_budget() {
        check_cut(0, 0, 1);
        check_cut(1000, 32_000, 1);
        check_cut(1000, 31_999, 2);
        check_cut(100_000_000, 1 << 30, 3);
        check_cut(100_000_000, 1 << 20, 256);
        check_cut(100_000, 0, 256);
        check_cut(1000, 0, 4);
        check_cut(255, 0, 1);
    }
}
