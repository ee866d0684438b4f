//! Seconds of a step by part, bytes between ranks, GPU-hours.

use serde::Serialize;

use super::{Layout, Machine, TokenFlops, Zero};
use crate::engine::Recompute;
use crate::shape::Shape;

const BF16: f64 = 2.0;

/// Seconds of one micro-batch on one GPU, by part; the optimizer's share is spread over the micro-batches of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepParts {
    /// Matrix products.
    pub gemm: f64,
    /// Attention.
    pub attention: f64,
    /// Operations that are bound by memory.
    pub elementwise: f64,
    /// Norm of the gradient and AdamW.
    pub optimizer: f64,
    /// What is computed again.
    pub recompute: f64,
}

impl StepParts {
    /// All parts.
    pub fn total(self) -> f64 {
        self.gemm + self.attention + self.elementwise + self.optimizer + self.recompute
    }
}

/// What one step takes with its traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepTime {
    /// One micro-batch, computing alone.
    pub micro_batch: StepParts,
    /// Bytes that a GPU sends to its tensor-parallel ranks, a micro-batch.
    pub tensor_parallel_bytes: f64,
    /// Bytes that a GPU sends to its data-parallel ranks, a step (ZeRO-3: a micro-batch).
    pub data_parallel_bytes: f64,
    /// Seconds of a step with the assumed share of traffic hidden.
    pub seconds: f64,
    /// Tokens per second and GPU.
    pub tokens_per_second_per_gpu: f64,
}

/// Operations that are bound by memory, with the bytes that each moves per token over the whole model, forward and backward.
pub fn elementwise_bytes(shape: &Shape) -> [(&'static str, f64); 10] {
    let [h, f, kv, n] = [shape.width, shape.feed_forward, shape.kv_width(), shape.layers].map(|size| size as f64);
    [
        ("add + RMSNorm forward, two per layer", 2.0 * n * 4.0 * h * BF16),
        ("RoPE forward, in place on q and k", n * 2.0 * (h + kv) * BF16),
        ("SwiGLU forward", n * 3.0 * f * BF16),
        ("RMSNorm backward + residual gradient, two per layer", 2.0 * n * 4.0 * h * BF16),
        ("RoPE backward", n * 2.0 * (h + kv) * BF16),
        ("SwiGLU backward, writes the activation too", n * 6.0 * f * BF16),
        ("attention backward, row sums of dO*O", n * 2.0 * h * BF16),
        ("attention backward, fp32 dQ round trip", n * 3.0 * h * 4.0),
        ("cross-entropy on logits in place", 3.0 * shape.vocabulary as f64 * BF16),
        ("embedding forward and backward", 4.0 * h * BF16),
    ]
}

/// One micro-batch of `tokens` tokens in sequences of `length`, `accumulation` of which make a step whose optimizer is shared
/// by `optimizer_shards` ranks.
pub fn step_parts(
    shape: &Shape,
    machine: &Machine,
    (tokens, length): (u64, u64),
    mode: Recompute,
    layout: Layout,
    accumulation: u64,
) -> StepParts {
    let (tp, tokens, length) = (layout.tensor_parallel as f64, tokens as f64, length as f64);
    let [h, f, kv, layers, vocabulary] =
        [shape.width, shape.feed_forward, shape.kv_width(), shape.layers, shape.vocabulary].map(|size| size as f64);
    let layer = 2.0 * h * h + 2.0 * h * kv + 3.0 * h * f;
    let layers_forward = 2.0 * tokens * layer * layers;
    let head_forward = 2.0 * tokens * h * vocabulary;
    let attention_forward = 4.0 * tokens * length * h / 2.0 * layers;
    let norms = 2.0 * 2.0 * h * BF16 * tokens * layers / machine.memory_rate;
    let recompute = match mode {
        Recompute::None => 0.0,
        Recompute::SelA => norms,
        Recompute::SelB => norms + 2.0 * tokens * 2.0 * h * f * layers / machine.gemm_flops,
        Recompute::Full => {
            let moved = (8.0 * h + 2.0 * (h + kv) + 3.0 * f) * BF16 * tokens * layers;
            let products = layers_forward / machine.gemm_flops + attention_forward / machine.attention_forward_flops;
            products + moved / machine.memory_rate
        }
    };
    let elementwise: f64 = elementwise_bytes(shape).iter().map(|(_, bytes)| bytes).sum();
    let optimizer_shards = if layout.zero == Zero::None { 1.0 } else { layout.data_parallel as f64 };
    let sizes = layout.sizes;
    // Gradients are read twice, by the norm and the update; moments are read and written, and so are weights in two halves; of a
    // whole master the rounding is written besides.
    let weights = if sizes.master < 4.0 { 2.0 * (BF16 + sizes.master) } else { 2.0 * sizes.master + BF16 };
    let optimizer_bytes = 2.0 * sizes.gradients + 4.0 * sizes.moment + weights;
    StepParts {
        gemm: 3.0 * (layers_forward + head_forward) / machine.gemm_flops / tp,
        attention: (attention_forward / machine.attention_forward_flops
            + 2.5 * attention_forward / machine.attention_backward_flops)
            / tp,
        elementwise: elementwise * tokens / machine.memory_rate / tp,
        optimizer: shape.parameter_count() as f64 / tp * optimizer_bytes
            / optimizer_shards
            / machine.memory_rate
            / accumulation as f64,
        recompute: recompute / tp,
    }
}

/// Bytes sent per GPU and micro-batch by tensor and sequence parallelism: 8 gathers or scatters a layer, 10 where the two
/// normalised inputs are gathered again for the weight gradients.
pub fn tensor_parallel_bytes(shape: &Shape, tokens: u64, tensor_parallel: u64, regather: bool) -> f64 {
    let times = if regather { 10.0 } else { 8.0 };
    let share = (tensor_parallel - 1) as f64 / tensor_parallel as f64;
    times * tokens as f64 * BF16 * shape.width as f64 * shape.layers as f64 * share
}

/// Bytes sent per GPU by data parallelism: a step's reduce-scatter of gradients and all-gather of weights; with ZeRO-3 two
/// gathers and a scatter in bf16, each micro-batch.
pub fn data_parallel_bytes(shape: &Shape, layout: Layout) -> f64 {
    let each = if layout.zero == Zero::Weights { 6.0 } else { layout.sizes.gradients + BF16 };
    let share = (layout.data_parallel - 1) as f64 / layout.data_parallel as f64;
    each * shape.parameter_count() as f64 / layout.tensor_parallel as f64 * share
}

/// What of a model is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trained {
    /// Parameters of the adapters on frozen weights; none when all weights are trained.
    pub parameters: Option<u64>,
}

