//! Earlier runs that a corpus is deduplicated against: their work folders, checked once and pinned in the plan.
//!
//! A release is read and never written. What it keeps, it keeps: only documents of the new run can be removed for it.

use mellama_dedup::NormalForm;
use mellama_sources::Domain;
use mellama_storage::{StageManifest, Stores, TaskCommit, Workdir};
use serde::Serialize;
use serde_json::Value;

use crate::failure::{Failure, chain};
use crate::inputs::InputError;
use crate::plan::{PLAN_FORMAT, SIGNATURES_SINCE};
use crate::recipe::{DedupRecipe, RecipeFile};
use crate::stage::Stage;

/// A finished run as a plan pins it: by what it published, not by where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedRelease {
    /// As the recipe writes it.
    pub name: String,
    /// Where it lies on this machine.
    #[serde(skip)]
    pub uri: String,
    /// Id of its plan.
    pub plan: String,
    /// Digests of its manifests of `ingest` and `dedup`.
    pub manifests: [String; 2],
}

/// A release opened for reading.
#[derive(Debug)]
pub(crate) struct Release {
    pub name: String,
    pub workdir: Workdir,
    /// Its ingest commits in task order.
    pub commits: Vec<TaskCommit>,
    /// Its manifest of `dedup`.
    pub dedup: StageManifest,
    sources: Vec<ReleasedSource>,
}

/// What is known of a source of a release.
#[derive(Debug, Clone)]
struct ReleasedSource {
    name: String,
    form: NormalForm,
    templated: bool,
    rank: u16,
}

impl PlannedRelease {
    /// Looks at the work folder of each `against` and pins what it holds.
    ///
    /// # Errors
    /// `InputError::Release` for a folder that is no finished run, or one with signatures of another kind.
    pub(crate) fn resolve(file: &RecipeFile, dedup: &DedupRecipe) -> Result<Vec<PlannedRelease>, InputError> {
        dedup.against.iter().map(|name| Self::resolve_one(file, dedup, name)).collect()
    }

    fn resolve_one(file: &RecipeFile, dedup: &DedupRecipe, name: &str) -> Result<PlannedRelease, InputError> {
        let refuse = |problem: String| InputError::Release { name: name.to_owned(), problem };
        let uri = file.resolve(name)?.to_string();
        let workdir = Workdir::open_existing(file.stores(), &uri).map_err(|e| refuse(chain(&e)))?;
        let read = |stage: Stage, plan: &str| {
            let manifest = workdir.read_manifest(plan, stage.name()).map_err(|e| refuse(chain(&e)))?;
            manifest.ok_or_else(|| refuse(format!("its stage {stage} is not finished; finish that run first")))
        };
        let plan_id = workdir.read_plan_id().map_err(|e| refuse(chain(&e)))?;
        let plan_id = plan_id.ok_or_else(|| refuse("no plan.json; name the work folder of a run".into()))?;
        let plan = workdir.read_plan().map_err(|e| refuse(chain(&e)))?.unwrap_or_default();
        check_signatures(&plan, dedup).map_err(refuse)?;
        let manifests = [read(Stage::Ingest, &plan_id)?.digest(), read(Stage::Dedup, &plan_id)?.digest()];
        Ok(PlannedRelease { name: name.to_owned(), uri, plan: plan_id, manifests })
    }
}

/// Signatures meet only those of their own kind.
fn check_signatures(plan: &Value, dedup: &DedupRecipe) -> Result<(), String> {
    let theirs = &plan["recipe"]["corpus"]["dedup"];
    if !theirs.is_object() {
        return Err("its recipe has no [corpus.dedup], so it has no signatures; run it again with that part".into());
    }
    let ours = [
        ("spec version", Value::from(mellama_dedup::SPEC_VERSION), plan["dedup_spec"].clone()),
        ("bands", Value::from(dedup.bands), theirs["bands"].clone()),
        ("rows", Value::from(dedup.rows), theirs["rows"].clone()),
        ("shingle_words", Value::from(dedup.shingle_words), theirs["shingle_words"].clone()),
    ];
    let format = plan["format"].as_u64().unwrap_or(0);
    if !(u64::from(SIGNATURES_SINCE)..=u64::from(PLAN_FORMAT)).contains(&format) {
        return Err(format!(
            "signature layout: its signatures were made with plan format {format}, expected {SIGNATURES_SINCE} to {PLAN_FORMAT}; \
             make them again with this version"
        ));
    }
    match ours.into_iter().find(|(_, ours, theirs)| ours != theirs) {
        None => Ok(()),
        Some((key, ours, theirs)) => {
            Err(format!("{key}: its signatures were made with {theirs}, expected {ours}; make them again with this recipe"))
        }
    }
}

