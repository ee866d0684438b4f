//! Bytes of one rank: state by ZeRO stage, activations by recompute mode, work space.

use serde::{Deserialize, Serialize};

use super::Layout;
use crate::engine::Recompute;
use crate::lora::LoraSpec;
use crate::shape::Shape;

/// Bytes of a bf16 element.
const BF16: f64 = 2.0;
/// Rows of one chunk of logits.
const HEAD_ROWS: f64 = 4096.0;
/// What cuBLASLt, NCCL and the driver's context take.
const LIBRARY_BYTES: f64 = 1.5e9 + 0.6e9;
/// On top of everything.
const SLACK: f64 = 1.03;

/// What data-parallel ranks share (ZeRO stages 0 to 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Zero {
    /// Nothing.
    None,
    /// Masters and moments.
    Optimizer,
    /// Gradients too.
    Gradients,
    /// Weights too.
    Weights,
}

impl TryFrom<u8> for Zero {
    type Error = String;

    fn try_from(stage: u8) -> Result<Self, String> {
        match stage {
            0 => Ok(Self::None),
            1 => Ok(Self::Optimizer),
            2 => Ok(Self::Gradients),
            3 => Ok(Self::Weights),
            _ => Err(format!("ZeRO stage {stage}, expected 0 to 3")),
        }
    }
}

impl From<Zero> for u8 {
    fn from(zero: Zero) -> u8 {
        zero as u8
    }
}

/// Bytes of an element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ElementSizes {
    /// Weights that the model computes with: 2.
    pub weights: f64,
    /// Gradients: 4, or 2 as a last resort.
    pub gradients: f64,
    /// Masters: 4, or 2 where they are split and share their upper half with the weights, as this program's are.
    pub master: f64,
    /// Each moment: 4 or 2.
    pub moment: f64,
}

impl ElementSizes {
    /// Of all that a trained parameter has.
    fn trained(self) -> f64 {
        self.weights + self.gradients + self.master + 2.0 * self.moment
    }
}

impl Default for ElementSizes {
    /// bf16 weights; f32 gradients, masters and moments: the reference's.
    fn default() -> Self {
        Self { weights: 2.0, gradients: 4.0, master: 4.0, moment: 4.0 }
    }
}

/// Bytes of one rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MemoryNeed {
    /// Weights, gradients, masters, moments.
    pub state_bytes: f64,
    /// Kept between forward and backward.
    pub activation_bytes: f64,
    /// Logits, temporaries, one rebuilt layer, libraries.
    pub work_bytes: f64,
    /// All of it and 3 %.
    pub total_bytes: f64,
}

impl MemoryNeed {
    pub(super) fn of(state_bytes: f64, activation_bytes: f64, work_bytes: f64) -> Self {
        let total_bytes = SLACK * (state_bytes + activation_bytes + work_bytes);
        Self { state_bytes, activation_bytes, work_bytes, total_bytes }
    }
}

/// Bytes kept per token and layer between forward and backward; divided by the tensor-parallel ranks under sequence parallelism.
pub fn activation_bytes(shape: &Shape, mode: Recompute) -> u64 {
    let [h, kv, f, heads] = [shape.width, shape.kv_width(), shape.feed_forward, shape.heads].map(|size| size as u64);
    let full = 2 * h;
    let sel_b = full + 2 * (h + 2 * kv) + 2 * h + 4 * heads + 2 * h + 8;
    let sel_a = sel_b + 4 * f;
    match mode {
        Recompute::Full => full,
        Recompute::SelB => sel_b,
        Recompute::SelA => sel_a,
        Recompute::None => sel_a + 4 * h + 2 * f,
    }
}

/// Bytes of weights, gradients, masters and moments of one rank.
pub fn state_bytes(shape: &Shape, layout: Layout) -> f64 {
    let (tp, dp) = (layout.tensor_parallel as f64, layout.data_parallel as f64);
    let ElementSizes { weights, gradients, master, moment } = layout.sizes;
    let (n, optimizer) = (shape.parameter_count() as f64 / tp, master + 2.0 * moment);
    match layout.zero {
        Zero::None => n * (weights + gradients + optimizer),
        Zero::Optimizer => n * (weights + gradients) + n * optimizer / dp,
        Zero::Gradients => n * weights + n * (gradients + optimizer) / dp,
        // And two layers gathered whole.
        Zero::Weights => n * (weights + gradients + optimizer) / dp + 2.0 * BF16 * shape.layer_parameter_count() as f64 / tp,
    }
}

/// Bytes of one rank, for micro-batches of `tokens` tokens.
pub fn memory_need(shape: &Shape, layout: Layout, tokens: u64, mode: Recompute) -> MemoryNeed {
    let (activations, work) = batch_bytes(shape, layout.tensor_parallel, tokens, mode);
    MemoryNeed::of(state_bytes(shape, layout), activations, work)
}

/// Bytes of one rank where adapters are trained on frozen weights; adapters are cut with the matrices.
pub fn adapter_memory_need((shape, lora): (&Shape, &LoraSpec), layout: Layout, tokens: u64, mode: Recompute) -> MemoryNeed {
    let (frozen, trained) = (shape.parameter_count() as f64, lora.parameter_count(shape) as f64);
    let state = (layout.sizes.weights * frozen + layout.sizes.trained() * trained) / layout.tensor_parallel as f64;
    let (activations, work) = batch_bytes(shape, layout.tensor_parallel, tokens, mode);
    MemoryNeed::of(state, activations, work)
}

/// Bytes of activations and work of one rank.
fn batch_bytes(shape: &Shape, tensor_parallel: u64, tokens: u64, mode: Recompute) -> (f64, f64) {
    let (tp, tokens) = (tensor_parallel as f64, tokens as f64);
    let kept = activation_bytes(shape, mode);
    let [h, f, vocabulary] = [shape.width, shape.feed_forward, shape.vocabulary].map(|size| size as f64);
    let logits = BF16 * vocabulary * tokens.min(HEAD_ROWS) / tp;
    let temporaries = (4.0 * f + 8.0 * h + 12.0 * h) * tokens / tp;
    let rebuilt = (activation_bytes(shape, Recompute::None) - kept) as f64 * tokens / tp;
    (kept as f64 * shape.layers as f64 * tokens / tp, logits + temporaries + rebuilt + LIBRARY_BYTES)
}
