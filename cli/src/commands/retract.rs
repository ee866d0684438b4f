//! `retract`: documents out of published shards.

use mellama_pipeline::Failure;
use mellama_pipeline::retract::{Request, retract};

use super::{print_json, print_line, workdir_uri};
use crate::arguments::{How, TargetArguments};
use crate::progress::Progress;

pub(crate) fn run(how: &How, target: &TargetArguments, request: &Request, progress: &Progress) -> Result<(), Failure> {
    let outcome = retract(&workdir_uri(target)?, request, progress)?;
    if how.json { print_json(&outcome) } else { print_line(&outcome.text()) }
}
