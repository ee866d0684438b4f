//! `report`: where the page is; written now if the target is a recipe whose run has none yet.

use mellama_pipeline::{Failure, Stage, runner, status};

use super::{place, print_line, session};
use crate::arguments::{How, RecipeArguments, TargetArguments};
use crate::progress::Progress;

pub(crate) fn run(how: &How, target: &TargetArguments, progress: &Progress) -> Result<(), Failure> {
    let path = std::path::Path::new(&target.target);
    if path.is_file() {
        let recipe = RecipeArguments { recipe: path.to_owned(), workdir: target.workdir.clone() };
        let session = session(how, &recipe, progress)?;
        runner::run_single(&session.context(progress), Stage::Report)?;
    }
    let (stores, uri) = place(how, target, progress)?;
    print_line(&status::report_uri(&stores, &uri)?)
}
