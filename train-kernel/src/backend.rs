//! What computes: the coarse operations of the model on buffers of one arena, behind one trait.
//!
//! A backend is made for one [`Shape`](crate::Shape), owns one arena that is allocated once, and holds the rows that are being
//! computed: their tokens, positions, targets and documents. Operations name buffers, never memory; what type a buffer's
//! elements have is the buffer's own property. Which operations a model is made of stands in `engine`; nothing here knows of
//! layers, optimizers' schedules or files.
//!
//! Letters: N rows (tokens of a micro-batch), C model width, F feed-forward width, H heads, K key-value heads, D head width,
//! V vocabulary. Each operation says whether an output is written (`=`) or added to (`+=`).

mod arena;
mod cpu;
mod machine;
mod rate;

use std::fmt::Debug;
use std::ops::Range;

pub use arena::{AllocationError, ArenaPlan, Buffer, Dtype, ElementBytes, Part};
pub use cpu::Cpu;
pub use machine::{Machine, Processor};
pub use rate::product_rate;

use crate::batch::Batch;
pub use crate::gpu::DeviceError;
use crate::real::Real;

/// A matrix inside a buffer, row-major, seen as it lies or transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Where it lies; its first element is that of the buffer.
    pub buffer: Buffer,
    /// Rows as they lie.
    pub rows: usize,
    /// Columns as they lie.
    pub columns: usize,
    /// Elements from one row to the next, at least `columns`.
    pub row_stride: usize,
    /// Whether rows and columns are exchanged in the product.
    pub transposed: bool,
}

impl Matrix {
    /// A matrix without gaps.
    pub fn new(buffer: Buffer, rows: usize, columns: usize) -> Self {
        Self { buffer: buffer.part(0..rows * columns), rows, columns, row_stride: columns, transposed: false }
    }

    /// `columns` columns from `first` on of a matrix of `width` columns.
    pub fn columns_of(buffer: Buffer, rows: usize, width: usize, first: usize, columns: usize) -> Self {
        let end = if rows == 0 { first } else { (rows - 1) * width + first + columns };
        Self { buffer: buffer.part(first..end), rows, columns, row_stride: width, transposed: false }
    }

    /// The same elements with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }
}

/// `c = alpha a b`, or `c += alpha a b`; the product itself is summed in full precision and rounded once to what `c` holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Factor.
    pub alpha: f64,
    /// Left.
    pub a: Matrix,
    /// Right.
    pub b: Matrix,
    /// Result; not transposed.
    pub c: Matrix,
    /// Whether the product is added to what `c` holds.
    pub accumulate: bool,
}

/// A norm with the residual before it: `sum (N, C) = x + delta`, `out (N, C) = weight · sum · rstd`,
/// `rstd (N) = 1 / sqrt(mean(sum²) + epsilon)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// The residual before, `(N, C)`.
    pub x: Buffer,
    /// What is added, `(N, C)`, with where the sum goes; none when the norm is of `x` itself.
    pub residual: Option<Residual>,
    /// `(C)`
    pub weight: Buffer,
    /// Under the root.
    pub epsilon: f64,
    /// `(N, C)`
    pub out: Buffer,
    /// `(N)`
    pub rstd: Buffer,
}

/// The residual addition in front of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// `(N, C)`
    pub delta: Buffer,
    /// `(N, C)`
    pub sum: Buffer,
}

/// Gradient of a norm: `dx (N, C) +=`, `dweight (C) +=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormBackward {
    /// What was normalised, `(N, C)`.
    pub x: Buffer,
    /// `(C)`
    pub weight: Buffer,
    /// `(N)`
    pub rstd: Buffer,
    /// `(N, C)`
    pub dout: Buffer,
    /// `(N, C)`
    pub dx: Buffer,
    /// `(C)`; none when the weight is frozen.
    pub dweight: Option<Buffer>,
}

/// Which way positions turn queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// By their angle.
    Forward,
    /// Back: the gradient of the former.
    Back,
}

/// Attention of the rows to those before them in their document: `out (N, H D) =`, `lse (H, N) =` the natural logarithm of
/// each row's sum of exponentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Queries, keys and values after rotation, `(N, (H + 2K) D)`.
    pub fused: Buffer,
    /// `(N, H D)`
    pub out: Buffer,
    /// `(H, N)`
    pub lse: Buffer,
}

