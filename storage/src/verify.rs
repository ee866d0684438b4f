//! Proof that a work folder holds what its records say: every sealed object is decoded, every object that one of them names
//! is streamed and hashed. It changes nothing, and lists what nothing names without calling it a failure.

use crate::commit::{ObjectEntry, TaskCommit};
use crate::counts::Counts;
use crate::error::StoreError;
use crate::key::{Key, ObjectMeta};
use crate::manifest::StageManifest;
use crate::part::hash_object;
use crate::protocol::ProtocolError;
use crate::retraction::{Replacement, Retraction, broken_link, is_record};
use crate::sealed::{self, SealError};
use crate::store::{Store, list_all};
use crate::workdir::{FrozenPlan, PLAN_KEY, SUCCESS_KEY, VERSIONS_FOLDER, Workdir, commit_key, manifest_key};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A record names it, and it is not there.
    #[error("missing; {named_by} names it")]
    Missing {
        /// Key of the record.
        named_by: String,
    },
    /// Its length is not what a record says.
    #[error("{found} bytes, {named_by} lists {expected}")]
    Length {
        /// Key of the record.
        named_by: String,
        /// Bytes listed.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// Its content is not what a record says.
    #[error("BLAKE3 {found}, {named_by} lists {expected}")]
    Content {
        /// Key of the record.
        named_by: String,
        /// Digest listed.
        expected: String,
        /// Digest of what is there.
        found: String,
    },
    /// It is a sealed object whose seal does not hold, or that has other members.
    #[error("{0}")]
    Seal(String),
    /// It says of itself that it belongs elsewhere, or disagrees with another record.
    #[error("{what} {found}, expected {expected}")]
    Disagrees {
        /// "plan", "stage", "task", "digest" …
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Its counts do not add up.
    #[error("{0}")]
    Imbalance(String),
    /// A retraction replaced it, and it is still there.
    #[error("still there; {replaced_by} replaced it; run \"mellama retract\" again")]
    Retracted {
        /// Key of the record.
        replaced_by: String,
    },
    /// A retraction rewrote it, and it is not what the record says.
    #[error("not the text that {rewritten_by} put in its place; run \"mellama retract\" again")]
    Rewritten {
        /// Key of the record.
        rewritten_by: String,
    },
    /// The store could not deliver it.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// One problem and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Key of the object that is wrong.
    pub key: String,
    /// Byte at which the problem begins, where that is known: the end of an object that was cut, the seal that is not there.
    pub offset: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.key.escape_debug())?;
        if let Some(offset) = self.offset {
            write!(f, "at byte {offset}: ")?;
        }
        write!(f, "{}", self.problem)
    }
}

/// The result of [`Workdir::verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Sealed objects and named objects looked at.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong, sorted by key.
    pub findings: Vec<Finding>,
    /// Keys that no record names, sorted: leftovers of attempts that did not commit, and files that are for people. No failure.
    pub unnamed: Vec<String>,
}

impl VerifyReport {
    /// True when nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty()
    }
}

/// The records of a work folder, decoded and compared with each other; no named object has been read yet.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Sealed objects, by key.
    pub records: BTreeSet<String>,
    /// For every named key, the entries that name it and the record each stands in.
    pub named: BTreeMap<String, Vec<(ObjectEntry, String)>>,
    /// Objects that are neither records nor named.
    pub unnamed: Vec<ObjectMeta>,
    /// Bytes of the records.
    pub bytes: u64,
    /// Objects whose text a retraction rewrote in its place, and the last record that did. The record holds the text.
    pub rewritten: BTreeMap<String, String>,
    /// What is wrong so far.
    pub findings: Vec<Finding>,
}

impl Workdir {
    /// Reads everything that is published and compares it with what names it. `visit` is called with each key before it is read.
    ///
    /// Checked: `plan.json`; every object under `commits/`, `manifests/` and `retractions/`; `_SUCCESS`; every
    /// `checkpoints/**/manifest.json`; and every object that one of them names, in its `objects` or anywhere in its `facts`.
    /// What a retraction replaced must be gone. Objects are streamed.
    ///
    /// # Errors
    /// The store's, when it cannot list; everything else is a finding.
    pub fn verify(&self, visit: &mut dyn FnMut(&str)) -> Result<VerifyReport, ProtocolError> {
        let survey = self.survey(visit)?;
        let mut report = VerifyReport {
            objects: survey.records.len() as u64,
            bytes: survey.bytes,
            findings: survey.findings,
            unnamed: survey.unnamed.into_iter().map(|object| object.key.into()).collect(),
        };
        for (key, entries) in survey.named {
            visit(&key);
            report.objects += 1;
            let before = report.findings.len();
            report.bytes += check_object(&**self.store(), &key, &entries, &mut report.findings);
            if let Some(record) = survey.rewritten.get(&key)
                && report.findings.len() > before
            {
                report.findings.truncate(before);
                let problem = Problem::Rewritten { rewritten_by: record.clone() };
                report.findings.push(Finding { key, offset: None, problem });
            }
        }
        report.findings.sort_by(|a, b| (&a.key, a.offset).cmp(&(&b.key, b.offset)));
        Ok(report)
    }

