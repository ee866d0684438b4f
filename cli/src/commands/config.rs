//! `config check`: parses and checks a recipe, nothing else.

use std::path::Path;

use mellama_pipeline::{Failure, RecipeFile, Stage};

use super::{print_json, print_line};
use crate::arguments::How;

pub(crate) fn check(how: &How, recipe: &Path) -> Result<(), Failure> {
    let file = RecipeFile::read(recipe)?;
    let stages: Vec<&str> = Stage::of(&file.recipe).into_iter().map(Stage::name).collect();
    let warnings = file.recipe.warnings();
    if how.json {
        return print_json(&serde_json::json!({"recipe": file.recipe, "stages": stages, "warnings": warnings}));
    }
    let stages = format!("{}: good; stages: {}", recipe.display(), stages.join(", "));
    let lines = std::iter::once(stages).chain(warnings.iter().map(|warning| format!("warning: {warning}")));
    print_line(&lines.collect::<Vec<_>>().join("\n"))
}