/// Gradient of [`Attention`]: `dfused (N, (H + 2K) D) =`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionBackward {
    /// What was computed.
    pub forward: Attention,
    /// `(N, H D)`
    pub dout: Buffer,
    /// `(N, (H + 2K) D)`
    pub dfused: Buffer,
}

/// Attention of new rows to a cache of keys and values that they are added to first: `out (N, H D) =`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedAttention {
    /// Queries, keys and values of the new rows after rotation, `(N, (H + 2K) D)`.
    pub fused: Buffer,
    /// `(slots, capacity, K D)`, `+` the new rows.
    pub keys: Buffer,
    /// `(slots, capacity, K D)`, `+` the new rows.
    pub values: Buffer,
    /// Positions of a slot.
    pub capacity: usize,
    /// `(N, H D)`
    pub out: Buffer,
}

/// What differs from one pass over a batch to the next, its rows apart: a device may record a pass and repeat it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pass {
    /// Factor on the gradient of the sum of the losses.
    pub scale: f64,
    /// Optimizer step, for random numbers; below 2^32.
    pub step: u64,
    /// The index in the whole step of the batch's first row.
    pub first_row: u64,
}

impl Default for Pass {
    /// The first pass of a run, its gradient as it is.
    fn default() -> Self {
        Self { scale: 1.0, step: 0, first_row: 0 }
    }
}

/// What one tensor of adapter inputs drops, in the loaded pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The recipe's seed.
    pub seed: u64,
    /// The tensor's index in its layout.
    pub tensor: usize,
    /// Share dropped, from 0 to below 1.
    pub probability: f64,
    /// Elements of a row.
    pub width: usize,
}

/// Cross-entropy of rows `first_row..first_row + n` of the loaded batch: `losses (n) =` in nats, 0 where a row has no target;
/// with a gradient also `logits (n, V) =` theirs times the pass's scale, 0 in rows without a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// `(n, V)`
    pub logits: Buffer,
    /// `(n)`
    pub losses: Buffer,
    /// First row.
    pub first_row: usize,
    /// Whether the gradient is asked for, too.
    pub gradient: bool,
}

/// The most that will be computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Rows (N).
    pub rows: usize,
    /// Positions of a document.
    pub positions: usize,
    /// Positions of a cached text, where texts are decoded; then there are no batches.
    pub cache_capacity: Option<usize>,
}

/// New rows of texts that have a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodeRows {
    /// Token ids, `(N)`.
    pub tokens: Vec<u32>,
    /// Places of these rows, in order: together exactly N.
    pub spans: Vec<CacheSpan>,
}

/// Consecutive rows of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSpan {
    /// The text's place in the cache.
    pub slot: usize,
    /// Tokens that it holds already, which is the first row's position.
    pub start: usize,
    /// Rows.
    pub rows: usize,
}

/// What an update may do, decided before the gradient's norm is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Norm above which gradients are scaled down to it; 0 for none.
    pub clip: f64,
    /// Norm above which the update is left out; infinite for none.
    pub skip_above: f64,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Norm of the whole gradient.
    pub norm: f64,
    /// Whether norm and losses are finite.
    pub finite: bool,
    /// Factor on every gradient; 0 when nothing is updated.
    pub factor: f64,
}

/// Values under way from a device; see [`Backend::fetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub(crate) u64);

/// Weights, and how they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// In one buffer, rounded to nearest to what it holds: trained ones in full precision, frozen ones in any.
    Plain(Buffer),
    /// In two halves that are the whole weight together (`ops::split`): trained ones in bf16.
    Split {
        /// What the model computes with, in bf16: the weight rounded to nearest, ties away from zero.
        working: Buffer,
        /// What makes it whole, [`Dtype::Remainder`].
        remainder: Buffer,
    },
}

impl Weights {
    /// What the model computes with.
    pub fn working(self) -> Buffer {
        match self {
            Self::Plain(working) | Self::Split { working, .. } => working,
        }
    }

    /// Number of weights.
    pub fn length(self) -> usize {
        self.working().length()
    }

