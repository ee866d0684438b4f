//! Parquet: one row, one document. Offsets of documents and rejects are row numbers.
//!
//! Columns come from the recipe's `fields` (members of a struct with a dot); other top-level columns with a spelling go into
//! the meta data, lists and binaries are left out. A damaged file is one reject where it breaks off, and the end: rows behind
//! a damaged page cannot be trusted. Rows are decoded a few at a time. A part is the row groups that begin in it.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::compression::StreamFault;
use crate::input::{Input, RangeRead};
use crate::parquet_chunks::Chunks;
use crate::parquet_columns::{Column, Cursor};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::reject::RejectReason;
use crate::row::{Cell, Columns, Meta, Row};

/// Largest object read into memory where only a stream of it is given, in bytes.
pub(crate) const MAX_STREAMED_BYTES: u64 = 256 << 20;
/// What a row counts for against the limits on expansion even if it is empty, in bytes.
const ROW_BYTES: u64 = 16;
/// Most columns read for the meta data.
const MAX_META_COLUMNS: usize = 64;

/// Reads Parquet.
pub struct ParquetReader {
    context: SourceContext,
    columns: Columns,
    limits: Limits,
    chunks: Chunks,
    state: State,
    /// Number of the next row.
    row: u64,
    /// Row groups that begin at it or behind it are not read.
    end: u64,
    /// Bytes given out, or refused for their size.
    expanded: u64,
}

enum State {
    /// The file cannot be read; the reject is still to be given out.
    Refused(RejectReason),
    Open(Box<Table>),
    Ended,
}

struct Table {
    file: SerializedFileReader<Chunks>,
    selected: Vec<(Use, Column)>,
    /// The next row group, and the one behind the last that is read.
    group: usize,
    groups: usize,
    /// Rows of the current row group that are still to come.
    rows_left: u64,
    cursors: Vec<Cursor>,
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Id,
    Text,
    Title,
    Year,
    Licence,
    Version,
    Meta,
}

/// Why a row is not there.
enum Stop {
    End,
    Bad(ParquetError),
    Panicked,
}

impl ParquetReader {
    /// Opens an object and reads its footer. A stream is read into memory first.
    ///
    /// # Errors
    /// [`ReadError`] when the bytes cannot be had.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        let columns = Columns::of(&context.fields);
        let (object, refused) = match input {
            Input::Random(object) => (object, None),
            other => {
                let stream = other.into_stream();
                let mut bytes = Vec::new();
                let reason = match stream.take(MAX_STREAMED_BYTES + 1).read_to_end(&mut bytes) {
                    Ok(length) if length as u64 > MAX_STREAMED_BYTES => {
                        Some(RejectReason::over_limit("streamed_bytes", MAX_STREAMED_BYTES))
                    }
                    Ok(_) => None,
                    Err(error) => match StreamFault::of(&error) {
                        Some(StreamFault(reason)) => Some(reason.clone()),
                        None => return Err(context.read_error(0, error)),
                    },
                };
                (Box::new(bytes) as Box<dyn RangeRead>, reason)
            }
        };
        let part = object.part();
        let (row, end) = part.map_or((0, u64::MAX), |part| (part.first, part.end));
        let empty = object.is_empty().then_some(RejectReason::EmptyObject);
        let chunks = Chunks::new(object);
        let limits = limits.clone();
        let mut reader = Self { context, columns, limits, chunks, state: State::Ended, row, end, expanded: 0 };
        reader.state = match refused.or(empty) {
            Some(reason) => State::Refused(reason),
            None => reader.open_table()?,
        };
        if row > 0 && matches!(reader.state, State::Refused(_)) {
            // What is wrong with the whole file is told by its first part.
            reader.state = State::Ended;
        }
        Ok(reader)
    }

    fn open_table(&self) -> Result<State, ReadError> {
        let chunks = self.chunks.clone();
        match guarded(|| SerializedFileReader::new(chunks)) {
            Ok(file) => Ok(match select(&file, &self.columns) {
                Ok(selected) => {
                    let (group, groups) = groups_between(&file, self.row, self.end);
                    State::Open(Box::new(Table { file, selected, group, groups, rows_left: 0, cursors: Vec::new() }))
                }
                Err(reason) => State::Refused(reason),
            }),
            Err(stop) => self.reason_of(&stop).map(State::Refused),
        }
    }

    /// The reason in our words: the decoder's may quote data.
    fn reason_of(&self, stop: &Stop) -> Result<RejectReason, ReadError> {
        if let Some(error) = self.chunks.take_failure() {
            return Err(self.context.read_error(self.row, error));
        }
        let what = match stop {
            Stop::Panicked => "the decoder failed",
            Stop::Bad(ParquetError::EOF(_)) => "ends before what it announces",
            Stop::Bad(ParquetError::NYI(_)) => "an encoding, compression or type that is not read",
            Stop::Bad(_) | Stop::End => "a damaged footer, page or value",
        };
        Ok(RejectReason::MalformedParquet { what: what.to_owned() })
    }

    fn reject(&self, bytes: u64, reason: RejectReason) -> Item {
        Item::Reject(self.context.reject(self.row, bytes, reason))
    }

    fn row_item(&mut self, table: &Table) -> Item {
        let mut row = Row::default();
        let mut bytes = 0;
        for ((purpose, column), cursor) in table.selected.iter().zip(&table.cursors) {
            let cell = match cursor.cell(self.limits.record_bytes) {
                Ok(cell) => cell,
                Err(size) => {
                    self.expanded += size;
                    return self.reject(size, RejectReason::over_limit("record_bytes", self.limits.record_bytes));
                }
            };
            if let Cell::Scalar(value) = &cell {
                bytes += value.len() as u64;
            }
            match purpose {
                Use::Id => row.id = cell,
                Use::Text => row.text = cell,
                Use::Title => row.title = cell,
                Use::Year => row.year = cell,
                Use::Licence => row.licence = cell,
                Use::Version => row.version = cell,
                Use::Meta => add(&mut row.meta, &column.name, &cell),
            }
        }
        self.expanded += bytes + ROW_BYTES;
        row.into_item(&self.context, &self.columns, self.row, bytes)
    }

    fn over_expanded(&self) -> Option<RejectReason> {
        use parquet::file::reader::Length;
        if self.expanded > self.limits.object_bytes {
            return Some(RejectReason::over_limit("object_bytes", self.limits.object_bytes));
        }
        let allowed = self.chunks.len().saturating_mul(self.limits.expansion_ratio).max(self.limits.expansion_free_bytes);
        (self.expanded > allowed).then(|| RejectReason::over_limit("expansion_ratio", self.limits.expansion_ratio))
    }
}

