//! The work folder of one plan: frozen plan, task commits, stage manifests and the mark of success, all put-if-absent and
//! read back, so that running the same command again is always right. It does not know what a stage does.
//!
//! ```text
//! plan.json    FOLDER/STEM-DIGEST16.EXT    commits/STAGE/00007.json    manifests/STAGE.json    _SUCCESS
//! ```

use crate::commit::{CommitOutcome, ObjectEntry, TaskCommit};
use crate::counts::Counts;
use crate::error::{StoreError, object_name};
use crate::key::{AttemptId, Key, PutOutcome};
use crate::manifest::StageManifest;
use crate::part::PartWriter;
use crate::protocol::ProtocolError;
use crate::range::RangeReader;
use crate::sealed;
use crate::store::{Store, list_all};
use crate::stores::Stores;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

/// Tries of one conditional put whose outcome stays unknown and whose object is not there.
const PUT_ATTEMPTS: usize = 4;
/// Memory reserved at once for an object whose entry claims to be longer.
const RESERVE_BYTES: u64 = 16 << 20;

pub(crate) const PLAN_KEY: &str = "plan.json";
/// Folder of a work folder in which others lie, each for a plan of its own.
pub const VERSIONS_FOLDER: &str = "versions/";
const MANIFESTS: &str = "manifests/";
pub(crate) const SUCCESS_KEY: &str = "_SUCCESS";

/// The work folder of one plan over any store. Clones share the store.
#[derive(Clone, Debug)]
pub struct Workdir {
    store: Arc<dyn Store>,
}

/// `plan.json`: the id apart from the plan, so that it can be compared without knowing the plan's type.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrozenPlan<T> {
    pub(crate) id: String,
    pub(crate) plan: T,
}

impl Workdir {
    /// Opens the work folder at `uri`, creating a folder that is not there.
    ///
    /// # Errors
    /// As [`Stores::open`].
    pub fn open(stores: &Stores, uri: &str) -> Result<Self, ProtocolError> {
        Ok(Self::new(stores.open(uri)?))
    }

    /// Opens a work folder that must be there already, and creates nothing.
    ///
    /// # Errors
    /// As [`Stores::open_existing`].
    pub fn open_existing(stores: &Stores, uri: &str) -> Result<Self, ProtocolError> {
        Ok(Self::new(stores.open_existing(uri)?))
    }

    /// A work folder over a store that is open already.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store beneath.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Claims the folder for a plan. The first freeze wins; the same `plan_id` again is success, for the id stands for the plan.
    ///
    /// # Errors
    /// [`ProtocolError::OtherPlan`] when another plan has the folder.
    pub fn freeze_plan<T: Serialize>(&self, plan_id: &str, plan: &T) -> Result<(), ProtocolError> {
        let key = Key::new(PLAN_KEY)?;
        let body = self.seal(&key, &FrozenPlan { id: plan_id.to_owned(), plan })?;
        if let Some(theirs) = self.put_or_read(&key, &body, &AttemptId::generate())? {
            let theirs: FrozenPlan<Value> = self.unseal(&key, &theirs)?;
            self.check_plan(&key, &theirs.id, plan_id)?;
        }
        Ok(())
    }

    /// The frozen plan, or `None` in a fresh folder.
    ///
    /// # Errors
    /// [`ProtocolError::Damaged`] when it is not what was frozen.
    pub fn read_plan(&self) -> Result<Option<Value>, ProtocolError> {
        Ok(self.frozen()?.map(|frozen| frozen.plan))
    }

    /// The id of the frozen plan, or `None` in a fresh folder.
    ///
    /// # Errors
    /// As [`read_plan`](Self::read_plan).
    pub fn read_plan_id(&self) -> Result<Option<String>, ProtocolError> {
        Ok(self.frozen()?.map(|frozen| frozen.id))
    }

    fn frozen(&self) -> Result<Option<FrozenPlan<Value>>, ProtocolError> {
        self.read_sealed(&Key::new(PLAN_KEY)?)
    }

    /// Begins an object; nothing is visible until it is finished.
    ///
    /// # Errors
    /// The store's.
    pub fn part(&self) -> Result<PartWriter, ProtocolError> {
        Ok(PartWriter::new(self.store.clone())?)
    }

