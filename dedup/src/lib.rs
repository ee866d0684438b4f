//! Duplicates and benchmark contamination: exact copies, near-duplicates that bands propose and a direct comparison proves,
//! and n-gram overlap with evaluation items.
//!
//! The crate knows ids and text alone. It opens no document object, no network and no recipe; the one folder it touches is
//! the scratch folder it is given, and what it writes there has no name and vanishes with the process.
//!
//! Two properties hold for every public function: the result depends on the inputs only (never on the number of threads,
//! the memory budget, the order of the entries or the run of a hash map), and no error carries document text.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod arrange;
mod band_join;
mod bits;
mod carried;
mod cluster;
mod comparison;
mod contamination;
pub mod datatrove;
mod datatrove_constants;
mod deduplicate;
mod entry;
mod exact;
mod forest;
mod gram_table;
mod lanes;
mod links;
mod matched_ranges;
mod normal;
mod outcome;
mod permutation;
mod resolve;
mod rows;
#[cfg(target_arch = "x86_64")]
mod rows_x86;
mod scalars;
mod shingle;
mod sketch;
mod sorter;
mod spec;
mod spill;
mod word_hashes;
mod words;

pub use arrange::{Arranged, Arranger, NO_ORDINAL};
pub use band_join::join_band;
pub use cluster::{Decided, MAX_RELEASED_READ, Member, Verifier};
pub use contamination::{BenchmarkIndex, BenchmarkItem, IndexError, MIN_WHOLE_WORDS, Overlap};
pub use deduplicate::{DedupError, deduplicate};
pub use entry::{Entry, Options, Profile, Removal, Rule, TextError, Texts, VerifyMode, id_key};
pub use exact::exact_hash;
pub use forest::Forest;
pub use links::{Link, LinkKind, Links, name_hash};
pub use normal::NormalForm;
pub use outcome::{ClusterReport, ClusterSummary, LARGEST_CLUSTERS, Outcome, SourceLoss, check_losses};
pub use resolve::{BOILERPLATE_DOCUMENTS, Boilerplate, Frequencies, MIN_SHARE, PartOverlap};
pub use rows::Instructions;
pub use sketch::{Sketch, Sketcher, estimate};
pub use sorter::{Merge, Sorted, Sorter, field, record_of};
pub use spec::{CurvePoint, MAX_ROWS, MAX_SHINGLE_WORDS, SPEC_VERSION, SketchSpec, SketchSummary, SpecError};
