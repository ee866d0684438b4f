//! Finding and reading checkpoints: the newest complete one, each file checked against the manifest before use.

use std::collections::BTreeSet;
use std::io::Read;

use mellama_storage::sealed::SealError;
use mellama_storage::{Key, ObjectEntry, ProtocolError, StoreError, Workdir, list_all};

use super::CheckpointError;
use super::manifest::{CheckpointManifest, FORMAT_VERSION, folder, kind_folder, parse_step};
use super::write::MANIFEST;
use crate::trainer::Kind;

/// Bytes hashed at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// A complete checkpoint whose files are those of its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its manifest.
    pub manifest: CheckpointManifest,
    /// BLAKE3 of the manifest.
    pub digest: String,
}

/// Steps of the complete checkpoints, ascending.
///
/// # Errors
/// [`CheckpointError::Store`].
pub fn list_steps(workdir: &Workdir, kind: Kind) -> Result<Vec<u64>, CheckpointError> {
    let mut steps = BTreeSet::new();
    for object in list_all(&**workdir.store(), &kind_folder(kind)) {
        let object = object?;
        if let Some((step, MANIFEST)) = parse_step(kind, object.key.as_str()) {
            steps.insert(step);
        }
    }
    Ok(steps.into_iter().collect())
}

/// The newest complete checkpoint, its files hashed. Folders without a manifest, or with a torn one, are passed over.
///
/// # Errors
/// [`CheckpointError::Damaged`] when a file of the newest complete one is absent or differs: going back a checkpoint
/// is for a person to decide.
pub fn newest(workdir: &Workdir, kind: Kind) -> Result<Option<Found>, CheckpointError> {
    newest_of(workdir, kind, &|_, _| true)
}

/// The newest complete checkpoint after a step that `wanted` allows, given the step and those of all complete ones; likewise.
///
/// # Errors
/// As [`newest`].
pub fn newest_of(workdir: &Workdir, kind: Kind, wanted: &dyn Fn(u64, &[u64]) -> bool) -> Result<Option<Found>, CheckpointError> {
    let all = list_steps(workdir, kind)?;
    let steps: Vec<u64> = all.iter().copied().filter(|&step| wanted(step, &all)).collect();
    for (at, &step) in steps.iter().enumerate().rev() {
        let folder = folder(kind, step);
        let Some((manifest, digest)) = read_manifest(workdir, &Key::new(format!("{folder}/{MANIFEST}"))?)? else {
            continue;
        };
        if !(1..=FORMAT_VERSION).contains(&manifest.format) {
            return Err(CheckpointError::Format { folder, got: manifest.format });
        }
        let previous = steps[..at].last().map_or("the start".to_owned(), |&step| self::folder(kind, step));
        for entry in &manifest.objects {
            if let Err(problem) = check_object(workdir, entry)? {
                return Err(CheckpointError::Damaged { key: entry.key.clone(), problem, folder, previous });
            }
        }
        return Ok(Some(Found { manifest, digest }));
    }
    Ok(None)
}

/// The bytes of one small file of a checkpoint, checked.
///
/// # Errors
/// [`CheckpointError`] when it is not listed or not what the manifest says.
pub fn read_file(workdir: &Workdir, manifest: &CheckpointManifest, file: &str) -> Result<Vec<u8>, CheckpointError> {
    Ok(workdir.read_object(entry(manifest, file)?)?)
}

fn entry<'m>(manifest: &'m CheckpointManifest, file: &str) -> Result<&'m ObjectEntry, CheckpointError> {
    let absent = || CheckpointError::NotListed { folder: manifest.folder(), file: file.to_owned() };
    manifest.entry(file).ok_or_else(absent)
}

/// The manifest at `key` with its BLAKE3; `None` when it is absent or torn.
pub(super) fn read_manifest(workdir: &Workdir, key: &Key) -> Result<Option<(CheckpointManifest, String)>, CheckpointError> {
    match workdir.read_sealed::<CheckpointManifest>(key) {
        // A seal that holds over unknown members is another version's checkpoint, not a torn one.
        Ok(None) | Err(ProtocolError::Damaged { source: SealError::NotSealed { .. } | SealError::Broken { .. }, .. }) => Ok(None),
        Ok(Some(manifest)) => {
            let bytes = workdir.store().read(key, None, None)?;
            Ok(Some((manifest, blake3::hash(&bytes).to_hex().to_string())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Hashes an object as a stream; the inner error says how it differs from its entry.
///
/// # Errors
/// [`CheckpointError::Store`] when it cannot be read.
pub fn check_object(workdir: &Workdir, entry: &ObjectEntry) -> Result<Result<(), String>, CheckpointError> {
    let key = Key::new(entry.key.as_str())?;
    let mut stream = match workdir.store().open(&key, None) {
        Ok(stream) => stream,
        Err(error) if error.is_not_found() => return Ok(Err("missing".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut bytes = 0;
    loop {
        let read = stream.read(&mut block).map_err(|error| StoreError::from_io(entry.key.clone(), "reading", error))?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
        bytes += read as u64;
    }
    if bytes != entry.bytes {
        return Ok(Err(format!("{bytes} bytes, manifest lists {}", entry.bytes)));
    }
    let digest = hasher.finalize().to_hex().to_string();
    Ok(if digest == entry.blake3 { Ok(()) } else { Err(format!("BLAKE3 {digest}, manifest lists {}", entry.blake3)) })
}
