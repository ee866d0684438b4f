//! Bytes as they come to a reader: a stream, an object with random access or blocks decompressed before, read and counted by
//! [`ByteStream`].
//!
//! Offsets always count decompressed bytes. Nothing here knows a text format.

use std::fmt;
use std::io::{self, BufRead, Cursor, Read};

use bytes::Bytes;

use crate::compression::{RawBytes, StreamFault};
use crate::decoded::{DecodedBlock, DecodedBlocks, Decompressor, Failure};
use crate::part::{self, DecodedPart, Part};
use crate::reader::Limits;

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

/// An object's bytes.
pub enum Input {
    /// The stored bytes from the first to the last, compressed or not.
    Stream(Box<dyn BufRead + Send>),
    /// The stored bytes in any order, compressed or not.
    Random(Box<dyn RangeRead>),
    /// Bytes that are decompressed, see [`Self::into_decoded`].
    Decoded(Box<dyn DecodedBlocks>),
}

impl Input {
    /// Bytes in memory, with random access.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self::Random(Box::new(bytes))
    }

    /// The bytes decompressed, in blocks of some 256 KiB. Nothing is read until the first is asked for.
    ///
    /// Readers do this themselves. A caller that decompresses on a thread of its own calls it there, and hands the reader
    /// [`Input::Decoded`] over the other end of a channel: items and faults are the same. Of a part of an object only what
    /// lies before it is left out.
    pub fn into_decoded(self, limits: &Limits) -> Box<dyn DecodedBlocks> {
        let decode = |raw: Self| Decompressor::new(RawBytes::new(raw.into_stream()), limits);
        let object = match self {
            Self::Decoded(blocks) => return blocks,
            Self::Stream(_) => return Box::new(decode(self)),
            Self::Random(object) => object,
        };
        match object.part() {
            Some(part) => Box::new(DecodedPart { blocks: decode(Self::Random(part::tail(object, part))), part }),
            None => Box::new(decode(Self::Random(object))),
        }
    }

    /// The bytes in order, as they are.
    pub fn into_stream(self) -> Box<dyn BufRead + Send> {
        match self {
            Self::Stream(stream) => stream,
            Self::Decoded(_) => Box::new(ByteStream::new(self, &Limits::default())),
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
            Self::Decoded(_) => formatter.write_str("Input::Decoded"),
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

/// Decompressed bytes in order, with their offset and under the limits on expansion.
///
/// Its errors are of two kinds: [`StreamFault::of`] gives the reason of a damaged stream (a reject), and anything else is
/// a failure of the store. Faults come after every byte that could be decoded, and errors come again at every further call.
pub struct ByteStream {
    blocks: Box<dyn DecodedBlocks>,
    block: Bytes,
    /// Where in `block` the next byte is.
    start: usize,
    /// Bytes of all blocks, this one's included.
    decoded: u64,
    stored: u64,
    ended: bool,
    failure: Option<Failure>,
}

impl ByteStream {
    /// Nothing is read until the first call. Limits are those of the decompression: [`Input::Decoded`] has had its own.
    pub fn new(input: Input, limits: &Limits) -> Self {
        let blocks = input.into_decoded(limits);
        Self { blocks, block: Bytes::new(), start: 0, decoded: 0, stored: 0, ended: false, failure: None }
    }

    /// Offset of the next byte in the decompressed stream.
    pub fn offset(&self) -> u64 {
        self.decoded - (self.block.len() - self.start) as u64
    }

    /// Stored (compressed) bytes consumed so far.
    pub fn stored_bytes(&self) -> u64 {
        self.stored
    }

    /// The next bytes without consuming them: at least `count`, fewer only before the end or a fault.
    pub(crate) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        self.fill_buf()?;
        while self.block.len() - self.start < count && !self.ended {
            let held = self.block.slice(self.start..);
            match self.refill() {
                Err(error) if StreamFault::of(&error).is_none() => return Err(error),
                // A fault comes again behind what is held.
                Err(_) => break,
                Ok(()) => {
                    self.block = [held, self.block.clone()].concat().into();
                    self.start = 0;
                }
            }
        }
        Ok(&self.block[self.start..])
    }

    /// Takes the next bytes as they lie, at most `count` of them; none at the end.
    pub(crate) fn take_block(&mut self, count: u64) -> io::Result<Bytes> {
        let available = self.fill_buf()?.len();
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(available);
        let taken = self.block.slice(self.start..self.start + count);
        self.start += count;
        Ok(taken)
    }

    /// Replaces the block; at the end by an empty one, with an error not at all.
    fn refill(&mut self) -> io::Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.error());
        }
        let next = loop {
            match self.blocks.next_block() {
                Ok(block) => break block,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(Failure::of(&error));
                    return Err(error);
                }
            }
        };
        self.ended = next.bytes.is_empty();
        self.decoded += next.bytes.len() as u64;
        self.stored = next.stored_bytes;
        self.block = next.bytes;
        self.start = 0;
        Ok(())
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ByteStream").field("offset", &self.offset()).finish_non_exhaustive()
    }
}

