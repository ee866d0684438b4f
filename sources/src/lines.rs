//! Lines of a decompressed stream with their offsets, under a limit on their length.
//!
//! Line ends are LF or CRLF; a last line without one counts; a byte order mark before the first line is skipped. Contents are
//! bytes: whoever reads them decides about UTF-8. A line over the limit is skipped without being held. Of a part of an object
//! ([`crate::part`]) it gives the lines of that part, with their offsets in the whole.

use std::io::{self, BufRead};

use crate::compression::StreamFault;
use crate::input::{ByteStream, Input};
use crate::part;
use crate::reader::Limits;
use crate::reject::RejectReason;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What came next. Offsets and lengths count decompressed bytes, lengths with the line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, its contents in [`Lines::content`].
    Content { offset: u64, bytes: u64 },
    /// A line over the limit.
    OverLimit { offset: u64, bytes: u64 },
    /// The stream is damaged, or empty; `offset` is where its last, incomplete line began. Nothing comes after it.
    Fault { offset: u64, bytes: u64, reason: RejectReason },
    /// The end.
    End,
}

/// A stream of lines.
pub(crate) struct Lines {
    stream: ByteStream,
    content: Vec<u8>,
    limit: u64,
    ended: bool,
    /// Offset of the stream's first byte in the object.
    base: u64,
    /// Lines that begin behind it belong to the next part.
    end: u64,
    /// The line that the stream begins in belongs to the part before.
    skips_first: bool,
    /// Lines that begin before this offset are not wanted.
    wanted_from: u64,
}

impl Lines {
    pub(crate) fn new(input: Input, limits: &Limits) -> Self {
        match part::lines_of(input) {
            Err(whole) => Self::of_stream(ByteStream::new(whole, limits), limits),
            Ok(part) => Self {
                base: part.base,
                end: part.end,
                skips_first: part.skips_first,
                ..Self::of_stream(ByteStream::new(part.input, limits), limits)
            },
        }
    }

    /// Lines of a stream of which nothing was taken yet.
    pub(crate) fn of_stream(stream: ByteStream, limits: &Limits) -> Self {
        let limit = limits.record_bytes;
        Self { stream, content: Vec::new(), limit, ended: false, base: 0, end: u64::MAX, skips_first: false, wanted_from: 0 }
    }

