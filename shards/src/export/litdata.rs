//! litdata's chunks for its `TokensLoader` (`streaming/writer.py`, `streaming/item_loader.py`): an offset table and the ids of
//! each item; `index.json` lists the chunks. An item is a window, so blocks of T tokens are the windows.

use mellama_storage::{ObjectEntry, Workdir};
use serde_json::{Value, json};

use crate::export::ExportError;
use crate::export::object::{File, Layout, Place, Shape, begun, take};
use crate::export::python_json;
use crate::export::window::{IdWidth, Window};

/// Tree of one leaf, as torch's `pytree` writes it.
const DATA_SPEC: &str = r#"[1, {"type": null, "context": null, "children_spec": []}]"#;
/// Bytes of a chunk, below what its 32-bit offsets can say.
const MOST_BYTES: u64 = u32::MAX as u64;

/// Chunks and their index.
pub(crate) struct Litdata {
    shape: Shape,
    object: Option<File>,
    windows: u64,
    written: Vec<(ObjectEntry, u64)>,
}

impl Litdata {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, object: None, windows: 0, written: Vec::new() }
    }
}

impl Layout for Litdata {
    fn most_windows(&self) -> u64 {
        ((MOST_BYTES - 8) / (self.shape.window_bytes() + 4)).max(1)
    }

    fn key(&self, number: u64) -> String {
        format!("chunk-0-{number:05}.bin")
    }

    fn begin(&mut self, store: &Workdir, number: u64, windows: u64) -> Result<Place, ExportError> {
        let mut file = File::begin(store, self.key(number), windows)?;
        let head = head_bytes(windows, self.shape.window_bytes());
        file.write(&head)?;
        self.object = Some(file);
        self.windows = windows;
        Ok(Place { first: head.len() as u64, stride: self.shape.window_bytes() })
    }

    fn push(&mut self, window: &Window<'_>) -> Result<(), ExportError> {
        begun(&mut self.object).write(window.id_bytes)
    }

    fn end(&mut self) -> Result<Vec<ObjectEntry>, ExportError> {
        let entry = take(&mut self.object).publish()?;
        self.written.push((entry.clone(), self.windows));
        Ok(vec![entry])
    }

    fn index(&mut self, store: &Workdir) -> Result<Vec<ObjectEntry>, ExportError> {
        let t = u64::from(self.shape.sequence_length);
        let chunks: Vec<Value> = self.written.iter().map(|(entry, windows)| chunk(entry, *windows, windows * t)).collect();
        let text = python_json::text(&json!({"chunks": chunks, "config": config(self.shape.width)}));
        Ok(vec![File::put(store, "index.json", self.written.len() as u64, text.as_bytes())?])
    }
}

fn chunk(entry: &ObjectEntry, items: u64, tokens: u64) -> Value {
    json!({"chunk_bytes": entry.bytes, "chunk_size": items, "dim": tokens, "filename": entry.key})
}

fn config(width: IdWidth) -> Value {
    // Codes of the types: 5 is u16, 6 is u32.
    let code = if width == IdWidth::Two { 5 } else { 6 };
    json!({
        "chunk_bytes": null,
        "chunk_size": null,
        "compression": null,
        "data_format": [format!("no_header_numpy:{code}")],
        "data_spec": DATA_SPEC,
        "encryption": null,
        "item_loader": "TokensLoader",
    })
}

/// Number of items and their absolute offsets.
fn head_bytes(items: u64, item_bytes: u64) -> Vec<u8> {
    let first = 4 + 4 * (items + 1);
    let mut out = (items as u32).to_le_bytes().to_vec();
    (0..=items).for_each(|item| out.extend_from_slice(&((first + item * item_bytes) as u32).to_le_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use super::head_bytes;
    use crate::export::tests::{GOLDEN_DOCUMENTS, hex};
    use crate::export::window::IdWidth;

    #[test]
    fn golden_chunk_of_one_item() {
        let mut chunk = head_bytes(1, 12);
        for document in GOLDEN_DOCUMENTS {
            IdWidth::Two.append(document, &mut chunk);
        }
        assert_eq!(hex(&chunk), "010000000c00000018000000010002000300020005000200");
    }
}
