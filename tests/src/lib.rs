//! The project's test crate: the generator of the fixtures, and a server for objects. The tests that use them stand in `tests/`.
//!
//! Everything in the fixtures is invented: no person, drug, disease, gene, journal or place in them exists, and no text
//! is taken from anywhere. The same code makes the same files.

#![expect(clippy::format_push_string, reason = "a few files are made once; plain code before a saved allocation")]

pub mod expected;
pub mod fixtures;
pub mod general;
pub mod generator;
pub mod literature;
pub mod markup;
pub mod notes;
pub mod phrases;
pub mod pmc;
pub mod pubmed;
pub mod questions;
pub mod s3_server;
pub mod vocabulary;
pub mod wire_proxy;
pub mod world;
