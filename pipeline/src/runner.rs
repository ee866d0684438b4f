//! Runs stages: pending tasks over threads, a commit each, and the manifest when all are there. Rerunning is always right.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mellama_storage::{AttemptId, CommitOutcome, Counts, ObjectEntry, ProtocolError, StageManifest, TaskCommit, Usage};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::inputs::InputObject;
use crate::observer::Unit;
use crate::other_plan;
use crate::stage::Stage;
use crate::strays;
use crate::training;

/// Memory that one running task may need at most, in bytes: two row groups of documents and their working copies.
pub(crate) const TASK_MEMORY_BYTES: u64 = 192 << 20;

/// The one JSON object that `stage` prints.
#[derive(Debug, Clone, Serialize)]
pub struct StageResult {
    /// Its name.
    pub stage: &'static str,
    /// The task that was run, where only one was.
    pub task: Option<u64>,
    /// Number of tasks of the stage.
    pub tasks: u64,
    /// Tasks that are not committed yet.
    pub pending: u64,
    /// `manifests/STAGE.json` exists.
    pub complete: bool,
    /// Where the manifest lies, or will.
    pub manifest: String,
    /// BLAKE3 of the objects' names and digests and of the counts; null until complete.
    pub digest: Option<String>,
    /// Documents and bytes.
    pub counts: Counts,
    /// What was asked of buckets meanwhile, by this process.
    #[serde(skip_serializing_if = "Usage::is_nothing")]
    pub requests: Usage,
}

/// Runs the stages of the recipe that are not done, up to and including `until`.
///
/// # Errors
/// The first failure; what was committed before it stays.
pub fn run(context: &Context<'_>, until: Option<Stage>) -> Result<Vec<StageResult>, Failure> {
    let stages = Stage::of(&context.file.recipe);
    if let Some(last) = until.filter(|last| !stages.contains(last)) {
        return Err(Failure::Policy(format!("--until {last}: the recipe has no part for this stage")));
    }
    let wanted = stages.iter().copied().filter(|stage| until.is_none_or(|last| *stage <= last));
    let finished = context.workdir.finished()?;
    let is_training = |stage: &Stage| [Stage::Cpt, Stage::Instruct].contains(stage) && !finished.contains(stage.name());
    // Before the folder is this plan's: what is advised changes the plan.
    let trainings: Vec<Stage> = wanted.clone().filter(is_training).collect();
    training::memory::check(context, &trainings)?;
    training::device::check(context, &trainings)?;
    freeze(context)?;
    let results = wanted.map(|stage| metered(context, || every_task(context, stage, &finished)));
    let results = results.collect::<Result<Vec<_>, _>>()?;
    succeed_if_complete(context)?;
    Ok(results)
}

/// The result of some work with what was asked of buckets meanwhile.
fn metered(context: &Context<'_>, work: impl FnOnce() -> Result<StageResult, Failure>) -> Result<StageResult, Failure> {
    let before = context.file.stores().usage();
    let result = work()?;
    Ok(StageResult { requests: context.file.stores().usage().since(&before), ..result })
}

/// Runs what is pending of a stage and closes it. A listing of finished stages tells whether it is worth while to ask for its
/// manifest; what another process finished meanwhile is found when the own one is put.
fn every_task(context: &Context<'_>, stage: Stage, finished: &BTreeSet<String>) -> Result<StageResult, Failure> {
    let there = if finished.contains(stage.name()) { context.published(stage)? } else { None };
    if let Some(manifest) = there {
        return Ok(result(context, stage, &manifest));
    }
    let tasks = stage.task_count(context)?;
    let open = pending(context, stage, 0..tasks, &context.workdir.committed(stage.name())?)?;
    begin(context, stage, tasks, &open);
    run_open(context, stage, &open)?;
    let missing = || Failure::Storage(format!("stage {stage}: a commit that was just written is gone; check the storage"));
    let closed = close(context, stage, tasks)?.ok_or_else(missing)?;
    context.observer.end(stage.name(), &summary(&closed));
    Ok(closed)
}

/// Runs those of some tasks that are not committed and closes the stage if none is open any more.
///
/// # Errors
/// `Failure::NothingToDo` when there are no such tasks or all are committed already.
pub fn run_tasks(context: &Context<'_>, stage: Stage, wanted: Range<u64>) -> Result<StageResult, Failure> {
    metered(context, || some_tasks(context, stage, &wanted))
}

