//! One window as the layouts take it: T ids in the format's width, which of them are learned from, and where segments end.
//!
//! Padding positions hold the fill token: the end token where there is one, because a reader without masks takes a run of end
//! tokens for empty documents, and the padding id 0 may be a word of the vocabulary.

use crate::sequence::Sequence;

/// Bytes of an id in an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdWidth {
    /// u16.
    Two,
    /// u32; i32 for Megatron, the same bytes for ids below 2^31.
    Four,
}

impl IdWidth {
    pub(crate) fn for_vocabulary(vocabulary_size: u32) -> Self {
        if vocabulary_size <= 1 << 16 { Self::Two } else { Self::Four }
    }

    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Appends ids, little-endian.
    pub(crate) fn append(self, ids: &[u32], out: &mut Vec<u8>) {
        match self {
            Self::Two => ids.iter().for_each(|&id| out.extend_from_slice(&(id as u16).to_le_bytes())),
            Self::Four => ids.iter().for_each(|&id| out.extend_from_slice(&id.to_le_bytes())),
        }
    }
}

/// One window on its way out.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    /// T ids with padding filled, in the export's width.
    pub(crate) id_bytes: &'a [u8],
    /// T bytes: 1 where the loss of predicting this token counts.
    pub(crate) mask: &'a [u8],
    /// The sequence; its ids after the last segment are not the exported ones.
    pub(crate) sequence: &'a Sequence,
    /// Key of the shard that holds it.
    pub(crate) shard: &'a str,
    /// Row in that shard, from 0.
    pub(crate) row: u64,
}

/// Buffers for windows, used again for each.
#[derive(Debug)]
pub(crate) struct Encoder {
    width: IdWidth,
    fill: u32,
    ids: Vec<u32>,
    bytes: Vec<u8>,
    wide: Vec<u8>,
    mask: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(width: IdWidth, fill: u32) -> Self {
        Self { width, fill, ids: Vec::new(), bytes: Vec::new(), wide: Vec::new(), mask: Vec::new() }
    }

    /// Fills the buffers from one sequence.
    pub(crate) fn encode(&mut self, sequence: &Sequence) {
        let filled = sequence.filled() as usize;
        self.ids.clear();
        self.ids.extend_from_slice(&sequence.tokens[..filled]);
        self.ids.resize(sequence.tokens.len(), self.fill);
        self.bytes.clear();
        self.width.append(&self.ids, &mut self.bytes);
        self.wide.clear();
        IdWidth::Four.append(&self.ids, &mut self.wide);
        self.mask.clear();
        self.mask.extend((0..sequence.tokens.len()).map(|position| u8::from(sequence.is_trained(position))));
    }

    /// The ids last encoded, each as u32.
    pub(crate) fn wide_bytes(&self) -> &[u8] {
        &self.wide
    }

    pub(crate) fn id_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn mask(&self) -> &[u8] {
        &self.mask
    }
}
