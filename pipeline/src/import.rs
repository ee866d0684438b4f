//! `import`: foreign weights to a checkpoint folder in the Hugging Face layout.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use mellama_shards::Tokenizer;
use mellama_sources::Sensitivity;
use mellama_storage::{AttemptId, Key, LocalStore, PutOutcome, Store, Stores};
use mellama_train::hf::{Dtype, HfModel, ModelConfig, SpecialTokens, WeightForm, load_folder, save, weights_digest};
use mellama_train::llama2c;
use serde::Serialize;

use crate::failure::{Failure, chain};
use crate::location::Location;
use crate::model_card;
use crate::training::{check_fit, checkpoint_sensitivity, tokenizer_file_name};

/// What was imported.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    /// The folder written.
    pub folder: String,
    /// Parameters.
    pub parameters: u64,
    /// Digest of the weights.
    pub digest: String,
    /// Highest sensitivity of what the weights are known to have learned from: `open`, `dua` or `phi`.
    pub sensitivity: &'static str,
    /// Name of the tokenizer file beside them, if one was given.
    pub tokenizer: Option<String>,
}

impl Imported {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {} parameters, digest {}", self.folder, self.parameters, &self.digest[..16]);
        if self.tokenizer.is_none() {
            text.push_str("; no tokenizer was given or found, add one or name it when generating");
        }
        text
    }
}

/// Names of tokenizers beside weights.
const TOKENIZERS: [&str; 3] = ["tokenizer.json", "tokenizer.model", "tokenizer.bin"];
/// What else belongs to one.
const BESIDE_TOKENIZERS: [&str; 3] = ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

/// Reads llama2.c weights or a Hugging Face folder and writes a new checkpoint folder.
///
/// # Errors
/// `Failure::Policy` when the source is in neither form, does not fit the tokenizer, or the folder holds a checkpoint.
pub fn import(source: &Path, to: &Path, tokenizer: Option<&Path>, dtype: Option<Dtype>) -> Result<Imported, Failure> {
    let mut model = if source.is_dir() { load_folder(source).map_err(|e| Failure::loading(&e))? } else { from_llama2c(source)? };
    let kept = tokenizer.map(read_tokenizer).transpose()?;
    if let Some((_, _, tokenizer)) = &kept {
        check_fit(&source.display().to_string(), &model, tokenizer)?;
        model.tokens = SpecialTokens { bos: tokenizer.bos(), eos: tokenizer.eos() };
    }
    let dtype = dtype.unwrap_or(model.dtype);
    if dtype != model.dtype {
        model.parameters.data.iter_mut().for_each(|value| *value = dtype.round(*value));
        model.digest = weights_digest(&model.shape, &model.parameters);
    }
    let config = ModelConfig { shape: model.shape.clone(), tokens: model.tokens };
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(to)?);
    if store.head(&Key::new("config.json")?).is_ok() {
        return Err(Failure::Policy(format!("{}: holds a checkpoint already; give a new folder", to.display())));
    }
    let kept = match &kept {
        Some((name, bytes, _)) => {
            put_beside(&store, name, bytes)?;
            Some((*name).to_owned())
        }
        None => keep_tokenizer(&[source], &store)?,
    };
    let sensitivity = checkpoint_sensitivity(&Stores::default(), &Location::of(source));
    put_beside(&store, model_card::CARD, &card(source, sensitivity, (&model.digest, dtype)))?;
    save(&store, "", &config, &model.parameters, WeightForm::of(dtype)).map_err(|e| Failure::writing("", &e))?;
    Ok(Imported {
        folder: to.display().to_string(),
        parameters: model.shape.parameter_count(),
        digest: model.digest,
        sensitivity: sensitivity.as_str(),
        tokenizer: kept,
    })
}

/// Writes a file beside weights. One with the same bytes, which a run that died left there, is as good.
///
/// # Errors
/// `Failure::Policy` when another one stands there.
pub(crate) fn put_beside(store: &Arc<dyn Store>, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let key = Key::new(name)?;
    if store.put_new(&key, bytes, &AttemptId::generate())? == PutOutcome::Other && store.read(&key, None, None)? != bytes {
        return Err(Failure::Policy(format!("{}: holds another {name} already; give a new folder", store.uri())));
    }
    Ok(())
}

/// Copies the files that belong to a tokenizer, as they are, each from the first folder that has it; returns the tokenizer's name. A
/// tokenizer that cannot be used here is left behind, the weights are wanted all the same.
///
/// # Errors
/// As [`put_beside`].
pub(crate) fn keep_tokenizer(from: &[&Path], store: &Arc<dyn Store>) -> Result<Option<String>, Failure> {
    let mut kept = None;
    for name in TOKENIZERS.into_iter().chain(BESIDE_TOKENIZERS) {
        let Some(bytes) = from.iter().find_map(|folder| std::fs::read(folder.join(name)).ok()) else { continue };
        if TOKENIZERS.contains(&name) {
            if Tokenizer::from_bytes(name, &bytes).is_err() {
                continue;
            }
            kept = kept.or(Some(name.to_owned()));
        }
        put_beside(store, name, &bytes)?;
    }
    Ok(kept)
}

/// The card of a copy: the one beside the weights where it says how sensitive they are, for it has their lineage.
fn card(source: &Path, sensitivity: Sensitivity, (digest, dtype): (&str, Dtype)) -> Vec<u8> {
    let there = std::fs::read(source.join(model_card::CARD)).ok();
    let there = there.filter(|card| card.len() as u64 <= model_card::CARD_LIMIT_BYTES);
    let kept = there.filter(|card| model_card::sensitivity(card) == Some(sensitivity));
    let mut card = kept.unwrap_or_else(|| {
        model_card::write("An imported model", "Weights brought into this folder by mellama, otherwise unchanged.", sensitivity)
    });
    card.extend(format!("\nCopied by `mellama import`: weights {digest}, stored as {}.\n", dtype.as_str()).into_bytes());
    card
}

fn from_llama2c(source: &Path) -> Result<HfModel, Failure> {
    let name = source.display().to_string();
    let missing = |e: std::io::Error| Failure::Policy(format!("{name}: cannot be read: {e}"));
    let file = std::fs::File::open(source).map_err(missing)?;
    let size = file.metadata().map_err(missing)?.len();
    let (shape, parameters) = llama2c::import(&name, size, BufReader::new(file)).map_err(|e| Failure::Policy(chain(&e)))?;
    let digest = weights_digest(&shape, &parameters);
    // llama2.c's convention: 1 begins, 2 ends a text.
    Ok(HfModel { shape, parameters, dtype: Dtype::F32, tokens: SpecialTokens { bos: Some(1), eos: Some(2) }, digest })
}

fn read_tokenizer(path: &Path) -> Result<(&'static str, Vec<u8>, Tokenizer), Failure> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| Failure::Policy(format!("{name}: cannot be read: {e}")))?;
    let tokenizer = Tokenizer::from_bytes(&name, &bytes).map_err(|e| Failure::Policy(chain(&e)))?;
    Ok((tokenizer_file_name(&name), bytes, tokenizer))
}
