//! One object as a random-access file: every read is pinned to the state it was opened in.
//! It reads ahead a bounded block for sequential use and keeps nothing else.

use crate::error::StoreError;
use crate::key::{ETag, Key, ObjectMeta};
use crate::store::Store;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// Bytes fetched at once when reading sequentially.
const READ_AHEAD_BYTES: u64 = 1 << 20;

/// `Read + Seek` over an object, and reads at an offset that leave the position alone.
#[derive(Clone, Debug)]
pub struct RangeReader {
    store: Arc<dyn Store>,
    meta: ObjectMeta,
    position: u64,
    /// Bytes read ahead, beginning at `ahead_start`.
    ahead: Vec<u8>,
    ahead_start: u64,
}

impl RangeReader {
    /// Looks the object up and pins the state it is in.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is absent, otherwise the store's.
    pub fn open(store: Arc<dyn Store>, key: &Key) -> Result<Self, StoreError> {
        let meta = store.head(key)?;
        Ok(Self::pinned(store, meta))
    }

    /// Reads the object in a state that is known already, without looking it up.
    pub fn pinned(store: Arc<dyn Store>, meta: ObjectMeta) -> Self {
        Self { store, meta, position: 0, ahead: Vec::new(), ahead_start: 0 }
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
        let bytes = self.store.read(&self.meta.key, Some(offset..end), Some(&self.meta.etag))?;
        if bytes.len() == length {
            return Ok(bytes);
        }
        Err(StoreError::Truncated {
            object: crate::error::object_name(self.store.uri(), &self.meta.key),
            expected: length as u64,
            got: bytes.len() as u64,
        })
    }

    /// The bytes read ahead from the position on; empty when there are none.
    fn buffered(&self) -> &[u8] {
        let skip = self.position.checked_sub(self.ahead_start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.ahead.get(skip..)).unwrap_or_default()
    }
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.meta.size_bytes.saturating_sub(self.position);
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        if self.buffered().is_empty() {
            self.ahead = self.read_at(self.position, left.min(READ_AHEAD_BYTES) as usize)?;
            self.ahead_start = self.position;
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
