//! CSV and TSV with a header: one record, one document.
//!
//! Columns come from the recipe's `fields`; every other one goes into the meta data. A ragged or undecodable record is a
//! reject with its offset, and the file goes on. A file whose header lacks a column that the recipe names, or the text, is one
//! reject. It does not guess types, and headers are compared as written, then without regard to case.

use crate::compression::without_compression;
use crate::csv_records::{CsvRecords, Entry};
use crate::input::Input;
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::reject::RejectReason;
use crate::row::{Cell, Columns, Meta, Row};

/// Reads CSV and TSV.
#[derive(Debug)]
pub struct CsvReader {
    table: CsvTable,
    columns: Columns,
}

impl CsvReader {
    /// Opens an object and reads its first line.
    ///
    /// # Errors
    /// [`ReadError`] when the first bytes cannot be had.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        let columns = Columns::of(&context.fields);
        let delimiter = delimiter_of(&context.object);
        Ok(Self { table: CsvTable::open(context, input, delimiter, limits)?, columns })
    }

    /// Columns that the recipe names must be there; those by default need not, but for the text.
    fn missing_column(&self) -> Option<RejectReason> {
        let columns = &self.columns;
        let fields = &self.table.context.fields;
        let optional = [&fields.id, &fields.title, &fields.year, &fields.licence, &fields.version];
        let named = optional.into_iter().flatten().chain([&columns.text]);
        let missing = named.into_iter().find(|name| self.table.index(name).is_none())?;
        Some(RejectReason::MissingField { field: missing.clone() })
    }
}

impl Reader for CsvReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        match self.table.read_header() {
            Ok(HeaderState::Known) => {}
            Ok(HeaderState::New) => {
                if let Some(reason) = self.missing_column() {
                    return Some(Ok(self.table.refuse(reason)));
                }
            }
            Ok(HeaderState::Ended) => return None,
            Ok(HeaderState::Bad(item)) => return Some(Ok(*item)),
            Err(error) => return Some(Err(error)),
        }
        let columns = &self.columns;
        self.table.next_with(|table, offset, bytes| row_of(table, columns).into_item(&table.context, columns, offset, bytes))
    }

    fn pass_to(&mut self, offset: u64) {
        self.table.pass_to(offset);
    }
}

fn row_of(table: &CsvTable, columns: &Columns) -> Row {
    let optional = |name: &Option<String>| name.as_deref().map_or(Cell::Absent, |name| table.cell(name));
    let filled = |name: &str| match table.cell(name) {
        Cell::Scalar(text) if text.is_empty() => Cell::Absent,
        cell => cell,
    };
    let mut meta = Meta::default();
    // By place: a header that differs in case is still the column's, and what is cleaned as text is not to stand here as it was.
    let mapped: Vec<usize> = columns.names().filter_map(|name| table.index(name)).collect();
    for (index, name) in table.header.iter().enumerate().filter(|(index, _)| !mapped.contains(index)) {
        if let Some(Ok(value)) = table.records.field(index).map(std::str::from_utf8) {
            meta.insert(name, value);
        }
    }
    Row {
        id: filled(&columns.id),
        text: table.cell(&columns.text),
        title: filled(&columns.title),
        year: optional(&columns.year),
        licence: optional(&columns.licence),
        version: columns.version.as_deref().map_or(Cell::Absent, filled),
        meta,
    }
}

/// One row of a table: columns and values in the order of the header.
pub type NamedFields = Vec<(String, String)>;

/// The rows of a table with a header, for tables that are no corpus, such as benchmarks. Compressed ones are
/// decoded; the delimiter is told as for sources.
///
/// # Errors
/// The offset and reason of the first record that cannot be read.
pub fn rows(name: &str, bytes: Vec<u8>, limits: &Limits) -> Result<Vec<NamedFields>, (u64, RejectReason)> {
    let unreadable = |error: std::io::Error| (0, RejectReason::MalformedCsv { what: error.to_string() });
    let mut records = CsvRecords::open(Input::from_bytes(bytes), delimiter_of(name), limits).map_err(unreadable)?;
    let (mut header, mut rows): (Vec<String>, _) = (Vec::new(), Vec::new());
    loop {
        let offset = match records.read().map_err(unreadable)? {
            Entry::End => return Ok(rows),
            Entry::Bad { offset, reason, .. } | Entry::Fault { offset, reason, .. } => return Err((offset, reason)),
            Entry::Record { offset, .. } => offset,
        };
        let fields = (0..records.columns()).filter_map(|index| records.field(index));
        let fields: Result<Vec<String>, _> = fields.map(|field| std::str::from_utf8(field).map(str::to_owned)).collect();
        let fields = fields.map_err(|_| (offset, RejectReason::InvalidUtf8))?;
        if header.is_empty() {
            header = fields;
        } else if fields.len() == header.len() {
            rows.push(header.iter().cloned().zip(fields).collect());
        } else {
            let what = format!("{} fields, header has {}", fields.len(), header.len());
            return Err((offset, RejectReason::MalformedCsv { what }));
        }
    }
}

/// Tab for `.tsv` and `.tab` (compressed too), else told from the header.
fn delimiter_of(object: &str) -> Option<u8> {
    let name = object.to_ascii_lowercase();
    matches!(without_compression(&name).rsplit('.').next(), Some("tsv" | "tab")).then_some(b'\t')
}

/// What asking for the header gave.
pub(crate) enum HeaderState {
    /// It was read before.
    Known,
    /// It was read just now.
    New,
    /// There is nothing more.
    Ended,
    /// It cannot be read; nothing comes after this reject.
    Bad(Box<Item>),
}

