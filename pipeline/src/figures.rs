//! What is in the shards now, beside what was published: figures of the manifests and of the retractions after them.
//!
//! It opens no shard: a record of a retraction says what it changed.

use std::collections::BTreeMap;

use mellama_storage::{Retraction, StageManifest};
use serde_json::Value;

use crate::failure::Failure;
use crate::placements::Part;
use crate::retract;
use crate::status::RetractionStatus;

/// What a part of the shards adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub sequences: u64,
    /// Padding not counted.
    pub tokens: u64,
    pub padding: u64,
    /// `None` where a record does not tell.
    pub segments: Option<u64>,
}

/// A part of the shards, as it was published and as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartFigures {
    pub part: Part,
    pub published: Sums,
    pub now: Sums,
}

/// Training tokens of a source of the corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFigures {
    pub source: String,
    pub published: u64,
    /// Taken out by retractions.
    pub taken: u64,
    /// Filled in by retractions, for this source or others.
    pub refilled: u64,
}

/// Figures of the shards of a run.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Parts that were published.
    pub parts: Vec<PartFigures>,
    /// Sources in the order of the shards' header.
    pub sources: Vec<SourceFigures>,
    /// Retractions in order.
    pub retractions: Vec<RetractionStatus>,
}

impl SourceFigures {
    /// Tokens in the shards now.
    pub(crate) fn now(&self) -> u64 {
        (self.published + self.refilled).saturating_sub(self.taken)
    }
}

impl Figures {
    /// Of the manifests of `publish` and `instruct-data`, where there are any, and all retractions.
    ///
    /// # Errors
    /// `Failure::Verification` for records that are not understood.
    pub(crate) fn of(
        publish: Option<&StageManifest>,
        instruct: Option<&StageManifest>,
        records: &[Retraction],
    ) -> Result<Figures, Failure> {
        let mut figures = Figures::default();
        let mut lengths = BTreeMap::new();
        for part in Part::ALL {
            let (sums, length) = match (part, publish, instruct) {
                (Part::Instruct, _, Some(manifest)) => conversations(&manifest.facts),
                (Part::Train | Part::Heldout, Some(manifest), _) => corpus(&manifest.facts, part),
                _ => continue,
            };
            lengths.insert(part, length);
            figures.parts.push(PartFigures { part, published: sums, now: sums });
        }
        if let Some(manifest) = publish {
            figures.sources = sources(&manifest.facts);
        }
        for record in records {
            let facts = retract::facts_of(record)?;
            for figures in &mut figures.parts {
                let Some(change) = facts.parts.get(figures.part.name()) else { continue };
                let now = &mut figures.now;
                let tokens = (now.tokens + change.refilled).saturating_sub(change.tokens);
                let positions = now.tokens + now.padding;
                now.sequences = now.sequences.saturating_sub(change.sequences);
                now.padding = positions.saturating_sub(change.sequences * lengths[&figures.part] + tokens);
                now.tokens = tokens;
                let filled = now.segments.zip(change.segments_filled);
                now.segments = filled.map(|(segments, filled)| (segments + filled).saturating_sub(change.segments));
            }
            for figures in &mut figures.sources {
                let change = facts.sources.get(&figures.source).copied().unwrap_or_default();
                figures.taken += change.tokens;
                figures.refilled += change.refilled;
            }
            figures.retractions.push(RetractionStatus::of(record, &facts));
        }
        Ok(figures)
    }

    /// One part, where it was published.
    pub(crate) fn part(&self, part: Part) -> Option<&PartFigures> {
        self.parts.iter().find(|figures| figures.part == part)
    }

    /// Parts that hold anything, or did.
    pub(crate) fn held(&self) -> impl Iterator<Item = &PartFigures> {
        self.parts.iter().filter(|figures| figures.published.sequences > 0)
    }

    /// Documents that retractions took out.
    pub(crate) fn documents(&self) -> u64 {
        self.retractions.iter().map(|one| one.documents).sum()
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Sums of a part of the corpus, and the tokens of a sequence.
fn corpus(facts: &Value, part: Part) -> (Sums, u64) {
    let found = &facts["parts"][part.name()];
    let sums = Sums {
        sequences: number(&found["sequences"]),
        tokens: number(&found["tokens"]),
        padding: number(&found["padding"]),
        segments: found["segments"].as_u64(),
    };
    (sums, number(&facts["header"]["sequence_length"]))
}

fn conversations(facts: &Value) -> (Sums, u64) {
    let (sequences, tokens, length) = (number(&facts["sequences"]), number(&facts["tokens"]), number(&facts["sequence_length"]));
    (Sums { sequences, tokens, padding: (sequences * length).saturating_sub(tokens), segments: None }, length)
}

fn sources(facts: &Value) -> Vec<SourceFigures> {
    let names = facts["header"]["sources"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let tokens = &facts["parts"]["train"]["source_tokens"];
    names.map(|name| SourceFigures { source: name.to_owned(), published: number(&tokens[name]), taken: 0, refilled: 0 }).collect()
}
