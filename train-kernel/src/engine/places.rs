//! Where the model's matrices and norms lie in the flat buffer, with adjacent projections taken as one matrix.
//!
//! The one place that relies on the order of [`Layout`].

use std::ops::Range;

use crate::lora::Target;
use crate::parameters::Layout;
use crate::shape::Shape;

/// Tensors of a layer, in [`Layout`]'s order.
const LAYER_TENSORS: usize = 9;

/// Projections that share their input and are multiplied as one matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Query, key and value: `[(H + 2K) D, C]`.
    Fused,
    /// Attention output: `[C, C]`.
    Output,
    /// Gate and up: `[2F, C]`.
    GateUp,
    /// Down: `[C, F]`.
    Down,
}

impl Group {
    /// First tensor inside the layer, and number of tensors.
    fn tensors(self) -> (usize, usize) {
        match self {
            Self::Fused => (1, 3),
            Self::Output => (4, 1),
            Self::GateUp => (6, 2),
            Self::Down => (8, 1),
        }
    }

    /// Its projections in the order of their columns in the group's output.
    pub(crate) fn targets(self) -> &'static [Target] {
        match self {
            Self::Fused => &[Target::Query, Target::Key, Target::Value],
            Self::Output => &[Target::Output],
            Self::GateUp => &[Target::Gate, Target::Up],
            Self::Down => &[Target::Down],
        }
    }

    /// (out, in) of the whole group.
    pub(crate) fn extents(self, shape: &Shape) -> (usize, usize) {
        let output = self.targets().iter().map(|target| target.extents(shape).0).sum();
        (output, self.targets()[0].extents(shape).1)
    }
}

/// Ranges of the flat buffer.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    offsets: Vec<Range<usize>>,
    layers: usize,
    tied: bool,
}

impl Places {
    /// The places in this layout.
    pub(crate) fn new(shape: &Shape, layout: &Layout) -> Self {
        let offsets = layout.tensors().iter().map(crate::parameters::TensorSpec::range).collect();
        Self { offsets, layers: shape.layers, tied: shape.tied_embeddings }
    }

    /// Embedding table, `[V, C]`.
    pub(crate) fn embedding(&self) -> Range<usize> {
        self.offsets[0].clone()
    }

    /// Weight of a layer's first norm, `[C]`.
    pub(crate) fn input_norm(&self, layer: usize) -> Range<usize> {
        self.offsets[1 + LAYER_TENSORS * layer].clone()
    }

    /// Weight of a layer's second norm, `[C]`.
    pub(crate) fn middle_norm(&self, layer: usize) -> Range<usize> {
        self.offsets[1 + LAYER_TENSORS * layer + 5].clone()
    }

    /// The matrix of a group, `[out, in]`.
    pub(crate) fn group(&self, layer: usize, group: Group) -> Range<usize> {
        let (first, count) = group.tensors();
        let first = 1 + LAYER_TENSORS * layer + first;
        self.offsets[first].start..self.offsets[first + count - 1].end
    }

    /// Weight of the last norm, `[C]`.
    pub(crate) fn last_norm(&self) -> Range<usize> {
        self.offsets[1 + LAYER_TENSORS * self.layers].clone()
    }

    /// Output projection, `[V, C]`: the embedding table when tied.
    pub(crate) fn head(&self) -> Range<usize> {
        if self.tied { self.embedding() } else { self.offsets[2 + LAYER_TENSORS * self.layers].clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Group, Places};
    use crate::parameters::Layout;
    use crate::shape::Shape;

    #[test]
    fn places_are_those_of_the_names() {
        for tied in [false, true] {
            let shape = Shape { tied_embeddings: tied, ..Shape::named("tiny", 30).unwrap() };
            let layout = Layout::of(&shape);
            let places = Places::new(&shape, &layout);
            let range = |name: &str| layout.tensors()[layout.index(&format!("{name}.weight")).unwrap()].range();
            let span = |first: &str, last: &str| range(first).start..range(last).end;
            let head = if tied { "model.embed_tokens" } else { "lm_head" };
            assert_eq!(places.embedding(), range("model.embed_tokens"));
            assert_eq!(places.head(), range(head));
            assert_eq!(places.last_norm(), range("model.norm"));
            for layer in 0..shape.layers {
                let name = |part: &str| format!("model.layers.{layer}.{part}");
                assert_eq!(places.input_norm(layer), range(&name("input_layernorm")));
                assert_eq!(places.middle_norm(layer), range(&name("post_attention_layernorm")));
                for (group, first, last) in [
                    (Group::Fused, "self_attn.q_proj", "self_attn.v_proj"),
                    (Group::Output, "self_attn.o_proj", "self_attn.o_proj"),
                    (Group::GateUp, "mlp.gate_proj", "mlp.up_proj"),
                    (Group::Down, "mlp.down_proj", "mlp.down_proj"),
                ] {
                    let place = places.group(layer, group);
                    assert_eq!(place, span(&name(first), &name(last)), "{group:?}");
                    let (output, input) = group.extents(&shape);
                    assert_eq!(place.len(), output * input, "{group:?}");
                }
            }
        }
    }
}