fn some_tasks(context: &Context<'_>, stage: Stage, wanted: &Range<u64>) -> Result<StageResult, Failure> {
    freeze(context)?;
    let name = stage.name();
    let tasks = stage.task_count(context)?;
    let there = wanted.start..wanted.end.min(tasks);
    if there.is_empty() {
        if tasks == 0 {
            close_if_last(context, stage, tasks)?;
        }
        return Err(Failure::NothingToDo(format!("stage {name}: there is no {}, it has {tasks} from 0", named(wanted))));
    }
    // Whether one task is committed its commit tells as soon as a listing.
    let listed = if there.end - there.start > 1 { context.workdir.committed(name)? } else { there.clone().collect() };
    let open = pending(context, stage, there.clone(), &listed)?;
    if open.is_empty() {
        close_if_last(context, stage, tasks)?;
        return Err(Failure::NothingToDo(format!("stage {name}: {} committed already", named(&there))));
    }
    begin(context, stage, tasks, &open);
    run_open(context, stage, &open)?;
    let task = Some(wanted.start).filter(|_| wanted.end - wanted.start == 1);
    if let Some(closed) = close_if_last(context, stage, tasks)? {
        return Ok(StageResult { task, ..closed });
    }
    let mut counts = Counts::default();
    for task in there.clone() {
        counts += context.committed(stage, task)?.map(|commit| commit.counts).unwrap_or_default();
    }
    let left = tasks.saturating_sub(context.workdir.committed(name)?.len() as u64);
    context.observer.end(name, &format!("{} committed, {left} to do", named(&there)));
    Ok(StageResult {
        stage: name,
        task,
        tasks,
        pending: left,
        complete: false,
        manifest: manifest_uri(context, stage),
        digest: None,
        counts,
        requests: Usage::default(),
    })
}

/// Runs open tasks wave by wave.
fn run_open(context: &Context<'_>, stage: Stage, open: &[u64]) -> Result<(), Failure> {
    for wave in stage.waves(context)? {
        let of_wave: Vec<u64> = open.iter().copied().filter(|task| wave.contains(task)).collect();
        over_threads(stage.workers(context)?, &of_wave, |task| commit(context, stage, task))?;
    }
    Ok(())
}

/// Tasks as a message names them.
fn named(tasks: &Range<u64>) -> String {
    match tasks.end - tasks.start {
        1 => format!("task {}", tasks.start),
        _ => format!("tasks {} to {}", tasks.start, tasks.end - 1),
    }
}

/// Runs all pending tasks of one stage for `mellama stage NAME` without `--task`.
///
/// # Errors
/// `Failure::NothingToDo` when its manifest exists already.
pub fn run_whole_stage(context: &Context<'_>, stage: Stage) -> Result<StageResult, Failure> {
    freeze(context)?;
    if context.published(stage)?.is_some() {
        // Whoever put the manifest may have ended before the mark.
        succeed_if_complete(context)?;
        return Err(Failure::NothingToDo(format!("stage {stage}: finished already")));
    }
    run_alone(context, stage)
}

/// One stage by its own command (`train`, `evaluate`, `report`): runs what is pending, and is content when nothing is.
///
/// # Errors
/// The first failure of a task.
pub fn run_single(context: &Context<'_>, stage: Stage) -> Result<StageResult, Failure> {
    freeze(context)?;
    run_alone(context, stage)
}

/// Every task of one stage; the mark of success where it was the last.
fn run_alone(context: &Context<'_>, stage: Stage) -> Result<StageResult, Failure> {
    let result = metered(context, || every_task(context, stage, &context.workdir.finished()?))?;
    succeed_if_complete(context)?;
    Ok(result)
}

/// Whether the recipe has this stage.
///
/// # Errors
/// `Failure::Policy` when it has not.
pub fn require(context: &Context<'_>, stage: Stage) -> Result<(), Failure> {
    if Stage::of(&context.file.recipe).contains(&stage) {
        return Ok(());
    }
    let path = context.file.path.display();
    Err(Failure::Policy(format!("{path}: stage {stage}: the recipe has no part for it")))
}

/// Digest of what a stage published: equal for equal output, whatever the machine, the threads or the plan's folder.
pub fn digest(manifest: &StageManifest) -> String {
    let content = (&manifest.stage, &manifest.objects, &manifest.counts);
    let mut hasher = blake3::Hasher::new();
    // Plain data and a writer that cannot fail.
    let _ = serde_json::to_writer(&mut hasher, &content);
    hasher.finalize().to_hex().to_string()
}

