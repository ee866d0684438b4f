//! The token-exact mixture: quotas per domain, shares and epochs per source, in integers only.
//!
//! It plans from counted supplies; it orders and moves no document. A mixture that the capped supply cannot fill is refused
//! with what would have to change.

use serde::{Deserialize, Serialize};

use crate::apportion::{by_largest_remainder, under_ceilings};

/// Domains a mixture knows, in the order of [`MixtureSpec::weights`].
pub const DOMAIN_NAMES: [&str; 3] = ["biomedical", "clinical", "general"];

/// Largest sum of the weights after division by their common divisor. It bounds the search for [`Total::All`].
pub const MAX_REDUCED_WEIGHTS: u64 = 1_000_000;

/// Sources that a refusal names.
const NAMED_SOURCES: usize = 8;

/// What a quota is a whole number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Tokens: the total is met exactly and the last sequence of a domain is padded.
    Tokens,
    /// Sequences of `sequence_length` tokens: every quota is a multiple of it; the rest of the total is left out.
    Sequences,
}

/// How many tokens a mixture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Total {
    /// As many as the capped supply allows at the weights.
    All,
    /// This many.
    Tokens(u64),
}

/// What one source has to give, counted after deduplication and with the final tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSupply {
    /// Name, unique in the recipe.
    pub source: String,
    /// Index into [`DOMAIN_NAMES`].
    pub domain: usize,
    /// Documents kept for training.
    pub documents: u64,
    /// Tokens of these documents, BOS and EOS included.
    pub tokens: u64,
    /// Passes the mixture may use, at least 1 to use the source at all.
    pub max_epochs: u32,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixtureSpec {
    /// Tokens in all.
    pub total: Total,
    /// Proportions of the domains; 0 leaves one out.
    pub weights: [u32; 3],
    /// What quotas are whole numbers of.
    pub unit: Unit,
    /// Tokens of a sequence; only [`Unit::Sequences`] uses it.
    pub sequence_length: u32,
}

/// One source's part of the mixture, in tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceShare {
    /// Name.
    pub source: String,
    /// Index into [`DOMAIN_NAMES`].
    pub domain: usize,
    /// Tokens of one pass.
    pub supply: u64,
    /// Tokens taken: `full_epochs * supply + remainder`.
    pub quota: u64,
    /// Passes over all documents.
    pub full_epochs: u64,
    /// Tokens of the last, partial pass; less than `supply`.
    pub remainder: u64,
}

/// The plan: quotas sum to `total`, shares to their domain's quota.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixture {
    /// Tokens in all.
    pub total: u64,
    /// Tokens per domain.
    pub quotas: [u64; 3],
    /// One entry a source, in the order of the supplies given.
    pub sources: Vec<SourceShare>,
}

/// Why there is no mixture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MixtureError {
    /// The capped supply of a domain is below its quota.
    #[error("mixture: {domain}: quota of {quota} tokens, capped supply is {supply}; {remedy}")]
    Short {
        /// Name of the domain.
        domain: &'static str,
        /// Tokens wanted.
        quota: u64,
        /// Tokens all passes allowed by `max_epochs` give.
        supply: u128,
        /// The total in tokens that would fit, where one does.
        fitting_total: Option<u64>,
        /// What would have to change.
        remedy: String,
    },
    /// Nothing can be taken at these weights.
    #[error("mixture: {reason}")]
    Empty {
        /// Why, and what to change.
        reason: String,
    },
    /// A specification that has no meaning.
    #[error("mixture: {what}")]
    Invalid {
        /// What is wrong: got, expected.
        what: String,
    },
}

/// Plans the mixture `spec` over `supply`.
///
/// Quotas come from largest remainders over the weights. Inside a domain a source's share is proportional to its supply; a
/// source never gets more than `max_epochs` passes, and what that holds back goes to the domain's other sources, again in
/// proportion. The result depends on the names of the sources, never on their order.
///
/// # Errors
/// [`MixtureError::Short`] when a quota exceeds the capped supply, [`MixtureError::Empty`] when the total comes to nothing,
/// [`MixtureError::Invalid`] for weights, lengths, domains or names without a meaning.
pub fn plan_mixture(spec: &MixtureSpec, supply: &[SourceSupply]) -> Result<Mixture, MixtureError> {
    check_spec(spec, supply)?;
    let unit = spec.unit_tokens();
    let ceilings = capped_supplies(supply);
    let units = match spec.total {
        Total::Tokens(tokens) => tokens / unit,
        Total::All => largest_total(spec, &ceilings),
    };
    if units == 0 {
        return Err(empty_total(spec, &ceilings));
    }
    let quotas = quotas_of(spec, units).map(|quota| quota * unit);
    if (0..DOMAIN_NAMES.len()).any(|domain| u128::from(quotas[domain]) > ceilings[domain]) {
        return Err(short_supply(spec, supply, &quotas, &ceilings));
    }
    Ok(Mixture { total: units * unit, quotas, sources: share_out(supply, &quotas) })
}

