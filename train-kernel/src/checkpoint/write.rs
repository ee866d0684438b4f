//! Writing a checkpoint: each file under its plain name, then the manifest. A run that dies in between leaves a folder
//! without a manifest, which the next attempt overwrites.

use std::collections::BTreeSet;
use std::io::{self, Write};

use mellama_storage::{
    AttemptId, Key, ObjectEntry, PartWriter, ProtocolError, PutOutcome, StoreError, Workdir, list_all, sealed,
};

use super::CheckpointError;
use super::manifest::{CheckpointManifest, folder, kind_folder, parse_step};
use super::read::{list_steps, read_manifest};
use super::tensor_file::TensorFileError;
use crate::trainer::Kind;

/// The name of the manifest inside a checkpoint.
pub(super) const MANIFEST: &str = "manifest.json";

/// A checkpoint in the making.
pub struct CheckpointWriter<'a> {
    workdir: &'a Workdir,
    folder: String,
    objects: Vec<ObjectEntry>,
}

impl<'a> CheckpointWriter<'a> {
    /// Begins the checkpoint after `step` steps.
    pub fn new(workdir: &'a Workdir, kind: Kind, step: u64) -> Self {
        Self { workdir, folder: folder(kind, step), objects: Vec::new() }
    }

    /// Writes one file through `body`, which may be called twice and must write the same both times.
    ///
    /// # Errors
    /// [`CheckpointError`] of the store or of `body`.
    pub fn put(
        &mut self,
        file: &str,
        records: u64,
        body: &dyn Fn(&mut PartWriter) -> Result<(), TensorFileError>,
    ) -> Result<(), CheckpointError> {
        let key = format!("{}/{file}", self.folder);
        let entry = match self.write(&key, records, body) {
            Err(error) if is_occupied(&error) && !self.has_manifest()? => {
                // Left behind by an attempt that died and had other contents, or was damaged since.
                self.workdir.store().delete(&Key::new(key.as_str())?)?;
                self.write(&key, records, body)?
            }
            other => other?,
        };
        self.objects.push(entry);
        Ok(())
    }

    /// Writes one small file.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_bytes(&mut self, file: &str, records: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        let io = |source: io::Error| TensorFileError::Io { file: file.to_owned(), source };
        self.put(file, records, &|writer| writer.write_all(bytes).map_err(io))
    }

    /// Names and digests of the files written so far directly under a prefix, the names without it.
    pub fn written(&self, prefix: &str) -> Vec<(String, String)> {
        let start = format!("{}/{prefix}", self.folder);
        let file = |entry: &ObjectEntry| {
            let name = entry.key.strip_prefix(&start).filter(|name| !name.contains('/'))?;
            Some((name.to_owned(), entry.blake3.clone()))
        };
        self.objects.iter().filter_map(file).collect()
    }

    /// Writes the manifest, with the objects written so far; the checkpoint exists from here on. Returns the
    /// manifest's BLAKE3.
    ///
    /// # Errors
    /// [`CheckpointError::Conflict`] when another manifest is there.
    pub fn finish(&self, mut manifest: CheckpointManifest) -> Result<(CheckpointManifest, String), CheckpointError> {
        manifest.objects.clone_from(&self.objects);
        let name = format!("{}/{MANIFEST}", self.folder);
        let content = |problem: String| CheckpointError::Content { key: name.clone(), problem };
        let bytes = sealed::encode(&manifest).map_err(|error| content(error.to_string()))?;
        let digest = blake3::hash(&bytes).to_hex().to_string();
        let key = Key::new(name.as_str())?;
        let store = self.workdir.store();
        match store.put_new(&key, &bytes, &AttemptId::generate()) {
            Ok(PutOutcome::Created | PutOutcome::SameAttempt) => return Ok((manifest, digest)),
            Ok(PutOutcome::Other) => {}
            // It may yet appear: where it cannot be read, that is not known still.
            Err(error) if error.is_unknown() => {
                return match store.read(&key, None, None) {
                    Ok(there) if there == bytes => Ok((manifest, digest)),
                    Ok(_) => Err(CheckpointError::Conflict { key: name }),
                    Err(_) => Err(error.into()),
                };
            }
            Err(error) => return Err(error.into()),
        }
        let there = store.read(&key, None, None)?;
        if there == bytes {
            return Ok((manifest, digest));
        }
        if sealed::decode::<CheckpointManifest>(&there).is_ok() {
            return Err(CheckpointError::Conflict { key: name });
        }
        // Torn by a store that does not publish atomically; no run has ever believed it.
        store.delete(&key)?;
        store.put_new(&key, &bytes, &AttemptId::generate())?;
        if store.read(&key, None, None)? == bytes { Ok((manifest, digest)) } else { Err(CheckpointError::Conflict { key: name }) }
    }

    /// Removes what was written, where no manifest names it or may yet come to: best effort, to free the room that a failed save
    /// took.
    pub fn abandon(self, failed: &CheckpointError) {
        if failed.is_unknown() || !matches!(self.has_manifest(), Ok(false)) {
            return;
        }
        for entry in &self.objects {
            if let Ok(key) = Key::new(entry.key.as_str()) {
                let _ = self.workdir.store().delete(&key);
            }
        }
    }

    fn write(
        &self,
        key: &str,
        records: u64,
        body: &dyn Fn(&mut PartWriter) -> Result<(), TensorFileError>,
    ) -> Result<ObjectEntry, CheckpointError> {
        let mut part = self.workdir.part()?;
        body(&mut part).map_err(|source| self.explain(source))?;
        Ok(part.finish_named(key, records)?)
    }

    /// A store error that went through a tensor file comes out as what it was, for its exit code.
    fn explain(&self, error: TensorFileError) -> CheckpointError {
        match error {
            TensorFileError::Io { file, source } => {
                StoreError::from_io(format!("{}/{file}", self.folder), "writing", source).into()
            }
            source => CheckpointError::Tensors { folder: self.folder.clone(), source },
        }
    }

    fn has_manifest(&self) -> Result<bool, CheckpointError> {
        let key = Key::new(format!("{}/{MANIFEST}", self.folder))?;
        Ok(read_manifest(self.workdir, &key)?.is_some())
    }
}

