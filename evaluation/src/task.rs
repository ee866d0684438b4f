//! A task: its data file read, checked as a whole, and named by digest.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::item::{Item, ItemProblems, check, select};
use crate::prompt::{PUBMEDQA_PROMPT, PromptTemplate, QUERY_PROMPT};
use crate::pubmedqa;
use crate::rows;
use crate::spec::{TaskFormat, TaskSpec};

/// Largest data file that is read.
pub(crate) const FILE_LIMIT_BYTES: u64 = 4 << 30;

/// A task ready to score.
#[derive(Clone)]
pub struct Task {
    /// What was asked for.
    pub spec: TaskSpec,
    /// The items to score, in the order of the file.
    pub items: Vec<Item>,
    /// Items of the file, before the limit.
    pub all_items: u64,
    /// Items whose answer text is not their gold choice, before the limit.
    pub answer_mismatches: u64,
    /// BLAKE3 of the data file.
    pub data_digest: String,
    /// BLAKE3 of the ground-truth file.
    pub ground_truth_digest: Option<String>,
    /// How prompts were made.
    pub prompt: PromptTemplate,
}

/// A data file that cannot be scored; ids and places only.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("task {task}: {path}: cannot be read")]
    Io {
        /// The task.
        task: String,
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("task {task}: {path}: more than {FILE_LIMIT_BYTES} bytes; split the task")]
    TooLarge {
        /// The task.
        task: String,
        /// The file.
        path: String,
    },
    /// A part of the file cannot be read as its format says.
    #[error("task {task}: {path}: {problem}")]
    Content {
        /// The task.
        task: String,
        /// The file.
        path: String,
        /// Where and what, without its text.
        problem: String,
    },
    /// Items break rules.
    #[error("task {task}: {path}: {problems}; correct the data, nothing was scored")]
    Items {
        /// The task.
        task: String,
        /// The file.
        path: String,
        /// Which, and how many.
        problems: ItemProblems,
    },
    /// There is nothing to score.
    #[error("task {task}: {path}: no items")]
    Empty {
        /// The task.
        task: String,
        /// The file.
        path: String,
    },
    /// A key that the format has no use for.
    #[error("task {task}: ground_truth is for the format pubmedqa only; remove it")]
    GroundTruth {
        /// The task.
        task: String,
    },
}

impl Task {
    /// Reads and checks the files of a task.
    ///
    /// # Errors
    /// [`LoadError`] for files that cannot be read or items that cannot be scored; nothing is passed over.
    pub fn load(spec: &TaskSpec) -> Result<Self, LoadError> {
        let data = read(spec, &spec.path)?;
        let truth = spec.ground_truth.as_deref().map(|path| read(spec, path)).transpose()?;
        Self::from_bytes(spec, &data, truth.as_deref())
    }

    /// The same from bytes already read.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(spec: &TaskSpec, data: &[u8], truth: Option<&[u8]>) -> Result<Self, LoadError> {
        let (task, path) = (spec.name.clone(), spec.path.clone());
        let content = |problem: String| LoadError::Content { task: task.clone(), path: path.clone(), problem };
        let (raw, prompt) = match (spec.format, truth) {
            (TaskFormat::MellamaRows, Some(_)) => return Err(LoadError::GroundTruth { task }),
            (TaskFormat::MellamaRows, None) => {
                let raw = rows::parse(data).map_err(|bad| content(format!("line {}: {}", bad.line, bad.problem)))?;
                (raw, QUERY_PROMPT)
            }
            (TaskFormat::Pubmedqa, truth) => {
                let raw = pubmedqa::parse(data, truth).map_err(|problem| content(problem.to_string()))?;
                (raw, PUBMEDQA_PROMPT)
            }
        };
        let checked = check(raw).map_err(|problems| LoadError::Items { task: task.clone(), path: path.clone(), problems })?;
        let all_items = checked.items.len() as u64;
        let items = select(checked.items, spec.limit);
        if items.is_empty() {
            return Err(LoadError::Empty { task, path });
        }
        Ok(Self {
            spec: spec.clone(),
            items,
            all_items,
            answer_mismatches: checked.answer_mismatches,
            data_digest: blake3::hash(data).to_hex().to_string(),
            ground_truth_digest: truth.map(|truth| blake3::hash(truth).to_hex().to_string()),
            prompt,
        })
    }
}

fn read(spec: &TaskSpec, path: &str) -> Result<Vec<u8>, LoadError> {
    let (task, file) = (spec.name.clone(), path.to_owned());
    let io = |source| LoadError::Io { task: task.clone(), path: file.clone(), source };
    let mut bytes = Vec::new();
    File::open(Path::new(path)).map_err(io)?.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES { Err(LoadError::TooLarge { task, path: file }) } else { Ok(bytes) }
}
