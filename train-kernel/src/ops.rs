//! The operations of the model on the processor, each with its forward and its hand-written backward, on plain slices.
//!
//! Shapes stand beside every argument; outputs say whether they are written (`=`) or accumulated (`+=`), and a [`Rounding`]
//! beside an output is what it holds. An operation knows nothing of layers or parameters. Work is cut into parts whose
//! extents depend on the problem alone, and every sum has a fixed order, so that no result depends on the number of threads.
//!
//! [`Rounding`]: rounding::Rounding

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gemm;
pub mod norm;
mod reduce;
pub mod rope;
pub mod rounding;
pub mod split;
pub mod swiglu;

#[cfg(test)]
pub(crate) mod vjp;

use crate::shape::Shape;

/// Rows that one parallel task of a row-wise operation takes.
pub(crate) const ROW_BLOCK: usize = 32;

/// The extents of a model's heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads (H).
    pub heads: usize,
    /// Key-value heads (K).
    pub kv_heads: usize,
    /// Head width (D).
    pub head_width: usize,
}

impl Heads {
    /// Those of a model.
    pub fn of(shape: &Shape) -> Self {
        Self { heads: shape.heads, kv_heads: shape.kv_heads, head_width: shape.head_width() }
    }

    /// Width of all queries of a row, H D.
    pub fn width(self) -> usize {
        self.heads * self.head_width
    }

    /// Width of all keys of a row, K D.
    pub fn kv_width(self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Width of a row of queries, keys and values, (H + 2K) D.
    pub fn fused_width(self) -> usize {
        self.width() + 2 * self.kv_width()
    }

    /// Query heads that share a key-value head, H / K.
    pub fn group(self) -> usize {
        self.heads / self.kv_heads
    }
}
