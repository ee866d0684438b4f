//! Members of a zip with random access, by its central directory: stored and deflated, zip64 too.
//!
//! The directory is read in order and never held, so that its length does not matter. Encrypted members and other methods are
//! refused, and so are links and paths that lead out of the archive. What is wrong with a member costs that member alone.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use crate::compression::{is_marked, mark, unmark};
use crate::input::RangeRead;
use crate::member::{Entry, Member, malformed, refusal_of_name};
use crate::reader::Limits;
use crate::reject::RejectReason;
use crate::zip_directory::{Ending, FILE_BYTES, FileHeader, LOCAL_BYTES, LocalHeader, find_ending};

/// Bytes of one ranged read.
const RANGE_BYTES: u64 = 4 << 20;

/// Whether an object begins as a zip does, an empty one too.
pub(crate) fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// A zip being read.
pub(crate) struct Zip {
    directory: Window,
    members: Window,
    ending: Ending,
    limits: Limits,
    /// Where the next entry of the directory is, and how many there were.
    next: u64,
    count: u64,
    current: Option<FileHeader>,
    expanded: u64,
    done: bool,
}

impl Zip {
    /// Finds the directory. Inner: what is wrong with the object.
    ///
    /// # Errors
    /// Failures of the store.
    pub(crate) fn open(object: Box<dyn RangeRead>, limits: &Limits) -> io::Result<Result<Self, RejectReason>> {
        let object: Arc<dyn RangeRead> = Arc::from(object);
        let ending = match find_ending(object.as_ref())? {
            Ok(ending) => ending,
            Err(what) => return Ok(Err(malformed(what))),
        };
        let window = || Window { object: Arc::clone(&object), begin: 0, bytes: Vec::new() };
        Ok(Ok(Self {
            directory: window(),
            members: window(),
            next: ending.begin,
            ending,
            limits: limits.clone(),
            count: 0,
            current: None,
            expanded: 0,
            done: false,
        }))
    }

    /// Where reading is: the next entry of the directory.
    pub(crate) fn offset(&self) -> u64 {
        self.next
    }

    /// The next entry of the directory.
    ///
    /// # Errors
    /// Failures of the store.
    pub(crate) fn next(&mut self) -> io::Result<Entry> {
        if self.done {
            return Ok(Entry::End);
        }
        let offset = self.next;
        let entry = match self.read_entry() {
            Ok(Ok(entry)) => Ok(entry),
            Ok(Err(reason)) => Ok(Entry::Fault { offset, reason }),
            Err(error) => Err(error),
        };
        self.done = !matches!(entry, Ok(Entry::Member(_) | Entry::Refused { .. }));
        entry
    }

    fn read_entry(&mut self) -> io::Result<Result<Entry, RejectReason>> {
        if self.expanded > self.limits.object_bytes {
            return Ok(Err(RejectReason::over_limit("object_bytes", self.limits.object_bytes)));
        }
        let allowed = self.members.object.len().saturating_mul(self.limits.expansion_ratio);
        if self.expanded > self.limits.expansion_free_bytes.max(allowed) {
            return Ok(Err(RejectReason::over_limit("expansion_ratio", self.limits.expansion_ratio)));
        }
        if self.next == self.ending.end {
            let complete = self.ending.is_count(self.count);
            return Ok(if complete { Ok(Entry::End) } else { Err(malformed("a zip directory with another number of entries")) });
        }
        let left = self.ending.end - self.next;
        let fixed = self.directory.up_to(self.next, left.min(FILE_BYTES))?;
        let Some(length) = FileHeader::length(fixed) else {
            return Ok(Err(malformed("an entry of a zip directory")));
        };
        if length > left {
            return Ok(Err(malformed("a zip directory that is cut short")));
        }
        let header = match FileHeader::parse(self.directory.up_to(self.next, length)?) {
            Ok(header) => header,
            Err(what) => return Ok(Err(malformed(what))),
        };
        self.next += length;
        self.count += 1;
        Ok(Ok(self.entry(header)))
    }

    fn entry(&mut self, header: FileHeader) -> Entry {
        let FileHeader { offset, stored: bytes, .. } = header;
        let refused = header.refusal().or_else(|| refusal_of_name(&header.name, self.limits.member_name_bytes));
        if let Some(reason) = refused {
            self.current = None;
            return Entry::Refused { offset, bytes, reason };
        }
        let name = String::from_utf8_lossy(&header.name).replace(char::REPLACEMENT_CHARACTER, "?");
        let member = Member { is_directory: name.ends_with('/'), name, offset, size: header.size };
        self.current = Some(header);
        Entry::Member(member)
    }

