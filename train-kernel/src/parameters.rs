//! Named tensors in one flat buffer, in one fixed order: weights, gradients and optimizer moments alike.
//!
//! The order is that of computation, with the query, key and value projections adjacent, and the gate and up
//! projections too, so that each group is one matrix in memory without a copy. It knows nothing of files.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};

use crate::random::{Purpose, Stream};
use crate::real::Real;
use crate::shape::Shape;

/// Elements that one parallel task fills or converts; fixed, so that no result depends on the number of threads.
const CHUNK_ELEMENTS: usize = 16_384;
/// Standard deviation of initial matrices; residual projections are scaled by 1 / sqrt(2 L) as in GPT-2.
const INITIAL_DEVIATION: f64 = 0.02;

/// One tensor of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in a Hugging Face (or, for adapters, PEFT) file.
    pub name: String,
    /// `[out, in]` of a matrix, `[C]` of a norm.
    pub shape: Vec<usize>,
    /// Its first element in the flat buffer.
    pub offset: usize,
    /// Whether it is a matrix: weight decay applies to matrices only.
    pub matrix: bool,
}

impl TensorSpec {
    /// Number of elements.
    pub fn length(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its elements in the flat buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.length()
    }
}

/// Where every tensor lies in the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    length: usize,
}

impl Layout {
    /// The tensors of a base model: embedding, then per layer input norm, q, k, v, o, post-attention norm, gate, up,
    /// down; the last norm; the output projection unless it is tied to the embedding.
    pub fn of(shape: &Shape) -> Self {
        let [c, f, kv, v] = [shape.width, shape.feed_forward, shape.kv_width(), shape.vocabulary];
        let mut layout = Self { tensors: Vec::with_capacity(9 * shape.layers + 3), length: 0 };
        layout.push("model.embed_tokens.weight".to_owned(), vec![v, c]);
        for layer in 0..shape.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            layout.push(name("input_layernorm"), vec![c]);
            layout.push(name("self_attn.q_proj"), vec![c, c]);
            layout.push(name("self_attn.k_proj"), vec![kv, c]);
            layout.push(name("self_attn.v_proj"), vec![kv, c]);
            layout.push(name("self_attn.o_proj"), vec![c, c]);
            layout.push(name("post_attention_layernorm"), vec![c]);
            layout.push(name("mlp.gate_proj"), vec![f, c]);
            layout.push(name("mlp.up_proj"), vec![f, c]);
            layout.push(name("mlp.down_proj"), vec![c, f]);
        }
        layout.push("model.norm.weight".to_owned(), vec![c]);
        if !shape.tied_embeddings {
            layout.push("lm_head.weight".to_owned(), vec![v, c]);
        }
        layout
    }

    /// A layout of these tensors, one after the other.
    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, Vec<usize>)>) -> Self {
        let mut layout = Self { tensors: Vec::new(), length: 0 };
        for (name, shape) in tensors {
            layout.push(name, shape);
        }
        layout
    }

    /// Every tensor in order; each begins where the one before it ends.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Elements of all tensors together.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The index of the tensor of this name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.tensors.iter().position(|tensor| tensor.name == name)
    }

    fn push(&mut self, name: String, shape: Vec<usize>) {
        let tensor = TensorSpec { name, matrix: shape.len() > 1, shape, offset: self.length };
        self.length += tensor.length();
        self.tensors.push(tensor);
    }
}

/// A value for every element of a layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters<R: Real> {
    /// Where each tensor lies.
    pub layout: Arc<Layout>,
    /// All tensors, flat, `layout.length()` elements.
    pub data: Vec<R>,
}

