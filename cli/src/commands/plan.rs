//! `plan`: what a recipe comes to, without touching anything.

use mellama_pipeline::{Failure, Observer, RecipeFile, forecast};

use super::{access, print_json, print_line};
use crate::arguments::{How, RecipeArguments};
use crate::progress::Progress;

pub(crate) fn run(how: &How, recipe: &RecipeArguments, stages_only: bool, progress: &Progress) -> Result<(), Failure> {
    let file = RecipeFile::read(&recipe.recipe)?.connected(&access(how, progress));
    let forecast = forecast::forecast(&file, recipe.workdir.as_deref())?;
    let shown = match (how.json, stages_only) {
        (true, true) => print_json(&forecast.tasks()),
        (true, false) => print_json(&forecast),
        (false, true) => print_line(&forecast.stages_text()),
        (false, false) => print_line(&forecast.text()),
    };
    shown?;
    match forecast.check() {
        // How many tasks there are does not depend on it, and `run` judges by what is counted.
        Err(refusal) if stages_only => {
            progress.warn(&refusal.to_string());
            Ok(())
        }
        checked => checked,
    }
}
