//! Model folders saved and loaded again, and folders that must be refused.

use std::error::Error;
use std::sync::Arc;

use mellama_storage::{AttemptId, Key, MemoryStore, Store};

use super::{HfError, load};
use crate::checkpoint::tensor_file::{Dtype, write_header, write_values};
use crate::hf::{ModelConfig, SpecialTokens, WeightForm, save};
use crate::parameters::Parameters;
use crate::shape::Shape;

const TOKENS: SpecialTokens = SpecialTokens { bos: Some(1), eos: Some(2) };

fn config(tied: bool) -> ModelConfig {
    ModelConfig { shape: Shape { tied_embeddings: tied, ..Shape::named("tiny", 24).unwrap() }, tokens: TOKENS }
}

fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new("hf"))
}

fn all(store: &Arc<dyn Store>, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let objects = store.list(prefix, None, 100).unwrap();
    let body = |key: &Key| store.read(key, None, None).unwrap();
    objects.iter().map(|o| (o.key.as_str().trim_start_matches(prefix).to_owned(), body(&o.key))).collect()
}

/// Writes a folder by hand from (name, shape, values).
fn by_hand(config: &ModelConfig, tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Arc<dyn Store> {
    let store = store();
    let attempt = AttemptId::generate();
    let put = |name: &str, body: &[u8]| {
        store.put_new(&Key::new(name).unwrap(), body, &attempt).unwrap();
    };
    put("m/config.json", &config.to_json(Dtype::F32));
    let mut bytes = Vec::new();
    let header: Vec<(&str, &[usize])> = tensors.iter().map(|(n, s, _)| (n.as_str(), s.as_slice())).collect();
    write_header("m", &mut bytes, (&header, Dtype::F32), &[]).unwrap();
    for (_, _, values) in tensors {
        write_values("m", &mut bytes, Dtype::F32, values).unwrap();
    }
    put("m/model.safetensors", &bytes);
    store
}

fn tensors_of(parameters: &Parameters<f32>) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let tensors = parameters.layout.tensors().iter();
    tensors.map(|t| (t.name.clone(), t.shape.clone(), parameters.data[t.range()].to_vec())).collect()
}

#[test]
fn save_load_save_gives_identical_bytes_in_one_file_or_many() {
    for (tied, limit) in [(false, u64::MAX), (true, u64::MAX), (false, 60_000), (true, 1)] {
        let config = config(tied);
        let parameters = Parameters::<f32>::initialised(&config.shape, 3);
        let store = store();
        let form = WeightForm { dtype: Dtype::F32, limit_bytes: limit };
        save(&store, "a", &config, &parameters, form).unwrap();
        let model = load(&store, "a").unwrap();
        assert_eq!((&model.shape, model.tokens), (&config.shape, TOKENS));
        assert_eq!(model.parameters, parameters);
        save(&store, "b", &ModelConfig { shape: model.shape, tokens: model.tokens }, &model.parameters, form).unwrap();
        assert_eq!(all(&store, "a/"), all(&store, "b/"));
        assert_eq!(all(&store, "a/").len() > 4, limit < u64::MAX, "limit {limit}");
    }
}

#[test]
fn unknown_missing_and_misshapen_tensors_are_named() {
    let config = config(false);
    let parameters = Parameters::<f32>::initialised(&config.shape, 3);
    let sound = tensors_of(&parameters);
    let message = |tensors: &[(String, Vec<usize>, Vec<f32>)]| {
        let error = load(&by_hand(&config, tensors), "m").unwrap_err();
        let cause = error.source().map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    };

    let mut extra = sound.clone();
    extra.push(("model.layers.0.self_attn.q_proj.bias".to_owned(), vec![1], vec![0.0]));
    assert!(message(&extra).contains("q_proj.bias: not part of"), "{}", message(&extra));

    let mut old = sound.clone();
    old.push(("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), vec![2], vec![1.0, 0.5]));
    assert_eq!(load(&by_hand(&config, &old), "m").unwrap().parameters, parameters);

    let fewer = &sound[1..];
    assert!(message(fewer).contains("tensor model.embed_tokens.weight: missing"), "{}", message(fewer));

    let mut turned = sound.clone();
    turned[0].1.reverse();
    let text = message(&turned);
    assert!(text.contains("tensor model.embed_tokens.weight: shape [96, 24], expected [24, 96]"), "{text}");
}

#[test]
fn a_tied_model_may_repeat_its_embedding_and_nothing_else() {
    let config = config(true);
    let parameters = Parameters::<f32>::initialised(&config.shape, 3);
    let mut repeated = tensors_of(&parameters);
    let (_, shape, values) = repeated[0].clone();
    repeated.push(("lm_head.weight".to_owned(), shape.clone(), values.clone()));
    assert_eq!(load(&by_hand(&config, &repeated), "m").unwrap().parameters, parameters);
    let last = repeated.len() - 1;
    repeated[last].2[7] += 1.0;
    assert!(matches!(load(&by_hand(&config, &repeated), "m"), Err(HfError::Untied { .. })));
}

#[test]
fn a_folder_without_weights_or_with_a_lying_index_is_refused() {
    let config = config(false);
    let store = store();
    let attempt = AttemptId::generate();
    let put = |name: &str, body: &[u8]| {
        store.put_new(&Key::new(name).unwrap(), body, &attempt).unwrap();
    };
    assert!(matches!(load(&store, "m"), Err(HfError::Store { .. })));
    put("m/config.json", &config.to_json(Dtype::F32));
    assert!(matches!(load(&store, "m"), Err(HfError::NoWeights { .. })));
    put("m/model.safetensors.index.json", br#"{"weight_map":{"x":"../other.safetensors"}}"#);
    assert!(matches!(load(&store, "m"), Err(HfError::Index { .. })));
}

#[test]
fn bf16_weights_stay_bf16_and_are_told() {
    let config = config(false);
    let exact = Parameters::<f32>::initialised(&config.shape, 4);
    let store = store();
    for (folder, dtype) in [("a", Dtype::BF16), ("b", Dtype::F16), ("c", Dtype::F32)] {
        save(&store, folder, &config, &exact, WeightForm { dtype, limit_bytes: 50_000 }).unwrap();
        let model = load(&store, folder).unwrap();
        assert_eq!(model.dtype, dtype);
        let again = format!("{folder}2");
        save(&store, &again, &config, &model.parameters, WeightForm { dtype, limit_bytes: 50_000 }).unwrap();
        let files = |folder: &str| all(&store, &format!("{folder}/"));
        assert_eq!(files(folder), files(&again), "what was rounded is not rounded again");
    }
    let rounded: Vec<f32> = exact.data.iter().map(|value| half::bf16::from_f32(*value).to_f32()).collect();
    assert_eq!(load(&store, "a").unwrap().parameters.data, rounded);
}
