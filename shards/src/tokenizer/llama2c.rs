//! Reads a llama2.c `tokenizer.bin`: ids, scores and texts with plain spaces. It doesn't encode.
//!
//! Layout, little-endian: i32 longest token in bytes, then until the end of the file per token f32 score, i32 length,
//! that many bytes. Ids 0, 1 and 2 are unknown, BOS and EOS; 3 to 258 are the 256 bytes, spelled `<0xNN>`.

use std::ops::RangeInclusive;

use super::bpe::{Piece, PieceKind, Rules, Vocabulary};
use super::sentencepiece::byte_of;
use super::{Refusal, VOCABULARY_MAX};

/// Longest token that is accepted, in bytes; it also tells the format from the others.
pub(super) const TOKEN_BYTES_MAX: u32 = 4096;
/// Longest token of text, in bytes: the encoder's tables grow with the square of it.
const PIECE_BYTES_MAX: usize = 256;
const UNKNOWN: u32 = 0;
const BOS: u32 = 1;
const EOS: u32 = 2;
const BYTES: RangeInclusive<u32> = 3..=258;

/// Reads a tokenizer file.
///
/// # Errors
/// A [`Refusal`] for a truncated file and for ids that don't follow the layout.
pub(super) fn read(bytes: &[u8]) -> Result<Vocabulary, Refusal> {
    let longest = u32::from_le_bytes(word(bytes, 0)?);
    let (mut pieces, mut at) = (Vec::new(), 4);
    while at < bytes.len() {
        let id = pieces.len() as u32;
        if id >= VOCABULARY_MAX {
            return Err(Refusal::TooMany { what: "tokens", found: u64::from(id) + 1, limit: u64::from(VOCABULARY_MAX) });
        }
        let score = f32::from_le_bytes(word(bytes, at)?);
        let length = u32::from_le_bytes(word(bytes, at + 4)?);
        if length > longest {
            return Err(Refusal::Token { id, reason: "longer than the file's longest token" });
        }
        let start = at + 8;
        at = start + length as usize;
        let raw =
            bytes.get(start..at).ok_or(Refusal::Malformed { offset: start as u64, what: "as many bytes as the length says" })?;
        pieces.push(read_token(id, score, raw)?);
    }
    if pieces.len() as u64 <= u64::from(*BYTES.end()) {
        return Err(Refusal::Malformed { offset: at as u64, what: "259 tokens or more" });
    }
    Ok(Vocabulary {
        pieces,
        bos: Some(BOS),
        eos: Some(EOS),
        unknown_surface: "<unk>".to_owned(),
        rules: Rules { dummy_prefix: true, remove_extra_spaces: false, mark_is_space: false, merge_unlisted_characters: false },
    })
}

fn read_token(id: u32, score: f32, raw: &[u8]) -> Result<Piece, Refusal> {
    let token = |reason| Refusal::Token { id, reason };
    let text = std::str::from_utf8(raw).map_err(|_| token("its text is not UTF-8"))?;
    if text.is_empty() {
        return Err(token("its text is empty"));
    }
    if !score.is_finite() {
        return Err(token("its score is not a finite number"));
    }
    if text.len() > PIECE_BYTES_MAX {
        return Err(token("its text is longer than 256 bytes"));
    }
    let kind = match id {
        UNKNOWN => PieceKind::Unknown,
        BOS | EOS => PieceKind::Control,
        id if BYTES.contains(&id) => {
            let byte = byte_of(text).filter(|byte| u32::from(*byte) + BYTES.start() == id);
            PieceKind::Byte(byte.ok_or_else(|| token("ids 3 to 258 must read <0x00> to <0xFF>"))?)
        }
        _ => PieceKind::Normal,
    };
    Ok(Piece { text: text.to_owned(), score, kind })
}

fn word(bytes: &[u8], at: usize) -> Result<[u8; 4], Refusal> {
    let found = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    found.ok_or(Refusal::Malformed { offset: at as u64, what: "a 32-bit word" })
}
