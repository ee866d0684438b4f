//! Sketches at rest: one row a document in the order of its documents object. Width fixed by the recipe's bands.

use arrow::array::{FixedSizeBinaryArray, StringArray, UInt32Array, UInt64Array};
use mellama_dedup::Sketch;
use mellama_storage::{ObjectEntry, Workdir};

use crate::failure::Failure;
use crate::tables;

/// Collects the sketches of one ingest task: 48 bytes, the id, and 8 bytes a band for each document.
#[derive(Debug)]
pub(crate) struct SignatureWriter {
    bands: u32,
    ids: Vec<String>,
    versions: Vec<u32>,
    characters: Vec<u64>,
    bytes: Vec<u64>,
    words: Vec<u32>,
    exact: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

/// One document's sketch with what decides its priority.
#[derive(Debug, Clone)]
pub(crate) struct SignatureRow {
    pub id: String,
    pub version: u32,
    pub characters: u64,
    pub bytes: u64,
    pub sketch: Sketch,
}

impl SignatureWriter {
    pub(crate) fn new(bands: u32) -> SignatureWriter {
        SignatureWriter {
            bands,
            ids: Vec::new(),
            versions: Vec::new(),
            characters: Vec::new(),
            bytes: Vec::new(),
            words: Vec::new(),
            exact: Vec::new(),
            keys: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, id: &str, version: u32, text: &str, sketch: &Sketch) {
        self.ids.push(id.to_owned());
        self.versions.push(version);
        self.characters.push(text.chars().count() as u64);
        self.bytes.push(text.len() as u64);
        self.words.push(sketch.words);
        self.exact.push(sketch.exact.to_vec());
        let mut keys: Vec<u8> = sketch.bands.iter().flat_map(|key| key.to_le_bytes()).collect();
        keys.resize(self.width(), 0);
        self.keys.push(keys);
    }

    /// Publishes `folder/stem-DIGEST.parquet`.
    ///
    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn publish(self, workdir: &Workdir, folder: &str, stem: &str) -> Result<ObjectEntry, Failure> {
        let width = self.width();
        let batch = tables::batch(vec![
            ("id", tables::strings(&self.ids)),
            ("version", tables::u32s(self.versions)),
            ("characters", tables::u64s(self.characters)),
            ("bytes", tables::u64s(self.bytes)),
            ("words", tables::u32s(self.words)),
            ("exact", tables::fixed(16, &self.exact)),
            ("bands", tables::fixed(width, &self.keys)),
        ]);
        tables::publish(workdir, folder, stem, &batch)
    }

    fn width(&self) -> usize {
        self.bands as usize * 8
    }
}

/// Reads the sketches of one object in row order.
///
/// # Errors
/// `Failure::Verification` when the object is not one.
pub(crate) fn read(workdir: &Workdir, entry: &ObjectEntry) -> Result<Vec<SignatureRow>, Failure> {
    let mut rows = Vec::with_capacity(entry.records as usize);
    for batch in tables::read(workdir, entry)? {
        let ids: &StringArray = tables::column(&batch, "id")?;
        let versions: &UInt32Array = tables::column(&batch, "version")?;
        let characters: &UInt64Array = tables::column(&batch, "characters")?;
        let bytes: &UInt64Array = tables::column(&batch, "bytes")?;
        let words: &UInt32Array = tables::column(&batch, "words")?;
        let exact: &FixedSizeBinaryArray = tables::column(&batch, "exact")?;
        let keys: &FixedSizeBinaryArray = tables::column(&batch, "bands")?;
        for row in 0..batch.num_rows() {
            let bands = keys.value(row).chunks_exact(8).map(|key| u64::from_le_bytes(key.try_into().expect("eight bytes")));
            // A text without words has no bands; the column holds zeros in their place.
            let bands = if words.value(row) == 0 { Vec::new() } else { bands.collect() };
            let exact = exact.value(row).try_into().expect("sixteen bytes");
            let sketch = Sketch { exact, words: words.value(row), bands };
            let (version, characters, bytes) = (versions.value(row), characters.value(row), bytes.value(row));
            rows.push(SignatureRow { id: ids.value(row).to_owned(), version, characters, bytes, sketch });
        }
    }
    Ok(rows)
}
