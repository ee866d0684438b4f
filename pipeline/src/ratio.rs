//! Whether the published training shards keep the mixture: every prefix of their sequences within one sequence of the ratio,
//! and every domain at its quota, less what retractions could not fill. All of it is counted from the shards, in integers.
//!
//! It reads the segments of them, no token, and checks no sequence: the verification before it did.

use std::collections::BTreeMap;

use mellama_shards::mixture::DOMAIN_NAMES;
use mellama_shards::prefix::{PrefixCheck, PrefixProblem};
use mellama_shards::{ShardFile, StoreChunks};
use mellama_storage::{ObjectEntry, RangeReader, StageManifest, Workdir};

use crate::failure::{Failure, chain};
use crate::plan::TOKEN_TURNS_SINCE;
use crate::retract::{self, SourceChange};
use crate::stage::Stage;
use crate::stages::mix::MixFacts;
use crate::stages::pack::Measure;

/// What is wrong with the order of the training shards; nothing where there are none.
///
/// # Errors
/// `Failure::Storage` when objects cannot be read.
pub(crate) fn findings(workdir: &Workdir, plan: &str) -> Result<Vec<String>, Failure> {
    let manifests = (workdir.read_manifest(plan, Stage::Mix.name())?, workdir.effective_manifest(plan, Stage::Publish.name())?);
    let (Some(mix), Some(publish)) = manifests else { return Ok(Vec::new()) };
    let Ok(mix) = serde_json::from_value::<MixFacts>(mix.facts) else {
        return Ok(vec!["manifests/mix.json: facts not understood".into()]);
    };
    let format = workdir.read_plan()?.and_then(|plan| plan["format"].as_u64()).unwrap_or(0);
    let measure = if format < u64::from(TOKEN_TURNS_SINCE) { Measure::Sequences } else { Measure::of(&mix) };
    let changes = Changes::read(workdir, plan)?;
    let published = match measure {
        Measure::Tokens => Some(published_tokens(&publish, &mix)),
        Measure::Sequences => published_sequences(&publish),
    };
    let totals = match published.map_or_else(|| counted_sequences(workdir, &publish, &mix), Ok) {
        Ok(totals) => totals,
        Err(Damage::Found(finding)) => return Ok(vec![finding]),
        Err(Damage::Failed(failure)) => return Err(failure),
    };
    let missing = if measure == Measure::Tokens { changes.short } else { changes.left_out };
    let length = publish.facts["header"]["sequence_length"].as_u64().and_then(|length| u32::try_from(length).ok());
    let Some(length) = length.or((measure == Measure::Sequences).then_some(1)) else {
        return Ok(vec!["manifests/publish.json: no sequence_length".into()]);
    };
    let check = PrefixCheck::new(&totals, measure.largest(length)).without(missing);
    let mut counted = Counted { measure, check: Some(check), order: Vec::new(), tokens: [0; 3], sequences: [0; 3] };
    match counted.read(workdir, &publish, &mix) {
        Ok(()) => Ok(counted.findings(&mix, &changes)),
        Err(Damage::Found(finding)) => Ok(vec![finding]),
        Err(Damage::Failed(failure)) => Err(failure),
    }
}

/// Either a finding or a reason why nothing can be said.
enum Damage {
    Found(String),
    Failed(Failure),
}

/// The sequences of the training shards, in order, a row group at a time.
struct Counted {
    measure: Measure,
    /// The order so far; `None` once it is off.
    check: Option<PrefixCheck>,
    /// What is wrong with the order.
    order: Vec<String>,
    /// Tokens of each domain.
    tokens: [u64; 3],
    /// Sequences of each domain.
    sequences: [u64; 3],
}

impl Counted {
    fn read(&mut self, workdir: &Workdir, publish: &StageManifest, mix: &MixFacts) -> Result<(), Damage> {
        for entry in publish.objects.iter().filter(|object| object.key.starts_with("shards/cpt/train-")) {
            self.shard(workdir, entry, mix)?;
        }
        Ok(())
    }

    fn shard(&mut self, workdir: &Workdir, entry: &ObjectEntry, mix: &MixFacts) -> Result<(), Damage> {
        let failed = |failure: Failure| Damage::Failed(failure);
        let reader = RangeReader::of(workdir.store().clone(), entry).map_err(|e| failed(e.into()))?;
        let damaged = |e: mellama_shards::ShardError| Damage::Found(chain(&e));
        let file = ShardFile::open(&entry.key, StoreChunks(reader)).map_err(damaged)?;
        let domains: Vec<Option<usize>> = file.header().sources.iter().map(|name| domain_of(mix, name)).collect();
        for (found, tokens) in domains.iter().zip(&file.totals().source_tokens) {
            if let Some(found) = found {
                self.tokens[*found] += tokens;
            }
        }
        for group in 0..file.row_groups() {
            for segments in file.segments(group).map_err(damaged)? {
                let mut of_sequence = segments.iter().map(|one| domains.get(usize::from(one.source)).copied().flatten());
                let first = of_sequence.next().flatten().filter(|first| of_sequence.all(|other| other == Some(*first)));
                let mixed = || {
                    Damage::Found(format!(
                        "{}: sequence {} of the order is not of one domain",
                        entry.key,
                        self.sequences.iter().sum::<u64>()
                    ))
                };
                self.push(first.ok_or_else(mixed)?, self.measure.size(&segments));
            }
        }
        Ok(())
    }

