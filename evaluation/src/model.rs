//! The model that is scored, in this process.

use std::path::Path;
use std::sync::Arc;

use mellama_storage::Store;
use mellama_train::hf::{HfError, HfModel, load, load_folder};
use mellama_train::{Model, Parameters, ShapeError};

use crate::spec::Sensitivity;

/// A model ready to score.
#[derive(Debug)]
pub struct LoadedModel {
    /// What to call it in results: a path or a name.
    pub name: String,
    /// Its mathematics.
    pub model: Arc<Model>,
    /// Its weights.
    pub parameters: Parameters<f32>,
    /// Digest of its weights.
    pub digest: String,
    /// Sensitivity of what it was trained on; every result inherits it.
    pub sensitivity: Sensitivity,
}

impl LoadedModel {
    /// A model that is in memory already.
    ///
    /// # Errors
    /// [`ShapeError`] when its shape is impossible.
    pub fn new(name: impl Into<String>, model: HfModel, sensitivity: Sensitivity) -> Result<Self, ShapeError> {
        let HfModel { shape, parameters, digest, .. } = model;
        Ok(Self { name: name.into(), model: Arc::new(Model::new(shape)?), parameters, digest, sensitivity })
    }

    /// Loads a Hugging Face folder inside a store.
    ///
    /// # Errors
    /// [`HfError`].
    pub fn load(store: &Arc<dyn Store>, folder: &str, sensitivity: Sensitivity) -> Result<Self, HfError> {
        Self::from_hf(folder, load(store, folder)?, sensitivity)
    }

    /// Loads a Hugging Face folder of this machine.
    ///
    /// # Errors
    /// [`HfError`].
    pub fn load_folder(path: &Path, sensitivity: Sensitivity) -> Result<Self, HfError> {
        Self::from_hf(&path.display().to_string(), load_folder(path)?, sensitivity)
    }

    fn from_hf(name: &str, model: HfModel, sensitivity: Sensitivity) -> Result<Self, HfError> {
        let folder = name.to_owned();
        Self::new(name, model, sensitivity).map_err(|error| HfError::Config { folder, source: error.into() })
    }
}
