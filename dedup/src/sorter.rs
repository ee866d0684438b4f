//! Sorts any number of records of one width in bounded memory: runs in files without a name, then one merge.
//!
//! It knows nothing of what a record means: records are compared as byte strings, so numbers go in big-endian.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rayon::slice::ParallelSliceMut;

/// Fewest records of a run, whatever the budget: a file is not opened for a handful.
const MIN_RUN_RECORDS: usize = 1024;

/// Most runs that are merged at once, each with an open file and a buffer; more are merged in several rounds.
const MAX_MERGED_RUNS: usize = 128;

/// Bytes of the buffer of a run that is read or written.
const RUN_BUFFER_BYTES: usize = 64 * 1024;

/// Takes records in any order and gives them back in rising order. Equal records are all kept.
#[derive(Debug)]
pub struct Sorter<const N: usize> {
    records: Vec<[u8; N]>,
    run_records: usize,
    runs: Vec<Run>,
    scratch: PathBuf,
}

/// A sorted file.
#[derive(Debug)]
struct Run {
    file: File,
    records: u64,
}

impl<const N: usize> Sorter<N> {
    /// A sorter whose records take about `memory_bytes`; more go to nameless files in `scratch`.
    pub fn new(memory_bytes: u64, scratch: &Path) -> Self {
        let run_records = usize::try_from(memory_bytes / N as u64).unwrap_or(usize::MAX).max(MIN_RUN_RECORDS);
        Self { records: Vec::new(), run_records, runs: Vec::new(), scratch: scratch.to_path_buf() }
    }

    /// Takes one record.
    ///
    /// # Errors
    /// The scratch folder cannot be written.
    pub fn push(&mut self, record: [u8; N]) -> io::Result<()> {
        if self.records.len() == self.run_records {
            self.spill()?;
        }
        self.records.push(record);
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.records.par_sort_unstable();
        let run = write_run(&self.scratch, self.records.iter().map(|record| Ok(*record)))?;
        self.runs.push(run);
        self.records.clear();
        Ok(())
    }

    /// All records in rising order.
    ///
    /// # Errors
    /// The scratch folder cannot be written or read.
    pub fn finish(mut self) -> io::Result<Sorted<N>> {
        if self.runs.is_empty() {
            self.records.par_sort_unstable();
            return Ok(Sorted::Memory(self.records.into_iter()));
        }
        if !self.records.is_empty() {
            self.spill()?;
        }
        // What the runs need to be read is far less; the buffer of the records goes first.
        self.records = Vec::new();
        let mut runs = self.runs;
        while runs.len() > MAX_MERGED_RUNS {
            let first: Vec<Run> = runs.drain(..MAX_MERGED_RUNS).collect();
            runs.push(write_run::<N>(&self.scratch, Merge::open(first)?)?);
        }
        Ok(Sorted::Files(Merge::open(runs)?))
    }
}

/// The record made of `parts` end to end; numbers go in big-endian, so that records sort by them.
///
/// # Panics
/// The parts have not N bytes together.
pub fn record_of<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut record = [0; N];
    let mut at = 0;
    for part in parts {
        record[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    assert_eq!(at, N, "bytes of a record");
    record
}

/// The W bytes of a record from byte `at`.
///
/// # Panics
/// The record is shorter.
pub fn field<const W: usize>(record: &[u8], at: usize) -> [u8; W] {
    let mut bytes = [0; W];
    bytes.copy_from_slice(&record[at..at + W]);
    bytes
}

fn write_run<const N: usize>(scratch: &Path, records: impl Iterator<Item = io::Result<[u8; N]>>) -> io::Result<Run> {
    let mut writer = BufWriter::with_capacity(RUN_BUFFER_BYTES, tempfile::tempfile_in(scratch)?);
    let mut count = 0;
    for record in records {
        writer.write_all(&record?)?;
        count += 1;
    }
    let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(Run { file, records: count })
}

/// Records in rising order.
#[derive(Debug)]
pub enum Sorted<const N: usize> {
    /// They fitted.
    Memory(std::vec::IntoIter<[u8; N]>),
    /// They did not.
    Files(Merge<N>),
}

impl<const N: usize> Iterator for Sorted<N> {
    type Item = io::Result<[u8; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(records) => records.next().map(Ok),
            Self::Files(merge) => merge.next(),
        }
    }
}

/// Sorted runs read as one.
#[derive(Debug)]
pub struct Merge<const N: usize> {
    readers: Vec<(BufReader<File>, u64)>,
    /// The next record of each reader that is not at its end.
    next: BinaryHeap<Reverse<([u8; N], usize)>>,
}

impl<const N: usize> Merge<N> {
    fn open(runs: Vec<Run>) -> io::Result<Self> {
        let reader = |run: Run| (BufReader::with_capacity(RUN_BUFFER_BYTES, run.file), run.records);
        let mut merge = Self { readers: runs.into_iter().map(reader).collect(), next: BinaryHeap::new() };
        for reader in 0..merge.readers.len() {
            merge.advance(reader)?;
        }
        Ok(merge)
    }

    /// Takes the next record of a reader into the heap. A file shorter than what was written is an error.
    fn advance(&mut self, reader: usize) -> io::Result<()> {
        let (file, left) = &mut self.readers[reader];
        if *left > 0 {
            *left -= 1;
            let mut record = [0; N];
            file.read_exact(&mut record)?;
            self.next.push(Reverse((record, reader)));
        }
        Ok(())
    }
}

impl<const N: usize> Iterator for Merge<N> {
    type Item = io::Result<[u8; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((record, reader)) = self.next.pop()?;
        Some(self.advance(reader).map(|()| record))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;

    fn sorted(records: &[[u8; 4]], memory_bytes: u64) -> Vec<[u8; 4]> {
        let scratch = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::<4>::new(memory_bytes, scratch.path());
        for record in records {
            sorter.push(*record).unwrap();
        }
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "a file has a name");
        sorter.finish().unwrap().collect::<io::Result<_>>().unwrap()
    }

    fn check(records: &[[u8; 4]]) {
        let mut expected = records.to_vec();
        expected.sort_unstable();
        for memory_bytes in [0, 9000, u64::MAX] {
            assert_eq!(sorted(records, memory_bytes), expected, "{memory_bytes} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn determinism_any_budget_gives_the_sorted_records(seeds in proptest::collection::vec(any::<u16>(), 0..6000)) {
            // Few distinct values, so that equal records meet in one run and in several.
            let records: Vec<[u8; 4]> = seeds.iter().map(|seed| u32::from(seed % 3000).to_be_bytes()).collect();
            check(&records);
        }
    }

    #[test]
    fn more_runs_than_are_merged_at_once() {
        let records: Vec<[u8; 4]> = (0..(MIN_RUN_RECORDS * (MAX_MERGED_RUNS * 2 + 3)) as u32)
            .map(|i| i.wrapping_mul(0x9E37_79B9).to_be_bytes())
            .collect();
        check(&records);
    }

    #[test]
    fn an_absent_scratch_folder_is_an_error_once_it_is_needed() {
        let scratch = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::<4>::new(0, &scratch.path().join("absent"));
        let pushed: io::Result<()> = (0..5000u32).try_for_each(|i| sorter.push(i.to_be_bytes()));
        assert!(pushed.is_err());
    }
}
