//! What `retract` tells: the record, figures, and where the text still lies.

use std::collections::{BTreeMap, BTreeSet};

use mellama_dedup::Rule;
use serde::Serialize;

use super::{CopyOf, Marks, PartChange, RetractedDocument, RetractionFacts, SourceChange};
use crate::lookup::Folder;
use crate::placements::Part;
use crate::wording::counted;

/// Ids that a text for people lists.
const SHOWN_IDS: usize = 10;
/// What a retraction leaves as it was published.
const STILL: &str =
    "the text is still in documents/ and tokens/, its id in tables of the run, and whatever was copied or exported";

/// The result of `retract`.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The folder.
    pub workdir: String,
    /// Key of the record that was written; null where everything was retracted already.
    pub record: Option<String>,
    /// Ids asked for.
    pub asked: u64,
    /// Ids of files that the corpus lacks.
    pub unknown: Vec<String>,
    /// Documents that earlier retractions took out.
    pub already: Vec<String>,
    /// Documents that this one took out.
    pub documents: Vec<RetractedDocument>,
    /// Changes by part of the shards.
    pub parts: BTreeMap<String, PartChange>,
    /// Training tokens by source.
    pub sources: BTreeMap<String, SourceChange>,
    /// Retracted documents that other documents stand for.
    pub copies: Vec<CopyOf>,
    /// Objects that were deleted.
    pub deleted: u64,
    /// Checkpoints made before.
    pub checkpoints: Vec<String>,
    /// What PubMed files said.
    pub marks: Option<Marks>,
}

impl Outcome {
    pub(super) fn new(folder: &Folder, marks: Option<Marks>) -> Outcome {
        Outcome {
            workdir: folder.uri().to_owned(),
            record: None,
            asked: 0,
            unknown: Vec::new(),
            already: Vec::new(),
            documents: Vec::new(),
            parts: BTreeMap::new(),
            sources: BTreeMap::new(),
            copies: Vec::new(),
            deleted: 0,
            checkpoints: Vec::new(),
            marks,
        }
    }

    pub(super) fn recorded(&mut self, record: String, facts: RetractionFacts) {
        self.record = Some(record);
        self.documents = facts.documents;
        (self.parts, self.sources) = (facts.parts, facts.sources);
        (self.copies, self.checkpoints) = (facts.copies, facts.checkpoints);
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(Marks { retracted, deleted, rejected, places }) = &self.marks {
            let found = self.asked - self.unknown.len() as u64;
            lines
                .push(format!("marks of PubMed: {retracted} retracted, {deleted} deleted; {found} of the ids are in the corpus"));
            if *rejected > 0 {
                let read = counted(*rejected, "record");
                lines.push(format!("not read: {read} of the PubMed files, which may hold marks: {}", listed(places)));
            }
        }
        if !self.unknown.is_empty() {
            lines.push(format!("not in the corpus: {}: {}", counted(self.unknown.len() as u64, "id"), listed(&self.unknown)));
        }
        if !self.already.is_empty() {
            lines.push(format!(
                "retracted already: {}: {}",
                counted(self.already.len() as u64, "document"),
                listed(&self.already)
            ));
        }
        match &self.record {
            None => {
                lines.push(format!("{}: nothing to take out; nothing was rewritten", self.workdir));
                lines.extend(self.standing());
            }
            Some(record) => self.changes(record, &mut lines),
        }
        lines.join("\n")
    }

    /// Ids of the documents that earlier retractions took out.
    pub(super) fn already_ids(&self) -> BTreeSet<&str> {
        self.already.iter().map(String::as_str).collect()
    }

    /// What stands in the place of dropped documents and is not retracted.
    fn standing(&self) -> Vec<String> {
        let standing: Vec<&CopyOf> = self.copies.iter().filter(|copy| !copy.kept_retracted).collect();
        let mut lines: Vec<String> = standing.iter().take(SHOWN_IDS).map(|copy| copy.text()).collect();
        if let Some(more) = standing.len().checked_sub(SHOWN_IDS).filter(|more| *more > 0) {
            lines.push(format!("and {more} more that had been dropped; --json lists all"));
        }
        lines
    }

    fn changes(&self, record: &str, lines: &mut Vec<String>) {
        let ids: Vec<String> = self.documents.iter().map(|document| document.id.clone()).collect();
        lines.push(format!("retracted: {}: {}", counted(ids.len() as u64, "document"), listed(&ids)));
        let absent = self.documents.iter().filter(|document| document.segments == 0).count();
        if absent > 0 {
            lines.push(format!("of them in no shard: {absent}"));
        }
        lines.extend(Part::ALL.iter().filter_map(|part| Some(part_line(part.name(), self.parts.get(part.name())?))));
        lines.extend(self.standing());
        if !self.checkpoints.is_empty() {
            lines.push(format!(
                "made before: {}; their models stay trained on it",
                counted(self.checkpoints.len() as u64, "checkpoint")
            ));
        }
        lines.push(STILL.to_owned());
        lines.push(format!("record: {}/{record}", self.workdir));
    }
}

impl CopyOf {
    /// What stands there still, and what would take it out.
    fn text(&self) -> String {
        let CopyOf { id, kept_id, rule, kept_release, .. } = self;
        let holds = if rule == Rule::Exact.as_str() { "it holds the same text" } else { "it may hold the text" };
        let (place, remedy) = match kept_release.as_str() {
            "" => (String::new(), "to take it out too, give the same command with --copies".to_owned()),
            release => (format!(" in {release}"), format!("to take it out too, retract {kept_id} there")),
        };
        format!("{id} had been dropped ({rule}): {kept_id}{place} stands in its place and is not retracted: {holds}; {remedy}")
    }
}

fn part_line(name: &str, change: &PartChange) -> String {
    let PartChange { shards, segments, tokens, refilled, short, sequences, .. } = change;
    let mut line = format!(
        "{name}: {}, {} taken out of {}, {refilled} refilled",
        counted(*segments, "segment"),
        counted(*tokens, "token"),
        counted(*shards, "shard")
    );
    if *short > 0 {
        line = format!("{line}, {short} short of the quota (the domain has no more; padding now)");
    }
    if *sequences > 0 {
        line = format!("{line}, {} left out", counted(*sequences, "sequence"));
    }
    line
}

fn listed(ids: &[String]) -> String {
    let more = ids.len().saturating_sub(SHOWN_IDS);
    let shown = ids[..ids.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