impl<R: Real> Parameters<R> {
    /// All zero.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let data = vec![R::ZERO; layout.length()];
        Self { layout, data }
    }

    /// All zero, of the same layout.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self::zeros(Arc::clone(&self.layout))
    }

    /// Fresh weights of a base model: matrices normal with deviation 0.02, those that end in the residual stream
    /// (`o_proj`, `down_proj`) divided by sqrt(2 L), norms 1. Each element is a pure function of
    /// (`seed`, tensor index, element index).
    pub fn initialised(shape: &Shape, seed: u64) -> Self {
        let layout = Arc::new(Layout::of(shape));
        let mut parameters = Self::zeros(Arc::clone(&layout));
        let residual = INITIAL_DEVIATION / (2.0 * shape.layers as f64).sqrt();
        for (index, tensor) in layout.tensors().iter().enumerate() {
            let scaled = tensor.name.ends_with("o_proj.weight") || tensor.name.ends_with("down_proj.weight");
            let deviation = if scaled { residual } else { INITIAL_DEVIATION };
            let stream = Stream::new(seed, Purpose::Initialisation, 0, index);
            let values = &mut parameters.data[tensor.range()];
            if tensor.matrix {
                fill(values, |element| deviation * stream.normal(element));
            } else {
                values.fill(R::ONE);
            }
        }
        parameters
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&[R]> {
        self.layout.index(name).map(|index| self.slice(index))
    }

    /// The tensor at this index of the layout.
    ///
    /// # Panics
    /// When the layout has fewer tensors.
    pub fn slice(&self, index: usize) -> &[R] {
        &self.data[self.layout.tensors()[index].range()]
    }

    /// The tensor at this index of the layout, to change.
    ///
    /// # Panics
    /// When the layout has fewer tensors.
    pub fn slice_mut(&mut self, index: usize) -> &mut [R] {
        let range = self.layout.tensors()[index].range();
        &mut self.data[range]
    }

    /// The same values in another width, rounded to nearest.
    pub fn cast<S: Real>(&self) -> Parameters<S> {
        let data = self.data.iter().map(|value| S::from_f64(value.to_f64())).collect();
        Parameters { layout: Arc::clone(&self.layout), data }
    }
}

/// Sets every element to a function of its index, in parallel.
pub(crate) fn fill<R: Real>(values: &mut [R], value_of: impl Fn(u64) -> f64 + Sync) {
    values.par_chunks_mut(CHUNK_ELEMENTS).enumerate().for_each(|(chunk, values)| {
        let first = (chunk * CHUNK_ELEMENTS) as u64;
        for (index, value) in values.iter_mut().enumerate() {
            *value = R::from_f64(value_of(first + index as u64));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{Layout, Parameters};
    use crate::shape::Shape;

    fn tiny() -> Shape {
        Shape::named("tiny", 50).unwrap()
    }

    #[test]
    fn the_layout_covers_the_buffer_exactly_in_order() {
        for tied in [false, true] {
            for name in ["tiny", "llama-2-7b", "llama-2-70b"] {
                let shape = Shape { tied_embeddings: tied, ..Shape::named(name, 32_000).unwrap() };
                let layout = Layout::of(&shape);
                let mut offset = 0;
                for tensor in layout.tensors() {
                    assert_eq!(tensor.offset, offset, "{}", tensor.name);
                    offset += tensor.length();
                }
                assert_eq!(offset, layout.length());
                assert_eq!(layout.length() as u64, shape.parameter_count());
                assert_eq!(layout.index("lm_head.weight").is_none(), tied);
            }
        }
    }

    #[test]
    fn matrices_and_norms_are_told_apart() {
        for tensor in Layout::of(&tiny()).tensors() {
            assert_eq!(tensor.matrix, !tensor.name.contains("norm"), "{}", tensor.name);
        }
    }

    #[test]
    fn initial_weights_have_the_documented_spread() {
        let shape = tiny();
        let parameters = Parameters::<f64>::initialised(&shape, 1);
        for (index, tensor) in parameters.layout.tensors().iter().enumerate() {
            let values = parameters.slice(index);
            let count = values.len() as f64;
            let deviation = (values.iter().map(|value| value * value).sum::<f64>() / count).sqrt();
            if !tensor.matrix {
                assert!(values.iter().all(|value| value.to_bits() == 1.0_f64.to_bits()));
                continue;
            }
            let scaled = tensor.name.contains("o_proj") || tensor.name.contains("down_proj");
            let expected = if scaled { 0.02 / 6.0_f64.sqrt() } else { 0.02 };
            // A deviation estimated from n values is off by about 1 / sqrt(2 n), relative; five of these.
            let bound = 5.0 * expected / (2.0 * count).sqrt();
            assert!((deviation - expected).abs() < bound, "{}: {deviation}", tensor.name);
        }
    }

    #[test]
    fn determinism_of_initial_weights() {
        let shape = tiny();
        let first = Parameters::<f32>::initialised(&shape, 1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(first, pool.install(|| Parameters::<f32>::initialised(&shape, 1)));
        assert_ne!(first.data, Parameters::<f32>::initialised(&shape, 2).data);
        assert_eq!(first, Parameters::<f64>::initialised(&shape, 1).cast::<f32>());
    }
}
