//! MDS version 2 of `MosaicML` streaming (`streaming/base/format/mds/`): shards with an offset table, the configuration as JSON
//! text and the samples; `index.json` lists the shards.
//!
//! A sample is a window. Every column has a fixed size, so that a shard is written as it comes.

use mellama_storage::{ObjectEntry, Workdir};
use serde_json::{Value, json};

use crate::export::ExportError;
use crate::export::object::{File, Layout, Place, Shape, begun, take};
use crate::export::python_json;
use crate::export::window::{IdWidth, Window};

/// Largest shard, the default of the peer's writer.
const SIZE_LIMIT: u64 = 1 << 26;

/// Name, encoding and bytes of a column, in the order of names.
type Column = (&'static str, String, u64);

/// Shards and their index.
pub(crate) struct Mds {
    columns: Vec<Column>,
    /// Ids of a window lie this far into its sample.
    ids_at: u64,
    shape: Shape,
    object: Option<File>,
    written: Vec<(ObjectEntry, u64)>,
    sample: Vec<u8>,
    windows: u64,
}

impl Mds {
    /// `segments` adds the columns `loss_mask` and `segment_ids`.
    pub(crate) fn new(shape: Shape, segments: bool) -> Self {
        let t = u64::from(shape.sequence_length);
        let ids = if shape.width == IdWidth::Two { "uint16" } else { "uint32" };
        let mut columns = Vec::new();
        if segments {
            columns.push(("loss_mask", format!("ndarray:uint8:{t}"), t));
            columns.push(("segment_ids", format!("ndarray:int32:{t}"), 4 * t));
        }
        columns.push(("tokens", format!("ndarray:{ids}:{t}"), shape.window_bytes()));
        let ids_at = if segments { 5 * t } else { 0 };
        Self { columns, ids_at, shape, object: None, written: Vec::new(), sample: Vec::new(), windows: 0 }
    }

    fn sample_bytes(&self) -> u64 {
        self.columns.iter().map(|(_, _, bytes)| bytes).sum()
    }

    fn config(&self) -> Value {
        let each = |part: fn(&Column) -> Value| self.columns.iter().map(part).collect::<Vec<_>>();
        json!({
            "column_encodings": each(|column| json!(column.1)),
            "column_names": each(|column| json!(column.0)),
            "column_sizes": each(|column| json!(column.2)),
            "compression": null,
            "format": "mds",
            "hashes": [],
            "size_limit": SIZE_LIMIT,
            "version": 2,
        })
    }

    fn has_segments(&self) -> bool {
        self.columns.len() > 1
    }
}

impl Layout for Mds {
    /// A shard is closed before the sample with which `8 + config + Σ(sample + 4) + 4` would pass the limit.
    fn most_windows(&self) -> u64 {
        let config = python_json::text(&self.config()).len() as u64;
        (SIZE_LIMIT.saturating_sub(8 + config) / (self.sample_bytes() + 4)).max(1)
    }

    fn key(&self, number: u64) -> String {
        format!("shard.{number:05}.mds")
    }

    fn begin(&mut self, store: &Workdir, number: u64, windows: u64) -> Result<Place, ExportError> {
        let mut file = File::begin(store, self.key(number), windows)?;
        let head = head_bytes(&python_json::text(&self.config()), windows, self.sample_bytes());
        file.write(&head)?;
        self.object = Some(file);
        self.windows = windows;
        Ok(Place { first: head.len() as u64 + self.ids_at, stride: self.sample_bytes() })
    }

    fn push(&mut self, window: &Window<'_>) -> Result<(), ExportError> {
        self.sample.clear();
        if self.has_segments() {
            self.sample.extend_from_slice(window.mask);
            append_segment_ids(window, self.shape.sequence_length, &mut self.sample);
        }
        self.sample.extend_from_slice(window.id_bytes);
        begun(&mut self.object).write(&self.sample)
    }

    fn end(&mut self) -> Result<Vec<ObjectEntry>, ExportError> {
        let entry = take(&mut self.object).publish()?;
        self.written.push((entry.clone(), self.windows));
        Ok(vec![entry])
    }

    fn index(&mut self, store: &Workdir) -> Result<Vec<ObjectEntry>, ExportError> {
        let shards: Vec<(&str, u64, u64)> =
            self.written.iter().map(|(entry, windows)| (entry.key.as_str(), entry.bytes, *windows)).collect();
        let text = index_text(&self.config(), &shards);
        Ok(vec![File::put(store, "index.json", shards.len() as u64, text.as_bytes())?])
    }
}

/// The segment's number at each position, from 0, and -1 on padding.
fn append_segment_ids(window: &Window<'_>, sequence_length: u32, out: &mut Vec<u8>) {
    let mut at = 0;
    for (number, (range, _)) in (0_i32..).zip(window.sequence.segment_ranges()) {
        range.clone().for_each(|_| out.extend_from_slice(&number.to_le_bytes()));
        at = range.end;
    }
    (at..sequence_length).for_each(|_| out.extend_from_slice(&(-1_i32).to_le_bytes()));
}

/// Number of samples, absolute offsets, configuration.
fn head_bytes(config: &str, samples: u64, sample_bytes: u64) -> Vec<u8> {
    let first = 4 + 4 * (samples + 1) + config.len() as u64;
    let mut out = Vec::with_capacity(first as usize);
    out.extend_from_slice(&(samples as u32).to_le_bytes());
    (0..=samples).for_each(|sample| out.extend_from_slice(&((first + sample * sample_bytes) as u32).to_le_bytes()));
    out.extend_from_slice(config.as_bytes());
    out
}

/// `index.json` of shards by name, bytes and samples.
fn index_text(config: &Value, shards: &[(&str, u64, u64)]) -> String {
    let shard = |&(name, bytes, samples): &(&str, u64, u64)| {
        let mut entry = config.clone();
        entry["samples"] = json!(samples);
        entry["raw_data"] = json!({"basename": name, "bytes": bytes, "hashes": {}});
        entry["zip_data"] = Value::Null;
        entry
    };
    python_json::text(&json!({"shards": shards.iter().map(shard).collect::<Vec<_>>(), "version": 2}))
}

#[cfg(test)]
mod tests {
    use super::{Mds, SIZE_LIMIT, head_bytes, index_text};
    use crate::export::object::Layout;
    use crate::export::python_json;
    use crate::export::tests::{sha256, shape};
    use crate::export::window::IdWidth;

    #[test]
    fn golden_shard_and_index_of_two_samples() {
        let mds = Mds::new(shape(4, IdWidth::Two), false);
        let config = mds.config();
        let mut shard = head_bytes(&python_json::text(&config), 2, mds.sample_bytes());
        assert_eq!(shard[4..16], [197_u32, 205, 213].map(u32::to_le_bytes).concat());
        IdWidth::Two.append(&[1, 2, 3, 2, 5, 2, 0, 0], &mut shard);
        assert_eq!(shard.len(), 213);
        assert_eq!(sha256(&shard), "f75b06a1a72657f7457386141296c65fc2e664842230b0d52945df96d47cef5e");
        let index = index_text(&config, &[("shard.00000.mds", 213, 2)]);
        assert_eq!(index.len(), 314);
        assert_eq!(sha256(index.as_bytes()), "653146c925555c0c10f6b0892869dc42b660f5b46585e48a67d39021dd42cf61");
    }

    #[test]
    fn columns_stand_in_the_order_of_their_names() {
        let mds = Mds::new(shape(8, IdWidth::Four), true);
        let names: Vec<&str> = mds.columns.iter().map(|column| column.0).collect();
        assert!(names.is_sorted() && names.len() == 3, "{names:?}");
        assert_eq!((mds.ids_at, mds.sample_bytes()), (8 + 32, 8 + 32 + 32));
        assert_eq!(mds.columns[2].1, "ndarray:uint32:8");
    }

    #[test]
    fn a_shard_is_the_fullest_below_the_limit() {
        let check = |length: u32| {
            let mds = Mds::new(shape(length, IdWidth::Two), false);
            let config = python_json::text(&mds.config()).len() as u64;
            let size = |windows: u64| 8 + config + windows * (mds.sample_bytes() + 4);
            let most = mds.most_windows();
            assert!(size(most) <= SIZE_LIMIT && size(most + 1) > SIZE_LIMIT, "{length}: {most}");
        };
        [1, 8, 128, 4096, 1 << 20].into_iter().for_each(check);
    }
}
