//! Duplicates and benchmark contamination: exact copies, near-duplicates that bands propose and a direct comparison proves,
//! and n-gram overlap with evaluation items.
//!
//! The crate knows ids and text alone. It opens no document object, no network and no recipe; the one folder it touches is
//! the scratch folder it is given, and what it writes there has no name and vanishes with the process.
//!
//! Two properties hold for every public function: the result depends on the inputs only (never on the number of threads,
//! the memory budget, the order of the entries or the run of a hash map), and no error carries document text.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod band_join;
mod cluster;
mod comparison;
mod contamination;
pub mod datatrove;
mod datatrove_constants;
mod deduplicate;
mod entry;
mod exact;
mod gram_table;
mod lanes;
mod matched_ranges;
mod normal;
mod outcome;
mod permutation;
mod priority;
mod resolve;
mod rows;
#[cfg(target_arch = "x86_64")]
mod rows_x86;
mod scalars;
mod shingle;
mod sketch;
mod spec;
mod spill;
mod union_find;
mod word_hashes;
mod words;

pub use contamination::{BenchmarkIndex, BenchmarkItem, IndexError, MIN_WHOLE_WORDS, Overlap};
pub use deduplicate::{DedupError, deduplicate};
pub use entry::{Entry, Options, Removal, Rule, TextError, Texts, VerifyMode};
pub use exact::exact_hash;
pub use normal::NormalForm;
pub use outcome::{ClusterReport, ClusterSummary, LARGEST_CLUSTERS, Outcome, SourceLoss};
pub use resolve::{BOILERPLATE_DOCUMENTS, Boilerplate, Contamination, Frequencies, MIN_SHARE, PartOverlap};
pub use rows::Instructions;
pub use sketch::{Sketch, Sketcher, estimate};
pub use spec::{CurvePoint, MAX_ROWS, MAX_SHINGLE_WORDS, SPEC_VERSION, SketchSpec, SketchSummary, SpecError};
