//! What the joins of `dedup` need of each document, at rest: one row a document in the order of its documents object.
//!
//! The profile stands in narrow columns and each band in a column of its own, so that the task that joins a band reads that
//! column and nothing else: 8 bytes a document and band.

use arrow::array::{FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use mellama_dedup::{Links, Sketch};
use mellama_sources::Document;
use mellama_storage::{ObjectEntry, Workdir};

use crate::failure::Failure;
use crate::tables::{self, TableWriter};

/// Columns before the bands, in the order of the table.
const PROFILE: [&str; 12] = [
    "id",
    "version",
    "characters",
    "bytes",
    "words",
    "quality",
    "abridged",
    "group",
    "exact",
    "names",
    "preprint_of",
    "published_from",
];

/// Column of one band.
pub(crate) fn band_column(band: u32) -> String {
    format!("band_{band:03}")
}

/// Writes the signatures of one ingest task, a row group at a time: about 80 bytes, the id, 8 bytes a name and 8 bytes a band
/// for each of its documents are in memory.
pub(crate) struct SignatureWriter {
    table: TableWriter,
    columns: Rows,
}

/// The columns of a row group.
#[derive(Debug)]
struct Rows {
    ids: Vec<String>,
    versions: Vec<u32>,
    characters: Vec<u64>,
    bytes: Vec<u64>,
    words: Vec<u32>,
    quality: Vec<u32>,
    abridged: Vec<u32>,
    groups: Vec<u64>,
    exact: Vec<Vec<u8>>,
    links: [Vec<Vec<u64>>; 3],
    bands: Vec<Vec<u64>>,
}

/// One document's profile as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct SignatureRow {
    pub id: String,
    pub version: u32,
    pub characters: u64,
    pub words: u32,
    pub quality: u32,
    pub abridged: bool,
    pub group: u64,
    pub exact: [u8; 16],
    pub links: Links,
}

/// What a signature has besides the sketch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    pub quality: u32,
    pub abridged: bool,
    pub group: u64,
    pub links: Links,
}

impl SignatureWriter {
    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn new(workdir: &Workdir, folder: &str, bands: u32) -> Result<SignatureWriter, Failure> {
        let table = TableWriter::new(workdir, folder, &Rows::new(bands).batch())?;
        Ok(SignatureWriter { table, columns: Rows::new(bands) })
    }

    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn push(
        &mut self,
        document: &Document,
        characters: u64,
        sketch: &Sketch,
        standing: &Standing,
    ) -> Result<(), Failure> {
        self.columns.push(document, characters, sketch, standing);
        if self.columns.ids.len() < tables::ROW_GROUP_ROWS {
            return Ok(());
        }
        let bands = self.columns.bands.len() as u32;
        let full = std::mem::replace(&mut self.columns, Rows::new(bands));
        self.table.push(&full.batch())
    }

    /// Publishes `folder/stem-DIGEST.parquet`.
    ///
    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn publish(mut self, stem: &str) -> Result<ObjectEntry, Failure> {
        self.table.push(&self.columns.batch())?;
        self.table.finish(stem)
    }
}

impl Rows {
    fn new(bands: u32) -> Rows {
        Rows {
            ids: Vec::new(),
            versions: Vec::new(),
            characters: Vec::new(),
            bytes: Vec::new(),
            words: Vec::new(),
            quality: Vec::new(),
            abridged: Vec::new(),
            groups: Vec::new(),
            exact: Vec::new(),
            links: [Vec::new(), Vec::new(), Vec::new()],
            bands: vec![Vec::new(); bands as usize],
        }
    }

    fn push(&mut self, document: &Document, characters: u64, sketch: &Sketch, standing: &Standing) {
        self.ids.push(document.id.clone());
        self.versions.push(document.version);
        self.characters.push(characters);
        self.bytes.push(document.text.len() as u64);
        self.words.push(sketch.words);
        self.quality.push(standing.quality);
        self.abridged.push(u32::from(standing.abridged));
        self.groups.push(standing.group);
        self.exact.push(sketch.exact.to_vec());
        let Links { names, preprint_of, published_from } = &standing.links;
        for (column, values) in self.links.iter_mut().zip([names, preprint_of, published_from]) {
            column.push(values.clone());
        }
        // A text without words has no bands; the columns hold zeros in their place.
        for (band, column) in self.bands.iter_mut().enumerate() {
            column.push(sketch.bands.get(band).copied().unwrap_or(0));
        }
    }

