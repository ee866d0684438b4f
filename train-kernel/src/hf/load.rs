//! Reading a model folder: the configuration, then every tensor by name, one at a time.
//!
//! A folder is a prefix of a store. Pickled weights (`pytorch_model.bin`) are never opened: they can run code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use mellama_storage::{Key, LocalStore, RangeReader, Store, StoreError};
use serde::Deserialize;

use super::sums::Sums;
use super::{ConfigError, ModelConfig, SpecialTokens, weights_digest};
use crate::checkpoint::tensor_file::{Dtype, TensorFile, TensorFileError};
use crate::parameters::{Layout, Parameters, TensorSpec};
use crate::shape::Shape;

/// Largest `config.json` or index that is read.
const JSON_LIMIT_BYTES: u64 = 64 << 20;

/// The output projection, which files of tied models may repeat.
const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// A model in memory, in f32 whatever the files hold.
#[derive(Debug, Clone)]
pub struct HfModel {
    /// Sizes and constants.
    pub shape: Shape,
    /// The weights.
    pub parameters: Parameters<f32>,
    /// What the files hold the weights as; f32 where they are of several types.
    pub dtype: Dtype,
    /// Begin and end tokens.
    pub tokens: SpecialTokens,
    /// [`weights_digest`] of the weights.
    pub digest: String,
}

/// A model folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HfError {
    /// The store could not be read.
    #[error("{folder}: cannot be read")]
    Store {
        /// The folder.
        folder: String,
        /// The cause.
        source: StoreError,
    },
    /// `config.json` asks for another model.
    #[error("{folder}: cannot be loaded as it is configured")]
    Config {
        /// The folder.
        folder: String,
        /// The cause.
        source: ConfigError,
    },
    /// A tensor file is damaged or does not fit the configuration.
    #[error("{folder}: weights refused")]
    Tensors {
        /// The folder.
        folder: String,
        /// The cause.
        source: TensorFileError,
    },
    /// The folder holds no weights in a format that is read.
    #[error("{folder}: no model.safetensors and no model.safetensors.index.json; convert the weights to safetensors")]
    NoWeights {
        /// The folder.
        folder: String,
    },
    /// The index does not describe the files.
    #[error("{folder}: model.safetensors.index.json: {problem}")]
    Index {
        /// The folder.
        folder: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor that this model has no place for.
    #[error("{folder}: tensor {tensor}: not part of a LLaMA model of this configuration")]
    Unknown {
        /// The folder.
        folder: String,
        /// The tensor.
        tensor: String,
    },
    /// The folder has adapters and no model.
    #[error(
        "{folder}: adapters alone, no model; load the folder merged/ in it, or fold them in with \"mellama merge BASE {folder}\""
    )]
    AdaptersAlone {
        /// The folder.
        folder: String,
    },
    /// The embeddings are tied, yet the file holds another output projection.
    #[error("{folder}: tensor {HEAD}: differs from {EMBEDDING} although config.json ties them; set tie_word_embeddings")]
    Untied {
        /// The folder.
        folder: String,
    },
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Loads the model under `folder` (a prefix without a trailing slash, empty for the root of the store).
///
/// # Errors
/// [`HfError`] for files that are absent, damaged, or of another model.
pub fn load(store: &Arc<dyn Store>, folder: &str) -> Result<HfModel, HfError> {
    let folder = Folder { store, prefix: folder, name: format!("{}/{folder}", store.uri()) };
    let Some(config) = folder.read_json("config.json")? else {
        let name = folder.name.clone();
        return Err(match folder.read_json("adapter_config.json")? {
            Some(_) => HfError::AdaptersAlone { folder: name },
            None => HfError::Store { folder: name, source: StoreError::NotFound { object: "config.json".to_owned() } },
        });
    };
    let ModelConfig { shape, tokens } =
        ModelConfig::parse(&config).map_err(|source| HfError::Config { folder: folder.name.clone(), source })?;
    let files = folder.weight_files(&shape)?;
    let sums = Sums::read(store, folder.prefix).map_err(|error| folder.tensor_error(error))?;
    for file in files.keys() {
        sums.check(store, folder.prefix, file).map_err(|error| folder.tensor_error(error))?;
    }
    let mut parameters = Parameters::zeros(Arc::new(Layout::of(&shape)));
    let mut dtypes = BTreeSet::new();
    for (file, names) in &files {
        dtypes.extend(folder.read_file(file, names.as_ref(), &shape, &mut parameters)?);
    }
    let dtype = if dtypes.len() == 1 { dtypes.pop_first().unwrap_or(Dtype::F32) } else { Dtype::F32 };
    let digest = weights_digest(&shape, &parameters);
    Ok(HfModel { shape, parameters, dtype, tokens, digest })
}

/// Loads a model from a folder of this machine.
///
/// # Errors
/// As [`load`].
pub fn load_folder(path: &Path) -> Result<HfModel, HfError> {
    let source = |source| HfError::Store { folder: path.display().to_string(), source };
    let store: Arc<dyn Store> = Arc::new(LocalStore::open_existing(path).map_err(source)?);
    load(&store, "")
}

/// A file and the tensors that the index puts in it; `None` for all of them.
type WeightFiles = BTreeMap<String, Option<BTreeSet<String>>>;

struct Folder<'a> {
    store: &'a Arc<dyn Store>,
    prefix: &'a str,
    name: String,
}