    /// The content of the current member, or why it cannot be had. It holds at most `limit` bytes.
    ///
    /// # Errors
    /// Failures of the store.
    pub(crate) fn content(&mut self, limit: u64) -> io::Result<Result<Vec<u8>, RejectReason>> {
        let Some(header) = self.current.take() else {
            return Ok(Err(malformed("a member of a zip that was read before")));
        };
        if header.size > limit {
            return Ok(Err(RejectReason::over_limit("record_bytes", limit)));
        }
        let begin = match self.data_of(&header)? {
            Ok(begin) => begin,
            Err(what) => return Ok(Err(malformed(what))),
        };
        let data = MemberData { window: &mut self.members, next: begin, end: begin + header.stored };
        // One byte more shows that the size is not what the directory says.
        let most = header.size.saturating_add(1);
        let mut content = Vec::new();
        let read = if header.is_deflated() {
            DeflateDecoder::new(data).take(most).read_to_end(&mut content)
        } else {
            data.take(most).read_to_end(&mut content)
        };
        self.expanded += content.len() as u64;
        if let Err(error) = read {
            return unmarked(error).map(Err);
        }
        let mut crc = Crc::new();
        crc.update(&content);
        let whole = content.len() as u64 == header.size && crc.sum() == header.crc;
        Ok(if whole { Ok(content) } else { Err(corrupt()) })
    }

    /// Where the data of a member begins: behind its local header, which must be of the same member.
    fn data_of(&mut self, header: &FileHeader) -> io::Result<Result<u64, &'static str>> {
        const OUTSIDE: &str = "a member of a zip outside of it";
        let Some(left) = self.ending.begin.checked_sub(header.offset) else {
            return Ok(Err(OUTSIDE));
        };
        let fixed = self.members.up_to(header.offset, left.min(LOCAL_BYTES))?;
        let Some(local) = LocalHeader::parse(fixed) else {
            return Ok(Err("a local header of a zip"));
        };
        let length = local.length();
        if length.checked_add(header.stored).is_none_or(|whole| whole > left) {
            return Ok(Err(OUTSIDE));
        }
        let name = self.members.up_to(header.offset + LOCAL_BYTES, local.name_bytes)?;
        if name != header.name {
            return Ok(Err("a local header of a zip with another name"));
        }
        Ok(Ok(header.offset + length))
    }
}

impl std::fmt::Debug for Zip {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Zip").field("next", &self.next).finish_non_exhaustive()
    }
}

/// A reason for the decoder's errors; failures of the store as they are.
fn unmarked(error: io::Error) -> io::Result<RejectReason> {
    if is_marked(&error) {
        return Err(unmark(error));
    }
    Ok(match error.kind() {
        io::ErrorKind::UnexpectedEof => RejectReason::TruncatedStream { compression: "zip".to_owned() },
        _ => corrupt(),
    })
}

fn corrupt() -> RejectReason {
    RejectReason::CorruptStream { compression: "zip".to_owned() }
}

/// Consecutive bytes of the object that were read at once.
struct Window {
    object: Arc<dyn RangeRead>,
    begin: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// At most `count` bytes from `offset`, fewer only at the end of the object.
    fn up_to(&mut self, offset: u64, count: u64) -> io::Result<&[u8]> {
        let available = self.object.len().saturating_sub(offset);
        let count = count.min(available);
        let held = offset >= self.begin && offset + count <= self.begin + self.bytes.len() as u64;
        if !held {
            let length = available.min(RANGE_BYTES.max(count)) as usize;
            self.bytes = self.object.read_at(offset, length)?;
            self.begin = offset;
            if self.bytes.len() != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let start = (offset - self.begin) as usize;
        Ok(&self.bytes[start..start + count as usize])
    }
}

/// Stored bytes of one member.
struct MemberData<'a> {
    window: &'a mut Window,
    next: u64,
    end: u64,
}

impl Read for MemberData<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for MemberData<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // What the window holds already, or one byte and all that comes with it.
        let held = (self.window.begin + self.window.bytes.len() as u64).saturating_sub(self.next);
        let count = if self.next < self.window.begin { 1 } else { held.max(1) };
        self.window.up_to(self.next, count.min(self.end - self.next)).map_err(mark)
    }

    fn consume(&mut self, count: usize) {
        self.next += count as u64;
    }
}
