//! `import`: foreign weights to a checkpoint folder.

use std::path::Path;

use mellama_pipeline::{Dtype, Failure, import};

use super::{print_json, print_line};
use crate::arguments::{How, StoredType};

pub(crate) fn run(
    how: &How,
    source: &Path,
    to: &Path,
    tokenizer: Option<&Path>,
    dtype: Option<StoredType>,
) -> Result<(), Failure> {
    let imported = import::import(source, to, tokenizer, dtype.map(StoredType::dtype))?;
    if how.json { print_json(&imported) } else { print_line(&imported.text()) }
}

impl StoredType {
    /// As the weights' files name it.
    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }
}
