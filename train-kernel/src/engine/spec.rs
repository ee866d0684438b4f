//! What an engine is made for: decides its buffers, never the mathematics beyond rounding.

use serde::{Deserialize, Serialize};

use crate::backend::{Dtype, Extent};
use crate::lora::LoraSpec;

/// Arithmetic of the forward and backward pass. Trained weights keep f32 beside it, gradients are f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Weights and activations in bf16, sums and softmax in f32. On the processor rounded where a GPU stores bf16.
    Bf16,
    /// Everything in f32, the processor's own.
    #[default]
    F32,
}

impl Precision {
    /// What weights and activations are stored as.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::Bf16 => Dtype::Bf16,
            Self::F32 => Dtype::F32,
        }
    }
}

/// How AdamW's moments are stored from one update to the next; an update computes in f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MomentPrecision {
    /// In f32: 8 bytes a trained parameter.
    #[default]
    F32,
    /// In bf16, rounded stochastically: 4 bytes a trained parameter.
    Bf16,
}

impl MomentPrecision {
    /// Whether it is f32.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What they are stored as.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::Bf16,
        }
    }
}

/// What of a layer is kept between forward and backward; the rest is computed again, to the same bits. The order is from the
/// fastest to the thriftiest: each keeps a part of what the one before it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Everything is kept.
    None,
    /// Norms and the gated activation are computed again: 0.3 % of a step.
    #[default]
    SelA,
    /// Gate and up projections besides: 11 to 12 %.
    SelB,
    /// The whole layer: 31 %.
    Full,
}

impl Recompute {
    /// Every mode, the fastest first.
    pub const ALL: [Self; 4] = [Self::None, Self::SelA, Self::SelB, Self::Full];

    /// As recipes name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SelA => "sel-a",
            Self::SelB => "sel-b",
            Self::Full => "full",
        }
    }
}

/// What is asked of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Loss and logits of batches.
    Evaluate,
    /// Loss, gradients and updates: of the adapters where there are any, else of all weights.
    Train,
    /// Logits of texts token by token, with a cache.
    Decode {
        /// Texts at once.
        slots: usize,
        /// Tokens of a text.
        capacity: usize,
    },
}

/// What an engine is made for.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineSpec {
    /// What is asked of it.
    pub purpose: Purpose,
    /// Arithmetic.
    pub precision: Precision,
    /// How moments are stored; for training only.
    pub moments: MomentPrecision,
    /// The seed of their rounding.
    pub seed: u64,
    /// What is kept; for training only.
    pub recompute: Recompute,
    /// Most rows (B T) at once.
    pub rows: usize,
    /// Most tokens of a document.
    pub positions: usize,
    /// Adapters on the model.
    pub lora: Option<LoraSpec>,
}

impl EngineSpec {
    /// Loss and logits of batches of up to `sequences` (B) sequences of up to `sequence_length` (T) tokens, in f32.
    pub fn evaluate(sequences: usize, sequence_length: usize) -> Self {
        Self {
            purpose: Purpose::Evaluate,
            precision: Precision::F32,
            moments: MomentPrecision::default(),
            seed: 0,
            recompute: Recompute::Full,
            rows: sequences * sequence_length,
            positions: sequence_length,
            lora: None,
        }
    }

    /// Training on batches of up to `sequences` (B) sequences of up to `sequence_length` (T) tokens, in f32.
    pub fn train(sequences: usize, sequence_length: usize) -> Self {
        Self { purpose: Purpose::Train, recompute: Recompute::default(), ..Self::evaluate(sequences, sequence_length) }
    }

    /// Decoding `slots` texts of up to `capacity` tokens, in f32, up to `rows` tokens at once.
    pub fn decode(slots: usize, capacity: usize, rows: usize) -> Self {
        Self { purpose: Purpose::Decode { slots, capacity }, rows, positions: capacity, ..Self::evaluate(1, 1) }
    }

    /// The same with adapters.
    #[must_use]
    pub fn with_lora(self, lora: Option<LoraSpec>) -> Self {
        Self { lora, ..self }
    }

    pub(super) fn trains(&self) -> bool {
        self.purpose == Purpose::Train
    }

    pub(super) fn trains_base(&self) -> bool {
        self.trains() && self.lora.is_none()
    }

    pub(super) fn trains_adapters(&self) -> bool {
        self.trains() && self.lora.is_some()
    }

    pub(super) fn decodes(&self) -> bool {
        matches!(self.purpose, Purpose::Decode { .. })
    }

    pub(super) fn extent(&self) -> Extent {
        let cache_capacity = match self.purpose {
            Purpose::Decode { capacity, .. } => Some(capacity),
            _ => None,
        };
        Extent { rows: self.rows, positions: self.positions, cache_capacity }
    }
}
