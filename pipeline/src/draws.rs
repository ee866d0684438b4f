//! The documents of a domain put in training order within a given memory: an external sort of records, then one cursor a source.
//!
//! It knows document keys and token counts, neither text nor tokens, and leaves nothing in the scratch folder.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mellama_dedup::{Sorted, Sorter};
use mellama_shards::draw::{DRAW_BYTES, Draw};
use mellama_shards::mixture::SourceShare;
use mellama_shards::order::{ORDER_PURPOSE, Prf, Run, passes};
use mellama_shards::spread::{DomainOrder, SpreadError};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

/// Parts of the memory that the records being sorted take, and that the cursors take once they are sorted.
const SORT_SHARE: u64 = 2;
const CURSOR_SHARE: u64 = 4;
/// Bytes that a cursor reads at once.
const CURSOR_BYTES: Range<u64> = 64 << 10..4 << 20;
/// Bytes of the buffer through which sorted records are written.
const SPOOL_BYTES: usize = 1 << 20;
/// Leading bits of a hash by which the tokens of a partial pass are counted.
const LIMIT_BITS: u32 = 12;

/// Why documents cannot be put in order.
#[derive(Debug, thiserror::Error)]
pub enum DrawsError {
    /// The scratch folder cannot be written or read.
    #[error("scratch folder: sorting documents")]
    Scratch(#[from] io::Error),
    /// Documents and shares do not belong together.
    #[error(transparent)]
    Order(#[from] SpreadError),
}

/// Takes the documents of some sources in any order and gives them back in the one order that seed, shares and keys decide.
#[derive(Debug)]
pub struct Draws {
    prf: Prf,
    sources: Vec<Source>,
    sorter: Sorter<DRAW_BYTES>,
    memory_bytes: u64,
    scratch: PathBuf,
}

#[derive(Debug)]
struct Source {
    /// [`Run::source`] of its documents.
    number: u16,
    share: SourceShare,
    limit: Option<Limit>,
}

impl Draws {
    /// For sources in rising order of their numbers. Records take at most half of `memory_bytes`, the rest of them lies in
    /// files without a name in `scratch`.
    pub fn new(seed: u64, sources: Vec<(u16, SourceShare)>, memory_bytes: u64, scratch: &Path) -> Self {
        let source = |(number, share): (u16, SourceShare)| {
            let limit = (share.remainder > 0).then(|| Limit::new(share.remainder));
            Source { number, share, limit }
        };
        Self {
            prf: Prf::new(seed, ORDER_PURPOSE),
            sources: sources.into_iter().map(source).collect(),
            sorter: Sorter::new(memory_bytes / SORT_SHARE, scratch),
            memory_bytes,
            scratch: scratch.to_path_buf(),
        }
    }

    /// Takes documents of one source, `source` as the sources were given. Those without tokens have no place in the order.
    ///
    /// # Errors
    /// The scratch folder cannot be written.
    ///
    /// # Panics
    /// There is no such source.
    pub fn push(&mut self, source: usize, runs: &[Run]) -> io::Result<()> {
        let Source { share, limit, .. } = &mut self.sources[source];
        for epoch in 0..passes(share) {
            let partial = u64::from(epoch) == share.full_epochs;
            let draws: Vec<Draw> = runs.par_iter().map(|run| Draw::new(&self.prf, epoch, *run)).collect();
            for draw in draws.iter().filter(|draw| draw.run.tokens > 0) {
                if !partial || limit.as_mut().is_none_or(|limit| limit.admits(draw.hash, draw.run.tokens)) {
                    self.sorter.push(draw.to_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// The documents in order.
    ///
    /// # Errors
    /// [`DrawsError`]; that the documents of a source do not sum to its supply may show only where a pass ends.
    pub fn finish(self) -> Result<DomainOrder<Cursor>, DrawsError> {
        let Self { sources, sorter, memory_bytes, scratch, .. } = self;
        let numbers: Vec<u16> = sources.iter().map(|source| source.number).collect();
        let cursors = match sorter.finish()? {
            Sorted::Memory(records) => in_memory(records.collect(), &numbers),
            Sorted::Files(records) if numbers.len() == 1 => vec![Cursor::Sorted(Sorted::Files(records))],
            Sorted::Files(records) => spool(records, &numbers, memory_bytes, &scratch)?,
        };
        let shares = sources.into_iter().map(|source| source.share);
        Ok(DomainOrder::new(shares.zip(cursors).collect())?)
    }
}

/// Which documents a partial pass can need: those of the smallest hashes that give its tokens, as far as it is known from
/// the documents seen. The bound only sinks, so whatever is needed in the end was admitted when it came.
#[derive(Debug)]
struct Limit {
    tokens: u64,
    /// Tokens of the admitted documents by the leading bits of their hash.
    counts: Vec<u64>,
    last: usize,
    within: u64,
}

impl Limit {
    fn new(tokens: u64) -> Self {
        let buckets = 1 << LIMIT_BITS;
        Self { tokens, counts: vec![0; buckets], last: buckets - 1, within: 0 }
    }

    fn admits(&mut self, hash: u64, tokens: u32) -> bool {
        let bucket = (hash >> (u64::BITS - LIMIT_BITS)) as usize;
        if bucket > self.last {
            return false;
        }
        self.counts[bucket] += u64::from(tokens);
        self.within += u64::from(tokens);
        while self.within - self.counts[self.last] >= self.tokens {
            self.within -= self.counts[self.last];
            self.last -= 1;
        }
        true
    }
}

/// The draws of one source in order.
#[derive(Debug)]
pub enum Cursor {
    /// Of records that all lie in memory.
    Memory(Arc<Vec<[u8; DRAW_BYTES]>>, Range<usize>),
    /// Of a corpus with one source.
    Sorted(Sorted<DRAW_BYTES>),
    /// Of one file with all records.
    File(FileCursor),
}

impl Iterator for Cursor {
    type Item = io::Result<Draw>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(records, range) => range.next().map(|index| Ok(Draw::from_bytes(&records[index]))),
            Self::Sorted(records) => records.next().map(|record| record.map(|record| Draw::from_bytes(&record))),
            Self::File(file) => file.next().transpose(),
        }
    }
}

/// Some consecutive records of a file.
#[derive(Debug)]
pub struct FileCursor {
    file: Arc<File>,
    /// Records not read yet, as numbers in the file.
    left: Range<u64>,
    buffer: Vec<u8>,
    buffer_bytes: usize,
    position: usize,
}

impl FileCursor {
    fn next(&mut self) -> io::Result<Option<Draw>> {
        if self.position == self.buffer.len() && !self.fill()? {
            return Ok(None);
        }
        let mut record = [0; DRAW_BYTES];
        record.copy_from_slice(&self.buffer[self.position..self.position + DRAW_BYTES]);
        self.position += DRAW_BYTES;
        Ok(Some(Draw::from_bytes(&record)))
    }

    fn fill(&mut self) -> io::Result<bool> {
        let records = (self.left.end - self.left.start).min((self.buffer_bytes / DRAW_BYTES) as u64);
        self.buffer.resize(records as usize * DRAW_BYTES, 0);
        self.file.read_exact_at(&mut self.buffer, self.left.start * DRAW_BYTES as u64)?;
        self.left.start += records;
        self.position = 0;
        Ok(records > 0)
    }
}

fn in_memory(records: Vec<[u8; DRAW_BYTES]>, numbers: &[u16]) -> Vec<Cursor> {
    let records = Arc::new(records);
    let start = |number: u16| records.partition_point(|record| [record[0], record[1]] < number.to_be_bytes());
    let end = |number: u16| number.checked_add(1).map_or(records.len(), start);
    numbers.iter().map(|&number| Cursor::Memory(Arc::clone(&records), start(number)..end(number))).collect()
}

/// Writes sorted records to one file, in which every source has its place.
fn spool(
    records: impl Iterator<Item = io::Result<[u8; DRAW_BYTES]>>,
    numbers: &[u16],
    memory_bytes: u64,
    scratch: &Path,
) -> io::Result<Vec<Cursor>> {
    let mut writer = BufWriter::with_capacity(SPOOL_BYTES, tempfile::tempfile_in(scratch)?);
    let mut ranges = vec![0..0; numbers.len()];
    let mut source = 0;
    let mut written: u64 = 0;
    for record in records {
        let record = record?;
        while [record[0], record[1]] != numbers[source].to_be_bytes() {
            source += 1;
            ranges[source] = written..written;
        }
        writer.write_all(&record)?;
        written += 1;
        ranges[source].end = written;
    }
    let file = Arc::new(writer.into_inner().map_err(io::IntoInnerError::into_error)?);
    let share = memory_bytes / CURSOR_SHARE / numbers.len() as u64;
    let buffer_bytes = share.clamp(CURSOR_BYTES.start, CURSOR_BYTES.end) as usize;
    let cursor = |left: Range<u64>| FileCursor { file: Arc::clone(&file), left, buffer: Vec::new(), buffer_bytes, position: 0 };
    Ok(ranges.into_iter().map(|range| Cursor::File(cursor(range))).collect())
}

#[cfg(test)]
mod tests {
    use mellama_shards::RunPlace;
    use mellama_shards::order::{Placed, order_domain};

    use super::*;

    fn runs(source: u16, count: u32, longest: u32) -> Vec<Run> {
        let prf = Prf::new(u64::from(source), "test");
        let run = |row: u32| {
            let hash = prf.hash(0, &row.to_le_bytes());
            // Some keys are equal, and some documents have no tokens.
            let key = if row % 50 == 1 { 7 } else { u128::from(hash) << 40 };
            let place = RunPlace { start: u64::from(row) << 20, check: hash };
            Run { object: row / 100, row: row % 100, tokens: (hash >> 32) as u32 % longest, key, source, place }
        };
        (0..count).map(run).collect()
    }

    fn share(runs: &[Run], tenths: u64) -> SourceShare {
        let supply: u64 = runs.iter().map(|run| u64::from(run.tokens)).sum();
        let quota = supply * tenths / 10 + tenths.min(3);
        SourceShare {
            source: runs.first().map_or(0, |run| run.source).to_string(),
            domain: 0,
            supply,
            quota,
            full_epochs: quota / supply,
            remainder: quota % supply,
        }
    }

    fn drawn(sources: &[(Vec<Run>, SourceShare)], memory_bytes: u64, batch: usize, reversed: bool) -> Vec<Placed> {
        let scratch = tempfile::tempdir().unwrap();
        let shares = sources.iter().map(|(runs, share)| (runs[0].source, share.clone())).collect();
        let mut draws = Draws::new(5, shares, memory_bytes, scratch.path());
        for (index, (runs, _)) in sources.iter().enumerate() {
            let mut batches: Vec<&[Run]> = runs.chunks(batch).collect();
            if reversed {
                batches.reverse();
            }
            for runs in batches {
                draws.push(index, runs).unwrap();
            }
        }
        let placed = draws.finish().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "a file has a name");
        placed
    }

    #[test]
    fn determinism_any_memory_and_arrival_give_the_order_of_the_sort_in_memory() {
        for tenths in [[3, 10, 25], [10, 1, 10], [31, 7, 0]] {
            let made = [runs(2, 9000, 300), runs(3, 900, 4000), runs(7, 40, 90)];
            let sources: Vec<_> = made.into_iter().zip(tenths).map(|(runs, t)| (runs.clone(), share(&runs, t))).collect();
            let (all, shares): (Vec<_>, Vec<_>) = sources.iter().cloned().unzip();
            let expected = order_domain(5, all, &shares).unwrap();
            for (memory, batch, reversed) in [(u64::MAX, 1000, false), (0, 1000, false), (0, 77, true), (1 << 20, 5000, true)] {
                assert_eq!(drawn(&sources, memory, batch, reversed), expected, "{tenths:?} {memory} {batch} {reversed}");
            }
            let alone = &sources[..1];
            let expected = order_domain(5, vec![alone[0].0.clone()], &shares[..1]).unwrap();
            assert_eq!(drawn(alone, 0, 500, true), expected, "one source, {tenths:?}");
        }
    }

    #[test]
    fn a_partial_pass_keeps_little_more_than_it_needs() {
        let mut limit = Limit::new(1000);
        let prf = Prf::new(1, "test");
        let admitted = (0..100_000_u64).filter(|id| limit.admits(prf.hash(0, &id.to_le_bytes()), 1)).count();
        // One in a hundred is needed; of the first n documents all of the 1000/n smallest are kept, which sums to
        // 1000 (1 + ln 100) = 5,600, and the width of a bucket, 1/4096, adds a few hundred.
        assert!((1000..7000).contains(&admitted), "{admitted}");
        assert!(limit.within >= 1000 && limit.within - limit.counts[limit.last] < 1000);
    }

    #[test]
    fn documents_that_are_not_the_supply_are_told() {
        let runs = runs(0, 500, 100);
        let planned = SourceShare { supply: 1 << 30, quota: 1 << 30, full_epochs: 1, remainder: 0, ..share(&runs, 10) };
        let scratch = tempfile::tempdir().unwrap();
        let mut draws = Draws::new(5, vec![(0, planned)], 0, scratch.path());
        draws.push(0, &runs).unwrap();
        let failed = draws.finish().unwrap().find_map(Result::err).unwrap().to_string();
        assert!(failed.contains("mixture planned with 1073741824"), "{failed}");
    }
}
