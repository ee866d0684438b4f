//! What an export says of itself: the request that it was begun with, and the manifest that makes it exist.
//!
//! Both are sealed JSON. Neither holds a path, a clock or an attempt, so equal shards and equal requests give equal bytes.

use mellama_storage::ObjectEntry;
use serde::{Deserialize, Serialize};

/// Name of the request, the first object of an export.
pub const REQUEST_KEY: &str = "export.json";
/// Name of the manifest, the last one.
pub const MANIFEST_KEY: &str = "manifest.json";

/// What was asked for: two requests that differ never share a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// [`crate::export::EXPORT_VERSION`].
    pub export_version: u32,
    /// Name of the format.
    pub format: String,
    /// `train`, `heldout` or `instruct`.
    pub split: String,
    /// Tokens of an object at most, before rounding down to whole windows.
    pub object_tokens: u64,
    /// Whether MDS has the columns `loss_mask` and `segment_ids`.
    pub segments: bool,
    /// Id at padded positions: the end token, or 0 where there is none.
    pub fill_token: u32,
    /// Begin token of the tokenizer, where it is known: every document begins with it.
    pub begin_token: Option<u32>,
    /// BLAKE3 over the digests of the shards in order, 64 hexadecimal digits.
    pub shards: String,
}

/// One object with ids and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportPart {
    /// Key of the object that holds the ids.
    pub object: String,
    /// Key of its lineage.
    pub lineage: String,
    /// Global number of its first window: the sequence of that number in the shards.
    pub first_window: u64,
    /// Windows.
    pub windows: u64,
}

/// Tokens of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceTokens {
    /// Name in the recipe.
    pub source: String,
    /// Tokens that are not padding.
    pub tokens: u64,
}

/// What an export adds up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportTotals {
    /// Windows of T positions.
    pub windows: u64,
    /// Tokens that are not padding.
    pub tokens: u64,
    /// Padded positions.
    pub padding: u64,
    /// Tokens whose loss counts.
    pub trained: u64,
    /// Segments.
    pub segments: u64,
    /// Distinct documents.
    pub documents: u64,
    /// By source, in the order of the shards' header.
    pub sources: Vec<SourceTokens>,
    /// BLAKE3 over all ids as they were exported, padding filled, each as u32: 64 hexadecimal digits.
    pub ids: String,
}

/// The manifest of a complete export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportManifest {
    /// What was asked for.
    pub request: ExportRequest,
    /// T.
    pub sequence_length: u32,
    /// V: every id is below it.
    pub vocabulary_size: u32,
    /// Bytes of an id.
    pub width_bytes: u64,
    /// BLAKE3 of the tokenizer file.
    pub tokenizer_digest: String,
    /// The highest of anything inside: `open`, `dua` or `phi`; inherited by everything derived.
    pub sensitivity: String,
    /// How the format's reader is told the length of a window.
    pub reader: String,
    /// Objects with ids, in order.
    pub parts: Vec<ExportPart>,
    /// Every object but this one and the request.
    pub objects: Vec<ObjectEntry>,
    /// What they add up to.
    pub totals: ExportTotals,
}
