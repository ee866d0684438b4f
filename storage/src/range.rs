//! One object as a random-access file: every read is pinned to the state it was opened in.
//! It reads ahead a bounded block for sequential use; what is kept longer lies in the store's cache.

use crate::block_cache::{First, Subject};
use crate::commit::ObjectEntry;
use crate::error::StoreError;
use crate::key::{ETag, Key, ObjectMeta};
use crate::store::Store;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Bytes taken at once out of a cache when reading sequentially.
const READ_AHEAD_BYTES: u64 = 1 << 20;

/// `Read + Seek` over an object, and reads at an offset that leave the position alone. Blocks of an object that was opened by its
/// name or its entry are kept where the store keeps blocks; one whose state was known is read once, from its beginning to its end,
/// as inputs are: there the next block is on its way while one is read.
#[derive(Debug)]
pub struct RangeReader {
    store: Arc<dyn Store>,
    meta: ObjectMeta,
    /// What its blocks are kept as, where they are.
    kept: Option<Subject>,
    position: u64,
    /// Bytes read ahead, beginning at `ahead_start`.
    ahead: Vec<u8>,
    ahead_start: u64,
    coming: Option<Coming>,
}

/// A block on its way.
#[derive(Debug)]
struct Coming {
    start: u64,
    length: usize,
    block: JoinHandle<Result<Vec<u8>, StoreError>>,
}

/// A clone begins where the other stands, with nothing read ahead.
impl Clone for RangeReader {
    fn clone(&self) -> Self {
        Self { position: self.position, kept: self.kept.clone(), ..Self::pinned(Arc::clone(&self.store), self.meta.clone()) }
    }
}

impl RangeReader {
    /// Looks the object up and pins the state it is in.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is absent, otherwise the store's.
    pub fn open(store: Arc<dyn Store>, key: &Key) -> Result<Self, StoreError> {
        let meta = store.head(key)?;
        Ok(Self::known(store, meta))
    }

    /// As [`open`](Self::open), of an object that was looked up or listed already.
    pub fn known(store: Arc<dyn Store>, meta: ObjectMeta) -> Self {
        let object = crate::error::object_name(store.uri(), &meta.key);
        let subject = Subject { object, state: meta.etag.as_str().to_owned(), size_bytes: meta.size_bytes };
        let kept = store.cache().filter(|cache| cache.fits(meta.size_bytes)).map(|_| subject);
        Self { kept, ..Self::pinned(store, meta) }
    }

    /// Opens an object that a record names. Where the store keeps blocks, its first one tells the state, and none is asked for
    /// twice by one process: the record says which content the name stands for.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of(store: Arc<dyn Store>, entry: &ObjectEntry) -> Result<Self, StoreError> {
        let key = Key::new(entry.key.as_str())?;
        let object = crate::error::object_name(store.uri(), &key);
        let subject = Subject { object, state: entry.blake3.clone(), size_bytes: entry.bytes };
        let first = |range: Range<u64>| {
            let (bytes, meta) = store.read_state(&key, range)?;
            Ok((meta.size_bytes == entry.bytes).then_some(First { bytes, etag: meta.etag }))
        };
        let etag = match store.cache().filter(|_| entry.bytes > 0) {
            Some(cache) => cache.opened(&subject, &first)?,
            None => None,
        };
        let Some(etag) = etag else { return Self::open(store, &key) };
        let meta = ObjectMeta { key, size_bytes: entry.bytes, etag };
        Ok(Self { kept: Some(subject), ..Self::pinned(store, meta) })
    }

    /// Reads the object in a state that is known already, without looking it up.
    pub fn pinned(store: Arc<dyn Store>, meta: ObjectMeta) -> Self {
        Self { store, meta, kept: None, position: 0, ahead: Vec::new(), ahead_start: 0, coming: None }
    }

    /// Keeps no blocks of the object any more, for they were found to be damaged.
    pub(crate) fn forget(&self) {
        if let Some((subject, cache)) = self.kept.as_ref().zip(self.store.cache()) {
            cache.forget(subject);
        }
    }

    /// The object's name.
    pub fn key(&self) -> &Key {
        &self.meta.key
    }

    /// The state that every read is pinned to.
    pub fn etag(&self) -> &ETag {
        &self.meta.etag
    }

    /// Its length in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.meta.size_bytes
    }

    /// Exactly `length` bytes from `offset`; the position stays.
    ///
    /// # Errors
    /// [`StoreError::Truncated`] when the object ends before, [`StoreError::Changed`] when it is no longer the pinned one,
    /// otherwise the store's.
    pub fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let end = offset.saturating_add(length as u64);
        let is_there = end <= self.meta.size_bytes && length > 0;
        if let Some((subject, cache)) = self.kept.as_ref().zip(self.store.cache()).filter(|_| is_there) {
            let fetch = |range: Range<u64>| exactly(&*self.store, &self.meta, range.start, (range.end - range.start) as usize);
            if let Some(bytes) = cache.read(subject, &self.meta.etag, &(offset..end), &fetch)? {
                return Ok(bytes);
            }
        }
        exactly(&*self.store, &self.meta, offset, length)
    }

    /// The bytes read ahead from the position on; empty when there are none.
    fn buffered(&self) -> &[u8] {
        let skip = self.position.checked_sub(self.ahead_start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.ahead.get(skip..)).unwrap_or_default()
    }

    /// Reads the block at the position, and sends for the next one where that takes time.
    fn advance(&mut self) -> Result<(), StoreError> {
        let step = if self.kept.is_some() { READ_AHEAD_BYTES } else { self.store.block_bytes() };
        let left = |from: u64| self.meta.size_bytes.saturating_sub(from).min(step) as usize;
        let came = self.coming.take().filter(|coming| coming.start == self.position && coming.length == left(self.position));
        self.ahead = match came {
            Some(coming) => coming.block.join().expect("a read does not panic")?,
            None => self.read_at(self.position, left(self.position))?,
        };
        self.ahead_start = self.position;
        let start = self.position + self.ahead.len() as u64;
        if self.kept.is_none() && step > READ_AHEAD_BYTES && start < self.meta.size_bytes {
            let (store, meta, length) = (Arc::clone(&self.store), self.meta.clone(), left(start));
            let block = std::thread::spawn(move || exactly(&*store, &meta, start, length));
            self.coming = Some(Coming { start, length, block });
        }
        Ok(())
    }
}

