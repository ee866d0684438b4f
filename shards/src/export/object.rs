//! What the six layouts have in common: objects of whole windows, begun, filled and published one after the other.
//!
//! It knows no format.

use std::io::Write;

use mellama_storage::{ObjectEntry, PartWriter, Workdir};

use crate::export::ExportError;
use crate::export::window::{IdWidth, Window};

/// What every object of an export shares.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Part of the names: `train`, `heldout` or `instruct`.
    pub(crate) split: String,
    /// T.
    pub(crate) sequence_length: u32,
    pub(crate) width: IdWidth,
    /// Says which tokenizer, for formats that name one.
    pub(crate) tokenizer: String,
}

impl Shape {
    /// Bytes of one window's ids.
    pub(crate) fn window_bytes(&self) -> u64 {
        u64::from(self.sequence_length) * self.width.bytes()
    }
}

/// Where the ids of window `i` of an object lie: `first + i * stride`, back to back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) first: u64,
    pub(crate) stride: u64,
}

/// A format's files. One object at a time: `begin`, `push` for each window, `end`.
pub(crate) trait Layout {
    /// Most windows of an object that the format allows.
    fn most_windows(&self) -> u64;
    /// Name of object `number` that holds the ids.
    fn key(&self, number: u64) -> String;
    /// Begins object `number` of exactly `windows` windows.
    fn begin(&mut self, store: &Workdir, number: u64, windows: u64) -> Result<Place, ExportError>;
    /// Adds the next window.
    fn push(&mut self, window: &Window<'_>) -> Result<(), ExportError>;
    /// Publishes the object with what belongs to it, that with the ids first.
    fn end(&mut self) -> Result<Vec<ObjectEntry>, ExportError>;
    /// Publishes what lists all objects, where the format has such a thing.
    fn index(&mut self, _store: &Workdir) -> Result<Vec<ObjectEntry>, ExportError> {
        Ok(Vec::new())
    }
}

/// One file in the making and its name.
pub(crate) struct File {
    key: String,
    part: PartWriter,
    records: u64,
}

impl File {
    pub(crate) fn begin(store: &Workdir, key: String, records: u64) -> Result<Self, ExportError> {
        Ok(Self { key, part: store.part()?, records })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.part.write_all(bytes).map_err(ExportError::io(&self.key))
    }

    pub(crate) fn publish(self) -> Result<ObjectEntry, ExportError> {
        Ok(self.part.finish_named(&self.key, self.records)?)
    }

    /// A whole small file.
    pub(crate) fn put(store: &Workdir, key: &str, records: u64, bytes: &[u8]) -> Result<ObjectEntry, ExportError> {
        let mut file = Self::begin(store, key.to_owned(), records)?;
        file.write(bytes)?;
        file.publish()
    }
}

/// The file of an object that was begun.
pub(crate) fn begun<T>(file: &mut Option<T>) -> &mut T {
    file.as_mut().expect("an object is begun before it is filled and ended")
}

/// Takes the file of an object that was begun.
pub(crate) fn take<T>(file: &mut Option<T>) -> T {
    file.take().expect("an object is begun before it is ended")
}
