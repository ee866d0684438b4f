//! Members of a tar stream: POSIX ustar, GNU long names, PAX extended headers, and the layout before them.
//!
//! One header is held at a time, and content is lent block by block or passed over. Links, devices and sparse files are
//! refused, and paths that lead out of the archive; a header that is damaged ends the archive, because nothing says where the
//! next one is. Nothing is written anywhere.

use std::io::{self, BufRead, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::compression::StreamFault;
use crate::decoded::{DecodedBlock, DecodedBlocks};
use crate::input::ByteStream;
use crate::member::{Entry, Member, malformed, refusal_of_name};
use crate::part::Part;
use crate::reader::Limits;
use crate::reject::RejectReason;
use crate::tar_header::{BLOCK_BYTES, Block, Extended, Header};

/// Where an old GNU sparse map goes on: in its header, and in each further block of it.
const SPARSE_MORE_OF_HEADER: usize = 482;
const SPARSE_MORE_OF_BLOCK: usize = 504;

/// Whether the first bytes of a stream, at least [`BLOCK_BYTES`] unless it is shorter, begin a tar.
pub(crate) fn is_tar(head: &[u8]) -> bool {
    let block = head.first_chunk::<BLOCK_BYTES>();
    head.get(257..262) == Some(b"ustar") || block.is_some_and(|block| Header::parse(block).is_ok())
}

/// Whether they are those of a tar without any member.
pub(crate) fn is_empty_tar(head: &[u8]) -> bool {
    head.first_chunk::<BLOCK_BYTES>().is_some_and(|block| is_zero(block))
}

/// A tar being read.
#[derive(Debug)]
pub(crate) struct Tar {
    stream: ByteStream,
    /// Offset of the first byte of `stream` in the whole.
    base: u64,
    /// No entry begins here or behind.
    end: u64,
    name_limit: usize,
    header_limit: usize,
    /// Bytes of the current member's content, and of the padding behind it, that were not read yet.
    content_left: u64,
    padding_left: u64,
    done: bool,
    /// A fault that content ended with.
    content_fault: Option<RejectReason>,
}

impl Tar {
    /// A tar in a stream of which nothing was taken yet. Of a part, the stream begins where the part does and may go on behind.
    pub(crate) fn new(stream: ByteStream, part: Option<Part>, limits: &Limits) -> Self {
        let (base, end) = part.map_or((0, u64::MAX), |part| (part.first, part.end));
        Self {
            stream,
            base,
            end,
            name_limit: limits.member_name_bytes,
            header_limit: limits.member_header_bytes,
            content_left: 0,
            padding_left: 0,
            done: false,
            content_fault: None,
        }
    }

    /// Offset of the next byte in the decompressed stream of the whole object.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.stream.offset()
    }

    /// The next entry; what was not read of the last member is passed over.
    ///
    /// # Errors
    /// Failures of the underlying store.
    pub(crate) fn next(&mut self) -> io::Result<Entry> {
        if self.done {
            return Ok(Entry::End);
        }
        let read = self.pass_content().and_then(|()| if self.offset() < self.end { self.read_entry() } else { Ok(Entry::End) });
        self.done = !matches!(read, Ok(Entry::Member(_) | Entry::Refused { .. }));
        match read {
            Err(error) => match StreamFault::of(&error) {
                Some(StreamFault(reason)) => Ok(Entry::Fault { offset: self.offset(), reason: reason.clone() }),
                None => Err(error),
            },
            entry => entry,
        }
    }

    /// The next bytes of the current member's content; none behind its end.
    ///
    /// # Errors
    /// A fault of the stream, or a failure of the store.
    pub(crate) fn content(&mut self) -> io::Result<Bytes> {
        if self.content_left == 0 {
            return Ok(Bytes::new());
        }
        let taken = self.stream.take_block(self.content_left).and_then(not_at_end);
        match &taken {
            Ok(bytes) => self.content_left -= bytes.len() as u64,
            Err(error) => {
                self.done = true;
                self.content_fault = StreamFault::of(error).map(|fault| fault.0.clone());
            }
        }
        taken
    }

    /// The fault that [`Self::content`] ended with, once: nothing comes after it.
    pub(crate) fn take_content_fault(&mut self) -> Option<RejectReason> {
        self.content_fault.take()
    }

    fn read_entry(&mut self) -> io::Result<Entry> {
        let mut extended = Extended::default();
        let mut begin = None;
        loop {
            let Some((offset, block)) = self.header_block()? else {
                return if begin.is_some() { Err(fault(RejectReason::TruncatedRecord)) } else { Ok(Entry::End) };
            };
            let begin = *begin.get_or_insert(offset);
            let header = Header::parse(&block).map_err(|what| fault(malformed(what)))?;
            self.announce(header.size);
            match header.kind {
                b'x' | b'X' | b'g' => {
                    let content = self.small_content(self.header_limit)?;
                    let content = content.ok_or_else(|| fault(over_header_limit(self.header_limit)))?;
                    let taken = if header.kind == b'g' { Extended::check_global(&content) } else { extended.take(&content) };
                    taken.map_err(|what| fault(malformed(what)))?;
                }
                b'L' => match self.small_content(self.name_limit.saturating_add(1))? {
                    Some(name) => extended.take_long_name(name),
                    None => extended.refused = Some(RejectReason::over_limit("member_name_bytes", self.name_limit as u64)),
                },
                // Where a link leads does not matter: it is refused.
                b'K' => self.pass_content()?,
                _ => return self.entry(begin, &block, header, extended),
            }
        }
    }

    fn entry(&mut self, begin: u64, block: &Block, header: Header, extended: Extended) -> io::Result<Entry> {
        let size = extended.size.unwrap_or(header.size);
        self.announce(if header.has_content() { size } else { 0 });
        if header.kind == b'S' {
            self.pass_sparse_map(block)?;
        }
        let offset = self.offset();
        let name = extended.name.unwrap_or(header.name);
        let of_kind = if extended.sparse { refusal_of_kind(b'S') } else { refusal_of_kind(header.kind) };
        let refused = of_kind.or(extended.refused).or_else(|| refusal_of_name(&name, self.name_limit));
        if let Some(reason) = refused {
            let bytes = (offset - begin).saturating_add(self.content_left);
            return Ok(Entry::Refused { offset: begin, bytes, reason });
        }
        let is_directory = header.kind == b'5' || name.ends_with(b"/");
        let name = String::from_utf8_lossy(&name).replace(char::REPLACEMENT_CHARACTER, "?");
        Ok(Entry::Member(Member { name, is_directory, offset, size: self.content_left }))
    }

    /// What follows the header just read.
    fn announce(&mut self, size: u64) {
        self.content_left = size;
        self.padding_left = (BLOCK_BYTES as u64 - size % BLOCK_BYTES as u64) % BLOCK_BYTES as u64;
    }

    /// The next block that is not all zeros, and where it begins. The two such blocks at the end may be missing, may be more,
    /// and may have a further archive behind them, as cat(1) leaves them.
    fn header_block(&mut self) -> io::Result<Option<(u64, Block)>> {
        let mut behind_end = false;
        loop {
            let offset = self.offset();
            let mut block = [0; BLOCK_BYTES];
            let length = read_up_to(&mut self.stream, &mut block)?;
            if !is_zero(&block) {
                if behind_end && (length < BLOCK_BYTES || Header::parse(&block).is_err()) {
                    return Err(fault(RejectReason::TrailingGarbage { compression: "tar".to_owned() }));
                }
                let whole = length == BLOCK_BYTES;
                return if whole { Ok(Some((offset, block))) } else { Err(fault(RejectReason::TruncatedRecord)) };
            }
            if length < BLOCK_BYTES {
                return Ok(None);
            }
            behind_end = true;
        }
    }

    /// The whole content, unless it is over a limit: then it is passed over.
    fn small_content(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let fits = self.content_left <= limit as u64;
        let mut content = Vec::new();
        while fits && self.content_left > 0 {
            content.extend_from_slice(&self.content()?);
        }
        self.pass_content()?;
        Ok(fits.then_some(content))
    }

    /// Reads to the next header without holding anything.
    fn pass_content(&mut self) -> io::Result<()> {
        while self.content_left > 0 {
            self.content_left -= self.pass(self.content_left)?;
        }
        while self.padding_left > 0 {
            self.padding_left -= self.pass(self.padding_left)?;
        }
        Ok(())
    }

    fn pass(&mut self, most: u64) -> io::Result<u64> {
        not_at_end(self.stream.take_block(most)?).map(|bytes| bytes.len() as u64)
    }

    fn pass_sparse_map(&mut self, header: &Block) -> io::Result<()> {
        let mut more = header[SPARSE_MORE_OF_HEADER] != 0;
        while more {
            let mut block = [0; BLOCK_BYTES];
            if read_up_to(&mut self.stream, &mut block)? < BLOCK_BYTES {
                return Err(fault(RejectReason::TruncatedRecord));
            }
            more = block[SPARSE_MORE_OF_BLOCK] != 0;
        }
        Ok(())
    }
}

