//! Adapters in the folder layout of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A setting that would change the arithmetic and that these adapters do not have is refused, never ignored.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mellama_storage::{Key, LocalStore, RangeReader, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sums::Sums;
use crate::checkpoint::tensor_file::{TensorFile, TensorFileError};
use crate::lora::{Adapters, LoraError, LoraSpec, Target};
use crate::parameters::Parameters;
use crate::shape::Shape;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// Largest `adapter_config.json` that is read.
const CONFIG_LIMIT_BYTES: u64 = 1 << 20;

/// A folder of adapters that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The store could not be read.
    #[error("{folder}: cannot be read")]
    Store {
        /// The folder.
        folder: String,
        /// The cause.
        source: StoreError,
    },
    /// `adapter_config.json` is not one, or asks for another arithmetic.
    #[error("{folder}: {CONFIG}: {key}: {got}, expected {expected}; these adapters cannot be used exactly")]
    Setting {
        /// The folder.
        folder: String,
        /// The setting.
        key: String,
        /// Its value.
        got: String,
        /// What is supported.
        expected: &'static str,
    },
    /// The specification is impossible.
    #[error("{folder}: {CONFIG}: refused")]
    Lora {
        /// The folder.
        folder: String,
        /// The cause.
        source: LoraError,
    },
    /// The tensor file is damaged or belongs to another model.
    #[error("{folder}: adapters refused")]
    Tensors {
        /// The folder.
        folder: String,
        /// The cause.
        source: TensorFileError,
    },
    /// A tensor that these adapters have no place for.
    #[error("{folder}: {WEIGHTS}: tensor {tensor}: not part of adapters on these projections of this model")]
    Unknown {
        /// The folder.
        folder: String,
        /// The tensor.
        tensor: String,
    },
}

/// Settings of PEFT that say how adapters came about or are handled; every other one that is set changes the arithmetic.
const HANDLING: [&str; 15] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
];

/// What of PEFT's configuration decides the arithmetic.
#[derive(Debug, Deserialize)]
struct RawConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Value,
    #[serde(default)]
    use_rslora: bool,
    bias: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// PEFT's file.
#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own members")]
struct ConfigFile<'a> {
    base_model_name_or_path: &'a str,
    bias: &'static str,
    fan_in_fan_out: bool,
    inference_mode: bool,
    init_lora_weights: bool,
    lora_alpha: f64,
    lora_dropout: f64,
    modules_to_save: Option<Vec<String>>,
    peft_type: &'static str,
    r: usize,
    target_modules: Vec<&'a str>,
    task_type: &'static str,
    use_rslora: bool,
}

/// `adapter_config.json` of these adapters on the model that `base` names; modules without their parent, as PEFT matches them.
///
/// # Panics
/// Never: numbers and names are JSON.
pub fn config_json(spec: &LoraSpec, base: &str) -> Vec<u8> {
    let config = ConfigFile {
        base_model_name_or_path: base,
        bias: "none",
        fan_in_fan_out: false,
        inference_mode: true,
        init_lora_weights: true,
        lora_alpha: spec.alpha,
        lora_dropout: spec.dropout,
        modules_to_save: None,
        peft_type: "LORA",
        r: spec.rank,
        target_modules: spec.targets.iter().map(|target| target.name()).collect(),
        task_type: "CAUSAL_LM",
        use_rslora: spec.rslora,
    };
    let mut bytes = serde_json::to_vec_pretty(&config).expect("numbers and names are JSON");
    bytes.push(b'\n');
    bytes
}

