//! Bytes as they come to a reader: a stream or an object with random access, decompressed and counted by [`ByteStream`].
//!
//! Offsets always count decompressed bytes. Nothing here knows a text format.

use std::fmt;
use std::io::{self, BufRead, Cursor, Read};

use crate::compression::{Decoder, RawBytes, StreamFault, is_compressed};
use crate::part::Part;
use crate::reader::Limits;
use crate::reject::RejectReason;

/// Decoded bytes held at a time.
const BUFFER_BYTES: usize = 64 << 10;
/// Bytes of one ranged read when an object with random access is read as a stream.
const RANGE_BYTES: usize = 4 << 20;

/// Random access to an object's raw bytes.
pub trait RangeRead: Send + Sync {
    /// Length of the object in bytes.
    fn len(&self) -> u64;

    /// Exactly `length` bytes from `offset`.
    ///
    /// # Errors
    /// Those of the store; a range past the end is [`io::ErrorKind::UnexpectedEof`].
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// The part that is to be read; `None`: all of it.
    fn part(&self) -> Option<Part> {
        None
    }

    /// Whether the object has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RangeRead for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start.checked_add(length).and_then(|end| self.get(start..end));
        range.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// An object's raw bytes, compressed or not.
pub enum Input {
    /// From the first byte to the last.
    Stream(Box<dyn BufRead + Send>),
    /// In any order.
    Random(Box<dyn RangeRead>),
}

impl Input {
    /// Bytes in memory, with random access.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self::Random(Box::new(bytes))
    }

    /// The raw bytes in order.
    pub fn into_stream(self) -> Box<dyn BufRead + Send> {
        match self {
            Self::Stream(stream) => stream,
            Self::Random(object) => {
                let length = object.len();
                Box::new(Ranges { object, length, next: 0, block: Cursor::new(Vec::new()) })
            }
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(_) => formatter.write_str("Input::Stream"),
            Self::Random(object) => write!(formatter, "Input::Random({} bytes)", object.len()),
        }
    }
}

/// An object with random access read in order, one block at a time.
struct Ranges {
    object: Box<dyn RangeRead>,
    length: u64,
    next: u64,
    block: Cursor<Vec<u8>>,
}

impl Read for Ranges {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Ranges {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.block.fill_buf()?.is_empty() && self.next < self.length {
            let length = (self.length - self.next).min(RANGE_BYTES as u64) as usize;
            let bytes = self.object.read_at(self.next, length)?;
            if bytes.len() != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.next += length as u64;
            self.block = Cursor::new(bytes);
        }
        self.block.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.block.consume(count);
    }
}

enum State {
    Unopened(RawBytes),
    Open(Decoder),
    /// A fault is reported again at every call.
    Faulted(RejectReason),
}

/// Decompressed bytes in order, with their offset and under the limits on expansion.
///
/// Its errors are of two kinds: [`StreamFault::of`] gives the reason of a damaged stream (a reject), and anything else is
/// a failure of the store. Faults come after every byte that could be decoded, and come again at every further call.
pub struct ByteStream {
    state: State,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    decoded: u64,
    limits: Limits,
}

impl ByteStream {
    /// Nothing is read until the first call.
    pub fn new(input: Input, limits: &Limits) -> Self {
        Self {
            state: State::Unopened(RawBytes::new(input.into_stream())),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            decoded: 0,
            limits: limits.clone(),
        }
    }

    /// Offset of the next byte in the decompressed stream.
    pub fn offset(&self) -> u64 {
        self.decoded - (self.end - self.start) as u64
    }

