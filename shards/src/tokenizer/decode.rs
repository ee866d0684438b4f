//! Ids back to text: what bytes each id gives, the leading space, and byte pieces joined into UTF-8.

use super::bpe::{Piece, PieceKind, Rules};

/// What one id gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Nothing: a control token.
    Silent,
    /// Text, with plain spaces. A leading space is the encoder's when it stands at the start.
    Text(Box<str>),
    /// Text that never loses a leading space: the unknown piece.
    Fixed(Box<str>),
    /// Some bytes that need not be whole characters.
    Bytes(Box<[u8]>),
}

/// The outputs of a vocabulary, by id.
#[derive(Debug)]
pub(super) struct PieceBytes {
    outputs: Vec<Output>,
    /// Whether the encoder puts a space before the text (or drops leading ones), which decoding takes away again.
    strip_start: bool,
    /// Whether every leading space goes, not only one.
    strip_all: bool,
}

impl PieceBytes {
    /// Outputs by id with the given rule for the start.
    pub(super) fn new(outputs: Vec<Output>, strip_start: bool) -> Self {
        Self { outputs, strip_start, strip_all: false }
    }

    /// Outputs of a BPE vocabulary.
    pub(super) fn of_pieces(pieces: &[Piece], unknown_surface: &str, rules: Rules) -> Self {
        let outputs = pieces.iter().map(|piece| match piece.kind {
            PieceKind::Normal => Output::Text(piece.text.as_str().into()),
            PieceKind::Unknown => Output::Fixed(unknown_surface.into()),
            PieceKind::Control => Output::Silent,
            PieceKind::Byte(byte) => Output::Bytes([byte].into()),
        });
        Self {
            outputs: outputs.collect(),
            strip_start: rules.dummy_prefix || rules.remove_extra_spaces,
            strip_all: rules.remove_extra_spaces,
        }
    }

    /// Text of `ids`, by `SentencePiece`'s rules.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut bytes = Vec::new();
        let mut at_start = self.strip_start;
        for id in ids {
            match self.outputs.get(*id as usize) {
                Some(Output::Bytes(more)) => bytes.extend_from_slice(more),
                Some(Output::Text(piece)) => {
                    push_bytes(&mut text, &mut bytes);
                    at_start &= text.is_empty();
                    let rest = piece.strip_prefix(' ').filter(|_| at_start);
                    // One space goes, from the first piece that has text; with `strip_all` so do the next ones.
                    at_start &= rest.is_none() || self.strip_all;
                    text.push_str(rest.unwrap_or(piece));
                }
                Some(Output::Fixed(surface)) => {
                    push_bytes(&mut text, &mut bytes);
                    text.push_str(surface);
                }
                Some(Output::Silent) => push_bytes(&mut text, &mut bytes),
                None => {}
            }
        }
        push_bytes(&mut text, &mut bytes);
        text
    }

    /// Bytes of one id, without its leading space `at_start`.
    pub(super) fn piece_bytes(&self, at_start: bool, id: u32) -> &[u8] {
        match self.outputs.get(id as usize) {
            Some(Output::Text(piece)) => {
                let rest = piece.strip_prefix(' ').filter(|_| at_start && self.strip_start);
                rest.unwrap_or(piece).as_bytes()
            }
            Some(Output::Fixed(surface)) => surface.as_bytes(),
            Some(Output::Bytes(bytes)) => bytes,
            Some(Output::Silent) | None => &[],
        }
    }

    /// Length of an id's bytes, or `None` for ids that don't stand for an exact part of a text.
    pub(super) fn exact_length(&self, id: u32) -> Option<usize> {
        match self.outputs.get(id as usize)? {
            Output::Text(piece) => Some(piece.len()),
            Output::Bytes(bytes) => Some(bytes.len()),
            Output::Silent | Output::Fixed(_) => None,
        }
    }
}

/// Moves `bytes` to the end of `text`, one U+FFFD for every byte that is not part of valid UTF-8.
fn push_bytes(text: &mut String, bytes: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    bytes.clear();
}
