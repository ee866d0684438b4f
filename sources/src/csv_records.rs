//! Records of a CSV stream (RFC 4180): quoted fields may hold delimiters, doubled quotes and line ends.
//!
//! Only one record is held at a time, under limits on its bytes and columns; a record over them is read to its end without
//! being held. It does not know a header. A quote inside a field that does not begin with one is text, as spreadsheets write.

use std::io::{self, BufRead, Read};

use crate::compression::StreamFault;
use crate::input::{ByteStream, Input};
use crate::reader::Limits;
use crate::reject::RejectReason;

/// Most columns of a record.
pub(crate) const MAX_COLUMNS: usize = 4_096;
/// Longest first line looked at for the delimiter, in bytes.
const MAX_HEADER_BYTES: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Delimiters that are told from the first line; the first of two that are as frequent.
const DELIMITERS: [u8; 3] = [b',', b'\t', b';'];

/// What came next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A record, its fields in [`CsvRecords::field`].
    Record { offset: u64, bytes: u64 },
    /// A record that cannot be used; the stream goes on behind it.
    Bad { offset: u64, bytes: u64, reason: RejectReason },
    /// The stream is damaged or ends inside quotes; nothing comes after it.
    Fault { offset: u64, bytes: u64, reason: RejectReason },
    /// The end.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    /// After a carriage return in a plain field.
    Return,
    Quoted,
    /// After a quote in a quoted field: its end, or half of a doubled quote.
    Quote,
    /// After the end of a quoted field and a carriage return.
    QuoteReturn,
}

/// A stream of records.
pub(crate) struct CsvRecords {
    /// Bytes read ahead to find the delimiter, then the stream.
    input: io::Chain<io::Cursor<Vec<u8>>, ByteStream>,
    delimiter: u8,
    limit: u64,
    /// Offset of the next byte.
    place: u64,
    data: Vec<u8>,
    ends: Vec<usize>,
    trouble: Option<RejectReason>,
    ended: bool,
}

impl CsvRecords {
    /// Reads the first line to find the delimiter, unless it is given.
    pub(crate) fn open(input: Input, delimiter: Option<u8>, limits: &Limits) -> io::Result<Self> {
        let mut stream = ByteStream::new(input, limits);
        let mut head = Vec::new();
        let line = (&mut stream).take(MAX_HEADER_BYTES as u64).read_until(b'\n', &mut head);
        if let Err(error) = line
            && StreamFault::of(&error).is_none()
        {
            return Err(error);
        }
        let mark = if head.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        head.drain(..mark);
        let delimiter = delimiter.unwrap_or_else(|| most_frequent_delimiter(&head));
        Ok(Self {
            input: io::Cursor::new(head).chain(stream),
            delimiter,
            limit: limits.record_bytes,
            place: mark as u64,
            data: Vec::new(),
            ends: Vec::new(),
            trouble: None,
            ended: false,
        })
    }

    /// Fields of the last record.
    pub(crate) fn columns(&self) -> usize {
        self.ends.len()
    }

    /// One field of the last record, its quotes undone.
    pub(crate) fn field(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.data[start..end])
    }

    /// Where the next record begins.
    pub(crate) fn offset(&self) -> u64 {
        self.place
    }

    /// The next record; blank lines are passed over.
    pub(crate) fn read(&mut self) -> io::Result<Entry> {
        loop {
            if self.ended {
                return Ok(Entry::End);
            }
            self.data.clear();
            self.ends.clear();
            self.trouble = None;
            let offset = self.place;
            let state = self.read_record(offset);
            let bytes = self.place - offset;
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.ended = true;
                    return match StreamFault::of(&error) {
                        Some(fault) => Ok(Entry::Fault { offset, bytes, reason: fault.0.clone() }),
                        None => Err(error),
                    };
                }
            };
            if self.ended && bytes == 0 {
                return Ok(Entry::End);
            }
            if self.ended && state == State::Quoted {
                return Ok(Entry::Fault { offset, bytes, reason: RejectReason::TruncatedRecord });
            }
            if let Some(reason) = self.trouble.take() {
                return Ok(Entry::Bad { offset, bytes, reason });
            }
            let blank = self.ends.len() == 1 && self.data.is_empty() && state == State::FieldStart;
            if !blank {
                return Ok(Entry::Record { offset, bytes });
            }
        }
    }

    /// Reads to the end of the record or of the stream and says in which state it ended.
    fn read_record(&mut self, offset: u64) -> io::Result<State> {
        let mut state = State::FieldStart;
        loop {
            let block = self.input.fill_buf()?;
            if block.is_empty() {
                self.ended = true;
                if matches!(state, State::Return) {
                    self.data.push(b'\r');
                }
                self.end_field();
                return Ok(state);
            }
            let mut record =
                Fields { data: &mut self.data, ends: &mut self.ends, trouble: &mut self.trouble, delimiter: self.delimiter };
            let (used, ended) = record.take(block, &mut state);
            self.input.consume(used);
            self.place += used as u64;
            if self.place - offset > self.limit && !matches!(self.trouble, Some(RejectReason::OverLimit { .. })) {
                self.trouble = Some(RejectReason::over_limit("record_bytes", self.limit));
            }
            if matches!(self.trouble, Some(RejectReason::OverLimit { .. })) {
                self.data = Vec::new();
                self.ends = Vec::new();
            }
            if ended {
                self.end_field();
                return Ok(state);
            }
        }
    }

    fn end_field(&mut self) {
        self.ends.push(self.data.len());
    }
}