    /// Stored (compressed) bytes consumed so far.
    pub fn stored_bytes(&self) -> u64 {
        match &self.state {
            State::Open(decoder) => decoder.stored_bytes(),
            State::Unopened(_) | State::Faulted(_) => 0,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        let filled = self.read_more();
        if let Err(error) = &filled
            && let Some(StreamFault(reason)) = StreamFault::of(error)
        {
            self.state = State::Faulted(reason.clone());
        }
        let count = filled?;
        self.start = 0;
        self.end = count;
        self.decoded += count as u64;
        Ok(())
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let first = matches!(self.state, State::Unopened(_));
        if first {
            self.open()?;
        }
        let decoder = match &mut self.state {
            State::Open(decoder) => decoder,
            State::Faulted(reason) => return Err(StreamFault(reason.clone()).into_error()),
            State::Unopened(_) => return Ok(0),
        };
        let mut count = decoder.read(&mut self.buffer)?;
        if first && decoder.is_compressed() {
            // Enough bytes to see whether what came out is compressed again.
            while count > 0 && count < 4 {
                match decoder.read(&mut self.buffer[count..])? {
                    0 => break,
                    more => count += more,
                }
            }
            if is_compressed(&self.buffer[..count]) {
                return Err(StreamFault(RejectReason::NestedCompression).into_error());
            }
        }
        let total = self.decoded + count as u64;
        if total > self.limits.object_bytes {
            return Err(over_limit("object_bytes", self.limits.object_bytes));
        }
        if decoder.is_compressed() && total > self.limits.expansion_free_bytes {
            let allowed = decoder.stored_bytes().saturating_mul(self.limits.expansion_ratio);
            if total > allowed {
                return Err(over_limit("expansion_ratio", self.limits.expansion_ratio));
            }
        }
        Ok(count)
    }

    fn open(&mut self) -> io::Result<()> {
        let State::Unopened(raw) = std::mem::replace(&mut self.state, State::Open(Decoder::Ended { consumed: 0 })) else {
            return Ok(());
        };
        self.state = State::Open(Decoder::sniff(raw, self.limits.zstd_window_log)?);
        Ok(())
    }
}

fn over_limit(limit: &'static str, value: u64) -> io::Error {
    StreamFault(RejectReason::over_limit(limit, value)).into_error()
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ByteStream").field("offset", &self.offset()).finish_non_exhaustive()
    }
}

