//! `merge`: adapters folded into weights.

use std::path::Path;

use mellama_pipeline::{Failure, merge};

use super::{print_json, print_line};
use crate::arguments::{How, StoredType};

pub(crate) fn run(how: &How, checkpoint: &Path, adapter: &Path, to: &Path, dtype: Option<StoredType>) -> Result<(), Failure> {
    let merged = merge::run(checkpoint, adapter, to, dtype.map(StoredType::dtype))?;
    if how.json { print_json(&merged) } else { print_line(&merged.text()) }
}