    /// The first half of [`verify`](Self::verify): reads the records and sorts the objects into named and unnamed ones.
    /// What is unnamed and old is what garbage collection may remove, provided that there are no findings.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn survey(&self, visit: &mut dyn FnMut(&str)) -> Result<Survey, ProtocolError> {
        // Versions are work folders of their own.
        let is_own = |object: &Result<ObjectMeta, StoreError>| {
            !object.as_ref().is_ok_and(|object| object.key.as_str().starts_with(VERSIONS_FOLDER))
        };
        let present: BTreeMap<String, ObjectMeta> = list_all(&**self.store(), "")
            .filter(is_own)
            .map(|object| object.map(|object| (object.key.as_str().to_owned(), object)))
            .collect::<Result<_, StoreError>>()?;
        let mut surveyor =
            Surveyor { store: &**self.store(), visit, survey: Survey::default(), plan: None, commits: BTreeMap::new() };
        surveyor.plan(&present);
        for key in present.keys().filter(|key| key.starts_with("commits/")) {
            surveyor.commit(key);
        }
        let mut manifests = BTreeMap::new();
        for key in present.keys().filter(|key| key.starts_with("manifests/")) {
            manifests.extend(surveyor.manifest(key));
        }
        surveyor.success(&present, &manifests);
        for key in present.keys().filter(|key| is_checkpoint_manifest(key)) {
            surveyor.checkpoint(key);
        }
        let replaced = surveyor.retractions(&present);
        let mut survey = surveyor.survey;
        survey.unnamed = present
            .into_iter()
            .filter(|(key, _)| !survey.records.contains(key) && !survey.named.contains_key(key) && !replaced.contains(key))
            .map(|(_, object)| object)
            .collect();
        Ok(survey)
    }
}

fn is_checkpoint_manifest(key: &str) -> bool {
    key.starts_with("checkpoints/") && key.ends_with("/manifest.json")
}

struct Surveyor<'a> {
    store: &'a dyn Store,
    visit: &'a mut dyn FnMut(&str),
    survey: Survey,
    plan: Option<String>,
    /// Digest and counts by (stage, task).
    commits: BTreeMap<(String, u64), (String, Counts)>,
}

