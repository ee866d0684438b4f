//! `verify`: every published byte against the record that names it, and every sequence against the rules of its format.

use serde::Serialize;

use mellama_shards::{ShardFile, StoreChunks, verify_shard};
use mellama_storage::{Key, RangeReader, Workdir};

use crate::failure::{Failure, chain};
use crate::observer::{Observer, Unit};
use crate::ratio;
use crate::stage::Stage;
use crate::status;

/// What was looked at and what is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// The folder.
    pub workdir: String,
    /// Objects read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sequences whose boundaries, ids and masks were checked.
    pub sequences: u64,
    /// What is wrong, each naming its object.
    pub findings: Vec<String>,
    /// Objects that nothing names: left by interrupted attempts. No failure.
    pub unnamed: Vec<String>,
}

/// Reads a whole work folder, or an export, again.
///
/// # Errors
/// `Failure::Policy` when nothing was run there; `Failure::Verification` when its plan is damaged; damage elsewhere is in
/// the findings.
pub fn verify(uri: &str, observer: &dyn Observer) -> Result<Verified, Failure> {
    if let Some(verified) = crate::export::verification::verify(uri, observer)? {
        return Ok(verified);
    }
    let (workdir, plan) = status::open(uri)?;
    observer.begin("verify", 0, Unit::Tasks);
    let report = workdir.verify(&mut |_| observer.advance(1))?;
    let mut verified = Verified {
        workdir: workdir.store().uri().to_owned(),
        objects: report.objects,
        bytes: report.bytes,
        sequences: 0,
        findings: report.findings.iter().map(ToString::to_string).collect(),
        unnamed: report.unnamed,
    };
    // Shards that are not what their manifest says were named above; only sound ones are looked into.
    if verified.findings.is_empty() {
        for stage in [Stage::Publish, Stage::InstructData] {
            shards(&workdir, &plan, stage, &mut verified)?;
        }
    }
    if verified.findings.is_empty() {
        verified.findings = ratio::findings(&workdir, &plan)?;
    }
    observer.end("verify", &format!("{} objects, {} findings", verified.objects, verified.findings.len()));
    Ok(verified)
}

fn shards(workdir: &Workdir, plan: &str, stage: Stage, verified: &mut Verified) -> Result<(), Failure> {
    let Some(manifest) = workdir.read_manifest(plan, stage.name())? else { return Ok(()) };
    for entry in manifest.objects.iter().filter(|o| o.key.starts_with("shards/") && o.key.ends_with(".parquet")) {
        let reader = RangeReader::open(workdir.store().clone(), &Key::new(entry.key.clone())?)?;
        match ShardFile::open(&entry.key, StoreChunks(reader)).and_then(|file| verify_shard(&file)) {
            Ok(totals) => verified.sequences += totals.sequences,
            Err(error) => verified.findings.push(chain(&error)),
        }
    }
    Ok(())
}

impl Verified {
    /// For people.
    pub fn text(&self) -> String {
        let mut lines = self.findings.clone();
        let verdict = if self.findings.is_empty() { "everything is as published" } else { "damaged" };
        lines.push(format!(
            "{}: {verdict}: {} objects, {} bytes, {} sequences checked",
            self.workdir, self.objects, self.bytes, self.sequences
        ));
        if !self.unnamed.is_empty() {
            lines.push(format!(
                "{} objects are named by no record (left by interrupted attempts); they do no harm",
                self.unnamed.len()
            ));
        }
        lines.join("\n")
    }

    /// Success, or exit 5 with the first object that is wrong.
    ///
    /// # Errors
    /// `Failure::Verification`.
    pub fn into_result(self) -> Result<(), Failure> {
        match self.findings.first() {
            None => Ok(()),
            Some(first) => {
                Err(Failure::Verification(format!("{}: {} findings, the first: {first}", self.workdir, self.findings.len())))
            }
        }
    }
}
