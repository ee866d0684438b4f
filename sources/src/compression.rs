//! Undoes gzip, bzip2, xz and zstd, told apart by their magic bytes, and keeps damage to the stream apart from failures of
//! the store.
//!
//! Every member of a gzip, bzip2 or xz file and every frame of a zstd file is read. Nothing here limits how much comes out:
//! [`crate::decoded`] does.

use std::fmt;
use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

use crate::reader::Limits;
use crate::reject::RejectReason;

/// The longest magic number looked at, in bytes.
pub(crate) const MAGIC_BYTES: usize = 10;
/// Stored bytes held at a time.
const BLOCK_BYTES: usize = 64 << 10;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// Behind `BZh` and a digit: a first block, or the end of a stream without any.
const BZIP2_BLOCK: &[u8] = &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
const BZIP2_END: &[u8] = &[0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
const XZ_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0x00];
/// Padding between and behind xz streams comes in multiples of this many bytes.
const XZ_PADDING: u64 = 4;
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Skippable zstd frames begin with 0x184D2A5x, little-endian; `pzstd` writes one first.
const ZSTD_SKIPPABLE_TAIL: &[u8] = &[0x2a, 0x4d, 0x18];
const UNSUPPORTED: [(&[u8], &str); 2] = [(b"PK\x03\x04", "zip"), (&[0x04, 0x22, 0x4d, 0x18], "lz4")];
/// Endings of the names of compressed objects.
const SUFFIXES: [&str; 7] = [".gz", ".gzip", ".bz2", ".bzip2", ".xz", ".zst", ".zstd"];
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
/// store cuts its answers.
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
        copy_up_to(&mut *self.inner, &mut self.block, BLOCK_BYTES)
    }

    /// Adds what is held already, then straight from the store, until `out` has `length` bytes; fewer only at the end.
    fn read_into(&mut self, out: &mut Vec<u8>, length: usize) -> io::Result<()> {
        let before = out.len();
        let held = (self.block.len() - self.start).min(length - before);
        out.extend_from_slice(&self.block[self.start..self.start + held]);
        self.start += held;
        let copied = copy_up_to(&mut *self.inner, out, length);
        self.consumed += (out.len() - before) as u64;
        copied
    }
}

