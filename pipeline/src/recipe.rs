//! The recipe as a person types it: one TOML file, every key checked, unknown keys refused with place and suggestion.
//!
//! It does not look at inputs, does not resolve globs and does not touch the work folder: that is the plan's job.

mod check;
mod parse;
mod sections;
mod storage;
mod warnings;

pub use parse::{RecipeError, RecipeFile};
pub use sections::Recipe;
pub(crate) use sections::{
    CorpusRecipe, DecontaminateRecipe, DedupRecipe, InstructRecipe, InstructSource, SourceRecipe, TokenizerRecipe,
};
pub use storage::{Access, ChecksumRecipe, StorageRecipe};
