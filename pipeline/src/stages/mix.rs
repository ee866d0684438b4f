//! `mix`: token quotas, epochs and the global order of documents, cut into windows that packing can hold in memory.
//!
//! One task. It reads token counts, never tokens.

use std::collections::BTreeMap;

use mellama_shards::mixture::{DOMAIN_NAMES, Mixture, MixtureSpec, SourceShare, SourceSupply, Total, Unit, plan_mixture};
use mellama_shards::order::{Placed, Run, order_domain};
use mellama_shards::packing::WINDOW_DOCUMENTS;
use mellama_sources::Domain;
use mellama_storage::{Counts, ObjectEntry, Tally};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::recipe::{MixtureRecipe, TotalRecipe};
use crate::stage::{Stage, TaskOutput};
use crate::stages::tokenize;
use crate::tables;

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
    let corpus = Corpus::load(context)?;
    let mixture = corpus.mixture(context)?;
    let seed = context.file.recipe.seed;
    let mut streams = Vec::new();
    let mut used: u64 = 0;
    for domain in 0..DOMAIN_NAMES.len() {
        let shares: Vec<SourceShare> = mixture.sources.iter().filter(|s| s.domain == domain).cloned().collect();
        let runs = shares.iter().map(|share| corpus.train[&share.source].clone()).collect();
        let placed = order_domain(seed, runs, &shares).map_err(|e| Failure::Failed(chain(&e)))?;
        used += placed.iter().filter(|p| p.epoch == 0).count() as u64;
        streams.extend(stream(context, domain, false, &placed)?);
    }
    for domain in 0..DOMAIN_NAMES.len() {
        let placed = corpus.heldout(context, domain)?;
        used += placed.len() as u64;
        streams.extend(stream(context, domain, true, &placed)?);
    }
    let objects = streams.iter().map(|stream| stream.table.clone()).collect();
    let counts = corpus.counts(used, &streams);
    let facts = facts(context, &mixture, streams);
    Ok(TaskOutput { objects, counts, facts: serde_json::to_value(facts).expect("plain data") })
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

/// Token runs of the whole corpus by source; `Run::object` is the tokenize task.
struct Corpus {
    supplies: Vec<SourceSupply>,
    train: BTreeMap<String, Vec<Run>>,
    kept_out: Vec<Run>,
    documents: u64,
}

impl Corpus {
    fn load(context: &Context<'_>) -> Result<Corpus, Failure> {
        let sources = &context.corpus().source;
        let mut corpus = Corpus { supplies: Vec::new(), train: BTreeMap::new(), kept_out: Vec::new(), documents: 0 };
        for source in sources {
            corpus.train.insert(source.name.clone(), Vec::new());
        }
        for commit in context.commits(Stage::Tokenize)? {
            let source = context.plan.ingest[commit.task as usize].source;
            let runs = corpus.train.get_mut(&sources[source].name).expect("every source was entered");
            let Some(index) = tokenize::index_of(context, &commit)? else { continue };
            for (row, entry) in (0..).zip(index.entries()) {
                let (object, tokens) = (commit.task as u32, entry.length);
                let run = Run { object, row, tokens, key: entry.key, source: source as u16 };
                if entry.heldout {
                    corpus.kept_out.push(run);
                } else {
                    runs.push(run);
                }
                corpus.documents += 1;
            }
        }
        for source in sources {
            let runs = &corpus.train[&source.name];
            corpus.supplies.push(SourceSupply {
                source: source.name.clone(),
                domain: domain_index(source.domain),
                documents: runs.len() as u64,
                tokens: runs.iter().map(|run| u64::from(run.tokens)).sum(),
                max_epochs: source.max_epochs,
            });
        }
        Ok(corpus)
    }

    fn mixture(&self, context: &Context<'_>) -> Result<Mixture, Failure> {
        let length = context.corpus().pack.as_ref().map_or(1, |pack| pack.sequence_length);
        match &context.corpus().mixture {
            None => Ok(everything(&self.supplies)),
            Some(recipe) => plan_mixture(&spec(recipe, length), &self.supplies).map_err(|e| Failure::Policy(chain(&e))),
        }
    }

    /// Held-out documents of a domain in keyed order, each once and whole.
    fn heldout(&self, context: &Context<'_>, domain: usize) -> Result<Vec<Placed>, Failure> {
        let sources = &context.corpus().source;
        let mut shares = Vec::new();
        let mut runs = Vec::new();
        for (index, source) in sources.iter().enumerate().filter(|(_, s)| domain_index(s.domain) == domain) {
            let of_source: Vec<Run> = self.kept_out.iter().filter(|r| usize::from(r.source) == index).copied().collect();
            let supply = of_source.iter().map(|run| u64::from(run.tokens)).sum();
            shares.push(SourceShare {
                source: source.name.clone(),
                domain,
                supply,
                quota: supply,
                full_epochs: u64::from(supply > 0),
                remainder: 0,
            });
            runs.push(of_source);
        }
        order_domain(context.file.recipe.seed, runs, &shares).map_err(|e| Failure::Failed(chain(&e)))
    }

