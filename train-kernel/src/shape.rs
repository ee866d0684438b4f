//! The sizes of one `LLaMA` model and the counts that follow from them.
//!
//! Pure arithmetic: nothing here allocates a tensor, so the largest shape costs nothing to describe.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The sizes of a model. Letters in brackets are the ones used for shapes everywhere in this crate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Model width (`C`); a multiple of `heads`.
    pub width: usize,
    /// Width of the gated feed-forward layer (`F`).
    pub feed_forward: usize,
    /// Number of layers (`L`).
    pub layers: usize,
    /// Query heads (`H`).
    pub heads: usize,
    /// Key-value heads (`K`); divides `heads`. Equal to `heads` for plain multi-head attention.
    pub kv_heads: usize,
    /// Vocabulary size (`V`).
    pub vocabulary: usize,
    /// Positions a document may have: the length of the rotation table.
    pub max_positions: usize,
    /// Base of the rotation frequencies.
    pub rope_theta: f64,
    /// Added to the mean square before the root in every norm.
    pub norm_epsilon: f64,
    /// Whether the output projection is the embedding table itself.
    pub tied_embeddings: bool,
}

/// What is wrong with a [`Shape`].
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ShapeError {
    /// No shape of this name.
    #[error(
        "model shape: unknown name: got {name:?}, expected one of llama-2-7b, llama-2-13b, llama-2-70b, tiny; name one of these or give a checkpoint folder"
    )]
    UnknownName {
        /// The name asked for.
        name: String,
    },
    /// A size is zero, does not divide another, or is not a positive finite number.
    #[error("model shape: {field}: got {got}, expected {expected}; correct the model's configuration")]
    Field {
        /// The offending field.
        field: &'static str,
        /// Its value.
        got: String,
        /// What would be right.
        expected: String,
    },
}

/// The names that [`Shape::named`] knows.
pub const SHAPE_NAMES: [&str; 4] = ["llama-2-7b", "llama-2-13b", "llama-2-70b", "tiny"];

impl Shape {
    /// A published shape by name, with a vocabulary of `vocabulary` tokens (`LLaMA` 2 has 32,000).
    ///
    /// `tiny` is ours: C 96, F 256, L 3, H 6, K 2 (head width 16), 2,048 positions, 487,584 parameters at a vocabulary
    /// of 1,000; small enough to train on a laptop's processor in minutes, and it exercises grouped-query attention.
    ///
    /// # Errors
    /// [`ShapeError::UnknownName`], or [`ShapeError::Field`] for a vocabulary of 0.
    pub fn named(name: &str, vocabulary: usize) -> Result<Self, ShapeError> {
        let [c, f, l, h, k, positions] = match name {
            "llama-2-7b" => [4096, 11008, 32, 32, 32, 4096],
            "llama-2-13b" => [5120, 13824, 40, 40, 40, 4096],
            "llama-2-70b" => [8192, 28672, 80, 64, 8, 4096],
            "tiny" => [96, 256, 3, 6, 2, 2048],
            _ => {
                return Err(ShapeError::UnknownName { name: name.to_owned() });
            }
        };
        let shape = Self {
            width: c,
            feed_forward: f,
            layers: l,
            heads: h,
            kv_heads: k,
            vocabulary,
            max_positions: positions,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-5,
            tied_embeddings: false,
        };
        shape.check()?;
        Ok(shape)
    }

