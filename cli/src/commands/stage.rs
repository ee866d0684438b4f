//! `stage`: one stage or one task of it, for Airflow and Slurm. The last line on standard output is one JSON object.

use std::ops::Range;

use mellama_pipeline::{Failure, Stage, runner};

use super::{print_json, session};
use crate::arguments::{How, RecipeArguments};
use crate::progress::Progress;

pub(crate) fn run(
    how: &How,
    name: &str,
    recipe: &RecipeArguments,
    tasks: Option<Range<u64>>,
    progress: &Progress,
) -> Result<(), Failure> {
    let stage: Stage = name.parse()?;
    let session = session(how, recipe, progress)?;
    let context = session.context(progress);
    runner::require(&context, stage)?;
    let result = match tasks {
        Some(tasks) => runner::run_tasks(&context, stage, tasks)?,
        None => runner::run_whole_stage(&context, stage)?,
    };
    print_json(&result)
}