impl Read for ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for ByteStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    /// What comes out, and the fault or failure at the end.
    fn read_in_pieces(stored: &[u8], piece: usize, limits: &Limits) -> (Vec<u8>, Option<String>) {
        let reader = io::BufReader::with_capacity(piece, Cursor::new(stored.to_vec()));
        let mut stream = ByteStream::new(Input::Stream(Box::new(reader)), limits);
        let mut out = Vec::new();
        loop {
            assert_eq!(stream.offset(), out.len() as u64);
            match stream.fill_buf() {
                Ok([]) => return (out, None),
                Ok(bytes) => {
                    let count = bytes.len().div_ceil(2);
                    out.extend_from_slice(&bytes[..count]);
                    stream.consume(count);
                }
                Err(error) => {
                    let fault = StreamFault::of(&error).expect("a fault of the stream").to_string();
                    let again = stream.fill_buf().expect_err("faults stay");
                    assert_eq!(StreamFault::of(&again).map(ToString::to_string), Some(fault.clone()));
                    return (out, Some(fault));
                }
            }
        }
    }

    fn check(stored: &[u8], expected: &[u8], fault: Option<&str>) {
        for piece in [1, 5, 1 << 16] {
            let (out, found) = read_in_pieces(stored, piece, &Limits::default());
            assert!(out == expected, "pieces of {piece}: {} bytes", out.len());
            assert_eq!(found.as_deref(), fault, "pieces of {piece}");
        }
    }

    #[test]
    fn plain_and_compressed() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        check(&text, &text, None);
        check(&gzip(&text), &text, None);
        check(&zstd(&text), &text, None);
        check(b"", b"", None);
        check(&gzip(b""), b"", None);
        check(&zstd(b""), b"", None);
        check(b"\x1f", b"\x1f", None);
    }

    #[test]
    fn case_29_several_members_and_padding() {
        let members = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        check(&members, b"one two", None);
        check(&[members.clone(), vec![0; 700]].concat(), b"one two", None);
        check(&[members, b"garbage".to_vec()].concat(), b"one two", Some("trailing-garbage: gzip"));
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        let frames = [skippable.to_vec(), zstd(b"one "), skippable.to_vec(), zstd(b"two")].concat();
        check(&frames, b"one two", None);
        check(&[frames, b"garbage".to_vec()].concat(), b"one two", Some("trailing-garbage: zstd"));
    }

    #[test]
    fn case_29_every_truncation_is_found() {
        for (stored, name) in [(gzip(&[7; 5_000]), "gzip"), (zstd(b"some words that are not repeated"), "zstd")] {
            for length in 6..stored.len() {
                let (_, fault) = read_in_pieces(&stored[..length], 64, &Limits::default());
                assert_eq!(fault, Some(format!("truncated-stream: {name}")), "{length} of {} bytes", stored.len());
            }
        }
    }

    #[test]
    fn damage_is_found() {
        let mut stored = gzip(&[b"words ".repeat(100), b"more".to_vec()].concat());
        let last = stored.len() - 6;
        stored[last] ^= 1;
        let (_, fault) = read_in_pieces(&stored, 64, &Limits::default());
        assert_eq!(fault.as_deref(), Some("corrupt-stream: gzip"));
        let mut stored = zstd(b"abcdefgh");
        stored[4] ^= 0xff;
        let (_, fault) = read_in_pieces(&stored, 64, &Limits::default());
        assert!(fault.is_some(), "{fault:?}");
    }

    #[test]
    fn case_28_bombs_stop_at_the_limits() {
        let zeros = vec![0; 4 << 20];
        let limits = Limits { expansion_free_bytes: 1 << 20, ..Limits::default() };
        for stored in [gzip(&zeros), zstd(&zeros)] {
            let (out, fault) = read_in_pieces(&stored, 4096, &limits);
            assert_eq!(fault.as_deref(), Some("over-limit: expansion_ratio = 250"));
            assert!(out.len() <= 1 << 20);
        }
        let limits = Limits { object_bytes: 1 << 20, ..Limits::default() };
        let (out, fault) = read_in_pieces(&zeros, 4096, &limits);
        assert_eq!(fault.as_deref(), Some("over-limit: object_bytes = 1048576"));
        assert!(out.len() <= 1 << 20);
        check(&gzip(&gzip(b"x")), b"", Some("nested-compression"));
        check(&zstd(&gzip(b"x")), b"", Some("nested-compression"));
    }

    #[test]
    fn case_28_zstd_windows_are_limited() {
        // A frame header alone: magic, no single segment, window descriptor of 2 GiB.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        check(&frame, b"", Some("over-limit: zstd_window_log = 27"));
    }

    #[test]
    fn other_compressions_are_named() {
        check(&[0xfd, b'7', b'z', b'X', b'Z', 0, 0], b"", Some("unsupported-compression: xz"));
        check(b"BZh91AY", b"", Some("unsupported-compression: bzip2"));
        check(b"PK\x03\x04....", b"", Some("unsupported-compression: zip"));
    }

    /// Fails after some bytes, once interrupted before.
    struct Failing(Vec<u8>, bool);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if !std::mem::replace(&mut self.1, true) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.0.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the store's own words"));
            }
            let count = buffer.len().min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    #[test]
    fn failures_of_the_store_are_no_faults() {
        for stored in [b"plain".to_vec(), gzip(&[1; 500])[..20].to_vec(), zstd(b"words")[..9].to_vec()] {
            let reader = io::BufReader::new(Failing(stored, false));
            let mut stream = ByteStream::new(Input::Stream(Box::new(reader)), &Limits::default());
            let error = io::copy(&mut stream, &mut io::sink()).unwrap_err();
            assert!(StreamFault::of(&error).is_none());
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(error.to_string(), "the store's own words");
        }
    }

    #[test]
    fn ranges_are_read_in_order() {
        let bytes: Vec<u8> = (0..(RANGE_BYTES + 5)).map(|i| i as u8).collect();
        let mut out = Vec::new();
        Input::from_bytes(bytes.clone()).into_stream().read_to_end(&mut out).unwrap();
        assert!(out == bytes);
        assert!(bytes.read_at(3, bytes.len()).is_err());
        assert!(bytes.read_at(u64::MAX, 1).is_err());
        assert_eq!(bytes.read_at(2, 3).unwrap(), [2, 3, 4]);
    }
}
