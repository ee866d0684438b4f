//! Megatron-LM's indexed dataset (`megatron/core/datasets/indexed_dataset.py`): `NAME.bin` holds ids back to back, `NAME.idx`
//! lengths, byte offsets and documents. Packed export: one sequence, and one document, a window.

use mellama_storage::{ObjectEntry, Workdir};

use crate::export::ExportError;
use crate::export::object::{File, Layout, Place, Shape, begun, take};
use crate::export::window::{IdWidth, Window};

/// First bytes of an index.
const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
/// Version of the index.
const VERSION: u64 = 1;

/// The two files of each object.
pub(crate) struct Megatron {
    shape: Shape,
    object: Option<(File, Workdir, String, u64)>,
}

impl Megatron {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, object: None }
    }
}

impl Layout for Megatron {
    fn most_windows(&self) -> u64 {
        u64::MAX
    }

    fn key(&self, number: u64) -> String {
        format!("{}-{number:05}.bin", self.shape.split)
    }

    fn begin(&mut self, store: &Workdir, number: u64, windows: u64) -> Result<Place, ExportError> {
        let file = File::begin(store, self.key(number), windows)?;
        let index = format!("{}-{number:05}.idx", self.shape.split);
        self.object = Some((file, store.clone(), index, windows));
        Ok(Place { first: 0, stride: self.shape.window_bytes() })
    }

    fn push(&mut self, window: &Window<'_>) -> Result<(), ExportError> {
        begun(&mut self.object).0.write(window.id_bytes)
    }

    fn end(&mut self) -> Result<Vec<ObjectEntry>, ExportError> {
        let (file, store, index, windows) = take(&mut self.object);
        let ids = file.publish()?;
        let bytes = index_bytes(self.shape.width, &vec![self.shape.sequence_length; windows as usize]);
        Ok(vec![ids, File::put(&store, &index, windows, &bytes)?])
    }
}

/// The whole index of sequences of these lengths, each a document of its own.
fn index_bytes(width: IdWidth, lengths: &[u32]) -> Vec<u8> {
    // 8 is u16, 4 is i32; there is no code for u32.
    let code: u8 = if width == IdWidth::Two { 8 } else { 4 };
    let sequences = lengths.len() as u64;
    let mut out = Vec::with_capacity(34 + lengths.len() * 20 + 8);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.push(code);
    out.extend_from_slice(&sequences.to_le_bytes());
    out.extend_from_slice(&(sequences + 1).to_le_bytes());
    for length in lengths {
        out.extend_from_slice(&length.to_le_bytes());
    }
    let mut offset = 0_u64;
    for &length in lengths {
        out.extend_from_slice(&offset.to_le_bytes());
        offset += u64::from(length) * width.bytes();
    }
    (0..=sequences).for_each(|document| out.extend_from_slice(&document.to_le_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use super::index_bytes;
    use crate::export::tests::{GOLDEN_BIN_SHA256, GOLDEN_DOCUMENTS, hex, sha256};
    use crate::export::window::IdWidth;

    #[test]
    fn golden_index_of_two_documents() {
        let lengths = GOLDEN_DOCUMENTS.map(|document| document.len() as u32);
        let bytes = index_bytes(IdWidth::Two, &lengths);
        assert_eq!(bytes.len(), 82);
        assert_eq!(
            hex(&bytes),
            concat!(
                "4d4d49444944580000",
                "0100000000000000",
                "08",
                "0200000000000000",
                "0300000000000000",
                "04000000",
                "02000000",
                "0000000000000000",
                "0800000000000000",
                "0000000000000000",
                "0100000000000000",
                "0200000000000000"
            )
        );
        assert_eq!(sha256(&bytes), "9585c7948ab6a35ddfa07f161b9ec34d50d15fe91f6d498fdb77e1bb33a116f1");
    }

    #[test]
    fn golden_ids_back_to_back() {
        let mut bytes = Vec::new();
        for document in GOLDEN_DOCUMENTS {
            IdWidth::Two.append(document, &mut bytes);
        }
        assert_eq!(sha256(&bytes), GOLDEN_BIN_SHA256);
    }

    #[test]
    fn wide_ids_are_signed_32_bits_and_offsets_count_their_bytes() {
        let bytes = index_bytes(IdWidth::Four, &[3, 1]);
        assert_eq!(bytes[17], 4);
        assert_eq!(bytes[34 + 8..34 + 24], [[0_u8; 8], 12_u64.to_le_bytes()].concat());
    }
}
