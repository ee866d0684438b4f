//! Where a plain tar is cut: between entries, found by hopping from header to header.
//!
//! It reads headers and no content. What [`crate::tar`] would report as damage leaves the tar whole, and so does what is rare
//! enough not to be followed here; so a part that is not the last has entries only, each with the headers that extend it.

use std::io;

use crate::input::RangeRead;
use crate::part::{HEAD_BYTES, Part, is_plain};
use crate::reader::Limits;
use crate::tar_header::{BLOCK_BYTES, Extended, Header};

/// Bytes of a ranged read: small entries share one.
const WINDOW_BYTES: u64 = 4 << 10;
/// Most ranged reads of that size.
const MAX_READS: u64 = 1 << 19;
/// Most bytes of an extended header.
const MAX_EXTENDED_BYTES: u64 = 1 << 20;
/// Most zero bytes behind the last entry.
const MAX_END_BYTES: u64 = 1 << 20;

/// The parts of an object of about `part_bytes` each; none where it is no plain tar, or one that cannot be cut surely.
///
/// # Errors
/// Failures of the store.
pub(crate) fn parts(object: &dyn RangeRead, part_bytes: u64, limits: &Limits) -> io::Result<Vec<Part>> {
    // Reading stops at the limit, which a part does not know of.
    if object.len() > limits.object_bytes {
        return Ok(Vec::new());
    }
    let header_limit = MAX_EXTENDED_BYTES.min(limits.member_header_bytes as u64);
    let mut hops = Hops { object, header_limit, reads_left: MAX_READS, window: Vec::new(), window_begin: 0 };
    let begins = hops.begins(part_bytes)?.unwrap_or_default();
    let ends = begins.iter().skip(1).copied().chain([object.len()]);
    let part = |(&first, end)| Part { first, end, frame: Some(first), stored_bytes: end - first, is_sequential: false };
    Ok(begins.iter().zip(ends).map(part).collect())
}

/// A tar of which only headers are read.
struct Hops<'a> {
    object: &'a dyn RangeRead,
    header_limit: u64,
    reads_left: u64,
    /// What was read last, and where it begins.
    window: Vec<u8>,
    window_begin: u64,
}

