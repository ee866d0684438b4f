//! What the earlier tasks found: which document stands for which, by number, and the alarm over it.

use std::collections::{BTreeMap, HashSet};

use mellama_dedup::{ClusterReport, ClusterSummary, Removal, Rule, SourceLoss, check_losses};
use serde_json::{Value, json};

use crate::context::Context;
use crate::documents::Place;
use crate::failure::Failure;
use crate::overlaps::Findings;
use crate::sequence::{Fate, Settled};
use crate::signatures;

use super::corpus::{Corpus, Part};
use super::link::LinkFacts;
use super::order::{OrderFacts, for_each_removal};
use super::verify::VerifyFacts;
use super::{Phases, spec};

/// In the place of a number: the document is kept.
const KEPT: u32 = u32::MAX;

/// The removals of a corpus.
pub(super) struct Found<'a> {
    corpus: &'a Corpus<'a>,
    /// Names of the releases.
    releases: Vec<String>,
    /// By number: what it was compared with, or [`KEPT`].
    kept_of: Vec<u32>,
    /// Numbers that a newer record of their id replaced, rising.
    same_ids: Vec<u32>,
    /// What was removed after a comparison, by `dropped`.
    verified: Vec<Removal>,
    /// Removed documents by rule.
    rules: BTreeMap<&'static str, u64>,
    restored: u64,
    /// Numbers that stand for others in the end, rising, and where the id of each ends in `ids`.
    survivors: Vec<(u32, u64)>,
    ids: String,
}

impl<'a> Found<'a> {
    /// Reads what the earlier tasks published, and the facts of it.
    ///
    /// # Errors
    /// `Failure::Input` when a source loses more than it may; nothing is published then.
    pub(super) fn load(
        context: &Context<'_>,
        phases: &Phases<'_>,
        corpus: &'a Corpus<'a>,
        releases: Vec<String>,
    ) -> Result<(Found<'a>, Value), Failure> {
        let order = phases.order(context)?;
        let linked: LinkFacts = phases.linked(context)?.facts()?;
        let order_facts: OrderFacts = order.facts()?;
        let mut found = Found {
            corpus,
            releases,
            kept_of: vec![KEPT; corpus.documents as usize],
            same_ids: Vec::new(),
            verified: Vec::new(),
            rules: BTreeMap::new(),
            restored: 0,
            survivors: Vec::new(),
            ids: String::new(),
        };
        for_each_removal(context.workdir, order.object("exact")?, |removal| found.add(removal))?;
        let mut sums = VerifyFacts::default();
        for task in phases.verify() {
            let done = phases.commit(context, task)?;
            for_each_removal(context.workdir, &done.commit.objects[0], |removal| found.add(removal))?;
            sums.add(&done.facts()?);
        }
        found.verified.sort_unstable_by_key(|removal| removal.dropped);
        let clusters = found.report(&linked, &sums)?;
        let losses = losses(context, &order_facts, &sums);
        check_losses(&losses, phases.recipe.max_source_loss, &clusters).map_err(|e| Failure::Input(e.to_string()))?;
        let facts = json!({
            "spec_version": mellama_dedup::SPEC_VERSION,
            "sketch": spec(phases.recipe).summary(),
            "verify": phases.recipe.verify,
            "candidates": linked.candidates,
            "comparisons": sums.comparisons,
            "clusters": clusters,
            "losses": losses,
            "releases": found.releases,
            "released_documents": order_facts.released,
        });
        Ok((found, facts))
    }

    fn add(&mut self, removal: Removal) {
        *self.rules.entry(removal.rule.as_str()).or_default() += 1;
        self.kept_of[removal.dropped as usize] = removal.kept;
        match removal.rule {
            Rule::Exact => {}
            Rule::SameId => self.same_ids.push(removal.dropped),
            _ => self.verified.push(removal),
        }
    }