/// Adds bytes until there are `length` of them or no more. Retries interruptions and marks failures.
fn copy_up_to(from: &mut dyn BufRead, out: &mut Vec<u8>, length: usize) -> io::Result<()> {
    while out.len() < length {
        match from.fill_buf() {
            Ok([]) => break,
            Ok(available) => {
                let taken = available.len().min(length - out.len());
                out.extend_from_slice(&available[..taken]);
                from.consume(taken);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(mark(error)),
        }
    }
    Ok(())
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

/// A compression that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Compression {
    const ALL: [Self; 4] = [Self::Gzip, Self::Bzip2, Self::Xz, Self::Zstd];

    /// What begins with these bytes. Fewer than [`MAGIC_BYTES`] are a whole stream.
    fn of(head: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.begins(head))
    }

    fn begins(self, head: &[u8]) -> bool {
        match self {
            Self::Gzip => head.starts_with(GZIP_MAGIC),
            Self::Bzip2 => begins_bzip2(head),
            Self::Xz => head.len() >= 4 && XZ_MAGIC.starts_with(&head[..head.len().min(XZ_MAGIC.len())]),
            Self::Zstd => begins_zstd(head),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// Whether a further member may stand behind this many zero bytes: as the `.xz` format says, and gzip(1) does not.
    fn goes_on_behind(self, padding: u64) -> bool {
        padding == 0 || (self == Self::Xz && padding.is_multiple_of(XZ_PADDING))
    }
}

/// A cut stream is recognised by four bytes; a whole one by its first block or end mark too, so that text is not taken for it.
fn begins_bzip2(head: &[u8]) -> bool {
    let [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] = head else {
        return false;
    };
    let rest = &rest[..rest.len().min(6)];
    BZIP2_BLOCK.starts_with(rest) || BZIP2_END.starts_with(rest)
}

fn begins_zstd(head: &[u8]) -> bool {
    head.starts_with(ZSTD_MAGIC) || (head.len() >= 4 && head[0] & 0xf0 == 0x50 && &head[1..4] == ZSTD_SKIPPABLE_TAIL)
}

/// Whether the bytes begin a stream that is decompressed. At least [`MAGIC_BYTES`] of them, or all there are.
pub(crate) fn is_compressed(head: &[u8]) -> bool {
    Compression::of(head).is_some()
}

/// An object's name without the ending that names its compression, if it has one.
pub(crate) fn without_compression(name: &str) -> &str {
    let ending = SUFFIXES.into_iter().find(|suffix| {
        let begin = name.len().checked_sub(suffix.len());
        begin.and_then(|begin| name.get(begin..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    });
    &name[..name.len() - ending.map_or(0, str::len)]
}

fn unsupported(head: &[u8]) -> Option<&'static str> {
    UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)).map(|&(_, name)| name)
}

/// One member of a compressed stream, or what is left of it.
enum Member {
    Plain(RawBytes),
    Gzip(Box<GzDecoder<RawBytes>>),
    Bzip2(Box<BzDecoder<RawBytes>>),
    Xz(Box<XzReader<RawBytes>>),
    /// Reads every frame itself.
    Zstd(Box<zstd::stream::read::Decoder<'static, RawBytes>>),
    Ended {
        consumed: u64,
    },
}

/// A stream being decoded.
pub(crate) struct Decoder {
    member: Member,
    zstd_window_log: u32,
    xz_memory_bytes: u64,
}

impl Decoder {
    /// Looks at the first bytes and chooses.
    pub(crate) fn sniff(mut raw: RawBytes, limits: &Limits) -> io::Result<Self> {
        let head = raw.peek(MAGIC_BYTES).map_err(unmark)?;
        let found = Compression::of(head);
        if found.is_none()
            && let Some(name) = unsupported(head)
        {
            let reason = RejectReason::UnsupportedCompression { compression: name.to_string() };
            return Err(StreamFault(reason).into_error());
        }
        let ended = Member::Ended { consumed: 0 };
        let mut decoder =
            Self { member: ended, zstd_window_log: limits.zstd_window_log, xz_memory_bytes: limits.xz_memory_bytes };
        decoder.member = match found {
            None => Member::Plain(raw),
            Some(compression) => decoder.begin(compression, raw)?,
        };
        Ok(decoder)
    }

    fn begin(&self, compression: Compression, raw: RawBytes) -> io::Result<Member> {
        Ok(match compression {
            Compression::Gzip => Member::Gzip(Box::new(GzDecoder::new(raw))),
            Compression::Bzip2 => Member::Bzip2(Box::new(BzDecoder::new(raw))),
            Compression::Xz => {
                // The largest value would switch the limit off.
                let limit_kib = u32::try_from(self.xz_memory_bytes / 1024).unwrap_or(u32::MAX).min(u32::MAX - 1);
                Member::Xz(Box::new(XzReader::new_mem_limit(raw, false, limit_kib)))
            }
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
                decoder.window_log_max(self.zstd_window_log)?;
                Member::Zstd(Box::new(decoder))
            }
        })
    }

    /// Whether anything is being decompressed.
    pub(crate) fn is_compressed(&self) -> bool {
        !matches!(self.member, Member::Plain(_))
    }

    /// Stored bytes consumed so far.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match &self.member {
            Member::Plain(raw) => raw.consumed,
            Member::Gzip(decoder) => decoder.get_ref().consumed,
            Member::Bzip2(decoder) => decoder.get_ref().consumed,
            Member::Xz(decoder) => decoder.inner().consumed,
            Member::Zstd(decoder) => decoder.get_ref().consumed,
            Member::Ended { consumed } => *consumed,
        }
    }

    /// Adds decoded bytes to `out`, which has at most `length` then. None at the end of the last member. With an error, those
    /// before it are added when nothing is compressed.
    pub(crate) fn read_into(&mut self, out: &mut Vec<u8>, length: usize) -> io::Result<()> {
        if let Member::Plain(raw) = &mut self.member {
            return raw.read_into(out, length).map_err(unmark);
        }
        let before = out.len();
        out.resize(length, 0);
        let read = self.read(&mut out[before..]);
        out.truncate(before + *read.as_ref().unwrap_or(&0));
        read.map(drop)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (read, compression) = match &mut self.member {
                Member::Plain(_) | Member::Ended { .. } => return Ok(0),
                Member::Gzip(decoder) => (decoder.read(buffer), Compression::Gzip),
                Member::Bzip2(decoder) => (decoder.read(buffer), Compression::Bzip2),
                Member::Xz(decoder) => (decoder.read(buffer), Compression::Xz),
                Member::Zstd(decoder) => (decoder.read(buffer), Compression::Zstd),
            };
            let count = read.map_err(|error| self.judge(error, compression))?;
            if count > 0 || compression == Compression::Zstd {
                return Ok(count);
            }
            self.next_member(compression)?;
        }
    }

    /// Ends the member and begins a further one of the same kind, if there is any.
    fn next_member(&mut self, compression: Compression) -> io::Result<()> {
        let ended = Member::Ended { consumed: self.stored_bytes() };
        let mut raw = match std::mem::replace(&mut self.member, ended) {
            Member::Gzip(decoder) => decoder.into_inner(),
            Member::Bzip2(decoder) => decoder.into_inner(),
            Member::Xz(decoder) => decoder.into_inner(),
            Member::Plain(_) | Member::Zstd(_) | Member::Ended { .. } => return Ok(()),
        };
        let goes_on = another_member(&mut raw, compression)?;
        self.member = if goes_on { self.begin(compression, raw)? } else { Member::Ended { consumed: raw.consumed } };
        Ok(())
    }

    /// A decoder's error as a fault of the stream, a failure of the store as itself.
    fn judge(&self, error: io::Error, compression: Compression) -> io::Error {
        let error = match error.downcast::<StoreFailure>() {
            Ok(StoreFailure(inner)) => return inner,
            Err(error) => error,
        };
        let name = compression.name().to_string();
        let message = error.to_string();
        let reason = if error.kind() == io::ErrorKind::UnexpectedEof {
            RejectReason::TruncatedStream { compression: name }
        } else if compression == Compression::Xz && error.kind() == io::ErrorKind::OutOfMemory {
            RejectReason::over_limit("xz_memory_bytes", self.xz_memory_bytes)
        } else if message.contains(ZSTD_WINDOW) {
            RejectReason::over_limit("zstd_window_log", u64::from(self.zstd_window_log))
        } else if message.contains(ZSTD_NO_FRAME) {
            RejectReason::TrailingGarbage { compression: name }
        } else {
            RejectReason::CorruptStream { compression: name }
        };
        StreamFault(reason).into_error()
    }
}

