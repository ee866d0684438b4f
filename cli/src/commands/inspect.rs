//! `inspect`: the content of one published object for a person, or what became of one document.

use std::path::Path;

use mellama_pipeline::{Failure, inspect};

use super::{print_json, print_line};
use crate::arguments::How;

pub(crate) fn run(object: &Path, from: u64, rows: u64, text: bool) -> Result<(), Failure> {
    print_line(&inspect::inspect(object, &inspect::View { from, rows, text })?)
}

/// Where a document lies, from the work folder.
pub(crate) fn document(how: &How, workdir: &Path, id: &str) -> Result<(), Failure> {
    let traced = inspect::trace(&workdir.display().to_string(), id)?;
    if how.json { print_json(&traced) } else { print_line(&traced.text()) }
}
