//! `verify`: reads everything that was published again; exit 5 when anything is not as it was published.

use mellama_pipeline::{Failure, verification};

use super::{place, print_json, print_line};
use crate::arguments::{How, TargetArguments};
use crate::progress::Progress;

pub(crate) fn run(how: &How, target: &TargetArguments, progress: &Progress) -> Result<(), Failure> {
    let (stores, uri) = place(how, target, progress)?;
    let outcome = verification::verify(&stores, &uri, progress)?;
    if how.json {
        print_json(&outcome)?;
    } else if !how.quiet || !outcome.findings.is_empty() {
        print_line(&outcome.text())?;
    }
    outcome.into_result()
}
