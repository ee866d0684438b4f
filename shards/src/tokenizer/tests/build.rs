//! Writers of small tokenizer files for the tests.

use super::super::Tokenizer;

/// Piece types of the `SentencePiece` format.
pub(super) const NORMAL: u64 = 1;
pub(super) const UNKNOWN: u64 = 2;
pub(super) const CONTROL: u64 = 3;
pub(super) const BYTE: u64 = 6;

/// A piece of a model under construction: text, score, type.
pub(super) type ModelPiece = (String, f32, u64);

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
pub(super) fn bytes_field(out: &mut Vec<u8>, number: u64, body: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// Appends a varint field.
pub(super) fn number_field(out: &mut Vec<u8>, number: u64, value: u64) {
    varint(out, number << 3);
    varint(out, value);
}

/// The settings that the tests vary; `trainer` and `normalizer` are added to the two messages.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelFile {
    pub(super) pieces: Vec<ModelPiece>,
    pub(super) trainer: Vec<(u64, u64)>,
    pub(super) normalizer: Vec<(u64, u64)>,
    pub(super) character_map: Vec<u8>,
}

impl ModelFile {
    /// A BPE model as LLaMA-2's is set up, with the given text pieces in falling order of score.
    pub(super) fn llama_like(texts: &[&str], byte_fallback: bool) -> Self {
        let mut pieces =
            vec![("<unk>".to_owned(), 0.0, UNKNOWN), ("<s>".to_owned(), 0.0, CONTROL), ("</s>".to_owned(), 0.0, CONTROL)];
        if byte_fallback {
            pieces.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)));
        }
        for (rank, text) in texts.iter().enumerate() {
            pieces.push(((*text).to_owned(), -(rank as f32), NORMAL));
        }
        Self {
            pieces,
            trainer: vec![(3, 2), (35, u64::from(byte_fallback))],
            normalizer: vec![(3, 1), (4, 0), (5, 1)],
            character_map: Vec::new(),
        }
    }

    /// The file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = Vec::new();
        for (text, score, kind) in &self.pieces {
            let mut piece = Vec::new();
            bytes_field(&mut piece, 1, text.as_bytes());
            varint(&mut piece, 2 << 3 | 5);
            piece.extend_from_slice(&score.to_le_bytes());
            number_field(&mut piece, 3, *kind);
            bytes_field(&mut file, 1, &piece);
        }
        for (number, settings) in [(2, &self.trainer), (3, &self.normalizer)] {
            let mut body = Vec::new();
            for (field, value) in settings {
                number_field(&mut body, *field, *value);
            }
            if number == 3 && !self.character_map.is_empty() {
                bytes_field(&mut body, 2, &self.character_map);
            }
            bytes_field(&mut file, number, &body);
        }
        file
    }

    /// The tokenizer of the file.
    pub(super) fn open(&self) -> Tokenizer {
        Tokenizer::from_bytes("test.model", &self.bytes()).unwrap()
    }
}

/// A llama2.c tokenizer of the three control tokens, the 256 bytes and `texts` in falling order of score.
pub(super) fn llama2c(texts: &[&str]) -> Vec<u8> {
    let mut tokens = vec!["<unk>".to_owned(), "\n<s>\n".to_owned(), "\n</s>\n".to_owned()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(texts.iter().map(|text| (*text).to_owned()));
    let longest = tokens.iter().map(String::len).max().unwrap();
    let mut file = (longest as u32).to_le_bytes().to_vec();
    for (id, token) in tokens.iter().enumerate() {
        file.extend_from_slice(&(259.0 - id as f32).to_le_bytes());
        file.extend_from_slice(&(token.len() as u32).to_le_bytes());
        file.extend_from_slice(token.as_bytes());
    }
    file
}
