//! llm.c's token files (`dev/data/data_common.py`, `llmc/dataloader.h`): 256 32-bit words of header, then ids back to back.
//!
//! Version 1 holds u16, the only one that the C loader takes; version 7 holds u32.

use mellama_storage::{ObjectEntry, Workdir};

use crate::export::ExportError;
use crate::export::object::{File, Layout, Place, Shape, begun, take};
use crate::export::window::{IdWidth, Window};

/// Words of the header.
const HEADER_WORDS: usize = 256;
/// Tokens of a file, as its signed 32-bit count can say.
const MOST_TOKENS: u64 = (1 << 31) - 1;

/// One file an object.
pub(crate) struct Llmc {
    shape: Shape,
    object: Option<File>,
}

impl Llmc {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, object: None }
    }
}

impl Layout for Llmc {
    fn most_windows(&self) -> u64 {
        MOST_TOKENS / u64::from(self.shape.sequence_length)
    }

    fn key(&self, number: u64) -> String {
        format!("{}_{number:06}.bin", self.shape.split)
    }

    fn begin(&mut self, store: &Workdir, number: u64, windows: u64) -> Result<Place, ExportError> {
        let mut file = File::begin(store, self.key(number), windows)?;
        let header = header_bytes(self.shape.width, (windows * u64::from(self.shape.sequence_length)) as u32);
        file.write(&header)?;
        self.object = Some(file);
        Ok(Place { first: header.len() as u64, stride: self.shape.window_bytes() })
    }

    fn push(&mut self, window: &Window<'_>) -> Result<(), ExportError> {
        begun(&mut self.object).write(window.id_bytes)
    }

    fn end(&mut self) -> Result<Vec<ObjectEntry>, ExportError> {
        Ok(vec![take(&mut self.object).publish()?])
    }
}

fn header_bytes(width: IdWidth, tokens: u32) -> Vec<u8> {
    let (magic, version): (u32, u32) = if width == IdWidth::Two { (20_240_520, 1) } else { (20_240_801, 7) };
    let mut words = [0_u32; HEADER_WORDS];
    words[..3].copy_from_slice(&[magic, version, tokens]);
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::header_bytes;
    use crate::export::tests::{GOLDEN_DOCUMENTS, hex, sha256};
    use crate::export::window::IdWidth;

    #[test]
    fn golden_files_of_both_versions() {
        let check = |width: IdWidth, start: &str, bytes: usize, digest: &str| {
            let mut file = header_bytes(width, 6);
            for document in GOLDEN_DOCUMENTS {
                width.append(document, &mut file);
            }
            assert_eq!((hex(&file[..12]).as_str(), file.len()), (start, bytes));
            assert_eq!(sha256(&file), digest);
        };
        let first = "192062f24fdf16d07f188f5d0c16792a57a3b158a2205bda6a440760b6c91b70";
        check(IdWidth::Two, "88d834010100000006000000", 1036, first);
        let seventh = "c97498e954d3e28bef1c8291e6a3f661a386a2c779a2807fade17221f0ec192c";
        check(IdWidth::Four, "a1d934010700000006000000", 1048, seventh);
    }
}