    /// Checks every divisibility and range that the model relies on.
    ///
    /// # Errors
    /// [`ShapeError::Field`] for the first field that cannot be right.
    pub fn check(&self) -> Result<(), ShapeError> {
        let sizes = [
            ("width", self.width),
            ("feed_forward", self.feed_forward),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("vocabulary", self.vocabulary),
            ("max_positions", self.max_positions),
        ];
        for (field, size) in sizes {
            if size == 0 || u32::try_from(size).is_err() {
                return Err(field_error(field, &size, "a whole number from 1 to 4294967295"));
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(field_error("width", &self.width, &format!("a multiple of heads ({})", self.heads)));
        }
        if !self.head_width().is_multiple_of(2) {
            return Err(field_error("head width", &self.head_width(), "an even number, rotation works on pairs"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(field_error("kv_heads", &self.kv_heads, &format!("a divisor of heads ({})", self.heads)));
        }
        for (field, value) in [("rope_theta", self.rope_theta), ("norm_epsilon", self.norm_epsilon)] {
            if !value.is_finite() || value <= 0.0 {
                return Err(field_error(field, &value, "a positive finite number"));
            }
        }
        Ok(())
    }

    /// Width of one head (`D` = C / H).
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Width of all key heads together (K D), which is also that of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width()
    }

    /// Width of the fused query, key and value projection (C + 2 K D).
    pub fn qkv_width(&self) -> usize {
        self.width + 2 * self.kv_width()
    }

    /// Query heads that share one key-value head (H / K).
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Parameters of one layer: 2 C^2 + 2 C K D + 3 C F + 2 C.
    pub fn layer_parameter_count(&self) -> u64 {
        let [c, kv, f] = [self.width, self.kv_width(), self.feed_forward].map(|size| size as u64);
        2 * c * c + 2 * c * kv + 3 * c * f + 2 * c
    }

    /// All parameters: L layers, the embedding, the output projection unless tied, the last norm.
    pub fn parameter_count(&self) -> u64 {
        let [c, v, l] = [self.width, self.vocabulary, self.layers].map(|size| size as u64);
        let tables = if self.tied_embeddings { 1 } else { 2 };
        l * self.layer_parameter_count() + tables * v * c + c
    }

    /// Parameters that a token is multiplied with (`Nm`): all but the norms and the embedding table; the output
    /// projection counts once whether or not it is tied.
    pub fn matrix_parameter_count(&self) -> u64 {
        let [c, v, l] = [self.width, self.vocabulary, self.layers].map(|size| size as u64);
        l * (self.layer_parameter_count() - 2 * c) + v * c
    }
}

fn field_error(field: &'static str, got: &dyn ToString, expected: &str) -> ShapeError {
    ShapeError::Field { field, got: got.to_string(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{SHAPE_NAMES, Shape, ShapeError};

    #[test]
    fn golden_counts_of_the_published_shapes() {
        let check = |name: &str, n: u64, matrices: u64, layer: u64| {
            let shape = Shape::named(name, 32_000).unwrap();
            assert_eq!(shape.parameter_count(), n, "{name}");
            assert_eq!(shape.matrix_parameter_count(), matrices, "{name}");
            assert_eq!(shape.layer_parameter_count(), layer, "{name}");
        };
        check("llama-2-7b", 6_738_415_616, 6_607_077_376, 202_383_360);
        check("llama-2-13b", 13_015_864_320, 12_851_609_600, 317_204_480);
        check("llama-2-70b", 68_976_648_192, 68_713_185_280, 855_654_400);
    }

    #[test]
    fn tiny_has_the_documented_count() {
        assert_eq!(Shape::named("tiny", 1000).unwrap().parameter_count(), 487_584);
        let tied = Shape { tied_embeddings: true, ..Shape::named("tiny", 1000).unwrap() };
        assert_eq!(tied.parameter_count(), 487_584 - 96_000);
    }

    #[test]
    fn every_name_is_known_and_others_are_not() {
        for name in SHAPE_NAMES {
            assert!(Shape::named(name, 32_000).is_ok(), "{name}");
        }
        assert!(matches!(Shape::named("llama-3-8b", 1), Err(ShapeError::UnknownName { .. })));
    }

    #[test]
    fn impossible_sizes_are_refused_by_field() {
        let check = |change: &dyn Fn(&mut Shape), expected: &str| {
            let mut shape = Shape::named("tiny", 10).unwrap();
            change(&mut shape);
            match shape.check() {
                Err(ShapeError::Field { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        };
        check(&|shape| shape.width = 0, "width");
        check(&|shape| shape.width = 97, "width");
        check(&|shape| shape.width = 6 * 15, "head width");
        check(&|shape| shape.kv_heads = 4, "kv_heads");
        check(&|shape| shape.vocabulary = 0, "vocabulary");
        check(&|shape| shape.norm_epsilon = 0.0, "norm_epsilon");
        check(&|shape| shape.rope_theta = f64::NAN, "rope_theta");
        check(&|shape| shape.layers = usize::MAX, "layers");
    }
}
