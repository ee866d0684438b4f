//! Tests of the tokenizers: `reference` against public vocabularies and an independent implementation, `exact`
//! against plain re-implementations on small vocabularies, `hostile` for files that must be refused.

mod build;
mod exact;
mod hostile;
mod reference;
