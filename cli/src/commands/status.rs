//! `status`: what is done, from the work folder alone.

use mellama_pipeline::{Failure, status};

use super::{print_json, print_line, workdir_uri};
use crate::arguments::{How, TargetArguments};

pub(crate) fn run(how: &How, target: &TargetArguments) -> Result<(), Failure> {
    let status = status::read(&workdir_uri(target)?)?;
    if how.json { print_json(&status) } else { print_line(&status.text()) }
}