impl Surveyor<'_> {
    fn plan(&mut self, present: &BTreeMap<String, ObjectMeta>) {
        let folders = ["commits/", "manifests/"];
        let depends =
            |key: &&String| folders.iter().any(|folder| key.starts_with(folder)) || is_record(key) || *key == SUCCESS_KEY;
        if present.contains_key(PLAN_KEY) {
            self.plan = self.sealed::<FrozenPlan<Value>>(PLAN_KEY).map(|frozen| frozen.id);
        } else if let Some(dependent) = present.keys().find(depends) {
            self.find(PLAN_KEY, None, Problem::Missing { named_by: dependent.clone() });
        }
    }

    fn commit(&mut self, key: &str) {
        let Some(commit) = self.sealed::<TaskCommit>(key) else {
            return;
        };
        self.check_plan(key, &commit.plan);
        self.check_key(key, commit_key(&commit.stage, commit.task));
        self.check_balance(key, &commit.counts);
        self.name(key, &commit.objects);
        self.name_within(key, &commit.facts);
        self.commits.insert((commit.stage.clone(), commit.task), (commit.digest(), commit.counts));
    }

    /// Returns the stage and the manifest's digest.
    fn manifest(&mut self, key: &str) -> Option<(String, String)> {
        let manifest = self.sealed::<StageManifest>(key)?;
        self.check_plan(key, &manifest.plan);
        self.check_key(key, manifest_key(&manifest.stage));
        self.check_balance(key, &manifest.counts);
        self.check_tasks(key, &manifest);
        self.name(key, &manifest.objects);
        self.name_within(key, &manifest.facts);
        Some((manifest.stage.clone(), manifest.digest()))
    }

    fn check_tasks(&mut self, key: &str, manifest: &StageManifest) {
        if manifest.commits.len() as u64 != manifest.tasks {
            self.disagree(key, "number of commits", &manifest.tasks.to_string(), &manifest.commits.len().to_string());
        }
        let mut counts = Counts::default();
        let mut complete = manifest.tasks > 0;
        for (task, expected) in (0..).zip(&manifest.commits) {
            let committed = self.commits.get(&(manifest.stage.clone(), task)).cloned();
            if let Some((digest, own)) = committed {
                counts += own;
                if digest != *expected {
                    let key = format!("commits/{}/{task:05}.json", manifest.stage);
                    self.disagree(&key, "digest", expected, &digest);
                }
            } else {
                complete = false;
                self.missing_commit(key, &manifest.stage, task);
            }
        }
        if complete && counts != manifest.counts {
            let (expected, found) = (counts.read.documents, manifest.counts.read.documents);
            self.disagree(key, "counts, beginning with documents read,", &expected.to_string(), &found.to_string());
        }
    }

    /// A commit that could not be decoded has a finding of its own already.
    fn missing_commit(&mut self, manifest: &str, stage: &str, task: u64) {
        let key = format!("commits/{stage}/{task:05}.json");
        if !self.survey.records.contains(&key) {
            self.find(&key, None, Problem::Missing { named_by: manifest.to_owned() });
        }
    }

    fn success(&mut self, present: &BTreeMap<String, ObjectMeta>, manifests: &BTreeMap<String, String>) {
        if !present.contains_key(SUCCESS_KEY) {
            return;
        }
        self.unfinished_stages(present);
        let Some(body) = self.sealed::<Value>(SUCCESS_KEY) else {
            return;
        };
        self.name_within(SUCCESS_KEY, &body);
        if let Some(plan) = body.get("plan").and_then(Value::as_str) {
            self.check_plan(SUCCESS_KEY, plan);
        }
        let named = body.get("manifests").and_then(Value::as_object);
        for (stage, expected) in named.into_iter().flatten() {
            let Some(expected) = expected.as_str() else {
                continue;
            };
            let key = format!("manifests/{stage}.json");
            match manifests.get(stage) {
                Some(found) if found != expected => self.disagree(&key, "digest", expected, found),
                None if !self.survey.records.contains(&key) => self.missing(&key, SUCCESS_KEY),
                _ => {}
            }
        }
    }

    /// In a finished run every stage that has commits has its manifest, whatever the mark of success says.
    fn unfinished_stages(&mut self, present: &BTreeMap<String, ObjectMeta>) {
        let commits = present.keys().filter_map(|key| key.strip_prefix("commits/"));
        let stages: BTreeSet<&str> = commits.filter_map(|rest| Some(rest.split_once('/')?.0)).collect();
        for stage in stages {
            let key = format!("manifests/{stage}.json");
            if !present.contains_key(&key) {
                self.missing(&key, SUCCESS_KEY);
            }
        }
    }

    fn checkpoint(&mut self, key: &str) {
        if let Some(body) = self.sealed::<Value>(key) {
            self.name_within(key, &body);
        }
    }

    /// Names what the retractions put in the place of other objects, and returns what they replaced.
    fn retractions(&mut self, present: &BTreeMap<String, ObjectMeta>) -> BTreeSet<String> {
        let mut replaced: BTreeMap<String, String> = BTreeMap::new();
        let mut before: Option<Retraction> = None;
        for key in present.keys().filter(|key| is_record(key)) {
            let Some(record) = self.sealed::<Retraction>(key) else { break };
            self.check_plan(key, &record.plan);
            if let Some((what, expected, found)) = broken_link(key, &record, before.as_ref()) {
                self.disagree(key, what, &expected, &found);
            }
            for Replacement { old, new, text, .. } in &record.replaced {
                if text.is_some() {
                    self.survey.rewritten.insert(old.key.clone(), key.clone());
                }
                let named = self.survey.named.remove(&old.key);
                if !named.iter().flatten().any(|(entry, _)| entry == old) {
                    self.disagree(key, "replaced object", "one that another record names", &old.key);
                }
                replaced.insert(old.key.clone(), key.clone());
                if let Some(new) = new {
                    replaced.remove(&new.key);
                    self.name(key, std::slice::from_ref(new));
                }
            }
            before = Some(record);
        }
        for (key, record) in replaced.iter().filter(|(key, _)| present.contains_key(*key)) {
            self.find(key, None, Problem::Retracted { replaced_by: record.clone() });
        }
        replaced.into_keys().collect()
    }

    /// Reads a record and checks its seal and shape, once more where they fail: it may have been damaged on the way.
    fn sealed<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        (self.visit)(key);
        self.survey.records.insert(key.to_owned());
        let fetch = |survey: &mut Survey| {
            let bytes = Key::new(key).and_then(|key| self.store.read(&key, None, None));
            let bytes = bytes.map_err(|error| (None, unreadable(&error)))?;
            survey.bytes += bytes.len() as u64;
            sealed::decode(&bytes).map_err(|error| {
                let offset = if let SealError::NotSealed { offset } = error { Some(offset) } else { None };
                (offset, Problem::Seal(error.to_string()))
            })
        };
        let fetched = fetch(&mut self.survey).or_else(|_| fetch(&mut self.survey));
        fetched.map_err(|(offset, problem)| self.find(key, offset, problem)).ok()
    }

    fn name(&mut self, record: &str, objects: &[ObjectEntry]) {
        for entry in objects {
            self.survey.named.entry(entry.key.clone()).or_default().push((entry.clone(), record.to_owned()));
        }
    }

    /// Names every object entry that stands anywhere in a value: members `key`, `bytes`, `blake3` and `records`.
    fn name_within(&mut self, record: &str, value: &Value) {
        let mut pending = vec![value];
        while let Some(value) = pending.pop() {
            match value {
                Value::Array(items) => pending.extend(items),
                Value::Object(members) => {
                    let is_entry = members.contains_key("blake3") && members.contains_key("key");
                    match is_entry.then(|| serde_json::from_value::<ObjectEntry>(value.clone())) {
                        Some(Ok(entry)) => self.name(record, &[entry]),
                        _ => pending.extend(members.values()),
                    }
                }
                _ => {}
            }
        }
    }

    fn check_plan(&mut self, key: &str, found: &str) {
        if let Some(expected) = self.plan.clone().filter(|plan| plan != found) {
            self.disagree(key, "plan", &expected, found);
        }
    }

    fn check_key(&mut self, key: &str, expected: Result<Key, StoreError>) {
        let expected = expected.map_or_else(|_| "a valid stage name".to_owned(), String::from);
        if expected != key {
            self.disagree(key, "key", &expected, key);
        }
    }

    fn check_balance(&mut self, key: &str, counts: &Counts) {
        if let Err(imbalance) = counts.check() {
            self.find(key, None, Problem::Imbalance(imbalance.to_string()));
        }
    }

    fn disagree(&mut self, key: &str, what: &'static str, expected: &str, found: &str) {
        self.find(key, None, Problem::Disagrees { what, expected: expected.to_owned(), found: found.to_owned() });
    }

    fn missing(&mut self, key: &str, named_by: &str) {
        let problem = Problem::Missing { named_by: named_by.to_owned() };
        let finding = Finding { key: key.to_owned(), offset: None, problem };
        if !self.survey.findings.contains(&finding) {
            self.survey.findings.push(finding);
        }
    }

    fn find(&mut self, key: &str, offset: Option<u64>, problem: Problem) {
        self.survey.findings.push(Finding { key: key.to_owned(), offset, problem });
    }
}

