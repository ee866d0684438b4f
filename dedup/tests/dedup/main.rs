//! Deduplication and benchmark overlap as a caller sees them: planted copies, real pairs, and what must not matter.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod articles;
mod benchmark;
mod corpus;
mod failures;
mod planted;
mod properties;
mod quality;
