//! Score-ordered BPE over a vocabulary of pieces, equal to `SentencePiece`'s encoder: normalisation of spaces, exact
//! splitting into segments, byte fallback and decoding. The merging of one segment stands in `merge.rs`.
//!
//! Next person: pieces and text are kept in *space form*, where U+2581 is already a plain space, so that the files of
//! `SentencePiece` and of llama2.c meet one encoder. Byte and control pieces are never looked up by text.

use std::collections::HashMap;

use super::decode::PieceBytes;
use super::merge::{Merger, Scratch};
use super::segment_cache::{CachePool, SegmentCache};
use super::sentencepiece::SPACE_MARK;
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
    rules: Rules,
    control: ControlIds,
    vocabulary_size: u32,
    merger: Merger,
    boundaries: Boundaries,
    pieces: PieceBytes,
    caches: CachePool,
}

impl Bpe {
    /// Builds the tables.
    ///
    /// # Errors
    /// [`Refusal`] for an empty vocabulary, repeated texts, no or several unknown pieces.
    pub(super) fn new(vocabulary: Vocabulary) -> Result<Self, Refusal> {
        let Vocabulary { pieces, bos, eos, unknown_surface, rules } = vocabulary;
        if pieces.is_empty() {
            return Err(Refusal::Empty);
        }
        let unknown = check_pieces(&pieces)?;
        let boundaries = Boundaries::new(&pieces);
        let merger = Merger::new(&pieces, rules.merge_unlisted_characters, unknown);
        let control = ControlIds { bos, eos, unknown: Some(unknown) };
        Ok(Self {
            rules,
            control,
            vocabulary_size: pieces.len() as u32,
            merger,
            boundaries,
            pieces: PieceBytes::of_pieces(&pieces, &unknown_surface, rules),
            caches: CachePool::default(),
        })
    }

    pub(super) fn control(&self) -> ControlIds {
        self.control
    }

    pub(super) fn vocabulary_size(&self) -> u32 {
        self.vocabulary_size
    }

    /// Ids of `text`, of at most `TEXT_BYTES_MAX` bytes.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let text = self.normalise(text);
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
        let mut cache = self.caches.take();
        let mut scratch = Scratch::default();
        for segment in self.boundaries.segments(&text) {
            self.encode_segment(segment, &mut cache, &mut scratch, &mut ids);
        }
        self.caches.give_back(cache);
        ids
    }

    /// Text of `ids`.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        self.pieces.decode(ids)
    }

    /// Bytes of one id; see `Tokenizer::decode_piece`.
    pub(super) fn piece_bytes(&self, at_start: bool, id: u32) -> &[u8] {
        self.pieces.piece_bytes(at_start, id)
    }

    fn encode_segment(&self, segment: &str, cache: &mut SegmentCache, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        if let Some(id) = self.merger.single(segment) {
            ids.push(id);
            return;
        }
        if let Some(found) = cache.get(segment) {
            self.append(found, ids);
            return;
        }
        let found = self.merger.encode(segment, scratch);
        cache.insert(segment, found);
        self.append(found, ids);
    }

    /// Appends the ids of a segment. Unknown characters side by side are one unknown piece, as in `SentencePiece`, so a
    /// leading one melts into a trailing one.
    fn append(&self, found: &[u32], ids: &mut Vec<u32>) {
        let unknown = self.control.unknown;
        let joined = found.first().copied() == unknown && ids.last().copied() == unknown;
        ids.extend_from_slice(if joined { &found[1..] } else { found });
    }

    /// Text in space form with the dummy prefix. Nothing is added to an empty text.
    fn normalise(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 1);
        if self.rules.remove_extra_spaces {
            for word in text.split(' ').filter(|word| !word.is_empty()) {
                if !out.is_empty() || self.rules.dummy_prefix {
                    out.push(' ');
                }
                out.push_str(word);
            }
        } else if !text.is_empty() {
            if self.rules.dummy_prefix {
                out.push(' ');
            }
            out.push_str(text);
        }
        if self.rules.mark_is_space && out.contains(SPACE_MARK) {
            out = out.replace(SPACE_MARK, " ");
        }
        if self.rules.remove_extra_spaces {
            out.truncate(out.trim_end_matches(' ').len());
        }
        out
    }
}

/// Where text may be cut without changing its ids.
///
/// A merge across the place between two characters makes a piece that holds both side by side. So the place is safe
/// when no piece of several characters holds that pair (shard-formats §11, general form). Kept for pairs in which at
/// least one character is ASCII; all other characters form one class, and places between two of them are never cut.
#[derive(Debug)]
struct Boundaries {
    joined: Vec<[bool; CLASSES]>,
}

const OTHER: usize = 128;
const CLASSES: usize = 129;

impl Boundaries {
    fn new(pieces: &[Piece]) -> Self {
        let mut joined = vec![[false; CLASSES]; CLASSES];
        joined[OTHER][OTHER] = true;
        for piece in pieces.iter().filter(|piece| piece.kind == PieceKind::Normal) {
            for pair in piece.text.as_bytes().windows(2) {
                joined[class(pair[0])][class(pair[1])] = true;
            }
        }
        Self { joined }
    }

    /// `text` cut at every safe place.
    fn segments<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let rest = &text.as_bytes()[start..];
            let pair = rest.windows(2).position(|pair| !self.joined[class(pair[0])][class(pair[1])]);
            let length = pair.map_or(rest.len(), |at| at + 1);
            let segment = &text[start..start + length];
            start += length;
            (length > 0).then_some(segment)
        })
    }
}

/// Class of a byte: ASCII bytes are characters; bytes of longer characters share one class, so that a cut never falls
/// inside a character.
fn class(byte: u8) -> usize {
    usize::from(byte).min(OTHER)
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
