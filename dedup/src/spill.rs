//! Records of one band on disk: a band key and an ordinal, 12 bytes, in files without a name.
//!
//! The files are unlinked from the start, so nothing is left behind when the process ends, however it ends.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

/// Bytes of a record at rest: key as u64 and ordinal as u32, little-endian.
const RECORD_BYTES: usize = 12;

/// A band key and the ordinal of a document that has it.
pub(crate) type Record = (u64, u32);

/// Files that split the key space evenly by the top bits of the key.
pub(crate) struct Spill {
    files: Vec<BufWriter<File>>,
}

impl Spill {
    /// Opens one nameless file in `scratch` for each of `partitions`.
    pub(crate) fn create(scratch: &Path, partitions: usize, buffer_bytes: usize) -> io::Result<Self> {
        let files = (0..partitions)
            .map(|_| Ok(BufWriter::with_capacity(buffer_bytes, tempfile::tempfile_in(scratch)?)))
            .collect::<io::Result<_>>()?;
        Ok(Self { files })
    }

    /// Appends a record to the partition of its key.
    pub(crate) fn push(&mut self, record: Record) -> io::Result<()> {
        let partition = partition(record.0, self.files.len());
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&record.0.to_le_bytes());
        bytes[8..].copy_from_slice(&record.1.to_le_bytes());
        self.files[partition].write_all(&bytes)
    }

    /// The partitions in key order, each to be read from its start, in the order of the pushes.
    pub(crate) fn into_readers(self) -> impl Iterator<Item = io::Result<SpillReader>> {
        self.files.into_iter().map(|writer| {
            let capacity = writer.capacity();
            let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
            let bytes = file.stream_position()?;
            file.rewind()?;
            Ok(SpillReader { file: BufReader::with_capacity(capacity, file), records: bytes / RECORD_BYTES as u64 })
        })
    }
}

/// Reads one partition.
pub(crate) struct SpillReader {
    file: BufReader<File>,
    records: u64,
}

impl SpillReader {
    /// The next record, or none at the end. A file shorter than what was written is an error.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record>> {
        if self.records == 0 {
            return Ok(None);
        }
        self.records -= 1;
        let mut key = [0; 8];
        let mut ordinal = [0; 4];
        self.file.read_exact(&mut key)?;
        self.file.read_exact(&mut ordinal)?;
        Ok(Some((u64::from_le_bytes(key), u32::from_le_bytes(ordinal))))
    }
}

/// Index of the part of the key space that holds `key`, of `partitions` equal parts.
fn partition(key: u64, partitions: usize) -> usize {
    ((u128::from(key) * partitions as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_cover_the_key_space_in_order() {
        for partitions in [1, 2, 3, 7, 256] {
            assert_eq!(partition(0, partitions), 0);
            assert_eq!(partition(u64::MAX, partitions), partitions - 1);
        }
        assert_eq!(partition(u64::MAX / 2, 2), 0);
        assert_eq!(partition(u64::MAX / 2 + 1, 2), 1);
    }

    #[test]
    fn records_come_back_by_partition_in_push_order() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spill = Spill::create(scratch.path(), 2, 16).unwrap();
        let high = u64::MAX - 5;
        for record in [(high, 9), (3, 1), (high, 2), (1, u32::MAX)] {
            spill.push(record).unwrap();
        }
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "a file has a name");
        let mut read = Vec::new();
        for reader in spill.into_readers() {
            let mut reader = reader.unwrap();
            let mut records = Vec::new();
            while let Some(record) = reader.next().unwrap() {
                records.push(record);
            }
            read.push(records);
        }
        assert_eq!(read, [vec![(3, 1), (1, u32::MAX)], vec![(high, 9), (high, 2)]]);
    }

    #[test]
    fn an_absent_scratch_folder_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let absent = scratch.path().join("absent");
        assert!(Spill::create(&absent, 1, 16).is_err());
    }
}
