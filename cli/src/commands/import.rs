//! `import`: foreign weights to a checkpoint folder.

use std::path::Path;

use mellama_pipeline::{Failure, import};

use super::{print_json, print_line};
use crate::arguments::How;

pub(crate) fn run(how: &How, source: &Path, to: &Path, tokenizer: Option<&Path>) -> Result<(), Failure> {
    let imported = import::import(source, to, tokenizer)?;
    if how.json { print_json(&imported) } else { print_line(&imported.text()) }
}
