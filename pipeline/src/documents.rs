//! Documents of finished ingest tasks: where each one lies, and its text again when a comparison asks for it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use mellama_shards::StoreChunks;
use mellama_sources::archive::{ArchiveError, DocumentReader, KeyedTextReader, TextReader};
use mellama_storage::{ObjectEntry, RangeReader, TaskCommit, Workdir};

use crate::failure::Failure;

/// Rows that are read together.
const BLOCK_ROWS: u32 = 256;

/// The documents object of an ingest commit, if the task wrote any document.
pub(crate) fn object_of(commit: &TaskCommit) -> Option<&ObjectEntry> {
    commit.objects.iter().find(|entry| entry.key.starts_with("documents/"))
}

fn chunks(workdir: &Workdir, entry: &ObjectEntry) -> Result<StoreChunks, Failure> {
    Ok(StoreChunks(RangeReader::of(Arc::clone(workdir.store()), entry)?))
}

/// Opens a documents object for reading row group by row group.
///
/// # Errors
/// `Failure::Storage` and `Failure::Verification`.
pub(crate) fn open(workdir: &Workdir, entry: &ObjectEntry) -> Result<DocumentReader, Failure> {
    DocumentReader::open(chunks(workdir, entry)?).map_err(|e| Failure::reading(&entry.key, &e))
}

/// Opens a documents object for reading keys, ids and texts alone.
///
/// # Errors
/// As `open`.
pub(crate) fn keyed_texts(workdir: &Workdir, entry: &ObjectEntry) -> Result<KeyedTextReader, Failure> {
    let reader = KeyedTextReader::open(chunks(workdir, entry)?);
    reader.map_err(|e| Failure::reading(&entry.key, &e))
}

/// The texts of the block of rows that `row` lies in, and the block's first row.
///
/// # Errors
/// As `open`.
pub(crate) fn texts_around(workdir: &Workdir, entry: &ObjectEntry, row: u32) -> Result<(u32, Vec<String>), Failure> {
    let first = row - row % BLOCK_ROWS;
    let end = entry.records.min(u64::from(first) + u64::from(BLOCK_ROWS));
    Ok((first, texts(workdir, entry, &(u64::from(first)..end).collect::<Vec<u64>>())?))
}

/// The texts of some rows of one object, which must rise.
///
/// # Errors
/// As `open`; `Failure::Verification` when the object has fewer rows.
pub(crate) fn texts(workdir: &Workdir, entry: &ObjectEntry, rows: &[u64]) -> Result<Vec<String>, Failure> {
    let wrong = |e: ArchiveError| Failure::reading(&entry.key, &e);
    let reader = TextReader::open(chunks(workdir, entry)?, rows).map_err(wrong)?;
    let texts = reader.collect::<Result<Vec<String>, ArchiveError>>().map_err(wrong)?;
    if texts.len() < rows.len() {
        return Err(Failure::Verification(format!("{}: fewer rows than its signatures; run \"mellama verify\"", entry.key)));
    }
    Ok(texts)
}

/// A place in the corpus: ingest task and row of its documents object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub task: u32,
    pub row: u32,
}

/// Texts by number, end to end in memory while they fit a budget, then in a file without a name.
#[derive(Debug)]
pub(crate) struct GatheredTexts {
    /// (number, where it begins, bytes), rising.
    places: Vec<(u32, u64, u64)>,
    memory: Vec<u8>,
    file: Option<Mutex<File>>,
    bytes: u64,
}

impl GatheredTexts {
    pub(crate) fn new() -> GatheredTexts {
        GatheredTexts { places: Vec::new(), memory: Vec::new(), file: None, bytes: 0 }
    }

    /// Adds the text of a number that is greater than all before it.
    ///
    /// # Errors
    /// `Failure::Storage` when the scratch folder is needed and cannot be written.
    pub(crate) fn push(&mut self, number: u32, text: &str, memory_bytes: u64, scratch: &Path) -> Result<(), Failure> {
        self.places.push((number, self.bytes, text.len() as u64));
        self.bytes += text.len() as u64;
        if self.file.is_none() && self.bytes > memory_bytes {
            let mut file = tempfile::tempfile_in(scratch).map_err(|e| scratch_failure(&e))?;
            file.write_all(&self.memory).map_err(|e| scratch_failure(&e))?;
            self.memory = Vec::new();
            self.file = Some(Mutex::new(file));
        }
        match &mut self.file {
            None => self.memory.extend_from_slice(text.as_bytes()),
            Some(file) => {
                let file = file.get_mut().expect("no holder panics");
                file.write_all(text.as_bytes()).map_err(|e| scratch_failure(&e))?;
            }
        }
        Ok(())
    }

    /// The text of a number, if it was gathered.
    ///
    /// # Errors
    /// `Failure::Storage` when the scratch file cannot be read.
    pub(crate) fn get(&self, number: u32) -> Result<Option<String>, Failure> {
        let Ok(found) = self.places.binary_search_by_key(&number, |place| place.0) else { return Ok(None) };
        let (_, start, length) = self.places[found];
        let bytes = match &self.file {
            None => self.memory[start as usize..(start + length) as usize].to_vec(),
            Some(file) => {
                let mut file = file.lock().expect("no holder panics");
                let mut bytes = vec![0; length as usize];
                file.seek(SeekFrom::Start(start)).map_err(|e| scratch_failure(&e))?;
                file.read_exact(&mut bytes).map_err(|e| scratch_failure(&e))?;
                bytes
            }
        };
        Ok(Some(String::from_utf8(bytes).expect("what was pushed is text")))
    }
}

/// The scratch folder failed.
pub(crate) fn scratch_failure(error: &std::io::Error) -> Failure {
    Failure::Storage(format!("scratch folder: {error}; free space there or name another with --scratch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_from_memory_and_from_the_file() {
        let scratch = tempfile::tempdir().unwrap();
        for memory_bytes in [0, 10, 1 << 20] {
            let mut gathered = GatheredTexts::new();
            let texts = [(2, "first"), (3, ""), (7, "dreißig"), (900, "last")];
            for (number, text) in texts {
                gathered.push(number, text, memory_bytes, scratch.path()).unwrap();
            }
            for (number, text) in texts.into_iter().rev() {
                assert_eq!(gathered.get(number).unwrap().as_deref(), Some(text));
            }
            assert_eq!(gathered.get(4).unwrap(), None);
            assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "a file has a name");
        }
    }
}
