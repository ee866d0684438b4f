//! The tokens that stand before and behind every document of the corpus: what recipe and tokenizer together say.
//!
//! Instruction data follow their template and are none of its business.

use mellama_shards::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::recipe::TokenizerRecipe;

/// Begin and end token of a document, each where there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Separators {
    /// Id before every document.
    pub bos: Option<u32>,
    /// Id behind every document.
    pub eos: Option<u32>,
}

impl Separators {
    /// What the recipe asks for and the tokenizer has; a key that is absent takes what there is.
    ///
    /// # Errors
    /// `Failure::Policy` when the recipe demands a token that the tokenizer has not.
    pub(crate) fn of(recipe: &TokenizerRecipe, tokenizer: &Tokenizer) -> Result<Separators, Failure> {
        let chosen = |key: &str, wanted: Option<bool>, there: Option<u32>| match (wanted, there) {
            (Some(true), None) => Err(Failure::Policy(format!(
                "corpus.tokenizer.{key}: true, but {} has no such token; leave the key out or give another tokenizer",
                tokenizer.name()
            ))),
            (Some(false), _) => Ok(None),
            (_, there) => Ok(there),
        };
        Ok(Separators { bos: chosen("bos", recipe.bos, tokenizer.bos())?, eos: chosen("eos", recipe.eos, tokenizer.eos())? })
    }

    /// What a document looks like, for people.
    pub(crate) fn text(self) -> String {
        let shown = |name: &str, id: Option<u32>| id.map_or(format!("no {name}"), |id| format!("{name} {id}"));
        let warning = if self.eos.is_none() { "; without an end token documents run into each other" } else { "" };
        format!("{} before and {} behind every document{warning}", shown("BOS", self.bos), shown("EOS", self.eos))
    }
}
