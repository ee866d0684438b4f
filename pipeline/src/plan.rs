//! What a recipe resolves to: the frozen inputs, cut into ingest tasks, and the digest that names the run.
//!
//! Planning lists inputs and reads nothing of them, but for the sizes of row groups, frames and members in those that are big
//! enough to be cut, and for the first bytes of those among them that cannot be; it never writes.

use mellama_sources::{Format, Limits, Part};
use mellama_storage::StoreError;
use serde::Serialize;

use crate::inputs::{self, InputError, InputObject, Patterns};
use crate::recipe::{Recipe, RecipeFile, SourceRecipe};
use crate::releases::PlannedRelease;

/// Version of the layout of `plan.json` and of everything that a plan's digest must tell apart.
pub const PLAN_FORMAT: u32 = 6;
/// First plan format whose shards interleave the domains by tokens; before, they did by sequences.
pub(crate) const TOKEN_TURNS_SINCE: u32 = 6;
/// First plan format whose documents and conversations have their keys in tables.
pub(crate) const KEYS_SINCE: u32 = 5;
/// First plan format whose runs laid out their signatures as this version does.
pub(crate) const SIGNATURES_SINCE: u32 = 3;
/// Input bytes after which an ingest task is closed.
pub(crate) const TASK_INPUT_BYTES: u64 = 64 << 20;
/// Bytes of an object above which it is cut into parts of about `TASK_INPUT_BYTES`, where its format allows that.
const SPLIT_OVER_BYTES: u64 = 256 << 20;
/// Decompressed bytes of a part of such an object where its format allows no cut: such parts are read from its beginning. At 7 MB/s,
/// which is slower than anything that was measured, one takes ten minutes.
pub(crate) const SEQUENTIAL_PART_BYTES: u64 = 4 << 30;
/// Input objects after which an ingest task is closed.
pub(crate) const TASK_INPUT_OBJECTS: usize = 4096;

/// One task of `ingest`: some objects of one source, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IngestTask {
    /// Index of the source in the recipe.
    pub source: usize,
    /// Sorted by name.
    pub inputs: Vec<InputObject>,
}

/// A checked recipe with its inputs frozen.
#[derive(Debug, Clone)]
pub struct Plan {
    /// BLAKE3 of the recipe, the inputs with their versions, and the format versions; 64 hex digits.
    pub id: String,
    /// Tasks of `ingest`, in order.
    pub ingest: Vec<IngestTask>,
    /// Input objects of each `[[instruct.source]]`.
    pub instruct: Vec<Vec<InputObject>>,
    /// Earlier runs that the corpus is deduplicated against.
    pub releases: Vec<PlannedRelease>,
    /// Benchmark files that the corpus must not contain.
    pub benchmarks: Vec<InputObject>,
    /// The tokenizer file.
    pub tokenizer: Option<InputObject>,
    /// Files of the starting checkpoint, and of the one to evaluate.
    pub checkpoint: Vec<InputObject>,
    /// Files of the evaluation tasks: data, then ground truth where there is one.
    pub evaluation: Vec<Vec<InputObject>>,
    /// Patterns that matched nothing.
    pub warnings: Vec<String>,
}

/// What was found; what was not goes to the faults.
fn kept<T>(found: Result<T, InputError>, faults: &mut Vec<InputError>) -> Option<T> {
    found.map_err(|fault| faults.push(fault)).ok()
}

/// The plan as `plan.json` holds it.
#[derive(Debug, Serialize)]
pub struct FrozenPlan<'a> {
    /// `PLAN_FORMAT`.
    pub format: u32,
    /// Version of the frozen hash specification of deduplication.
    pub dedup_spec: u32,
    /// The recipe as written, variables not expanded.
    pub recipe: &'a Recipe,
    /// Ingest tasks with their inputs.
    pub ingest: &'a [IngestTask],
    /// Instruction inputs by source.
    pub instruct: &'a [Vec<InputObject>],
    /// Earlier runs.
    #[serde(skip_serializing_if = "<[PlannedRelease]>::is_empty")]
    pub releases: &'a [PlannedRelease],
    /// Benchmark files.
    pub benchmarks: &'a [InputObject],
    /// Tokenizer file.
    pub tokenizer: &'a Option<InputObject>,
    /// Starting checkpoint.
    pub checkpoint: &'a [InputObject],
    /// Evaluation files.
    pub evaluation: &'a [Vec<InputObject>],
}

