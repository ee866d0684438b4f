//! `gc`: removes what attempts left and no record names, once it is so old that no attempt can still need it. Records are never
//! removed, nor is anything that this program does not write.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use mellama_storage::{Key, ObjectMeta, Stale, Stores, Workdir};
use serde::Serialize;

use crate::failure::Failure;
use crate::layout::{folder_of, telemetry_digest};
use crate::observer::{Observer, Unit};
use crate::recipe::Recipe;
use crate::stage::Stage;
use crate::status;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// What is younger stays: an attempt that runs has not named its parts yet.
    pub older_than: Duration,
    /// Nothing is removed.
    pub dry_run: bool,
}

/// What was found, and removed unless nothing was to be.
#[derive(Debug, Clone, Serialize)]
pub struct Collected {
    /// Where.
    pub workdir: String,
    /// Nothing was removed.
    pub dry_run: bool,
    /// Age in hours that an object must have.
    pub older_than_hours: u64,
    /// Objects that no record names and that are old.
    pub removed: Vec<Leftover>,
    /// Uploads that were never finished, and temporary files of dead processes.
    pub unfinished: Vec<String>,
    /// Objects that no record names and that are young.
    pub young: u64,
    /// Objects of stages that are not finished: whoever finishes them may come to name them, however old they are.
    pub awaited: u64,
    /// Objects that this program does not write; they stay.
    pub foreign: Vec<String>,
}

/// An object that no record names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// Its name.
    pub key: String,
    /// Its length.
    pub bytes: u64,
}

impl Collected {
    /// For people.
    pub fn text(&self) -> String {
        let verb = if self.dry_run { "would be removed" } else { "removed" };
        let bytes: u64 = self.removed.iter().map(|object| object.bytes).sum();
        let mut lines: Vec<String> =
            self.removed.iter().map(|object| format!("{:>12} bytes  {}", object.bytes, object.key)).collect();
        lines.extend(self.unfinished.iter().map(|name| format!("unfinished         {name}")));
        lines.push(format!(
            "{}: {} objects ({bytes} bytes) and {} unfinished uploads or files {verb}; {} younger than {} h stay, and {} of \
             stages that are not finished",
            self.workdir,
            self.removed.len(),
            self.unfinished.len(),
            self.young,
            self.older_than_hours,
            self.awaited
        ));
        if let Some(first) = self.foreign.first() {
            lines.push(format!("{} objects are not mellama's and stay, first {first}", self.foreign.len()));
        }
        lines.join("\n")
    }
}

/// Looks for leftovers in a work folder and removes the old ones.
///
/// # Errors
/// `Failure::Policy` when nothing was run there; `Failure::Verification` when a record is damaged, for then nobody knows what it
/// names: nothing is removed.
pub fn collect(stores: &Stores, uri: &str, request: Request, observer: &dyn Observer) -> Result<Collected, Failure> {
    let (workdir, _) = status::open(stores, uri)?;
    observer.begin("gc", 0, Unit::Tasks);
    let mut collected = Collected {
        workdir: workdir.store().uri().to_owned(),
        dry_run: request.dry_run,
        older_than_hours: request.older_than.as_secs() / 3600,
        removed: Vec::new(),
        unfinished: Vec::new(),
        young: 0,
        awaited: 0,
        foreign: Vec::new(),
    };
    let limit = SystemTime::now().checked_sub(request.older_than).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut old = Vec::new();
    let open = open_stages(&workdir)?;
    for object in unnamed(&workdir)? {
        let key = object.key.as_str();
        let Some(folder) = folder_of(key) else {
            collected.foreign.push(key.to_owned());
            continue;
        };
        if folder.writers.iter().any(|stage| open.contains(stage)) {
            collected.awaited += 1;
        } else if is_older(&workdir, &object.key, limit)? {
            old.push(object);
        } else {
            collected.young += 1;
        }
    }
    // What an attempt has named meanwhile is named now.
    let still: BTreeSet<Key> =
        if old.is_empty() { BTreeSet::new() } else { unnamed(&workdir)?.into_iter().map(|o| o.key).collect() };
    for object in old.into_iter().filter(|object| still.contains(&object.key)) {
        if !request.dry_run {
            workdir.store().delete(&object.key)?;
        }
        observer.advance(1);
        collected.removed.push(Leftover { key: object.key.into(), bytes: object.size_bytes });
    }
    for stale in workdir.store().stale(request.older_than)?.into_iter().filter(|stale| is_own(&workdir, stale)) {
        if !request.dry_run {
            workdir.store().remove_stale(&stale)?;
        }
        collected.unfinished.push(stale.name);
    }
    observer.end("gc", &format!("{} objects, {} unfinished", collected.removed.len(), collected.unfinished.len()));
    Ok(collected)
}

/// The stages of the recipe that have no manifest. A part of theirs may be as old as an attempt that was killed long ago, and be
/// named by the next one, which finds it there.
fn open_stages(workdir: &Workdir) -> Result<Vec<Stage>, Failure> {
    let recipe = workdir.read_plan()?.and_then(|plan| serde_json::from_value::<Recipe>(plan["recipe"].clone()).ok());
    let stages = recipe.map_or_else(|| Stage::ALL.to_vec(), |recipe| Stage::of(&recipe));
    let finished = workdir.finished()?;
    Ok(stages.into_iter().filter(|stage| !finished.contains(stage.name())).collect())
}

/// Whether what is unfinished is ours: a temporary file of a folder always is, an upload by its name.
fn is_own(workdir: &Workdir, stale: &Stale) -> bool {
    let uri = workdir.store().uri();
    let prefix = uri.strip_prefix("s3://").and_then(|place| place.split_once('/')).map_or("", |(_, prefix)| prefix);
    let name = stale.name.strip_prefix(prefix).map_or(stale.name.as_str(), |name| name.trim_start_matches('/'));
    stale.id.is_empty() || folder_of(name).is_some()
}

/// Objects that no record names.
fn unnamed(workdir: &Workdir) -> Result<Vec<ObjectMeta>, Failure> {
    let survey = workdir.survey(&mut |_| {})?;
    match survey.findings.first() {
        None => Ok(survey.unnamed.into_iter().filter(|object| telemetry_digest(object.key.as_str()).is_none()).collect()),
        Some(finding) => Err(Failure::Verification(format!(
            "{}: {finding}; what a damaged record names is not known, so nothing was removed; run \"mellama verify\"",
            workdir.store().uri()
        ))),
    }
}

fn is_older(workdir: &Workdir, key: &Key, limit: SystemTime) -> Result<bool, Failure> {
    match workdir.store().modified(key) {
        Ok(modified) => Ok(modified <= limit),
        // Gone since it was listed.
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
