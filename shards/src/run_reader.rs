//! Reads token runs by row: an object of tokens joined with its index, which says where each document lies.
//!
//! It keeps no tokens between calls. What reads and proves them is [`TokenObject`].

use mellama_storage::RangeReader;

use crate::error::ShardError;
use crate::runs::{RunEntry, RunIndex};
use crate::token_object::{RunPart, TokenObject};

/// The token object of an index.
#[derive(Debug)]
pub struct RunReader {
    index: RunIndex,
    tokens: TokenObject,
}

impl RunReader {
    /// Joins an index and its object.
    ///
    /// # Errors
    /// [`ShardError::Corrupt`] when the object's length is not that of the index's tokens.
    pub fn new(index: RunIndex, tokens: RangeReader) -> Result<Self, ShardError> {
        let tokens = TokenObject::new(tokens, index.header().width, index.totals().tokens)?;
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
        let whole = |&row: &u32| {
            let entry = self.entry(row)?;
            Ok(RunPart { row, tokens: entry.length, place: entry.place(), offset: 0, length: entry.length })
        };
        let parts = rows.iter().map(whole).collect::<Result<Vec<_>, ShardError>>()?;
        let mut found = vec![Vec::new(); rows.len()];
        self.tokens.read_parts(&parts, &mut |place, tokens| {
            found[place] = vec![0; tokens.len()];
            tokens.copy_to(&mut found[place]);
        })?;
        Ok(found)
    }

    fn entry(&self, row: u32) -> Result<&RunEntry, ShardError> {
        let entries = self.index.entries();
        entries.get(row as usize).ok_or_else(|| ShardError::OutOfRange {
            subject: format!("{}: documents", self.tokens.name()),
            index: u64::from(row),
            length: entries.len() as u64,
        })
    }
}

#[cfg(test)]
mod tests;
