//! `retract`: documents out of published shards.

use mellama_pipeline::Failure;
use mellama_pipeline::retract::{Request, retract};

use super::{place, print_json, print_line};
use crate::arguments::{How, TargetArguments};
use crate::progress::Progress;

pub(crate) fn run(how: &How, target: &TargetArguments, request: &Request, progress: &Progress) -> Result<(), Failure> {
    let (stores, uri) = place(how, target, progress)?;
    let outcome = retract(&stores, &uri, request, progress)?;
    if how.json { print_json(&outcome) } else { print_line(&outcome.text()) }
}
