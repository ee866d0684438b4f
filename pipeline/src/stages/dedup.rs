//! `dedup`: which documents go, and why. Replaced and withdrawn records, duplicates and benchmark leaks of the whole corpus.
//!
//! Its tasks come in waves, each of which reads what the waves before it published:
//!
//! | wave | tasks | reads | publishes in `dedup/` |
//! |---|---|---|---|
//! | order | 1 | profiles | `ordinals`, `exact`, `links` |
//! | join | one a band | one column of the signatures, ordinals | `band_NNN-forest` |
//! | link | 1 | forests, links, profiles | `clusters` |
//! | verify | by the size of the corpus | clusters, texts of their documents | `verified-NNN` |
//! | settle | 1 | all of it, benchmark hits | `decisions/`, `removed/`, `contamination/` |
//!
//! Without `[corpus.dedup]` only the last one is left. Documents stay as ingest wrote them.

mod corpus;
mod found;
mod join;
mod link;
mod order;
mod settle;
mod verify;

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{ListArray, UInt32Array};
use mellama_dedup::{SketchSpec, VerifyMode};
use mellama_storage::{ObjectEntry, TaskCommit, Workdir};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::recipe::{CorpusRecipe, DedupRecipe};
use crate::runner;
use crate::stage::{Stage, TaskOutput};
use crate::tables;

/// Most tasks that compare: there are as many as ingest has, up to this.
const MAX_VERIFY_TASKS: u64 = 256;
/// Memory that a task of this stage needs beside 8 bytes a document.
const TASK_MEMORY_BYTES: u64 = 128 << 20;

/// The sketch setting of a recipe.
pub(crate) fn spec(recipe: &DedupRecipe) -> SketchSpec {
    SketchSpec { bands: recipe.bands, rows: recipe.rows, shingle_words: recipe.shingle_words }
}

fn verify_mode(recipe: &DedupRecipe) -> VerifyMode {
    match recipe.verify.as_str() {
        "tolerant" => VerifyMode::Tolerant { min_similarity: recipe.min_similarity },
        _ => VerifyMode::Strict,
    }
}

/// The tasks of the stage by what they do.
#[derive(Clone, Copy)]
struct Phases<'a> {
    recipe: &'a DedupRecipe,
    verify_tasks: u64,
}

/// A finished task that another one reads.
struct Done {
    commit: TaskCommit,
}

impl<'a> Phases<'a> {
    /// `None` without `[corpus.dedup]`.
    fn of(corpus: &'a CorpusRecipe, plan: &Plan) -> Option<Phases<'a>> {
        let verify_tasks = (plan.ingest.len() as u64).clamp(1, MAX_VERIFY_TASKS);
        corpus.dedup.as_ref().map(|recipe| Phases { recipe, verify_tasks })
    }

    fn join(&self) -> Range<u64> {
        1..1 + u64::from(self.recipe.bands)
    }

    fn link(&self) -> u64 {
        self.join().end
    }

    fn verify(&self) -> Range<u64> {
        self.link() + 1..self.link() + 1 + self.verify_tasks
    }

    /// A task of an earlier wave. One that is not committed is done here first: the answer is right whatever the order, and
    /// running the waves one after the other saves doing it twice.
    ///
    /// # Errors
    /// What that task meets.
    fn commit(self, context: &Context<'_>, task: u64) -> Result<Done, Failure> {
        if let Some(commit) = context.committed(Stage::Dedup, task)? {
            return Ok(Done { commit });
        }
        let waves = waves_text(&self.waves());
        context.observer.warn(&format!("stage dedup: task {task} is not committed yet and is done here; its waves are {waves}"));
        Ok(Done { commit: runner::commit(context, Stage::Dedup, task)? })
    }

    fn order(self, context: &Context<'_>) -> Result<Done, Failure> {
        self.commit(context, 0)
    }

    fn linked(self, context: &Context<'_>) -> Result<Done, Failure> {
        self.commit(context, self.link())
    }

    fn waves(&self) -> Vec<Range<u64>> {
        let (link, settle) = (self.link(), self.verify().end);
        vec![0..1, self.join(), link..link + 1, self.verify(), settle..settle + 1]
    }
}

fn waves_text(waves: &[Range<u64>]) -> String {
    let shown = |wave: &Range<u64>| match wave.end - wave.start {
        1 => wave.start.to_string(),
        _ => format!("{} to {}", wave.start, wave.end - 1),
    };
    waves.iter().map(shown).collect::<Vec<_>>().join("; ")
}

impl Done {
    fn facts<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let (task, facts) = (self.commit.task, self.commit.facts.clone());
        serde_json::from_value(facts)
            .map_err(|e| Failure::Verification(format!("commits/dedup/{task:05}.json: facts not understood: {e}")))
    }