    /// Makes a task's output exist: puts `commits/STAGE/TASK.json` and reads it back where the answer is not clear.
    ///
    /// # Errors
    /// [`ProtocolError::Imbalance`] when the counts do not add up; [`ProtocolError::Nondeterministic`] when another attempt
    /// committed something else; [`ProtocolError::OtherPlan`] when the commit there is of another plan.
    pub fn commit_task(&self, commit: &TaskCommit) -> Result<CommitOutcome, ProtocolError> {
        check_balance(&commit.stage, &commit.counts)?;
        let key = commit_key(&commit.stage, commit.task)?;
        let body = self.seal(&key, commit)?;
        let Some(theirs) = self.put_or_read(&key, &body, &AttemptId::new(&commit.attempt))? else {
            return Ok(CommitOutcome::Committed);
        };
        let theirs: TaskCommit = self.unseal(&key, &theirs)?;
        self.check_plan(&key, &theirs.plan, &commit.plan)?;
        same_digest(&commit.stage, &commit.task.to_string(), commit.digest(), theirs.digest())
    }

    /// The commit of a task, or `None` when it has none yet.
    ///
    /// # Errors
    /// [`ProtocolError::OtherPlan`] when it is of another plan than `plan`; [`ProtocolError::Damaged`] or
    /// [`ProtocolError::Mismatch`] when it is not what was committed under this name.
    pub fn read_commit(&self, plan: &str, stage: &str, task: u64) -> Result<Option<TaskCommit>, ProtocolError> {
        let key = commit_key(stage, task)?;
        let Some(commit) = self.read_sealed::<TaskCommit>(&key)? else {
            return Ok(None);
        };
        self.check_plan(&key, &commit.plan, plan)?;
        self.check_place(&key, (&commit.stage, Some(commit.task)), (stage, Some(task)))?;
        Ok(Some(commit))
    }

