//! Retractions: sealed records that put objects in the place of published ones, and the list of objects that holds after them.
//!
//! Manifests and commits stay as they were written. What a retraction takes out, and why, is the caller's: nothing here knows
//! what an object holds. An object with a plain name (a card, a report) is rewritten in its place: the record itself holds the
//! new text, so whoever finds the old one can put the new one.
//!
//! ```text
//! retractions/00000.json    retractions/00001.json    …    each names the digest of the one before it
//! ```

use crate::commit::{ObjectEntry, digest_of, sorted};
use crate::error::{StoreError, object_name};
use crate::key::{AttemptId, Key};
use crate::manifest::StageManifest;
use crate::protocol::ProtocolError;
use crate::store::list_all;
use crate::workdir::Workdir;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Folder of the records.
pub(crate) const RETRACTIONS: &str = "retractions/";

/// Looks at a rewritten text, each after a put, before it is given up to other processes.
const REWRITE_TRIES: usize = 16;

/// An object that is replaced, or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// Stage whose manifest lists the old object.
    pub stage: String,
    /// What the manifest, or an earlier retraction, names; it is deleted once the record is there.
    pub old: ObjectEntry,
    /// What stands in its place; `None`: nothing.
    pub new: Option<ObjectEntry>,
    /// The bytes of `new`, where it has the key of `old`: a text that is rewritten in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Replacement {
    /// `old` is taken out and `new`, an object under another key, stands in its place.
    pub fn object(stage: &str, old: ObjectEntry, new: Option<ObjectEntry>) -> Self {
        Self { stage: stage.to_owned(), old, new, text: None }
    }

    /// `old` is rewritten in its place.
    pub fn text(stage: &str, old: ObjectEntry, text: String) -> Self {
        let blake3 = blake3::hash(text.as_bytes()).to_hex().to_string();
        let new = ObjectEntry { bytes: text.len() as u64, blake3, ..old.clone() };
        Self { stage: stage.to_owned(), old, new: Some(new), text: Some(text) }
    }

    /// Whether the text is what `new` says, under the key of `old`; true where there is none.
    pub(crate) fn is_consistent(&self) -> bool {
        let Some(text) = &self.text else { return self.new.as_ref().is_none_or(|new| new.key != self.old.key) };
        let digest = || blake3::hash(text.as_bytes()).to_hex().to_string();
        self.new.as_ref().is_some_and(|new| new.key == self.old.key && new.bytes == text.len() as u64 && new.blake3 == digest())
    }
}

/// One retraction. It takes effect when its record is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retraction {
    /// Plan id.
    pub plan: String,
    /// Number, from 0 without a gap.
    pub number: u64,
    /// Digest of the record before it; `None` for the first.
    pub previous: Option<String>,
    /// Objects replaced, in the order of the manifests.
    pub replaced: Vec<Replacement>,
    /// What was taken out and what came in its place, as the caller defines it.
    pub facts: Value,
    /// The attempt that wrote it: provenance, outside [`digest`](Self::digest).
    pub attempt: String,
}

/// How putting a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetractionOutcome {
    /// The record stands, by this attempt or by another of the same content.
    Recorded,
    /// Another retraction has the number: read the records again and begin anew.
    Overtaken,
}

impl Retraction {
    /// 64 hexadecimal digits: BLAKE3 of the compact JSON of everything but `attempt`, as
    /// [`TaskCommit::digest`](crate::TaskCommit::digest) does it.
    pub fn digest(&self) -> String {
        #[derive(Serialize)]
        struct Content<'a> {
            plan: &'a str,
            number: u64,
            previous: &'a Option<String>,
            replaced: &'a [Replacement],
            facts: Value,
        }
        digest_of(&Content {
            plan: &self.plan,
            number: self.number,
            previous: &self.previous,
            replaced: &self.replaced,
            facts: sorted(&self.facts),
        })
    }

    /// The key of the record.
    pub fn key(&self) -> String {
        retraction_key(self.number)
    }
}

