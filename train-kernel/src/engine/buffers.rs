//! The buffers of activations: what each layer keeps, what all layers share.
//!
//! A layer always finds every buffer it needs; whether one is its own or shared with all layers is what a recompute mode is.

use crate::backend::{ArenaPlan, Buffer, Dtype, Part};
use crate::ops::Heads;
use crate::shape::Shape;

use super::spec::{EngineSpec, Purpose, Recompute};

/// What one layer computes. N rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerBuffers {
    /// The residual that enters, `(N, C)`, and the reciprocal roots of its norm, `(N)`.
    pub(super) input: Buffer,
    pub(super) input_rstd: Buffer,
    /// Its norm, `(N, C)`.
    pub(super) input_normed: Buffer,
    /// Queries, keys and values after rotation, `(N, (H + 2K) D)`.
    pub(super) fused: Buffer,
    /// Attention output, `(N, H D)`, and its logarithms, `(H, N)`.
    pub(super) attended: Buffer,
    pub(super) lse: Buffer,
    /// The residual after attention, `(N, C)`, the reciprocal roots of its norm, and the norm.
    pub(super) middle: Buffer,
    pub(super) middle_rstd: Buffer,
    pub(super) middle_normed: Buffer,
    /// Gate and up projections, `(N, 2F)`, and the activation, `(N, F)`.
    pub(super) gate_up: Buffer,
    pub(super) activation: Buffer,
}

/// Every buffer of activations.
#[derive(Clone, Debug)]
pub(super) struct Buffers {
    /// One a layer.
    pub(super) layers: Vec<LayerBuffers>,
    /// What a half layer adds to the residual, `(N, C)`.
    pub(super) delta: Buffer,
    /// The last residual, `(N, C)`, its norm and reciprocal roots.
    pub(super) last: Buffer,
    pub(super) last_normed: Buffer,
    pub(super) last_rstd: Buffer,
    /// `(chunk, V)`
    pub(super) logits: Buffer,
    /// Rows of a chunk.
    pub(super) chunk: usize,
    /// `(N)`
    pub(super) losses: Buffer,
    /// The gradient of the residual, `(N, C)`.
    pub(super) dstream: Buffer,
    pub(super) backward: Option<BackwardBuffers>,
    pub(super) adapters: Option<AdapterBuffers>,
    /// Keys and values of each layer, `(slots, capacity, K D)`.
    pub(super) cache: Vec<[Buffer; 2]>,
}

/// What the backward needs besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackwardBuffers {
    /// Gradient of a normalised input or of the attention output, `(N, C)`.
    pub(super) dnormed: Buffer,
    /// `(N, (H + 2K) D)`
    pub(super) dfused: Buffer,
    /// `(N, F)`
    pub(super) dactivation: Buffer,
    /// `(N, 2F)`
    pub(super) dgate_up: Buffer,
}

/// What adapters need.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdapterBuffers {
    /// Adapter input after dropout, `(N, max(C, F))`, and its gradient; empty without dropout.
    pub(super) input: Buffer,
    pub(super) dinput: Buffer,
    /// A x, `(N, r)`, and its gradient.
    pub(super) low: Buffer,
    pub(super) dlow: Buffer,
}

/// The sizes that decide every buffer.
struct Planner<'p, 's> {
    plan: &'p mut ArenaPlan,
    shape: &'s Shape,
    dtype: Dtype,
    rows: usize,
}

impl Planner<'_, '_> {
    fn values(&mut self, part: Part, width: usize) -> Buffer {
        let length = self.rows * width;
        self.plan.buffer(part, self.dtype, length)
    }

    fn exact(&mut self, part: Part, width: usize) -> Buffer {
        let length = self.rows * width;
        self.plan.buffer(part, Dtype::F32, length)
    }

