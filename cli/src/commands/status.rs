//! `status`: what is done, from the work folder alone.

use mellama_pipeline::{Failure, status};

use super::{place, print_json, print_line};
use crate::arguments::{How, TargetArguments};
use crate::progress::Progress;

pub(crate) fn run(how: &How, target: &TargetArguments, progress: &Progress) -> Result<(), Failure> {
    let (stores, uri) = place(how, target, progress)?;
    let status = status::read(&stores, &uri)?;
    if how.json { print_json(&status) } else { print_line(&status.text()) }
}
