//! The shard format: header, totals, columns. The one place that says what lies in a shard file; `docs/formats.md` is tested
//! against it.
//!
//! It neither reads nor writes: see [`crate::writer`] and [`crate::reader`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};

use crate::error::ShardError;
pub use crate::sequence::{PADDING_TOKEN, Segment, Sequence};

/// Version of the shard format that is written. Since 2 document keys are byte strings, which every reader of Parquet turns into
/// its own type; in 1 they were values of fixed width inside lists, for which pandas has none.
pub const FORMAT_VERSION: u32 = 2;

/// Oldest version that is read, and written again where a shard of that version is rewritten.
pub const OLDEST_VERSION: u32 = 1;

/// Most sequences of a row group.
pub const ROW_GROUP_SEQUENCES: usize = 256;

/// Most positions of a row group of more than one sequence: it bounds the memory of writers and readers.
pub const ROW_GROUP_POSITIONS: usize = 1 << 20;

/// Sequences of a row group of a new shard; only the last one of a file may have fewer. Readers take it from the file.
pub fn row_group_sequences(sequence_length: u32) -> usize {
    (ROW_GROUP_POSITIONS / (sequence_length as usize).max(1)).clamp(1, ROW_GROUP_SEQUENCES)
}

/// Longest sequence, in tokens. It bounds what a damaged header can make a reader allocate.
pub const MAX_SEQUENCE_LENGTH: u32 = 1 << 20;

/// Most sources of a shard: an index is 16 bits.
pub const MAX_SOURCES: usize = 1 << 16;

/// Parquet metadata key of the sealed [`ShardHeader`].
pub const HEADER_KEY: &str = "mellama.header";

/// Parquet metadata key of the sealed [`ShardTotals`].
pub const TOTALS_KEY: &str = "mellama.totals";

/// How token ids are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Width {
    /// 16 bits, for vocabularies of up to 65,536 ids.
    U16,
    /// 32 bits.
    U32,
}

impl Width {
    /// The narrowest width that holds every id below `vocabulary_size`.
    pub fn for_vocabulary(vocabulary_size: u32) -> Self {
        if vocabulary_size <= 1 << 16 { Self::U16 } else { Self::U32 }
    }

    /// Bytes of one token.
    pub fn bytes(self) -> u64 {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::U16 => DataType::UInt16,
            Self::U32 => DataType::UInt32,
        }
    }
}

/// What the sequences of a shard are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Continual pre-training: every real token is learned from.
    Cpt,
    /// Instruction tuning: every sequence has a loss mask.
    Instruct,
}

/// What holds for every sequence of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardHeader {
    /// [`FORMAT_VERSION`], or an older one back to [`OLDEST_VERSION`].
    pub format_version: u32,
    /// What the sequences are for.
    pub kind: Kind,
    /// Tokens of a sequence, T.
    pub sequence_length: u32,
    /// Number of token ids, V: every id is below it.
    pub vocabulary_size: u32,
    /// How ids are stored: the narrowest width for V.
    pub width: Width,
    /// BLAKE3 of the tokenizer file, 64 hexadecimal digits.
    pub tokenizer_digest: String,
    /// Names of the sources; a segment's source is an index into them.
    pub sources: Vec<String>,
    /// Highest sensitivity of anything inside: `open`, `dua` or `phi`.
    pub sensitivity: String,
}

impl ShardHeader {
    /// Says what makes this header impossible, if anything does.
    ///
    /// # Errors
    /// [`ShardError::Version`] or [`ShardError::Header`].
    pub fn check(&self) -> Result<(), ShardError> {
        if !is_known(self.format_version) {
            let subject = "shard header".to_owned();
            return Err(ShardError::Version {
                subject,
                found: self.format_version,
                oldest: OLDEST_VERSION,
                known: FORMAT_VERSION,
            });
        }
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let problem = if !(1..=MAX_SEQUENCE_LENGTH).contains(&self.sequence_length) {
            format!("sequence length {}, expected 1 to {MAX_SEQUENCE_LENGTH}", self.sequence_length)
        } else if self.vocabulary_size == 0 {
            "vocabulary size 0, expected at least 1".to_owned()
        } else if self.width != Width::for_vocabulary(self.vocabulary_size) {
            format!("width {:?} for {} ids, expected the narrowest", self.width, self.vocabulary_size)
        } else if self.tokenizer_digest.len() != 64 || !self.tokenizer_digest.bytes().all(is_hex) {
            "tokenizer digest: expected 64 lower-case hexadecimal digits".to_owned()
        } else if self.sources.is_empty() || self.sources.len() > MAX_SOURCES {
            format!("{} sources, expected 1 to {MAX_SOURCES}", self.sources.len())
        } else if !["open", "dua", "phi"].contains(&self.sensitivity.as_str()) {
            "sensitivity: expected open, dua or phi".to_owned()
        } else {
            return Ok(());
        };
        Err(ShardError::Header { problem })
    }
}