/// A tar whose members are read by other readers, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct SharedTar(Arc<Mutex<Tar>>);

impl SharedTar {
    pub(crate) fn new(tar: Tar) -> Self {
        Self(Arc::new(Mutex::new(tar)))
    }

    /// Never held for longer than one call, so that nobody waits.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The content of the current member. Its reader is dropped before the next member is asked for.
impl DecodedBlocks for SharedTar {
    fn next_block(&mut self) -> io::Result<DecodedBlock> {
        let mut tar = self.lock();
        let bytes = tar.content()?;
        Ok(DecodedBlock { bytes, stored_bytes: tar.stream.stored_bytes() })
    }
}

/// Why an entry of this kind cannot be a member, if so.
fn refusal_of_kind(kind: u8) -> Option<RejectReason> {
    let what = match kind {
        b'0' | b'5' | b'7' => return None,
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' | b'4' => "a device",
        b'6' => "a pipe",
        b'S' => "a sparse file",
        _ => "an entry of an unknown kind",
    };
    Some(RejectReason::UnsafeMember { what: what.to_owned() })
}

/// The stream must not end here.
fn not_at_end(bytes: Bytes) -> io::Result<Bytes> {
    if bytes.is_empty() { Err(fault(RejectReason::TruncatedRecord)) } else { Ok(bytes) }
}

fn read_up_to(stream: &mut ByteStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() && !stream.fill_buf()?.is_empty() {
        length += stream.read(&mut buffer[length..])?;
    }
    Ok(length)
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

fn over_header_limit(limit: usize) -> RejectReason {
    RejectReason::over_limit("member_header_bytes", limit as u64)
}

fn fault(reason: RejectReason) -> io::Error {
    StreamFault(reason).into_error()
}