/// Loads what every later stage depends on, so that a tokenizer that is none, or not the checkpoint's, is told before any work.
fn preflight(context: &Context<'_>) -> Result<(), Failure> {
    if context.plan.tokenizer.is_none() {
        return Ok(());
    }
    let tokenizer = context.tokenizer()?;
    context.separators()?;
    let recipe = &context.file.recipe;
    let lengths = [
        recipe.corpus.as_ref().and_then(|corpus| corpus.pack.as_ref()).map(|pack| pack.sequence_length),
        recipe.instruct.as_ref().and_then(|instruct| instruct.sequence_length),
    ];
    let trained = recipe.train.is_some() || recipe.instruct.is_some();
    let longest = lengths.into_iter().flatten().max().filter(|_| trained);
    let start = recipe.model.iter().filter_map(|model| model.checkpoint.as_ref()).map(|folder| (folder, longest));
    let scored = recipe.evaluate.iter().filter_map(|evaluate| evaluate.checkpoint.as_ref()).map(|folder| (folder, None));
    start.chain(scored).try_for_each(|(folder, length)| training::check_checkpoint(context, folder, &tokenizer, length))
}

/// Digest of the shards of a stage: what training data is, whatever the dataset card says of it.
pub(crate) fn shards_digest(manifest: &StageManifest) -> String {
    let shards: Vec<&ObjectEntry> = manifest.objects.iter().filter(|object| object.key.starts_with("shards/")).collect();
    let mut hasher = blake3::Hasher::new();
    // Plain data and a writer that cannot fail.
    let _ = serde_json::to_writer(&mut hasher, &shards);
    hasher.finalize().to_hex().to_string()
}

/// Makes the plan the work folder's own, or refuses: another recipe is a policy matter, changed inputs are the input's.
fn freeze(context: &Context<'_>) -> Result<(), Failure> {
    preflight(context)?;
    match context.workdir.read_plan_id()? {
        None => {
            // Before any work: it can be written, and puts keep to their conditions.
            mellama_storage::preflight(&**context.workdir.store())?;
        }
        Some(there) if there == context.plan.id => {
            // A retraction that was killed after its record stands: what it replaced goes now, and with it what nobody needs.
            strays::sweep(context.workdir, &context.plan.id)?;
            return Ok(());
        }
        Some(_) => {}
    }
    let frozen = context.plan.frozen(&context.file.recipe);
    let outcome = context.workdir.freeze_plan(&context.plan.id, &frozen);
    let Err(ProtocolError::OtherPlan { .. }) = &outcome else {
        outcome?;
        return Ok(());
    };
    let there = context.workdir.read_plan()?.unwrap_or_default();
    Err(other_plan::refusal(context.workdir.store().uri(), &there, context.file, context.plan))
}

/// Those of some tasks that have no commit; only those that are listed are asked for.
fn pending(context: &Context<'_>, stage: Stage, tasks: Range<u64>, listed: &BTreeSet<u64>) -> Result<Vec<u64>, Failure> {
    let mut open = Vec::new();
    for task in tasks {
        if !listed.contains(&task) || context.committed(stage, task)?.is_none() {
            open.push(task);
        }
    }
    Ok(open)
}

fn begin(context: &Context<'_>, stage: Stage, tasks: u64, pending: &[u64]) {
    let (total, unit) = match stage {
        Stage::Ingest => {
            let inputs = pending.iter().flat_map(|task| &context.plan.ingest[*task as usize].inputs);
            (inputs.map(InputObject::input_bytes).sum(), Unit::Bytes)
        }
        Stage::Cpt | Stage::Instruct => (0, Unit::Steps),
        Stage::Evaluate => (0, Unit::Items),
        _ => (pending.len().min(tasks as usize) as u64, Unit::Tasks),
    };
    context.observer.begin(stage.name(), total, unit);
}

/// Does one task and commits it.
///
/// # Errors
/// Whatever the task meets.
pub(crate) fn commit(context: &Context<'_>, stage: Stage, task: u64) -> Result<TaskCommit, Failure> {
    context.check_stop()?;
    let output = stage.run_task(context, task)?;
    output.counts.check().map_err(|e| Failure::Failed(format!("stage {stage}: task {task}: {e}")))?;
    let commit = TaskCommit {
        plan: context.plan.id.clone(),
        stage: stage.name().into(),
        task,
        objects: output.objects,
        counts: output.counts,
        facts: output.facts,
        attempt: AttemptId::generate().to_string(),
    };
    let (CommitOutcome::Committed | CommitOutcome::AlreadyThere) = context.workdir.commit_task(&commit)?;
    context.keep(stage, &commit);
    if unit_of(stage) == Unit::Tasks {
        context.observer.advance(1);
    }
    Ok(commit)
}

fn unit_of(stage: Stage) -> Unit {
    match stage {
        Stage::Ingest => Unit::Bytes,
        Stage::Cpt | Stage::Instruct => Unit::Steps,
        Stage::Evaluate => Unit::Items,
        _ => Unit::Tasks,
    }
}

