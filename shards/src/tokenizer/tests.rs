//! Tests of the tokenizers: `reference` against public vocabularies and an independent implementation, `exact`
//! against plain re-implementations on small vocabularies, `parity` of our encoders with the `tokenizers` crate, `hostile`
//! for files that must be refused.

mod build;
mod exact;
mod hostile;
mod parity;
mod reference;
/// Invented vocabularies, and GPT-2's out of its file; the fuzz target has the same.
#[path = "../../examples/fuzz-tokenizers/vocabulary.rs"]
mod vocabulary;
