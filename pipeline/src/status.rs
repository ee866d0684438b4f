//! What a work folder holds, from the folder alone: stages done, tasks committed, where things lie.

use mellama_storage::{Counts, Retraction, Stores, Workdir};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;
use crate::recipe::Recipe;
use crate::retract::{self, PartChange, RetractionFacts};
use crate::runner;
use crate::stage::Stage;
use crate::trained::{self, TrainedBefore};
use crate::wording::counted;

/// State of one stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageStatus {
    /// Name.
    pub stage: &'static str,
    /// The manifest exists.
    pub complete: bool,
    /// Tasks with a commit.
    pub committed: u64,
    /// Documents and bytes, of the manifest or of the commits so far.
    pub counts: Counts,
    /// Digest of what it published; null until complete.
    pub digest: Option<String>,
}

/// State of a work folder.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The folder.
    pub workdir: String,
    /// The run's name.
    pub name: String,
    /// Digest of recipe and inputs.
    pub plan: String,
    /// `_SUCCESS` exists.
    pub success: bool,
    /// Every stage that has begun.
    pub stages: Vec<StageStatus>,
    /// Names of the stages of the recipe that are not complete, in order.
    pub to_do: Vec<&'static str>,
    /// Steps of the complete checkpoints, by kind.
    pub checkpoints: Vec<String>,
    /// Complete checkpoints that were trained on other shards than those that hold now.
    pub trained_before: Vec<TrainedBefore>,
    /// Every retraction, in order.
    pub retractions: Vec<RetractionStatus>,
}

/// One retraction.
#[derive(Debug, Clone, Serialize)]
pub struct RetractionStatus {
    /// Key of the record.
    pub record: String,
    /// Documents retracted.
    pub documents: u64,
    /// Tokens taken out of the shards.
    pub tokens: u64,
    /// Tokens filled in their place.
    pub refilled: u64,
    /// Tokens missing to the quotas.
    pub short: u64,
    /// Checkpoints that were there before it.
    pub checkpoints: u64,
}

/// What is left, and what does it.
fn unfinished(to_do: &[&'static str]) -> String {
    let stages = if to_do.is_empty() { String::new() } else { format!("; to do: {}", to_do.join(", ")) };
    format!("not complete{stages}; \"mellama run RECIPE\" goes on where it stopped")
}

/// Opens an existing work folder and its plan id.
///
/// # Errors
/// `Failure::Policy` when nothing was run there.
pub(crate) fn open(stores: &Stores, uri: &str) -> Result<(Workdir, String), Failure> {
    let nothing = || Failure::Policy(format!("{uri}: no run here; give a recipe or the folder that \"mellama run\" wrote"));
    let workdir = match Workdir::open_existing(stores, uri) {
        Ok(workdir) => workdir,
        Err(mellama_storage::ProtocolError::Store(mellama_storage::StoreError::NotFound { .. })) => return Err(nothing()),
        Err(error) => return Err(error.into()),
    };
    let Some(plan) = workdir.read_plan_id()? else {
        let records = mellama_storage::list_all(&**workdir.store(), "manifests/").next().transpose()?;
        return Err(match records {
            Some(_) => Failure::Verification(format!("{uri}: plan.json: missing, though stages were run here; restore it")),
            None => nothing(),
        });
    };
    Ok((workdir, plan))
}

/// Reads the state of a work folder.
///
/// # Errors
/// `Failure::Policy` when nothing was run there, `Failure::Verification` when its records are damaged.
pub fn read(stores: &Stores, uri: &str) -> Result<Status, Failure> {
    let (workdir, plan) = open(stores, uri)?;
    let stages = Stage::ALL.into_iter().map(|stage| stage_status(&workdir, &plan, stage)).collect::<Result<Vec<_>, _>>()?;
    let retractions = retractions(&workdir, &plan)?;
    let trained_before = trained::before(&workdir, &plan, None)?;
    let recorded = workdir.read_plan()?;
    let name = recorded.as_ref().map(|plan| &plan["recipe"]["name"]);
    let stages: Vec<StageStatus> = stages.into_iter().flatten().collect();
    let recipe = recorded.as_ref().and_then(|plan| Recipe::deserialize(&plan["recipe"]).ok());
    let wanted = recipe.iter().flat_map(Stage::of).map(Stage::name);
    let to_do = wanted.filter(|name| !stages.iter().any(|stage| stage.complete && stage.stage == *name)).collect();
    Ok(Status {
        workdir: workdir.store().uri().to_owned(),
        name: name.and_then(Value::as_str).unwrap_or_default().to_owned(),
        plan,
        success: workdir.read_success()?.is_some(),
        stages,
        to_do,
        checkpoints: checkpoints(&workdir)?,
        trained_before,
        retractions,
    })
}

/// The address of the report of a finished run.
///
/// # Errors
/// `Failure::Policy` when the run has none yet.
pub fn report_uri(stores: &Stores, uri: &str) -> Result<String, Failure> {
    let (workdir, plan) = open(stores, uri)?;
    let manifest = workdir.read_manifest(&plan, Stage::Report.name())?;
    let entry = manifest.and_then(|m| m.objects.into_iter().find(|o| o.key == "report.html"));
    let entry = entry.ok_or_else(|| Failure::Policy(format!("{uri}: no report yet; run \"mellama run\" on its recipe")))?;
    Ok(format!("{}/{}", workdir.store().uri(), entry.key))
}

fn stage_status(workdir: &Workdir, plan: &str, stage: Stage) -> Result<Option<StageStatus>, Failure> {
    let name = stage.name();
    if let Some(manifest) = workdir.read_manifest(plan, name)? {
        let digest = Some(runner::digest(&manifest));
        let (committed, counts) = (manifest.tasks, manifest.counts);
        return Ok(Some(StageStatus { stage: name, complete: true, committed, counts, digest }));
    }
    let prefix = format!("commits/{name}/");
    let (mut committed, mut counts) = (0, Counts::default());
    for object in mellama_storage::list_all(&**workdir.store(), &prefix) {
        let key = object?.key;
        let number = key.as_str()[prefix.len()..].trim_end_matches(".json").parse::<u64>();
        let commit = number.ok().map(|task| workdir.read_commit(plan, name, task)).transpose()?.flatten();
        if let Some(commit) = commit {
            committed += 1;
            counts += commit.counts;
        }
    }
    let status = StageStatus { stage: name, complete: false, committed, counts, digest: None };
    Ok((committed > 0).then_some(status))
}

/// The retractions of a folder.
///
/// # Errors
/// `Failure::Verification` for damaged records.
fn retractions(workdir: &Workdir, plan: &str) -> Result<Vec<RetractionStatus>, Failure> {
    let records = workdir.read_retractions(plan)?;
    records.iter().map(|record| Ok(RetractionStatus::of(record, &retract::facts_of(record)?))).collect()
}

fn checkpoints(workdir: &Workdir) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for object in mellama_storage::list_all(&**workdir.store(), "checkpoints/") {
        let key = object?.key;
        if let Some(folder) = key.as_str().strip_suffix("/manifest.json") {
            found.push(folder.to_owned());
        }
    }
    Ok(found)
}