    /// Keeps the documents again that were removed, after a comparison, for one that now goes for a benchmark's text: nothing
    /// stands for them any more. Returns how many there are.
    pub(super) fn restore(&mut self, leaks: &Findings) -> u64 {
        let going = leaks.into_iter().filter(|leak| leak.goes_for_its_text());
        let going: HashSet<u32> = going.filter_map(|leak| self.corpus.number(leak.place)).collect();
        let is_back = |removal: &Removal| going.contains(&self.last(removal.dropped));
        let (back, verified): (Vec<Removal>, Vec<Removal>) = self.verified.iter().copied().partition(is_back);
        self.verified = verified;
        for removal in &back {
            self.kept_of[removal.dropped as usize] = KEPT;
            *self.rules.entry(removal.rule.as_str()).or_default() -= 1;
        }
        self.restored += back.len() as u64;
        back.len() as u64
    }

    /// Removed documents by rule.
    pub(super) fn rules(&self) -> BTreeMap<&'static str, u64> {
        self.rules.iter().filter(|(_, count)| **count > 0).map(|(rule, count)| (*rule, *count)).collect()
    }

    /// Documents that were removed and are kept again.
    pub(super) fn restored(&self) -> u64 {
        self.restored
    }

    /// The clusters as a person reads them.
    fn report(&self, linked: &LinkFacts, sums: &VerifyFacts) -> Result<ClusterReport, Failure> {
        let ids = ids_of(self.corpus, linked.largest.iter().map(|largest| largest.1).collect())?;
        let summary = |(root, first, documents): &(u32, u32, u64)| {
            let (removed, removed_characters) = sums.largest.get(root).copied().unwrap_or_default();
            ClusterSummary { keeper: ids[first].clone(), documents: *documents, removed, removed_characters }
        };
        let largest = linked.largest.iter().map(summary).collect();
        Ok(ClusterReport { clusters: linked.clusters, documents: linked.documents, largest })
    }

    /// Whether a document of this run is removed.
    pub(super) fn is_removed(&self, place: Place) -> bool {
        self.corpus.number(place).is_some_and(|number| self.kept_of[number as usize] != KEPT)
    }

    /// The place of the document that stands for one in the end, if it is in this run.
    pub(super) fn last_place(&self, place: Place) -> Option<Place> {
        let last = self.last(self.corpus.number(place)?);
        let part = self.corpus.part(last);
        part.release.is_none().then(|| Place { task: part.task, row: last - part.first })
    }

    /// The part of an ingest task that loses a document.
    pub(super) fn part_with_removals(&self, task: u32) -> Option<&Part<'a>> {
        let first = self.corpus.number(Place { task, row: 0 })?;
        let part = self.corpus.part(first);
        let rows = &self.kept_of[first as usize..(first + part.rows) as usize];
        rows.iter().any(|kept| *kept != KEPT).then_some(part)
    }

    /// Why and with what scores a document is removed.
    pub(super) fn removal(&self, number: u32) -> Option<Removal> {
        let kept = self.kept_of[number as usize];
        if kept == KEPT {
            return None;
        }
        if let Ok(found) = self.verified.binary_search_by_key(&number, |removal| removal.dropped) {
            return Some(self.verified[found]);
        }
        let rule = if self.same_ids.binary_search(&number).is_ok() { Rule::SameId } else { Rule::Exact };
        Some(Removal { dropped: number, kept, rule, similarity: 1.0, containment: 1.0 })
    }

    /// The number that stands for another in the end.
    fn last(&self, number: u32) -> u32 {
        let mut at = number;
        // Rules apply in a fixed order and each keeps a document that stands then, so no chain closes.
        while self.kept_of[at as usize] != KEPT {
            at = self.kept_of[at as usize];
        }
        at
    }

    /// Reads the ids of all documents that stand for others.
    pub(super) fn name_survivors(&mut self, settled: &Settled) -> Result<(), Failure> {
        let removed = (0u32..).zip(&self.kept_of).filter(|(_, kept)| **kept != KEPT).map(|(number, _)| number);
        let mut numbers: Vec<u32> = removed.map(|number| self.last(number)).collect();
        let replacing = settled.gone.iter().filter_map(|gone| match gone.fate {
            Fate::Replaced(by) => self.corpus.number(by),
            _ => None,
        });
        numbers.extend(replacing.map(|number| self.last(number)));
        numbers.sort_unstable();
        numbers.dedup();
        let (mut survivors, mut ids) = (Vec::with_capacity(numbers.len()), String::new());
        for_each_id(self.corpus, &numbers, |number, id| {
            ids.push_str(id);
            survivors.push((number, ids.len() as u64));
        })?;
        (self.survivors, self.ids) = (survivors, ids);
        Ok(())
    }

    /// Id of the document that stands for a number in the end, and the release that it is in.
    pub(super) fn survivor(&self, number: u32) -> (String, String) {
        let last = self.last(number);
        let found = self.survivors.binary_search_by_key(&last, |survivor| survivor.0).expect("every survivor was named");
        let start = found.checked_sub(1).map_or(0, |before| self.survivors[before].1);
        let id = self.ids[start as usize..self.survivors[found].1 as usize].to_owned();
        let release = self.corpus.part(last).release.map(|release| self.releases[usize::from(release)].clone());
        (id, release.unwrap_or_default())
    }

    /// As `survivor`, of a document of this run by its place.
    pub(super) fn survivor_at(&self, place: Place) -> Option<(String, String)> {
        self.corpus.number(place).map(|number| self.survivor(number))
    }
}

