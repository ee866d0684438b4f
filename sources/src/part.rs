//! Parts of an object that are read apart: a range of rows, of bytes whose lines are read whole, or of whole entries of a tar.
//!
//! A line belongs to the part that holds the line end before it, the first line to the first part. So no part needs a byte
//! before its first, and the lines of all parts in their order are the lines of the object. A part of a tar begins where an
//! entry does, and the last one holds what is behind the entries. How an object is cut is [`crate::split`]'s matter. Parts that
//! are read from the beginning of their object are another matter: [`crate::sequential`].

use std::io::{self, Read};

use serde::Serialize;

use crate::decoded::{DecodedBlock, DecodedBlocks};
use crate::input::{ByteStream, Input, RangeRead};
use crate::reader::Limits;

/// Stands before the first byte of a part that is cut out of plain text: whatever the text begins with there, it is no
/// compressed stream.
const SENTINEL: u8 = b' ';
/// First bytes that tell plain from compressed.
pub(crate) const HEAD_BYTES: usize = 16;

/// A part of an object. Bytes are those of the decompressed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its first byte or row.
    pub first: u64,
    /// The byte or row behind its last one; more than `first`.
    pub end: u64,
    /// Where the stored bytes are read from if they are not lines at any byte: a frame, or an entry of a plain tar, that begins
    /// with byte `first`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<u64>,
    /// Stored bytes that it takes up; about, where it is sequential.
    pub stored_bytes: u64,
    /// Whether it can be reached only by reading the object from its beginning ([`crate::sequential`]). Then it is the records
    /// that begin in its range, and the last one, whose end is not known before, ends at [`u64::MAX`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_sequential: bool,
}

impl Part {
    fn has_sentinel(self) -> bool {
        self.first > 0 && self.frame.is_none()
    }
}

impl Input {
    /// A part of an object, for the readers of formats that can be split ([`crate::split`]).
    pub fn part(object: Box<dyn RangeRead>, part: Part) -> Self {
        Self::Random(Box::new(PartOf { object, part }))
    }
}

/// An object of which one part is to be read.
struct PartOf {
    object: Box<dyn RangeRead>,
    part: Part,
}

impl RangeRead for PartOf {
    fn len(&self) -> u64 {
        self.object.len()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.object.read_at(offset, length)
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }
}

/// Decompressed blocks from where a part begins to the end of the object.
pub(crate) struct DecodedPart<B> {
    pub(crate) blocks: B,
    pub(crate) part: Part,
}

impl<B: DecodedBlocks> DecodedBlocks for DecodedPart<B> {
    fn next_block(&mut self) -> io::Result<DecodedBlock> {
        self.blocks.next_block()
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }
}

/// What a reader of lines needs to read a part.
pub(crate) struct LinesOfPart {
    /// The bytes from where the part begins to the end of the object, stored or decompressed.
    pub(crate) input: Input,
    /// Offset of the first decompressed byte of `input` in the stream of the whole object.
    pub(crate) base: u64,
    /// Lines that begin behind this offset are not the part's.
    pub(crate) end: u64,
    /// What comes before the first line end belongs to the part before.
    pub(crate) skips_first: bool,
}

/// The lines of a part; the input itself where it is a whole object.
pub(crate) fn lines_of(input: Input) -> Result<LinesOfPart, Input> {
    let (input, part) = tail_of(input);
    let Some(part) = part else { return Err(input) };
    let base = part.first - u64::from(part.has_sentinel());
    Ok(LinesOfPart { input, base, end: part.end, skips_first: part.first > 0 })
}

/// The part that an input is, if it is one.
pub(crate) fn part_of(input: &Input) -> Option<Part> {
    match input {
        Input::Random(object) => object.part(),
        Input::Decoded(blocks) => blocks.part(),
        Input::Stream(_) => None,
    }
}

/// The part that is to be read, if it is not all, and the bytes from where it begins to the end of the object.
pub(crate) fn tail_of(input: Input) -> (Input, Option<Part>) {
    match input {
        Input::Random(object) => match object.part() {
            Some(part) => (Input::Random(tail(object, part)), Some(part)),
            None => (Input::Random(object), None),
        },
        Input::Decoded(blocks) => {
            let part = blocks.part();
            (Input::Decoded(blocks), part)
        }
        Input::Stream(_) => (input, None),
    }
}

/// Whether an object with these first bytes is read as it is stored.
pub(crate) fn is_plain(head: &[u8]) -> bool {
    let mut read = Vec::new();
    let mut stream = ByteStream::new(Input::from_bytes(head.to_vec()), &Limits::default());
    stream.read_to_end(&mut read).is_ok() && read == head
}

/// The stored bytes that a part is read from: from its first on to the end of the object.
pub(crate) fn tail(object: Box<dyn RangeRead>, part: Part) -> Box<dyn RangeRead> {
    Box::new(Tail { object, start: part.frame.unwrap_or(part.first), sentinel: part.has_sentinel() })
}

/// An object from an offset on, with a sentinel before it where asked for.
struct Tail {
    object: Box<dyn RangeRead>,
    start: u64,
    sentinel: bool,
}

impl RangeRead for Tail {
    fn len(&self) -> u64 {
        self.object.len().saturating_sub(self.start) + u64::from(self.sentinel)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        if !self.sentinel {
            return self.object.read_at(self.start + offset, length);
        }
        match offset.checked_sub(1) {
            Some(offset) => self.object.read_at(self.start + offset, length),
            None if length == 0 => Ok(Vec::new()),
            None => {
                let mut bytes = vec![SENTINEL];
                bytes.extend(self.object.read_at(self.start, length - 1)?);
                Ok(bytes)
            }
        }
    }
}
