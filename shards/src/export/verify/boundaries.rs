//! The two lists of segments that formats keep beside the ids: cumulative ends, and rows of text.
//!
//! They are read as they are compared, never held whole.

use std::io::{BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;
use mellama_storage::RangeReader;

use super::object::Object;
use super::{Checked, wrong};

/// Longest row of text.
const ROW_LIMIT_BYTES: u64 = 4096;

/// One entry of a list: tokens of the object, and the document where the list names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) id: Option<String>,
}

/// A list of segments in the order of the object.
pub(super) trait Boundaries: std::fmt::Debug {
    /// The object that holds the list.
    fn key(&self) -> &str;
    /// The next entry.
    fn next(&mut self) -> Checked<Option<Entry>>;
}

/// Cumulative ends as u64.
#[derive(Debug)]
pub(super) struct Ends {
    object: Object,
    at: u64,
    last: u64,
}

impl Ends {
    pub(super) fn new(object: Object) -> Self {
        Self { object, at: 0, last: 0 }
    }
}

impl Boundaries for Ends {
    fn key(&self) -> &str {
        self.object.key()
    }

    fn next(&mut self) -> Checked<Option<Entry>> {
        if self.at == self.object.size_bytes() {
            return Ok(None);
        }
        let end = self.object.u64s(self.at, 1)?[0];
        let start = std::mem::replace(&mut self.last, end);
        self.at += 8;
        Ok(Some(Entry { start, end, id: None }))
    }
}

/// Rows `start,end,id,src,loc`, compressed with gzip.
pub(super) struct Rows {
    key: String,
    text: BufReader<MultiGzDecoder<RangeReader>>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Rows {
    pub(super) fn new(object: &Object) -> Self {
        Self { key: object.key().to_owned(), text: BufReader::new(MultiGzDecoder::new(object.reader())) }
    }
}

impl Boundaries for Rows {
    fn key(&self) -> &str {
        &self.key
    }

    fn next(&mut self) -> Checked<Option<Entry>> {
        let mut row = Vec::new();
        if self.text.by_ref().take(ROW_LIMIT_BYTES).read_until(b'\n', &mut row).is_err() {
            return wrong(&self.key, "no gzip, or it was cut");
        }
        if row.is_empty() {
            return Ok(None);
        }
        let Some(text) = row.strip_suffix(b"\r\n").and_then(|row| std::str::from_utf8(row).ok()) else {
            return wrong(&self.key, "a row without its line end");
        };
        let fields: Vec<&str> = text.split(',').collect();
        let [start, end, id, source, line] = fields[..] else {
            return wrong(&self.key, format!("a row of {} fields, expected 5", fields.len()));
        };
        let (Ok(start), Ok(end), Ok(1..)) = (start.parse(), end.parse(), line.parse::<u64>()) else {
            return wrong(&self.key, "a row whose numbers are none");
        };
        if id.is_empty() || source.is_empty() || text.contains('\r') {
            return wrong(&self.key, "a row without id or source");
        }
        Ok(Some(Entry { start, end, id: Some(id.to_owned()) }))
    }
}
