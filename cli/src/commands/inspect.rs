//! `inspect`: the content of one published object for a person, or what became of one document.

use std::path::Path;

use mellama_pipeline::{Failure, Location, inspect};

use super::{print_json, print_line, stores};
use crate::arguments::How;
use crate::progress::Progress;

pub(crate) fn run(how: &How, object: &Path, view: inspect::View, progress: &Progress) -> Result<(), Failure> {
    print_line(&inspect::inspect(&stores(how, progress), &Location::of(object), &view)?)
}

/// Where a document lies, from the work folder.
pub(crate) fn document(how: &How, workdir: &Path, id: &str, progress: &Progress) -> Result<(), Failure> {
    let traced = inspect::trace(&stores(how, progress), &workdir.display().to_string(), id)?;
    if how.json { print_json(&traced) } else { print_line(&traced.text()) }
}
