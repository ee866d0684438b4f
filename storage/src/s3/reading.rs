//! Bytes of one state of an object: in ranges of 8 MiB, several at once where more are wanted, resumed where an answer was cut.
//! Nothing is kept longer than the caller has not taken it.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::remote::Got;
use super::trouble::Kind;
use super::{S3Store, Subject};
use crate::error::StoreError;
use crate::key::{ETag, Key, ObjectMeta};
use crate::usage::Request;

/// Bytes of one request for a part of an object.
pub const READ_BYTES: u64 = 8 << 20;
/// Requests of one read under way at once.
const READS_AT_ONCE: usize = 4;
/// Ranges of a stream that wait to be taken, besides the one that comes.
const AHEAD: usize = 1;
/// Requests that one range may take while each gives a part of it.
const MOST_PIECES: u32 = 64;

/// Requests that read an object of this length once: one for each [`READ_BYTES`] of it.
pub fn requests_to_read(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(READ_BYTES).max(1)
}

/// The bytes of `range`, or the whole object.
pub(super) fn read(store: &S3Store, key: &Key, range: Option<Range<u64>>, pinned: Option<&ETag>) -> Result<Vec<u8>, StoreError> {
    let Some(range) = range else {
        let (first, etag, size) = first_block(store, key, pinned)?;
        return rest(store, key, first, &(READ_BYTES.min(size)..size), &etag);
    };
    if range.start > range.end {
        return Err(truncated(store, key, 0, 0));
    }
    if range.is_empty() {
        // Nothing is read, but the state is checked as for any other range.
        let head = store.look(key, "reading")?;
        check_state(store, key, pinned, &head.etag)?;
        return if range.start <= head.size_bytes { Ok(Vec::new()) } else { Err(truncated(store, key, 0, 0)) };
    }
    let first = range.start..range.end.min(range.start + READ_BYTES);
    let (bytes, etag, size) = match block(store, key, first.clone(), pinned, first.end - first.start) {
        Err(Behind::End) => return Err(end_of(store, key, &range, pinned)),
        Err(Behind::Other(error)) => return Err(error),
        Ok(got) => got,
    };
    if range.end > size {
        return Err(truncated(store, key, range.end - range.start, size.saturating_sub(range.start)));
    }
    rest(store, key, bytes, &(first.end..range.end), &etag)
}

/// At most one block and the state it is of.
pub(super) fn read_state(store: &S3Store, key: &Key, range: Range<u64>) -> Result<(Vec<u8>, ObjectMeta), StoreError> {
    match block(store, key, range.clone(), None, range.end - range.start) {
        Ok((bytes, etag, size_bytes)) => Ok((bytes, ObjectMeta { key: key.clone(), size_bytes, etag })),
        Err(Behind::End) => Err(end_of(store, key, &range, None)),
        Err(Behind::Other(error)) => Err(error),
    }
}

/// What is behind the first block, a few requests at a time.
fn rest(store: &S3Store, key: &Key, mut bytes: Vec<u8>, range: &Range<u64>, etag: &ETag) -> Result<Vec<u8>, StoreError> {
    let starts: Vec<u64> = (range.start..range.end).step_by(READ_BYTES as usize).collect();
    bytes.reserve_exact((range.end.saturating_sub(range.start)) as usize);
    for group in starts.chunks(READS_AT_ONCE) {
        let blocks: Vec<Result<Vec<u8>, StoreError>> = thread::scope(|scope| {
            let reads: Vec<_> = group
                .iter()
                .map(|&start| scope.spawn(move || whole(store, key, start..range.end.min(start + READ_BYTES), etag)))
                .collect();
            reads.into_iter().map(|read| read.join().expect("a read does not panic")).collect()
        });
        for block in blocks {
            bytes.extend_from_slice(&block?);
        }
    }
    Ok(bytes)
}

/// A range that is known to be there.
fn whole(store: &S3Store, key: &Key, range: Range<u64>, etag: &ETag) -> Result<Vec<u8>, StoreError> {
    let expected = range.end - range.start;
    match block(store, key, range, Some(etag), expected) {
        Ok((bytes, _, _)) if bytes.len() as u64 == expected => Ok(bytes),
        Ok((bytes, _, _)) => Err(truncated(store, key, expected, bytes.len() as u64)),
        Err(Behind::End) => Err(truncated(store, key, expected, 0)),
        Err(Behind::Other(error)) => Err(error),
    }
}

/// The first block of an object with its state and length; an empty object has an empty one.
fn first_block(store: &S3Store, key: &Key, pinned: Option<&ETag>) -> Result<(Vec<u8>, ETag, u64), StoreError> {
    // How much will come nobody knows: most such objects are records, a few thousand bytes each.
    match block(store, key, 0..READ_BYTES, pinned, 0) {
        Ok(got) => Ok(got),
        Err(Behind::Other(error)) => Err(error),
        Err(Behind::End) => {
            let head = store.look(key, "reading")?;
            check_state(store, key, pinned, &head.etag)?;
            if head.size_bytes == 0 { Ok((Vec::new(), head.etag, 0)) } else { Err(truncated(store, key, head.size_bytes, 0)) }
        }
    }
}