impl Folder<'_> {
    fn key(&self, file: &str) -> Result<Key, HfError> {
        let name = if self.prefix.is_empty() { file.to_owned() } else { format!("{}/{file}", self.prefix) };
        Key::new(name).map_err(|source| self.store_error(source))
    }

    fn store_error(&self, source: StoreError) -> HfError {
        HfError::Store { folder: self.name.clone(), source }
    }

    fn tensor_error(&self, source: TensorFileError) -> HfError {
        HfError::Tensors { folder: self.name.clone(), source }
    }

    /// The bytes of a small file; `None` when it does not exist.
    fn read_json(&self, file: &str) -> Result<Option<Vec<u8>>, HfError> {
        let key = self.key(file)?;
        let meta = match self.store.head(&key) {
            Ok(meta) => meta,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(self.store_error(error)),
        };
        if meta.size_bytes > JSON_LIMIT_BYTES {
            let problem = format!("{file}: {} bytes, expected at most {JSON_LIMIT_BYTES}", meta.size_bytes);
            return Err(HfError::Index { folder: self.name.clone(), problem });
        }
        self.store.read(&key, None, Some(&meta.etag)).map(Some).map_err(|source| self.store_error(source))
    }

    /// Which files hold the weights: those of the index, else the single one.
    fn weight_files(&self, shape: &Shape) -> Result<WeightFiles, HfError> {
        let Some(bytes) = self.read_json("model.safetensors.index.json")? else {
            let key = self.key("model.safetensors")?;
            return match self.store.head(&key) {
                Ok(_) => Ok(BTreeMap::from([("model.safetensors".to_owned(), None)])),
                Err(error) if error.is_not_found() => Err(HfError::NoWeights { folder: self.name.clone() }),
                Err(error) => Err(self.store_error(error)),
            };
        };
        let refuse = |problem: String| HfError::Index { folder: self.name.clone(), problem };
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        let mut files = WeightFiles::new();
        for (tensor, file) in index.weight_map {
            if file.contains('/') || !file.ends_with(".safetensors") {
                return Err(refuse(format!("file {file:?}, expected the plain name of a .safetensors file")));
            }
            files.entry(file).or_default().get_or_insert_default().insert(tensor);
        }
        let listed: BTreeSet<&String> = files.values().flatten().flatten().collect();
        let layout = Layout::of(shape);
        if let Some(absent) = layout.tensors().iter().find(|tensor| !listed.contains(&tensor.name)) {
            return Err(refuse(format!("tensor {}: missing", absent.name)));
        }
        Ok(files)
    }

    /// Reads the tensors of one file into their places; returns what they were stored as.
    fn read_file(
        &self,
        file: &str,
        listed: Option<&BTreeSet<String>>,
        shape: &Shape,
        parameters: &mut Parameters<f32>,
    ) -> Result<BTreeSet<Dtype>, HfError> {
        let reader = RangeReader::open(Arc::clone(self.store), &self.key(file)?).map_err(|e| self.store_error(e))?;
        let mut tensors = TensorFile::open(file, reader).map_err(|error| self.tensor_error(error))?;
        self.refuse_unknown(tensors.tensors().keys(), listed, parameters, shape)?;
        let layout = Arc::clone(&parameters.layout);
        let wanted = |tensor: &&TensorSpec| listed.is_none_or(|names| names.contains(&tensor.name));
        for tensor in layout.tensors().iter().filter(wanted) {
            let out = &mut parameters.data[tensor.range()];
            tensors.read(&tensor.name, &tensor.shape, out).map_err(|error| self.tensor_error(error))?;
        }
        if shape.tied_embeddings && tensors.tensors().contains_key(HEAD) {
            self.check_tied(&mut tensors, parameters)?;
        }
        let read = layout.tensors().iter().filter(wanted).filter_map(|tensor| tensors.dtype(&tensor.name));
        Ok(read.collect())
    }

    fn refuse_unknown<'n>(
        &self,
        names: impl Iterator<Item = &'n String>,
        listed: Option<&BTreeSet<String>>,
        parameters: &Parameters<f32>,
        shape: &Shape,
    ) -> Result<(), HfError> {
        let known: BTreeSet<&str> = parameters.layout.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        for name in names {
            let ignored = name.ends_with("rotary_emb.inv_freq") || (shape.tied_embeddings && name == HEAD);
            let listed = listed.is_none_or(|names| names.contains(name));
            let placed = listed && known.contains(name.as_str());
            if !ignored && !placed {
                return Err(HfError::Unknown { folder: self.name.clone(), tensor: name.clone() });
            }
        }
        Ok(())
    }

    /// A tied model may repeat its output projection, but only as it is.
    fn check_tied(&self, tensors: &mut TensorFile<RangeReader>, parameters: &Parameters<f32>) -> Result<(), HfError> {
        let untied = || HfError::Untied { folder: self.name.clone() };
        let at = parameters.layout.index(EMBEDDING).ok_or_else(untied)?;
        let embedding = &parameters.layout.tensors()[at];
        let mut head = vec![0.0; embedding.length()];
        tensors.read(HEAD, &embedding.shape, &mut head).map_err(|error| self.tensor_error(error))?;
        let same = head.iter().zip(parameters.slice(at)).all(|(a, b)| a.to_bits() == b.to_bits());
        if same { Ok(()) } else { Err(untied()) }
    }
}

#[cfg(test)]
mod tests;
