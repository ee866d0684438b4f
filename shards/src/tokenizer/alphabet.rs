//! What a segment is made of before anything is merged: one symbol a character, or one a byte. It merges nothing.
//!
//! Symbol numbers are token ids, then numbers above the vocabulary for characters that are only parts of tokens.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::bpe::{Piece, PieceKind};
use super::pairs::PAIRS_MAX;

/// A character that occurs in no token and therefore never merges. No symbol has this number.
pub(super) const FOREIGN: u32 = PAIRS_MAX as u32;

/// The first symbols of text.
#[derive(Debug)]
pub(super) enum Alphabet {
    Characters(Box<Characters>),
    /// The token of each byte.
    Bytes(Box<[u32; 256]>),
}

/// Symbols of characters.
#[derive(Debug)]
pub(super) struct Characters {
    ascii: [u32; 128],
    others: HashMap<char, u32, NumberHashing>,
    /// Token of each byte, for characters without one.
    bytes: Option<Box<[u32; 256]>>,
}

impl Characters {
    /// The characters that are normal pieces, and the byte pieces.
    pub(super) fn new(pieces: &[Piece]) -> Self {
        let mut characters = Self { ascii: [FOREIGN; 128], others: HashMap::default(), bytes: None };
        for (id, piece) in (0_u32..).zip(pieces) {
            match piece.kind {
                PieceKind::Normal => {
                    if let Some(character) = single_character(&piece.text) {
                        characters.set(character, id);
                    }
                }
                PieceKind::Byte(byte) => {
                    characters.bytes.get_or_insert_with(|| Box::new([0; 256]))[usize::from(byte)] = id;
                }
                PieceKind::Unknown | PieceKind::Control => {}
            }
        }
        characters
    }

    /// Number of a character.
    pub(super) fn get(&self, character: char) -> u32 {
        match self.ascii.get(character as usize) {
            Some(number) => *number,
            None => self.others.get(&character).copied().unwrap_or(FOREIGN),
        }
    }

    /// Gives a character its number.
    pub(super) fn set(&mut self, character: char, number: u32) {
        match self.ascii.get_mut(character as usize) {
            Some(place) => *place = number,
            None => {
                self.others.insert(character, number);
            }
        }
    }
}

impl Alphabet {
    /// Appends the numbers of a segment's symbols, and the byte at which each begins.
    pub(super) fn numbers(&self, segment: &[u8], numbers: &mut Vec<u32>, starts: &mut Vec<u32>) {
        match self {
            Self::Bytes(ids) => {
                numbers.extend(segment.iter().map(|byte| ids[usize::from(*byte)]));
                starts.extend(0..segment.len() as u32);
            }
            Self::Characters(characters) => {
                let mut at = 0;
                while let Some(first) = segment.get(at) {
                    starts.push(at as u32);
                    if let Some(number) = characters.ascii.get(usize::from(*first)) {
                        numbers.push(*number);
                        at += 1;
                    } else {
                        let (character, length) = character_at(segment, at);
                        numbers.push(characters.get(character));
                        at += length;
                    }
                }
            }
        }
    }

    /// Appends the byte tokens of the first character of `rest`; false where the vocabulary has none.
    pub(super) fn bytes_of_first(&self, rest: &[u8], ids: &mut Vec<u32>) -> bool {
        let Self::Characters(characters) = self else { return false };
        let Some(bytes) = &characters.bytes else { return false };
        let length = if rest[0] < 0x80 { 1 } else { character_at(rest, 0).1 };
        ids.extend(rest[..length].iter().map(|byte| bytes[usize::from(*byte)]));
        true
    }

    /// Whether every text has tokens.
    pub(super) fn has_bytes(&self) -> bool {
        match self {
            Self::Bytes(_) => true,
            Self::Characters(characters) => characters.bytes.is_some(),
        }
    }
}

/// The character above U+007F that begins at `at` of valid UTF-8, and its length in bytes (RFC 3629, section 3).
#[inline]
pub(super) fn character_at(text: &[u8], at: usize) -> (char, usize) {
    let tail = |index: usize| u32::from(text[at + index] & 0x3f);
    let (code, length) = match text[at] {
        lead @ ..0xe0 => (u32::from(lead & 0x1f) << 6 | tail(1), 2),
        lead @ 0xe0..0xf0 => (u32::from(lead & 0x0f) << 12 | tail(1) << 6 | tail(2), 3),
        lead => (u32::from(lead & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4),
    };
    (char::from_u32(code).expect("text is valid UTF-8 and cut at characters"), length)
}

/// The character of a text that has only one.
pub(super) fn single_character(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}

/// Builds [`NumberHasher`]s.
pub(super) type NumberHashing = BuildHasherDefault<NumberHasher>;

/// Hash of one number: the `SplitMix64` finaliser. The tables are never iterated, so it reaches no output.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let mut z = (self.0.rotate_left(29) ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = z ^ (z >> 31);
    }
}
