//! One layer: x + attention(norm(x)), then + feed-forward(norm(.)), forward and backward.
//!
//! Everything it needs between the two is in [`Kept`]; norms and activations are rebuilt.

use super::Gradients;
use super::projection::Weights;
use super::weights::Group;
use super::workspace::{AdapterBuffers, Kept, Scratch, heads};
use crate::batch::Batch;
use crate::ops::rope::{RotationTable, to_heads, to_tokens};
use crate::ops::{attention, norm, swiglu};
use crate::real::Real;

/// One layer of one batch.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a, R: Real> {
    pub(super) index: usize,
    pub(super) weights: Weights<'a, R>,
    pub(super) rotation: &'a RotationTable,
    pub(super) batch: &'a Batch,
}

impl<R: Real> Layer<'_, R> {
    /// Takes `scratch.stream (N, C)` through the layer, in place, filling `kept`.
    pub(super) fn forward(self, kept: &mut Kept<R>, scratch: &mut Scratch<R>, buffers: &mut AdapterBuffers<R>) {
        let (shape, places, rows) = (self.weights.shape, self.weights.places, self.batch.rows());
        let (c, kv, f) = (rows * shape.width, rows * shape.kv_width(), rows * shape.feed_forward);
        let heads = heads(shape, self.batch.sequence_length());
        let (stream, normed) = (&mut scratch.stream[..c], &mut scratch.normed[..c]);
        kept.input[..c].copy_from_slice(stream);
        let weight = self.weights.at(places.input_norm(self.index));
        norm::forward(stream, weight, shape.norm_epsilon, normed, &mut kept.input_rstd[..rows]);
        let fused = &mut scratch.fused[..rows * shape.qkv_width()];
        self.weights.project((self.index, Group::Fused), normed, R::ZERO, fused, buffers);
        let (q, k, v) = (&mut kept.q[..c], &mut kept.k[..kv], &mut kept.v[..kv]);
        self.rotation.split(heads, fused, self.batch.positions(), (q, k, v));
        let by_head = &mut scratch.by_head[..c];
        let inputs = (&kept.q[..c], &kept.k[..kv], &kept.v[..kv]);
        let lse = &mut kept.lse[..rows * shape.heads];
        let segments = |sequence| self.batch.segments(sequence);
        attention::forward(heads, segments, inputs, &mut scratch.scores, (by_head, lse));
        let attended = &mut kept.attended[..c];
        to_tokens(heads, by_head, attended);
        self.weights.project((self.index, Group::Output), attended, R::ONE, stream, buffers);

        kept.middle[..c].copy_from_slice(stream);
        let weight = self.weights.at(places.middle_norm(self.index));
        norm::forward(stream, weight, shape.norm_epsilon, normed, &mut kept.middle_rstd[..rows]);
        let gate_up = &mut kept.gate_up[..2 * f];
        self.weights.project((self.index, Group::GateUp), normed, R::ZERO, gate_up, buffers);
        let activation = &mut scratch.activation[..f];
        swiglu::forward(gate_up, activation, shape.feed_forward);
        self.weights.project((self.index, Group::Down), activation, R::ONE, stream, buffers);
    }

    /// Takes the gradient in `scratch.stream (N, C)` back through the layer, in place; gradients of weights or adapters
    /// `+=`.
    pub(super) fn backward(
        self,
        kept: &Kept<R>,
        scratch: &mut Scratch<R>,
        gradients: &mut Gradients<'_, R>,
        buffers: &mut AdapterBuffers<R>,
    ) {
        self.feed_forward_backward(kept, scratch, gradients, buffers);
        self.attention_backward(kept, scratch, gradients, buffers);
    }

    fn feed_forward_backward(
        self,
        kept: &Kept<R>,
        scratch: &mut Scratch<R>,
        gradients: &mut Gradients<'_, R>,
        buffers: &mut AdapterBuffers<R>,
    ) {
        let (shape, rows) = (self.weights.shape, self.batch.rows());
        let (c, f) = (rows * shape.width, rows * shape.feed_forward);
        let (activation, dactivation) = (&mut scratch.activation[..f], &mut scratch.dactivation[..f]);
        let (down, gate_up) = ((self.index, Group::Down), (self.index, Group::GateUp));
        self.weights.input_gradient(down, &scratch.stream[..c], dactivation, buffers);
        let dgate_up = &mut scratch.dgate_up[..2 * f];
        swiglu::backward(&kept.gate_up[..2 * f], dactivation, dgate_up, activation, shape.feed_forward);
        self.weights.weight_gradients(down, (activation, &scratch.stream[..c]), gradients, buffers);
        let place = self.weights.places.middle_norm(self.index);
        let (x, rstd) = (&kept.middle[..c], &kept.middle_rstd[..rows]);
        let normed = &mut scratch.normed[..c];
        norm::rebuild(x, self.weights.at(place.clone()), rstd, normed);
        let dnormed = &mut scratch.dnormed[..c];
        self.weights.input_gradient(gate_up, dgate_up, dnormed, buffers);
        self.weights.weight_gradients(gate_up, (normed, dgate_up), gradients, buffers);
        norm::backward(x, self.weights.at(place.clone()), rstd, dnormed, &mut scratch.stream[..c]);
        if let Gradients::Full(gradients) = gradients {
            norm::weight_backward(x, rstd, dnormed, &mut scratch.partials, &mut gradients.data[place]);
        }
    }

    fn attention_backward(
        self,
        kept: &Kept<R>,
        scratch: &mut Scratch<R>,
        gradients: &mut Gradients<'_, R>,
        buffers: &mut AdapterBuffers<R>,
    ) {
        let (shape, rows) = (self.weights.shape, self.batch.rows());
        let (c, kv) = (rows * shape.width, rows * shape.kv_width());
        let heads = heads(shape, self.batch.sequence_length());
        let dnormed = &mut scratch.dnormed[..c];
        let (output, qkv) = ((self.index, Group::Output), (self.index, Group::Fused));
        self.weights.input_gradient(output, &scratch.stream[..c], dnormed, buffers);
        self.weights.weight_gradients(output, (&kept.attended[..c], &scratch.stream[..c]), gradients, buffers);
        let by_head = &mut scratch.by_head[..c];
        to_heads(heads, dnormed, by_head);
        let (dq, dk, dv) = (&mut scratch.dq[..c], &mut scratch.dk[..kv], &mut scratch.dv[..kv]);
        let inputs = (&kept.q[..c], &kept.k[..kv], &kept.v[..kv], &kept.lse[..rows * shape.heads]);
        let segments = |sequence| self.batch.segments(sequence);
        let scores = &mut scratch.scores;
        attention::backward(heads, segments, inputs, by_head, scores, (&mut *dq, &mut *dk, &mut *dv));
        let fused = &mut scratch.fused[..rows * shape.qkv_width()];
        self.rotation.join(heads, (dq, dk, dv), self.batch.positions(), fused);
        let place = self.weights.places.input_norm(self.index);
        let (x, rstd) = (&kept.input[..c], &kept.input_rstd[..rows]);
        let normed = &mut scratch.normed[..c];
        norm::rebuild(x, self.weights.at(place.clone()), rstd, normed);
        self.weights.input_gradient(qkv, fused, dnormed, buffers);
        self.weights.weight_gradients(qkv, (normed, fused), gradients, buffers);
        norm::backward(x, self.weights.at(place.clone()), rstd, dnormed, &mut scratch.stream[..c]);
        if let Gradients::Full(gradients) = gradients {
            norm::weight_backward(x, rstd, dnormed, &mut scratch.partials, &mut gradients.data[place]);
        }
    }
}
