//! `init`: a commented recipe to start from.

use std::io::Write;
use std::path::Path;

use mellama_pipeline::Failure;

use super::print_line;

/// The recipe that is written.
const TEMPLATE: &str = include_str!("init.toml");

pub(crate) fn run(file: &Path) -> Result<(), Failure> {
    let shown = file.display();
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
    let mut created = created.map_err(|e| Failure::Policy(format!("{shown}: cannot be created: {e}; give another name")))?;
    created.write_all(TEMPLATE.as_bytes()).map_err(|e| Failure::Storage(format!("{shown}: {e}")))?;
    print_line(&format!("{shown} written; edit its inputs, then: mellama plan {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_valid_recipe() {
        let file = mellama_pipeline::RecipeFile::parse(Path::new("recipe.toml"), TEMPLATE).expect("valid");
        assert_eq!(mellama_pipeline::Stage::of(&file.recipe).len(), 11, "the template shows every part");
    }
}
