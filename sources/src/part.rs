//! Parts of an object that are read apart: a range of rows, or of bytes whose lines are read whole.
//!
//! A line belongs to the part that holds the line end before it, the first line to the first part. So no part needs a byte
//! before its first, and the lines of all parts in their order are the lines of the object. How an object is cut is
//! [`crate::split`]'s matter.

use std::io;

use serde::Serialize;

use crate::decoded::{DecodedBlock, DecodedBlocks};
use crate::input::{Input, RangeRead};

/// Stands before the first byte of a part that is cut out of plain text: whatever the text begins with there, it is no
/// compressed stream.
const SENTINEL: u8 = b' ';

/// A part of an object. Bytes are those of the decompressed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its first byte or row.
    pub first: u64,
    /// The byte or row behind its last one; more than `first`.
    pub end: u64,
    /// Where the stored bytes of a compressed object are read from: a frame that begins with byte `first`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<u64>,
    /// Stored bytes that it takes up.
    pub stored_bytes: u64,
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
    let part = match &input {
        Input::Random(object) => object.part(),
        Input::Decoded(blocks) => blocks.part(),
        Input::Stream(_) => None,
    };
    let Some(part) = part else { return Err(input) };
    let input = match input {
        Input::Random(object) => Input::Random(tail(object, part)),
        decoded => decoded,
    };
    let base = part.first - u64::from(part.has_sentinel());
    Ok(LinesOfPart { input, base, end: part.end, skips_first: part.first > 0 })
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
