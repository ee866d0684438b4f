//! What a recipe may say, but a person should look at once before a long run.

use mellama_sources::{Domain, Sensitivity};

use super::sections::{MixtureRecipe, Recipe};

impl Recipe {
    /// Things that are allowed and seldom meant: clinical sources whose sensitivity is nowhere stated, sources of a domain that the
    /// mixture gives no weight. One line each, with the key.
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
        silent.map(|source| line(&source.name)).chain(self.unused()).collect()
    }

    /// Sources that are read, and of which the mixture takes nothing.
    fn unused(&self) -> Vec<String> {
        let Some(corpus) = &self.corpus else { return Vec::new() };
        let weights = corpus.mixture.iter().flat_map(MixtureRecipe::weights);
        let left_out = weights.filter(|(_, weight)| *weight == 0).filter_map(|(domain, _)| {
            let of_domain = corpus.source.iter().filter(|source| source.domain == domain);
            let names: Vec<String> = of_domain.map(|source| format!("\"{}\"", source.name)).collect();
            let line = format!("corpus.mixture.{domain}: no weight, so nothing of {} is trained on", names.join(", "));
            (!names.is_empty()).then_some(line)
        });
        left_out.collect()
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

    #[test]
    fn sources_without_a_weight_are_named() {
        let of = |weights: &str| {
            let more = "[[corpus.source]]\nname = \"press\"\nformat = \"csv\"\ninputs = [\"y\"]\ndomain = \"general\"\n\
                        [corpus.tokenizer]\npath = \"t.json\"\n[corpus.mixture]\ntokens = 9\n";
            warnings(&format!("format = \"csv\"\ndomain = \"clinical\"\nsensitivity = \"open\"\n{more}{weights}"))
        };
        assert_eq!(of("clinical = 1\ngeneral = 4"), [""; 0]);
        let found = of("general = 4");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("corpus.mixture.clinical: no weight") && found[0].contains("\"ward\""), "{found:?}");
    }
}
