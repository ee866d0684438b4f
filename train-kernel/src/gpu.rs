//! The model's operations on NVIDIA cards: kernels of our own, matrix products by cuBLASLt.
//!
//! [`Gpu`] is the [`Backend`](crate::backend::Backend); it knows shapes, grids and operands, and asks a [`Device`] to carry them
//! out: the card, or its emulation on the processor, which the tests use. Kernels are CUDA C++ (`kernels/`, one operation a
//! file). Files of this folder: the device (`device`), the kernels and their constants (`kernels`), their parameters
//! (`arguments`) and operands (`operands`), memory and batches (`backend`), the operations (`ops`, `attention`), the tiles of
//! attention (`tiles`), passes that are recorded (`recording`), cards that are only planned for (`unopened`).

mod arguments;
mod attention;
mod backend;
#[cfg(any(test, feature = "emulation"))]
pub mod check;
pub mod cuda;
mod device;
#[cfg(any(test, feature = "emulation"))]
pub mod emulated;
pub mod kernels;
mod operands;
mod ops;
#[cfg(any(test, feature = "emulation"))]
pub mod recorded;
mod recording;
mod tiles;
mod unopened;

#[cfg(test)]
mod tests;

pub use backend::{Gpu, SumOrder};
pub use device::{Access, Address, Device, DeviceError, DeviceMatrix, DeviceProduct, Launch, Properties, Region};
pub use unopened::Unopened;