    fn batch(self) -> RecordBatch {
        let [names, preprint_of, published_from] = self.links;
        let arrays = [
            tables::strings(&self.ids),
            tables::u32s(self.versions),
            tables::u64s(self.characters),
            tables::u64s(self.bytes),
            tables::u32s(self.words),
            tables::u32s(self.quality),
            tables::u32s(self.abridged),
            tables::u64s(self.groups),
            tables::fixed(16, &self.exact),
            tables::lists(&names),
            tables::lists(&preprint_of),
            tables::lists(&published_from),
        ];
        let bands: Vec<String> = (0u32..).zip(&self.bands).map(|(band, _)| band_column(band)).collect();
        let columns = PROFILE.into_iter().zip(arrays);
        let bands = bands.iter().map(String::as_str).zip(self.bands.into_iter().map(tables::u64s));
        tables::batch(columns.chain(bands).collect())
    }
}

/// Calls `visit` with each profile of one object in row order.
///
/// # Errors
/// `Failure::Verification` when the object is not one, and what `visit` returns.
pub(crate) fn for_each(
    workdir: &Workdir,
    entry: &ObjectEntry,
    mut visit: impl FnMut(SignatureRow) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for batch in tables::stream(workdir, entry, &PROFILE)? {
        let batch = batch?;
        let columns = Columns::of(&batch)?;
        (0..batch.num_rows()).try_for_each(|row| visit(columns.row(row)))?;
    }
    Ok(())
}

/// The profile columns of one batch.
struct Columns<'b> {
    id: &'b StringArray,
    version: &'b UInt32Array,
    characters: &'b UInt64Array,
    words: &'b UInt32Array,
    quality: &'b UInt32Array,
    abridged: &'b UInt32Array,
    group: &'b UInt64Array,
    exact: &'b FixedSizeBinaryArray,
    links: [&'b ListArray; 3],
}

impl<'b> Columns<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Columns<'b>, Failure> {
        let exact: &FixedSizeBinaryArray = tables::column(batch, "exact")?;
        if exact.value_length() != 16 {
            return Err(Failure::Verification(format!("column exact: {} bytes, expected 16", exact.value_length())));
        }
        Ok(Columns {
            id: tables::column(batch, "id")?,
            version: tables::column(batch, "version")?,
            characters: tables::column(batch, "characters")?,
            words: tables::column(batch, "words")?,
            quality: tables::column(batch, "quality")?,
            abridged: tables::column(batch, "abridged")?,
            group: tables::column(batch, "group")?,
            exact,
            links: [
                tables::column(batch, "names")?,
                tables::column(batch, "preprint_of")?,
                tables::column(batch, "published_from")?,
            ],
        })
    }

    fn row(&self, row: usize) -> SignatureRow {
        let [names, preprint_of, published_from] = self.links.map(|lists| tables::list_row(lists, row));
        let mut exact = [0; 16];
        exact.copy_from_slice(self.exact.value(row));
        SignatureRow {
            id: self.id.value(row).to_owned(),
            version: self.version.value(row),
            characters: self.characters.value(row),
            words: self.words.value(row),
            quality: self.quality.value(row),
            abridged: self.abridged.value(row) != 0,
            group: self.group.value(row),
            exact,
            links: Links { names, preprint_of, published_from },
        }
    }
}

/// Calls `visit` with each id of one object in row order.
///
/// # Errors
/// As `for_each`.
pub(crate) fn for_each_id(
    workdir: &Workdir,
    entry: &ObjectEntry,
    mut visit: impl FnMut(&str, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for batch in tables::stream(workdir, entry, &["id", "bytes"])? {
        let batch = batch?;
        let (ids, bytes): (&StringArray, &UInt64Array) = (tables::column(&batch, "id")?, tables::column(&batch, "bytes")?);
        (0..batch.num_rows()).try_for_each(|row| visit(ids.value(row), bytes.value(row)))?;
    }
    Ok(())
}