    fn push(&mut self, domain: usize, size: u64) {
        self.sequences[domain] += 1;
        if let Some(mut check) = self.check.take() {
            match check.push(domain, size) {
                Ok(()) => self.check = Some(check),
                Err(problem) => self.is_off(&problem),
            }
        }
    }

    fn is_off(&mut self, problem: &PrefixProblem) {
        let of = if self.measure == Measure::Tokens { "tokens" } else { "sequences" };
        let domains = DOMAIN_NAMES.join(", ");
        self.order.push(format!("shards/cpt: training order, in {of}: {problem}; domains are {domains}"));
    }

    fn findings(mut self, mix: &MixFacts, changes: &Changes) -> Vec<String> {
        if let Some(problem) = self.check.take().and_then(|check| check.finish().err()) {
            self.is_off(&problem);
        }
        let mut findings = self.order;
        for (domain, tokens) in DOMAIN_NAMES.into_iter().zip(self.tokens) {
            let quota = changes.of(mix, domain, mix.quotas.get(domain).copied().unwrap_or(0));
            let kept = if mix.unit == "sequences" { tokens <= quota } else { tokens == quota };
            if !kept {
                findings.push(format!("shards/cpt: {domain}: {tokens} tokens in the training shards, its quota is {quota}"));
            }
        }
        findings
    }
}

/// What retractions changed of the training shards.
struct Changes {
    /// Tokens by source.
    sources: BTreeMap<String, SourceChange>,
    /// Sequences that were left without a token.
    left_out: u64,
    /// Tokens that nothing was filled in for.
    short: u64,
}

impl Changes {
    fn read(workdir: &Workdir, plan: &str) -> Result<Changes, Failure> {
        let mut sum = Changes { sources: BTreeMap::new(), left_out: 0, short: 0 };
        for record in workdir.read_retractions(plan)? {
            let facts = retract::facts_of(&record)?;
            if let Some(train) = facts.parts.get("train") {
                sum.left_out += train.sequences;
                sum.short += train.tokens - train.refilled.min(train.tokens);
            }
            for (source, change) in facts.sources {
                let of_source = sum.sources.entry(source).or_default();
                of_source.tokens += change.tokens;
                of_source.refilled += change.refilled;
            }
        }
        Ok(sum)
    }

    /// The tokens of a domain after what was taken out and filled in, of `quota` before.
    fn of(&self, mix: &MixFacts, domain: &str, quota: u64) -> u64 {
        let of_domain =
            mix.sources.iter().filter(|share| share.domain == domain).filter_map(|share| self.sources.get(&share.source));
        let (tokens, refilled) = of_domain.fold((0, 0), |(t, r), change| (t + change.tokens, r + change.refilled));
        (quota + refilled).saturating_sub(tokens)
    }
}

fn domain_of(mix: &MixFacts, source: &str) -> Option<usize> {
    let share = mix.sources.iter().find(|share| share.source == source)?;
    DOMAIN_NAMES.iter().position(|domain| *domain == share.domain)
}

/// Sequences of each domain when the shards were published.
fn published_sequences(publish: &StageManifest) -> Option<[u64; 3]> {
    let counts = &publish.facts["parts"]["train"]["domain_sequences"];
    let of_domain = |name: &str| counts[name].as_u64();
    Some([of_domain(DOMAIN_NAMES[0])?, of_domain(DOMAIN_NAMES[1])?, of_domain(DOMAIN_NAMES[2])?])
}

/// Sequences of each domain in the shards: before plan format 5 `publish` did not count them, and no retraction was.
fn counted_sequences(workdir: &Workdir, publish: &StageManifest, mix: &MixFacts) -> Result<[u64; 3], Damage> {
    let mut counted = Counted { measure: Measure::Sequences, check: None, order: Vec::new(), tokens: [0; 3], sequences: [0; 3] };
    counted.read(workdir, publish, mix)?;
    Ok(counted.sequences)
}

/// Tokens of each domain when the shards were published.
fn published_tokens(publish: &StageManifest, mix: &MixFacts) -> [u64; 3] {
    let mut tokens = [0; 3];
    let by_source = publish.facts["parts"]["train"]["source_tokens"].as_object();
    for (source, of_source) in by_source.into_iter().flatten() {
        if let Some(domain) = domain_of(mix, source) {
            tokens[domain] += of_source.as_u64().unwrap_or(0);
        }
    }
    tokens
}
