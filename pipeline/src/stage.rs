//! The stages in their order, and which of them a recipe has. One plain list; every stage is tasks with a commit each.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use mellama_storage::{Counts, ObjectEntry, TaskCommit};
use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;
use crate::recipe::{Recipe, SourceRecipe};
use crate::runner::TASK_MEMORY_BYTES;
use crate::stages;

/// A step of a run, in the order of the recipe's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Raw objects to documents, rejects and signatures.
    Ingest,
    /// Withdrawn records, duplicates and benchmark leaks to decisions.
    Dedup,
    /// Kept documents to token runs.
    Tokenize,
    /// Token quotas and the global order.
    Mix,
    /// Windows of the order to sequences.
    Pack,
    /// Sequences to shards, and the dataset card.
    Publish,
    /// Conversations to masked shards.
    InstructData,
    /// Continual pre-training.
    Cpt,
    /// Instruction tuning.
    Instruct,
    /// Scores.
    Evaluate,
    /// The page a person reads.
    Report,
}

/// What a task made.
#[derive(Debug, Default)]
pub struct TaskOutput {
    /// Published objects.
    pub objects: Vec<ObjectEntry>,
    /// Documents and bytes in and out.
    pub counts: Counts,
    /// Deterministic facts for later stages and the report.
    pub facts: Value,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Stage; 11] = [
        Stage::Ingest,
        Stage::Dedup,
        Stage::Tokenize,
        Stage::Mix,
        Stage::Pack,
        Stage::Publish,
        Stage::InstructData,
        Stage::Cpt,
        Stage::Instruct,
        Stage::Evaluate,
        Stage::Report,
    ];

    /// The name in commands, commits and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Ingest => "ingest",
            Stage::Dedup => "dedup",
            Stage::Tokenize => "tokenize",
            Stage::Mix => "mix",
            Stage::Pack => "pack",
            Stage::Publish => "publish",
            Stage::InstructData => "instruct-data",
            Stage::Cpt => "cpt",
            Stage::Instruct => "instruct",
            Stage::Evaluate => "evaluate",
            Stage::Report => "report",
        }
    }

    /// The stages that a recipe has parts for, in order.
    pub fn of(recipe: &Recipe) -> Vec<Stage> {
        Stage::ALL.into_iter().filter(|stage| stage.wanted(recipe)).collect()
    }

    fn wanted(self, recipe: &Recipe) -> bool {
        let corpus = recipe.corpus.as_ref();
        let has_model = recipe.model.is_some();
        let has_instruct = recipe.instruct.as_ref().is_some_and(|i| !i.source.is_empty());
        match self {
            Stage::Ingest => corpus.is_some_and(|c| !c.source.is_empty()),
            Stage::Dedup => corpus.is_some_and(|c| {
                c.dedup.is_some() || c.decontaminate.is_some() || c.source.iter().any(SourceRecipe::is_sequence)
            }),
            Stage::Tokenize => corpus.is_some_and(|c| c.tokenizer.is_some() && !c.source.is_empty()),
            Stage::Mix => corpus.is_some_and(|c| c.mixture.is_some() || c.pack.is_some()),
            Stage::Pack | Stage::Publish => corpus.is_some_and(|c| c.pack.is_some()),
            Stage::InstructData => has_instruct,
            Stage::Cpt => has_model && recipe.train.is_some(),
            Stage::Instruct => has_model && has_instruct,
            Stage::Evaluate => recipe.evaluate.as_ref().is_some_and(|e| !e.task.is_empty()),
            Stage::Report => true,
        }
    }

    /// The tasks in waves: those of one may run side by side, in any order, once those before it are committed.
    ///
    /// # Errors
    /// As `task_count`.
    pub fn waves(self, context: &Context<'_>) -> Result<Vec<Range<u64>>, Failure> {
        match self {
            Stage::Dedup => Ok(stages::dedup::waves(context.corpus(), context.plan)),
            _ => Ok(std::iter::once(0..self.task_count(context)?).collect()),
        }
    }

    /// Tasks that run at once within the threads and the memory.
    ///
    /// # Errors
    /// As `task_count`.
    pub fn workers(self, context: &Context<'_>) -> Result<usize, Failure> {
        match self {
            Stage::Dedup => return stages::dedup::workers(context),
            Stage::Publish => return stages::publish::workers(context),
            _ => {}
        }
        let by_memory = (context.resources.memory_bytes / TASK_MEMORY_BYTES).max(1) as usize;
        Ok(context.resources.threads.min(by_memory))
    }

    /// Number of tasks; the manifests of the stages it reads must exist.
    ///
    /// # Errors
    /// `Failure::Policy` when an earlier stage is not done.
    pub fn task_count(self, context: &Context<'_>) -> Result<u64, Failure> {
        match self {
            Stage::Ingest => Ok(context.plan.ingest.len() as u64),
            Stage::Dedup => Ok(stages::dedup::waves(context.corpus(), context.plan).last().map_or(0, |wave| wave.end)),
            Stage::Tokenize => stages::tokenize::task_count(context),
            Stage::Pack => stages::pack::task_count(context),
            Stage::Publish => stages::publish::task_count(context),
            Stage::Evaluate => Ok(context.plan.evaluation.len() as u64),
            _ => Ok(1),
        }
    }

    /// Does one task and returns what it published; the caller commits.
    ///
    /// # Errors
    /// Whatever the task meets; nothing that it wrote is visible as committed.
    pub fn run_task(self, context: &Context<'_>, task: u64) -> Result<TaskOutput, Failure> {
        match self {
            Stage::Ingest => stages::ingest::run_task(context, task),
            Stage::Dedup => stages::dedup::run_task(context, task),
            Stage::Tokenize => stages::tokenize::run_task(context, task),
            Stage::Mix => stages::mix::run_task(context),
            Stage::Pack => stages::pack::run_task(context, task),
            Stage::Publish => stages::publish::run_task(context, task),
            Stage::InstructData => stages::instruct_data::run_task(context),
            Stage::Cpt => stages::cpt::run_task(context),
            Stage::Instruct => stages::instruct::run_task(context),
            Stage::Evaluate => stages::evaluate::run_task(context, task),
            Stage::Report => stages::report::run_task(context),
        }
    }

    /// Facts of the whole stage from those of its tasks; refuses a stage that breaks a limit of the recipe.
    ///
    /// # Errors
    /// `Failure::Input` when rejects are over the budget.
    pub fn close(self, context: &Context<'_>, commits: &[TaskCommit]) -> Result<Value, Failure> {
        match self {
            Stage::Ingest => stages::ingest::close(context, commits),
            Stage::Tokenize => Ok(stages::tokenize::close(context, commits)),
            Stage::Pack => stages::pack::close(context, commits),
            Stage::Publish => stages::publish::close(context, commits),
            // The last task says it all.
            Stage::Dedup => Ok(commits.last().map_or(Value::Null, |c| c.facts.clone())),
            _ => Ok(commits.first().map_or(Value::Null, |c| c.facts.clone())),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Stage, Failure> {
        let known = || Stage::ALL.map(Stage::name).join(", ");
        let found = Stage::ALL.into_iter().find(|stage| stage.name() == name);
        found.ok_or_else(|| Failure::Policy(format!("stage \"{name}\" is not known; use one of: {}", known())))
    }
}