    /// The tasks of a stage for which a listing shows commits. A hint and no proof: what is committed is told by
    /// [`read_commit`](Self::read_commit) alone.
    ///
    /// # Errors
    /// The store's.
    pub fn committed(&self, stage: &str) -> Result<BTreeSet<u64>, ProtocolError> {
        let prefix = format!("commits/{stage}/");
        let mut tasks = BTreeSet::new();
        for object in list_all(&*self.store, &prefix) {
            let key = object?.key;
            tasks.extend(key.as_str().strip_prefix(&prefix).and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok()));
        }
        Ok(tasks)
    }

    /// The stages for which a listing shows manifests; a hint as well.
    ///
    /// # Errors
    /// The store's.
    pub fn finished(&self) -> Result<BTreeSet<String>, ProtocolError> {
        let mut stages = BTreeSet::new();
        for object in list_all(&*self.store, MANIFESTS) {
            let key = object?.key;
            stages.extend(key.as_str().strip_prefix(MANIFESTS).and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
        }
        Ok(stages)
    }

    /// Makes a stage's output exist, after every task's: checks the manifest against the commits, all of them in task order as
    /// they were read or put, and puts `manifests/STAGE.json`.
    ///
    /// # Errors
    /// [`ProtocolError::Manifest`] when a commit is missing, has another digest than the manifest names, or when the
    /// manifest's counts are not the sum of the commits'; otherwise as [`commit_task`](Self::commit_task).
    pub fn put_manifest(&self, manifest: &StageManifest, commits: &[TaskCommit]) -> Result<CommitOutcome, ProtocolError> {
        check_balance(&manifest.stage, &manifest.counts)?;
        check_commits(manifest, commits)?;
        let key = manifest_key(&manifest.stage)?;
        let body = self.seal(&key, manifest)?;
        let Some(theirs) = self.put_or_read(&key, &body, &AttemptId::new(&manifest.attempt))? else {
            return Ok(CommitOutcome::Committed);
        };
        let theirs: StageManifest = self.unseal(&key, &theirs)?;
        self.check_plan(&key, &theirs.plan, &manifest.plan)?;
        same_digest(&manifest.stage, "manifest", manifest.digest(), theirs.digest())
    }

    /// The manifest of a stage, or `None` when the stage is not finished.
    ///
    /// # Errors
    /// As [`read_commit`](Self::read_commit).
    pub fn read_manifest(&self, plan: &str, stage: &str) -> Result<Option<StageManifest>, ProtocolError> {
        let key = manifest_key(stage)?;
        let Some(manifest) = self.read_sealed::<StageManifest>(&key)? else {
            return Ok(None);
        };
        self.check_plan(&key, &manifest.plan, plan)?;
        self.check_place(&key, (&manifest.stage, None), (stage, None))?;
        Ok(Some(manifest))
    }

    /// Marks the run as finished: `_SUCCESS` with a sealed body that is the same for every attempt. Where the body has a member
    /// `manifests` of the form `{STAGE: StageManifest::digest()}`, verification checks those digests.
    ///
    /// # Errors
    /// [`ProtocolError::Nondeterministic`] when another body is there.
    pub fn mark_success<T: Serialize>(&self, body: &T) -> Result<(), ProtocolError> {
        let key = Key::new(SUCCESS_KEY)?;
        let body = self.seal(&key, body)?;
        let Some(theirs) = self.put_or_read(&key, &body, &AttemptId::generate())? else {
            return Ok(());
        };
        let _: Value = self.unseal(&key, &theirs)?;
        let digest = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        same_digest(SUCCESS_KEY, "end", digest(&body), digest(&theirs)).map(|_| ())
    }

    /// The body of `_SUCCESS`, or `None` when the run is not finished.
    ///
    /// # Errors
    /// [`ProtocolError::Damaged`] when it is not what was written.
    pub fn read_success(&self) -> Result<Option<Value>, ProtocolError> {
        self.read_sealed(&Key::new(SUCCESS_KEY)?)
    }

    /// The whole object that `entry` names, held in memory, its length and BLAKE3 checked. What does not match is fetched once
    /// more before it is an error, since the damage may have happened on the way.
    ///
    /// # Errors
    /// [`ProtocolError::Mismatch`] when it is another object than the entry says; otherwise the store's.
    pub fn read_object(&self, entry: &ObjectEntry) -> Result<Vec<u8>, ProtocolError> {
        match self.kept_object(entry) {
            Ok(Some(bytes)) => return Ok(bytes),
            // Of what is kept nothing is believed that does not match.
            Ok(None) | Err(ProtocolError::Mismatch { .. }) => {}
            Err(other) => return Err(other),
        }
        match self.fetch_object(entry) {
            Err(ProtocolError::Mismatch { .. }) => self.fetch_object(entry),
            result => result,
        }
    }

    /// The object out of the blocks that are kept, those that are not fetched; `None` where the store keeps none, or the object
    /// there is not as long as the entry says.
    fn kept_object(&self, entry: &ObjectEntry) -> Result<Option<Vec<u8>>, ProtocolError> {
        if self.store.cache().is_none() {
            return Ok(None);
        }
        let object = RangeReader::of(Arc::clone(&self.store), entry)?;
        if object.size_bytes() != entry.bytes {
            return Ok(None);
        }
        let bytes = object.read_at(0, entry.bytes as usize)?;
        let found = blake3::hash(&bytes).to_hex().to_string();
        if found == entry.blake3 {
            return Ok(Some(bytes));
        }
        object.forget();
        Err(self.mismatch(object.key(), "BLAKE3", &entry.blake3, &found))
    }

    fn fetch_object(&self, entry: &ObjectEntry) -> Result<Vec<u8>, ProtocolError> {
        let key = Key::new(&*entry.key)?;
        let stream = self.store.open(&key, None)?;
        let mut bytes = Vec::with_capacity(entry.bytes.min(RESERVE_BYTES) as usize);
        stream
            .take(entry.bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| StoreError::from_io(object_name(self.store.uri(), &key), "reading", e))?;
        let read = bytes.len() as u64;
        if read != entry.bytes {
            let found = if read > entry.bytes { self.store.head(&key)?.size_bytes } else { read };
            return Err(ProtocolError::length(&*self.store, &key, entry.bytes, found));
        }
        let found = blake3::hash(&bytes).to_hex().to_string();
        if found == entry.blake3 {
            return Ok(bytes);
        }
        Err(self.mismatch(&key, "BLAKE3", &entry.blake3, &found))
    }

    /// Reads a sealed object of any type, or `None` where there is none; a broken seal is read once more before it is an error.
    ///
    /// # Errors
    /// [`ProtocolError::Damaged`] when the seal does not hold or the members are not those of `T`.
    pub fn read_sealed<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, ProtocolError> {
        let fetch = || match self.store.read(key, None, None) {
            Ok(bytes) => self.unseal(key, &bytes).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        };
        match fetch() {
            Err(ProtocolError::Damaged { .. }) => fetch(),
            result => result,
        }
    }

    /// Puts unless present. `None`: this attempt's body is there now. `Some`: the body that another attempt put.
    /// An unclear answer is never believed: the object is read back, and where it is absent the put is tried again.
    pub(crate) fn put_or_read(&self, key: &Key, body: &[u8], attempt: &AttemptId) -> Result<Option<Vec<u8>>, ProtocolError> {
        let mut last = None;
        for _ in 0..PUT_ATTEMPTS {
            let unknown = match self.store.put_new(key, body, attempt) {
                Ok(PutOutcome::Created | PutOutcome::SameAttempt) => return Ok(None),
                Ok(PutOutcome::Other) => None,
                Err(error) if error.is_unknown() => Some(error),
                Err(error) => return Err(error.into()),
            };
            match self.store.read(key, None, None) {
                // After an unclear answer the same bytes are ours: nobody else shares the attempt id in them. Bodies
                // without one (the plan, the mark of success) are equal for every attempt anyway.
                Ok(bytes) if unknown.is_some() && bytes == body => return Ok(None),
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if error.is_not_found() => last = Some(unknown.unwrap_or(error)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.expect("every try without an answer left an error").into())
    }

    pub(crate) fn check_plan(&self, key: &Key, found: &str, wanted: &str) -> Result<(), ProtocolError> {
        if found == wanted {
            return Ok(());
        }
        let object = object_name(self.store.uri(), key);
        Err(ProtocolError::OtherPlan { object, found: found.to_owned(), wanted: wanted.to_owned() })
    }

    /// A sealed object says itself which stage and task it is: one that was moved is not believed.
    fn check_place(&self, key: &Key, found: (&str, Option<u64>), expected: (&str, Option<u64>)) -> Result<(), ProtocolError> {
        if found.0 != expected.0 {
            return Err(self.mismatch(key, "stage", expected.0, found.0));
        }
        if found.1 != expected.1 {
            let text = |task: Option<u64>| task.map_or_else(String::new, |task| task.to_string());
            return Err(self.mismatch(key, "task", &text(expected.1), &text(found.1)));
        }
        Ok(())
    }

    pub(crate) fn seal<T: Serialize>(&self, key: &Key, value: &T) -> Result<Vec<u8>, ProtocolError> {
        let object = || object_name(self.store.uri(), key);
        sealed::encode(value).map_err(|source| ProtocolError::Unsealable { object: object(), source })
    }

    pub(crate) fn unseal<T: DeserializeOwned>(&self, key: &Key, bytes: &[u8]) -> Result<T, ProtocolError> {
        let object = || object_name(self.store.uri(), key);
        sealed::decode(bytes).map_err(|source| ProtocolError::Damaged { object: object(), source })
    }
}

/// Where the commit of a task stands.
pub(crate) fn commit_key(stage: &str, task: u64) -> Result<Key, StoreError> {
    Key::new(format!("commits/{}/{task:05}.json", checked_stage(stage)?))
}

/// Where the manifest of a stage stands.
pub(crate) fn manifest_key(stage: &str) -> Result<Key, StoreError> {
    Key::new(format!("manifests/{}.json", checked_stage(stage)?))
}

fn checked_stage(stage: &str) -> Result<&str, StoreError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !stage.is_empty() && stage.bytes().all(allowed) {
        return Ok(stage);
    }
    Err(StoreError::invalid(stage, "a stage's name is lowercase letters, digits and hyphens"))
}

/// Every commit that the manifest names is there, under the digest it names, and the counts add up.
fn check_commits(manifest: &StageManifest, commits: &[TaskCommit]) -> Result<(), ProtocolError> {
    let disagree = |problem: String| Err(ProtocolError::Manifest { stage: manifest.stage.clone(), problem });
    if manifest.commits.len() as u64 != manifest.tasks {
        return disagree(format!("{} commits are listed for {} tasks", manifest.commits.len(), manifest.tasks));
    }
    for (task, digest) in (0..).zip(&manifest.commits) {
        let commit = usize::try_from(task).ok().and_then(|task| commits.get(task));
        let Some(commit) = commit.filter(|commit| commit.task == task) else {
            return disagree(format!("task {task} has no commit"));
        };
        let found = commit.digest();
        if found != *digest {
            return disagree(format!("task {task} is committed as {found}, the manifest lists {digest}"));
        }
    }
    let counts = commits.iter().fold(Counts::default(), |sum, commit| sum + commit.counts);
    if manifest.tasks > 0 && counts != manifest.counts {
        let (listed, read) = (manifest.counts.read.documents, counts.read.documents);
        return disagree(format!("counts are not the sum of the commits': {listed} documents read, {read} in the commits"));
    }
    Ok(())
}

fn check_balance(stage: &str, counts: &Counts) -> Result<(), ProtocolError> {
    counts.check().map_err(|source| ProtocolError::Imbalance { stage: stage.to_owned(), source })
}

fn same_digest(stage: &str, task: &str, ours: String, theirs: String) -> Result<CommitOutcome, ProtocolError> {
    if ours == theirs {
        return Ok(CommitOutcome::AlreadyThere);
    }
    Err(ProtocolError::Nondeterministic { stage: stage.to_owned(), task: task.to_owned(), ours, theirs })
}

#[cfg(test)]
mod tests;
