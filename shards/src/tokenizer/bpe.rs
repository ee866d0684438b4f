//! Score-ordered BPE over a vocabulary of pieces, equal to `SentencePiece`'s encoder. Here are the pieces and what scores
//! say of merges; text is prepared in `spaces.rs`, cut in `cuts.rs` and merged in `merge.rs`.
//!
//! Next person: pieces are kept in *space form*, where U+2581 is already a plain space, so that the files of
//! `SentencePiece` and of llama2.c meet one encoder. Byte and control pieces are never looked up by text.

use std::collections::HashMap;

use super::alphabet::{Alphabet, Characters, FOREIGN, single_character};
use super::cuts::Cuts;
use super::decode::PieceBytes;
use super::merge::{Merger, Unknown};
use super::pairs::{Merge, PAIRS_MAX, PairTable};
use super::spaces::{Prefix, SpaceEncoder, SpaceRules};
use super::{ControlIds, Refusal};

/// One entry of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    /// Text; in space form when `kind` is `Normal`.
    pub(super) text: String,
    /// Pieces of a higher score are merged first.
    pub(super) score: f32,
    pub(super) kind: PieceKind,
}

/// What a piece stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// Text.
    Normal,
    /// Text outside the vocabulary.
    Unknown,
    /// No text.
    Control,
    /// One byte.
    Byte(u8),
}

/// How text is prepared and merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the file formats")]
pub(super) struct Rules {
    /// Text that is not empty begins with one more space.
    pub(super) dummy_prefix: bool,
    /// Leading and trailing spaces go away and runs become one.
    pub(super) remove_extra_spaces: bool,
    /// U+2581 in the text is a space (`SentencePiece`), or a character like any other (llama2.c).
    pub(super) mark_is_space: bool,
    /// A character that is no piece may still begin a merge (`SentencePiece`), or becomes bytes at once (llama2.c).
    pub(super) merge_unlisted_characters: bool,
}

/// A vocabulary as its file has it; the index is the id.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vocabulary {
    pub(super) pieces: Vec<Piece>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    /// What decoding writes for the unknown piece.
    pub(super) unknown_surface: String,
    pub(super) rules: Rules,
}

/// Encoder and decoder of one vocabulary.
#[derive(Debug)]
pub(super) struct Bpe {
    control: ControlIds,
    vocabulary_size: u32,
    encoder: SpaceEncoder,
    pieces: PieceBytes,
}

impl Bpe {
    /// Builds the tables.
    ///
    /// # Errors
    /// [`Refusal`] for an empty vocabulary, repeated texts, no or several unknown pieces, more merges than a table takes.
    pub(super) fn new(vocabulary: Vocabulary) -> Result<Self, Refusal> {
        let Vocabulary { pieces, bos, eos, unknown_surface, rules } = vocabulary;
        if pieces.is_empty() {
            return Err(Refusal::Empty);
        }
        let unknown = check_pieces(&pieces)?;
        let characters = characters(&pieces, rules.merge_unlisted_characters)?;
        let pairs = pairs(&pieces, &characters)?;
        let merger = Merger::new(pieces.len() as u32, Alphabet::Characters(Box::new(characters)), pairs, texts(&pieces));
        let prefix = if rules.dummy_prefix { Prefix::Always } else { Prefix::Never };
        let spaces = SpaceRules { prefix, remove_extra: rules.remove_extra_spaces, mark_is_space: rules.mark_is_space };
        let merger = merger.with_unknown(Unknown { id: unknown, fused: true });
        Ok(Self {
            control: ControlIds { bos, eos, unknown: Some(unknown) },
            vocabulary_size: pieces.len() as u32,
            encoder: SpaceEncoder::new(spaces, Cuts::new(texts(&pieces), false), merger),
            pieces: PieceBytes::of_pieces(&pieces, &unknown_surface, rules),
        })
    }

    pub(super) fn control(&self) -> ControlIds {
        self.control
    }

    pub(super) fn vocabulary_size(&self) -> u32 {
        self.vocabulary_size
    }

