//! Reads one shard file: footer and header checked on open, sequences by row or by row group.
//!
//! Damage is an error with the object's name, never a panic and never another sequence. It caches nothing; [`crate::set`]
//! does.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parquet::file::reader::ChunkReader;
use serde::Deserialize;

use crate::columns::ColumnFile;
use crate::error::ShardError;
use crate::format::{
    COLUMNS, FORMAT_VERSION, HEADER_KEY, OLDEST_VERSION, ROW_GROUP_SEQUENCES, Segment, Sequence, ShardHeader, ShardTotals,
    TOTALS_KEY, is_known, stored_schema,
};
pub use crate::row_group::RowGroup;
use crate::row_group::SegmentColumns;

/// An open shard. It may be shared between threads.
#[derive(Clone)]
pub struct ShardFile {
    file: ColumnFile,
    /// Sequences of a row group; the last one may have fewer.
    group_rows: usize,
    header: Arc<ShardHeader>,
    totals: Arc<ShardTotals>,
}

impl fmt::Debug for ShardFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardFile").field("name", &self.name()).field("rows", &self.rows()).finish_non_exhaustive()
    }
}

impl ShardFile {
    /// Opens a shard and checks footer, header, columns, row groups and totals against each other; no page is read.
    ///
    /// `name` is the object's key, for messages.
    ///
    /// # Errors
    /// [`ShardError::Version`] for another format version, [`ShardError::Parquet`] or [`ShardError::Corrupt`] for damage.
    pub fn open<R: ChunkReader + 'static>(name: &str, reader: R) -> Result<Self, ShardError> {
        let file = ColumnFile::open(name, reader)?;
        let header = read_header(&file)?;
        header.check().map_err(|error| ShardError::corrupt(name, error.to_string()))?;
        let totals: ShardTotals = file.sealed(TOTALS_KEY)?;
        file.check_schema(&stored_schema(&header))?;
        let group_rows = file.first_group_rows().clamp(1, ROW_GROUP_SEQUENCES);
        file.check_row_groups(totals.sequences, group_rows)?;
        check_totals(name, &totals, &header)?;
        Ok(Self { file, group_rows, header: Arc::new(header), totals: Arc::new(totals) })
    }

    /// The object's key, as given to [`ShardFile::open`].
    pub fn name(&self) -> &str {
        self.file.name()
    }

    /// What holds for every sequence.
    pub fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// What the shard adds up to, as its footer says; [`crate::verify::verify_shard`] proves it.
    pub fn totals(&self) -> &ShardTotals {
        &self.totals
    }

    /// Number of sequences.
    pub fn rows(&self) -> u64 {
        self.totals.sequences
    }

    /// Sequences of a row group; the last one may have fewer.
    pub fn row_group_rows(&self) -> usize {
        self.group_rows
    }

    /// Number of row groups.
    pub fn row_groups(&self) -> usize {
        self.file.row_groups()
    }

    /// Sequence `row`. It decodes the whole row group; [`crate::set::ShardSet`] keeps them.
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`], or the damage found.
    pub fn sequence(&self, row: u64) -> Result<Sequence, ShardError> {
        self.check_row(row)?;
        let group = self.read_row_group(row as usize / self.group_rows)?;
        group.sequence(row as usize % self.group_rows)
    }

    /// The sequences of `rows`, in order; each row group is decoded once.
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`], or the damage found.
    pub fn read_rows(&self, rows: Range<u64>) -> Result<Vec<Sequence>, ShardError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.check_row(rows.end - 1)?;
        let mut sequences = Vec::with_capacity((rows.end - rows.start) as usize);
        let group_of = |row: u64| row as usize / self.group_rows;
        for index in group_of(rows.start)..=group_of(rows.end - 1) {
            let group = self.read_row_group(index)?;
            let first = group.first_row();
            let (start, end) = (rows.start.max(first), rows.end.min(first + group.len() as u64));
            for row in start..end {
                sequences.push(group.sequence((row - first) as usize)?);
            }
        }
        Ok(sequences)
    }

    /// The segments of every sequence of row group `index`; the tokens are not read.
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`], or the damage found.
    pub fn segments(&self, index: usize) -> Result<Vec<Vec<Segment>>, ShardError> {
        let columns = self.read_segments(index)?;
        Ok((0..columns.rows()).map(|row| columns.row(row)).collect())
    }

    /// All sequences of row group `index`, in one ranged read.
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`], or the damage found.
    pub fn read_row_group(&self, index: usize) -> Result<RowGroup, ShardError> {
        let batch = self.file.read(index, 0..COLUMNS.len())?;
        let first_row = (index * self.group_rows) as u64;
        RowGroup::new(self.name(), Arc::clone(&self.header), first_row, &batch)
    }

    /// The segments of row group `index` without its tokens, which are not read.
    pub(crate) fn read_segments(&self, index: usize) -> Result<SegmentColumns, ShardError> {
        let batch = self.file.read(index, 1..6)?;
        SegmentColumns::new(self.name(), &batch)
    }

    fn check_row(&self, row: u64) -> Result<(), ShardError> {
        if row < self.rows() {
            return Ok(());
        }
        Err(ShardError::OutOfRange { subject: self.name().to_owned(), index: row, length: self.rows() })
    }
}

/// Reads the version first, so that a header of a later format is named as such whatever else changed in it.
fn read_header(file: &ColumnFile) -> Result<ShardHeader, ShardError> {
    #[derive(Deserialize)]
    struct VersionOnly {
        format_version: u32,
    }
    let VersionOnly { format_version } = file.sealed(HEADER_KEY)?;
    if !is_known(format_version) {
        return Err(ShardError::Version {
            subject: file.name().to_owned(),
            found: format_version,
            oldest: OLDEST_VERSION,
            known: FORMAT_VERSION,
        });
    }
    file.sealed(HEADER_KEY)
}

fn check_totals(name: &str, totals: &ShardTotals, header: &ShardHeader) -> Result<(), ShardError> {
    let positions = u128::from(totals.sequences) * u128::from(header.sequence_length);
    let sum = u128::from(totals.tokens) + u128::from(totals.padding);
    if sum != positions || totals.source_tokens.len() != header.sources.len() {
        let problem = format!("footer totals: {sum} tokens and padding, {} sequences have {positions}", totals.sequences);
        return Err(ShardError::corrupt(name, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
