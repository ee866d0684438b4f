//! What a recipe may say, but a person should look at once before a long run.

use mellama_sources::{Domain, Sensitivity};

use super::sections::Recipe;

impl Recipe {
    /// Things that are allowed and seldom meant: clinical sources whose sensitivity is nowhere stated. One line each, with the key.
    pub fn warnings(&self) -> Vec<String> {
        let sources = self.corpus.iter().flat_map(|corpus| &corpus.source);
        let silent = sources.filter(|source| {
            let is_open = source.resolved_sensitivity() == Sensitivity::Open;
            source.domain == Domain::Clinical && source.sensitivity.is_none() && is_open
        });
        let line = |name: &str| {
            format!(
                "corpus.source.sensitivity: source \"{name}\" is clinical and says nothing, so all that is made of it is \"open\"; \
                 write \"phi\", \"dua\" or \"open\""
            )
        };
        silent.map(|source| line(&source.name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::RecipeFile;

    fn warnings(keys: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        let source = format!("[[corpus.source]]\nname = \"ward\"\ninputs = [\"x\"]\n{keys}\n");
        std::fs::write(&path, format!("name = \"r\"\nworkdir = \"w\"\n{source}")).unwrap();
        RecipeFile::read(&path).unwrap().recipe.warnings()
    }

    #[test]
    fn clinical_sources_without_a_sensitivity_are_named() {
        let found = warnings("format = \"csv\"\ndomain = \"clinical\"");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("\"ward\" is clinical"), "{found:?}");
        assert_eq!(warnings("format = \"csv\"\ndomain = \"clinical\"\nsensitivity = \"open\""), [""; 0]);
        assert_eq!(warnings("format = \"csv\"\ndomain = \"general\""), [""; 0]);
        // Notes of MIMIC are under an agreement by default.
        assert_eq!(warnings("format = \"mimic-notes\"\ndomain = \"clinical\""), [""; 0]);
    }
}
