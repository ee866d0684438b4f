//! Undoes gzip and zstd, told apart by their magic bytes, and keeps damage to the stream apart from failures of the store.
//!
//! Every member of a gzip file and every frame of a zstd file is read. Nothing here limits how much comes out:
//! [`crate::ByteStream`] does.

use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use crate::reject::RejectReason;

/// The longest magic number looked at, in bytes.
const MAGIC_BYTES: usize = 6;
/// Stored bytes held at a time.
const BLOCK_BYTES: usize = 64 << 10;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Skippable zstd frames begin with 0x184D2A5x, little-endian; `pzstd` writes one first.
const ZSTD_SKIPPABLE_TAIL: &[u8] = &[0x2a, 0x4d, 0x18];
const UNSUPPORTED: [(&[u8], &str); 4] = [
    (&[0xfd, b'7', b'z', b'X', b'Z', 0x00], "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
];
/// What libzstd calls bytes after a frame that begin no frame, and a window over the limit.
const ZSTD_NO_FRAME: &str = "Unknown frame descriptor";
const ZSTD_WINDOW: &str = "Frame requires too much memory for decoding";

/// Damage to a compressed stream, or a stream over a limit. Carried inside an [`io::Error`];
/// [`StreamFault::of`] finds it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFault(pub RejectReason);

impl StreamFault {
    /// The fault that an error carries; `None` for a failure of the underlying store.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>())
    }

    pub(crate) fn into_error(self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self)
    }
}

impl fmt::Display for StreamFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for StreamFault {}

/// Marks errors of the underlying reader, so that no decoder's own error is taken for one.
#[derive(Debug)]
struct StoreFailure(io::Error);

impl fmt::Display for StoreFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for StoreFailure {}

/// The bytes as they are stored, re-cut into blocks of one size so that nothing decoded from them depends on how the
/// store cuts its answers. Retries interruptions and marks failures.
pub(crate) struct RawBytes {
    inner: Box<dyn BufRead + Send>,
    block: Vec<u8>,
    start: usize,
    consumed: u64,
}

impl RawBytes {
    pub(crate) fn new(inner: Box<dyn BufRead + Send>) -> Self {
        Self { inner, block: Vec::with_capacity(BLOCK_BYTES), start: 0, consumed: 0 }
    }

    /// The next bytes without consuming them: at least `count`, fewer only at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.block.len() - self.start < count {
            self.fill()?;
        }
        Ok(&self.block[self.start..])
    }

    /// Moves the rest to the front and fills the block up.
    fn fill(&mut self) -> io::Result<()> {
        self.block.drain(..self.start);
        self.start = 0;
        while self.block.len() < BLOCK_BYTES {
            match self.inner.fill_buf() {
                Ok([]) => break,
                Ok(available) => {
                    let taken = available.len().min(BLOCK_BYTES - self.block.len());
                    self.block.extend_from_slice(&available[..taken]);
                    self.inner.consume(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io::Error::other(StoreFailure(error))),
            }
        }
        Ok(())
    }
}

impl Read for RawBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for RawBytes {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.consumed += count as u64;
    }
}

/// A stream being decoded.
pub(crate) enum Decoder {
    Plain(RawBytes),
    Gzip(Box<GzDecoder<RawBytes>>),
    Zstd { decoder: Box<zstd::stream::read::Decoder<'static, RawBytes>>, window_log: u32 },
    Ended { consumed: u64 },
}

impl Decoder {
    /// Looks at the first bytes and chooses.
    pub(crate) fn sniff(mut raw: RawBytes, zstd_window_log: u32) -> io::Result<Self> {
        let head = raw.peek(MAGIC_BYTES).map_err(unmark)?;
        if is_gzip(head) {
            return Ok(Self::Gzip(Box::new(GzDecoder::new(raw))));
        }
        if is_zstd(head) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
            decoder.window_log_max(zstd_window_log)?;
            return Ok(Self::Zstd { decoder: Box::new(decoder), window_log: zstd_window_log });
        }
        if let Some(name) = unsupported(head) {
            let reason = RejectReason::UnsupportedCompression { compression: name.to_string() };
            return Err(StreamFault(reason).into_error());
        }
        Ok(Self::Plain(raw))
    }

