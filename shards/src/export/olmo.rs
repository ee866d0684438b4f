//! `OLMo`'s token files (`dolma/tokenizer/memmap_writer.py`, `olmo_core/data/`): a raw memory map named `.npy` without a header,
//! `.csv.gz` with a row `start,end,id,src,loc` for each document, and a raw map of truth values for the labels.
//!
//! A row is a segment, its id the document key, its place the shard and the row there, from 1. The padding of a window is a row
//! of its own. gzip bytes are not canonical: no time, no name, one level; the rows are what counts.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use mellama_storage::{ObjectEntry, Workdir};

use crate::export::ExportError;
use crate::export::object::{File, Layout, Place, Shape, begun, take};
use crate::export::window::Window;
use crate::key::key_text;

/// Level of the rows' compression.
const LEVEL: u32 = 6;

/// The three files of one object.
struct Object {
    ids: File,
    masks: File,
    rows: File,
    /// Compressed rows that are not yet written.
    gzip: GzEncoder<Vec<u8>>,
    tokens: u64,
}

/// Maps of ids with rows and masks.
pub(crate) struct Olmo {
    shape: Shape,
    object: Option<Object>,
}

impl Olmo {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, object: None }
    }
}

impl Layout for Olmo {
    fn most_windows(&self) -> u64 {
        u64::MAX
    }

    fn key(&self, number: u64) -> String {
        format!("{}-{number:05}.npy", self.shape.split)
    }

    fn begin(&mut self, store: &Workdir, number: u64, windows: u64) -> Result<Place, ExportError> {
        let stem = format!("{}-{number:05}", self.shape.split);
        let ids = File::begin(store, self.key(number), windows)?;
        let masks = File::begin(store, format!("label_mask/{stem}.npy"), windows)?;
        let rows = File::begin(store, format!("{stem}.csv.gz"), windows)?;
        let gzip = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
        self.object = Some(Object { ids, masks, rows, gzip, tokens: 0 });
        Ok(Place { first: 0, stride: self.shape.window_bytes() })
    }

    fn push(&mut self, window: &Window<'_>) -> Result<(), ExportError> {
        let object = begun(&mut self.object);
        object.ids.write(window.id_bytes)?;
        object.masks.write(window.mask)?;
        let mut text = String::new();
        let mut start = object.tokens;
        for (range, segment) in window.sequence.segment_ranges() {
            let end = object.tokens + u64::from(range.end);
            append_row(&mut text, (start, end), &key_text(segment.document), window.shard, window.row + 1);
            start = end;
        }
        object.tokens += u64::from(self.shape.sequence_length);
        if start < object.tokens {
            append_row(&mut text, (start, object.tokens), "padding", window.shard, window.row + 1);
        }
        object.gzip.write_all(text.as_bytes()).map_err(ExportError::io("metadata rows"))?;
        let ready = std::mem::take(object.gzip.get_mut());
        object.rows.write(&ready)
    }

    fn end(&mut self) -> Result<Vec<ObjectEntry>, ExportError> {
        let mut object = take(&mut self.object);
        let rest = object.gzip.finish().map_err(ExportError::io("metadata rows"))?;
        object.rows.write(&rest)?;
        Ok(vec![object.ids.publish()?, object.masks.publish()?, object.rows.publish()?])
    }
}

/// One row. Ids and keys of objects hold neither commas nor line ends.
fn append_row(out: &mut String, (start, end): (u64, u64), id: &str, source: &str, line: u64) {
    write!(out, "{start},{end},{id},{source},{line}\r\n").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::append_row;
    use crate::export::tests::sha256;

    #[test]
    fn golden_rows() {
        let mut text = String::new();
        append_row(&mut text, (0, 4), "d0", "a.jsonl.gz", 1);
        append_row(&mut text, (4, 6), "d1", "a.jsonl.gz", 2);
        assert_eq!(sha256(text.as_bytes()), "575f14bf31f40ad76a00ebe5a5e267b57dd956fee0362459b597cb684517cb43");
    }
}
