//! Rows of a Parquet file one by one, from record batches whose columns are looked up once each. After an error there are none.

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::errors::ParquetError;

use crate::archive::ArchiveError;

/// Rows decoded at a time. A row group of documents holds at most 64 MiB of text, so a batch is far below that.
pub(crate) const BATCH_ROWS: usize = 64;

/// The columns of one batch, by type.
pub(crate) trait BatchColumns: Sized {
    /// Looks the columns up.
    ///
    /// # Errors
    /// [`ArchiveError::Layout`] when one is missing or of another type.
    fn of(batch: &RecordBatch) -> Result<Self, ArchiveError>;

    /// Rows of the batch.
    fn len(&self) -> usize;
}

/// Walks the rows of all batches.
pub(crate) struct BatchRows<C> {
    batches: Option<ParquetRecordBatchReader>,
    /// The batch, and its next row.
    batch: Option<(C, usize)>,
}

impl<C: BatchColumns> BatchRows<C> {
    pub(crate) fn new(batches: ParquetRecordBatchReader) -> Self {
        Self { batches: Some(batches), batch: None }
    }

    /// What `read` makes of the next row: columns of its batch, index in it.
    pub(crate) fn next<T>(&mut self, read: impl FnOnce(&C, usize) -> Result<T, ArchiveError>) -> Option<Result<T, ArchiveError>> {
        let row = self.advance().and_then(|found| found.map(|(columns, index)| read(columns, index)).transpose());
        if !matches!(row, Ok(Some(_))) {
            *self = Self { batches: None, batch: None };
        }
        row.transpose()
    }

    fn advance(&mut self) -> Result<Option<(&C, usize)>, ArchiveError> {
        while self.batch.as_ref().is_none_or(|(columns, next)| *next >= columns.len()) {
            let Some(batch) = self.batches.as_mut().and_then(Iterator::next) else { return Ok(None) };
            let batch = batch.map_err(|error| ParquetError::General(error.to_string()))?;
            self.batch = Some((C::of(&batch)?, 0));
        }
        Ok(self.batch.as_mut().map(|(columns, next)| {
            *next += 1;
            (&*columns, *next - 1)
        }))
    }
}