    /// Some of them.
    ///
    /// # Panics
    /// When they are not all its own.
    #[must_use]
    pub fn part(self, elements: Range<usize>) -> Self {
        match self {
            Self::Plain(working) => Self::Plain(working.part(elements)),
            Self::Split { working, remainder } => {
                Self::Split { working: working.part(elements.clone()), remainder: remainder.part(elements) }
            }
        }
    }

    /// Its buffers.
    pub fn buffers(self) -> impl Iterator<Item = Buffer> {
        let remainder = match self {
            Self::Plain(_) => None,
            Self::Split { remainder, .. } => Some(remainder),
        };
        std::iter::once(self.working()).chain(remainder)
    }
}

/// First and second moments, and how they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// In full precision.
    Exact([Buffer; 2]),
    /// In bf16, rounded up or down by chance so that their mean stays.
    Drawn([Buffer; 2], Draw),
}

/// Where the random numbers of an update's rounding are found: they depend on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The recipe's seed.
    pub seed: u64,
    /// The update, from 1; below 2^32.
    pub update: u64,
    /// The index in the whole set of tensors of the first element.
    pub first_element: u64,
}

/// One update of AdamW on a part of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Updated.
    pub weights: Weights,
    /// Gradients.
    pub gradient: Buffer,
    /// Updated.
    pub moments: Moments,
    /// Constants of this step.
    pub scalars: crate::optimizer::AdamWScalars,
}

/// The operations of a model and its training on one device. `E` is the element type of what goes in and comes out.
///
/// Operations are carried out in the order of the calls, and may still be under way when a call returns. They panic when buffers
/// do not have the extents that the loaded rows ask for, or overlap: mistakes of the engine, never of data. What fails on a device
/// is told by the next call that gives a value back; until then the operations after it do nothing.
pub trait Backend<E: Real>: Debug + Send {
    /// Bytes of an element of each type in this backend's arena.
    fn element_bytes(&self) -> ElementBytes;

    /// Whether operations go on while the caller does something else, so that it is worth asking for the next before reading what
    /// the last ones gave.
    fn works_ahead(&self) -> bool;

    /// What the device chose by itself so far and results depend on: kept with a run, which goes on with the same.
    fn choices(&self) -> Option<serde_json::Value> {
        None
    }