impl Release {
    /// Opens a pinned release.
    ///
    /// # Errors
    /// `Failure::Input` when it is not what was planned, `Failure::Verification` when it is damaged.
    pub(crate) fn open(stores: &Stores, planned: &PlannedRelease) -> Result<Release, Failure> {
        let workdir = Workdir::open_existing(stores, &planned.uri)?;
        let changed = || {
            Failure::Input(format!(
                "{}: the release is not the one that was planned; plan again in a new work folder",
                planned.name
            ))
        };
        let manifest = |stage: Stage, digest: &str| -> Result<StageManifest, Failure> {
            let found = workdir.read_manifest(&planned.plan, stage.name())?.ok_or_else(changed)?;
            if found.digest() == digest { Ok(found) } else { Err(changed()) }
        };
        let ingest = manifest(Stage::Ingest, &planned.manifests[0])?;
        let dedup = manifest(Stage::Dedup, &planned.manifests[1])?;
        let commit = |task: u64| -> Result<TaskCommit, Failure> {
            workdir.read_commit(&planned.plan, Stage::Ingest.name(), task)?.ok_or_else(changed)
        };
        let commits = (0..ingest.tasks).map(commit).collect::<Result<_, _>>()?;
        let plan = workdir.read_plan()?.unwrap_or_default();
        let sources = plan["recipe"]["corpus"]["source"].as_array().into_iter().flatten().enumerate().map(source).collect();
        Ok(Release { name: planned.name.clone(), workdir, commits, dedup, sources })
    }

    /// Normal form of a source's text, whether it takes part in the exact join only, and its rank.
    ///
    /// # Errors
    /// `Failure::Verification` for a source that its plan does not have.
    pub(crate) fn source(&self, name: &str) -> Result<(NormalForm, bool, u16), Failure> {
        let found = self.sources.iter().find(|source| source.name == name);
        let found = found.ok_or_else(|| Failure::Verification(format!("{}: source {name} is not in its plan", self.name)))?;
        Ok((found.form, found.templated, found.rank))
    }
}

fn source((index, value): (usize, &Value)) -> ReleasedSource {
    let rank = value["rank"].as_u64().unwrap_or(index as u64);
    let domain = value["domain"].as_str().and_then(Domain::from_name);
    ReleasedSource {
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        form: domain.map_or(NormalForm::Plain, crate::stages::ingest::normal_form),
        templated: value["templated"].as_bool().unwrap_or(false),
        rank: u16::try_from(rank).unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(change: impl Fn(&mut Value), expected: &str) {
        let dedup = DedupRecipe::default();
        let recipe = json!({"corpus": {"dedup": {"bands": 14, "rows": 8, "shingle_words": 5}}});
        let mut plan = json!({"format": PLAN_FORMAT, "dedup_spec": mellama_dedup::SPEC_VERSION, "recipe": recipe});
        assert_eq!(check_signatures(&plan, &dedup), Ok(()));
        change(&mut plan);
        let problem = check_signatures(&plan, &dedup).unwrap_err();
        assert!(problem.starts_with(expected), "{problem}");
    }

    #[test]
    fn signatures_meet_only_those_of_their_kind() {
        check(|plan| plan["dedup_spec"] = json!(2), "spec version: its signatures were made with 2, expected 1");
        for format in [1, SIGNATURES_SINCE - 1, PLAN_FORMAT + 1] {
            let expected = format!("signature layout: its signatures were made with plan format {format}, expected 3 to");
            check(|plan| plan["format"] = json!(format), &expected);
        }
        let mut older = json!({"format": SIGNATURES_SINCE, "dedup_spec": mellama_dedup::SPEC_VERSION});
        older["recipe"]["corpus"]["dedup"] = json!({"bands": 14, "rows": 8, "shingle_words": 5});
        assert_eq!(check_signatures(&older, &DedupRecipe::default()), Ok(()));
        for (key, value) in [("bands", 20), ("rows", 5), ("shingle_words", 4)] {
            let expected = format!("{key}: its signatures were made with {value}, expected");
            check(|plan| plan["recipe"]["corpus"]["dedup"][key] = json!(value), &expected);
        }
        check(|plan| plan["recipe"]["corpus"]["dedup"] = Value::Null, "its recipe has no [corpus.dedup]");
    }
}
