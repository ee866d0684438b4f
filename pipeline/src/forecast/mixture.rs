//! Supply, quota and epochs before a run has mixed: from counted tokens, else from those that the recipe expects.
//!
//! Expected tokens are used here and nowhere else; a run counts.

use std::collections::BTreeMap;

use mellama_shards::RunTotals;
use mellama_shards::mixture::{DOMAIN_NAMES, Mixture, MixtureSpec, SourceSupply, capped_supplies, plan_mixture, planned_quotas};
use serde::Serialize;

use super::SourceForecast;
use crate::failure::chain;
use crate::recipe::{CorpusRecipe, RecipeFile, SourceRecipe};
use crate::stages::mix;

/// Quotas of the domains.
#[derive(Debug, Clone, Serialize)]
pub struct MixtureForecast {
    /// Tokens in all; null for `"all"` while the supply is unknown, and where it is refused.
    pub total: Option<u64>,
    /// Tokens by domain; those asked for where it is refused.
    pub quotas: BTreeMap<String, u64>,
    /// `tokens` or `sequences`.
    pub unit: String,
    /// Domains of weight above zero, in order; empty while the supply is unknown.
    pub domains: Vec<DomainForecast>,
    /// Why the supply cannot fill it, and what would have to change.
    pub refusal: Option<String>,
    /// Sources without counted or expected tokens, because of which no supply is known.
    pub unknown: Vec<String>,
}

/// One domain.
#[derive(Debug, Clone, Serialize)]
pub struct DomainForecast {
    /// Name.
    pub domain: String,
    /// As the recipe has it.
    pub weight: u32,
    /// Tokens of one pass over its sources.
    pub supply_tokens: u64,
    /// Tokens of all passes that `max_epochs` allows.
    pub capped_tokens: u64,
    /// Tokens asked for; null for `"all"` where it is refused.
    pub quota_tokens: Option<u64>,
    /// Quota over supply.
    pub epochs: Option<f64>,
}

/// Fills in what is known of the sources and plans the mixture over it.
pub(super) fn forecast(
    file: &RecipeFile,
    counted: &BTreeMap<String, RunTotals>,
    sources: &mut [SourceForecast],
) -> Option<MixtureForecast> {
    let corpus = file.recipe.corpus.as_ref()?;
    let supply = supplies(corpus, counted, sources);
    let recipe = corpus.mixture.as_ref()?;
    let spec = recipe.spec(corpus.pack.as_ref().map_or(1, |pack| pack.sequence_length));
    let asked = planned_quotas(&spec).ok().flatten();
    let mut forecast = MixtureForecast {
        total: asked.map(|quotas| quotas.iter().sum()),
        quotas: asked.map(named).unwrap_or_default(),
        unit: recipe.unit.clone(),
        domains: Vec::new(),
        refusal: None,
        unknown: Vec::new(),
    };
    let supply = match supply {
        Ok(supply) => supply,
        Err(unknown) => return Some(MixtureForecast { unknown, ..forecast }),
    };
    let planned = plan_mixture(&spec, &supply);
    let quotas = planned.as_ref().map(|mixture| mixture.quotas).ok().or(asked);
    forecast.domains = domains(&spec, &supply, quotas);
    match planned {
        Ok(mixture) => {
            shares(&mixture, sources);
            (forecast.total, forecast.quotas) = (Some(mixture.total), named(mixture.quotas));
        }
        Err(error) => {
            // What every source would give if only its passes were not limited.
            let free: Vec<SourceSupply> = supply.into_iter().map(|s| SourceSupply { max_epochs: u32::MAX, ..s }).collect();
            if let Ok(mixture) = plan_mixture(&spec, &free) {
                shares(&mixture, sources);
            }
            (forecast.total, forecast.refusal) = (None, Some(chain(&error)));
        }
    }
    Some(forecast)
}

fn named(quotas: [u64; 3]) -> BTreeMap<String, u64> {
    DOMAIN_NAMES.iter().map(ToString::to_string).zip(quotas).collect()
}

/// The supply of every source, or the names of those whose supply nobody knows. A source of a domain that is left out may be.
fn supplies(
    corpus: &CorpusRecipe,
    counted: &BTreeMap<String, RunTotals>,
    sources: &mut [SourceForecast],
) -> Result<Vec<SourceSupply>, Vec<String>> {
    let weights = corpus.mixture.as_ref().map_or([1; 3], |recipe| [recipe.biomedical, recipe.clinical, recipe.general]);
    let share = corpus.pack.as_ref().map_or(0.0, |pack| pack.heldout);
    let (mut supplies, mut unknown) = (Vec::new(), Vec::new());
    for (source, forecast) in corpus.source.iter().zip(sources) {
        let domain = mix::domain_index(source.domain);
        let known = known(source, counted, share);
        if let Some((from, heldout, tokens)) = known {
            forecast.supply_tokens = Some(tokens);
            forecast.supply_from = Some(from);
            forecast.heldout_tokens = Some(heldout);
        } else if weights[domain] > 0 {
            unknown.push(source.name.clone());
        }
        let tokens = known.map_or(0, |(_, _, tokens)| tokens);
        let (source, max_epochs) = (source.name.clone(), source.max_epochs);
        supplies.push(SourceSupply { source, domain, documents: 0, tokens, max_epochs });
    }
    if unknown.is_empty() { Ok(supplies) } else { Err(unknown) }
}

/// Where a source's tokens are known from, and how many are held out and left. Documents are held out by their share, so of
/// expected tokens the same share is.
fn known(source: &SourceRecipe, counted: &BTreeMap<String, RunTotals>, share: f64) -> Option<(&'static str, u64, u64)> {
    if !counted.is_empty() {
        let totals = counted.get(&source.name).cloned().unwrap_or_default();
        return Some(("counted", totals.heldout_tokens, totals.tokens - totals.heldout_tokens));
    }
    let expected = source.expected_tokens?;
    // The share in billionths, so that the rest is exact.
    let parts = (share * 1e9).round() as u128;
    let heldout = (u128::from(expected) * parts / 1_000_000_000) as u64;
    Some(("expected", heldout, expected - heldout))
}

fn domains(spec: &MixtureSpec, supply: &[SourceSupply], quotas: Option<[u64; 3]>) -> Vec<DomainForecast> {
    let capped = capped_supplies(supply);
    let weighted = (0..DOMAIN_NAMES.len()).filter(|&domain| spec.weights[domain] > 0);
    let forecast = |domain: usize| {
        let supply_tokens: u64 = supply.iter().filter(|source| source.domain == domain).map(|source| source.tokens).sum();
        let quota_tokens = quotas.map(|quotas| quotas[domain]);
        DomainForecast {
            domain: DOMAIN_NAMES[domain].to_owned(),
            weight: spec.weights[domain],
            supply_tokens,
            capped_tokens: u64::try_from(capped[domain]).unwrap_or(u64::MAX),
            quota_tokens,
            epochs: quota_tokens.filter(|_| supply_tokens > 0).map(|quota| quota as f64 / supply_tokens as f64),
        }
    };
    weighted.map(forecast).collect()
}

fn shares(mixture: &Mixture, sources: &mut [SourceForecast]) {
    for source in sources {
        if let Some(share) = mixture.sources.iter().find(|share| share.source == source.source) {
            source.quota_tokens = Some(share.quota);
            source.full_epochs = Some(share.full_epochs);
            source.remainder_tokens = Some(share.remainder);
            source.epochs = (share.supply > 0).then(|| share.quota as f64 / share.supply as f64);
        }
    }
}