impl Plan {
    /// Lists every input and freezes it.
    ///
    /// # Errors
    /// `InputError` for what is missing or cannot be listed, the first in the order of the recipe.
    pub fn resolve(file: &RecipeFile) -> Result<Plan, InputError> {
        let (plan, mut faults) = Plan::resolve_all(file);
        if faults.is_empty() { Ok(plan) } else { Err(faults.swap_remove(0)) }
    }

    /// The plan of what is there, and all that is not. Where anything is missing the plan is none to run and has no id.
    pub(crate) fn resolve_all(file: &RecipeFile) -> (Plan, Vec<InputError>) {
        let mut plan = Plan {
            id: String::new(),
            ingest: Vec::new(),
            instruct: Vec::new(),
            releases: Vec::new(),
            benchmarks: Vec::new(),
            tokenizer: None,
            checkpoint: Vec::new(),
            evaluation: Vec::new(),
            warnings: file.recipe.warnings(),
        };
        let mut faults = Vec::new();
        plan.corpus(file, &mut faults);
        plan.model(file, &mut faults);
        if faults.is_empty() {
            let mut hasher = blake3::Hasher::new();
            // A plan has string keys only and the writer cannot fail.
            let _ = serde_json::to_writer(&mut hasher, &plan.frozen(&file.recipe));
            plan.id = hasher.finalize().to_hex().to_string();
        }
        (plan, faults)
    }

    /// Every input, in parts where it is read so.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &InputObject> {
        let tasks = self.ingest.iter().flat_map(|task| &task.inputs);
        let files = self.instruct.iter().chain(&self.evaluation).flatten();
        tasks.chain(files).chain(&self.benchmarks).chain(&self.tokenizer).chain(&self.checkpoint)
    }

    /// Sizes of the objects of a source, each once, however many parts it is read in.
    pub(crate) fn sizes_of(&self, source: usize) -> Vec<u64> {
        let tasks = self.ingest.iter().filter(|task| task.source == source);
        // Parts of an object follow each other.
        let mut objects: Vec<&InputObject> = tasks.flat_map(|task| &task.inputs).collect();
        objects.dedup_by_key(|object| object.place());
        objects.into_iter().map(|object| object.size_bytes).collect()
    }

    /// The form that is stored and digested.
    pub fn frozen<'a>(&'a self, recipe: &'a Recipe) -> FrozenPlan<'a> {
        FrozenPlan {
            format: PLAN_FORMAT,
            dedup_spec: mellama_dedup::SPEC_VERSION,
            recipe,
            ingest: &self.ingest,
            instruct: &self.instruct,
            releases: &self.releases,
            benchmarks: &self.benchmarks,
            tokenizer: &self.tokenizer,
            checkpoint: &self.checkpoint,
            evaluation: &self.evaluation,
        }
    }

    fn corpus(&mut self, file: &RecipeFile, faults: &mut Vec<InputError>) {
        let Some(corpus) = &file.recipe.corpus else { return };
        let limits = corpus.limits.clone().unwrap_or_default();
        for (index, source) in corpus.source.iter().enumerate() {
            let subject = format!("source \"{}\"", source.name);
            let wanted = Patterns { subject: &subject, inputs: &source.inputs, anonymous: source.anonymous };
            let objects = self.listed(file, wanted, faults);
            self.ingest.extend(cut(index, kept(split(source, objects, &limits), faults).unwrap_or_default()));
        }
        if let Some(dedup) = &corpus.dedup {
            self.releases = kept(PlannedRelease::resolve(file, dedup), faults).unwrap_or_default();
        }
        if let Some(decontaminate) = &corpus.decontaminate {
            let patterns = &decontaminate.benchmarks;
            let wanted = Patterns { subject: "corpus.decontaminate.benchmarks", inputs: patterns, anonymous: false };
            self.benchmarks = self.listed(file, wanted, faults);
        }
        if let Some(tokenizer) = &corpus.tokenizer {
            self.tokenizer = kept(inputs::resolve_file(file, &tokenizer.path), faults);
        }
    }

    fn model(&mut self, file: &RecipeFile, faults: &mut Vec<InputError>) {
        let recipe = &file.recipe;
        let start = recipe.model.iter().filter_map(|m| m.checkpoint.as_ref());
        for folder in start.chain(recipe.evaluate.iter().filter_map(|e| e.checkpoint.as_ref())) {
            let wanted = Patterns { subject: "checkpoint", inputs: std::slice::from_ref(folder), anonymous: false };
            let found = inputs::resolve(file, wanted).map(|resolved| resolved.objects);
            self.checkpoint.extend(kept(found, faults).unwrap_or_default());
        }
        for source in recipe.instruct.iter().flat_map(|i| &i.source) {
            let subject = format!("instruct source \"{}\"", source.name);
            let wanted = Patterns { subject: &subject, inputs: &source.inputs, anonymous: false };
            let objects = self.listed(file, wanted, faults);
            self.instruct.push(objects);
        }
        for task in recipe.evaluate.iter().flat_map(|e| &e.task) {
            let files = std::iter::once(&task.path).chain(&task.ground_truth);
            self.evaluation.push(files.filter_map(|path| kept(inputs::resolve_file(file, path), faults)).collect());
        }
    }

    /// The objects of some patterns; what is to be said of them goes to the warnings. Every path that is missing is a fault.
    fn listed(&mut self, file: &RecipeFile, wanted: Patterns<'_>, faults: &mut Vec<InputError>) -> Vec<InputObject> {
        match inputs::resolve(file, wanted) {
            Ok(resolved) => {
                self.warnings.extend(resolved.warnings);
                return resolved.objects;
            }
            Err(InputError::Missing { .. }) => {
                let one = |pattern| Patterns { inputs: std::slice::from_ref(pattern), ..wanted };
                let alone = wanted.inputs.iter().map(|pattern| inputs::resolve(file, one(pattern)));
                faults.extend(alone.filter_map(Result::err).filter(|fault| matches!(fault, InputError::Missing { .. })));
            }
            Err(other) => faults.push(other),
        }
        Vec::new()
    }
}

