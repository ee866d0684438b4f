//! The frames of a zstd stream: where each is stored and which decompressed bytes it holds, without decompressing it.
//!
//! Layout: RFC 8878 §3.1. It hops from block header to block header. Sizes are what the frames say of themselves; a frame that
//! lies is found when it is decompressed.

use std::io;

use crate::input::RangeRead;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Magic numbers of skippable frames, but for the lowest four bits.
const SKIPPABLE: u32 = 0x184d_2a50;
/// Longest frame header: magic, descriptor, window, dictionary, content size.
const MAX_HEADER_BYTES: u64 = 18;
/// Most frames of a table.
const MAX_FRAMES: usize = 1 << 20;
/// Most headers of frames and blocks that are looked at: each is a ranged read.
const MAX_READS: usize = 1 << 19;

/// One frame with content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// First stored byte.
    pub(crate) stored: u64,
    /// Stored bytes, with those of skippable frames behind it.
    pub(crate) stored_bytes: u64,
    /// First decompressed byte.
    pub(crate) first: u64,
    /// The byte behind the last one.
    pub(crate) end: u64,
}

/// Whether the bytes begin a frame, a skippable one included.
pub(crate) fn is_frame(head: &[u8]) -> bool {
    head.starts_with(&MAGIC) || word(head).is_some_and(is_skippable)
}

/// The frames of an object in order; `None` where one does not say how much it holds, is damaged, or there are too many.
///
/// # Errors
/// Failures of the store.
pub(crate) fn frames(object: &dyn RangeRead) -> io::Result<Option<Vec<Frame>>> {
    let mut table = Table { object, reads: 0, frames: Vec::new() };
    Ok(table.fill()?.map(|()| table.frames))
}

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    bytes: u64,
    content: u64,
    has_checksum: bool,
}

struct Table<'a> {
    object: &'a dyn RangeRead,
    reads: usize,
    frames: Vec<Frame>,
}

impl Table<'_> {
    fn fill(&mut self) -> io::Result<Option<()>> {
        let (mut at, mut first) = (0, 0_u64);
        while at < self.object.len() {
            let Some(head) = self.peek(at, MAX_HEADER_BYTES)? else { return Ok(None) };
            if let Some(size) = skippable_bytes(&head) {
                at += size;
                // What is skipped before the first frame is stored with it.
                if let Some(frame) = self.frames.last_mut() {
                    frame.stored_bytes += size;
                }
                continue;
            }
            let Some(header) = header(&head) else { return Ok(None) };
            let Some(behind) = self.behind_blocks(at + header.bytes)? else { return Ok(None) };
            let next = behind + if header.has_checksum { 4 } else { 0 };
            let Some(end) = first.checked_add(header.content) else { return Ok(None) };
            if next > self.object.len() || self.frames.len() == MAX_FRAMES {
                return Ok(None);
            }
            self.frames.push(Frame { stored: at, stored_bytes: next - at, first, end });
            (at, first) = (next, end);
        }
        Ok((at == self.object.len()).then_some(()))
    }

    /// Up to `length` bytes; `None` when too many were looked at.
    fn peek(&mut self, at: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        self.reads += 1;
        if self.reads > MAX_READS {
            return Ok(None);
        }
        let length = length.min(self.object.len().saturating_sub(at));
        self.object.read_at(at, length as usize).map(Some)
    }

    /// The byte behind the last block of a frame whose first block begins at `at`.
    fn behind_blocks(&mut self, mut at: u64) -> io::Result<Option<u64>> {
        loop {
            let Some(head) = self.peek(at, 3)? else { return Ok(None) };
            let [a, b, c] = head[..] else { return Ok(None) };
            let block = u32::from_le_bytes([a, b, c, 0]);
            let size = u64::from(block >> 3);
            at += 3 + match (block >> 1) & 3 {
                0 | 2 => size,
                // One byte, repeated.
                1 => 1,
                _ => return Ok(None),
            };
            if block & 1 == 1 {
                return Ok(Some(at));
            }
        }
    }
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}

fn is_skippable(magic: u32) -> bool {
    magic & 0xffff_fff0 == SKIPPABLE
}

/// Stored bytes of a skippable frame.
fn skippable_bytes(head: &[u8]) -> Option<u64> {
    let size = word(head.get(4..)?)?;
    is_skippable(word(head)?).then_some(8 + u64::from(size))
}

/// A frame's header; `None` where it is none, or does not state its content's size.
fn header(head: &[u8]) -> Option<Header> {
    let rest = head.strip_prefix(&MAGIC)?;
    let descriptor = *rest.first()?;
    let is_single = descriptor >> 5 & 1 == 1;
    let window = usize::from(!is_single);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = match descriptor >> 6 {
        0 => usize::from(is_single),
        flag => 1 << flag,
    };
    let field = rest.get(1 + window + dictionary..)?.get(..size).filter(|field| !field.is_empty())?;
    let mut wide = [0; 8];
    wide[..size].copy_from_slice(field);
    let content = u64::from_le_bytes(wide) + if size == 2 { 256 } else { 0 };
    let bytes = (MAGIC.len() + 1 + window + dictionary + size) as u64;
    // Bit 3 is reserved.
    (descriptor >> 3 & 1 == 0).then_some(Header { bytes, content, has_checksum: descriptor >> 2 & 1 == 1 })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn frame(content: &[u8], sized: bool, checksum: bool) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(checksum).unwrap();
        if sized {
            encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
        }
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn skip(length: u32) -> Vec<u8> {
        [&0x184d_2a5e_u32.to_le_bytes()[..], &length.to_le_bytes(), &vec![7; length as usize]].concat()
    }

    fn table(stored: impl AsRef<[u8]>) -> Option<Vec<Frame>> {
        frames(&stored.as_ref().to_vec()).unwrap()
    }

    /// Bytes that do not compress, so that a frame has several blocks.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn sizes_of_every_width_are_read() {
        let contents = [vec![], b"a".to_vec(), vec![b'x'; 300], noise(70_000), vec![b'y'; 500_000]];
        let mut stored = skip(3);
        let mut expected = Vec::new();
        let mut first = 0;
        for (number, content) in contents.iter().enumerate() {
            let frame = frame(content, true, number % 2 == 0);
            let end = first + content.len() as u64;
            expected.push(Frame { stored: stored.len() as u64, stored_bytes: frame.len() as u64, first, end });
            stored.extend(frame);
            first = end;
        }
        stored.extend(skip(9));
        expected.last_mut().unwrap().stored_bytes += 17;
        assert_eq!(table(stored), Some(expected));
    }

    #[test]
    fn what_is_not_sure_is_no_table() {
        let good = frame(b"good", true, true);
        assert!(table(&good).is_some());
        assert_eq!(table([good.clone(), frame(b"unsized", false, true)].concat()), None);
        assert_eq!(table([good.clone(), b"no frame".to_vec()].concat()), None);
        for cut in 1..good.len() {
            assert_eq!(table([good.clone(), good[..cut].to_vec()].concat()), None, "cut at {cut}");
        }
        assert_eq!(table([good, skip(9)[..12].to_vec()].concat()), None);
    }

    #[test]
    fn any_bytes_end_in_an_answer() {
        for seed in 0..200 {
            let mut stored = frame(&noise(1000), true, true);
            let at = seed * 5 % stored.len();
            stored[at] ^= 1 << (seed % 8);
            let _answer = table(stored);
        }
    }
}
