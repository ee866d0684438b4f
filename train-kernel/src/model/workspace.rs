//! Every buffer of a step, allocated once from the extents of the largest batch and used again by every step.
//!
//! Kept for the backward of each layer are its input, queries, keys and values after rotation, attention output with its
//! logarithms, the residual between its halves, the gate and up projections and the reciprocal roots of both norms; norms
//! and activations are rebuilt (mode `SEL_A` of the training notes). Buffers hold no state between calls.

use crate::batch::Batch;
use crate::ops::attention;
use crate::ops::norm;
use crate::ops::rope::Heads;
use crate::real::Real;
use crate::shape::Shape;

/// Logits that are held at a time: 32 MiB in f32.
const LOGITS_ELEMENTS: usize = 1 << 23;
/// Bounds on the rows of one chunk of logits: fewer waste the matrix product, more gain nothing.
const HEAD_ROWS: (usize, usize) = (64, 256);

/// The buffers of one batch. N = B T rows.
#[derive(Debug)]
pub struct Workspace<R: Real> {
    sequences: usize,
    sequence_length: usize,
    shape: Shape,
    /// Layers that are kept: all of them, or one when there is no backward.
    pub(super) kept: Vec<Kept<R>>,
    pub(super) scratch: Scratch<R>,
    pub(super) head: HeadBuffers<R>,
    pub(super) adapters: AdapterBuffers<R>,
}

/// What one layer keeps for its backward.
#[derive(Debug)]
pub(super) struct Kept<R> {
    /// Input of the layer, `(N, C)`.
    pub(super) input: Vec<R>,
    /// Reciprocal roots of the first norm, `(N)`.
    pub(super) input_rstd: Vec<R>,
    /// Queries `(B, H, T, D)`, keys and values `(B, K, T, D)`.
    pub(super) q: Vec<R>,
    pub(super) k: Vec<R>,
    pub(super) v: Vec<R>,
    /// Attention output, `(N, H D)`, and its logarithms `(B, H, T)`.
    pub(super) attended: Vec<R>,
    pub(super) lse: Vec<R>,
    /// The residual after attention, `(N, C)`, and the reciprocal roots of its norm.
    pub(super) middle: Vec<R>,
    pub(super) middle_rstd: Vec<R>,
    /// Gate and up projections, `(N, 2F)`.
    pub(super) gate_up: Vec<R>,
}

/// What a layer needs while it is computed.
#[derive(Debug)]
pub(super) struct Scratch<R> {
    /// The residual stream, and in the backward its gradient, `(N, C)`.
    pub(super) stream: Vec<R>,
    /// Normalised rows, `(N, C)`, and in the backward their gradient.
    pub(super) normed: Vec<R>,
    pub(super) dnormed: Vec<R>,
    /// Fused queries, keys and values, `(N, (H + 2K) D)`, then their gradient.
    pub(super) fused: Vec<R>,
    /// Attention output by heads, `(B, H, T, D)`, then its gradient.
    pub(super) by_head: Vec<R>,
    pub(super) dq: Vec<R>,
    pub(super) dk: Vec<R>,
    pub(super) dv: Vec<R>,
    /// Scores of attention.
    pub(super) scores: Vec<R>,
    /// Activation and its gradient, `(N, F)`.
    pub(super) activation: Vec<R>,
    pub(super) dactivation: Vec<R>,
    /// Gradient of gate and up, `(N, 2F)`.
    pub(super) dgate_up: Vec<R>,
    /// Partial sums of norm gradients.
    pub(super) partials: Vec<R>,
    /// Rows by token.
    pub(super) order: Vec<u32>,
}

/// What the output projection needs: one chunk of rows at a time.
#[derive(Debug)]
pub(super) struct HeadBuffers<R> {
    /// Rows of a chunk.
    pub(super) chunk: usize,
    /// Last residual `(N, C)`, its norm's reciprocal roots `(N)`.
    pub(super) input: Vec<R>,
    pub(super) rstd: Vec<R>,
    /// The chunk's normalised rows and their gradient, `(chunk, C)`.
    pub(super) rows: Vec<R>,
    pub(super) drows: Vec<R>,
    /// `(chunk, V)`
    pub(super) logits: Vec<R>,
    /// Rows that predict something, their targets and losses.
    pub(super) active: Vec<u32>,
    pub(super) targets: Vec<u32>,
    pub(super) losses: Vec<f64>,
}

/// What adapters need; empty until a batch comes with adapters.
#[derive(Clone, Debug)]
pub(crate) struct AdapterBuffers<R> {
    /// Adapter input after dropout, `(N, max(C, F))`, and its gradient.
    pub(super) input: Vec<R>,
    pub(super) dinput: Vec<R>,
    /// A x, `(N, r)`, and its gradient.
    pub(super) low: Vec<R>,
    pub(super) dlow: Vec<R>,
}