    /// Appends the ids of `text`, of at most `TEXT_BYTES_MAX` bytes.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        self.encoder.encode(text, ids);
    }

    /// Text of `ids`.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        self.pieces.decode(ids)
    }

    /// Bytes of one id; see `Tokenizer::decode_piece`.
    pub(super) fn piece_bytes(&self, at_start: bool, id: u32) -> &[u8] {
        self.pieces.piece_bytes(at_start, id)
    }
}

fn normal(pieces: &[Piece]) -> impl Iterator<Item = (u32, &Piece)> {
    let pieces = (0_u32..).zip(pieces);
    pieces.filter(|(_, piece)| piece.kind == PieceKind::Normal)
}

fn texts(pieces: &[Piece]) -> impl Iterator<Item = &[u8]> {
    normal(pieces).map(|(_, piece)| piece.text.as_bytes())
}

/// The alphabet; `merge_unlisted` gives characters that are no piece themselves a number above the vocabulary, so that
/// they take part in merges.
fn characters(pieces: &[Piece], merge_unlisted: bool) -> Result<Characters, Refusal> {
    let mut characters = Characters::new(pieces);
    let mut next = pieces.len() as u32;
    for character in normal(pieces).flat_map(|(_, piece)| piece.text.chars()) {
        if merge_unlisted && characters.get(character) == FOREIGN {
            if u64::from(next) >= PAIRS_MAX {
                return Err(Refusal::TooMany { what: "pieces and characters", found: u64::from(next), limit: PAIRS_MAX });
            }
            characters.set(character, next);
            next += 1;
        }
    }
    Ok(characters)
}

/// Every way to make a piece of two symbols.
fn pairs(pieces: &[Piece], characters: &Characters) -> Result<PairTable, Refusal> {
    let ids: HashMap<&str, u32> = normal(pieces).map(|(id, piece)| (piece.text.as_str(), id)).collect();
    let symbol = |part: &str| match single_character(part) {
        Some(character) => Some(characters.get(character)).filter(|number| *number != FOREIGN),
        None => ids.get(part).copied(),
    };
    let ranks = ranks(pieces);
    let mut merges = Vec::new();
    for (id, piece) in normal(pieces) {
        for (at, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if let (Some(left), Some(right)) = (symbol(left), symbol(right)) {
                merges.push((left, right, Merge { rank: ranks[id as usize], made: id }));
            }
        }
        if merges.len() as u64 > PAIRS_MAX {
            return Err(Refusal::TooMany { what: "merges", found: merges.len() as u64, limit: PAIRS_MAX });
        }
    }
    PairTable::new(merges.into_iter())
}

/// Place of each piece in the order of falling scores; equal scores share a place.
fn ranks(pieces: &[Piece]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..pieces.len() as u32).collect();
    let score = |id: u32| pieces[id as usize].score;
    order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
    let mut ranks = vec![0; pieces.len()];
    let mut rank = 0;
    for (index, id) in order.iter().enumerate() {
        // `total_cmp` separates 0.0 from -0.0, which compare equal as scores.
        if index > 0 && score(*id) < score(order[index - 1]) {
            rank += 1;
        }
        ranks[*id as usize] = rank;
    }
    ranks
}

/// Refuses repeated texts; returns the one unknown piece.
fn check_pieces(pieces: &[Piece]) -> Result<u32, Refusal> {
    let mut seen = HashMap::with_capacity(pieces.len());
    let mut unknown = None;
    for (id, piece) in pieces.iter().enumerate() {
        let id = id as u32;
        // A control piece may be spelled like a text piece only in files that no trainer writes.
        if seen.insert(piece.text.as_str(), id).is_some() {
            return Err(Refusal::DuplicateToken { text: piece.text.clone(), id });
        }
        if piece.kind == PieceKind::Unknown && unknown.replace(id).is_some() {
            return Err(Refusal::Token { id, reason: "a second unknown piece" });
        }
    }
    unknown.ok_or(Refusal::Setting {
        setting: "unknown piece".to_owned(),
        reason: "missing; text outside the vocabulary would have no id",
    })
}
