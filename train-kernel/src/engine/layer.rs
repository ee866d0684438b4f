//! One layer: x + attention(norm(x)), then + feed-forward(norm(.)), forward and backward.
//!
//! The residual addition that ends a half belongs to the norm that begins the next one.

use super::Engine;
use super::buffers::LayerBuffers;
use super::places::Group;
use super::spec::{Purpose, Recompute};
use crate::backend::{Attention, AttentionBackward, Buffer, CachedAttention, Norm, NormBackward, Residual, Turn};
use crate::ops::Heads;
use crate::real::Real;

/// A layer's buffers, cut to the rows of a batch.
#[derive(Clone, Copy, Debug)]
struct Cut {
    buffers: LayerBuffers,
    c: usize,
    f: usize,
}

impl<E: Real> Engine<E> {
    /// Takes the residual through the layer: into the first from the embedding, out of each by halves in `middle` and `delta`.
    pub(super) fn layer_forward(&mut self, layer: usize, rows: usize) {
        let cut = self.cut(layer, rows);
        if layer == 0 {
            let table = self.weight(self.model.places().embedding());
            self.backend.embed(table, cut.buffers.input);
            self.input_norm(layer, &cut, None);
        } else {
            let residual = Residual { delta: self.buffers.delta.first(cut.c), sum: cut.buffers.input };
            let before = self.cut(layer - 1, rows).buffers.middle;
            self.input_norm(layer, &cut, Some((before, residual)));
        }
        self.attention_half(layer, &cut);
        self.feed_forward_in(layer, &cut);
        self.backend.swiglu(cut.buffers.gate_up, cut.buffers.activation);
        let delta = self.buffers.delta.first(cut.c);
        self.project((layer, Group::Down), cut.buffers.activation, delta);
    }

    fn cut(&self, layer: usize, rows: usize) -> Cut {
        let shape = self.model.shape();
        let (c, f) = (rows * shape.width, rows * shape.feed_forward);
        let whole = self.buffers.layers[layer];
        let buffers = LayerBuffers {
            input: whole.input.first(c),
            input_rstd: whole.input_rstd.first(rows),
            input_normed: whole.input_normed.first(c),
            fused: whole.fused.first(rows * Heads::of(shape).fused_width()),
            attended: whole.attended.first(c),
            lse: whole.lse.first(rows * shape.heads),
            middle: whole.middle.first(c),
            middle_rstd: whole.middle_rstd.first(rows),
            middle_normed: whole.middle_normed.first(c),
            gate_up: whole.gate_up.first(2 * f),
            activation: whole.activation.first(f),
        };
        Cut { buffers, c, f }
    }

    /// The first norm, with the addition that ended the layer before, if any.
    fn input_norm(&mut self, layer: usize, cut: &Cut, before: Option<(Buffer, Residual)>) {
        let (x, residual) = before.map_or((cut.buffers.input, None), |(x, residual)| (x, Some(residual)));
        let weight = self.weight(self.model.places().input_norm(layer));
        let (out, rstd) = (cut.buffers.input_normed, cut.buffers.input_rstd);
        let epsilon = self.model.shape().norm_epsilon;
        self.backend.norm(Norm { x, residual, weight, epsilon, out, rstd });
    }

    /// From the normalised input to the normalised middle.
    fn attention_half(&mut self, layer: usize, cut: &Cut) {
        let LayerBuffers { input, input_normed, fused, attended, lse, middle, middle_rstd, middle_normed, .. } = cut.buffers;
        self.project((layer, Group::Fused), input_normed, fused);
        self.backend.rotate(fused, Turn::Forward);
        match self.spec.purpose {
            Purpose::Decode { capacity, .. } => {
                let [keys, values] = self.buffers.cache[layer];
                self.backend.attend_cached(CachedAttention { fused, keys, values, capacity, out: attended });
            }
            Purpose::Evaluate | Purpose::Train => self.backend.attend(Attention { fused, out: attended, lse }),
        }
        let delta = self.buffers.delta.first(cut.c);
        self.project((layer, Group::Output), attended, delta);
        let weight = self.weight(self.model.places().middle_norm(layer));
        let residual = Some(Residual { delta, sum: middle });
        let epsilon = self.model.shape().norm_epsilon;
        self.backend.norm(Norm { x: input, residual, weight, epsilon, out: middle_normed, rstd: middle_rstd });
    }

