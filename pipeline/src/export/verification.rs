//! `verify` of an export: told from a work folder by its manifest, read again as `mellama_shards::export::verify` does.

use mellama_shards::export::{ExportManifest, MANIFEST_KEY, REQUEST_KEY, verify_export};
use mellama_storage::{Key, ProtocolError, StoreError, Stores, Workdir};

use crate::export::stopped;
use crate::failure::Failure;
use crate::observer::{Observer, Unit};
use crate::verification::Verified;

/// Reads an export again; `None` when there is none at `uri`.
///
/// # Errors
/// `Failure::Verification` when its manifest is missing or damaged; damage elsewhere is in the findings.
pub(crate) fn verify(stores: &Stores, uri: &str, observer: &dyn Observer) -> Result<Option<Verified>, Failure> {
    let folder = match Workdir::open_existing(stores, uri) {
        Ok(folder) => folder,
        Err(ProtocolError::Store(StoreError::NotFound { .. })) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let store = folder.store();
    let exists = |key: &str| Key::new(key).and_then(|key| store.head(&key)).is_ok();
    if exists("plan.json") || !(exists(REQUEST_KEY) || exists(MANIFEST_KEY)) {
        return Ok(None);
    }
    let Some(manifest) = folder.read_sealed::<ExportManifest>(&Key::new(MANIFEST_KEY)?)? else {
        return Err(Failure::Verification(format!(
            "{uri}/{MANIFEST_KEY}: missing, the export is not complete; run the same \"mellama export\" again"
        )));
    };
    observer.begin("verify", manifest.objects.len() as u64, Unit::Items);
    let mut progress = |objects: u64| {
        observer.advance(objects);
        observer.stopped().is_none()
    };
    let mut findings = verify_export(store, &manifest, &mut progress).map_err(|e| stopped(e, observer))?;
    let begun = folder.read_sealed(&Key::new(REQUEST_KEY)?);
    if !begun.is_ok_and(|request| request.as_ref() == Some(&manifest.request)) {
        findings.push(format!("{REQUEST_KEY}: not the request of the manifest"));
    }
    observer.end("verify", &format!("{} objects, {} findings", manifest.objects.len(), findings.len()));
    Ok(Some(Verified {
        workdir: store.uri().to_owned(),
        objects: manifest.objects.len() as u64,
        bytes: manifest.objects.iter().map(|object| object.bytes).sum(),
        sequences: manifest.totals.windows,
        findings,
        unnamed: Vec::new(),
        temporary: 0,
        trained_before: Vec::new(),
        retracted: 0,
    }))
}