/// Big objects in parts, where their format can be read so.
fn split(source: &SourceRecipe, objects: Vec<InputObject>, limits: &Limits) -> Result<Vec<InputObject>, InputError> {
    let Ok(format) = source.format.parse::<Format>() else { return Ok(objects) };
    let mut all = Vec::with_capacity(objects.len());
    for object in objects {
        let parts = if object.size_bytes > SPLIT_OVER_BYTES { parts(format, &object, limits)? } else { Vec::new() };
        match parts.as_slice() {
            [] => all.push(object),
            parts => all.extend(parts.iter().map(|part| InputObject { part: Some(*part), ..object.clone() })),
        }
    }
    Ok(all)
}

fn parts(format: Format, object: &InputObject, limits: &Limits) -> Result<Vec<Part>, InputError> {
    let unread = |e| InputError::Store(StoreError::from_io(object.name.clone(), "reading", e));
    let parts = mellama_sources::split::split(format, object.open_random()?, TASK_INPUT_BYTES, limits).map_err(unread)?;
    if !parts.is_empty() || format.wants_random_access(&object.name) {
        return Ok(parts);
    }
    mellama_sources::sequential::parts(format, &*object.open_random()?, SEQUENTIAL_PART_BYTES, limits).map_err(unread)
}

/// Consecutive objects, closed at `TASK_INPUT_BYTES` or `TASK_INPUT_OBJECTS`.
fn cut(source: usize, objects: Vec<InputObject>) -> Vec<IngestTask> {
    let mut tasks: Vec<IngestTask> = Vec::new();
    let mut bytes = 0;
    for object in objects {
        let full =
            tasks.last().is_none_or(|t| bytes + object.input_bytes() > TASK_INPUT_BYTES || t.inputs.len() >= TASK_INPUT_OBJECTS);
        if full {
            tasks.push(IngestTask { source, inputs: Vec::new() });
            bytes = 0;
        }
        bytes += object.input_bytes();
        tasks.last_mut().expect("one was just pushed").inputs.push(object);
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[u64], expected: &[usize]) {
        let object = |(i, size): (usize, &u64)| InputObject {
            name: format!("{i:03}"),
            base: crate::location::Location::of("/"),
            store: crate::inputs::InputStore(std::sync::Arc::new(mellama_storage::MemoryStore::new("inputs"))),
            key: format!("{i:03}"),
            size_bytes: *size,
            etag: String::new(),
            part: None,
        };
        let tasks = cut(0, sizes.iter().enumerate().map(object).collect());
        assert_eq!(tasks.iter().map(|t| t.inputs.len()).collect::<Vec<_>>(), expected, "{sizes:?}");
    }

    #[test]
    fn tasks_are_bounded_in_bytes() {
        check(&[], &[]);
        check(&[1, 2, 3], &[3]);
        check(&[40 << 20, 40 << 20, 1], &[1, 2]);
        check(&[100 << 20, 1, 1], &[1, 2]);
    }
}
