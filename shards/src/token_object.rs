//! Reads parts of documents from an object of token runs by their places: few large reads, each document proved by its check.
//!
//! It needs no index: whoever placed the documents in an order wrote down where they lie. It keeps no tokens between calls.

use mellama_storage::RangeReader;

use crate::error::ShardError;
use crate::format::Width;
use crate::runs::run_check;

/// Two runs this close are fetched in one read, in bytes; what lies between is thrown away.
pub const COALESCE_GAP_BYTES: u64 = 64 * 1024;

/// A coalesced read grows no further than this, in bytes; a single longer run is still read at once.
pub const COALESCE_READ_BYTES: u64 = 16 * 1024 * 1024;

/// Where a document's tokens lie in their object, and what proves them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunPlace {
    /// First token in the object.
    pub start: u64,
    /// First 8 bytes, little-endian, of BLAKE3 over the document's bytes there.
    pub check: u64,
}

/// Tokens of a document that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunPart {
    /// Row of the document in its object, for messages.
    pub row: u32,
    /// Tokens of the whole document.
    pub tokens: u32,
    /// Where they lie.
    pub place: RunPlace,
    /// First token wanted, counted in the document.
    pub offset: u32,
    /// Number of tokens wanted.
    pub length: u32,
}

/// An object of token ids back to back.
#[derive(Debug)]
pub struct TokenObject {
    object: RangeReader,
    width: Width,
}

/// Tokens as they lie in the object.
#[derive(Debug, Clone, Copy)]
pub struct RunBytes<'a> {
    bytes: &'a [u8],
    width: Width,
}

impl TokenObject {
    /// An object of `tokens` ids of this width.
    ///
    /// # Errors
    /// [`ShardError::Corrupt`] when it has another length.
    pub fn new(object: RangeReader, width: Width, tokens: u64) -> Result<Self, ShardError> {
        let found = object.size_bytes();
        if Some(found) != tokens.checked_mul(width.bytes()) {
            let problem = format!("{found} bytes, its index lists {tokens} tokens");
            return Err(ShardError::corrupt(object.key().as_str(), problem));
        }
        Ok(Self { object, width })
    }

    /// The object's key.
    pub fn name(&self) -> &str {
        self.object.key().as_str()
    }

    /// Shows the tokens of each of `parts` to `take`, with the part's place in the list. They come in the order of the object;
    /// neighbours are fetched together, and a document is read and proved whole, once for all its parts in one fetch.
    ///
    /// # Errors
    /// The store's, or [`ShardError::Corrupt`] for a part outside its document, a document outside the object, or tokens that
    /// are not what was written.
    pub fn read_parts(&self, parts: &[RunPart], take: &mut dyn FnMut(usize, RunBytes<'_>)) -> Result<(), ShardError> {
        let mut wanted = Vec::with_capacity(parts.len());
        for (at, &part) in parts.iter().enumerate() {
            self.check_part(&part)?;
            wanted.push((part, at));
        }
        wanted.sort_unstable_by_key(|(part, at)| (part.place.start, part.row, *at));
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(coalesced(rest, self.width.bytes()));
            self.read_batch(batch, take)?;
            rest = after;
        }
        Ok(())
    }

    fn check_part(&self, part: &RunPart) -> Result<(), ShardError> {
        let RunPart { row, tokens, place, offset, length } = *part;
        let end = place.start.checked_add(u64::from(tokens)).and_then(|end| end.checked_mul(self.width.bytes()));
        let problem = if u64::from(offset) + u64::from(length) > u64::from(tokens) {
            format!("document {row}: {length} tokens from {offset}, it has {tokens}")
        } else if end.is_none_or(|end| end > self.object.size_bytes()) {
            format!("document {row}: {tokens} tokens from {}, past the end of the object", place.start)
        } else {
            return Ok(());
        };
        Err(ShardError::corrupt(self.name(), problem))
    }

    fn read_batch(&self, batch: &[(RunPart, usize)], take: &mut dyn FnMut(usize, RunBytes<'_>)) -> Result<(), ShardError> {
        let width = self.width;
        let start = batch[0].0.place.start * width.bytes();
        let end = batch.iter().map(|(part, _)| end_bytes(part, width.bytes())).max().unwrap_or(start);
        let bytes = self.object.read_at(start, usize::try_from(end - start).expect("a read fits in memory"))?;
        let mut proved = None;
        for (part, at) in batch {
            let run =
                &bytes[(part.place.start * width.bytes() - start) as usize..(end_bytes(part, width.bytes()) - start) as usize];
            let identity = Some((part.place, part.tokens));
            if proved != identity && run_check(run) != part.place.check {
                let problem = format!("document {}: its bytes are not those that were written", part.row);
                return Err(ShardError::corrupt(self.name(), problem));
            }
            proved = identity;
            let skip = (u64::from(part.offset) * width.bytes()) as usize;
            let taken = &run[skip..skip + (u64::from(part.length) * width.bytes()) as usize];
            take(*at, RunBytes { bytes: taken, width });
        }
        Ok(())
    }
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

fn end_bytes(part: &RunPart, width: u64) -> u64 {
    (part.place.start + u64::from(part.tokens)) * width
}

/// How many of the sorted parts go into one read, at least one.
fn coalesced(sorted: &[(RunPart, usize)], width: u64) -> usize {
    let start = sorted[0].0.place.start * width;
    let mut end = end_bytes(&sorted[0].0, width);
    let mut count = 1;
    for (next, _) in &sorted[1..] {
        let is_close = (next.place.start * width).saturating_sub(end) <= COALESCE_GAP_BYTES;
        if !is_close || end_bytes(next, width) - start > COALESCE_READ_BYTES {
            break;
        }
        end = end.max(end_bytes(next, width));
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests;