impl Status {
    /// For people.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{} ({}), plan {}", self.workdir, self.name, &self.plan[..16])];
        lines.push(format!(
            "{:<14} {:>6} {:>10} {:>10} {:>9} {:>9}  digest",
            "stage", "tasks", "read", "written", "dropped", "rejected"
        ));
        for stage in &self.stages {
            let digest = stage.digest.as_ref().map_or("not finished", |d| &d[..16]);
            let Counts { read, written, dropped, rejected } = stage.counts;
            lines.push(format!(
                "{:<14} {:>6} {:>10} {:>10} {:>9} {:>9}  {digest}",
                stage.stage, stage.committed, read.documents, written.documents, dropped.documents, rejected.documents
            ));
        }
        if let Some(last) = self.checkpoints.last() {
            lines.push(format!("checkpoints: {}, the last {last}", self.checkpoints.len()));
        }
        lines.extend(self.trained_before.iter().map(TrainedBefore::text));
        if !self.trained_before.is_empty() {
            lines.push(trained::REMEDY.to_owned());
        }
        for retraction in &self.retractions {
            lines.push(retraction.text());
        }
        lines.push(if self.success { "complete".into() } else { unfinished(&self.to_do) });
        lines.join("\n")
    }
}

impl RetractionStatus {
    pub(crate) fn of(record: &Retraction, facts: &RetractionFacts) -> RetractionStatus {
        let sum = |get: fn(&PartChange) -> u64| facts.parts.values().map(get).sum();
        RetractionStatus {
            record: record.key(),
            documents: facts.documents.len() as u64,
            tokens: sum(|part| part.tokens),
            refilled: sum(|part| part.refilled),
            short: sum(|part| part.short),
            checkpoints: facts.checkpoints.len() as u64,
        }
    }

    /// One line for people.
    pub fn text(&self) -> String {
        let RetractionStatus { record, documents, tokens, refilled, short, checkpoints } = self;
        let mut line = format!(
            "{record}: {}, {} taken out, {refilled} refilled",
            counted(*documents, "document"),
            counted(*tokens, "token")
        );
        if *short > 0 {
            line = format!("{line}, {short} short");
        }
        if *checkpoints > 0 {
            line = format!("{line}; made before: {}", counted(*checkpoints, "checkpoint"));
        }
        line
    }
}
