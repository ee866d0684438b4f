//! `config.json` and `generation_config.json`: what of Hugging Face's LLaMA configuration decides the arithmetic.
//!
//! A setting that would change the result and that this model does not have is refused, never ignored.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::tensor_file::Dtype;
use crate::shape::{Llama3Scaling, RopeScaling, Shape, ShapeError};

/// Base of the rotation when a file names none: the first LLaMA-2 files.
const DEFAULT_ROPE_THETA: f64 = 10_000.0;

/// Ids of the tokens that begin and end a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpecialTokens {
    /// Beginning of a text.
    pub bos: Option<u32>,
    /// End of a text.
    pub eos: Option<u32>,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Sizes and constants of the model.
    pub shape: Shape,
    /// Begin and end tokens.
    pub tokens: SpecialTokens,
}

/// A configuration that this model cannot honour.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the expected JSON.
    #[error("config.json: not a configuration")]
    Json(#[from] serde_json::Error),
    /// A setting asks for another arithmetic.
    #[error("config.json: {key}: {got}, expected {expected}; this model cannot be run exactly")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        got: String,
        /// What is supported.
        expected: String,
    },
    /// The sizes contradict each other.
    #[error("config.json: impossible sizes")]
    Shape(#[from] ShapeError),
}

/// The file as read: everything that changes the arithmetic, and nothing else.
#[derive(Deserialize)]
struct RawConfig {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<RawRope>,
    rope_scaling: Option<RawRope>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<usize>,
    layer_types: Option<Vec<String>>,
    bos_token_id: Option<Value>,
    eos_token_id: Option<Value>,
}

