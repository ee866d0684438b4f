//! `run`, and `train` and `evaluate`, which are one stage of it.

use mellama_pipeline::{Failure, Stage, runner, summary};

use super::{print_json, print_line, session};
use crate::arguments::{How, RecipeArguments};
use crate::progress::Progress;

pub(crate) fn run(how: &How, recipe: &RecipeArguments, until: Option<&str>, progress: &Progress) -> Result<(), Failure> {
    let until = until.map(str::parse::<Stage>).transpose()?;
    let session = session(how, recipe, progress)?;
    let results = runner::run(&session.context(progress), until)?;
    if how.json {
        return print_json(&results);
    }
    if how.quiet {
        return Ok(());
    }
    print_line(&summary::text(&session, &results)?)
}

/// One stage by its own command.
pub(crate) fn single(how: &How, recipe: &RecipeArguments, stage: Stage, progress: &Progress) -> Result<(), Failure> {
    let session = session(how, recipe, progress)?;
    let context = session.context(progress);
    runner::require(&context, stage)?;
    let result = runner::run_single(&context, stage)?;
    if how.json {
        return print_json(&result);
    }
    print_line(&summary::stage_text(&session, &result)?)
}