fn add(meta: &mut Meta, name: &str, cell: &Cell) {
    if let Cell::Scalar(value) = cell {
        meta.insert(name, value);
    }
}

impl Reader for ParquetReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        let mut table = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return None,
            State::Refused(reason) => return Some(Ok(self.reject(0, reason))),
            State::Open(table) => table,
        };
        if let Some(reason) = self.over_expanded() {
            return Some(Ok(self.reject(0, reason)));
        }
        match table.advance() {
            Ok(()) => {
                let item = self.row_item(&table);
                self.row += 1;
                self.state = State::Open(table);
                Some(Ok(item))
            }
            Err(Stop::End) => None,
            Err(stop) => Some(self.reason_of(&stop).map(|reason| self.reject(0, reason))),
        }
    }
}

impl Table {
    /// Goes to the next row.
    fn advance(&mut self) -> Result<(), Stop> {
        while self.rows_left == 0 {
            if self.group >= self.groups {
                return Err(Stop::End);
            }
            let group = guarded(|| self.file.get_row_group(self.group))?;
            let rows = group.metadata().num_rows();
            self.rows_left =
                u64::try_from(rows).map_err(|_| Stop::Bad(ParquetError::General("a negative number of rows".to_owned())))?;
            self.cursors = guarded(|| self.selected.iter().map(|(_, column)| column.cursor(group.as_ref())).collect())?;
            self.group += 1;
        }
        self.rows_left -= 1;
        let cursors = &mut self.cursors;
        guarded(|| cursors.iter_mut().try_for_each(Cursor::advance))
    }
}

/// The row groups that begin at row `first` or behind it, and before row `end`.
fn groups_between(file: &SerializedFileReader<Chunks>, first: u64, end: u64) -> (usize, usize) {
    let mut row = 0_u64;
    let starts = file.metadata().row_groups().iter().map(|group| {
        let start = row;
        row = row.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0));
        start
    });
    let starts: Vec<u64> = starts.collect();
    (starts.partition_point(|start| *start < first), starts.partition_point(|start| *start < end))
}

/// Calls into the decoder; a panic there must not end the run.
fn guarded<T>(call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Stop> {
    catch_unwind(AssertUnwindSafe(call)).map_or(Err(Stop::Panicked), |result| result.map_err(Stop::Bad))
}

/// The columns to read, or what is wrong with the schema.
fn select(file: &SerializedFileReader<Chunks>, columns: &Columns) -> Result<Vec<(Use, Column)>, RejectReason> {
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let names = |index: usize| schema.column(index).path().string();
    let exists = |name: &str| {
        let below = format!("{name}.");
        (0..schema.num_columns()).any(|index| names(index) == name || names(index).starts_with(&below))
    };
    let readable: Vec<Column> = (0..schema.num_columns()).filter_map(|index| Column::of(index, &schema.column(index))).collect();
    let find = |name: &str| readable.iter().find(|column| column.name == name).cloned();
    let mut selected = Vec::new();
    let wanted = [
        (Use::Text, Some(&columns.text), true),
        (Use::Id, Some(&columns.id), columns.id_required),
        (Use::Title, Some(&columns.title), false),
        (Use::Year, columns.year.as_ref(), true),
        (Use::Licence, columns.licence.as_ref(), true),
        (Use::Version, columns.version.as_ref(), true),
    ];
    for (purpose, name, required) in wanted {
        let Some(name) = name else { continue };
        match find(name) {
            Some(column) if purpose != Use::Text || column.is_text => {
                selected.push((purpose, column));
            }
            Some(_) => {
                return Err(RejectReason::WrongType { field: name.clone() });
            }
            None if !required => {}
            None if exists(name) => {
                return Err(RejectReason::WrongType { field: name.clone() });
            }
            None => {
                return Err(RejectReason::MissingField { field: name.clone() });
            }
        }
    }
    let others = readable.into_iter().filter(|column| !column.name.contains('.') && !columns.is_mapped(&column.name));
    selected.extend(others.take(MAX_META_COLUMNS).map(|column| (Use::Meta, column)));
    Ok(selected)
}

impl std::fmt::Debug for ParquetReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ParquetReader").field("context", &self.context).field("row", &self.row).finish_non_exhaustive()
    }
}
