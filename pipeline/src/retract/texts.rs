//! The texts with figures of the shards, written again: the dataset card and, where there is one, the report.
//!
//! What they say of anything but the shards stays as it was published, byte for byte.

use mellama_storage::{ObjectEntry, Replacement, Retraction};

use crate::card;
use crate::failure::Failure;
use crate::figures::Figures;
use crate::lookup::Folder;
use crate::page;
use crate::stage::Stage;
use crate::trained;

/// Longest text that a record takes in, in bytes. A longer one stays as it is.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// The card and the report as they are, read before anything is written.
#[derive(Debug, Default)]
pub(super) struct Texts {
    card: Option<(ObjectEntry, String)>,
    report: Option<(ObjectEntry, String)>,
    /// What is not as it was published, and is left alone: a person may have edited it.
    pub strange: Vec<String>,
}

impl Texts {
    /// Reads both, on top of the records in `before`.
    ///
    /// # Errors
    /// `Failure::Storage` for what cannot be read.
    pub(super) fn read(folder: &Folder, before: &[Retraction]) -> Result<Texts, Failure> {
        let mut texts = Texts::default();
        texts.card = texts.text(folder, before, (Stage::Publish, "README.md"))?;
        texts.report = texts.text(folder, before, (Stage::Report, "report.html"))?;
        Ok(texts)
    }

    /// A text that a stage published, as it holds now: a record has what was rewritten, whatever lies in the folder yet.
    fn text(
        &mut self,
        folder: &Folder,
        before: &[Retraction],
        (stage, key): (Stage, &str),
    ) -> Result<Option<(ObjectEntry, String)>, Failure> {
        let of_records = before.iter().rev().flat_map(|record| &record.replaced);
        let mut rewritten = of_records.filter(|replaced| replaced.old.key == key);
        if let Some((entry, text)) = rewritten.find_map(|replaced| replaced.new.clone().zip(replaced.text.clone())) {
            return Ok(Some((entry, text)));
        }
        let manifest = folder.manifest(stage)?;
        let entry = manifest.and_then(|manifest| manifest.objects.into_iter().find(|object| object.key == key));
        let Some(entry) = entry.filter(|entry| entry.bytes <= MAX_TEXT_BYTES) else { return Ok(None) };
        let found = folder.workdir.read_object(&entry).map_err(|error| match error {
            mellama_storage::ProtocolError::Store(error) => Failure::of_published(error),
            error => error.into(),
        });
        match found.map(String::from_utf8) {
            Ok(Ok(text)) => Ok(Some((entry, text))),
            Ok(Err(_)) | Err(Failure::Verification(_)) => {
                self.strange.push(key.to_owned());
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }
}

/// The card and the report as they are to be with `record`, which stands on top of `before`. What does not change is left out.
///
/// # Errors
/// `Failure::Verification` for damaged records and manifests.
pub(super) fn rewritten(
    folder: &Folder,
    texts: Texts,
    before: &[Retraction],
    record: &Retraction,
) -> Result<Vec<Replacement>, Failure> {
    let publish = folder.manifest(Stage::Publish)?;
    let instruct = folder.manifest(Stage::InstructData)?;
    let records: Vec<Retraction> = before.iter().chain([record]).cloned().collect();
    let figures = Figures::of(publish.as_ref(), instruct.as_ref(), &records)?;
    let mut changes = Vec::new();
    if let Some((entry, text)) = texts.card {
        changes.extend(changed(Stage::Publish, entry, &text, card::with_retractions(&text, &figures)));
    }
    if let Some((entry, text)) = texts.report {
        let models = trained::before(&folder.workdir, &folder.plan, Some(record))?;
        changes.extend(changed(Stage::Report, entry, &text, page::with_retractions(&text, &figures, &models)));
    }
    Ok(changes)
}

fn changed(stage: Stage, entry: ObjectEntry, text: &str, new: String) -> Option<Replacement> {
    (new != text).then(|| Replacement::text(stage.name(), entry, new))
}
