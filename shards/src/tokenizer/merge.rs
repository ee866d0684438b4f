//! Merges the characters of one segment into pieces: highest score first, leftmost first among equals, with a heap,
//! so that time is `n log n` in the characters even for a segment of megabytes. It knows no spaces and no files.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::bpe::{Piece, PieceKind};

/// No symbol: the end of a list, or a symbol that was merged away.
const NONE: u32 = u32::MAX;
/// A character that occurs in no piece and therefore never merges.
const FOREIGN: u32 = u32::MAX - 1;

/// Tables of one vocabulary. Symbol numbers are ids, then the characters that are only parts of pieces.
#[derive(Debug)]
pub(super) struct Merger {
    vocabulary_size: u32,
    ascii: [u32; 128],
    characters: HashMap<char, u32, BuildHasherDefault<NumberHasher>>,
    /// (left symbol, right symbol) to the merged piece and its place in the order of scores (0 is merged first).
    merges: HashMap<u64, Merge, BuildHasherDefault<NumberHasher>>,
    /// Id of each byte, where the vocabulary has byte pieces.
    bytes: Option<Box<[u32; 256]>>,
    unknown: u32,
}

#[derive(Clone, Copy, Debug)]
struct Merge {
    rank: u32,
    id: u32,
}

/// Buffers that one `encode` call uses again for each segment.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<Candidate>>,
    ids: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// Symbol number, `FOREIGN`, or `NONE` when merged away.
    number: u32,
    previous: u32,
    next: u32,
    start: u32,
    length_bytes: u32,
}

/// A possible merge. Ordered by rank, then by position; the other fields tell whether it still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    right: u32,
    length_bytes: u32,
    id: u32,
}

impl Merger {
    /// Builds the tables. `merge_unlisted` lets characters that are no piece take part in merges.
    pub(super) fn new(pieces: &[Piece], merge_unlisted: bool, unknown: u32) -> Self {
        let vocabulary_size = pieces.len() as u32;
        let texts: HashMap<&str, u32> = normal(pieces).map(|(id, p)| (p.text.as_str(), id)).collect();
        let mut merger = Self {
            vocabulary_size,
            ascii: [FOREIGN; 128],
            characters: HashMap::default(),
            merges: HashMap::default(),
            bytes: byte_ids(pieces),
            unknown,
        };
        let mut next_number = vocabulary_size;
        for (_, piece) in normal(pieces) {
            for character in piece.text.chars() {
                let known = merger.number_of(character);
                if known != FOREIGN {
                    continue;
                }
                let mut buffer = [0; 4];
                if let Some(id) = texts.get(&*character.encode_utf8(&mut buffer)) {
                    merger.set_number(character, *id);
                } else if merge_unlisted {
                    merger.set_number(character, next_number);
                    next_number += 1;
                }
            }
        }
        let ranks = ranks(pieces);
        for (id, piece) in normal(pieces) {
            for (at, _) in piece.text.char_indices().skip(1) {
                let (left, right) = piece.text.split_at(at);
                let symbol = |part: &str| match single_character(part) {
                    Some(character) => Some(merger.number_of(character)),
                    None => texts.get(part).copied(),
                };
                if let (Some(left), Some(right)) = (symbol(left), symbol(right))
                    && left != FOREIGN
                    && right != FOREIGN
                {
                    merger.merges.insert(key(left, right), Merge { rank: ranks[id as usize], id });
                }
            }
        }
        merger
    }

    /// The id of a segment that is one ASCII character and a piece.
    pub(super) fn single(&self, segment: &str) -> Option<u32> {
        let [byte] = segment.as_bytes() else {
            return None;
        };
        let number = *self.ascii.get(usize::from(*byte))?;
        (number < self.vocabulary_size).then_some(number)
    }

