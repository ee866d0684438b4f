//! The central directory of a zip: its end record (zip64 too), its entries, and the local headers that they point to.
//!
//! It takes bytes apart and reads only the end of the object; [`crate::zip`] reads the rest.

use std::io;

use crate::input::RangeRead;
use crate::reject::RejectReason;

/// Bytes of an entry of the directory before its name.
pub(crate) const FILE_BYTES: u64 = 46;
/// Bytes of a local header before its name.
pub(crate) const LOCAL_BYTES: u64 = 30;
const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;
const END_64_BYTES: usize = 56;
const MAX_COMMENT_BYTES: usize = u16::MAX as usize;
const FILE_SIGNATURE: u32 = 0x0201_4b50;
const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const END_SIGNATURE: u32 = 0x0605_4b50;
const LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
const END_64_SIGNATURE: u32 = 0x0606_4b50;
/// Key of the extra field with 64-bit sizes.
const EXTRA_64: u16 = 1;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Flags of encrypted data, strongly encrypted data, and a masked local header.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
/// System of origin whose attributes hold a Unix mode.
const UNIX: u8 = 3;
const MODE_KIND: u32 = 0o170_000;
const MODE_LINK: u32 = 0o120_000;

/// Where the directory stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    entries: u64,
    is_64: bool,
}

impl Ending {
    /// Whether so many entries are all. Without zip64, writers of more than 65,535 kept the low bits.
    pub(crate) fn is_count(self, count: u64) -> bool {
        self.entries == if self.is_64 { count } else { count & 0xffff }
    }
}

/// Finds the end record, which has a comment of unknown length behind it. Inner: what is wrong.
pub(crate) fn find_ending(object: &dyn RangeRead) -> io::Result<Result<Ending, &'static str>> {
    const NONE: &str = "no end of a zip directory";
    let most = (END_BYTES + MAX_COMMENT_BYTES + LOCATOR_BYTES) as u64;
    let length = object.len().min(most) as usize;
    let tail_begin = object.len() - length as u64;
    let tail = object.read_at(tail_begin, length)?;
    let is_end = |&at: &usize| {
        let comment = u16_at(&tail, at + 20).map(usize::from);
        u32_at(&tail, at) == Some(END_SIGNATURE) && comment == (length - at).checked_sub(END_BYTES)
    };
    let Some(at) = (0..=length.saturating_sub(END_BYTES)).rev().find(is_end) else {
        return Ok(Err(NONE));
    };
    let end_offset = tail_begin + at as u64;
    let locator = at.checked_sub(LOCATOR_BYTES).filter(|&at| u32_at(&tail, at) == Some(LOCATOR_SIGNATURE));
    let Some(locator) = locator else {
        return Ok(ending_of(&tail[at..], end_offset).ok_or(NONE));
    };
    let Some(place) = u64_at(&tail, locator + 8) else {
        return Ok(Err(NONE));
    };
    let room = (end_offset - LOCATOR_BYTES as u64).checked_sub(place);
    if room.is_none_or(|room| room < END_64_BYTES as u64) {
        return Ok(Err(NONE));
    }
    let record = object.read_at(place, END_64_BYTES)?;
    Ok(ending_64_of(&record, place).ok_or(NONE))
}

/// One disk, and a directory before its end record.
fn ending_of(record: &[u8], end_offset: u64) -> Option<Ending> {
    let disks = (u16_at(record, 4)?, u16_at(record, 6)?);
    let entries = (u16_at(record, 8)?, u16_at(record, 10)?);
    let (size, begin) = (u64::from(u32_at(record, 12)?), u64::from(u32_at(record, 16)?));
    let end = begin.checked_add(size).filter(|&end| end <= end_offset)?;
    (disks == (0, 0) && entries.0 == entries.1).then_some(Ending { begin, end, entries: u64::from(entries.1), is_64: false })
}

fn ending_64_of(record: &[u8], end_offset: u64) -> Option<Ending> {
    let disks = (u32_at(record, 16)?, u32_at(record, 20)?);
    let entries = (u64_at(record, 24)?, u64_at(record, 32)?);
    let (size, begin) = (u64_at(record, 40)?, u64_at(record, 48)?);
    let end = begin.checked_add(size).filter(|&end| end <= end_offset)?;
    let valid = u32_at(record, 0)? == END_64_SIGNATURE && disks == (0, 0) && entries.0 == entries.1;
    valid.then_some(Ending { begin, end, entries: entries.1, is_64: true })
}

