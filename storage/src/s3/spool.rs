//! The bytes of an object until its name is known: in memory while they are few, then in a file of the scratch folder that has
//! no name and that nobody else can read. Gone with the process, whatever ends it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;

/// Bytes kept in memory.
const MEMORY_BYTES: usize = 4 << 20;

/// Bytes that are written once and then read in any order.
#[derive(Debug)]
pub(super) struct Spool {
    scratch: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
    size_bytes: u64,
}

impl Spool {
    pub(super) fn new(scratch: PathBuf) -> Self {
        Self { scratch, memory: Vec::new(), file: None, size_bytes: 0 }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// At most `length` bytes from `offset`, as many as there are.
    pub(super) fn bytes(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let length = length.min(self.size_bytes.saturating_sub(offset)) as usize;
        let mut bytes = vec![0; length];
        match &self.file {
            // What is not in the file yet is in memory; reading begins when all is in one of them.
            Some(file) => file.read_exact_at(&mut bytes, offset)?,
            None => bytes.copy_from_slice(&self.memory[offset as usize..][..length]),
        }
        Ok(Bytes::from(bytes))
    }

    /// Writes what is left in memory behind the rest, so that all is in one place.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&self.memory)?;
        self.memory = Vec::new();
        Ok(())
    }

    /// Whether `other` streams exactly these bytes.
    pub(super) fn holds(&self, mut other: impl Read) -> io::Result<bool> {
        let mut piece = vec![0; 1 << 20];
        let mut offset = 0;
        loop {
            let read = match other.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            if read == 0 {
                return Ok(offset == self.size_bytes);
            }
            if self.bytes(offset, read as u64)?[..] != piece[..read] {
                return Ok(false);
            }
            offset += read as u64;
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.memory.len() + bytes.len() > MEMORY_BYTES {
            if self.file.is_none() {
                self.file = Some(tempfile::tempfile_in(&self.scratch)?);
            }
            if let Some(file) = &mut self.file {
                file.write_all(&self.memory)?;
            }
            self.memory.clear();
        }
        self.memory.extend_from_slice(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_memory_and_from_the_file() {
        for size in [0, 1, MEMORY_BYTES, MEMORY_BYTES + 1, 3 * MEMORY_BYTES + 17] {
            let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut spool = Spool::new(std::env::temp_dir());
            body.chunks(65_521).for_each(|piece| spool.write_all(piece).unwrap());
            spool.settle().unwrap();
            assert_eq!(spool.size_bytes(), size as u64);
            assert!(spool.bytes(0, u64::MAX).unwrap() == body, "{size}");
            assert_eq!(spool.bytes(size as u64, 9).unwrap().len(), 0);
            assert!(spool.holds(body.as_slice()).unwrap());
            assert!(!spool.holds([body.as_slice(), b"x"].concat().as_slice()).unwrap());
            assert_eq!(spool.holds(&body[..size.saturating_sub(1)]).unwrap(), size == 0);
        }
    }

    #[test]
    fn case_15_a_scratch_folder_that_is_not_there_is_an_error() {
        let mut spool = Spool::new(PathBuf::from("/nonexistent/scratch"));
        assert!(spool.write_all(&vec![0; MEMORY_BYTES + 1]).is_err());
    }
}
