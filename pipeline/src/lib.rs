//! A recipe to a plan to stages: what is done where, in which order, and what makes it count. Resume, progress, report.
//!
//! It reads no XML, packs no token and trains nothing itself: those are the crates below it. It never touches a GPU.

mod ahead;
mod benchmarks;
mod card;
mod context;
mod conversations;
mod decisions;
mod documents;
pub mod draws;
mod failure;
mod figures;
mod file_list;
mod inputs;
mod layout;
mod location;
mod lookup;
mod names;
mod observer;
mod other_plan;
mod overlaps;
mod page;
mod placements;
mod plan;
mod ratio;
mod recipe;
mod releases;
mod requests;
mod separators;
mod sequence;
mod session;
mod signatures;
mod stage;
mod stages;
mod tables;
mod token_runs;
pub mod trained;
mod training;
mod wording;

pub mod export;
pub mod forecast;
pub mod gc;
pub mod generation;
pub mod import;
pub mod inspect;
pub mod merge;
pub mod retract;
pub mod runner;
pub mod status;
mod strays;
pub mod summary;
pub mod verification;

pub use context::{Context, Resources};
pub use failure::{Failure, Signal};
pub use inputs::{InputError, InputObject};
pub use location::Location;
pub use mellama_storage::{Interrupt, Stores};
pub use mellama_train::hf::Dtype;
pub use observer::{Observer, Silent, Unit};
pub use other_plan::check_recipe;
pub use plan::{FrozenPlan, IngestTask, PLAN_FORMAT, Plan};
pub use recipe::{Access, ChecksumRecipe, Recipe, RecipeError, RecipeFile, StorageRecipe};
pub use separators::Separators;
pub use session::Session;
pub use stage::{Stage, TaskOutput};
