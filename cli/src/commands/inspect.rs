//! `inspect`: the content of one published object for a person.

use std::path::Path;

use mellama_pipeline::{Failure, inspect};

use super::print_line;

pub(crate) fn run(object: &Path, from: u64, rows: u64, text: bool) -> Result<(), Failure> {
    print_line(&inspect::inspect(object, &inspect::View { from, rows, text })?)
}