/// An entry of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) name: Vec<u8>,
    /// Where its local header is.
    pub(crate) offset: u64,
    /// Bytes of its data as stored, and of its content.
    pub(crate) stored: u64,
    pub(crate) size: u64,
    pub(crate) crc: u32,
    method: u16,
    flags: u16,
    is_link: bool,
}

impl FileHeader {
    /// Bytes of the whole entry, from its first [`FILE_BYTES`].
    pub(crate) fn length(fixed: &[u8]) -> Option<u64> {
        let variable = [28, 30, 32].into_iter().map(|at| u16_at(fixed, at).map(u64::from)).sum::<Option<u64>>()?;
        let whole = fixed.len() as u64 >= FILE_BYTES && u32_at(fixed, 0) == Some(FILE_SIGNATURE);
        whole.then_some(FILE_BYTES + variable)
    }

    /// Takes a whole entry apart.
    pub(crate) fn parse(entry: &[u8]) -> Result<Self, &'static str> {
        Self::parts(entry).ok_or("an entry of a zip directory")
    }

    fn parts(entry: &[u8]) -> Option<Self> {
        let name_end = FILE_BYTES as usize + usize::from(u16_at(entry, 28)?);
        let extra_end = name_end + usize::from(u16_at(entry, 30)?);
        let attributes = u32_at(entry, 38)?;
        let mut header = Self {
            name: entry.get(FILE_BYTES as usize..name_end)?.to_vec(),
            offset: u64::from(u32_at(entry, 42)?),
            stored: u64::from(u32_at(entry, 20)?),
            size: u64::from(u32_at(entry, 24)?),
            crc: u32_at(entry, 16)?,
            method: u16_at(entry, 10)?,
            flags: u16_at(entry, 8)?,
            is_link: entry.get(5) == Some(&UNIX) && attributes >> 16 & MODE_KIND == MODE_LINK,
        };
        let extra = entry.get(name_end..extra_end)?;
        // Only those that do not fit above are there, in this order.
        let mut wide = extra_field(extra, EXTRA_64).unwrap_or_default();
        for value in [&mut header.size, &mut header.stored, &mut header.offset] {
            if *value == u64::from(u32::MAX) {
                *value = u64_at(wide, 0)?;
                wide = &wide[8..];
            }
        }
        Some(header)
    }

    /// Why its content cannot be read, if so.
    pub(crate) fn refusal(&self) -> Option<RejectReason> {
        if self.is_link {
            return Some(RejectReason::UnsafeMember { what: "a symbolic link".to_owned() });
        }
        let compression = if self.flags & ENCRYPTED != 0 {
            "an encrypted member of a zip".to_owned()
        } else if !matches!(self.method, STORED | DEFLATED) {
            format!("zip method {}", self.method)
        } else {
            return None;
        };
        Some(RejectReason::UnsupportedCompression { compression })
    }

    pub(crate) fn is_deflated(&self) -> bool {
        self.method == DEFLATED
    }
}

/// What matters of a local header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalHeader {
    pub(crate) name_bytes: u64,
    extra_bytes: u64,
}

impl LocalHeader {
    pub(crate) fn parse(fixed: &[u8]) -> Option<Self> {
        let (name_bytes, extra_bytes) = (u64::from(u16_at(fixed, 26)?), u64::from(u16_at(fixed, 28)?));
        (u32_at(fixed, 0)? == LOCAL_SIGNATURE).then_some(Self { name_bytes, extra_bytes })
    }

    pub(crate) fn length(self) -> u64 {
        LOCAL_BYTES + self.name_bytes + self.extra_bytes
    }
}

fn extra_field(mut extra: &[u8], key: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(extra, 2)?);
        let field = extra.get(4..4 + length)?;
        if u16_at(extra, 0)? == key {
            return Some(field);
        }
        extra = &extra[4 + length..];
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u16::from_le_bytes(chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u32::from_le_bytes(chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u64::from_le_bytes(chunk))
}