/// Publishes a small object outside a checkpoint folder, in place of what an attempt that died left there.
///
/// # Errors
/// [`CheckpointError`] of the store.
pub fn publish(workdir: &Workdir, key: &str, records: u64, bytes: &[u8]) -> Result<ObjectEntry, CheckpointError> {
    let write = || -> Result<ObjectEntry, CheckpointError> {
        let mut part = workdir.part()?;
        part.write_all(bytes).map_err(|error| StoreError::from_io(key.to_owned(), "writing", error))?;
        Ok(part.finish_named(key, records)?)
    };
    match write() {
        Err(error) if is_occupied(&error) => {
            workdir.store().delete(&Key::new(key)?)?;
            write()
        }
        other => other,
    }
}

fn is_occupied(error: &CheckpointError) -> bool {
    matches!(
        error,
        CheckpointError::Protocol(ProtocolError::Store(StoreError::Exists { .. }))
            | CheckpointError::Store(StoreError::Exists { .. })
    )
}

/// Deletes all but the newest `keep` complete checkpoints up to `newest`, and but the newest that is `scheduled`, each manifest
/// first, so that what is left of a checkpoint is never believed.
///
/// # Errors
/// [`CheckpointError::Store`].
pub fn prune(
    workdir: &Workdir,
    kind: Kind,
    (newest, keep): (u64, u64),
    scheduled: &dyn Fn(u64) -> bool,
) -> Result<Vec<u64>, CheckpointError> {
    let mut steps = list_steps(workdir, kind)?;
    steps.retain(|&step| step <= newest);
    let last = steps.iter().copied().rev().find(|&step| scheduled(step));
    let surplus = steps.len().saturating_sub(keep as usize);
    steps.truncate(surplus);
    steps.retain(|&step| Some(step) != last);
    steps.iter().try_for_each(|&step| delete(workdir, kind, step))?;
    Ok(steps)
}

/// Deletes what is left of checkpoints before `step` that never were complete.
///
/// # Errors
/// [`CheckpointError::Store`].
pub fn sweep(workdir: &Workdir, kind: Kind, step: u64) -> Result<(), CheckpointError> {
    let (mut all, mut complete) = (BTreeSet::new(), BTreeSet::new());
    for object in list_all(&**workdir.store(), &kind_folder(kind)) {
        if let Some((found, file)) = parse_step(kind, object?.key.as_str()) {
            all.insert(found);
            if file == MANIFEST {
                complete.insert(found);
            }
        }
    }
    let incomplete = all.difference(&complete).filter(|&&found| found < step);
    incomplete.copied().try_for_each(|found| delete(workdir, kind, found))
}

/// Deletes every checkpoint after `step`, complete or not, the latest first: a run went back, and what it saved since is not on its
/// way any more.
///
/// # Errors
/// [`CheckpointError::Store`].
pub fn discard_after(workdir: &Workdir, kind: Kind, step: u64) -> Result<(), CheckpointError> {
    let mut later = BTreeSet::new();
    for object in list_all(&**workdir.store(), &kind_folder(kind)) {
        later.extend(parse_step(kind, object?.key.as_str()).map(|(found, _)| found).filter(|&found| found > step));
    }
    later.into_iter().rev().try_for_each(|found| delete(workdir, kind, found))
}

fn delete(workdir: &Workdir, kind: Kind, step: u64) -> Result<(), CheckpointError> {
    let prefix = format!("{}/", folder(kind, step));
    let store = workdir.store();
    store.delete(&Key::new(format!("{prefix}{MANIFEST}"))?)?;
    let keys = list_all(&**store, &prefix).map(|object| object.map(|object| object.key));
    for key in keys.collect::<Result<Vec<_>, _>>()? {
        store.delete(&key)?;
    }
    Ok(())
}
