//! Parquet over storage: a stored object, or a part of one in memory, as the `parquet` crate's `ChunkReader`.
//!
//! It caches nothing; readers that want few requests read a whole row group into a `Window` first.

use std::io::{Read, Seek, SeekFrom};

use bytes::{Buf, Bytes};
use mellama_storage::RangeReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// An object in a store, pinned to the version it was opened at.
#[derive(Debug, Clone)]
pub struct StoreChunks(pub RangeReader);

impl Length for StoreChunks {
    fn len(&self) -> u64 {
        self.0.size_bytes()
    }
}

impl ChunkReader for StoreChunks {
    type T = RangeReader;

    fn get_read(&self, start: u64) -> Result<RangeReader> {
        let mut reader = self.0.clone();
        reader.seek(SeekFrom::Start(start))?;
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        check_range(start, length, self.len())?;
        let bytes = self.0.read_at(start, length).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(bytes.into())
    }
}

/// A part of a file held in memory, addressed by offsets in the whole file.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
    pub(crate) file_bytes: u64,
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.file_bytes
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let skip = start.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = skip.filter(|&skip| skip <= self.bytes.len()).ok_or_else(|| outside(start, 0))?;
        Ok(self.bytes.slice(skip..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut out = vec![0; 0];
        let left = self.get_read(start)?.take(length as u64).read_to_end(&mut out)?;
        if left < length {
            return Err(outside(start, length));
        }
        Ok(out.into())
    }
}

fn outside(start: u64, length: usize) -> ParquetError {
    ParquetError::EOF(format!("{length} bytes at {start} are not in the row group"))
}

fn check_range(start: u64, length: usize, file_bytes: u64) -> Result<()> {
    if start.checked_add(length as u64).is_none_or(|end| end > file_bytes) {
        return Err(ParquetError::EOF(format!("{length} bytes at {start}, the object has {file_bytes}")));
    }
    Ok(())
}

/// Bytes of an object at rest, whatever holds them.
pub(crate) trait Ranges: Send + Sync {
    /// Length of the object.
    fn size_bytes(&self) -> u64;
    /// Exactly `length` bytes from `start`.
    fn range(&self, start: u64, length: usize) -> Result<Bytes>;
}

impl<R: ChunkReader> Ranges for R {
    fn size_bytes(&self) -> u64 {
        self.len()
    }

    fn range(&self, start: u64, length: usize) -> Result<Bytes> {
        check_range(start, length, self.len())?;
        self.get_bytes(start, length)
    }
}

/// Reads `start..end` of an object into a [`Window`].
pub(crate) fn window(object: &dyn Ranges, start: u64, end: u64) -> Result<Window> {
    let length = end.checked_sub(start).and_then(|length| usize::try_from(length).ok());
    let bytes = object.range(start, length.ok_or_else(|| outside(start, 0))?)?;
    Ok(Window { start, bytes, file_bytes: object.size_bytes() })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use bytes::Bytes;
    use mellama_storage::{AttemptId, Key, MemoryStore, RangeReader, Store};
    use parquet::file::reader::{ChunkReader, Length};

    use super::{StoreChunks, Window};

    fn check<R: ChunkReader>(reader: &R, start: u64, length: usize, expected: Option<&[u8]>) {
        assert_eq!(reader.get_bytes(start, length).ok().as_deref(), expected, "{length} at {start}");
    }

    #[test]
    fn a_window_answers_for_its_part_only() {
        let window = Window { start: 10, bytes: Bytes::from_static(b"abcdef"), file_bytes: 100 };
        assert_eq!(window.len(), 100);
        check(&window, 10, 6, Some(b"abcdef"));
        check(&window, 12, 3, Some(b"cde"));
        check(&window, 16, 0, Some(b""));
        check(&window, 9, 2, None);
        check(&window, 12, 5, None);
        check(&window, 17, 0, None);
        check(&window, u64::MAX, 1, None);
        check(&window, 12, usize::MAX, None);
    }

    #[test]
    fn a_stored_object_is_read_by_range_and_as_a_stream() {
        let store = Arc::new(MemoryStore::new("chunks"));
        let key = Key::new("a/object").unwrap();
        store.put_new(&key, b"0123456789", &AttemptId::generate()).unwrap();
        let chunks = StoreChunks(RangeReader::open(store, &key).unwrap());
        assert_eq!(chunks.len(), 10);
        check(&chunks, 3, 4, Some(b"3456"));
        check(&chunks, 8, 3, None);
        check(&chunks, u64::MAX, 3, None);
        let mut rest = String::new();
        chunks.get_read(7).unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "789");
    }
}