/// Closes the stage where a listing shows as many commits as it has tasks. The listing decides only whether it is worth while to
/// read them: a stage of n tasks, each run on its own, would otherwise read n commits n times.
fn close_if_last(context: &Context<'_>, stage: Stage, tasks: u64) -> Result<Option<StageResult>, Failure> {
    if (context.workdir.committed(stage.name())?.len() as u64) < tasks {
        return Ok(None);
    }
    let closed = match context.published(stage)? {
        Some(manifest) => {
            sweep(context, stage)?;
            Some(result(context, stage, &manifest))
        }
        None => close(context, stage, tasks)?,
    };
    if let Some(closed) = &closed {
        succeed_if_complete(context)?;
        context.observer.end(stage.name(), &summary(closed));
    }
    Ok(closed)
}

/// Writes the manifest when every task is committed.
fn close(context: &Context<'_>, stage: Stage, tasks: u64) -> Result<Option<StageResult>, Failure> {
    let mut commits = Vec::new();
    for task in 0..tasks {
        match context.committed(stage, task)? {
            Some(commit) => commits.push(commit),
            None => return Ok(None),
        }
    }
    let facts = stage.close(context, &commits)?;
    let counts = commits.iter().fold(Counts::default(), |sum, commit| sum + commit.counts);
    counts.check().map_err(|e| Failure::Failed(format!("stage {stage}: {e}")))?;
    let manifest = StageManifest {
        plan: context.plan.id.clone(),
        stage: stage.name().into(),
        tasks,
        commits: commits.iter().map(TaskCommit::digest).collect(),
        objects: commits.iter().flat_map(|c| c.objects.clone()).collect(),
        counts,
        facts,
        attempt: AttemptId::generate().to_string(),
    };
    context.workdir.put_manifest(&manifest, &commits)?;
    context.keep_manifest(stage, &manifest);
    sweep(context, stage)?;
    Ok(Some(result(context, stage, &manifest)))
}

/// Deletes shards that interrupted attempts of a finished stage left; an attempt that ends late deletes its own.
fn sweep(context: &Context<'_>, stage: Stage) -> Result<(), Failure> {
    if matches!(stage, Stage::Publish | Stage::InstructData) {
        strays::sweep(context.workdir, &context.plan.id)?;
    }
    Ok(())
}

fn result(context: &Context<'_>, stage: Stage, manifest: &StageManifest) -> StageResult {
    StageResult {
        stage: stage.name(),
        task: None,
        tasks: manifest.tasks,
        pending: 0,
        complete: true,
        manifest: manifest_uri(context, stage),
        digest: Some(digest(manifest)),
        counts: manifest.counts,
        requests: Usage::default(),
    }
}

fn manifest_uri(context: &Context<'_>, stage: Stage) -> String {
    format!("{}/manifests/{stage}.json", context.workdir.store().uri())
}

fn summary(result: &StageResult) -> String {
    let Counts { read, written, dropped, rejected } = result.counts;
    let mut text = format!("{} read, {} written", read.documents, written.documents);
    if dropped.documents > 0 {
        text = format!("{text}, {} dropped", dropped.documents);
    }
    if rejected.documents > 0 {
        text = format!("{text}, {} rejected", rejected.documents);
    }
    text
}

/// The body of `_SUCCESS`.
#[derive(Serialize)]
struct Success<'a> {
    plan: &'a str,
    /// Digest of each stage's manifest.
    manifests: BTreeMap<&'static str, String>,
    /// Digest of what each stage published, free of the plan: equal in every folder that holds the same output.
    published: BTreeMap<&'static str, String>,
}

/// Writes `_SUCCESS` once every stage of the recipe has its manifest, whichever command closed the last one.
fn succeed_if_complete(context: &Context<'_>) -> Result<(), Failure> {
    let (mut manifests, mut published) = (BTreeMap::new(), BTreeMap::new());
    // The last ones first: while they are missing nothing else is asked for.
    for stage in Stage::of(&context.file.recipe).into_iter().rev() {
        let Some(manifest) = context.published(stage)? else { return Ok(()) };
        published.insert(stage.name(), digest(&manifest));
        manifests.insert(stage.name(), manifest.digest());
    }
    Ok(context.workdir.mark_success(&Success { plan: &context.plan.id, manifests, published })?)
}

/// Runs tasks on at most `workers` threads; the first failure stops the rest and is returned.
fn over_threads<T>(workers: usize, tasks: &[u64], work: impl Fn(u64) -> Result<T, Failure> + Sync) -> Result<(), Failure> {
    let workers = workers.min(tasks.len()).max(1);
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let worker = || {
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = work(*task) {
                failed.store(true, Ordering::Relaxed);
                failure.lock().expect("no holder panics").get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(worker);
        }
        worker();
    });
    failure.into_inner().expect("no holder panics").map_or(Ok(()), Err)
}
