//! One object of an export that is read again: by range, by number, or as a stream.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use mellama_storage::{Key, RangeReader, Store, StoreError};

use super::{Checked, Trouble, wrong};
use crate::export::ExportError;

/// Bytes read at a time when an object is hashed.
const CHUNK_BYTES: usize = 1 << 20;
/// Longest text or table that is read at once.
const LIMIT_BYTES: u64 = 1 << 28;

/// An open object; reads past its end are findings.
#[derive(Debug)]
pub(super) struct Object {
    key: String,
    reader: RangeReader,
}

impl Object {
    pub(super) fn open(store: &Arc<dyn Store>, key: &str) -> Checked<Self> {
        let name = Key::new(key).map_err(|error| Trouble::Wrong(error.to_string()))?;
        match RangeReader::open(Arc::clone(store), &name) {
            Ok(reader) => Ok(Self { key: key.to_owned(), reader }),
            Err(StoreError::NotFound { .. }) => wrong(key, "missing, the manifest names it"),
            Err(error) => Err(Trouble::Failed(error.into())),
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.reader.size_bytes()
    }

    pub(super) fn reader(&self) -> RangeReader {
        self.reader.clone()
    }

    /// The bytes from `start` on, exactly as many as `out` has room for.
    pub(super) fn fill(&mut self, start: u64, out: &mut [u8]) -> Checked<()> {
        if start.checked_add(out.len() as u64).is_none_or(|end| end > self.size_bytes()) {
            return wrong(&self.key, format!("{} bytes at {start} are not there, it has {}", out.len(), self.size_bytes()));
        }
        let read = self.reader.seek(SeekFrom::Start(start)).and_then(|_| self.reader.read_exact(out));
        read.map_err(|error| Trouble::Failed(ExportError::io(&self.key)(error)))
    }

    pub(super) fn bytes(&mut self, start: u64, length: u64) -> Checked<Vec<u8>> {
        if length > LIMIT_BYTES {
            return wrong(&self.key, format!("a table of {length} bytes, at most {LIMIT_BYTES} expected"));
        }
        let mut out = vec![0; length as usize];
        self.fill(start, &mut out)?;
        Ok(out)
    }

    /// The whole object.
    pub(super) fn all(&mut self) -> Checked<Vec<u8>> {
        self.bytes(0, self.size_bytes())
    }

    pub(super) fn u32s(&mut self, start: u64, count: u64) -> Checked<Vec<u32>> {
        let bytes = self.bytes(start, count.saturating_mul(4))?;
        Ok(bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
    }

    pub(super) fn u64s(&mut self, start: u64, count: u64) -> Checked<Vec<u64>> {
        let bytes = self.bytes(start, count.saturating_mul(8))?;
        let word = |eight: &[u8]| eight.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
        Ok(bytes.chunks_exact(8).map(word).collect())
    }

    pub(super) fn blake3(&mut self) -> Checked<String> {
        let mut hasher = blake3::Hasher::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < self.size_bytes() {
            let length = (self.size_bytes() - at).min(CHUNK_BYTES as u64) as usize;
            self.fill(at, &mut chunk[..length])?;
            hasher.update(&chunk[..length]);
            at += length as u64;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}