#[derive(Deserialize)]
struct RawRope {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl ModelConfig {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`] for settings that this model would not compute exactly.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let raw: RawConfig = serde_json::from_slice(bytes)?;
        if !["llama", "mistral"].contains(&raw.model_type.as_str()) {
            return Err(setting("model_type", &raw.model_type, "llama or mistral"));
        }
        require("hidden_act", raw.hidden_act.as_deref().unwrap_or("silu"), "silu")?;
        for (key, bias) in [("attention_bias", raw.attention_bias), ("mlp_bias", raw.mlp_bias)] {
            require(key, &bias.unwrap_or(false).to_string(), "false")?;
        }
        let shape = Shape {
            width: raw.hidden_size,
            feed_forward: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            vocabulary: raw.vocab_size,
            // The defaults of the reference class, not of LLaMA-2: a file that relies on them means them.
            max_positions: raw.max_position_embeddings.unwrap_or(2_048),
            rope_theta: rope_theta(&raw)?,
            norm_epsilon: raw.rms_norm_eps.unwrap_or(1e-6),
            tied_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            rope_scaling: rope_scaling(&raw)?,
            window: window(&raw)?,
        };
        shape.check()?;
        if let Some(head_dim) = raw.head_dim.filter(|&width| width != shape.head_width()) {
            return Err(setting("head_dim", &head_dim, &shape.head_width()));
        }
        let tokens = SpecialTokens { bos: first_id(raw.bos_token_id.as_ref()), eos: first_id(raw.eos_token_id.as_ref()) };
        Ok(Self { shape, tokens })
    }

    /// The configuration of a model of this crate whose weights are stored as `dtype`, with nothing left to the defaults of a
    /// reader.
    pub fn to_json(&self, dtype: Dtype) -> Vec<u8> {
        let dtype = match dtype {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
        };
        let shape = &self.shape;
        // Of the two names of this architecture, the one whose readers know of windows.
        let (model_type, architecture) = match shape.window {
            None => ("llama", "LlamaForCausalLM"),
            Some(_) => ("mistral", "MistralForCausalLM"),
        };
        let rope = rope_file(shape);
        let file = ConfigFile {
            architectures: [architecture],
            attention_bias: false,
            attention_dropout: 0.0,
            bos_token_id: self.tokens.bos,
            dtype,
            eos_token_id: self.tokens.eos,
            head_dim: shape.head_width(),
            hidden_act: "silu",
            hidden_size: shape.width,
            initializer_range: 0.02,
            intermediate_size: shape.feed_forward,
            max_position_embeddings: shape.max_positions,
            mlp_bias: false,
            model_type,
            num_attention_heads: shape.heads,
            num_hidden_layers: shape.layers,
            num_key_value_heads: shape.kv_heads,
            rms_norm_eps: shape.norm_epsilon,
            rope_scaling: shape.rope_scaling.is_some().then(|| rope.clone()),
            rope_parameters: rope,
            rope_theta: shape.rope_theta,
            sliding_window: shape.window,
            tie_word_embeddings: shape.tied_embeddings,
            torch_dtype: dtype,
            use_cache: true,
            vocab_size: shape.vocabulary,
        };
        pretty(&file)
    }

    /// `generation_config.json`: greedy by default, with the same begin and end tokens.
    pub fn generation_json(&self) -> Vec<u8> {
        let SpecialTokens { bos, eos } = self.tokens;
        pretty(&GenerationFile { bos_token_id: bos, do_sample: false, eos_token_id: eos })
    }
}

#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own members")]
struct ConfigFile {
    architectures: [&'static str; 1],
    attention_bias: bool,
    attention_dropout: f64,
    bos_token_id: Option<u32>,
    dtype: &'static str,
    eos_token_id: Option<u32>,
    head_dim: usize,
    hidden_act: &'static str,
    hidden_size: usize,
    initializer_range: f64,
    intermediate_size: usize,
    max_position_embeddings: usize,
    mlp_bias: bool,
    model_type: &'static str,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    num_key_value_heads: usize,
    rms_norm_eps: f64,
    rope_parameters: RopeFile,
    rope_scaling: Option<RopeFile>,
    rope_theta: f64,
    sliding_window: Option<usize>,
    tie_word_embeddings: bool,
    torch_dtype: &'static str,
    use_cache: bool,
    vocab_size: usize,
}

#[derive(Clone, Serialize)]
struct RopeFile {
    rope_theta: f64,
    rope_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_max_position_embeddings: Option<usize>,
}

#[derive(Serialize)]
struct GenerationFile {
    bos_token_id: Option<u32>,
    do_sample: bool,
    eos_token_id: Option<u32>,
}

/// The base of the rotation from its three places: `rope_parameters`, the top level, or nowhere.
fn rope_theta(raw: &RawConfig) -> Result<f64, ConfigError> {
    for rope in [&raw.rope_parameters, &raw.rope_scaling].into_iter().flatten() {
        if let Some(factor) = rope.partial_rotary_factor.filter(|&factor| (factor - 1.0).abs() > f64::EPSILON) {
            return Err(setting("partial_rotary_factor", &factor, "1"));
        }
    }
    let nested = raw.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
    if let (Some(nested), Some(top)) = (nested, raw.rope_theta)
        && nested.to_bits() != top.to_bits()
    {
        return Err(setting("rope_theta", &top, &format!("{nested} as in rope_parameters")));
    }
    Ok(nested.or(raw.rope_theta).unwrap_or(DEFAULT_ROPE_THETA))
}

/// The change of the frequencies that either of the two places asks for; both say the same where both are there.
fn rope_scaling(raw: &RawConfig) -> Result<Option<RopeScaling>, ConfigError> {
    let scaled = |rope: &RawRope| -> Result<Option<RopeScaling>, ConfigError> {
        let needed = |key: &'static str, value: Option<f64>| value.ok_or_else(|| setting(key, &"nothing", "a number"));
        match rope.rope_type.as_deref().unwrap_or("default") {
            "default" => Ok(None),
            "linear" => Ok(Some(RopeScaling::Linear { factor: needed("rope factor", rope.factor)? })),
            "llama3" => {
                let positions = rope.original_max_position_embeddings;
                Ok(Some(RopeScaling::Llama3(Llama3Scaling {
                    factor: needed("rope factor", rope.factor)?,
                    low_frequency_factor: needed("low_freq_factor", rope.low_freq_factor)?,
                    high_frequency_factor: needed("high_freq_factor", rope.high_freq_factor)?,
                    original_max_positions: positions
                        .ok_or_else(|| setting("original_max_position_embeddings", &"nothing", "a whole number"))?,
                })))
            }
            other => Err(setting("rope type", &other, "default, linear or llama3")),
        }
    };
    let found: Vec<Option<RopeScaling>> =
        [&raw.rope_parameters, &raw.rope_scaling].into_iter().flatten().map(scaled).collect::<Result<_, _>>()?;
    match found.as_slice() {
        [one, other] if one != other => Err(setting("rope_scaling", &"another change", "the one of rope_parameters")),
        [one, ..] => Ok(one.clone()),
        [] => Ok(None),
    }
}

/// The sliding window of every layer; some layers with and some without one are another model.
fn window(raw: &RawConfig) -> Result<Option<usize>, ConfigError> {
    let windowed = |kind: &String| kind == "sliding_attention";
    match (raw.sliding_window, &raw.layer_types) {
        (Some(_), Some(kinds)) if !kinds.iter().all(windowed) => {
            Err(setting("layer_types", &"layers with and without a window", "one kind"))
        }
        (None, Some(kinds)) if kinds.iter().any(windowed) => Err(setting("sliding_window", &"null", "a number")),
        (window, _) => Ok(window),
    }
}

/// How the rotation is written.
fn rope_file(shape: &Shape) -> RopeFile {
    let plain = RopeFile {
        rope_theta: shape.rope_theta,
        rope_type: "default",
        factor: None,
        low_freq_factor: None,
        high_freq_factor: None,
        original_max_position_embeddings: None,
    };
    match &shape.rope_scaling {
        None => plain,
        Some(RopeScaling::Linear { factor }) => RopeFile { rope_type: "linear", factor: Some(*factor), ..plain },
        Some(RopeScaling::Llama3(scaling)) => RopeFile {
            rope_type: "llama3",
            factor: Some(scaling.factor),
            low_freq_factor: Some(scaling.low_frequency_factor),
            high_freq_factor: Some(scaling.high_frequency_factor),
            original_max_position_embeddings: Some(scaling.original_max_positions),
            ..plain
        },
    }
}

/// A token id, or the first of a list of them.
fn first_id(value: Option<&Value>) -> Option<u32> {
    let value = value?;
    let id = value.as_u64().or_else(|| value.as_array()?.first()?.as_u64())?;
    u32::try_from(id).ok()
}

fn require(key: &'static str, got: &str, expected: &str) -> Result<(), ConfigError> {
    if got == expected { Ok(()) } else { Err(setting(key, &got, expected)) }
}

fn setting(key: &'static str, got: &impl ToString, expected: &(impl ToString + ?Sized)) -> ConfigError {
    ConfigError::Setting { key, got: got.to_string(), expected: expected.to_string() }
}

fn pretty<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("a struct of numbers and strings is JSON");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::{Dtype, ModelConfig, SpecialTokens};
    use crate::shape::{SHAPE_NAMES, Shape};

    fn llama_2(extra: &str) -> String {
        format!(
            r#"{{"model_type":"llama","hidden_size":4096,"intermediate_size":11008,"num_hidden_layers":32,
            "num_attention_heads":32,"vocab_size":32000,"max_position_embeddings":4096,"rms_norm_eps":1e-05,
            "bos_token_id":1,"eos_token_id":[2,3],"hidden_act":"silu","pretraining_tp":1{extra}}}"#
        )
    }

    fn refused(extra: &str) -> String {
        let error = ModelConfig::parse(llama_2(extra).as_bytes()).unwrap_err();
        let cause = error.source().map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    }

    #[test]
    fn llama_2_as_first_published() {
        let config = ModelConfig::parse(llama_2("").as_bytes()).unwrap();
        assert_eq!(config.shape, Shape::named("llama-2-7b", 32_000).unwrap());
        assert_eq!(config.tokens, SpecialTokens { bos: Some(1), eos: Some(2) });
    }

    #[test]
    fn rope_theta_is_found_in_its_three_places() {
        let check = |extra: &str, expected: f64| {
            let got = ModelConfig::parse(llama_2(extra).as_bytes()).unwrap().shape.rope_theta;
            assert!((got - expected).abs() < f64::EPSILON, "{extra}: {got}");
        };
        check("", 10_000.0);
        check(r#","rope_theta":500000.0"#, 500_000.0);
        check(r#","rope_parameters":{"rope_theta":1000000.0,"rope_type":"default"}"#, 1_000_000.0);
        check(r#","rope_theta":5.0,"rope_parameters":{"rope_theta":5.0,"rope_type":"default"}"#, 5.0);
        check(r#","rope_theta":5.0,"rope_scaling":null"#, 5.0);
        let message = refused(r#","rope_theta":5.0,"rope_parameters":{"rope_theta":6.0}"#);
        assert!(message.contains("rope_theta: 5, expected 6 as in rope_parameters"), "{message}");
    }

    #[test]
    fn settings_that_change_the_arithmetic_are_refused() {
        for (extra, key) in [
            (r#","rope_scaling":{"type":"dynamic","factor":2.0}"#, "rope type: dynamic"),
            (r#","rope_parameters":{"rope_type":"llama3","rope_theta":5e5}"#, "rope factor: nothing"),
            (r#","rope_parameters":{"rope_type":"default"},"rope_scaling":{"type":"linear","factor":2.0}"#, "rope_scaling"),
            (r#","sliding_window":8,"layer_types":["full_attention","sliding_attention"]"#, "layer_types"),
            (r#","sliding_window":0"#, "window: got 0"),
            (r#","rope_parameters":{"partial_rotary_factor":0.5}"#, "partial_rotary_factor"),
            (r#","attention_bias":true"#, "attention_bias"),
            (r#","mlp_bias":true"#, "mlp_bias"),
            (r#","head_dim":64"#, "head_dim: 64, expected 128"),
            (r#","num_key_value_heads":5"#, "kv_heads"),
        ] {
            let message = refused(extra);
            assert!(message.contains(key), "{extra}: {message}");
        }
        let other = llama_2("").replace("\"llama\"", "\"qwen2\"");
        assert!(ModelConfig::parse(other.as_bytes()).is_err());
        let gelu = llama_2("").replace("silu", "gelu");
        assert!(ModelConfig::parse(gelu.as_bytes()).is_err());
    }

    #[test]
    fn the_third_generation_and_windows_are_read_and_written() {
        let json = llama_2(
            r#","rope_theta":500000.0,"rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
            "original_max_position_embeddings":8192,"rope_type":"llama3"}"#,
        );
        let config = ModelConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(config.shape.rope_scaling, Shape::named("llama-3.1-8b", 10).unwrap().rope_scaling);
        let mistral = llama_2(r#","sliding_window":4096"#).replace("\"llama\"", "\"mistral\"");
        assert_eq!(ModelConfig::parse(mistral.as_bytes()).unwrap().shape.window, Some(4096));
        for name in SHAPE_NAMES {
            let config = ModelConfig { shape: Shape::named(name, 100).unwrap(), tokens: SpecialTokens::default() };
            assert_eq!(ModelConfig::parse(&config.to_json(Dtype::F32)).unwrap(), config, "{name}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (name, tied, tokens) in [
            ("tiny", true, SpecialTokens { bos: Some(1), eos: Some(2) }),
            ("llama-2-70b", false, SpecialTokens { bos: None, eos: None }),
        ] {
            let shape = Shape { tied_embeddings: tied, rope_theta: 5e5, ..Shape::named(name, 777).unwrap() };
            let config = ModelConfig { shape, tokens };
            assert_eq!(ModelConfig::parse(&config.to_json(Dtype::F32)).unwrap(), config);
            assert!(config.generation_json().ends_with(b"}\n"));
        }
    }
}