/// Whether a key is that of a record; what else lies among them is nobody's, such as what an editor or a file system leaves.
pub(crate) fn is_record(key: &str) -> bool {
    let number = key.strip_prefix(RETRACTIONS).and_then(|name| name.strip_suffix(".json"));
    number.is_some_and(|number| number.len() >= 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Workdir {
    /// All retractions of the folder, in order; empty where there is none.
    ///
    /// # Errors
    /// [`ProtocolError::OtherPlan`] for records of another plan; [`ProtocolError::Record`] when one is not what was put there, or
    /// does not follow the one before it.
    pub fn read_retractions(&self, plan: &str) -> Result<Vec<Retraction>, ProtocolError> {
        let mut records: Vec<Retraction> = Vec::new();
        for object in list_all(&**self.store(), RETRACTIONS) {
            let key = object?.key;
            if !is_record(key.as_str()) {
                continue;
            }
            let record = self.read_sealed::<Retraction>(&key).map_err(ProtocolError::of_record)?;
            let Some(record) = record else { continue };
            self.check_plan(&key, &record.plan, plan)?;
            if let Some((what, expected, found)) = broken_link(key.as_str(), &record, records.last()) {
                return Err(self.mismatch(&key, what, &expected, &found).of_record());
            }
            records.push(record);
        }
        Ok(records)
    }

    /// The manifest of a stage with the objects that hold after all retractions, or `None` when the stage is not finished. Its
    /// counts and facts are those of the day it was written, so its digest is another one.
    ///
    /// # Errors
    /// As [`read_manifest`](Self::read_manifest) and [`read_retractions`](Self::read_retractions);
    /// [`ProtocolError::Mismatch`] when a retraction replaces what is not there.
    pub fn effective_manifest(&self, plan: &str, stage: &str) -> Result<Option<StageManifest>, ProtocolError> {
        self.read_manifest(plan, stage)?.map(|manifest| self.after_retractions(manifest)).transpose()
    }

    /// [`effective_manifest`](Self::effective_manifest) of a manifest that was read before.
    ///
    /// # Errors
    /// As there.
    pub fn after_retractions(&self, mut manifest: StageManifest) -> Result<StageManifest, ProtocolError> {
        for record in self.read_retractions(&manifest.plan)? {
            self.apply(&record, &mut manifest)?;
        }
        Ok(manifest)
    }

    /// Shows the manifest of a stage as it was published and then as it held after each retraction, in order; nothing where the
    /// stage is not finished.
    ///
    /// # Errors
    /// As [`effective_manifest`](Self::effective_manifest).
    pub fn manifest_history(&self, plan: &str, stage: &str, visit: &mut dyn FnMut(&StageManifest)) -> Result<(), ProtocolError> {
        let Some(mut manifest) = self.read_manifest(plan, stage)? else {
            return Ok(());
        };
        visit(&manifest);
        for record in self.read_retractions(plan)? {
            self.apply(&record, &mut manifest)?;
            visit(&manifest);
        }
        Ok(())
    }

    /// Puts what a record names in the place of what it replaced.
    fn apply(&self, record: &Retraction, manifest: &mut StageManifest) -> Result<(), ProtocolError> {
        for replacement in record.replaced.iter().filter(|replacement| replacement.stage == manifest.stage) {
            let Some(place) = manifest.objects.iter().position(|entry| *entry == replacement.old) else {
                let key = Key::new(record.key())?;
                return Err(self.mismatch(&key, "replaced object", "one that its stage has", &replacement.old.key));
            };
            match &replacement.new {
                Some(new) => manifest.objects[place] = new.clone(),
                None => drop(manifest.objects.remove(place)),
            }
        }
        Ok(())
    }

    /// Makes a retraction take effect. Its new objects must be there; its old ones, and texts that it rewrites, stay until
    /// [`delete_retracted`](Self::delete_retracted).
    ///
    /// # Errors
    /// [`ProtocolError::Mismatch`] when a new object is not there in its length; otherwise the store's.
    pub fn put_retraction(&self, record: &Retraction) -> Result<RetractionOutcome, ProtocolError> {
        let objects = record.replaced.iter().filter(|replacement| replacement.text.is_none());
        for entry in objects.filter_map(|replacement| replacement.new.as_ref()) {
            let key = Key::new(&*entry.key)?;
            let found = self.store().head(&key)?.size_bytes;
            if found != entry.bytes {
                return Err(ProtocolError::length(&**self.store(), &key, entry.bytes, found));
            }
        }
        let key = Key::new(record.key())?;
        let body = self.seal(&key, record)?;
        let Some(theirs) = self.put_or_read(&key, &body, &AttemptId::new(&record.attempt))? else {
            return Ok(RetractionOutcome::Recorded);
        };
        let theirs: Retraction = self.unseal(&key, &theirs)?;
        self.check_plan(&key, &theirs.plan, &record.plan)?;
        let same = theirs.digest() == record.digest();
        Ok(if same { RetractionOutcome::Recorded } else { RetractionOutcome::Overtaken })
    }

    /// Deletes what retractions replaced and is still there, rewrites the texts that they rewrote, and says how many objects were
    /// deleted. Running it again is right.
    ///
    /// # Errors
    /// As [`read_retractions`](Self::read_retractions), and the store's; [`StoreError::Exists`] in it when other processes keep
    /// rewriting a text.
    pub fn delete_retracted(&self, plan: &str) -> Result<u64, ProtocolError> {
        let records = self.read_retractions(plan)?;
        let mut deleted = 0;
        for key in replaced_keys(&records) {
            let key = Key::new(key)?;
            match self.store().head(&key) {
                Ok(_) => {
                    self.store().delete(&key)?;
                    deleted += 1;
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.rewrite_texts(plan, records)?;
        Ok(deleted)
    }

    /// Puts the last text of every key that was rewritten. Records are read again after each put: a process that rewrites late
    /// would else leave an older text behind.
    fn rewrite_texts(&self, plan: &str, mut records: Vec<Retraction>) -> Result<(), ProtocolError> {
        let mut differs = None;
        for _ in 0..REWRITE_TRIES {
            differs = None;
            for (entry, text) in rewritten(&records) {
                let key = Key::new(&*entry.key)?;
                match self.store().read(&key, None, None) {
                    Ok(bytes) if bytes == text.as_bytes() => continue,
                    Ok(_) => self.store().delete(&key)?,
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
                self.put_or_read(&key, text.as_bytes(), &AttemptId::generate())?;
                differs = Some(key);
            }
            if differs.is_none() {
                return Ok(());
            }
            records = self.read_retractions(plan)?;
        }
        differs.map_or(Ok(()), |key| Err(StoreError::Exists { object: object_name(self.store().uri(), &key) }.into()))
    }

    pub(crate) fn mismatch(&self, key: &Key, what: &'static str, expected: &str, found: &str) -> ProtocolError {
        ProtocolError::Mismatch {
            object: object_name(self.store().uri(), key),
            what,
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }
}

/// What no longer holds after `records`, in key order.
fn replaced_keys(records: &[Retraction]) -> BTreeSet<&str> {
    let mut gone = BTreeSet::new();
    for replacement in records.iter().flat_map(|record| &record.replaced) {
        gone.insert(replacement.old.key.as_str());
        if let Some(new) = &replacement.new {
            gone.remove(new.key.as_str());
        }
    }
    gone
}

/// The last text of every key that was rewritten in its place, in key order.
fn rewritten(records: &[Retraction]) -> Vec<(&ObjectEntry, &str)> {
    let replaced = records.iter().flat_map(|record| &record.replaced);
    let texts = replaced.filter_map(|one| Some((one.new.as_ref()?, one.text.as_deref()?)));
    let last: BTreeMap<&str, (&ObjectEntry, &str)> = texts.map(|(entry, text)| (entry.key.as_str(), (entry, text))).collect();
    last.into_values().collect()
}

/// Where the record of a number stands.
pub(crate) fn retraction_key(number: u64) -> String {
    format!("{RETRACTIONS}{number:05}.json")
}

/// What keeps a record from following `before`: what it is, what it should be, what it is now.
pub(crate) fn broken_link(key: &str, record: &Retraction, before: Option<&Retraction>) -> Option<(&'static str, String, String)> {
    let number = before.map_or(0, |before| before.number + 1);
    if key != retraction_key(number) {
        return Some(("number", retraction_key(number), key.to_owned()));
    }
    if record.number != number {
        return Some(("number", number.to_string(), record.number.to_string()));
    }
    if let Some(one) = record.replaced.iter().find(|one| !one.is_consistent()) {
        return Some(("text of", one.old.key.clone(), one.new.as_ref().map_or_else(|| "none".to_owned(), |new| new.key.clone())));
    }
    let (expected, found) = (before.map(Retraction::digest), &record.previous);
    if expected == *found {
        return None;
    }
    let shown = |digest: Option<&String>| digest.cloned().unwrap_or_else(|| "none".to_owned());
    Some(("record before", shown(expected.as_ref()), shown(found.as_ref())))
}

#[cfg(test)]
mod tests;