/// Why a block was not read.
enum Behind {
    /// It begins behind the end of the object.
    End,
    Other(StoreError),
}

/// At most one block: what of it is there, the state it is of, and the length of the object. A cut answer is resumed where it
/// ended, in the same state. `body_bytes` are sure to come, and have time of their own.
fn block(
    store: &S3Store,
    key: &Key,
    range: Range<u64>,
    pinned: Option<&ETag>,
    body_bytes: u64,
) -> Result<(Vec<u8>, ETag, u64), Behind> {
    let name = store.inner.address.name(key).map_err(Behind::Other)?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut state = pinned.cloned();
    for _ in 0..MOST_PIECES {
        let from = range.start + bytes.len() as u64..range.end;
        let made = store.make(Request::Get, body_bytes, || store.remote().get(&name, from.clone(), state.as_ref()));
        let got: Got = match made {
            Ok(got) => got,
            Err(given_up) if given_up.trouble.kind == Kind::Range => return Err(Behind::End),
            Err(given_up) if given_up.trouble.kind == Kind::Precondition => {
                return Err(Behind::Other(changed(store, key, state.as_ref())));
            }
            Err(given_up) => {
                return Err(Behind::Other(store.failed(Subject { name: Some(key), operation: "reading" }, given_up)));
            }
        };
        store.inner.attempts.meter.came(got.bytes.len() as u64);
        // Some servers take no notice of If-Match on GET.
        check_state(store, key, state.as_ref(), &got.etag).map_err(Behind::Other)?;
        let expected = range.end.min(got.size_bytes).saturating_sub(from.start);
        let is_whole = got.bytes.len() as u64 == expected;
        bytes.extend_from_slice(&got.bytes);
        if is_whole {
            return Ok((bytes, got.etag, got.size_bytes));
        }
        state = Some(got.etag);
        store.inner.attempts.meter.retried();
    }
    Err(Behind::Other(truncated(store, key, range.end - range.start, bytes.len() as u64)))
}

fn check_state(store: &S3Store, key: &Key, pinned: Option<&ETag>, found: &ETag) -> Result<(), StoreError> {
    match pinned {
        Some(expected) if expected != found => {
            Err(StoreError::Changed { object: store.object(key), expected: expected.clone(), found: found.clone() })
        }
        _ => Ok(()),
    }
}

/// The error of a refused condition, with the state that is there now.
fn changed(store: &S3Store, key: &Key, pinned: Option<&ETag>) -> StoreError {
    let expected = pinned.cloned().unwrap_or_else(|| ETag::new("none"));
    match store.look(key, "reading") {
        Ok(head) => StoreError::Changed { object: store.object(key), expected, found: head.etag },
        Err(error) => error,
    }
}

/// The error of a range that begins behind the end.
fn end_of(store: &S3Store, key: &Key, range: &Range<u64>, pinned: Option<&ETag>) -> StoreError {
    match store.look(key, "reading").and_then(|head| check_state(store, key, pinned, &head.etag)) {
        Ok(()) => truncated(store, key, range.end - range.start, 0),
        Err(error) => error,
    }
}

fn truncated(store: &S3Store, key: &Key, expected: u64, got: u64) -> StoreError {
    StoreError::Truncated { object: store.object(key), expected, got }
}

/// An object from its first byte to its last, with the next block on its way.
pub(super) struct Stream {
    block: io::Cursor<Vec<u8>>,
    /// Blocks that a thread of this stream reads ahead; `None` behind the last.
    ahead: Option<Receiver<Result<Vec<u8>, StoreError>>>,
    /// Bytes that are still to come behind the block.
    left: u64,
}

impl Stream {
    pub(super) fn open(store: S3Store, key: &Key, pinned: Option<&ETag>) -> Result<Self, StoreError> {
        let (first, etag, size) = first_block(&store, key, pinned)?;
        let ahead = (size > READ_BYTES).then(|| {
            let (sender, receiver) = sync_channel(AHEAD);
            let key = key.clone();
            thread::spawn(move || {
                for start in (READ_BYTES..size).step_by(READ_BYTES as usize) {
                    let block = whole(&store, &key, start..size.min(start + READ_BYTES), &etag);
                    let is_last = block.is_err();
                    // Nobody reads any more, or the reader has its error.
                    if sender.send(block).is_err() || is_last {
                        return;
                    }
                }
            });
            receiver
        });
        let left = size - first.len() as u64;
        Ok(Self { block: io::Cursor::new(first), ahead, left })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(ahead) = &self.ahead else { return Ok(0) };
            // The thread ends behind the last block, and the channel with it.
            match ahead.recv() {
                Ok(block) => {
                    self.block = io::Cursor::new(block?);
                    self.left = self.left.saturating_sub(self.block.get_ref().len() as u64);
                }
                Err(_) if self.left > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(_) => self.ahead = None,
            }
        }
    }
}
