//! Documents of finished ingest tasks: where each one lies, and its text again when a comparison asks for it.

use std::sync::{Arc, Mutex};

use mellama_dedup::{TextError, Texts};
use mellama_shards::StoreChunks;
use mellama_sources::archive::{ArchiveError, DocumentReader};
use mellama_storage::{Key, ObjectEntry, RangeReader, TaskCommit, Workdir};

use crate::failure::{Failure, chain};

/// Rows that are read together.
const BLOCK_ROWS: u32 = 256;
/// Share of the memory budget that texts of compared documents may take.
const TEXT_MEMORY_SHARE: u64 = 4;

/// The documents object of an ingest commit, if the task wrote any document.
pub(crate) fn object_of(commit: &TaskCommit) -> Option<&ObjectEntry> {
    commit.objects.iter().find(|entry| entry.key.starts_with("documents/"))
}

/// Opens a documents object for reading row group by row group.
///
/// # Errors
/// `Failure::Storage` and `Failure::Verification`.
pub(crate) fn open(workdir: &Workdir, entry: &ObjectEntry) -> Result<DocumentReader, Failure> {
    let reader = RangeReader::open(Arc::clone(workdir.store()), &Key::new(entry.key.clone())?)?;
    DocumentReader::open(StoreChunks(reader)).map_err(|e| Failure::Verification(format!("{}: {}", entry.key, chain(&e))))
}

/// The texts of the block of rows that `row` lies in, and the block's first row.
///
/// # Errors
/// As `open`.
pub(crate) fn texts_around(workdir: &Workdir, entry: &ObjectEntry, row: u32) -> Result<(u32, Vec<String>), Failure> {
    let reader = open(workdir, entry)?;
    let first = row - row % BLOCK_ROWS;
    let end = reader.row_count().min(u64::from(first) + u64::from(BLOCK_ROWS));
    let texts = reader.rows(u64::from(first)..end).map(|document| Ok(document?.text)).collect::<Result<_, ArchiveError>>();
    Ok((first, texts.map_err(|e| Failure::Verification(format!("{}: {}", entry.key, chain(&e))))?))
}

/// A place in the corpus: ingest task and row of its documents object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub task: u32,
    pub row: u32,
}

/// Texts by entry index, read from the documents objects and kept while memory allows.
pub(crate) struct StoredTexts<'a> {
    workdir: &'a Workdir,
    objects: &'a [Option<ObjectEntry>],
    places: &'a [Place],
    budget_bytes: u64,
    groups: Mutex<Vec<Group>>,
}

/// Texts of one run of rows of one object.
struct Group {
    task: u32,
    first_row: u32,
    texts: Arc<Vec<String>>,
    bytes: u64,
}

impl<'a> StoredTexts<'a> {
    pub(crate) fn new(
        workdir: &'a Workdir,
        objects: &'a [Option<ObjectEntry>],
        places: &'a [Place],
        memory_bytes: u64,
    ) -> StoredTexts<'a> {
        StoredTexts { workdir, objects, places, budget_bytes: memory_bytes / TEXT_MEMORY_SHARE, groups: Mutex::default() }
    }

    fn read(&self, place: Place) -> Result<String, Failure> {
        let mut groups = self.groups.lock().expect("no holder panics");
        let holds = |g: &Group| g.task == place.task && (g.first_row..g.first_row + g.texts.len() as u32).contains(&place.row);
        if let Some(found) = groups.iter().position(holds) {
            // Most recently used last.
            let group = groups.remove(found);
            let text = group.texts[(place.row - group.first_row) as usize].clone();
            groups.push(group);
            return Ok(text);
        }
        let group = self.load(place)?;
        let text = group.texts[(place.row - group.first_row) as usize].clone();
        let mut kept: u64 = groups.iter().map(|g| g.bytes).sum::<u64>() + group.bytes;
        while kept > self.budget_bytes && !groups.is_empty() {
            kept -= groups.remove(0).bytes;
        }
        groups.push(group);
        Ok(text)
    }

    fn load(&self, place: Place) -> Result<Group, Failure> {
        let entry = self.objects[place.task as usize].as_ref().expect("a place lies in an object that was written");
        let (first_row, texts) = texts_around(self.workdir, entry, place.row)?;
        let bytes = texts.iter().map(|text| text.len() as u64).sum();
        Ok(Group { task: place.task, first_row, texts: Arc::new(texts), bytes })
    }
}

impl Texts for StoredTexts<'_> {
    fn text(&self, index: usize) -> Result<String, TextError> {
        self.read(self.places[index]).map_err(|failure| TextError::new(failure.to_string()))
    }
}
