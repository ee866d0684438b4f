//! Packing: which part of which document goes into which sequence. No token is ever lost.
//!
//! It works on lengths alone, inside one window of documents; it moves no tokens and knows no store.

use crate::order::Prf;

/// Documents of one packing window.
pub const WINDOW_DOCUMENTS: usize = 65_536;

/// Purpose of [`crate::order::prf`] under which the sequences of a window are shuffled.
pub const SHUFFLE_PURPOSE: &str = "pack";

/// How sequences are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Best-fit decreasing: a document is cut only when it is longer than a sequence.
    BestFit,
    /// Documents back to back, cut wherever a sequence ends.
    Concatenate,
}

/// A part of one document in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Index of the document in its window.
    pub run: u32,
    /// First token, counted in the document.
    pub offset: u32,
    /// Number of tokens, at least 1.
    pub length: u32,
}

/// The pieces of one sequence, in order; their lengths sum to at most the sequence length.
pub type PackedSequence = Vec<Piece>;

/// Why a window cannot be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A document that may not be split does not fit into a sequence.
    #[error(
        "packing: item {run} of the window: {length} tokens, a sequence holds {sequence_length}; drop it or pack longer sequences"
    )]
    TooLong {
        /// Index in the window.
        run: u32,
        /// Its tokens.
        length: u32,
        /// Tokens of a sequence.
        sequence_length: u32,
    },
}

/// Packs the documents of one window, `lengths[i]` tokens each, into sequences of at most `sequence_length` tokens.
///
/// Every token of every document lands in exactly one piece. A document without tokens has no piece. With
/// [`Method::BestFit`] a document longer than a sequence gives full sequences and a tail that is packed like a short document.
///
/// # Panics
/// When `sequence_length` is 0 or there are more than `u32::MAX` documents.
pub fn pack_window(lengths: &[u32], sequence_length: u32, method: Method) -> Vec<PackedSequence> {
    match method {
        Method::BestFit => best_fit(lengths, sequence_length),
        Method::Concatenate => concatenate(lengths, sequence_length),
    }
}

/// Packs one window like [`pack_window`], but keeps every item whole unless `splittable`: what instruction data need.
///
/// [`Method::Concatenate`] then starts a new sequence where the next item does not fit.
///
/// # Errors
/// [`PackError::TooLong`] names the first item longer than a sequence when items may not be split.
///
/// # Panics
/// As [`pack_window`].
pub fn pack_items(
    lengths: &[u32],
    sequence_length: u32,
    method: Method,
    splittable: bool,
) -> Result<Vec<PackedSequence>, PackError> {
    if splittable {
        return Ok(pack_window(lengths, sequence_length, method));
    }
    if let Some(run) = lengths.iter().position(|&length| length > sequence_length) {
        return Err(PackError::TooLong { run: run as u32, length: lengths[run], sequence_length });
    }
    Ok(match method {
        Method::BestFit => best_fit(lengths, sequence_length),
        Method::Concatenate => next_fit(lengths, sequence_length),
    })
}

fn concatenate(lengths: &[u32], sequence_length: u32) -> Vec<PackedSequence> {
    let mut sequences: Vec<PackedSequence> = Vec::new();
    let mut room = 0;
    for (run, &length) in numbered(lengths) {
        let mut offset = 0;
        while offset < length {
            if room == 0 {
                sequences.push(Vec::new());
                room = sequence_length;
            }
            let taken = room.min(length - offset);
            push_piece(&mut sequences, Piece { run, offset, length: taken });
            offset += taken;
            room -= taken;
        }
    }
    sequences
}

fn push_piece(sequences: &mut [PackedSequence], piece: Piece) {
    sequences.last_mut().expect("a sequence was opened before its first piece").push(piece);
}

fn numbered(lengths: &[u32]) -> impl Iterator<Item = (u32, &u32)> {
    let count = u32::try_from(lengths.len()).expect("a window has at most u32::MAX documents");
    (0..count).zip(lengths)
}

fn next_fit(lengths: &[u32], sequence_length: u32) -> Vec<PackedSequence> {
    let mut sequences: Vec<PackedSequence> = Vec::new();
    let mut room = 0;
    for (run, &length) in numbered(lengths).filter(|&(_, &length)| length > 0) {
        if length > room {
            sequences.push(Vec::new());
            room = sequence_length;
        }
        push_piece(&mut sequences, Piece { run, offset: 0, length });
        room -= length;
    }
    sequences
}