/// What of it was not read yet. Faults and the end are those of the stream.
impl DecodedBlocks for ByteStream {
    fn next_block(&mut self) -> io::Result<DecodedBlock> {
        let bytes = self.take_block(u64::MAX)?;
        Ok(DecodedBlock { bytes, stored_bytes: self.stored })
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
        if self.start == self.block.len() && !self.ended {
            self.refill()?;
        }
        Ok(&self.block[self.start..])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.block.len());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::reject::RejectReason;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut options = lzma_rust2::XzOptions::with_preset(1);
        options.lzma_options.dict_size = 1 << 20;
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Every compression that is read, by its name in reasons.
    type Encode = fn(&[u8]) -> Vec<u8>;
    const ENCODERS: [(Encode, &str); 4] = [(gzip, "gzip"), (bzip2, "bzip2"), (xz, "xz"), (zstd, "zstd")];

    fn raw(stored: &[u8], piece: usize) -> Input {
        Input::Stream(Box::new(io::BufReader::with_capacity(piece, Cursor::new(stored.to_vec()))))
    }

    /// Blocks that another thread decompresses.
    struct Received(std::sync::mpsc::Receiver<io::Result<DecodedBlock>>);

    impl DecodedBlocks for Received {
        fn next_block(&mut self) -> io::Result<DecodedBlock> {
            self.0.recv().unwrap_or_else(|_| Err(io::Error::other("the sender is gone")))
        }
    }

    fn on_another_thread(input: Input, limits: &Limits) -> Input {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let limits = limits.clone();
        std::thread::spawn(move || {
            let mut blocks = input.into_decoded(&limits);
            loop {
                let block = blocks.next_block();
                let last = block.as_ref().map_or(true, |block| block.bytes.is_empty());
                if sender.send(block).is_err() || last {
                    return;
                }
            }
        });
        Input::Decoded(Box::new(Received(receiver)))
    }

    /// What comes out, and the fault or failure at the end: the same over blocks decompressed elsewhere.
    fn read_in_pieces(stored: &[u8], piece: usize, limits: &Limits) -> (Vec<u8>, Option<String>) {
        let here = read_to_the_end(ByteStream::new(raw(stored, piece), limits));
        let there = read_to_the_end(ByteStream::new(on_another_thread(raw(stored, piece), limits), &Limits::default()));
        assert!(here == there, "{:?} {:?}", here.1, there.1);
        (here.0, here.1)
    }

    fn read_to_the_end(mut stream: ByteStream) -> (Vec<u8>, Option<String>, u64) {
        let mut out = Vec::new();
        let fault = loop {
            assert_eq!(stream.offset(), out.len() as u64);
            match stream.fill_buf() {
                Ok([]) => break None,
                Ok(bytes) => {
                    let count = bytes.len().div_ceil(2);
                    out.extend_from_slice(&bytes[..count]);
                    stream.consume(count);
                }
                Err(error) => {
                    let fault = StreamFault::of(&error).expect("a fault of the stream").to_string();
                    let again = stream.fill_buf().expect_err("faults stay");
                    assert_eq!(StreamFault::of(&again).map(ToString::to_string), Some(fault.clone()));
                    break Some(fault);
                }
            }
        };
        let stored = stream.stored_bytes();
        (out, fault, stored)
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
        check(b"", b"", None);
        for (encode, _) in ENCODERS {
            check(&encode(&text), &text, None);
            check(&encode(b""), b"", None);
        }
        for short in [&b"\x1f"[..], b"BZh", b"BZh9 is how bzip2 begins", b"\xfd7z", b"\x28\xb5\x2f"] {
            check(short, short, None);
        }
    }

