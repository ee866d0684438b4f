//! `verify`: every published byte against the record that names it, every sequence against the rules of its format, and no
//! retracted document anywhere in the shards.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use mellama_shards::verify::verify_shard_with;
use mellama_shards::{ShardFile, StoreChunks, key_text};
use mellama_storage::{Key, RangeReader, Stores, Workdir};

use crate::failure::{Failure, chain};
use crate::layout::{is_content, telemetry_digest};
use crate::location::Location;
use crate::observer::{Observer, Unit};
use crate::placements;
use crate::ratio;
use crate::retract;
use crate::stage::Stage;
use crate::status;
use crate::strays;
use crate::trained::{self, TrainedBefore};

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
    /// Objects that nothing names: left by interrupted attempts. No failure, but where readers take them for shards.
    pub unnamed: Vec<String>,
    /// Temporary files of processes that are no longer alive; they may hold tokens.
    pub temporary: u64,
    /// Complete checkpoints that were trained on other shards than those that hold now. No failure.
    pub trained_before: Vec<TrainedBefore>,
}

/// Reads a whole work folder, or an export, again.
///
/// # Errors
/// `Failure::Policy` when nothing was run there; `Failure::Verification` when its plan is damaged; damage elsewhere is in
/// the findings.
pub fn verify(stores: &Stores, uri: &str, observer: &dyn Observer) -> Result<Verified, Failure> {
    let place = Location::of(uri);
    let is_there = |name: &str| place.join(name).object(stores).is_ok_and(|(store, key)| store.head(&key).is_ok());
    if ["config.json", "adapter_config.json"].into_iter().any(is_there) && !is_there("plan.json") {
        return Err(Failure::Policy(format!(
            "{uri}: a folder with weights; verify the work folder that it lies in, or run \"b3sum --check B3SUMS\" in it"
        )));
    }
    if let Some(verified) = crate::export::verification::verify(stores, uri, observer)? {
        return Ok(verified);
    }
    let (workdir, plan) = status::open(stores, uri)?;
    observer.begin("verify", 0, Unit::Tasks);
    let report = workdir.verify(&mut |_| observer.advance(1))?;
    let (telemetry, unnamed): (Vec<String>, _) = report.unnamed.into_iter().partition(|key| telemetry_digest(key).is_some());
    let mut verified = Verified {
        workdir: workdir.store().uri().to_owned(),
        objects: report.objects,
        bytes: report.bytes,
        sequences: 0,
        retracted: 0,
        findings: report.findings.iter().map(ToString::to_string).collect(),
        unnamed,
        temporary: workdir.store().stale(Duration::MAX)?.len() as u64,
        trained_before: Vec::new(),
    };
    times(&workdir, &telemetry, &mut verified)?;
    // Objects that are not what their manifest says were named above; only sound ones are looked into, and where the records are.
    let damaged: BTreeSet<String> = report.findings.into_iter().map(|finding| finding.key).collect();
    if !damaged.iter().any(|key| is_record(key)) {
        let gone = retract::retracted_keys(&workdir, &plan)?;
        verified.retracted = gone.len() as u64;
        for stage in [Stage::Publish, Stage::InstructData] {
            shards(&workdir, &plan, stage, &|key| damaged.contains(key), &gone, &mut verified)?;
        }
        verified.trained_before = trained::before(&workdir, &plan, None)?;
        if verified.findings.is_empty() {
            verified.findings = ratio::findings(&workdir, &plan)?;
        }
        verified.findings.extend(leftovers(&workdir, &plan)?);
    }
    observer.end("verify", &format!("{} objects, {} findings", verified.objects, verified.findings.len()));
    Ok(verified)
}

/// Compares what holds times with the digests in the names: no record has them.
fn times(workdir: &Workdir, keys: &[String], verified: &mut Verified) -> Result<(), Failure> {
    for key in keys {
        let bytes = workdir.store().read(&Key::new(key.as_str())?, None, None)?;
        verified.objects += 1;
        verified.bytes += bytes.len() as u64;
        if !telemetry_digest(key).is_some_and(|digest| is_content(&bytes, digest)) {
            verified.findings.push(format!("{key}: not what its name says; nothing is made from it: delete it"));
        }
    }
    Ok(())
}

/// Whether an object says what others are to be.
fn is_record(key: &str) -> bool {
    key == "plan.json" || ["commits/", "manifests/", "retractions/"].iter().any(|folder| key.starts_with(folder))
}

fn shards(
    workdir: &Workdir,
    plan: &str,
    stage: Stage,
    is_damaged: &dyn Fn(&str) -> bool,
    gone: &BTreeSet<u128>,
    verified: &mut Verified,
) -> Result<(), Failure> {
    let Some(manifest) = workdir.effective_manifest(plan, stage.name())? else { return Ok(()) };
    for entry in manifest.objects.iter().filter(|o| placements::is_shard(&o.key) && !is_damaged(&o.key)) {
        let reader = RangeReader::of(workdir.store().clone(), entry)?;
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
                "{}: sequence {row}: holds document {}, which is retracted; report this as a bug",
                entry.key,
                key_text(document)
            ));
        }
    }
    Ok(())
}

/// Shards that no record names: readers of the folder take them for a part of the corpus.
fn leftovers(workdir: &Workdir, plan: &str) -> Result<Vec<String>, Failure> {
    let strays = strays::find(workdir, plan)?;
    let kinds = [
        (strays.abandoned, "left by an interrupted attempt; \"mellama run RECIPE\" deletes it, or run \"mellama retract\" again"),
        (
            strays.unrecorded,
            "of a retraction that has no record; if none is running, run \"mellama retract\" again with the same ids",
        ),
        (strays.foreign, "not written by this run; move it out of the folder"),
    ];
    let finding = |key: String, problem: &str| {
        format!("{key}: no record names it, and readers of the folder take it for a shard: {problem}")
    };
    Ok(kinds.into_iter().flat_map(|(keys, problem)| keys.into_iter().map(move |key| finding(key, problem))).collect())
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
            let held = if self.findings.is_empty() { ", none of them in a shard" } else { "" };
            lines.push(format!("{} retracted documents{held}", self.retracted));
        }
        if !self.unnamed.is_empty() {
            lines.push(format!("{} objects are named by no record (left by interrupted attempts)", self.unnamed.len()));
        }
        if self.temporary > 0 {
            lines.push(format!(
                "{} temporary files of processes that are no longer alive, which may hold tokens; the next \"mellama run RECIPE\" or \
                 \"mellama retract\" deletes them",
                self.temporary
            ));
        }
        lines.extend(self.trained_before.iter().map(TrainedBefore::text));
        if !self.trained_before.is_empty() {
            lines.push(trained::REMEDY.to_owned());
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