    fn feed_forward_in(&mut self, layer: usize, cut: &Cut) {
        self.project((layer, Group::GateUp), cut.buffers.middle_normed, cut.buffers.gate_up);
    }

    /// Takes the gradient of the residual back through the layer, in place; gradients of weights or adapters `+=`.
    pub(super) fn layer_backward(&mut self, layer: usize, rows: usize) {
        let cut = self.cut(layer, rows);
        let (places, buffers) = (self.model.places(), cut.buffers);
        let (input_norm, middle_norm) = (self.weight(places.input_norm(layer)), self.weight(places.middle_norm(layer)));
        let mode = self.spec.recompute;
        match mode {
            Recompute::None => {}
            Recompute::SelA | Recompute::SelB => {
                self.backend.norm_rebuild(buffers.middle, middle_norm, buffers.middle_rstd, buffers.middle_normed);
                if mode == Recompute::SelB {
                    self.feed_forward_in(layer, &cut);
                }
            }
            Recompute::Full => {
                self.input_norm(layer, &cut, None);
                self.attention_half(layer, &cut);
                self.feed_forward_in(layer, &cut);
            }
        }
        self.feed_forward_backward(layer, &cut);
        if matches!(mode, Recompute::SelA | Recompute::SelB) {
            self.backend.norm_rebuild(buffers.input, input_norm, buffers.input_rstd, buffers.input_normed);
        }
        self.attention_backward(layer, &cut);
    }

    fn feed_forward_backward(&mut self, layer: usize, cut: &Cut) {
        let LayerBuffers { middle, middle_rstd, middle_normed, gate_up, activation, .. } = cut.buffers;
        let backward = self.buffers.backward.expect("an engine for training has these buffers");
        let dstream = self.buffers.dstream.first(cut.c);
        let (dnormed, dactivation) = (backward.dnormed.first(cut.c), backward.dactivation.first(cut.f));
        let dgate_up = backward.dgate_up.first(2 * cut.f);
        self.input_gradient((layer, Group::Down), dstream, dactivation);
        self.backend.swiglu_backward(gate_up, dactivation, dgate_up, activation);
        self.weight_gradients((layer, Group::Down), activation, dstream);
        self.input_gradient((layer, Group::GateUp), dgate_up, dnormed);
        self.weight_gradients((layer, Group::GateUp), middle_normed, dgate_up);
        let place = self.model.places().middle_norm(layer);
        let (weight, dweight) = (self.weight(place.clone()), self.gradient(place));
        self.backend.norm_backward(NormBackward { x: middle, weight, rstd: middle_rstd, dout: dnormed, dx: dstream, dweight });
    }

    fn attention_backward(&mut self, layer: usize, cut: &Cut) {
        let LayerBuffers { input, input_rstd, input_normed, fused, attended, lse, .. } = cut.buffers;
        let backward = self.buffers.backward.expect("an engine for training has these buffers");
        let dstream = self.buffers.dstream.first(cut.c);
        let (dnormed, dfused) = (backward.dnormed.first(cut.c), backward.dfused.first(fused.length()));
        self.input_gradient((layer, Group::Output), dstream, dnormed);
        self.weight_gradients((layer, Group::Output), attended, dstream);
        let forward = Attention { fused, out: attended, lse };
        self.backend.attend_backward(AttentionBackward { forward, dout: dnormed, dfused });
        self.backend.rotate(dfused, Turn::Back);
        self.input_gradient((layer, Group::Fused), dfused, dnormed);
        self.weight_gradients((layer, Group::Fused), input_normed, dfused);
        let place = self.model.places().input_norm(layer);
        let (weight, dweight) = (self.weight(place.clone()), self.gradient(place));
        self.backend.norm_backward(NormBackward { x: input, weight, rstd: input_rstd, dout: dnormed, dx: dstream, dweight });
    }
}
