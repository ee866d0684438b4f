//! What a card is to the operations: memory, kernels, matrix products, and a stream that carries them out in order.
//!
//! There are two: the card itself (`cuda`) and its emulation on the processor (`emulated`), which runs the same kernel sources
//! with the same grids and arguments. Neither knows of models.

use std::fmt::Debug;

use bytemuck::{NoUninit, Pod, Zeroable};
use thiserror::Error;

use super::kernels::Kernel;
use crate::backend::{AllocationError, Dtype};

/// A byte's place in the card's memory; 0 is no place.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Address(pub u64);

impl Address {
    /// The place `bytes` further.
    #[must_use]
    pub fn plus(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// What an operation does with an operand.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read only.
    Read = 0,
    /// Every byte of it is written; nothing of what was there is read.
    Write = 1,
    /// It is changed: read and written, as a whole or in parts.
    Update = 2,
}

/// One operand's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first byte.
    pub address: Address,
    /// Bytes.
    pub bytes: usize,
    /// What is done with it.
    pub access: Access,
}

/// One call of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// What is called.
    pub kernel: Kernel,
    /// Blocks in x, y and z; none of them 0.
    pub grid: [u32; 3],
    /// The kernel's one parameter, as it lies in memory.
    pub arguments: &'a [u8],
    /// Its operands: the only memory that it may touch.
    pub regions: &'a [Region],
}

/// A matrix in the card's memory, row-major, seen as it lies or transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceMatrix {
    /// Its first element.
    pub address: Address,
    /// What its elements are.
    pub dtype: Dtype,
    /// Rows as they lie.
    pub rows: usize,
    /// Columns as they lie.
    pub columns: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Whether rows and columns are exchanged in the product.
    pub transposed: bool,
}

impl DeviceMatrix {
    /// Bytes from its first to its last element.
    pub fn span_bytes(&self) -> usize {
        let elements = if self.rows == 0 { 0 } else { (self.rows - 1) * self.row_stride + self.columns };
        elements * self.dtype.device_bytes()
    }
}

/// `c = alpha a b`, or `c += alpha a b`: summed in f32, rounded once to what `c` holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceProduct {
    /// Factor.
    pub alpha: f32,
    /// Left.
    pub a: DeviceMatrix,
    /// Right.
    pub b: DeviceMatrix,
    /// Result, not transposed.
    pub c: DeviceMatrix,
    /// Whether the product is added to what is there.
    pub accumulate: bool,
}

/// What a card is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Its name, as the driver tells it.
    pub name: String,
    /// Compute capability, such as (8, 0).
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// Bytes of shared memory that a block may have.
    pub shared_bytes: u32,
}