    /// Whether anything is being decompressed.
    pub(crate) fn is_compressed(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Stored bytes consumed so far.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match self {
            Self::Plain(raw) => raw.consumed,
            Self::Gzip(decoder) => decoder.get_ref().consumed,
            Self::Zstd { decoder, .. } => decoder.get_ref().consumed,
            Self::Ended { consumed } => *consumed,
        }
    }

    /// Decoded bytes; 0 at the end of the last member.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(raw) => raw.read(buffer).map_err(unmark),
            Self::Zstd { decoder, window_log } => decoder.read(buffer).map_err(|error| judge(error, "zstd", *window_log)),
            Self::Gzip(_) => self.read_gzip(buffer),
            Self::Ended { .. } => Ok(0),
        }
    }

    fn read_gzip(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Self::Gzip(decoder) = self else {
                return Ok(0);
            };
            let count = decoder.read(buffer).map_err(|error| judge(error, "gzip", 0))?;
            if count > 0 {
                return Ok(count);
            }
            let ended = Self::Ended { consumed: decoder.get_ref().consumed };
            let Self::Gzip(decoder) = std::mem::replace(self, ended) else {
                return Ok(0);
            };
            let mut raw = decoder.into_inner();
            if another_member(&mut raw)? {
                *self = Self::Gzip(Box::new(GzDecoder::new(raw)));
            }
        }
    }
}

/// Whether a further gzip member follows. Zero bytes after the last one are padding, as gzip(1) takes them.
fn another_member(raw: &mut RawBytes) -> io::Result<bool> {
    let mut padded = false;
    loop {
        let head = raw.peek(2).map_err(unmark)?;
        match head {
            [] => return Ok(false),
            [0, ..] => {
                raw.consume(1);
                padded = true;
            }
            _ if is_gzip(head) && !padded => return Ok(true),
            _ => {
                let reason = RejectReason::TrailingGarbage { compression: "gzip".to_string() };
                return Err(StreamFault(reason).into_error());
            }
        }
    }
}

/// Whether the bytes begin a gzip or zstd stream.
pub(crate) fn is_compressed(head: &[u8]) -> bool {
    is_gzip(head) || is_zstd(head)
}

fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(GZIP_MAGIC)
}

fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(ZSTD_MAGIC) || (head.len() >= 4 && head[0] & 0xf0 == 0x50 && &head[1..4] == ZSTD_SKIPPABLE_TAIL)
}

fn unsupported(head: &[u8]) -> Option<&'static str> {
    UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)).map(|&(_, name)| name)
}

/// The store's own error out of its mark; any other is returned as it is.
fn unmark(error: io::Error) -> io::Error {
    match error.downcast::<StoreFailure>() {
        Ok(StoreFailure(inner)) => inner,
        Err(error) => error,
    }
}

/// A decoder's error as a fault of the stream, a failure of the store as itself.
fn judge(error: io::Error, compression: &str, window_log: u32) -> io::Error {
    let error = match error.downcast::<StoreFailure>() {
        Ok(StoreFailure(inner)) => return inner,
        Err(error) => error,
    };
    let compression = compression.to_string();
    let message = error.to_string();
    let reason = if error.kind() == io::ErrorKind::UnexpectedEof {
        RejectReason::TruncatedStream { compression }
    } else if message.contains(ZSTD_WINDOW) {
        RejectReason::over_limit("zstd_window_log", u64::from(window_log))
    } else if message.contains(ZSTD_NO_FRAME) {
        RejectReason::TrailingGarbage { compression }
    } else {
        RejectReason::CorruptStream { compression }
    };
    StreamFault(reason).into_error()
}