/// Best-fit decreasing. Order: length descending, then document ascending (arXiv 2404.10830 leaves ties open, we do not);
/// among sequences with equal room the one opened or touched last is taken.
fn best_fit(lengths: &[u32], sequence_length: u32) -> Vec<PackedSequence> {
    assert!(sequence_length > 0, "a sequence holds at least one token");
    let mut sequences = Vec::new();
    let mut pool = Vec::with_capacity(lengths.len());
    for (run, &length) in numbered(lengths) {
        let tail = length % sequence_length;
        for offset in (0..length - tail).step_by(sequence_length as usize) {
            sequences.push(vec![Piece { run, offset, length: sequence_length }]);
        }
        if tail > 0 {
            pool.push(Piece { run, offset: length - tail, length: tail });
        }
    }
    pool.sort_unstable_by_key(|piece| (std::cmp::Reverse(piece.length), piece.run));
    let mut rooms = Rooms::new(sequence_length);
    for piece in pool {
        let (sequence, room) = rooms.take(piece.length).unwrap_or_else(|| {
            sequences.push(Vec::new());
            (sequences.len() - 1, sequence_length)
        });
        sequences[sequence].push(piece);
        rooms.put(room - piece.length, sequence);
    }
    sequences
}

/// Open sequences by free room, with a segment tree that finds the smallest sufficient room in `O(log L)`.
struct Rooms {
    /// `by_room[r]`: sequences with exactly `r` tokens free, a stack.
    by_room: Vec<Vec<usize>>,
    /// Largest room with an open sequence in each subtree, 0 for none; leaf `leaves + r` belongs to room `r`.
    largest: Vec<u32>,
    leaves: usize,
}

impl Rooms {
    fn new(sequence_length: u32) -> Self {
        let leaves = (sequence_length as usize + 1).next_power_of_two();
        Self { by_room: vec![Vec::new(); sequence_length as usize + 1], largest: vec![0; 2 * leaves], leaves }
    }

    /// Takes out a sequence with the smallest room of at least `length`, and that room.
    fn take(&mut self, length: u32) -> Option<(usize, u32)> {
        let room = self.smallest_from(length)?;
        let stack = &mut self.by_room[room as usize];
        let sequence = stack.pop().expect("the tree holds rooms with open sequences only");
        if stack.is_empty() {
            self.set(room, 0);
        }
        Some((sequence, room))
    }

    fn put(&mut self, room: u32, sequence: usize) {
        if room == 0 {
            return;
        }
        self.by_room[room as usize].push(sequence);
        self.set(room, room);
    }

    fn set(&mut self, room: u32, value: u32) {
        let mut node = self.leaves + room as usize;
        self.largest[node] = value;
        while node > 1 {
            node /= 2;
            self.largest[node] = self.largest[2 * node].max(self.largest[2 * node + 1]);
        }
    }

    /// The leftmost leaf at or after `length` that is set: up while coming from the right, then down to the left.
    fn smallest_from(&self, length: u32) -> Option<u32> {
        let mut node = self.leaves + length as usize;
        if self.largest[node] >= length {
            return Some(self.largest[node]);
        }
        loop {
            let is_left = node.is_multiple_of(2);
            if is_left && self.largest[node + 1] > 0 {
                node += 1;
                break;
            }
            node /= 2;
            if node <= 1 {
                return None;
            }
        }
        while node < self.leaves {
            node = if self.largest[2 * node] > 0 { 2 * node } else { 2 * node + 1 };
        }
        Some(self.largest[node])
    }
}

/// Puts the sequences of window number `window` into their keyed order, so that no sequence stands by its documents' lengths.
pub fn shuffle_sequences(seed: u64, window: u64, sequences: Vec<PackedSequence>) -> Vec<PackedSequence> {
    let prf = Prf::new(seed, SHUFFLE_PURPOSE);
    let mut keyed: Vec<(u64, u64, PackedSequence)> =
        (0_u64..).zip(sequences).map(|(index, sequence)| (prf.hash(window, &index.to_le_bytes()), index, sequence)).collect();
    keyed.sort_unstable_by_key(|&(hash, index, _)| (hash, index));
    keyed.into_iter().map(|(_, _, sequence)| sequence).collect()
}

/// What a packing did, for the manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PackingCounts {
    /// Sequences.
    pub sequences: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Positions without a token.
    pub padding: u64,
    /// Pieces.
    pub pieces: u64,
    /// Pieces that do not start their document: how often documents were cut.
    pub cuts: u64,
}

impl PackingCounts {
    /// Counts one sequence.
    pub fn add(&mut self, sequence: &[Piece], sequence_length: u32) {
        let tokens: u64 = sequence.iter().map(|piece| u64::from(piece.length)).sum();
        self.sequences += 1;
        self.tokens += tokens;
        self.padding += u64::from(sequence_length) - tokens;
        self.pieces += sequence.len() as u64;
        self.cuts += sequence.iter().filter(|piece| piece.offset > 0).count() as u64;
    }
}

#[cfg(test)]
mod tests;
