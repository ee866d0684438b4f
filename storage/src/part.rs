//! An object in the making: hashed and counted while it is written, named by its content when it is complete.
//! Dropping it leaves nothing behind.

use crate::commit::ObjectEntry;
use crate::error::StoreError;
use crate::key::Key;
use crate::protocol::ProtocolError;
use crate::store::{Store, Upload};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Hexadecimal digits of the BLAKE3 that a content name carries.
pub(crate) const NAME_DIGITS: usize = 16;
/// Bytes hashed at a time when an object is read back.
const CHUNK_BYTES: usize = 1 << 20;

/// A writer whose bytes become one object. Get it from [`Workdir::part`](crate::Workdir::part).
pub struct PartWriter {
    store: Arc<dyn Store>,
    upload: Box<dyn Upload>,
    hasher: blake3::Hasher,
    size_bytes: u64,
}

/// Without the bytes: they may be documents.
impl fmt::Debug for PartWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartWriter({}, {} bytes)", self.store.uri(), self.size_bytes)
    }
}

impl PartWriter {
    pub(crate) fn new(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let upload = store.upload()?;
        Ok(Self { store, upload, hasher: blake3::Hasher::new(), size_bytes: 0 })
    }

    /// Bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Publishes the object as `FOLDER/STEM-DIGEST16.EXTENSION`, where `DIGEST16` is the head of its BLAKE3: two attempts that
    /// write the same bytes get the same object. `records` is what the entry is to say.
    ///
    /// # Errors
    /// [`ProtocolError::Store`]; [`StoreError::Exists`] in it when other bytes stand under that name.
    pub fn finish(self, folder: &str, stem: &str, extension: &str, records: u64) -> Result<ObjectEntry, ProtocolError> {
        let digest = self.hasher.finalize().to_hex();
        let folder = folder.trim_end_matches('/');
        let name = format!("{stem}-{}.{extension}", &digest[..NAME_DIGITS]);
        let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        self.finish_named(&key, records)
    }

    /// Publishes the object under a name of the caller's choice. The same bytes under that name are success.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_named(self, key: &str, records: u64) -> Result<ObjectEntry, ProtocolError> {
        let key = Key::new(key)?;
        let blake3 = self.hasher.finalize().to_hex().to_string();
        match self.upload.finish_as(&key, &blake3) {
            Ok(meta) if meta.size_bytes == self.size_bytes => {}
            Ok(meta) => {
                return Err(ProtocolError::length(&*self.store, &key, self.size_bytes, meta.size_bytes));
            }
            // It may be there all the same: what counts is what can be read back.
            Err(error) if error.is_unknown() => match hash_object(&*self.store, &key) {
                Ok(found) if found == (self.size_bytes, blake3.clone()) => {}
                _ => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
        Ok(ObjectEntry { key: key.into(), bytes: self.size_bytes, blake3, records })
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.upload.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.upload.flush()
    }
}

/// Length in bytes and BLAKE3 of an object, streamed in bounded memory.
pub(crate) fn hash_object(store: &dyn Store, key: &Key) -> Result<(u64, String), StoreError> {
    let mut stream = store.open(key, None)?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size_bytes = 0;
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok((size_bytes, hasher.finalize().to_hex().to_string())),
            Ok(length) => {
                hasher.update(&chunk[..length]);
                size_bytes += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let object = crate::error::object_name(store.uri(), key);
                return Err(StoreError::from_io(object, "reading", error));
            }
        }
    }
}