    #[test]
    fn case_29_several_members_and_padding() {
        for (encode, name) in &ENCODERS[..3] {
            let garbage = format!("trailing-garbage: {name}");
            let members = [encode(b"one "), encode(b""), encode(b"two")].concat();
            check(&members, b"one two", None);
            check(&[members.clone(), vec![0; 700]].concat(), b"one two", None);
            check(&[members.clone(), b"garbage".to_vec()].concat(), b"one two", Some(&garbage));
            check(&[members, vec![0; 80_000], b"garbage".to_vec()].concat(), b"one two", Some(&garbage));
        }
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        let frames = [skippable.to_vec(), zstd(b"one "), skippable.to_vec(), zstd(b"two")].concat();
        check(&frames, b"one two", None);
        check(&[frames, b"garbage".to_vec()].concat(), b"one two", Some("trailing-garbage: zstd"));
    }

    #[test]
    fn case_29_xz_streams_behind_padding() {
        let padded = |zeros| [xz(b"one "), vec![0; zeros], xz(b"two")].concat();
        check(&padded(8), b"one two", None);
        check(&padded(7), b"one ", Some("trailing-garbage: xz"));
    }

    #[test]
    fn case_29_every_truncation_is_found() {
        let text = [vec![7; 5_000], b"some words that are not repeated".to_vec()].concat();
        for (encode, name) in ENCODERS {
            let stored = encode(&text);
            for length in 6..stored.len() {
                let (_, fault) = read_in_pieces(&stored[..length], 64, &Limits::default());
                assert_eq!(fault, Some(format!("truncated-stream: {name}")), "{length} of {} bytes", stored.len());
            }
            let two = [stored.clone(), stored.clone()].concat();
            for length in stored.len() + 1..two.len() {
                let (_, fault) = read_in_pieces(&two[..length], 64, &Limits::default());
                assert!(fault.is_some(), "{name}: {length} of {} bytes", two.len());
            }
        }
    }

    #[test]
    fn damage_is_found() {
        let text = [b"words ".repeat(100), b"more".to_vec()].concat();
        for (encode, name) in &ENCODERS[..3] {
            let mut stored = encode(&text);
            let place = if *name == "xz" { stored.len() / 2 } else { stored.len() - 6 };
            stored[place] ^= 1;
            let (_, fault) = read_in_pieces(&stored, 64, &Limits::default());
            assert_eq!(fault, Some(format!("corrupt-stream: {name}")));
        }
        let mut stored = zstd(b"abcdefgh");
        stored[4] ^= 0xff;
        let (_, fault) = read_in_pieces(&stored, 64, &Limits::default());
        assert!(fault.is_some(), "{fault:?}");
    }

    #[test]
    fn any_damage_ends_without_a_panic() {
        let text: Vec<u8> = (0..2_000_u32).flat_map(|i| (i * i % 1_000).to_le_bytes()).collect();
        let limits = Limits { object_bytes: 1 << 20, ..Limits::default() };
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for (encode, name) in ENCODERS {
            let stored = encode(&text);
            for _ in 0..1_000 {
                let mut damaged = stored.clone();
                for _ in 0..=random(3) {
                    let place = random(damaged.len());
                    damaged[place] = random(256) as u8;
                }
                let (out, fault, _) = read_to_the_end(ByteStream::new(raw(&damaged, 4096), &limits));
                // Without its magic bytes it is another stream; zstd(1) alone writes checksums, not its library.
                assert!(fault.is_some() || out == text || damaged[..10] != stored[..10] || name == "zstd", "{name}");
            }
        }
    }

    #[test]
    fn case_28_bombs_stop_at_the_limits() {
        let zeros = vec![0; 4 << 20];
        let limits = Limits { expansion_free_bytes: 1 << 20, ..Limits::default() };
        for (encode, name) in ENCODERS {
            let (out, fault) = read_in_pieces(&encode(&zeros), 4096, &limits);
            assert_eq!(fault.as_deref(), Some("over-limit: expansion_ratio = 250"), "{name}");
            assert!(out.len() <= 1 << 20);
        }
        let limits = Limits { object_bytes: 1 << 20, ..Limits::default() };
        for stored in [zeros.clone(), xz(&zeros), bzip2(&zeros)] {
            let (out, fault) = read_in_pieces(&stored, 4096, &limits);
            assert_eq!(fault.as_deref(), Some("over-limit: object_bytes = 1048576"));
            assert!(out.len() <= 1 << 20);
        }
    }