impl<R: Real> AdapterBuffers<R> {
    /// No buffers.
    pub(crate) fn empty() -> Self {
        Self { input: Vec::new(), dinput: Vec::new(), low: Vec::new(), dlow: Vec::new() }
    }

    /// Makes room for `rows` rows of adapters of rank `rank`; allocates at the first call only.
    pub(crate) fn reserve(&mut self, shape: &Shape, rows: usize, rank: usize) {
        let wide = rows * shape.width.max(shape.feed_forward);
        for (buffer, length) in
            [(&mut self.input, wide), (&mut self.dinput, wide), (&mut self.low, rows * rank), (&mut self.dlow, rows * rank)]
        {
            if buffer.len() < length {
                buffer.resize(length, R::ZERO);
            }
        }
    }
}

impl<R: Real> Workspace<R> {
    /// Buffers for loss and gradients of batches of up to `sequences` (B) sequences of up to `sequence_length` (T) tokens.
    pub fn new(shape: &Shape, sequences: usize, sequence_length: usize) -> Self {
        Self::with_kept(shape, sequences, sequence_length, shape.layers)
    }

    /// Buffers for loss or logits alone: one layer's instead of all.
    pub fn forward_only(shape: &Shape, sequences: usize, sequence_length: usize) -> Self {
        Self::with_kept(shape, sequences, sequence_length, 1)
    }

    fn with_kept(shape: &Shape, sequences: usize, sequence_length: usize, layers: usize) -> Self {
        let rows = sequences * sequence_length;
        Self {
            sequences,
            sequence_length,
            shape: shape.clone(),
            kept: (0..layers).map(|_| Kept::new(shape, rows)).collect(),
            scratch: Scratch::new(shape, sequences, sequence_length),
            head: HeadBuffers::new(shape, rows),
            adapters: AdapterBuffers::empty(),
        }
    }

    /// Whether it keeps what a backward needs.
    pub(super) fn keeps_all_layers(&self) -> bool {
        self.kept.len() == self.shape.layers
    }

    /// Checks that it was made for this model and is large enough for the batch.
    ///
    /// # Panics
    /// When it is not.
    pub(super) fn check(&self, shape: &Shape, batch: &Batch) {
        assert!(self.shape == *shape, "workspace: made for another shape");
        let (sequences, length) = (batch.sequences(), batch.sequence_length());
        assert!(
            sequences <= self.sequences && length <= self.sequence_length,
            "workspace: made for {} sequences of {} tokens, the batch has {sequences} of {length}",
            self.sequences,
            self.sequence_length
        );
    }
}

impl<R: Real> Kept<R> {
    fn new(shape: &Shape, rows: usize) -> Self {
        let [wide, kv] = [shape.width, shape.kv_width()].map(|width| rows * width);
        Self {
            input: zeros(wide),
            input_rstd: zeros(rows),
            q: zeros(wide),
            k: zeros(kv),
            v: zeros(kv),
            attended: zeros(wide),
            lse: zeros(rows * shape.heads),
            middle: zeros(wide),
            middle_rstd: zeros(rows),
            gate_up: zeros(rows * 2 * shape.feed_forward),
        }
    }
}

impl<R: Real> Scratch<R> {
    fn new(shape: &Shape, sequences: usize, length: usize) -> Self {
        let rows = sequences * length;
        let [wide, kv, hidden] = [shape.width, shape.kv_width(), shape.feed_forward].map(|width| rows * width);
        Self {
            stream: zeros(wide),
            normed: zeros(wide),
            dnormed: zeros(wide),
            fused: zeros(rows * shape.qkv_width()),
            by_head: zeros(wide),
            dq: zeros(wide),
            dk: zeros(kv),
            dv: zeros(kv),
            scores: zeros(attention::scratch_length(heads(shape, length), sequences)),
            activation: zeros(hidden),
            dactivation: zeros(hidden),
            dgate_up: zeros(2 * hidden),
            partials: zeros(norm::partials_length(rows, shape.width)),
            order: vec![0; rows],
        }
    }
}

impl<R: Real> HeadBuffers<R> {
    fn new(shape: &Shape, rows: usize) -> Self {
        let chunk = (LOGITS_ELEMENTS / shape.vocabulary).clamp(HEAD_ROWS.0, HEAD_ROWS.1);
        let held = chunk.min(rows);
        Self {
            chunk,
            input: zeros(rows * shape.width),
            rstd: zeros(rows),
            rows: zeros(held * shape.width),
            drows: zeros(held * shape.width),
            logits: zeros(held * shape.vocabulary),
            active: Vec::with_capacity(rows),
            targets: Vec::with_capacity(rows),
            losses: vec![0.0; rows],
        }
    }
}

/// The extents of the heads for sequences of `length` tokens.
pub(crate) fn heads(shape: &Shape, length: usize) -> Heads {
    Heads { heads: shape.heads, kv_heads: shape.kv_heads, head_width: shape.head_width(), length }
}

fn zeros<R: Real>(length: usize) -> Vec<R> {
    vec![R::ZERO; length]
}