    /// What the user is to know and has not been told, a line each.
    fn take_warnings(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Whether weights and activations may be of this type.
    fn computes_in(&self, dtype: Dtype) -> bool;

    /// Adds the scratch that the backend itself needs to the plan; before [`Self::allocate`].
    fn plan_scratch(&mut self, plan: &mut ArenaPlan, extent: Extent);

    /// Allocates the arena; once. What it holds then means nothing.
    ///
    /// # Errors
    /// [`DeviceError`] when the device has not that much memory, for nothing is allocated later, or cannot be used.
    fn allocate(&mut self, plan: &ArenaPlan) -> Result<(), DeviceError>;

    /// The most rows of logits that are computed together.
    fn head_rows(&self, vocabulary: usize) -> usize;

    /// `to =` the values, rounded to what it holds.
    fn upload(&mut self, to: Buffer, values: &[E]);

    /// The values of a buffer; waits for them.
    ///
    /// # Errors
    /// [`DeviceError`] when an operation failed.
    fn download(&mut self, from: Buffer, out: &mut [E]) -> Result<(), DeviceError>;

    /// `to =` the weights: in full precision where they are split, else rounded to what the buffer holds.
    fn upload_weights(&mut self, to: Weights, values: &[E]);

    /// Weights in as much precision as is stored of them; waits for them.
    ///
    /// # Errors
    /// [`DeviceError`] when an operation failed.
    fn download_weights(&mut self, from: Weights, out: &mut [E]) -> Result<(), DeviceError>;

    /// Sends for the values that a buffer has now, without waiting.
    fn fetch(&mut self, from: Buffer) -> Ticket;

    /// What [`Self::fetch`] sent for, once; waits for it.
    ///
    /// # Errors
    /// [`DeviceError`] when an operation before it failed.
    fn collect(&mut self, ticket: Ticket, out: &mut [E]) -> Result<(), DeviceError>;

    /// `buffer = 0`
    fn zero(&mut self, buffer: Buffer);

    /// `to = from`, rounded to what it holds.
    fn convert(&mut self, from: Buffer, to: Buffer);

    /// Makes a batch the rows that the following operations are about.
    fn load_batch(&mut self, batch: &Batch, pass: Pass);

    /// Makes new rows of cached texts the rows that the following operations are about.
    fn load_decode(&mut self, rows: &DecodeRows);

    /// Begins operations that are always the same under this key: true when they are to be asked for, up to [`Self::end_pass`];
    /// false when the device has recorded them and carries them out. Nothing is loaded, uploaded or fetched in between.
    fn begin_pass(&mut self, _key: u64) -> bool {
        true
    }

    /// Ends what [`Self::begin_pass`] said true to.
    fn end_pass(&mut self) {}

    /// `out (N, C) =` the rows of `table (V, C)` for the loaded tokens.
    fn embed(&mut self, table: Buffer, out: Buffer);

    /// `dtable (V, C) +=` the rows of `dout (N, C)` by token.
    fn embed_backward(&mut self, dout: Buffer, dtable: Buffer);

    /// See [`Norm`].
    fn norm(&mut self, norm: Norm);

    /// `out (N, C) =` what [`Norm`] wrote for this sum, bit for bit.
    fn norm_rebuild(&mut self, x: Buffer, weight: Buffer, rstd: Buffer, out: Buffer);

    /// See [`NormBackward`].
    fn norm_backward(&mut self, norm: NormBackward);

    /// Turns queries and keys of `fused (N, (H + 2K) D)` by their positions, in place; values stay.
    fn rotate(&mut self, fused: Buffer, turn: Turn);

    /// See [`Attention`].
    fn attend(&mut self, attention: Attention);

    /// See [`AttentionBackward`].
    fn attend_backward(&mut self, attention: AttentionBackward);

    /// See [`CachedAttention`].
    fn attend_cached(&mut self, attention: CachedAttention);

    /// `out (N, F) =` silu of the left half of `gate_up (N, 2F)` times the right half.
    fn swiglu(&mut self, gate_up: Buffer, out: Buffer);

    /// Given `dout (N, F)`: `dgate_up (N, 2F) =` the gradient, and `out (N, F) =` the activation again, bit for bit.
    fn swiglu_backward(&mut self, gate_up: Buffer, dout: Buffer, dgate_up: Buffer, out: Buffer);

    /// See [`Product`].
    fn multiply(&mut self, product: Product);

    /// `out =` the elements of `x` that are kept, scaled; 0 elsewhere.
    fn drop_out(&mut self, dropout: Dropout, x: Buffer, out: Buffer);

    /// `dx +=` the gradient of [`Self::drop_out`], given `dout`.
    fn drop_out_backward(&mut self, dropout: Dropout, dout: Buffer, dx: Buffer);

    /// See [`CrossEntropy`].
    fn cross_entropy(&mut self, rows: CrossEntropy);

    /// `out (n, C) =` the rows of `from (N, C)` that are named.
    fn gather(&mut self, from: Buffer, rows: &[u32], out: Buffer);

    /// Forgets the losses seen so far: from here on they belong to a new step.
    fn begin_step(&mut self);

    /// Measures the gradient and decides whether, and by what factor, [`Self::adamw`] changes anything in this step.
    fn judge(&mut self, gradient: Buffer, limits: Limits) -> Ticket;

    /// What [`Self::judge`] found, once; waits for it.
    ///
    /// # Errors
    /// [`DeviceError`] when an operation failed.
    fn judgement(&mut self, ticket: Ticket) -> Result<Judgement, DeviceError>;

    /// One update, as judged.
    fn adamw(&mut self, step: AdamWStep);

    /// Euclidean norm of weights in full precision, summed in f64 in a fixed order.
    fn norm_of(&mut self, weights: Weights) -> Ticket;

    /// What [`Self::norm_of`] found, once; waits for it.
    ///
    /// # Errors
    /// [`DeviceError`] when an operation failed.
    fn found_norm(&mut self, ticket: Ticket) -> Result<f64, DeviceError>;
}