impl Trained {
    /// Every weight.
    pub const ALL: Self = Self { parameters: None };
}

/// A step of `accumulation` micro-batches with a share `hidden` of its traffic behind computing. Frozen weights need no gradient,
/// so that of three products two are left, and traffic and update are those of the adapters.
pub fn step_time(
    (shape, trained): (&Shape, Trained),
    machine: &Machine,
    (tokens, length): (u64, u64),
    mode: Recompute,
    layout: Layout,
    (accumulation, hidden): (u64, f64),
) -> StepTime {
    let mut micro_batch = step_parts(shape, machine, (tokens, length), mode, layout, accumulation);
    let mut data_parallel = data_parallel_bytes(shape, layout);
    if let Some(parameters) = trained.parameters {
        let share = parameters as f64 / shape.parameter_count() as f64;
        micro_batch.gemm *= 2.0 / 3.0;
        micro_batch.optimizer *= share;
        data_parallel *= share;
    }
    let regather = mode != Recompute::None;
    let tensor_parallel = tensor_parallel_bytes(shape, tokens, layout.tensor_parallel, regather);
    let count = accumulation as f64;
    let rounds = if layout.zero == Zero::Weights { count } else { 1.0 };
    let data_rate = if layout.ranks() > machine.gpus_per_node { machine.fabric_rate } else { machine.node_rate };
    let seconds = count * (micro_batch.total() + (1.0 - hidden) * tensor_parallel / machine.node_rate)
        + (1.0 - hidden) * rounds * data_parallel / data_rate;
    StepTime {
        micro_batch,
        tensor_parallel_bytes: tensor_parallel,
        data_parallel_bytes: data_parallel,
        seconds,
        tokens_per_second_per_gpu: count * tokens as f64 / layout.tensor_parallel as f64 / seconds,
    }
}

/// GPU-hours of so many tokens at a utilization by the `PaLM` count.
pub fn gpu_hours(shape: &Shape, tokens: f64, utilization: f64, peak_flops: f64, length: u64) -> f64 {
    tokens * TokenFlops::of(shape, length).palm as f64 / (utilization * peak_flops) / 3600.0
}