    #[test]
    fn case_28_compression_inside_compression_is_refused() {
        for (outer, _) in ENCODERS {
            for (inner, _) in ENCODERS {
                check(&outer(&inner(b"x")), b"", Some("nested-compression"));
            }
        }
    }

    #[test]
    fn case_28_xz_dictionaries_are_limited() {
        let limits = Limits { xz_memory_bytes: 1 << 20, ..Limits::default() };
        let (out, fault) = read_in_pieces(&xz(b"x"), 64, &limits);
        assert_eq!((out, fault.as_deref()), (Vec::new(), Some("over-limit: xz_memory_bytes = 1048576")));
        check(&xz(b"x"), b"x", None);
    }

    #[test]
    fn case_28_zstd_windows_are_limited() {
        // A frame header alone: magic, no single segment, window descriptor of 2 GiB.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        check(&frame, b"", Some("over-limit: zstd_window_log = 27"));
    }

    #[test]
    fn other_compressions_are_named() {
        check(&[0x04, 0x22, 0x4d, 0x18, 0x64], b"", Some("unsupported-compression: lz4"));
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
        let cut = |stored: Vec<u8>| stored[..stored.len() - 2].to_vec();
        let compressed = ENCODERS.map(|(encode, _)| cut(encode(&[1; 500])));
        for (stored, apart) in
            compressed.into_iter().chain([b"plain".to_vec()]).flat_map(|stored| [(stored.clone(), false), (stored, true)])
        {
            let mut input = Input::Stream(Box::new(io::BufReader::new(Failing(stored, false))));
            if apart {
                input = on_another_thread(input, &Limits::default());
            }
            let mut stream = ByteStream::new(input, &Limits::default());
            let error = io::copy(&mut stream, &mut io::sink()).unwrap_err();
            assert!(StreamFault::of(&error).is_none());
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(error.to_string(), "the store's own words");
            let again = stream.fill_buf().expect_err("failures stay");
            assert_eq!((again.kind(), StreamFault::of(&again)), (error.kind(), None));
        }
    }

    #[test]
    fn a_sender_that_is_gone_is_no_end() {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        sender.send(Ok(DecodedBlock { bytes: Bytes::from_static(b"half"), stored_bytes: 4 })).unwrap();
        drop(sender);
        let mut stream = ByteStream::new(Input::Decoded(Box::new(Received(receiver))), &Limits::default());
        assert!(stream.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn bytes_are_peeked_over_the_ends_of_blocks() {
        let limits = Limits::default();
        for stored in [&b"words and more"[..], &zstd(b"words and more")] {
            let mut stream = ByteStream::new(raw(stored, 1), &limits);
            assert_eq!(stream.peek(5).unwrap(), b"words and more");
            assert_eq!(stream.peek(512).unwrap(), b"words and more");
            stream.consume(6);
            assert_eq!(stream.peek(512).unwrap(), b"and more");
            assert_eq!(stream.offset(), 6);
            assert_eq!(stream.take_block(3).unwrap(), "and");
            assert_eq!(stream.take_block(u64::MAX).unwrap(), " more");
            assert_eq!(stream.peek(1).unwrap(), b"");
            assert_eq!(stream.take_block(1).unwrap(), "");
        }
        let blocks: Vec<_> = [&b"ab"[..], b"c", b"def"].into_iter().map(Bytes::from_static).collect();
        let (sender, receiver) = std::sync::mpsc::sync_channel(4);
        for bytes in blocks {
            sender.send(Ok(DecodedBlock { bytes, stored_bytes: 0 })).unwrap();
        }
        let fault = StreamFault(RejectReason::NestedCompression);
        sender.send(Err(fault.clone().into_error())).unwrap();
        let mut stream = ByteStream::new(Input::Decoded(Box::new(Received(receiver))), &limits);
        stream.consume(1);
        assert_eq!(stream.peek(4).unwrap(), b"abcdef");
        assert_eq!(stream.offset(), 0);
        assert_eq!(stream.peek(9).unwrap(), b"abcdef");
        stream.consume(6);
        assert_eq!(StreamFault::of(&stream.peek(1).unwrap_err()), Some(&fault));
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