/// Whether a further member follows. Zero bytes after the last one are padding, as gzip(1) takes them.
fn another_member(raw: &mut RawBytes, compression: Compression) -> io::Result<bool> {
    let mut padding = 0;
    loop {
        let head = raw.peek(MAGIC_BYTES).map_err(unmark)?;
        let zeros = head.iter().take_while(|&&byte| byte == 0).count();
        if head.is_empty() {
            return Ok(false);
        }
        if zeros == 0 {
            if compression.begins(head) && compression.goes_on_behind(padding) {
                return Ok(true);
            }
            let reason = RejectReason::TrailingGarbage { compression: compression.name().to_string() };
            return Err(StreamFault(reason).into_error());
        }
        raw.consume(zeros);
        padding += zeros as u64;
    }
}

/// Marks a failure of the store on its way through a decoder; [`unmark`] and [`Decoder::judge`] find it again.
pub(crate) fn mark(error: io::Error) -> io::Error {
    io::Error::other(StoreFailure(error))
}

/// Whether what an error carries is such a mark.
pub(crate) fn is_marked(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<StoreFailure>)
}

/// The store's own error out of its mark; any other is returned as it is.
pub(crate) fn unmark(error: io::Error) -> io::Error {
    match error.downcast::<StoreFailure>() {
        Ok(StoreFailure(inner)) => inner,
        Err(error) => error,
    }
}