    fn counts(&self, used: u64, streams: &[Stream]) -> Counts {
        // Units of this stage: documents, and tokens of the order in place of bytes, repeats included.
        let tokens: u64 = streams.iter().map(|stream| stream.tokens).sum();
        let read = Tally { documents: self.documents, bytes: tokens };
        let written = Tally { documents: used, bytes: tokens };
        Counts { read, written, dropped: Tally { documents: self.documents - used, bytes: 0 }, rejected: Tally::default() }
    }
}

/// Index of a domain in `DOMAIN_NAMES`.
pub(crate) fn domain_index(domain: Domain) -> usize {
    match domain {
        Domain::Biomedical => 0,
        Domain::Clinical => 1,
        Domain::General => 2,
    }
}

/// The specification of a recipe's mixture.
pub(crate) fn spec(recipe: &MixtureRecipe, sequence_length: u32) -> MixtureSpec {
    MixtureSpec {
        total: match &recipe.tokens {
            TotalRecipe::Tokens(tokens) => Total::Tokens(*tokens),
            TotalRecipe::Word(_) => Total::All,
        },
        weights: [recipe.biomedical, recipe.clinical, recipe.general],
        unit: if recipe.unit == "sequences" { Unit::Sequences } else { Unit::Tokens },
        sequence_length,
    }
}

/// Without `[corpus.mixture]`: every source once.
fn everything(supplies: &[SourceSupply]) -> Mixture {
    let mut quotas = [0; 3];
    let mut sources = Vec::new();
    for supply in supplies {
        quotas[supply.domain] += supply.tokens;
        sources.push(SourceShare {
            source: supply.source.clone(),
            domain: supply.domain,
            supply: supply.tokens,
            quota: supply.tokens,
            full_epochs: u64::from(supply.tokens > 0),
            remainder: 0,
        });
    }
    Mixture { total: quotas.iter().sum(), quotas, sources }
}

fn stream(context: &Context<'_>, domain: usize, heldout: bool, placed: &[Placed]) -> Result<Option<Stream>, Failure> {
    if placed.is_empty() {
        return Ok(None);
    }
    let name = format!("{}-{}", if heldout { "heldout" } else { "train" }, DOMAIN_NAMES[domain]);
    let batch = tables::batch(vec![
        ("object", tables::u32s(placed.iter().map(|p| p.run.object))),
        ("row", tables::u32s(placed.iter().map(|p| p.run.row))),
        ("source", tables::u32s(placed.iter().map(|p| u32::from(p.run.source)))),
        ("epoch", tables::u32s(placed.iter().map(|p| p.epoch))),
        ("take", tables::u32s(placed.iter().map(|p| p.take))),
    ]);
    let table = tables::publish(context.workdir, "mix", &name, &batch)?;
    let tokens = placed.iter().map(|p| u64::from(p.take)).sum();
    let windows = windows(placed.iter().map(|p| p.take));
    Ok(Some(Stream { name, domain, heldout, tokens, table, windows }))
}

/// Closes a window at `WINDOW_DOCUMENTS` documents or before it would exceed `WINDOW_TOKENS`.
fn windows(takes: impl Iterator<Item = u32>) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for (row, take) in (0..).zip(takes) {
        let take = u64::from(take);
        let full = |w: &Window| w.rows >= WINDOW_DOCUMENTS as u64 || w.tokens + take > WINDOW_TOKENS;
        if windows.last().is_none_or(full) {
            windows.push(Window { first_row: row, rows: 0, tokens: 0 });
        }
        let window = windows.last_mut().expect("one was just pushed");
        window.rows += 1;
        window.tokens += take;
    }
    windows
}

fn facts(context: &Context<'_>, mixture: &Mixture, streams: Vec<Stream>) -> MixFacts {
    let share = |s: &SourceShare| ShareFacts {
        source: s.source.clone(),
        domain: DOMAIN_NAMES[s.domain].to_owned(),
        supply: s.supply,
        quota: s.quota,
        full_epochs: s.full_epochs,
        remainder: s.remainder,
        epochs: if s.supply == 0 { 0.0 } else { s.quota as f64 / s.supply as f64 },
    };
    let unit = context.corpus().mixture.as_ref().map_or("tokens", |m| m.unit.as_str());
    MixFacts {
        total: mixture.total,
        quotas: DOMAIN_NAMES.iter().map(ToString::to_string).zip(mixture.quotas).collect(),
        sources: mixture.sources.iter().map(share).collect(),
        streams,
        unit: unit.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_bounded_in_tokens() {
        let check = |takes: &[u32], expected: &[(u64, u64, u64)]| {
            let found: Vec<_> = windows(takes.iter().copied()).iter().map(|w| (w.first_row, w.rows, w.tokens)).collect();
            assert_eq!(found, expected);
        };
        let (big, limit) = (1 << 23, WINDOW_TOKENS);
        check(&[], &[]);
        check(&[1, 2, 3], &[(0, 3, 6)]);
        check(&[big, big, 1], &[(0, 2, limit), (2, 1, 1)]);
        check(&[1, 1 << 25, 1], &[(0, 1, 1), (1, 1, 1 << 25), (2, 1, 1)]);
    }
}
