//! Commands of the fixed command line that this release does not have: they say so and exit 2.

use mellama_pipeline::Failure;

use crate::arguments::NotYet;

pub(crate) fn refuse(command: &str, arguments: &NotYet) -> Result<(), Failure> {
    let given = arguments.rest.len();
    Err(Failure::Policy(format!(
        "mellama {command}: not there yet in version {} ({given} arguments not looked at); README.md lists what is",
        env!("CARGO_PKG_VERSION")
    )))
}
