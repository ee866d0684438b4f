//! The operations of the model, each with its forward and its hand-written backward, on plain slices.
//!
//! Shapes stand beside every argument; outputs say whether they are written (`=`) or accumulated (`+=`). An operation knows
//! nothing of layers or parameters. Work is cut into parts whose extents depend on the problem alone, and every sum has a
//! fixed order, so that no result depends on the number of threads.

pub mod attention;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gemm;
pub mod norm;
mod reduce;
pub mod rope;
pub mod swiglu;

#[cfg(test)]
pub(crate) mod vjp;

/// Rows that one parallel task of a row-wise operation takes.
pub(crate) const ROW_BLOCK: usize = 32;
