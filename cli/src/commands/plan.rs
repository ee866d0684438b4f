//! `plan`: what a recipe comes to, without touching anything.

use mellama_pipeline::{Failure, RecipeFile, forecast};

use super::{print_json, print_line};
use crate::arguments::{How, RecipeArguments};

pub(crate) fn run(how: &How, recipe: &RecipeArguments) -> Result<(), Failure> {
    let file = RecipeFile::read(&recipe.recipe)?;
    let forecast = forecast::forecast(&file, recipe.workdir.as_deref())?;
    let shown = if how.json { print_json(&forecast) } else { print_line(&forecast.text()) };
    shown.and_then(|()| forecast.check())
}
