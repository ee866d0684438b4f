//! What a training costs before it runs: parameters, FLOPs, bytes, traffic, time and GPU-hours of any shape on any cluster.
//!
//! Pure arithmetic in the units bytes, seconds and FLOP/s; GB are 10^9 bytes. The formulas are those of the training notes
//! (activations of Korthikanti and others 2022, section 4, and ZeRO of Rajbhandari and others 2020, section 5, counted for this
//! engine's buffers). Rates of machines are assumptions until somebody measures them, and are said to be.
//!
//! Letters: h model width, f feed-forward width, kv width of all keys, T tokens of one micro-batch on one rank.

mod choice;
mod memory;
mod time;

#[cfg(test)]
mod tests;

pub use choice::{Chosen, Wanted, Warning, WarningKind, choose};
pub use memory::{ElementSizes, MemoryNeed, Zero, activation_bytes, adapter_memory_need, memory_need, state_bytes};
pub use time::{
    StepParts, StepTime, Trained, data_parallel_bytes, elementwise_bytes, gpu_hours, step_parts, step_time, tensor_parallel_bytes,
};

use crate::shape::Shape;

/// A GPU and its links, with the rates that times are computed from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// As recipes name it.
    pub name: &'static str,
    /// Published dense bf16 rate, FLOP/s: what MFU is a share of.
    pub peak_flops: f64,
    /// Rate of matrix products, FLOP/s. Assumed.
    pub gemm_flops: f64,
    /// Memory bandwidth, bytes/s. Assumed.
    pub memory_rate: f64,
    /// Rate of the attention forward, FLOP/s of the causal half. Assumed.
    pub attention_forward_flops: f64,
    /// Rate of the attention backward, likewise. Assumed.
    pub attention_backward_flops: f64,
    /// Memory of the card, bytes.
    pub card_bytes: f64,
    /// GPUs that are joined by NVLink.
    pub gpus_per_node: u64,
    /// Bytes/s a GPU sends inside a node. Assumed.
    pub node_rate: f64,
    /// Bytes/s a GPU sends to other nodes: one 200 Gb/s port. Assumed.
    pub fabric_rate: f64,
}

/// An A100 with 80 GiB.
pub const A100: Machine = Machine {
    name: "a100-80gb",
    peak_flops: 312e12,
    gemm_flops: 262e12,
    memory_rate: 1.75e12,
    attention_forward_flops: 190e12,
    attention_backward_flops: 160e12,
    card_bytes: 85.9e9,
    gpus_per_node: 8,
    node_rate: 235e9,
    fabric_rate: 25e9,
};

/// An H100 SXM with 80 GiB.
pub const H100: Machine = Machine {
    name: "h100-80gb",
    peak_flops: 989e12,
    gemm_flops: 700e12,
    memory_rate: 2.9e12,
    attention_forward_flops: 330e12,
    attention_backward_flops: 300e12,
    card_bytes: 85.5e9,
    gpus_per_node: 8,
    node_rate: 350e9,
    fabric_rate: 50e9,
};

/// An H200 SXM with 141 GB, attention by `mma.sync`.
pub const H200: Machine = Machine {
    name: "h200",
    peak_flops: 989e12,
    gemm_flops: 700e12,
    memory_rate: 4.1e12,
    attention_forward_flops: 330e12,
    attention_backward_flops: 300e12,
    card_bytes: 150.75e9,
    gpus_per_node: 8,
    node_rate: 350e9,
    fabric_rate: 50e9,
};

/// Every machine that has a name.
pub const MACHINES: [Machine; 3] = [A100, H100, H200];

impl Machine {
    /// The machine of this name.
    pub fn named(name: &str) -> Option<Self> {
        MACHINES.into_iter().find(|machine| machine.name == name)
    }
}

/// How ranks share the work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// What data-parallel ranks share.
    pub zero: Zero,
    /// Ranks that share each matrix, with sequence parallelism.
    pub tensor_parallel: u64,
    /// Ranks with batches of their own.
    pub data_parallel: u64,
    /// Bytes of an element of weights, gradients, masters and moments.
    pub sizes: ElementSizes,
}

impl Layout {
    /// All ranks.
    pub fn ranks(self) -> u64 {
        self.tensor_parallel * self.data_parallel
    }
}

/// FLOPs of one token, forward and backward, by three conventions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenFlops {
    /// 6 Nm + 12 L h T: the `PaLM` paper's (Chowdhery and others 2022, appendix B), attention over the whole sequence.
    pub palm: u64,
    /// 6 N: every parameter, no attention.
    pub six_n: u64,
    /// 6 Nm + 6 L h T: attention to earlier tokens only, for documents that fill the sequence.
    pub causal: u64,
}

impl TokenFlops {
    /// Those of a model at sequences of `length` tokens.
    pub fn of(shape: &Shape, length: u64) -> Self {
        let (matrices, attention) = (6 * shape.matrix_parameter_count(), (shape.layers * shape.width) as u64 * length);
        Self { palm: matrices + 12 * attention, six_n: 6 * shape.parameter_count(), causal: matrices + 6 * attention }
    }

    /// Those of a model whose adapters of so many parameters are trained in place of its weights: no gradients of the weights,
    /// 4 Nm, and 6 for each parameter of the adapters.
    pub fn of_adapters(shape: &Shape, length: u64, parameters: u64) -> Self {
        let (matrices, attention) = (4 * shape.matrix_parameter_count(), (shape.layers * shape.width) as u64 * length);
        let adapters = 6 * parameters;
        Self {
            palm: matrices + adapters + 12 * attention,
            six_n: 4 * shape.parameter_count() + adapters,
            causal: matrices + adapters + 6 * attention,
        }
    }

    /// FLOPs of a token of packed documents, of which attention sees each by itself: 6 Nm + 6 L h Σ len² / Σ len.
    pub fn packed(shape: &Shape, lengths: &[u64]) -> f64 {
        let (squares, sum) = (lengths.iter().map(|n| n * n).sum::<u64>(), lengths.iter().sum::<u64>());
        let matrices = 6 * shape.matrix_parameter_count();
        matrices as f64 + (6 * (shape.layers * shape.width) as u64 * squares) as f64 / sum as f64
    }
}