    /// A layer's buffers. `taken` says of which this plan has room, by the thriftiest mode that keeps them; the others are those
    /// of `rest`, or nothing.
    fn layer(&mut self, part: Part, taken: impl Fn(Recompute) -> bool, rest: Option<&LayerBuffers>) -> LayerBuffers {
        let (c, f, h) = (self.shape.width, self.shape.feed_forward, self.shape.heads);
        let fused = Heads::of(self.shape).fused_width();
        let mut field = |kept_by: Recompute, dtype: Dtype, width: usize, rest: Option<Buffer>| match rest {
            Some(buffer) if !taken(kept_by) => buffer,
            _ => {
                let length = if taken(kept_by) { self.rows * width } else { 0 };
                self.plan.buffer(part, dtype, length)
            }
        };
        let (values, exact) = (self.dtype, Dtype::F32);
        let (always, norms) = (Recompute::Full, Recompute::None);
        LayerBuffers {
            input: field(always, values, c, rest.map(|rest| rest.input)),
            input_rstd: field(Recompute::SelB, exact, 1, rest.map(|rest| rest.input_rstd)),
            input_normed: field(norms, values, c, rest.map(|rest| rest.input_normed)),
            fused: field(Recompute::SelB, values, fused, rest.map(|rest| rest.fused)),
            attended: field(Recompute::SelB, values, c, rest.map(|rest| rest.attended)),
            lse: field(Recompute::SelB, exact, h, rest.map(|rest| rest.lse)),
            middle: field(Recompute::SelB, values, c, rest.map(|rest| rest.middle)),
            middle_rstd: field(Recompute::SelB, exact, 1, rest.map(|rest| rest.middle_rstd)),
            middle_normed: field(norms, values, c, rest.map(|rest| rest.middle_normed)),
            gate_up: field(Recompute::SelA, values, 2 * f, rest.map(|rest| rest.gate_up)),
            activation: field(norms, values, f, rest.map(|rest| rest.activation)),
        }
    }

    /// The buffers of every layer: what the mode keeps is each layer's own, the rest exists once.
    fn layers(&mut self, spec: &EngineSpec) -> Vec<LayerBuffers> {
        let count = self.shape.layers;
        if !spec.trains() {
            return vec![self.layer(Part::Work, |_| true, None); count];
        }
        let kept = |kept_by: Recompute| spec.recompute <= kept_by;
        let shared = self.layer(Part::Work, |kept_by| !kept(kept_by), None);
        (0..count).map(|_| self.layer(Part::Activations, kept, Some(&shared))).collect()
    }
}

impl Buffers {
    /// Adds every buffer to the plan, those of logits for `head_rows` rows.
    pub(super) fn new(plan: &mut ArenaPlan, shape: &Shape, spec: &EngineSpec, head_rows: usize) -> Self {
        let mut planner = Planner { plan, shape, dtype: spec.precision.dtype(), rows: spec.rows };
        let c = shape.width;
        let layers = planner.layers(spec);
        let [delta, last, last_normed] = [c; 3].map(|width| planner.values(Part::Work, width));
        let [last_rstd, losses] = [1; 2].map(|width| planner.exact(Part::Work, width));
        let dstream = planner.values(Part::Work, if spec.trains() { c } else { 0 });
        let backward = spec.trains().then(|| planner.backward());
        let adapters = spec.lora.as_ref().map(|lora| planner.adapters(lora.rank, lora.dropout > 0.0 && spec.trains()));
        let chunk = head_rows.min(spec.rows);
        let dtype = planner.dtype;
        let logits = planner.plan.buffer(Part::Work, dtype, chunk * shape.vocabulary);
        let cache = match spec.purpose {
            Purpose::Decode { slots, capacity } => {
                let length = slots * capacity * shape.kv_width();
                let mut buffer = || planner.plan.buffer(Part::Cache, dtype, length);
                (0..shape.layers).map(|_| [buffer(), buffer()]).collect()
            }
            Purpose::Evaluate | Purpose::Train => Vec::new(),
        };
        Self { layers, delta, last, last_normed, last_rstd, logits, chunk, losses, dstream, backward, adapters, cache }
    }
}

impl Planner<'_, '_> {
    fn backward(&mut self) -> BackwardBuffers {
        let (c, f) = (self.shape.width, self.shape.feed_forward);
        BackwardBuffers {
            dnormed: self.values(Part::Work, c),
            dfused: self.values(Part::Work, Heads::of(self.shape).fused_width()),
            dactivation: self.values(Part::Work, f),
            dgate_up: self.values(Part::Work, 2 * f),
        }
    }

    fn adapters(&mut self, rank: usize, drops: bool) -> AdapterBuffers {
        let wide = if drops { self.shape.width.max(self.shape.feed_forward) } else { 0 };
        AdapterBuffers {
            input: self.values(Part::Work, wide),
            dinput: self.values(Part::Work, wide),
            low: self.values(Part::Work, rank),
            dlow: self.values(Part::Work, rank),
        }
    }
}