impl std::fmt::Debug for CsvRecords {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CsvRecords").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The record being read.
struct Fields<'a> {
    data: &'a mut Vec<u8>,
    ends: &'a mut Vec<usize>,
    trouble: &'a mut Option<RejectReason>,
    delimiter: u8,
}

impl Fields<'_> {
    /// Takes bytes of `block` up to the end of the record; how many, and whether it ended.
    fn take(&mut self, block: &[u8], state: &mut State) -> (usize, bool) {
        let mut at = 0;
        while at < block.len() {
            let byte = block[at];
            match *state {
                State::Quoted => {
                    let run = memchr::memchr(b'"', &block[at..]).unwrap_or(block.len() - at);
                    self.data.extend_from_slice(&block[at..at + run]);
                    at += run;
                    if at < block.len() {
                        *state = State::Quote;
                        at += 1;
                    }
                    continue;
                }
                State::FieldStart if byte == b'"' => *state = State::Quoted,
                State::FieldStart | State::Plain => {
                    let run = self.plain_run(&block[at..]);
                    self.data.extend_from_slice(&block[at..at + run]);
                    at += run;
                    if run > 0 {
                        *state = State::Plain;
                    }
                    match block.get(at) {
                        None => continue,
                        Some(b'\n') => return (at + 1, true),
                        Some(b'\r') => *state = State::Return,
                        Some(_) => self.next_field(state),
                    }
                }
                State::Return if byte == b'\n' => {
                    *state = if self.is_blank() { State::FieldStart } else { State::Plain };
                    return (at + 1, true);
                }
                State::Return => {
                    // A lone carriage return is text.
                    self.data.push(b'\r');
                    *state = State::Plain;
                    continue;
                }
                State::Quote | State::QuoteReturn if byte == b'\n' => return (at + 1, true),
                State::Quote if byte == b'"' => {
                    self.data.push(b'"');
                    *state = State::Quoted;
                }
                State::Quote if byte == b'\r' => *state = State::QuoteReturn,
                State::Quote if byte == self.delimiter => self.next_field(state),
                State::Quote | State::QuoteReturn => {
                    *self.trouble = Some(RejectReason::MalformedCsv { what: "text behind a closing quote".to_owned() });
                    *state = State::Plain;
                    continue;
                }
            }
            at += 1;
        }
        (at, false)
    }

    /// Bytes before the next delimiter or line end.
    fn plain_run(&self, block: &[u8]) -> usize {
        memchr::memchr3(self.delimiter, b'\n', b'\r', block).unwrap_or(block.len())
    }

    fn is_blank(&self) -> bool {
        self.ends.is_empty() && self.data.is_empty()
    }

    fn next_field(&mut self, state: &mut State) {
        *state = State::FieldStart;
        if self.ends.len() + 1 >= MAX_COLUMNS {
            *self.trouble = Some(RejectReason::over_limit("columns", MAX_COLUMNS as u64));
        } else {
            self.ends.push(self.data.len());
        }
    }
}

