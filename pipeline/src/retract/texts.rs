//! The texts with figures of the shards, written again: the dataset card and, where there is one, the report.
//!
//! What they say of anything but the shards stays as it was published, byte for byte.

use mellama_storage::{Key, ObjectEntry, Replacement, Retraction, StageManifest};

use crate::card;
use crate::failure::Failure;
use crate::figures::Figures;
use crate::lookup::Folder;
use crate::page;
use crate::stage::Stage;
use crate::trained;

/// Longest text that a record takes in, in bytes. A longer one stays as it is.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// The card and the report as they are to be with `record`, which stands on top of `before`. What does not change is left out.
///
/// # Errors
/// `Failure::Verification` when a text is not what its manifest says.
pub(super) fn rewritten(folder: &Folder, before: &[Retraction], record: &Retraction) -> Result<Vec<Replacement>, Failure> {
    let publish = folder.manifest(Stage::Publish)?;
    let instruct = folder.manifest(Stage::InstructData)?;
    let records: Vec<Retraction> = before.iter().chain([record]).cloned().collect();
    let figures = Figures::of(publish.as_ref(), instruct.as_ref(), &records)?;
    let mut texts = Vec::new();
    if let Some((entry, text)) = text(folder, publish.as_ref(), "README.md")? {
        texts.extend(changed(Stage::Publish, entry, &text, card::with_retractions(&text, &figures)));
    }
    let report = folder.manifest(Stage::Report)?;
    if let Some((entry, text)) = text(folder, report.as_ref(), "report.html")? {
        let models = trained::before(&folder.workdir, &folder.plan, Some(record))?;
        texts.extend(changed(Stage::Report, entry, &text, page::with_retractions(&text, &figures, &models)));
    }
    Ok(texts)
}

fn changed(stage: Stage, entry: ObjectEntry, text: &str, new: String) -> Option<Replacement> {
    (new != text).then(|| Replacement::text(stage.name(), entry, new))
}

/// A text that a stage published, as it holds now.
fn text(folder: &Folder, manifest: Option<&StageManifest>, key: &str) -> Result<Option<(ObjectEntry, String)>, Failure> {
    let entry = manifest.and_then(|manifest| manifest.objects.iter().find(|object| object.key == key));
    let Some(entry) = entry.filter(|entry| entry.bytes <= MAX_TEXT_BYTES) else { return Ok(None) };
    let missing = |error| match error {
        mellama_storage::ProtocolError::Store(error) => Failure::of_published(error),
        error => error.into(),
    };
    let bytes = folder.workdir.read_object(entry).map_err(missing)?;
    let key = Key::new(key)?;
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::Verification(format!("{key}: not UTF-8; run \"mellama verify\"")))?;
    Ok(Some((entry.clone(), text)))
}