impl VerifyFacts {
    fn add(&mut self, other: &VerifyFacts) {
        self.comparisons += other.comparisons;
        for (source, lost) in &other.losses {
            let sum = self.losses.entry(*source).or_default();
            (sum.0, sum.1) = (sum.0 + lost.0, sum.1 + lost.1);
        }
        for (root, removed) in &other.largest {
            let sum = self.largest.entry(*root).or_default();
            (sum.0, sum.1) = (sum.0 + removed.0, sum.1 + removed.1);
        }
    }
}

/// Calls `visit` with the id of each number; the numbers rise.
fn for_each_id(corpus: &Corpus<'_>, numbers: &[u32], mut visit: impl FnMut(u32, &str)) -> Result<(), Failure> {
    for numbers in numbers.chunk_by(|a, b| corpus.part(*a).first == corpus.part(*b).first) {
        let part = corpus.part(numbers[0]);
        let (mut number, mut wanted) = (part.first, numbers.iter().copied().peekable());
        signatures::for_each_id(part.workdir, part.signatures, |id, _| {
            if wanted.next_if_eq(&number).is_some() {
                visit(number, id);
            }
            number += 1;
            Ok(())
        })?;
        if let Some(number) = wanted.next() {
            let row = number - part.first;
            return Err(Failure::Verification(format!("{}: no row {row}; run \"mellama verify\"", part.signatures.key)));
        }
    }
    Ok(())
}

fn ids_of(corpus: &Corpus<'_>, mut numbers: Vec<u32>) -> Result<BTreeMap<u32, String>, Failure> {
    numbers.sort_unstable();
    let mut ids = BTreeMap::new();
    for_each_id(corpus, &numbers, |number, id| {
        ids.insert(number, id.to_owned());
    })?;
    Ok(ids)
}

/// What each source of this run lost to verified removals.
fn losses(context: &Context<'_>, order: &OrderFacts, sums: &VerifyFacts) -> Vec<SourceLoss> {
    let sources = (0u16..).zip(&context.corpus().source).zip(&order.characters);
    let loss = |((index, source), total): ((u16, &crate::recipe::SourceRecipe), &u64)| {
        let (documents, characters) = sums.losses.get(&index).copied().unwrap_or_default();
        // An empty source has lost nothing.
        let share = characters as f64 / (*total).max(1) as f64;
        SourceLoss { source: source.name.clone(), documents, characters, total_characters: *total, share }
    };
    sources.map(loss).collect()
}