/// A range of an object in its state, whole or an error.
fn exactly(store: &dyn Store, meta: &ObjectMeta, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
    let end = offset.saturating_add(length as u64);
    let bytes = store.read(&meta.key, Some(offset..end), Some(&meta.etag))?;
    if bytes.len() == length {
        return Ok(bytes);
    }
    let object = crate::error::object_name(store.uri(), &meta.key);
    Err(StoreError::Truncated { object, expected: length as u64, got: bytes.len() as u64 })
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.meta.size_bytes <= self.position || buffer.is_empty() {
            return Ok(0);
        }
        if self.buffered().is_empty() {
            self.advance()?;
        }
        let bytes = self.buffered();
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for RangeReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.meta.size_bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek to before the object's start"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use proptest::prelude::{Just, any, prop_oneof, proptest};
    use std::io::Cursor;

    fn reader(body: &[u8]) -> (MemoryStore, RangeReader) {
        let store = MemoryStore::new("range");
        let key = Key::new("object").unwrap();
        store.overwrite(&key, body);
        let reader = RangeReader::open(Arc::new(store.clone()), &key).unwrap();
        (store, reader)
    }

    #[test]
    fn it_reads_across_blocks() {
        let body: Vec<u8> = (0..3 * READ_AHEAD_BYTES + 17).map(|i| (i % 251) as u8).collect();
        let mut read = Vec::new();
        reader(&body).1.read_to_end(&mut read).unwrap();
        assert!(read == body);
    }

    #[test]
    fn a_range_past_the_end_is_an_error_and_not_a_short_read() {
        let (_store, reader) = reader(b"0123456789");
        assert_eq!(reader.read_at(4, 3).unwrap(), b"456");
        assert_eq!(reader.read_at(10, 0).unwrap(), b"");
        assert!(matches!(reader.read_at(8, 3), Err(StoreError::Truncated { expected: 3, got: 2, .. })));
        assert!(matches!(reader.read_at(u64::MAX, 3), Err(StoreError::Truncated { .. })));
    }

    #[test]
    fn case_09_an_object_replaced_while_it_is_read_is_an_error() {
        let (store, mut reader) = reader(&vec![7; 2 * READ_AHEAD_BYTES as usize]);
        let mut block = vec![0; READ_AHEAD_BYTES as usize];
        reader.read_exact(&mut block).unwrap();
        store.overwrite(&Key::new("object").unwrap(), &vec![8; 2 * READ_AHEAD_BYTES as usize]);
        let error = StoreError::from_io("object".into(), "reading", reader.read_exact(&mut block).unwrap_err());
        assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn it_reads_and_seeks_as_a_cursor_does(
            body: Vec<u8>,
            moves in proptest::collection::vec(
                (prop_oneof![Just(0), Just(1), Just(2)], -40_i64..40, 0_usize..30, any::<bool>()), 0..20),
        ) {
            let (_store, mut ours) = reader(&body);
            let mut model = Cursor::new(&body);
            for (whence, offset, length, also_read) in moves {
                let to = match whence {
                    0 => SeekFrom::Start(offset.unsigned_abs()),
                    1 => SeekFrom::Current(offset),
                    _ => SeekFrom::End(offset),
                };
                assert_eq!(ours.seek(to).ok(), model.seek(to).ok());
                if also_read {
                    let (mut left, mut right) = (vec![0; length], vec![0; length]);
                    let read = (ours.read(&mut left).unwrap(), model.read(&mut right).unwrap());
                    assert_eq!(read.0, read.1);
                    assert_eq!(left, right);
                }
            }
        }
    }
}