impl MixtureSpec {
    fn unit_tokens(&self) -> u64 {
        match self.unit {
            Unit::Tokens => 1,
            Unit::Sequences => u64::from(self.sequence_length),
        }
    }

    /// The weights divided by their common divisor.
    fn reduced_weights(&self) -> [u64; 3] {
        let divisor = self.weights.iter().fold(0, |divisor, &weight| common_divisor(divisor, u64::from(weight)));
        self.weights.map(|weight| u64::from(weight) / divisor.max(1))
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

fn check_spec(spec: &MixtureSpec, supply: &[SourceSupply]) -> Result<(), MixtureError> {
    let invalid = |what: String| Err(MixtureError::Invalid { what });
    let sum: u64 = spec.reduced_weights().iter().sum();
    if sum == 0 {
        return invalid("weights: all zero, expected at least one above zero".into());
    }
    if sum > MAX_REDUCED_WEIGHTS {
        return invalid(format!("weights: sum {sum} in lowest terms, expected at most {MAX_REDUCED_WEIGHTS}; round them"));
    }
    if spec.sequence_length == 0 && spec.unit == Unit::Sequences {
        return invalid("sequence length: 0, expected at least 1".into());
    }
    let mut names: Vec<&str> = supply.iter().map(|source| source.source.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    if let Some([name, _]) = twice {
        return invalid(format!("source {name}: named twice, expected unique names"));
    }
    if let Some(source) = supply.iter().find(|source| source.domain >= DOMAIN_NAMES.len()) {
        return invalid(format!("source {}: domain {}, expected 0 to 2", source.source, source.domain));
    }
    Ok(())
}

/// Quotas of the domains at the specified total, whatever the supply. `None` for [`Total::All`], which the supply decides.
///
/// # Errors
/// [`MixtureError::Invalid`] for weights or lengths without a meaning.
pub fn planned_quotas(spec: &MixtureSpec) -> Result<Option<[u64; 3]>, MixtureError> {
    check_spec(spec, &[])?;
    let unit = spec.unit_tokens();
    Ok(match spec.total {
        Total::All => None,
        Total::Tokens(tokens) => Some(quotas_of(spec, tokens / unit).map(|quota| quota * unit)),
    })
}

/// Tokens each domain can give at most: the sum of supply times `max_epochs`.
pub fn capped_supplies(supply: &[SourceSupply]) -> [u128; 3] {
    let mut ceilings = [0_u128; 3];
    for source in supply {
        ceilings[source.domain] += ceiling(source);
    }
    ceilings
}

fn ceiling(source: &SourceSupply) -> u128 {
    u128::from(source.tokens) * u128::from(source.max_epochs)
}

fn quotas_of(spec: &MixtureSpec, units: u64) -> [u64; 3] {
    let parts = by_largest_remainder(units, &spec.reduced_weights());
    [parts[0], parts[1], parts[2]]
}

/// The largest number of units whose every quota is within the capped supply.
///
/// Largest remainders are not monotone in the total (the Alabama paradox), so the last few candidates are tried one by one:
/// above `floor(c·W/w)` of the scarcest domain a quota may or may not be rounded into its ceiling, below it always is.
fn largest_total(spec: &MixtureSpec, ceilings: &[u128; 3]) -> u64 {
    let unit = u128::from(spec.unit_tokens());
    let weights = spec.reduced_weights();
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let limits = ceilings.map(|tokens| tokens / unit);
    // A domain that has a weight but not one unit to give: a handful of units could be rounded past it, which nobody means.
    if (0..3).any(|domain| weights[domain] > 0 && limits[domain] == 0) {
        return 0;
    }
    let bounds = (0..3).filter(|&domain| weights[domain] > 0).map(|domain| {
        // The floor of units·w/W must stay at or below the limit: units·w/W < limit + 1.
        (((limits[domain] + 1).saturating_mul(sum)).div_ceil(u128::from(weights[domain]))) - 1
    });
    let most = u128::from(u64::MAX) / unit;
    let mut units = bounds.min().unwrap_or(0).min(most) as u64;
    let fits = |units: u64| quotas_of(spec, units).iter().zip(limits).all(|(&quota, limit)| u128::from(quota) <= limit);
    while !fits(units) {
        units -= 1;
    }
    units
}

fn empty_total(spec: &MixtureSpec, ceilings: &[u128; 3]) -> MixtureError {
    let reason = match spec.total {
        Total::Tokens(tokens) => {
            format!("total of {tokens} tokens: less than one unit of {} tokens, expected at least one", spec.unit_tokens())
        }
        Total::All => {
            let scarce = (0..3)
                .filter(|&domain| spec.weights[domain] > 0)
                .min_by_key(|&domain| ceilings[domain])
                .expect("a checked specification has a weight above zero");
            format!(
                "{}: capped supply of {} tokens allows no total at weights {}; add sources, raise their max_epochs or set its weight to 0",
                DOMAIN_NAMES[scarce],
                ceilings[scarce],
                weights_text(spec),
            )
        }
    };
    MixtureError::Empty { reason }
}

fn weights_text(spec: &MixtureSpec) -> String {
    spec.weights.map(|weight| weight.to_string()).join(":")
}

/// The refusal of quotas above the capped supply: the first such domain, and what would fit all of them.
fn short_supply(spec: &MixtureSpec, supply: &[SourceSupply], quotas: &[u64; 3], ceilings: &[u128; 3]) -> MixtureError {
    let short: Vec<usize> = (0..3).filter(|&domain| u128::from(quotas[domain]) > ceilings[domain]).collect();
    let fitting_total = Some(largest_total(spec, ceilings) * spec.unit_tokens()).filter(|&total| total > 0);
    let needed: Vec<(usize, Option<u32>)> =
        short.iter().map(|&domain| (domain, epochs_needed(supply, domain, quotas[domain]))).collect();
    let raised = |&(domain, epochs): &(usize, Option<u32>)| {
        epochs.map(|epochs| {
            format!("max_epochs = {epochs} on the {} sources ({})", DOMAIN_NAMES[domain], below(supply, domain, epochs))
        })
    };
    let without: Vec<&str> =
        needed.iter().filter(|(_, epochs)| epochs.is_none()).map(|&(domain, _)| DOMAIN_NAMES[domain]).collect();
    let mut remedies = Vec::new();
    if without.is_empty() {
        remedies.push(format!("set {}", needed.iter().filter_map(raised).collect::<Vec<_>>().join(" and ")));
    }
    if let Some(total) = fitting_total {
        remedies.push(format!("lower the total to {total} tokens"));
    }
    if !without.is_empty() {
        remedies.push(format!("add {} sources or set its weight to 0", without.join(" and ")));
    }
    let domain = short[0];
    let (quota, supply) = (quotas[domain], ceilings[domain]);
    MixtureError::Short { domain: DOMAIN_NAMES[domain], quota, supply, fitting_total, remedy: remedies.join(", or ") }
}

/// Sources of a domain that have tokens and fewer passes than `epochs`, with the passes they have: "a 1, b 2".
fn below(supply: &[SourceSupply], domain: usize, epochs: u32) -> String {
    let named = |source: &&SourceSupply| source.domain == domain && source.tokens > 0 && source.max_epochs < epochs;
    let mut names: Vec<String> =
        supply.iter().filter(named).map(|source| format!("{} {}", source.source, source.max_epochs)).collect();
    if names.len() > NAMED_SOURCES {
        names.truncate(NAMED_SOURCES);
        names.push("…".into());
    }
    names.join(", ")
}

/// The smallest number of passes that, allowed on every source of `domain` (or more where a source has more), covers `quota`.
fn epochs_needed(supply: &[SourceSupply], domain: usize, quota: u64) -> Option<u32> {
    let covers = |epochs: u32| {
        let of_domain = supply.iter().filter(|source| source.domain == domain);
        let room: u128 = of_domain.map(|source| u128::from(source.tokens) * u128::from(source.max_epochs.max(epochs))).sum();
        room >= u128::from(quota)
    };
    if !covers(u32::MAX) {
        return None;
    }
    let (mut low, mut high) = (0_u32, u32::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        if covers(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}

/// Splits each quota over the domain's sources. The quotas are known to be within the capped supplies.
fn share_out(supply: &[SourceSupply], quotas: &[u64; 3]) -> Vec<SourceShare> {
    let mut taken = vec![0_u64; supply.len()];
    for (domain, &quota) in quotas.iter().enumerate() {
        let mut members: Vec<usize> = (0..supply.len()).filter(|&index| supply[index].domain == domain).collect();
        members.sort_by(|&a, &b| supply[a].source.cmp(&supply[b].source));
        let supplies: Vec<u64> = members.iter().map(|&index| supply[index].tokens).collect();
        let ceilings: Vec<u128> = members.iter().map(|&index| ceiling(&supply[index])).collect();
        let parts = under_ceilings(quota, &supplies, &ceilings).expect("the quota was compared with the capped supply");
        for (&index, part) in members.iter().zip(parts) {
            taken[index] = part;
        }
    }
    let share = |(source, &quota): (&SourceSupply, &u64)| SourceShare {
        source: source.source.clone(),
        domain: source.domain,
        supply: source.tokens,
        quota,
        full_epochs: quota.checked_div(source.tokens).unwrap_or(0),
        remainder: quota.checked_rem(source.tokens).unwrap_or(0),
    };
    supply.iter().zip(&taken).map(share).collect()
}

#[cfg(test)]
mod tests;
