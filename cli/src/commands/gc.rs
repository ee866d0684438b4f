//! `gc`: removes what no record names.

use std::time::Duration;

use mellama_pipeline::{Failure, gc};

use super::{place, print_json, print_line};
use crate::arguments::{How, TargetArguments};
use crate::progress::Progress;

pub(crate) fn run(how: &How, target: &TargetArguments, hours: u64, dry_run: bool, progress: &Progress) -> Result<(), Failure> {
    let (stores, uri) = place(how, target, progress)?;
    let request = gc::Request { older_than: Duration::from_secs(hours.saturating_mul(3600)), dry_run };
    let collected = gc::collect(&stores, &uri, request, progress)?;
    if how.json { print_json(&collected) } else { print_line(&collected.text()) }
}