    /// The line of the last [`Line::Content`], without its end.
    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    /// Where the next line begins.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.stream.offset()
    }

    /// Leaves out lines that begin before this offset.
    pub(crate) fn pass_to(&mut self, offset: u64) {
        self.wanted_from = offset;
    }

    /// The next line.
    pub(crate) fn read(&mut self) -> io::Result<Line> {
        if self.ended {
            return Ok(Line::End);
        }
        self.content.clear();
        // The byte before tells whether a line begins at the offset.
        let last = self.wanted_from.saturating_sub(1);
        if self.offset() < last
            && let Err(error) = self.pass(last).and_then(|()| self.skip_line())
        {
            return self.fault(error, last, 0);
        }
        if std::mem::take(&mut self.skips_first) {
            let offset = self.offset();
            if let Err(error) = self.skip_line() {
                return self.fault(error, offset, 0);
            }
        }
        let mut offset = self.offset();
        if offset > self.end {
            self.ended = true;
            return Ok(Line::End);
        }
        if offset == 0 {
            // Before the line is measured, so that the mark is no part of it however the stream is cut.
            if let Err(error) = self.pass_mark() {
                return self.fault(error, 0, 0);
            }
            offset = self.offset();
        }
        let (mut bytes, mut over) = (0_u64, false);
        loop {
            let block = match self.stream.fill_buf() {
                Ok(block) => block,
                Err(error) => return self.fault(error, offset, bytes),
            };
            if block.is_empty() {
                self.ended = true;
                break;
            }
            let end = memchr::memchr(b'\n', block);
            let take = end.map_or(block.len(), |end| end + 1);
            bytes += take as u64;
            // The line end is not counted against the limit: two bytes more are held at most.
            over |= bytes > self.limit.saturating_add(2);
            if !over {
                self.content.extend_from_slice(&block[..take]);
            }
            self.stream.consume(take);
            if end.is_some() {
                break;
            }
        }
        if over {
            self.content = Vec::new();
            return Ok(Line::OverLimit { offset, bytes });
        }
        if bytes == 0 && self.ended {
            // Not one byte, compressed or not: an export that wrote nothing, which somebody has to be told.
            return Ok(match offset {
                0 => Line::Fault { offset, bytes, reason: RejectReason::EmptyObject },
                _ => Line::End,
            });
        }
        self.trim_end();
        if self.content.len() as u64 > self.limit {
            return Ok(Line::OverLimit { offset, bytes });
        }
        Ok(Line::Content { offset, bytes })
    }

    fn pass_mark(&mut self) -> io::Result<()> {
        if self.stream.peek(BYTE_ORDER_MARK.len())?.starts_with(BYTE_ORDER_MARK) {
            self.stream.consume(BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    /// Goes to this offset, or to the end.
    fn pass(&mut self, offset: u64) -> io::Result<()> {
        while self.offset() < offset {
            let left = offset - self.offset();
            if self.stream.take_block(left)?.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes to the byte behind the next line end, or to the end, without holding what lies between.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let block = self.stream.fill_buf()?;
            let end = memchr::memchr(b'\n', block);
            let take = end.map_or(block.len(), |end| end + 1);
            self.stream.consume(take);
            if end.is_some() || take == 0 {
                return Ok(());
            }
        }
    }

    fn trim_end(&mut self) {
        if self.content.last() == Some(&b'\n') {
            self.content.pop();
            if self.content.last() == Some(&b'\r') {
                self.content.pop();
            }
        }
    }

    fn fault(&mut self, error: io::Error, offset: u64, bytes: u64) -> io::Result<Line> {
        self.ended = true;
        match StreamFault::of(&error) {
            Some(fault) => Ok(Line::Fault { offset, bytes, reason: fault.0.clone() }),
            None => Err(error),
        }
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lines").field("stream", &self.stream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], limit: u64, expected: &[(Line, &str)]) {
        let limits = Limits { record_bytes: limit, ..Limits::default() };
        let mut lines = Lines::new(Input::from_bytes(bytes.to_vec()), &limits);
        for (line, content) in expected {
            assert_eq!(lines.read().unwrap(), *line);
            assert_eq!(lines.content(), content.as_bytes());
        }
        assert_eq!(lines.read().unwrap(), Line::End);
        assert_eq!(lines.read().unwrap(), Line::End);
    }

    fn content(offset: u64, bytes: u64) -> Line {
        Line::Content { offset, bytes }
    }

    #[test]
    fn line_ends_marks_and_offsets() {
        let nothing = Line::Fault { offset: 0, bytes: 0, reason: RejectReason::EmptyObject };
        check(b"", 9, &[(nothing, "")]);
        check(b"a\nb\r\n\nc", 9, &[(content(0, 2), "a"), (content(2, 3), "b"), (content(5, 1), ""), (content(6, 1), "c")]);
        check(b"\xef\xbb\xbfa\nb\n", 9, &[(content(3, 2), "a"), (content(5, 2), "b")]);
        check(b"a\rb\r\n", 9, &[(content(0, 5), "a\rb")]);
        check(b"\xef\xbb\xbf", 9, &[]);
    }

    #[test]
    fn lines_over_the_limit_are_skipped() {
        let over = Line::OverLimit { offset: 4, bytes: 5 };
        check(b"abc\nabcd\nabc\r\n", 3, &[(content(0, 4), "abc"), (over, "abcd"), (content(9, 5), "abc")]);
        // The mark before the first line is no part of it.
        check(b"\xef\xbb\xbfabc\r\nd", 3, &[(content(3, 5), "abc"), (content(8, 1), "d")]);
        check(b"\xef\xbb\xbfabcd\n", 3, &[(Line::OverLimit { offset: 3, bytes: 5 }, "abcd")]);
        let long = [vec![b'x'; 300_000], b"\nok".to_vec()].concat();
        check(&long, 100, &[(Line::OverLimit { offset: 0, bytes: 300_001 }, ""), (content(300_001, 2), "ok")]);
    }
}