    /// The object with this stem.
    fn object(&self, stem: &str) -> Result<&ObjectEntry, Failure> {
        let prefix = format!("dedup/{stem}-");
        let found = self.commit.objects.iter().find(|entry| entry.key.starts_with(&prefix));
        found.ok_or_else(|| Failure::Verification(format!("commits/dedup/{:05}.json: lists no {prefix}*", self.commit.task)))
    }
}

/// Tasks that can run side by side, in the order in which the waves are run.
pub(crate) fn waves(corpus: &CorpusRecipe, plan: &Plan) -> Vec<Range<u64>> {
    Phases::of(corpus, plan).map_or_else(|| std::iter::once(0..1).collect(), |phases| phases.waves())
}

/// Tasks that run at once within the memory.
pub(crate) fn workers(context: &Context<'_>) -> Result<usize, Failure> {
    let documents = context.manifest(Stage::Ingest)?.counts.written.documents;
    Ok(workers_for(context, documents))
}

fn workers_for(context: &Context<'_>, documents: u64) -> usize {
    let need = TASK_MEMORY_BYTES + 2 * join::FOREST_BYTES * documents;
    (context.resources.memory_bytes / need).clamp(1, context.resources.threads as u64) as usize
}

/// Memory for the records of one band beside its forest, when as many bands are joined at once as the memory allows.
fn join_budget(context: &Context<'_>, documents: u32) -> u64 {
    let documents = u64::from(documents);
    let share = context.resources.memory_bytes / workers_for(context, documents) as u64;
    share.saturating_sub(join::FOREST_BYTES * documents) / 2
}

/// Does one task.
pub(crate) fn run_task(context: &Context<'_>, task: u64) -> Result<TaskOutput, Failure> {
    let Some(phases) = Phases::of(context.corpus(), context.plan) else { return settle::run(context, None) };
    match task {
        0 => order::run(context),
        task if phases.join().contains(&task) => join::run(context, &phases, (task - 1) as u32),
        task if task == phases.link() => link::run(context, &phases),
        task if phases.verify().contains(&task) => verify::run(context, &phases, task - phases.verify().start),
        _ => settle::run(context, Some(&phases)),
    }
}

/// What later stages must leave out of one document's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removed {
    /// The whole document.
    Whole,
    /// These byte ranges of its text, ascending.
    Ranges(Vec<(u64, u64)>),
}

/// What the dedup stage takes from the documents of one ingest task, by row. Empty without that stage.
///
/// # Errors
/// As `Context::manifest`.
pub(crate) fn removed_rows(context: &Context<'_>, task: u64) -> Result<BTreeMap<u32, Removed>, Failure> {
    let mut rows = BTreeMap::new();
    if !Stage::of(&context.file.recipe).contains(&Stage::Dedup) {
        return Ok(rows);
    }
    let manifest = context.manifest(Stage::Dedup)?;
    let prefix = format!("removed/{task:05}-");
    for entry in manifest.objects.iter().filter(|entry| entry.key.starts_with(&prefix)) {
        for_each_removed(context.workdir, entry, |found, row, removed| {
            if u64::from(found) == task {
                rows.insert(row, removed);
            }
        })?;
    }
    Ok(rows)
}

/// Calls `visit` with the ingest task, the row and what is removed, for each row of a table of removed places.
fn for_each_removed(workdir: &Workdir, entry: &ObjectEntry, mut visit: impl FnMut(u32, u32, Removed)) -> Result<(), Failure> {
    for batch in tables::read(workdir, entry)? {
        let tasks: &UInt32Array = tables::column(&batch, "task")?;
        let rows: &UInt32Array = tables::column(&batch, "row")?;
        let starts: &ListArray = tables::column(&batch, "cut_starts")?;
        let ends: &ListArray = tables::column(&batch, "cut_ends")?;
        for i in 0..batch.num_rows() {
            let cuts: Vec<(u64, u64)> = tables::list_row(starts, i).into_iter().zip(tables::list_row(ends, i)).collect();
            visit(tasks.value(i), rows.value(i), if cuts.is_empty() { Removed::Whole } else { Removed::Ranges(cuts) });
        }
    }
    Ok(())
}