/// Loads the adapters under `folder` (a prefix without a trailing slash, empty for the root) for a model of this shape.
///
/// # Errors
/// [`AdapterError`] for files that are absent, damaged, or ask for what is not supported.
pub fn load(store: &Arc<dyn Store>, folder: &str, shape: &Shape) -> Result<Adapters<f32>, AdapterError> {
    let name = format!("{}/{folder}", store.uri());
    let of_store = |source| AdapterError::Store { folder: name.clone(), source };
    let key = |file: &str| Key::new(if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") });
    let config = key(CONFIG).map_err(of_store)?;
    let meta = store.head(&config).map_err(of_store)?;
    if meta.size_bytes > CONFIG_LIMIT_BYTES {
        let got = format!("{} bytes", meta.size_bytes);
        return Err(AdapterError::Setting { folder: name, key: "size".to_owned(), got, expected: "at most 1 MiB" });
    }
    let bytes = store.read(&config, None, Some(&meta.etag)).map_err(of_store)?;
    let spec = parse(&name, &bytes)?;
    let reader = RangeReader::open(Arc::clone(store), &key(WEIGHTS).map_err(of_store)?).map_err(of_store)?;
    let tensors = |source| AdapterError::Tensors { folder: name.clone(), source };
    Sums::read(store, folder).and_then(|sums| sums.check(store, folder, WEIGHTS)).map_err(tensors)?;
    let mut file = TensorFile::open(WEIGHTS, reader).map_err(tensors)?;
    let mut parameters = Parameters::zeros(Arc::new(spec.layout(shape)));
    if let Some(tensor) = file.tensors().keys().find(|name| parameters.layout.index(name).is_none()) {
        return Err(AdapterError::Unknown { folder: name.clone(), tensor: tensor.clone() });
    }
    for tensor in Arc::clone(&parameters.layout).tensors() {
        file.read(&tensor.name, &tensor.shape, &mut parameters.data[tensor.range()]).map_err(tensors)?;
    }
    Ok(Adapters { spec, parameters, dropout: None })
}

/// Loads adapters from a folder of this machine.
///
/// # Errors
/// As [`load`].
pub fn load_folder(path: &Path, shape: &Shape) -> Result<Adapters<f32>, AdapterError> {
    let source = |source| AdapterError::Store { folder: path.display().to_string(), source };
    let store: Arc<dyn Store> = Arc::new(LocalStore::open_existing(path).map_err(source)?);
    load(&store, "", shape)
}

fn parse(folder: &str, bytes: &[u8]) -> Result<LoraSpec, AdapterError> {
    let refuse = |key: &str, got: String, expected| -> AdapterError {
        AdapterError::Setting { folder: folder.to_owned(), key: key.to_owned(), got, expected }
    };
    let raw: RawConfig =
        serde_json::from_slice(bytes).map_err(|error| refuse("JSON", error.to_string(), "a configuration of PEFT"))?;
    if raw.peft_type != "LORA" {
        return Err(refuse("peft_type", raw.peft_type, "LORA"));
    }
    if let Some(bias) = raw.bias.filter(|bias| bias != "none") {
        return Err(refuse("bias", bias, "none"));
    }
    for (key, value) in &raw.others {
        if !HANDLING.contains(&key.as_str()) && !is_empty(value) {
            return Err(refuse(key, value.to_string(), "nothing"));
        }
    }
    let targets = targets(&raw.target_modules)
        .ok_or_else(|| refuse("target_modules", raw.target_modules.to_string(), "a list of projections, or \"all-linear\""))?;
    let spec = LoraSpec { rank: raw.r, alpha: raw.lora_alpha, dropout: raw.lora_dropout, targets, rslora: raw.use_rslora };
    spec.check().map_err(|source| AdapterError::Lora { folder: folder.to_owned(), source })?;
    Ok(spec)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// The projections that PEFT's names mean, in the order of the model's layout: PEFT writes a set, in any order.
fn targets(names: &Value) -> Option<Vec<Target>> {
    if names.as_str() == Some("all-linear") {
        return Some(Target::ALL.to_vec());
    }
    let mut found = Vec::new();
    for name in names.as_array()? {
        let name = name.as_str()?;
        let is_named = |target: &Target| target.name() == name || target.module() == name;
        found.push(Target::ALL.into_iter().find(is_named)?);
    }
    found.sort_unstable();
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::Arc;

    use mellama_storage::{AttemptId, Key, MemoryStore, Store};

    use super::{CONFIG, WEIGHTS, config_json, load};
    use crate::checkpoint::tensor_file::{Dtype, write_header, write_values};
    use crate::lora::{Adapters, LoraSpec, Target};
    use crate::parameters::Parameters;
    use crate::shape::Shape;

    fn shape() -> Shape {
        Shape::named("tiny", 20).unwrap()
    }

    fn folder(config: &[u8], weights: &Parameters<f32>) -> Arc<dyn Store> {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new("adapters"));
        let mut bytes = Vec::new();
        let tensors = weights.layout.tensors();
        let header: Vec<(&str, &[usize])> = tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
        write_header(WEIGHTS, &mut bytes, (&header, Dtype::F32), &[("format", "pt")]).unwrap();
        write_values(WEIGHTS, &mut bytes, Dtype::F32, &weights.data).unwrap();
        for (name, body) in [(CONFIG, config), (WEIGHTS, bytes.as_slice())] {
            store.put_new(&Key::new(format!("a/{name}")).unwrap(), body, &AttemptId::generate()).unwrap();
        }
        store
    }

    fn spec() -> LoraSpec {
        LoraSpec { rank: 3, alpha: 5.0, dropout: 0.25, targets: vec![Target::Query, Target::Down], rslora: true }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let adapters = Adapters::<f32>::initialised(&shape(), spec(), 3).unwrap();
        let read = load(&folder(&config_json(&spec(), "base"), &adapters.parameters), "a", &shape()).unwrap();
        assert_eq!(read, adapters);
        assert!((spec().scale() - 5.0 / 3.0_f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn names_of_peft_are_understood_in_any_order() {
        let adapters = Adapters::<f32>::initialised(&shape(), spec(), 3).unwrap();
        for targets in [r#"["down_proj","q_proj"]"#, r#"["mlp.down_proj","self_attn.q_proj"]"#] {
            let config = format!(
                r#"{{"peft_type":"LORA","r":3,"lora_alpha":5,"lora_dropout":0.25,"use_rslora":true,"target_modules":{targets},
                "modules_to_save":null,"rank_pattern":{{}},"layers_to_transform":null,"auto_mapping":null}}"#
            );
            assert_eq!(load(&folder(config.as_bytes(), &adapters.parameters), "a", &shape()).unwrap(), adapters);
        }
    }

    #[test]
    fn settings_that_change_the_arithmetic_are_refused() {
        let adapters = Adapters::<f32>::initialised(&shape(), spec(), 3).unwrap();
        for (change, expected) in [
            (r#""peft_type":"IA3""#, "peft_type: IA3"),
            (r#""bias":"all""#, "bias: all"),
            (r#""use_dora":true"#, "use_dora: true"),
            (r#""fan_in_fan_out":true"#, "fan_in_fan_out: true"),
            (r#""modules_to_save":["lm_head"]"#, "modules_to_save"),
            (r#""rank_pattern":{"q_proj":4}"#, "rank_pattern"),
            (r#""target_modules":".*q_proj""#, "target_modules"),
            (r#""target_modules":["embed_tokens"]"#, "target_modules"),
            (r#""r":0"#, "rank"),
            (r#""use_qalora":true"#, "use_qalora: true"),
            (r#""a_setting_of_tomorrow":3"#, "a_setting_of_tomorrow: 3"),
        ] {
            let mut config: serde_json::Value = serde_json::from_slice(&config_json(&spec(), "base")).unwrap();
            let change: serde_json::Value = serde_json::from_str(&format!("{{{change}}}")).unwrap();
            config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let error = load(&folder(config.to_string().as_bytes(), &adapters.parameters), "a", &shape()).unwrap_err();
            let message = format!("{error} {}", error.source().map(ToString::to_string).unwrap_or_default());
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn tensors_of_other_projections_or_models_are_named() {
        let all = Adapters::<f32>::initialised(&shape(), LoraSpec { rank: 3, ..LoraSpec::default() }, 3).unwrap();
        let error = load(&folder(&config_json(&spec(), "base"), &all.parameters), "a", &shape()).unwrap_err();
        assert!(error.to_string().contains("gate_proj.lora_A.weight"), "{error}");
        let own = Adapters::<f32>::initialised(&shape(), spec(), 3).unwrap();
        let wider = Shape { feed_forward: 300, ..shape() };
        let error = load(&folder(&config_json(&spec(), "base"), &own.parameters), "a", &wider).unwrap_err();
        assert!(error.source().unwrap().to_string().contains("down_proj.lora_A.weight: shape"), "{error:?}");
    }
}
