//! Whether the published training shards keep the mixture: every prefix of their sequences within one sequence of the ratio,
//! and every domain at its quota, less what retractions could not fill. All of it is counted from the shards, in integers.
//!
//! It reads one column of them and checks no sequence: the verification before it did.

use std::collections::BTreeMap;

use mellama_shards::mixture::DOMAIN_NAMES;
use mellama_shards::prefix::PrefixCheck;
use mellama_shards::{ShardFile, StoreChunks};
use mellama_storage::{Key, ObjectEntry, RangeReader, StageManifest, Workdir};

use crate::failure::{Failure, chain};
use crate::retract::{self, SourceChange};
use crate::stage::Stage;
use crate::stages::mix::MixFacts;

/// What is wrong with the order of the training shards; nothing where there are none.
///
/// One byte a sequence is held: 31 MiB for 129 billion tokens in sequences of 4,096.
///
/// # Errors
/// `Failure::Storage` when objects cannot be read.
pub(crate) fn findings(workdir: &Workdir, plan: &str) -> Result<Vec<String>, Failure> {
    let manifests = (workdir.read_manifest(plan, Stage::Mix.name())?, workdir.effective_manifest(plan, Stage::Publish.name())?);
    let (Some(mix), Some(publish)) = manifests else { return Ok(Vec::new()) };
    let Ok(mix) = serde_json::from_value::<MixFacts>(mix.facts) else {
        return Ok(vec!["manifests/mix.json: facts not understood".into()]);
    };
    let changes = Changes::read(workdir, plan)?;
    match Counted::read(workdir, &publish, &mix) {
        Ok(counted) => Ok(counted.findings(&mix, &changes, published_counts(&publish))),
        Err(Damage::Found(finding)) => Ok(vec![finding]),
        Err(Damage::Failed(failure)) => Err(failure),
    }
}

/// Either a finding or a reason why nothing can be said.
enum Damage {
    Found(String),
    Failed(Failure),
}

/// The sequences of the training shards, in order.
struct Counted {
    /// Index of the domain of each.
    order: Vec<u8>,
    /// Tokens of each domain.
    tokens: [u64; 3],
}

impl Counted {
    fn read(workdir: &Workdir, publish: &StageManifest, mix: &MixFacts) -> Result<Counted, Damage> {
        let mut counted = Counted { order: Vec::new(), tokens: [0; 3] };
        for entry in publish.objects.iter().filter(|object| object.key.starts_with("shards/cpt/train-")) {
            counted.shard(workdir, entry, mix)?;
        }
        Ok(counted)
    }

    fn shard(&mut self, workdir: &Workdir, entry: &ObjectEntry, mix: &MixFacts) -> Result<(), Damage> {
        let failed = |failure: Failure| Damage::Failed(failure);
        let key = Key::new(entry.key.clone()).map_err(|e| failed(e.into()))?;
        let reader = RangeReader::open(workdir.store().clone(), &key).map_err(|e| failed(e.into()))?;
        let damaged = |e: mellama_shards::ShardError| Damage::Found(chain(&e));
        let file = ShardFile::open(&entry.key, StoreChunks(reader)).map_err(damaged)?;
        let domain = |name: &String| {
            let share = mix.sources.iter().find(|share| share.source == *name);
            share.and_then(|share| DOMAIN_NAMES.iter().position(|domain| *domain == share.domain))
        };
        let domains: Vec<Option<usize>> = file.header().sources.iter().map(domain).collect();
        for (found, tokens) in domains.iter().zip(&file.totals().source_tokens) {
            if let Some(found) = found {
                self.tokens[*found] += tokens;
            }
        }
        for group in 0..file.row_groups() {
            for sources in file.segment_sources(group).map_err(damaged)? {
                let mut of_sequence = sources.iter().map(|source| domains.get(usize::from(*source)).copied().flatten());
                let first = of_sequence.next().flatten().filter(|first| of_sequence.all(|other| other == Some(*first)));
                let place = || format!("{}: sequence {} of the order is not of one domain", entry.key, self.order.len());
                self.order.push(first.ok_or_else(|| Damage::Found(place()))? as u8);
            }
        }
        Ok(())
    }

    fn findings(&self, mix: &MixFacts, changes: &Changes, published: Option<[u64; 3]>) -> Vec<String> {
        // Sequences that a retraction emptied are gone; what is left keeps the order of those that were published.
        let (counts, left_out) = match published {
            Some(published) if changes.left_out > 0 => (published, changes.left_out),
            _ => (counts_of(&self.order), 0),
        };
        let mut findings: Vec<String> = check_order(&self.order, &counts, left_out).err().into_iter().collect();
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
}

impl Changes {
    fn read(workdir: &Workdir, plan: &str) -> Result<Changes, Failure> {
        let mut sum = Changes { sources: BTreeMap::new(), left_out: 0 };
        for record in workdir.read_retractions(plan)? {
            let facts = retract::facts_of(&record)?;
            sum.left_out += facts.parts.get("train").map_or(0, |part| part.sequences);
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

/// Sequences of each domain when the shards were published.
fn published_counts(publish: &StageManifest) -> Option<[u64; 3]> {
    let counts = &publish.facts["parts"]["train"]["domain_sequences"];
    let of_domain = |name: &str| counts[name].as_u64();
    Some([of_domain(DOMAIN_NAMES[0])?, of_domain(DOMAIN_NAMES[1])?, of_domain(DOMAIN_NAMES[2])?])
}

fn counts_of(order: &[u8]) -> [u64; 3] {
    let mut counts = [0; 3];
    for &domain in order {
        counts[usize::from(domain)] += 1;
    }
    counts
}

/// Every prefix of an order within one sequence of the ratio of the counts, and one more for each that was left out.
fn check_order(order: &[u8], counts: &[u64; 3], left_out: u64) -> Result<(), String> {
    let mut check = PrefixCheck::new(counts).without(left_out);
    let pushed = order.iter().try_for_each(|&domain| check.push(usize::from(domain)));
    pushed.map_err(|problem| format!("shards/cpt: training order: {problem}; domains are {}", DOMAIN_NAMES.join(", ")))
}
