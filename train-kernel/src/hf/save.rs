//! Writing a model folder that Hugging Face's transformers and this crate load: one file or several.
//!
//! The same weights give the same bytes. Tokenizer files are the caller's.

use std::io::Write;
use std::sync::Arc;

use mellama_storage::{AttemptId, Key, PutOutcome, Store, StoreError};
use serde::Serialize;

use super::ModelConfig;
use super::sums::{Hashing, SUMS, encode};
use crate::checkpoint::tensor_file::{Dtype, TensorFileError, write_header, write_values};
use crate::checkpoint::{FILE_LIMIT_BYTES, Written, cut, file_name};
use crate::parameters::{Parameters, TensorSpec};

/// How weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightForm {
    /// Element type; half types are rounded to nearest.
    pub dtype: Dtype,
    /// Size above which weights are cut into several files.
    pub limit_bytes: u64,
}

impl WeightForm {
    /// This element type, files of at most [`FILE_LIMIT_BYTES`].
    pub fn of(dtype: Dtype) -> Self {
        Self { dtype, limit_bytes: FILE_LIMIT_BYTES }
    }
}

/// A model folder that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tensor file could not be written.
    #[error(transparent)]
    Tensors(#[from] TensorFileError),
    /// Another file stands there already.
    #[error("{key}: exists with other content; choose an empty folder")]
    Occupied {
        /// The file.
        key: String,
    },
}

#[derive(Serialize)]
struct Index {
    metadata: IndexMetadata,
    weight_map: std::collections::BTreeMap<String, String>,
}

#[derive(Serialize)]
struct IndexMetadata {
    total_parameters: u64,
    total_size: u64,
}

/// Name of the index of weights that lie in several files.
pub const INDEX: &str = "model.safetensors.index.json";

/// The index that says which of several files holds which tensor; none where there is one file.
///
/// # Panics
/// Never: an index of names and numbers is JSON.
pub fn index_json(files: &[Written], total_parameters: u64, dtype: Dtype) -> Option<Vec<u8>> {
    let owner =
        |written: &'_ Written| written.tensors.iter().map(|tensor| (tensor.clone(), written.file.clone())).collect::<Vec<_>>();
    let index = Index {
        metadata: IndexMetadata { total_parameters, total_size: dtype.size_bytes() * total_parameters },
        weight_map: files.iter().flat_map(owner).collect(),
    };
    (files.len() > 1).then(|| serde_json::to_vec_pretty(&index).expect("names and numbers are JSON"))
}

/// Writes `config.json`, `generation_config.json`, the weights and their digests (`B3SUMS`) under `folder`, a new file whenever the present
/// one would exceed the limit (a single tensor may).
///
/// # Errors
/// [`SaveError`]; what was written before stays, `config.json` comes last.
pub fn save(
    store: &Arc<dyn Store>,
    folder: &str,
    config: &ModelConfig,
    parameters: &Parameters<f32>,
    form: WeightForm,
) -> Result<(), SaveError> {
    let layout = &parameters.layout;
    let parts = cut(layout.tensors().iter().map(|tensor| form.dtype.size_bytes() * tensor.length() as u64), form.limit_bytes);
    let (mut files, mut sums) = (Vec::with_capacity(parts.len()), Vec::new());
    for (part, tensors) in parts.iter().enumerate() {
        let file = file_name("model", part, parts.len());
        let tensors = &layout.tensors()[tensors.clone()];
        let mut upload = Hashing::new(store.upload()?);
        write_tensors(&file, &mut upload, (parameters, form.dtype), tensors)?;
        let (upload, digest) = upload.finish();
        upload.finish_as(&Key::new(join(folder, &file))?, &digest)?;
        sums.push((file.clone(), digest));
        files.push(Written { file, tensors: tensors.iter().map(|tensor| tensor.name.clone()).collect() });
    }
    let index = index_json(&files, layout.length() as u64, form.dtype).map(|index| (INDEX, index));
    let rest = [("generation_config.json", config.generation_json()), ("config.json", config.to_json(form.dtype))];
    let small: Vec<(&str, Vec<u8>)> = index.into_iter().chain(rest).collect();
    sums.extend(small.iter().map(|(name, bytes)| ((*name).to_owned(), blake3::hash(bytes).to_hex().to_string())));
    put(store, &join(folder, SUMS), &encode(sums.iter().map(|(file, digest)| (file.as_str(), digest.as_str()))))?;
    small.iter().try_for_each(|(name, bytes)| put(store, &join(folder, name), bytes))
}

fn write_tensors<W: Write>(
    file: &str,
    writer: &mut W,
    (parameters, dtype): (&Parameters<f32>, Dtype),
    tensors: &[TensorSpec],
) -> Result<(), TensorFileError> {
    let header: Vec<(&str, &[usize])> = tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    write_header(file, writer, (&header, dtype), &[("format", "pt")])?;
    tensors.iter().try_for_each(|tensor| write_values(file, writer, dtype, &parameters.data[tensor.range()]))
}

fn put(store: &Arc<dyn Store>, key: &str, body: &[u8]) -> Result<(), SaveError> {
    let name = Key::new(key)?;
    if store.put_new(&name, body, &AttemptId::generate())? == PutOutcome::Other && store.read(&name, None, None)? != body {
        return Err(SaveError::Occupied { key: key.to_owned() });
    }
    Ok(())
}

fn join(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}
