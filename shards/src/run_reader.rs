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
        let whole = |&row: &u32| self.entry(row).map(|entry| RunPart { row, offset: 0, length: entry.length });
        let parts = rows.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
        let mut found = vec![Vec::new(); rows.len()];
        self.read_parts(&parts, &mut |place, tokens| {
            found[place] = vec![0; tokens.len()];
            tokens.copy_to(&mut found[place]);
        })?;
        Ok(found)
    }

    /// Shows the tokens of each of `parts` to `take`, with the part's place in the list. They come in the order of their
    /// rows; neighbours in the object are fetched together, and a document is read and proved whole, once for all its parts
    /// of one fetch.
    ///
    /// # Errors
    /// As [`RunReader::read`]; [`ShardError::Corrupt`] for a part that reaches past its document.
    pub fn read_parts(&self, parts: &[RunPart], take: &mut dyn FnMut(usize, RunBytes<'_>)) -> Result<(), ShardError> {
        let mut wanted = Vec::with_capacity(parts.len());
        for (place, &part) in parts.iter().enumerate() {
            let entry = *self.entry(part.row)?;
            if u64::from(part.offset) + u64::from(part.length) > u64::from(entry.length) {
                let RunPart { row, offset, length } = part;
                let problem = format!("document {row}: {length} tokens from {offset}, it has {}", entry.length);
                return Err(ShardError::corrupt(self.tokens.key().as_str(), problem));
            }
            wanted.push(Wanted { part, place, entry });
        }
        wanted.sort_unstable_by_key(|wanted| (wanted.part.row, wanted.place));
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(coalesced(rest, self.width().bytes()));
            self.read_batch(batch, take)?;
            rest = after;
        }
        Ok(())
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

    fn read_batch(&self, batch: &[Wanted], take: &mut dyn FnMut(usize, RunBytes<'_>)) -> Result<(), ShardError> {
        let width = self.width();
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            return Ok(());
        };
        let start = first.entry.offset * width.bytes();
        let length = last.end_bytes(width.bytes()) - start;
        let bytes = self.tokens.read_at(start, usize::try_from(length).expect("a read fits in memory"))?;
        let mut proved = None;
        for wanted in batch {
            let Wanted { part, place, entry } = wanted;
            let skip = (entry.offset * width.bytes() - start) as usize;
            let run = &bytes[skip..skip + (u64::from(entry.length) * width.bytes()) as usize];
            if proved != Some(part.row) && run_check(run) != entry.check {
                let problem = format!("document {}: its bytes are not those that were written", part.row);
                return Err(ShardError::corrupt(self.tokens.key().as_str(), problem));
            }
            proved = Some(part.row);
            let skip = (u64::from(part.offset) * width.bytes()) as usize;
            let taken = &run[skip..skip + (u64::from(part.length) * width.bytes()) as usize];
            take(*place, RunBytes { bytes: taken, width });
        }
        Ok(())
    }
}

/// Tokens of a document that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunPart {
    /// Row of the document in its object.
    pub row: u32,
    /// First token, counted in the document.
    pub offset: u32,
    /// Number of tokens.
    pub length: u32,
}

/// Tokens as they lie in the object.
#[derive(Debug, Clone, Copy)]
pub struct RunBytes<'a> {
    bytes: &'a [u8],
    width: Width,
}

impl RunBytes<'_> {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.width.bytes() as usize
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes the tokens.
    ///
    /// # Panics
    /// When `out` has not the length of the tokens.
    pub fn copy_to(&self, out: &mut [u32]) {
        assert_eq!(out.len(), self.len(), "room for the tokens of a part");
        match self.width {
            Width::U16 => {
                let pairs = self.bytes.as_chunks().0;
                out.iter_mut().zip(pairs).for_each(|(id, &pair)| *id = u32::from(u16::from_le_bytes(pair)));
            }
            Width::U32 => {
                let fours = self.bytes.as_chunks().0;
                out.iter_mut().zip(fours).for_each(|(id, &four)| *id = u32::from_le_bytes(four));
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    part: RunPart,
    /// Where it stands in the caller's list.
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

#[cfg(test)]
mod tests;