/// A table with a header: what the readers of CSV share.
#[derive(Debug)]
pub(crate) struct CsvTable {
    pub(crate) context: SourceContext,
    pub(crate) header: Vec<String>,
    records: CsvRecords,
    /// Records that begin before this offset are not wanted.
    wanted_from: u64,
    ended: bool,
}

impl CsvTable {
    pub(crate) fn open(context: SourceContext, input: Input, delimiter: Option<u8>, limits: &Limits) -> Result<Self, ReadError> {
        match CsvRecords::open(input, delimiter, limits) {
            Ok(records) => Ok(Self { context, header: Vec::new(), records, wanted_from: 0, ended: false }),
            Err(error) => Err(context.read_error(0, error)),
        }
    }

    /// As [`Reader::pass_to`]: records are told apart all the same, since quotes decide where they end.
    pub(crate) fn pass_to(&mut self, offset: u64) {
        self.wanted_from = offset;
    }

    /// Where a column stands.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        let exact = self.header.iter().position(|column| column == name);
        exact.or_else(|| self.header.iter().position(|column| column.eq_ignore_ascii_case(name)))
    }

    /// A column of the current record.
    pub(crate) fn cell(&self, name: &str) -> Cell {
        match self.index(name).and_then(|index| self.records.field(index)) {
            None => Cell::Absent,
            Some(bytes) => std::str::from_utf8(bytes).map_or(Cell::NotUtf8, |text| Cell::Scalar(text.to_owned())),
        }
    }

    /// Ends the file with one reject.
    pub(crate) fn refuse(&mut self, reason: RejectReason) -> Item {
        self.ended = true;
        Item::Reject(self.context.reject(0, 0, reason))
    }

    /// Reads the header unless it is known.
    pub(crate) fn read_header(&mut self) -> Result<HeaderState, ReadError> {
        if self.ended {
            return Ok(HeaderState::Ended);
        }
        if !self.header.is_empty() {
            return Ok(HeaderState::Known);
        }
        let reason = match self.read_entry()? {
            Entry::Record { .. } => {
                let names: Result<Vec<String>, _> = (0..self.records.columns())
                    .filter_map(|index| self.records.field(index))
                    .map(|name| std::str::from_utf8(name).map(|name| name.trim().to_owned()))
                    .collect();
                match names {
                    Ok(names) => {
                        self.header = names;
                        return Ok(HeaderState::New);
                    }
                    Err(_) => RejectReason::InvalidUtf8,
                }
            }
            Entry::End => RejectReason::EmptyObject,
            Entry::Bad { reason, .. } | Entry::Fault { reason, .. } => reason,
        };
        Ok(HeaderState::Bad(Box::new(self.refuse(reason))))
    }

    fn read_entry(&mut self) -> Result<Entry, ReadError> {
        let offset = self.records.offset();
        self.records.read().map_err(|error| {
            self.ended = true;
            self.context.read_error(offset, error)
        })
    }

    /// The item that `convert` makes of the next record with as many fields as the header.
    pub(crate) fn next_with(&mut self, convert: impl Fn(&Self, u64, u64) -> Item) -> Option<Result<Item, ReadError>> {
        self.next_where(|table, offset, bytes| Some(convert(table, offset, bytes)))
    }

    /// The next reject: every record is checked, and good ones are passed over.
    pub(crate) fn next_reject(&mut self) -> Option<Result<Item, ReadError>> {
        self.next_where(|_, _, _| None)
    }

    /// The next item that `convert` makes; records of which it makes none are passed over.
    fn next_where(&mut self, convert: impl Fn(&Self, u64, u64) -> Option<Item>) -> Option<Result<Item, ReadError>> {
        while !self.ended {
            let (offset, bytes, reason) = match self.read_entry() {
                Err(error) => return Some(Err(error)),
                Ok(Entry::End) => {
                    self.ended = true;
                    return None;
                }
                Ok(Entry::Fault { offset, bytes, reason }) => {
                    self.ended = true;
                    (offset, bytes, reason)
                }
                Ok(Entry::Bad { offset, bytes, reason }) => (offset, bytes, reason),
                Ok(Entry::Record { offset, .. }) if offset < self.wanted_from => continue,
                Ok(Entry::Record { offset, bytes }) => match self.bad_record() {
                    Some(reason) => (offset, bytes, reason),
                    None => match convert(self, offset, bytes) {
                        Some(item) => return Some(Ok(item)),
                        None => continue,
                    },
                },
            };
            return Some(Ok(Item::Reject(self.context.reject(offset, bytes, reason))));
        }
        None
    }

    fn bad_record(&self) -> Option<RejectReason> {
        let (found, expected) = (self.records.columns(), self.header.len());
        if found != expected {
            return Some(RejectReason::MalformedCsv { what: format!("{found} fields, header has {expected}") });
        }
        let valid = (0..found).all(|i| self.records.field(i).is_some_and(|field| std::str::from_utf8(field).is_ok()));
        (!valid).then_some(RejectReason::InvalidUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_table_are_read_by_their_header() {
        let read = |name: &str, text: &str| rows(name, text.as_bytes().to_vec(), &Limits::default());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = vec![vec![pair("id", "1"), pair("text", "a, b\nc")], vec![pair("id", "2"), pair("text", "")]];
        assert_eq!(read("set.csv", "id,text\n1,\"a, b\nc\"\n2,\n"), Ok(expected.clone()));
        assert_eq!(read("set.tsv", "id\ttext\n1\t\"a, b\nc\"\n2\t\n"), Ok(expected));
        assert_eq!(read("set.csv", ""), Ok(Vec::new()));
        let ragged = read("set.csv", "id,text\n1,a\n2\n").unwrap_err();
        assert_eq!((ragged.0, ragged.1.to_string().contains("1 fields, header has 2")), (12, true), "{ragged:?}");
    }
}
