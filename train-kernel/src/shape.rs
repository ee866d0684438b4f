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
    /// How the rotation frequencies are changed for contexts longer than those first trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Keys that a query sees, itself included (sliding window); absent for all of its document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
}

/// A change of the rotation frequencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeScaling {
    /// Every frequency divided by `factor`.
    Linear {
        /// Above 0.
        factor: f64,
    },
    /// That of `LLaMA` 3.1.
    Llama3(Llama3Scaling),
}

/// Long waves slowed by `factor`, short ones left, a smooth step between (`LLaMA` 3.1; Hugging Face's `rope_type = "llama3"`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llama3Scaling {
    /// By how much long waves are slowed.
    pub factor: f64,
    /// Waves that go fewer times than this into the original context are long.
    pub low_frequency_factor: f64,
    /// Waves that go more times than this into the original context are short.
    pub high_frequency_factor: f64,
    /// Positions of the original context.
    pub original_max_positions: usize,
}

/// What is wrong with a [`Shape`].
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ShapeError {
    /// No shape of this name.
    #[error(
        "model shape: unknown name: got {name:?}, expected one of {}; name one of these or give a checkpoint folder",
        SHAPE_NAMES.join(", ")
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
pub const SHAPE_NAMES: [&str; 16] = [
    "llama-7b",
    "llama-13b",
    "llama-30b",
    "llama-65b",
    "llama-2-7b",
    "llama-2-13b",
    "llama-2-70b",
    "llama-3-8b",
    "llama-3-70b",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "llama-3.2-1b",
    "llama-3.2-3b",
    "mistral-7b",
    "tiny",
];

/// C, F, L, H and K of a name.
fn sizes(name: &str) -> Option<[usize; 5]> {
    Some(match name {
        "llama-7b" | "llama-2-7b" => [4096, 11008, 32, 32, 32],
        "llama-13b" | "llama-2-13b" => [5120, 13824, 40, 40, 40],
        "llama-30b" => [6656, 17920, 60, 52, 52],
        "llama-65b" => [8192, 22016, 80, 64, 64],
        "llama-2-70b" | "llama-3-70b" | "llama-3.1-70b" => [8192, 28672, 80, 64, 8],
        "llama-3-8b" | "llama-3.1-8b" | "mistral-7b" => [4096, 14336, 32, 32, 8],
        "llama-3.1-405b" => [16384, 53248, 126, 128, 8],
        "llama-3.2-1b" => [2048, 8192, 16, 32, 8],
        "llama-3.2-3b" => [3072, 8192, 28, 24, 8],
        "tiny" => [96, 256, 3, 6, 2],
        _ => return None,
    })
}

impl Shape {
    /// A published shape by name, with a vocabulary of `vocabulary` tokens (`LLaMA` 1 and 2 and Mistral have 32,000,
    /// `LLaMA` 3 has 128,256). Sizes and constants are those of the published configurations.
    ///
    /// `tiny` is ours: C 96, F 256, L 3, H 6, K 2 (head width 16), 2,048 positions, 487,584 parameters at a vocabulary
    /// of 1,000; small enough to train on a laptop's processor in minutes, and it exercises grouped-query attention.
    ///
    /// # Errors
    /// [`ShapeError::UnknownName`], or [`ShapeError::Field`] for a vocabulary of 0.
    pub fn named(name: &str, vocabulary: usize) -> Result<Self, ShapeError> {
        let [width, feed_forward, layers, heads, kv_heads] =
            sizes(name).ok_or_else(|| ShapeError::UnknownName { name: name.to_owned() })?;
        let first = name.starts_with("llama-") && name.as_bytes().get(7).is_none_or(|&byte| byte != b'-' && byte != b'.');
        let third = name.starts_with("llama-3-") || name.starts_with("llama-3.");
        let scaled = |factor: f64| {
            RopeScaling::Llama3(Llama3Scaling {
                factor,
                low_frequency_factor: 1.0,
                high_frequency_factor: 4.0,
                original_max_positions: 8192,
            })
        };
        let rope_scaling = match name {
            "llama-3.1-8b" | "llama-3.1-70b" | "llama-3.1-405b" => Some(scaled(8.0)),
            "llama-3.2-1b" | "llama-3.2-3b" => Some(scaled(32.0)),
            _ => None,
        };
        let max_positions = match name {
            "tiny" => 2048,
            "llama-3-8b" | "llama-3-70b" => 8192,
            "mistral-7b" => 32_768,
            _ if rope_scaling.is_some() => 131_072,
            _ if first => 2048,
            _ => 4096,
        };
        let shape = Self {
            width,
            feed_forward,
            layers,
            heads,
            kv_heads,
            vocabulary,
            max_positions,
            rope_theta: if third { 500_000.0 } else { 10_000.0 },
            norm_epsilon: if first { 1e-6 } else { 1e-5 },
            tied_embeddings: name.starts_with("llama-3.2-"),
            rope_scaling,
            window: (name == "mistral-7b").then_some(4096),
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
        if self.window == Some(0) {
            return Err(field_error("window", &0, "at least 1: a query sees itself"));
        }
        self.rope_scaling.as_ref().map_or(Ok(()), RopeScaling::check)
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

impl RopeScaling {
    fn check(&self) -> Result<(), ShapeError> {
        let positive = |field, value: f64| {
            let right = value.is_finite() && value > 0.0;
            if right { Ok(()) } else { Err(field_error(field, &value, "a positive finite number")) }
        };
        match self {
            Self::Linear { factor } => positive("rope_scaling.factor", *factor),
            Self::Llama3(scaling) => {
                positive("rope_scaling.factor", scaling.factor)?;
                positive("rope_scaling.low_freq_factor", scaling.low_frequency_factor)?;
                let high = scaling.high_frequency_factor;
                if !high.is_finite() || high <= scaling.low_frequency_factor {
                    return Err(field_error("rope_scaling.high_freq_factor", &high, "more than low_freq_factor"));
                }
                if scaling.original_max_positions == 0 {
                    return Err(field_error("rope_scaling.original_max_position_embeddings", &0, "at least 1"));
                }
                Ok(())
            }
        }
    }
}

fn field_error(field: &'static str, got: &dyn ToString, expected: &str) -> ShapeError {
    ShapeError::Field { field, got: got.to_string(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{RopeScaling, SHAPE_NAMES, Shape, ShapeError};

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
        check("llama-7b", 6_738_415_616, 6_607_077_376, 202_383_360);
    }

    #[test]
    fn golden_counts_of_the_third_generation() {
        // What transformers counts for the published configurations.
        let check = |name: &str, vocabulary: usize, expected: u64| {
            assert_eq!(Shape::named(name, vocabulary).unwrap().parameter_count(), expected, "{name}");
        };
        check("llama-30b", 32_000, 32_528_943_616);
        check("llama-65b", 32_000, 65_285_660_672);
        check("llama-3-8b", 128_256, 8_030_261_248);
        check("llama-3.1-70b", 128_256, 70_553_706_496);
        check("llama-3.1-405b", 128_256, 405_853_388_800);
        check("llama-3.2-1b", 128_256, 1_235_814_400);
        check("llama-3.2-3b", 128_256, 3_212_749_824);
        check("mistral-7b", 32_000, 7_241_732_096);
    }

    #[test]
    fn constants_are_those_of_the_published_configurations() {
        let check = |name: &str, positions: usize, theta: f64, epsilon: f64| {
            let shape = Shape::named(name, 1000).unwrap();
            assert_eq!((shape.max_positions, shape.rope_theta, shape.norm_epsilon), (positions, theta, epsilon), "{name}");
        };
        check("llama-7b", 2048, 1e4, 1e-6);
        check("llama-65b", 2048, 1e4, 1e-6);
        check("llama-2-13b", 4096, 1e4, 1e-5);
        check("llama-3-8b", 8192, 5e5, 1e-5);
        check("llama-3.1-8b", 131_072, 5e5, 1e-5);
        check("llama-3.2-1b", 131_072, 5e5, 1e-5);
        check("mistral-7b", 32_768, 1e4, 1e-5);
        check("tiny", 2048, 1e4, 1e-5);
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
        assert!(matches!(Shape::named("llama-4-8b", 1), Err(ShapeError::UnknownName { .. })));
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
        check(&|shape| shape.window = Some(0), "window");
        check(&|shape| shape.rope_scaling = Some(RopeScaling::Linear { factor: -1.0 }), "rope_scaling.factor");
    }
}