/// Why a card cannot be used, or can no longer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// The driver's library does not open.
    #[error("GPU: no driver: {library} does not open; install NVIDIA's driver, or leave `device` at \"cpu\"")]
    NoDriver {
        /// The library's name.
        library: &'static str,
    },
    /// There is a driver, and no card that it shows.
    #[error("GPU: the driver shows no card; check CUDA_VISIBLE_DEVICES and the machine's allocation")]
    NoCard,
    /// There are cards, and not this one.
    #[error(
        "GPU: card {index} is asked for, the driver shows {count}, counted from 0; ask for one of them, or check CUDA_VISIBLE_DEVICES"
    )]
    NoSuchCard {
        /// What was asked for.
        index: usize,
        /// Cards that there are.
        count: usize,
    },
    /// The driver does not open a card.
    #[error("GPU: the driver opens no card: {reason}; run nvidia-smi on this machine to see what it says of driver and cards")]
    Driver {
        /// What it said.
        reason: String,
    },
    /// No memory for what a card needs beside the one allocation.
    #[error(
        "GPU: workspace: {needed_bytes} bytes needed, {free_bytes} are free; end what else runs on the card, or ask for another"
    )]
    Workspace {
        /// What is needed.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The driver is older than what this program is built for.
    #[error("GPU: the driver knows CUDA {found}, this program needs {needed} or later; install a newer driver")]
    OldDriver {
        /// What it knows, such as `11.4`.
        found: String,
        /// What is needed.
        needed: String,
    },
    /// The card is older than the kernels.
    #[error("GPU: {name} has compute capability {found}, kernels need {needed} or later (A100 and newer)")]
    Architecture {
        /// The card.
        name: String,
        /// Its capability.
        found: String,
        /// The lowest that works.
        needed: String,
    },
    /// A library beside the driver does not open.
    #[error("GPU: {library} does not open; install it ({package} from PyPI has it) and name its folder with --cuda-libs")]
    NoLibrary {
        /// The library.
        library: &'static str,
        /// A package that has it.
        package: &'static str,
    },
    /// A library that opens, and is not what it should be.
    #[error("GPU: {library}: {reason}; install the version that this program is built for and name its folder with --cuda-libs")]
    BadLibrary {
        /// The library, or its file.
        library: String,
        /// What it said, or what it lacks.
        reason: String,
    },
    /// Kernels that do not compile, or do not load.
    #[error("GPU: kernel {kernel} for {target}: {reason}")]
    Kernel {
        /// Its name.
        kernel: String,
        /// The architecture.
        target: String,
        /// What the compiler or the driver said.
        reason: String,
    },
    /// A matrix product that the library has no way for.
    #[error("GPU: a matrix product of {shape}: {reason}")]
    Product {
        /// Its extents and types.
        shape: String,
        /// What the library said.
        reason: String,
    },
    /// The card answers no more.
    #[error(
        "GPU: {operation} failed: {reason}; the card is lost to this run, go on from the last checkpoint with the same command"
    )]
    Lost {
        /// What was asked of it.
        operation: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// The card's memory is full in the middle of a run, though what the run needs was allocated before it.
    #[error(
        "GPU: {operation}: the card's memory is full; end what else runs on it, or take a `recompute` that keeps less, and go on \
         from the last checkpoint with the same command"
    )]
    Full {
        /// What was asked of it.
        operation: &'static str,
    },
    /// There is not enough memory.
    #[error(transparent)]
    Memory(#[from] AllocationError),
    /// A model that the kernels are not made for.
    #[error("GPU: {what}: got {got}, kernels take {expected}; train it with device = \"cpu\"")]
    Unfit {
        /// Which of its sizes.
        what: &'static str,
        /// What it has.
        got: String,
        /// What would do.
        expected: &'static str,
    },
}

/// A card and one stream on it. What is asked of it is carried out in order, later; an operation that fails is told by the next
/// call that gives something back, and all operations after it do nothing.
pub trait Device: Debug + Send {
    /// What it is.
    fn properties(&self) -> &Properties;

    /// What it chose by itself so far, that results depend on.
    fn choices(&self) -> Option<serde_json::Value> {
        None
    }

    /// What the user is to know and has not been told, a line each.
    fn take_warnings(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// The one allocation, once kernels are ready. What it holds means nothing.
    ///
    /// # Errors
    /// The bytes that could be had, when there are fewer: without those that have to stay free.
    fn allocate(&mut self, bytes: usize) -> Result<Address, u64>;

    /// Makes the kernels ready, so that no later launch has to.
    ///
    /// # Errors
    /// [`DeviceError::Kernel`].
    fn prepare(&mut self, kernels: &[Kernel]) -> Result<(), DeviceError>;

    /// Calls a kernel that is ready.
    fn launch(&mut self, launch: &Launch<'_>);

    /// Multiplies.
    fn multiply(&mut self, product: &DeviceProduct);

    /// Zeros.
    fn clear(&mut self, address: Address, bytes: usize);

    /// Copies inside the card's memory; the places do not overlap.
    fn copy(&mut self, from: Address, to: Address, bytes: usize);

    /// Copies to the card; `bytes` may be changed once this returns.
    fn upload(&mut self, to: Address, bytes: &[u8]);

    /// Copies from the card, and waits for it.
    ///
    /// # Errors
    /// What failed since the last time.
    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Sends for bytes, in the order of the stream, without waiting; they are kept until they are collected.
    fn fetch(&mut self, from: Address, bytes: usize) -> u64;

    /// What [`Self::fetch`] sent for under this number, once; waits for it.
    ///
    /// # Errors
    /// What failed before it.
    fn collect(&mut self, ticket: u64, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Begins a pass that always asks the same of the card under this key: true when the operations that follow are to be asked
    /// for, up to [`Self::end_pass`]; false when the card has them recorded and they are under way already.
    fn begin_pass(&mut self, key: u64) -> bool;

    /// Ends what [`Self::begin_pass`] said true to.
    fn end_pass(&mut self);
}

/// The bytes of a kernel's parameter.
pub(super) fn bytes_of<A: NoUninit>(arguments: &A) -> &[u8] {
    bytemuck::bytes_of(arguments)
}