/// Streams one object and compares it with every entry that names it, once more where they differ. Returns the bytes read.
fn check_object(store: &dyn Store, key: &str, entries: &[(ObjectEntry, String)], findings: &mut Vec<Finding>) -> u64 {
    let (first_bytes, problems) = compare_object(store, key, entries);
    if problems.is_empty() {
        return first_bytes;
    }
    let (second_bytes, problems) = compare_object(store, key, entries);
    let finding = |(offset, problem)| Finding { key: key.to_owned(), offset, problem };
    findings.extend(problems.into_iter().map(finding));
    first_bytes + second_bytes
}

/// Bytes read, and what is wrong with the object, by the first entry of each record that says so.
fn compare_object(store: &dyn Store, key: &str, entries: &[(ObjectEntry, String)]) -> (u64, Vec<(Option<u64>, Problem)>) {
    let found = Key::new(key).and_then(|key| hash_object(store, &key));
    let problem = |(entry, record): &(ObjectEntry, String)| {
        let named_by = record.clone();
        let (size_bytes, blake3) = match &found {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                return Some((None, Problem::Missing { named_by }));
            }
            Err(error) => return Some((None, unreadable(error))),
        };
        if entry.bytes != *size_bytes {
            let offset = Some(entry.bytes.min(*size_bytes));
            return Some((offset, Problem::Length { named_by, expected: entry.bytes, found: *size_bytes }));
        }
        let differs = || Problem::Content { named_by, expected: entry.blake3.clone(), found: blake3.clone() };
        (entry.blake3 != *blake3).then(|| (None, differs()))
    };
    let mut problems: Vec<_> = entries.iter().filter_map(problem).collect();
    problems.dedup();
    (found.as_ref().map_or(0, |(size_bytes, _)| *size_bytes), problems)
}

fn unreadable(error: &StoreError) -> Problem {
    Problem::Unreadable(error.to_string())
}

#[cfg(test)]
mod tests;