/// What a shard adds up to, written after its last sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardTotals {
    /// Sequences.
    pub sequences: u64,
    /// Tokens that are not padding.
    pub tokens: u64,
    /// Padded positions; with `tokens` it is `sequences` times T.
    pub padding: u64,
    /// Tokens whose loss counts.
    pub trained: u64,
    /// Segments.
    pub segments: u64,
    /// Tokens that are not padding, per source of the header.
    pub source_tokens: Vec<u64>,
    /// BLAKE3 over the content of all sequences in order, 64 hexadecimal digits; see [`TotalsBuilder`].
    pub content: String,
}

/// Adds sequences up to [`ShardTotals`].
///
/// The content digest covers, per sequence: T ids as u32; the number of segments as u32; per segment end u32, document
/// 16 bytes, source u16, offset u32, epoch u32; one byte 0, or one byte 1 and T bytes of loss mask. All little-endian.
/// It does not depend on Parquet, so two files with equal content have equal digests whatever wrote them.
#[derive(Debug, Clone)]
pub struct TotalsBuilder {
    totals: ShardTotals,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
}

impl TotalsBuilder {
    /// Starts at nothing, for a shard with this many sources.
    pub fn new(sources: usize) -> Self {
        let totals = ShardTotals {
            sequences: 0,
            tokens: 0,
            padding: 0,
            trained: 0,
            segments: 0,
            source_tokens: vec![0; sources],
            content: String::new(),
        };
        Self { totals, hasher: blake3::Hasher::new(), buffer: Vec::new() }
    }

    /// Adds a sequence that [`crate::verify::verify_sequence`] accepts.
    pub fn add(&mut self, sequence: &Sequence) {
        let filled = u64::from(sequence.filled());
        self.totals.sequences += 1;
        self.totals.tokens += filled;
        self.totals.padding += sequence.tokens.len() as u64 - filled;
        self.totals.trained += sequence.loss_mask.as_ref().map_or(filled, |mask| mask.iter().filter(|&&on| on).count() as u64);
        self.totals.segments += sequence.segments.len() as u64;
        for (range, segment) in sequence.segment_ranges() {
            if let Some(tokens) = self.totals.source_tokens.get_mut(usize::from(segment.source)) {
                *tokens += range.len() as u64;
            }
        }
        self.hash(sequence);
    }

    fn hash(&mut self, sequence: &Sequence) {
        let buffer = &mut self.buffer;
        buffer.clear();
        for token in &sequence.tokens {
            buffer.extend_from_slice(&token.to_le_bytes());
        }
        buffer.extend_from_slice(&(sequence.segments.len() as u32).to_le_bytes());
        for segment in &sequence.segments {
            buffer.extend_from_slice(&segment.end.to_le_bytes());
            buffer.extend_from_slice(&segment.document.to_le_bytes());
            buffer.extend_from_slice(&segment.source.to_le_bytes());
            buffer.extend_from_slice(&segment.offset.to_le_bytes());
            buffer.extend_from_slice(&segment.epoch.to_le_bytes());
        }
        buffer.push(u8::from(sequence.loss_mask.is_some()));
        buffer.extend(sequence.loss_mask.iter().flatten().map(|&on| u8::from(on)));
        self.hasher.update(buffer);
    }

    /// The totals of everything added.
    pub fn finish(mut self) -> ShardTotals {
        self.totals.content = self.hasher.finalize().to_hex().to_string();
        self.totals
    }
}

/// Names of a shard's columns, in order.
pub const COLUMNS: [&str; 7] =
    ["tokens", "segment_ends", "segment_documents", "segment_sources", "segment_offsets", "segment_epochs", "loss_mask"];

/// Bytes of a document key.
pub const DOCUMENT_KEY_BYTES: i32 = 16;

/// The columns as they are written: `tokens` is a fixed-size list of T ids.
pub fn shard_schema(header: &ShardHeader) -> Schema {
    schema_with_tokens(header, |element| DataType::FixedSizeList(element, header.sequence_length as i32))
}

/// The columns as a reader sees them without Arrow's own hints: Parquet knows lists, not fixed-size ones.
pub(crate) fn stored_schema(header: &ShardHeader) -> Schema {
    schema_with_tokens(header, DataType::List)
}

/// Whether shards of this version can be read.
pub(crate) fn is_known(version: u32) -> bool {
    (OLDEST_VERSION..=FORMAT_VERSION).contains(&version)
}

/// How document keys are stored: as byte strings, in version 1 as values of 16 bytes.
fn key_type(version: u32) -> DataType {
    if version == 1 { DataType::FixedSizeBinary(DOCUMENT_KEY_BYTES) } else { DataType::Binary }
}

fn schema_with_tokens(header: &ShardHeader, tokens: impl Fn(Arc<Field>) -> DataType) -> Schema {
    let list = |item: DataType| DataType::List(element(item));
    let types = [
        tokens(element(header.width.data_type())),
        list(DataType::UInt32),
        list(key_type(header.format_version)),
        list(DataType::UInt16),
        list(DataType::UInt32),
        list(DataType::UInt32),
        list(DataType::Boolean),
    ];
    let is_nullable = |name: &str| name == "loss_mask";
    let fields: Vec<Field> = COLUMNS.iter().zip(types).map(|(&name, kind)| Field::new(name, kind, is_nullable(name))).collect();
    Schema::new(fields)
}

pub(crate) fn element(item: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", item, false))
}

#[cfg(test)]
mod tests;
