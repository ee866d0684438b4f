//! A file read as a stream that ends well only when the file stayed what it was.
//! It does not hash: whoever knows the expected BLAKE3 does.

use super::etag_of;
use crate::error::StoreError;
use crate::key::ETag;
use std::fs::{File, Metadata};
use std::io::{self, Read};

/// The bytes of one state of a file: exactly its size at opening, and an error instead of the end when the file changed.
pub(super) struct CheckedFile {
    object: String,
    file: io::Take<File>,
    etag: ETag,
    size_bytes: u64,
}

impl CheckedFile {
    pub(super) fn new(object: String, file: File, metadata: &Metadata) -> Self {
        let size_bytes = metadata.len();
        Self { object, file: file.take(size_bytes), etag: etag_of(metadata), size_bytes }
    }

    /// At the end of the stream: everything was there, and nothing was rewritten meanwhile.
    fn check_end(&self) -> Result<(), StoreError> {
        let metadata = self.file.get_ref().metadata().map_err(|e| StoreError::from_io(self.object.clone(), "reading", e))?;
        unchanged(&self.object, &self.etag, &metadata)?;
        match self.file.limit() {
            0 => Ok(()),
            missing => Err(StoreError::Truncated {
                object: self.object.clone(),
                expected: self.size_bytes,
                got: self.size_bytes - missing,
            }),
        }
    }
}

impl Read for CheckedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        if length == 0 && !buffer.is_empty() {
            self.check_end()?;
        }
        Ok(length)
    }
}

/// Compares the present state of an open file with the one it was opened in.
pub(super) fn unchanged(object: &str, expected: &ETag, now: &Metadata) -> Result<(), StoreError> {
    let found = etag_of(now);
    if found == *expected {
        return Ok(());
    }
    Err(StoreError::Changed { object: object.to_owned(), expected: expected.clone(), found })
}
