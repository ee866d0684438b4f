//! Reads token runs by row: one ranged read a document, or few large ones for a list of documents, each run proved.
//!
//! It keeps no tokens between calls.

use mellama_storage::RangeReader;

use crate::error::ShardError;
use crate::format::Width;
use crate::runs::{RunEntry, RunIndex, run_check};

/// Two runs this close are fetched in one read, in bytes; what lies between is thrown away.
pub const COALESCE_GAP_BYTES: u64 = 64 * 1024;

/// A coalesced read grows no further than this, in bytes; a single longer run is still read at once.
pub const COALESCE_READ_BYTES: u64 = 16 * 1024 * 1024;

/// The token object of an index.
#[derive(Debug)]
pub struct RunReader {
    index: RunIndex,
    tokens: RangeReader,
}

impl RunReader {
    /// Joins an index and its object.
    ///
    /// # Errors
    /// [`ShardError::Corrupt`] when the object's length is not that of the index's tokens.
    pub fn new(index: RunIndex, tokens: RangeReader) -> Result<Self, ShardError> {
        let (found, wanted) = (tokens.size_bytes(), index.totals().tokens.checked_mul(index.header().width.bytes()));
        if Some(found) != wanted {
            let problem = format!("{found} bytes, its index lists {} tokens", index.totals().tokens);
            return Err(ShardError::corrupt(tokens.key().as_str(), problem));
        }
        Ok(Self { index, tokens })
    }

    /// The index.
    pub fn index(&self) -> &RunIndex {
        &self.index
    }

    /// The tokens of document `row`, in one ranged read.
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`], the store's, or [`ShardError::Corrupt`] when they are not what was written.
    pub fn read(&self, row: u32) -> Result<Vec<u32>, ShardError> {
        Ok(self.read_many(&[row])?.pop().unwrap_or_default())
    }

    /// The tokens of each document of `rows`, in the order asked for. Rows may repeat and come in any order; neighbours in
    /// the object are fetched together.
    ///
    /// # Errors
    /// As [`RunReader::read`].
    pub fn read_many(&self, rows: &[u32]) -> Result<Vec<Vec<u32>>, ShardError> {
        let mut wanted = Vec::with_capacity(rows.len());
        for (place, &row) in rows.iter().enumerate() {
            wanted.push(Wanted { row, place, entry: *self.entry(row)? });
        }
        wanted.sort_unstable_by_key(|wanted| (wanted.row, wanted.place));
        let mut found = vec![Vec::new(); rows.len()];
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(coalesced(rest, self.width().bytes()));
            self.read_batch(batch, &mut found)?;
            rest = after;
        }
        Ok(found)
    }

    fn width(&self) -> Width {
        self.index.header().width
    }

    fn entry(&self, row: u32) -> Result<&RunEntry, ShardError> {
        let entries = self.index.entries();
        entries.get(row as usize).ok_or_else(|| ShardError::OutOfRange {
            subject: format!("{}: documents", self.tokens.key()),
            index: u64::from(row),
            length: entries.len() as u64,
        })
    }

    fn read_batch(&self, batch: &[Wanted], found: &mut [Vec<u32>]) -> Result<(), ShardError> {
        let width = self.width();
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            return Ok(());
        };
        let start = first.entry.offset * width.bytes();
        let length = last.end_bytes(width.bytes()) - start;
        let bytes = self.tokens.read_at(start, usize::try_from(length).expect("a read fits in memory"))?;
        for wanted in batch {
            let skip = (wanted.entry.offset * width.bytes() - start) as usize;
            let run = &bytes[skip..skip + (u64::from(wanted.entry.length) * width.bytes()) as usize];
            if run_check(run) != wanted.entry.check {
                let problem = format!("document {}: its bytes are not those that were written", wanted.row);
                return Err(ShardError::corrupt(self.tokens.key().as_str(), problem));
            }
            found[wanted.place] = decode_tokens(run, width);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    row: u32,
    /// Where the caller wants it.
    place: usize,
    entry: RunEntry,
}

impl Wanted {
    fn end_bytes(&self, width: u64) -> u64 {
        (self.entry.offset + u64::from(self.entry.length)) * width
    }
}

/// How many of the sorted runs go into one read, at least one.
fn coalesced(sorted: &[Wanted], width: u64) -> usize {
    let start = sorted[0].entry.offset * width;
    let mut end = sorted[0].end_bytes(width);
    let mut count = 1;
    for next in &sorted[1..] {
        let is_close = (next.entry.offset * width).saturating_sub(end) <= COALESCE_GAP_BYTES;
        if !is_close || next.end_bytes(width) - start > COALESCE_READ_BYTES {
            break;
        }
        end = end.max(next.end_bytes(width));
        count += 1;
    }
    count
}

fn decode_tokens(bytes: &[u8], width: Width) -> Vec<u32> {
    match width {
        Width::U16 => bytes.as_chunks().0.iter().map(|&pair| u32::from(u16::from_le_bytes(pair))).collect(),
        Width::U32 => bytes.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four)).collect(),
    }
}

#[cfg(test)]
mod tests;