impl Hops<'_> {
    /// Where parts begin; `None` where not all of the tar is understood.
    fn begins(&mut self, part_bytes: u64) -> io::Result<Option<Vec<u64>>> {
        let mut begins: Vec<u64> = Vec::new();
        let mut at = 0;
        while !self.is_end(at)? {
            let Some(head) = self.bytes(at, HEAD_BYTES as u64)? else { return Ok(None) };
            let is_far = begins.last().is_none_or(|first| at - first >= part_bytes);
            // A part that begins as a compressed stream does would be taken for one.
            if is_far && is_plain(head) {
                begins.push(at);
            } else if at == 0 {
                return Ok(None);
            }
            let Some(next) = self.behind_entry(at)? else { return Ok(None) };
            at = next;
        }
        Ok(Some(begins))
    }

    /// Whether nothing but zeros comes. More of them than usual are no end here, and no entry either.
    fn is_end(&mut self, at: u64) -> io::Result<bool> {
        let rest = self.object.len() - at;
        let block = rest.min(BLOCK_BYTES as u64);
        Ok(rest == 0 || (rest <= MAX_END_BYTES && self.are_zeros(at, block)? && self.are_zeros(at, rest)?))
    }

    fn are_zeros(&mut self, at: u64, length: u64) -> io::Result<bool> {
        Ok(self.bytes(at, length)?.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0)))
    }

    /// Where the entry ends whose first header, its own or one that extends it, begins at `at`.
    fn behind_entry(&mut self, mut at: u64) -> io::Result<Option<u64>> {
        let mut extended = Extended::default();
        loop {
            let block = self.bytes(at, BLOCK_BYTES as u64)?.and_then(<[u8]>::first_chunk);
            let Some(header) = block.and_then(|block| Header::parse(block).ok()) else { return Ok(None) };
            at += BLOCK_BYTES as u64;
            match header.kind {
                b'x' | b'X' | b'g' => {
                    let records = if header.size > self.header_limit { None } else { self.bytes(at, header.size)? };
                    let Some(records) = records else { return Ok(None) };
                    let taken = if header.kind == b'g' { Extended::check_global(records) } else { extended.take(records) };
                    if taken.is_err() {
                        return Ok(None);
                    }
                }
                b'L' | b'K' => {}
                // Its map goes on behind the header.
                b'S' => return Ok(None),
                _ => {
                    let size = if header.has_content() { extended.size.unwrap_or(header.size) } else { 0 };
                    return Ok(self.behind_content(at, size));
                }
            }
            let Some(next) = self.behind_content(at, header.size) else { return Ok(None) };
            at = next;
        }
    }

    /// Where padded content ends, if that is in the object.
    fn behind_content(&self, at: u64, size: u64) -> Option<u64> {
        let padded = size.checked_next_multiple_of(BLOCK_BYTES as u64)?;
        at.checked_add(padded).filter(|end| *end <= self.object.len())
    }

    /// Bytes of the object; `None` behind its end, and when too many were read.
    fn bytes(&mut self, at: u64, length: u64) -> io::Result<Option<&[u8]>> {
        let end = at.checked_add(length).filter(|end| *end <= self.object.len());
        let Some(end) = end else { return Ok(None) };
        if at < self.window_begin || end > self.window_begin + self.window.len() as u64 {
            let length = length.max(WINDOW_BYTES).min(self.object.len() - at);
            let Some(left) = self.reads_left.checked_sub(length.div_ceil(WINDOW_BYTES)) else { return Ok(None) };
            self.reads_left = left;
            self.window = self.object.read_at(at, length as usize)?;
            self.window_begin = at;
        }
        let first = (at - self.window_begin) as usize;
        Ok(self.window.get(first..first + length as usize))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Members so many bytes apart, made while they are read, and how often that was.
    struct Made {
        entries: u64,
        apart: u64,
        reads: AtomicU64,
    }

    impl RangeRead for Made {
        fn len(&self) -> u64 {
            self.entries * self.apart
        }

        fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let mut header = [0; BLOCK_BYTES];
            header[0] = b'a';
            header[124..135].copy_from_slice(format!("{:011o}", self.apart - BLOCK_BYTES as u64).as_bytes());
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum::<u32>() + 8 * u32::from(b' ');
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            let mut bytes = vec![0; length];
            let first = (offset.next_multiple_of(self.apart) - offset) as usize;
            for at in (first..length).step_by(self.apart as usize) {
                bytes[at..at + BLOCK_BYTES].copy_from_slice(&header);
            }
            Ok(bytes)
        }
    }

    fn check(entries: u64, apart: u64, part_bytes: u64, expected: (usize, u64)) {
        let object = Made { entries, apart, reads: AtomicU64::new(0) };
        let found = parts(&object, part_bytes, &Limits::default()).unwrap().len();
        assert_eq!((found, object.reads.into_inner()), expected, "{entries} entries, {apart} bytes apart");
    }

    #[test]
    fn reads_are_few_and_bounded() {
        check(1_000, 1 << 20, 64 << 20, (16, 1_000));
        check(1_000, 1_024, 64 << 10, (16, 250));
        check(MAX_READS, 1 << 16, 1 << 30, (32, MAX_READS));
        check(MAX_READS + 1, 1 << 16, 1 << 30, (0, MAX_READS));
        let object = Made { entries: 10, apart: 1_024, reads: AtomicU64::new(0) };
        let limits = Limits { object_bytes: 10 * 1_024 - 1, ..Limits::default() };
        assert_eq!(parts(&object, 1, &limits).unwrap(), []);
    }
}
