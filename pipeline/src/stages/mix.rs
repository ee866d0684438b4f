//! `mix`: token quotas, epochs and the global order of documents, cut into windows that packing can hold in memory.
//!
//! One task, which streams: what it holds is bounded by the memory of the run, not by the corpus. It reads token counts,
//! never tokens.

mod counted;
mod placements;

use std::collections::BTreeMap;

use mellama_shards::mixture::{DOMAIN_NAMES, Mixture, SourceShare};
use mellama_shards::order::Placed;
use mellama_sources::Domain;
use mellama_storage::{Counts, ObjectEntry, Tally};
use serde::{Deserialize, Serialize};

use self::counted::Counted;
use self::placements::Written;
use crate::context::Context;
use crate::failure::Failure;
use crate::stage::{Stage, TaskOutput};

/// Tokens after which a window is closed: 64 MiB of ids in memory. A longer document is a window of its own.
pub(crate) const WINDOW_TOKENS: u64 = 1 << 24;

/// What the stage says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MixFacts {
    /// Tokens in all.
    pub total: u64,
    /// Tokens by domain.
    pub quotas: BTreeMap<String, u64>,
    /// Supply, quota and epochs by source.
    pub sources: Vec<ShareFacts>,
    /// Ordered documents, training first: what packing turns into sequences.
    pub streams: Vec<Stream>,
    /// `tokens` or `sequences`.
    pub unit: String,
    /// Passes that the recipe allows, by source.
    #[serde(default)]
    pub max_epochs: BTreeMap<String, u32>,
    /// The document at which the quota of a source is reached, where only its beginning is used.
    #[serde(default)]
    pub cuts: BTreeMap<String, CutFacts>,
}

/// One source's part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShareFacts {
    pub source: String,
    pub domain: String,
    pub supply: u64,
    pub quota: u64,
    pub full_epochs: u64,
    pub remainder: u64,
    /// Passes over the source, as a number for people.
    pub epochs: f64,
}

/// A document of which the last pass over its source takes the beginning only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CutFacts {
    /// Its id.
    pub document: String,
    /// The pass, from 0.
    pub epoch: u32,
    /// Tokens it has.
    pub tokens: u32,
    /// Tokens used, from its start.
    pub used: u32,
}

/// The ordered documents of one domain, for training or held out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// `train-biomedical`, `heldout-general`, ….
    pub name: String,
    /// Index of the domain.
    pub domain: usize,
    /// Never trained on.
    pub heldout: bool,
    /// Tokens to pack.
    pub tokens: u64,
    /// The table of placements.
    pub table: ObjectEntry,
    /// Consecutive rows of the table.
    pub windows: Vec<Window>,
}

/// Rows of a stream that are packed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub first_row: u64,
    pub rows: u64,
    pub tokens: u64,
}

/// Plans the mixture and writes the order.
pub(crate) fn run_task(context: &Context<'_>) -> Result<TaskOutput, Failure> {
    let counted = Counted::read(context)?;
    let mixture = counted.mixture(context)?;
    let numbered = |domain: usize| -> Vec<(u16, SourceShare)> {
        (0..).zip(&mixture.sources).filter(|(_, s)| s.domain == domain).map(|(number, s)| (number, s.clone())).collect()
    };
    let mut streams = Vec::new();
    let mut cuts = BTreeMap::new();
    let mut used: u64 = 0;
    for heldout in [false, true] {
        for domain in 0..DOMAIN_NAMES.len() {
            let shares = if heldout { counted.heldout(context, domain) } else { numbered(domain) };
            let Some(written) = placements::write(context, &counted, domain, heldout, shares)? else { continue };
            let Written { stream, documents, cuts: of_stream } = written;
            used += documents;
            streams.push(stream);
            cuts.extend(of_stream);
        }
    }
    let objects = streams.iter().map(|stream| stream.table.clone()).collect();
    let counts = counts(counted.documents(), used, &streams);
    let cuts = cut_facts(context, &counted, &cuts)?;
    let facts = facts(context, &mixture, streams, cuts);
    Ok(TaskOutput { objects, counts, facts: serde_json::to_value(facts).expect("plain data") })
}

/// Units of this stage: documents, and tokens of the order in place of bytes, repeats included.
fn counts(documents: u64, used: u64, streams: &[Stream]) -> Counts {
    let tokens: u64 = streams.iter().map(|stream| stream.tokens).sum();
    let read = Tally { documents, bytes: tokens };
    let written = Tally { documents: used, bytes: tokens };
    Counts { read, written, dropped: Tally { documents: documents - used, bytes: 0 }, rejected: Tally::default() }
}

/// The facts of the finished stage.
///
/// # Errors
/// `Failure::Policy` when it is not done.
pub(crate) fn facts_of(context: &Context<'_>) -> Result<MixFacts, Failure> {
    let manifest = context.manifest(Stage::Mix)?;
    serde_json::from_value(manifest.facts)
        .map_err(|e| Failure::Verification(format!("manifests/mix.json: facts not understood: {e}")))
}

/// Index of a domain in `DOMAIN_NAMES`.
pub(crate) fn domain_index(domain: Domain) -> usize {
    match domain {
        Domain::Biomedical => 0,
        Domain::Clinical => 1,
        Domain::General => 2,
    }
}

fn cut_facts(
    context: &Context<'_>,
    counted: &Counted,
    cuts: &BTreeMap<u16, Placed>,
) -> Result<BTreeMap<String, CutFacts>, Failure> {
    let cut = |(source, placed): (&u16, &Placed)| {
        let document = counted.id(context, placed.run.object, placed.run.row)?;
        let facts = CutFacts { document, epoch: placed.epoch, tokens: placed.run.tokens, used: placed.take };
        Ok((context.source_name(usize::from(*source)).to_owned(), facts))
    };
    cuts.iter().map(cut).collect()
}

fn facts(context: &Context<'_>, mixture: &Mixture, streams: Vec<Stream>, cuts: BTreeMap<String, CutFacts>) -> MixFacts {
    let share = |share: &SourceShare| ShareFacts {
        source: share.source.clone(),
        domain: DOMAIN_NAMES[share.domain].to_owned(),
        supply: share.supply,
        quota: share.quota,
        full_epochs: share.full_epochs,
        remainder: share.remainder,
        epochs: if share.supply == 0 { 0.0 } else { share.quota as f64 / share.supply as f64 },
    };
    let corpus = context.corpus();
    MixFacts {
        total: mixture.total,
        quotas: DOMAIN_NAMES.iter().map(ToString::to_string).zip(mixture.quotas).collect(),
        sources: mixture.sources.iter().map(share).collect(),
        streams,
        unit: corpus.mixture.as_ref().map_or("tokens", |m| m.unit.as_str()).to_owned(),
        max_epochs: corpus.source.iter().map(|source| (source.name.clone(), source.max_epochs)).collect(),
        cuts,
    }
}