/// The delimiter that stands most often outside quotes in the first line.
fn most_frequent_delimiter(line: &[u8]) -> u8 {
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut quoted = false;
    for byte in line {
        quoted ^= *byte == b'"';
        if let Some(index) = DELIMITERS.iter().position(|delimiter| delimiter == byte)
            && !quoted
        {
            counts[index] += 1;
        }
    }
    let best = (0..counts.len()).rev().max_by_key(|index| counts[*index]).unwrap_or(0);
    DELIMITERS[best]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Records as strings, or the code of what is wrong.
    fn read(bytes: &[u8], limits: &Limits) -> Vec<(u64, Result<Vec<String>, String>)> {
        let mut records = CsvRecords::open(Input::from_bytes(bytes.to_vec()), None, limits).unwrap();
        let mut found = Vec::new();
        loop {
            match records.read().unwrap() {
                Entry::Record { offset, .. } => {
                    let field = |i| String::from_utf8_lossy(records.field(i).unwrap()).into_owned();
                    found.push((offset, Ok((0..records.columns()).map(field).collect())));
                }
                Entry::Bad { offset, reason, .. } | Entry::Fault { offset, reason, .. } => {
                    found.push((offset, Err(reason.code().to_owned())));
                }
                Entry::End => return found,
            }
        }
    }

    fn check(text: &str, expected: &[(u64, &[&str])]) {
        let found = read(text.as_bytes(), &Limits::default());
        let expected: Vec<_> =
            expected.iter().map(|(o, fields)| (*o, Ok(fields.iter().map(ToString::to_string).collect()))).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn fields_quotes_and_line_ends() {
        check("", &[]);
        check("a,b\n1,2\n", &[(0, &["a", "b"]), (4, &["1", "2"])]);
        check("a,b\r\n1,\r\n", &[(0, &["a", "b"]), (5, &["1", ""])]);
        check("\"a\nb\",\"c\"\"d\"\n\"\",x", &[(0, &["a\nb", "c\"d"]), (13, &["", "x"])]);
        check("\u{feff}a\n\n\r\nb\n", &[(3, &["a"]), (8, &["b"])]);
        check("a\n\"\"\n", &[(0, &["a"]), (2, &[""])]);
        check("5\" nail,b\"\n", &[(0, &["5\" nail", "b\""])]);
        check("a\rb,c\r", &[(0, &["a\rb", "c\r"])]);
        check(",\n", &[(0, &["", ""])]);
        check("\"a\"\r\n\"b\"", &[(0, &["a"]), (5, &["b"])]);
    }

    #[test]
    fn the_delimiter_is_told_from_the_first_line() {
        check("a;b;\"x,y,z,w\"\n1,5;2;3\n", &[(0, &["a", "b", "x,y,z,w"]), (14, &["1,5", "2", "3"])]);
        check("a\tb\n1,5\t2\n", &[(0, &["a", "b"]), (4, &["1,5", "2"])]);
        check("a\nb;c\n", &[(0, &["a"]), (2, &["b;c"])]);
    }

    #[test]
    fn bad_records_are_passed_over() {
        let found = read(b"a,b\n\"x\"y,1\nc,d\n\"open,e\nf,g\n", &Limits::default());
        assert_eq!(found[1], (4, Err("malformed-csv".to_owned())));
        assert_eq!(found[2], (11, Ok(vec!["c".to_owned(), "d".to_owned()])));
        assert_eq!(found[3], (15, Err("truncated-record".to_owned())));
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn records_over_the_limits_are_not_held() {
        let limits = Limits { record_bytes: 10, ..Limits::default() };
        let text = format!("a,b\n\"{}\",1\nc,d\n", "x\n".repeat(100_000));
        let found = read(text.as_bytes(), &limits);
        assert_eq!(found[1], (4, Err("over-limit".to_owned())));
        assert_eq!(found[2].1, Ok(vec!["c".to_owned(), "d".to_owned()]));
        let wide = format!("a,b\n{}\nc,d\n", ",".repeat(1_000_000));
        let found = read(wide.as_bytes(), &Limits::default());
        assert_eq!(found[1], (4, Err("over-limit".to_owned())));
        assert_eq!(found[2].1, Ok(vec!["c".to_owned(), "d".to_owned()]));
    }

    proptest! {
        #[test]
        fn reads_what_an_independent_writer_wrote(rows in proptest::collection::vec(
            proptest::collection::vec("[a-z,\"\r\n é]{0,8}", 3..=3), 1..20)
        ) {
            let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
            writer.write_record(["x,1", "y", "z"]).unwrap();
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let bytes = writer.into_inner().unwrap();
            let mut records = CsvRecords::open(Input::from_bytes(bytes), Some(b','), &Limits::default()).unwrap();
            records.read().unwrap();
            for row in &rows {
                let entry = records.read().unwrap();
                let is_record = matches!(entry, Entry::Record { .. });
                prop_assert!(is_record, "{:?}", entry);
                let found: Vec<&[u8]> = (0..records.columns()).map(|i| records.field(i).unwrap()).collect();
                prop_assert_eq!(found, row.iter().map(String::as_bytes).collect::<Vec<_>>());
            }
            prop_assert_eq!(records.read().unwrap(), Entry::End);
        }

        #[test]
        fn any_bytes_end_and_offsets_rise(bytes in proptest::collection::vec(prop_oneof![
            Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200)
        ) {
            let found = read(&bytes, &Limits { record_bytes: 50, ..Limits::default() });
            prop_assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
