//! `verify`: every published byte against the record that names it, every sequence against the rules of its format, and no
//! retracted document anywhere in the shards.

use std::collections::BTreeSet;

use serde::Serialize;

use mellama_shards::verify::verify_shard_with;
use mellama_shards::{ShardFile, StoreChunks};
use mellama_storage::{Key, RangeReader, Workdir};

use crate::failure::{Failure, chain};
use crate::observer::{Observer, Unit};
use crate::placements;
use crate::ratio;
use crate::retract;
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
    /// Documents that retractions took out; none of them may be in a shard.
    pub retracted: u64,
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
        retracted: 0,
        findings: report.findings.iter().map(ToString::to_string).collect(),
        unnamed: report.unnamed,
    };
    // Shards that are not what their manifest says were named above; only sound ones are looked into.
    if verified.findings.is_empty() {
        let gone = retract::retracted_keys(&workdir, &plan)?;
        verified.retracted = gone.len() as u64;
        for stage in [Stage::Publish, Stage::InstructData] {
            shards(&workdir, &plan, stage, &gone, &mut verified)?;
        }
        leftovers(&workdir, &gone, &mut verified);
    }
    if verified.findings.is_empty() {
        verified.findings = ratio::findings(&workdir, &plan)?;
    }
    observer.end("verify", &format!("{} objects, {} findings", verified.objects, verified.findings.len()));
    Ok(verified)
}

fn shards(workdir: &Workdir, plan: &str, stage: Stage, gone: &BTreeSet<u128>, verified: &mut Verified) -> Result<(), Failure> {
    let Some(manifest) = workdir.effective_manifest(plan, stage.name())? else { return Ok(()) };
    for entry in manifest.objects.iter().filter(|o| retract::is_shard(&o.key)) {
        let reader = RangeReader::open(workdir.store().clone(), &Key::new(entry.key.clone())?)?;
        let mut held: Option<(u64, u128)> = None;
        let checked = ShardFile::open(&entry.key, StoreChunks(reader)).and_then(|file| {
            verify_shard_with(&file, &mut |row, sequence| {
                let retracted = sequence.segments.iter().find(|segment| gone.contains(&segment.document));
                held = held.or(retracted.map(|segment| (row, segment.document)));
            })
        });
        match checked {
            Ok(totals) => verified.sequences += totals.sequences,
            Err(error) => verified.findings.push(chain(&error)),
        }
        if let Some((row, document)) = held {
            verified.findings.push(format!(
                "{}: sequence {row}: holds document {document:032x}, which is retracted; report this as a bug",
                entry.key
            ));
        }
    }
    Ok(())
}

/// Shards that no record names do no harm, but for those that hold what was retracted.
fn leftovers(workdir: &Workdir, gone: &BTreeSet<u128>, verified: &mut Verified) {
    for key in verified.unnamed.iter().filter(|key| !gone.is_empty() && retract::is_shard(key)) {
        if placements::holds(workdir, key, gone) {
            let problem = "left by an interrupted attempt, and holds a retracted document; run \"mellama retract\" again";
            verified.findings.push(format!("{key}: {problem}"));
        }
    }
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
        if self.retracted > 0 {
            lines.push(format!("{} retracted documents, none of them in a shard", self.retracted));
        }
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
