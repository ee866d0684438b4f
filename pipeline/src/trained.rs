//! Which shards the models of a run were trained on: the digest of the data that every checkpoint holds, beside those of the shards
//! as they were published and after each retraction.
//!
//! Nothing is done to a model: a retraction does not untrain it.

use mellama_storage::{Key, Retraction, StageManifest, Workdir, list_all};
use mellama_train::checkpoint::CheckpointManifest;
use mellama_train::trainer::Kind;
use serde::Serialize;

use crate::failure::Failure;
use crate::runner;
use crate::stage::Stage;

/// A complete checkpoint whose data are not the shards that hold now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrainedBefore {
    /// Its folder.
    pub checkpoint: String,
    /// Folder of the checkpoint that it was tuned from, where that one was trained on the older shards; null where it was itself.
    pub base: Option<String>,
    /// Key of the first retraction after the shards that it was trained on; null where these are none that this run ever had.
    pub before: Option<String>,
}

impl TrainedBefore {
    /// One line for people.
    pub fn text(&self) -> String {
        let TrainedBefore { checkpoint, base, before } = self;
        let how = base.as_ref().map_or_else(|| "trained".to_owned(), |base| format!("tuned from {base}, trained"));
        match before {
            Some(record) => format!("{checkpoint}: {how} on the shards as they were before {record}"),
            None => format!("{checkpoint}: {how} on shards that are not those of this run"),
        }
    }
}

/// What would make the models those of the shards.
pub(crate) const REMEDY: &str = "a retraction does not untrain a model; to have one without what was taken out, train again in another \
                                 work folder, on inputs without it";

/// The checkpoints that were not trained on the shards as they hold now, or will with `record` on top; in order of their names.
///
/// # Errors
/// `Failure::Verification` for damaged records. A checkpoint that cannot be read is passed over: `verify` names it.
pub(crate) fn before(workdir: &Workdir, plan: &str, record: Option<&Retraction>) -> Result<Vec<TrainedBefore>, Failure> {
    let mut found = Vec::new();
    // The model of `cpt` is what `instruct` tunes.
    let mut base: Option<TrainedBefore> = None;
    for (kind, stage) in [(Kind::Cpt, Stage::Publish), (Kind::Instruct, Stage::InstructData)] {
        let mut checkpoints = Vec::new();
        for object in list_all(&**workdir.store(), &format!("checkpoints/{}/", kind.as_str())) {
            checkpoints.extend(object?.key.as_str().strip_suffix("/manifest.json").map(str::to_owned));
        }
        if checkpoints.is_empty() {
            continue;
        }
        let states = states(workdir, plan, stage, record)?;
        let first = found.len();
        for checkpoint in checkpoints {
            let key = Key::new(format!("{checkpoint}/manifest.json"))?;
            let Ok(Some(manifest)) = workdir.read_sealed::<CheckpointManifest>(&key) else { continue };
            let state = states.iter().rposition(|digest| digest.as_ref() == Some(&manifest.digests.data));
            // After the state of a number comes the retraction of that number.
            let own = state.is_none_or(|state| state + 1 < states.len()).then(|| TrainedBefore {
                checkpoint: checkpoint.clone(),
                base: None,
                before: state.map(|state| format!("retractions/{state:05}.json")),
            });
            let inherited = base.clone().map(|base| TrainedBefore { checkpoint, base: Some(base.checkpoint), ..base });
            // Of both, what was taken out first; shards that are none of this run before any.
            found.extend(own.into_iter().chain(inherited).min_by(|one, other| one.before.cmp(&other.before)));
        }
        base = found[first..].last().cloned();
    }
    Ok(found)
}

/// Digests of the shards of a stage as published and after each retraction. `None` stands for shards that will hold with `record`
/// on top and that no model can have been trained on.
fn states(workdir: &Workdir, plan: &str, stage: Stage, record: Option<&Retraction>) -> Result<Vec<Option<String>>, Failure> {
    let mut states = Vec::new();
    workdir.manifest_history(plan, stage.name(), &mut |manifest: &StageManifest| {
        states.push(Some(runner::shards_digest(manifest)));
    })?;
    if let Some(record) = record {
        let mut of_stage = record.replaced.iter().filter(|replaced| replaced.stage == stage.name());
        let changes = of_stage.any(|replaced| replaced.old.key.starts_with("shards/"));
        states.push(if changes { None } else { states.last().cloned().flatten() });
    }
    Ok(states)
}
