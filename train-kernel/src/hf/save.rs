//! Writing a model folder that Hugging Face's transformers and this crate load: one file or several.
//!
//! The same weights give the same bytes. Tokenizer files are the caller's.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use mellama_storage::{AttemptId, Key, PutOutcome, Store, StoreError};
use serde::Serialize;

use super::ModelConfig;
use crate::checkpoint::tensor_file::{Dtype, TensorFileError, write_header, write_values};
use crate::parameters::{Layout, Parameters, TensorSpec};

/// Size above which weights are cut into several files.
pub const FILE_LIMIT_BYTES: u64 = 5_000_000_000;

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
struct Index<'a> {
    metadata: IndexMetadata,
    weight_map: std::collections::BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct IndexMetadata {
    total_parameters: u64,
    total_size: u64,
}

/// Writes `config.json`, `generation_config.json` and the weights under `folder`, a new file whenever the present
/// one would exceed the limit (a single tensor may).
///
/// # Errors
/// [`SaveError`]; what was written before stays, `config.json` comes last.
///
/// # Panics
/// Never: an index of names and numbers is JSON.
pub fn save(
    store: &Arc<dyn Store>,
    folder: &str,
    config: &ModelConfig,
    parameters: &Parameters<f32>,
    form: WeightForm,
) -> Result<(), SaveError> {
    let layout = &parameters.layout;
    let parts = cut(layout, form);
    let name = |part: usize| match parts.len() {
        1 => "model.safetensors".to_owned(),
        count => format!("model-{:05}-of-{count:05}.safetensors", part + 1),
    };
    for (part, tensors) in parts.iter().enumerate() {
        let file = name(part);
        let mut upload = store.upload()?;
        write_tensors(&file, &mut upload, (parameters, form.dtype), &layout.tensors()[tensors.clone()])?;
        upload.finish(&Key::new(join(folder, &file))?)?;
    }
    if parts.len() > 1 {
        let owner = |(part, tensors): (usize, &Range<usize>)| {
            let file = name(part);
            layout.tensors()[tensors.clone()].iter().map(move |tensor| (tensor.name.as_str(), file.clone())).collect::<Vec<_>>()
        };
        let total = layout.length() as u64;
        let index = Index {
            metadata: IndexMetadata { total_parameters: total, total_size: form.dtype.size_bytes() * total },
            weight_map: parts.iter().enumerate().flat_map(owner).collect(),
        };
        let bytes = serde_json::to_vec_pretty(&index).expect("names and numbers are JSON");
        put(store, &join(folder, "model.safetensors.index.json"), &bytes)?;
    }
    put(store, &join(folder, "generation_config.json"), &config.generation_json())?;
    put(store, &join(folder, "config.json"), &config.to_json(form.dtype))
}

/// Writes all weights as one tensor file in f32; `file` names it in errors.
///
/// # Errors
/// [`TensorFileError::Io`].
pub fn write_weights<W: Write>(file: &str, writer: &mut W, parameters: &Parameters<f32>) -> Result<(), TensorFileError> {
    write_tensors(file, writer, (parameters, Dtype::F32), parameters.layout.tensors())
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

/// Cuts the tensors, in order, into files of at most `form.limit_bytes` each.
fn cut(layout: &Layout, form: WeightForm) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let size = form.dtype.size_bytes() * tensor.length() as u64;
        if index > first && bytes + size > form.limit_bytes {
            parts.push(first..index);
            (first, bytes) = (index, 0);
        }
        bytes += size;
    }
    parts.push(first..layout.tensors().len());
    parts
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

#[cfg(test)]
mod tests {
    use super::{Dtype, WeightForm, cut};
    use crate::parameters::Layout;

    #[test]
    fn files_stay_under_the_limit_and_hold_every_tensor_once() {
        let sizes = [3, 4, 5, 1, 9];
        let layout = Layout::from_tensors(sizes.iter().enumerate().map(|(i, &size)| (format!("t{i}"), vec![size])));
        let check = |limit: u64, expected: &[std::ops::Range<usize>]| {
            assert_eq!(cut(&layout, WeightForm { dtype: Dtype::F32, limit_bytes: limit }), expected, "{limit}");
        };
        let whole = WeightForm { dtype: Dtype::BF16, limit_bytes: 44 };
        assert_eq!(cut(&layout, whole), vec![std::ops::Range { start: 0, end: 5 }]);
        check(28, &[0..2, 2..4, 4..5]); // the last tensor of 36 bytes stands alone, above the limit
        check(1, &[0..1, 1..2, 2..3, 3..4, 4..5]);
    }
}
