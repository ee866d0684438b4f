//! Elements of one JSON array, cut out of a stream one at a time with their offsets.
//!
//! Only brackets and strings are looked at; whether an element is JSON is for its reader to say. One element is held at a time,
//! one over the limit is passed over.

use std::io::{self, BufRead};

use crate::compression::StreamFault;
use crate::input::ByteStream;
use crate::json::malformed;
use crate::reader::Limits;
use crate::reject::RejectReason;

/// What came next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Element {
    /// An element, its bytes in `content`.
    Record { offset: u64, bytes: u64 },
    /// One that cannot be used; more may come.
    Bad { offset: u64, bytes: u64, reason: RejectReason },
    /// The end of what can be read.
    Fault { offset: u64, bytes: u64, reason: RejectReason },
}

/// A stream of elements; a byte order mark was passed over before.
#[derive(Debug)]
pub(super) struct ArrayElements {
    stream: ByteStream,
    limit: u64,
    content: Vec<u8>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the bracket that opens the array.
    Before,
    /// Behind it: an element or the end.
    First,
    /// Behind an element: a comma or the end.
    Behind,
    /// Behind a comma: an element.
    Next,
    /// Behind the bracket that closes the array.
    After,
    Ended,
}

impl ArrayElements {
    pub(super) fn new(stream: ByteStream, limits: &Limits) -> Self {
        Self { stream, limit: limits.record_bytes, content: Vec::new(), place: Place::Before }
    }

    /// The element of the last [`Element::Record`].
    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    /// Where the next byte stands.
    pub(super) fn offset(&self) -> u64 {
        self.stream.offset()
    }

    /// The next element.
    pub(super) fn read(&mut self) -> io::Result<Option<Element>> {
        let offset = self.stream.offset();
        match self.read_on() {
            Ok(element) => Ok(element),
            Err(error) => {
                self.place = Place::Ended;
                match StreamFault::of(&error) {
                    Some(fault) => {
                        let bytes = self.stream.offset() - offset;
                        Ok(Some(Element::Fault { offset, bytes, reason: fault.0.clone() }))
                    }
                    None => Err(error),
                }
            }
        }
    }

    fn read_on(&mut self) -> io::Result<Option<Element>> {
        loop {
            if self.place == Place::Ended {
                return Ok(None);
            }
            let Some(byte) = self.peek()? else {
                let complete = self.place == Place::After;
                self.place = Place::Ended;
                return Ok((!complete).then(|| self.fault(RejectReason::TruncatedRecord)));
            };
            match (self.place, byte) {
                (Place::Before, b'[') => self.go(Place::First),
                (Place::First | Place::Behind, b']') => self.go(Place::After),
                (Place::Behind, b',') => self.go(Place::Next),
                (Place::First | Place::Next, b',' | b']' | b'}' | b':') | (Place::Before | Place::Behind | Place::After, _) => {
                    self.place = Place::Ended;
                    return Ok(Some(self.fault(malformed("text between the elements of an array or behind it"))));
                }
                (Place::First | Place::Next, _) => {
                    self.place = Place::Behind;
                    return self.element().map(Some);
                }
                (Place::Ended, _) => return Ok(None),
            }
        }
    }

    fn go(&mut self, place: Place) {
        self.stream.consume(1);
        self.place = place;
    }

    fn fault(&self, reason: RejectReason) -> Element {
        Element::Fault { offset: self.stream.offset(), bytes: 0, reason }
    }

    /// The next byte that is no white space, without taking it.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let block = self.stream.fill_buf()?;
            if block.is_empty() {
                return Ok(None);
            }
            let space = block.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let found = block.get(space).copied();
            self.stream.consume(space);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Takes one element: to the comma or bracket that does not belong to it.
    fn element(&mut self) -> io::Result<Element> {
        let offset = self.stream.offset();
        self.content.clear();
        let mut scan = Scan { depth: 0, in_string: false, escaped: false };
        let (mut bytes, mut over) = (0_u64, false);
        loop {
            let block = self.stream.fill_buf()?;
            if block.is_empty() {
                self.place = Place::Ended;
                return Ok(Element::Fault { offset, bytes, reason: RejectReason::TruncatedRecord });
            }
            let end = scan.end_in(block);
            let take = end.unwrap_or(block.len());
            bytes += take as u64;
            over |= bytes > self.limit;
            if over {
                self.content = Vec::new();
            } else {
                self.content.extend_from_slice(&block[..take]);
            }
            self.stream.consume(take);
            if end.is_some() {
                return Ok(if over {
                    Element::Bad { offset, bytes, reason: RejectReason::over_limit("record_bytes", self.limit) }
                } else {
                    Element::Record { offset, bytes }
                });
            }
        }
    }
}

struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Where in the block the element ends: before a comma or closing bracket of the array itself.
    fn end_in(&mut self, block: &[u8]) -> Option<usize> {
        for (at, byte) in block.iter().enumerate() {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                } else if *byte == b'\\' {
                    self.escaped = true;
                } else {
                    self.in_string = *byte != b'"';
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'[' | b'{' => self.depth += 1,
                b',' | b']' if self.depth == 0 => return Some(at),
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        None
    }
}