    /// Ids of one segment, in `scratch` until the next call.
    pub(super) fn encode<'a>(&self, segment: &str, scratch: &'a mut Scratch) -> &'a [u32] {
        self.split(segment, &mut scratch.symbols);
        scratch.heap.clear();
        for left in 1..scratch.symbols.len() as u32 {
            self.propose(left - 1, left, &scratch.symbols, &mut scratch.heap);
        }
        while let Some(Reverse(candidate)) = scratch.heap.pop() {
            self.apply(candidate, scratch);
        }
        self.emit(segment, &scratch.symbols, &mut scratch.ids);
        &scratch.ids
    }

    fn split(&self, segment: &str, symbols: &mut Vec<Symbol>) {
        symbols.clear();
        for (index, (start, character)) in segment.char_indices().enumerate() {
            let index = index as u32;
            symbols.push(Symbol {
                number: self.number_of(character),
                previous: index.checked_sub(1).unwrap_or(NONE),
                next: index + 1,
                start: start as u32,
                length_bytes: character.len_utf8() as u32,
            });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
    }

    fn propose(&self, left: u32, right: u32, symbols: &[Symbol], heap: &mut BinaryHeap<Reverse<Candidate>>) {
        let (a, b) = (symbols[left as usize], symbols[right as usize]);
        if a.number == FOREIGN || b.number == FOREIGN {
            return;
        }
        if let Some(merge) = self.merges.get(&key(a.number, b.number)) {
            heap.push(Reverse(Candidate {
                rank: merge.rank,
                left,
                right,
                length_bytes: a.length_bytes + b.length_bytes,
                id: merge.id,
            }));
        }
    }

    /// Applies a merge unless one of its symbols has changed since: symbols only grow, so equal lengths mean equal text.
    fn apply(&self, candidate: Candidate, scratch: &mut Scratch) {
        let Candidate { left, right, length_bytes, id, .. } = candidate;
        let (a, b) = (scratch.symbols[left as usize], scratch.symbols[right as usize]);
        if a.number == NONE || b.number == NONE || a.length_bytes + b.length_bytes != length_bytes {
            return;
        }
        scratch.symbols[left as usize] = Symbol { number: id, next: b.next, length_bytes, ..a };
        scratch.symbols[right as usize].number = NONE;
        if b.next != NONE {
            scratch.symbols[b.next as usize].previous = left;
            self.propose(left, b.next, &scratch.symbols, &mut scratch.heap);
        }
        if a.previous != NONE {
            self.propose(a.previous, left, &scratch.symbols, &mut scratch.heap);
        }
    }

    /// Writes ids; a symbol that is no piece becomes its bytes, or the unknown piece once per run.
    fn emit(&self, segment: &str, symbols: &[Symbol], ids: &mut Vec<u32>) {
        ids.clear();
        for symbol in symbols.iter().filter(|symbol| symbol.number != NONE) {
            if symbol.number < self.vocabulary_size {
                ids.push(symbol.number);
                continue;
            }
            match &self.bytes {
                Some(bytes) => {
                    let start = symbol.start as usize;
                    let raw = &segment.as_bytes()[start..start + symbol.length_bytes as usize];
                    ids.extend(raw.iter().map(|byte| bytes[usize::from(*byte)]));
                }
                None if ids.last() == Some(&self.unknown) => {}
                None => ids.push(self.unknown),
            }
        }
    }

    fn number_of(&self, character: char) -> u32 {
        match self.ascii.get(character as usize) {
            Some(number) => *number,
            None => self.characters.get(&character).copied().unwrap_or(FOREIGN),
        }
    }

    fn set_number(&mut self, character: char, number: u32) {
        match self.ascii.get_mut(character as usize) {
            Some(place) => *place = number,
            None => {
                self.characters.insert(character, number);
            }
        }
    }
}

fn normal(pieces: &[Piece]) -> impl Iterator<Item = (u32, &Piece)> {
    let pieces = (0_u32..).zip(pieces);
    pieces.filter(|(_, piece)| piece.kind == PieceKind::Normal)
}

fn byte_ids(pieces: &[Piece]) -> Option<Box<[u32; 256]>> {
    let mut bytes = None;
    for (id, piece) in (0_u32..).zip(pieces) {
        if let PieceKind::Byte(byte) = piece.kind {
            bytes.get_or_insert_with(|| Box::new([0; 256]))[usize::from(byte)] = id;
        }
    }
    bytes
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

fn single_character(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

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
