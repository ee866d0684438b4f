//! The tasks that compare: texts of some clusters are gathered in one pass over what ingest wrote, then decided.

use std::collections::BTreeMap;

use mellama_dedup::{Decided, DedupError, MAX_RELEASED_READ, Member, Sketcher, TextError, Texts, Verifier};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::documents::{self, GatheredTexts};
use crate::failure::{Failure, chain};
use crate::stage::TaskOutput;

use super::corpus::{Corpus, Inputs};
use super::link::{ClusterRow, LinkFacts, read_rows};
use super::{Phases, order, verify_mode};

/// Part of the budget for gathered texts; more go to the scratch folder.
const TEXT_MEMORY_SHARE: u64 = 4;
/// Memory that reading the texts of one ingest task may take: a row group and its copies.
const READ_BYTES: u64 = 256 << 20;
/// Texts of one ingest task that are read at a time.
const TEXTS_AT_ONCE: usize = 1024;

/// What a task says of its clusters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct VerifyFacts {
    pub comparisons: u64,
    /// Documents and characters removed, by source.
    pub losses: BTreeMap<u16, (u64, u64)>,
    /// Documents and characters removed from the largest clusters, by root.
    pub largest: BTreeMap<u32, (u64, u64)>,
}

pub(super) fn run(context: &Context<'_>, phases: &Phases<'_>, index: u64) -> Result<TaskOutput, Failure> {
    let recipe = phases.recipe;
    let inputs = Inputs::read(context)?;
    let corpus = Corpus::of(context, &inputs)?;
    let linked = phases.linked(context)?;
    let link: LinkFacts = linked.facts()?;
    let (first, count) = link.tasks[index as usize];
    let rows = if count == 0 { Vec::new() } else { read_rows(context, linked.object("clusters")?, first, count)? };
    let clusters: Vec<&[ClusterRow]> = rows.chunk_by(|a, b| a.root == b.root).collect();
    let members: Vec<Member> = rows.iter().map(|row| row.member).collect();
    let mut at = 0;
    let slices: Vec<&[Member]> = clusters
        .iter()
        .map(|cluster| {
            at += cluster.len();
            &members[at - cluster.len()..at]
        })
        .collect();
    let texts = CorpusTexts { corpus: &corpus, gathered: gather(context, &corpus, &slices)? };
    let sketcher = Sketcher::new(super::spec(recipe)).map_err(|e| Failure::Policy(chain(&e)))?;
    let decided = Verifier::new(&texts, &sketcher, verify_mode(recipe)).decide_all(&slices);
    let decided = decided.map_err(|error| match error {
        DedupError::TextChanged { .. } | DedupError::Text { .. } => Failure::Verification(chain(&error)),
        _ => Failure::Storage(chain(&error)),
    })?;
    let facts = facts(&clusters, &decided, &link);
    let mut removals: Vec<_> = decided.into_iter().flat_map(|decided| decided.removals).collect();
    removals.sort_unstable_by_key(|removal| removal.dropped);
    let object = order::removals(context.workdir, "dedup", &format!("verified-{index:03}"), &removals)?;
    let facts = serde_json::to_value(&facts).expect("plain data");
    Ok(TaskOutput { objects: vec![object], facts, ..TaskOutput::default() })
}

fn facts(clusters: &[&[ClusterRow]], decided: &[Decided], link: &LinkFacts) -> VerifyFacts {
    let mut facts = VerifyFacts::default();
    for (cluster, decided) in clusters.iter().zip(decided) {
        facts.comparisons += decided.comparisons;
        if decided.removals.is_empty() {
            continue;
        }
        let by_number: BTreeMap<u32, &ClusterRow> = cluster.iter().map(|row| (row.member.number, row)).collect();
        let is_large = link.largest.iter().any(|largest| largest.0 == cluster[0].root);
        for removal in &decided.removals {
            let row = by_number[&removal.dropped];
            let loss = facts.losses.entry(row.member.source).or_default();
            (loss.0, loss.1) = (loss.0 + 1, loss.1 + row.characters);
            if is_large {
                let loss = facts.largest.entry(row.root).or_default();
                (loss.0, loss.1) = (loss.0 + 1, loss.1 + row.characters);
            }
        }
    }
    facts
}

/// Reads what the clusters need, each documents object once and in order.
fn gather(context: &Context<'_>, corpus: &Corpus<'_>, clusters: &[&[Member]]) -> Result<GatheredTexts, Failure> {
    let mut numbers: Vec<u32> = Vec::new();
    for cluster in clusters {
        let mut released = 0;
        numbers.extend(cluster.iter().filter_map(|member| {
            released += usize::from(member.released);
            (!member.released || released <= MAX_RELEASED_READ).then_some(member.number)
        }));
    }
    numbers.sort_unstable();
    let of_one_part = numbers.chunk_by(|a, b| corpus.part(*a).first == corpus.part(*b).first);
    let groups: Vec<&[u32]> = of_one_part.flat_map(|part| part.chunks(TEXTS_AT_ONCE)).collect();
    let at_once = (context.resources.memory_bytes / READ_BYTES).clamp(1, context.resources.threads as u64) as usize;
    let mut gathered = GatheredTexts::new();
    let (budget, scratch) = (context.resources.memory_bytes / TEXT_MEMORY_SHARE, &context.resources.scratch);
    for groups in groups.chunks(at_once) {
        context.check_stop()?;
        let texts: Vec<Vec<String>> = groups.par_iter().map(|group| read(corpus, group)).collect::<Result<_, _>>()?;
        for (number, text) in groups.iter().flat_map(|group| group.iter()).zip(texts.iter().flatten()) {
            gathered.push(*number, text, budget, scratch)?;
        }
    }
    Ok(gathered)
}

/// Texts of documents of one part, whose numbers rise.
fn read(corpus: &Corpus<'_>, numbers: &[u32]) -> Result<Vec<String>, Failure> {
    let part = corpus.part(numbers[0]);
    let rows: Vec<u64> = numbers.iter().map(|number| u64::from(number - part.first)).collect();
    documents::texts(part.workdir, part.documents, &rows)
}

/// Texts of the corpus by number.
struct CorpusTexts<'a> {
    corpus: &'a Corpus<'a>,
    gathered: GatheredTexts,
}

impl Texts for CorpusTexts<'_> {
    fn text(&self, number: u32) -> Result<String, TextError> {
        let text = self.gathered.get(number).and_then(|found| match found {
            Some(text) => Ok(text),
            None => Ok(read(self.corpus, &[number])?.remove(0)),
        });
        text.map_err(|failure| TextError::new(failure.to_string()))
    }

    fn name(&self, number: u32) -> String {
        let part = self.corpus.part(number);
        format!("{}: row {}", part.documents.key, number - part.first)
    }
}
