//! Which documents of the corpus hold a benchmark item, and what the policy takes of them.
//!
//! Hits are read twice, one object at a time: to count n-grams, then to judge each document. In memory stay four bytes for each
//! n-gram of the benchmarks, the documents that hold an item, and the first [`PARTIAL_DOCUMENTS`] of those that hold less.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use mellama_dedup::{BOILERPLATE_DOCUMENTS, BenchmarkIndex, Boilerplate, Frequencies};
use mellama_storage::{ObjectEntry, TaskCommit};
use serde_json::{Value, json};

use super::facts::Tallies;
use super::{DocumentHits, Hit, index, read};
use crate::context::Context;
use crate::documents::{self, Place};
use crate::failure::{Failure, chain};
use crate::recipe::DecontaminateRecipe;

/// Documents listed of those that hold only a part of an item; all are counted.
const PARTIAL_DOCUMENTS: usize = 100_000;
/// Items listed of one document, of those that it holds and of those that it shares less with; the greatest shares first.
const LISTED_ITEMS: usize = 32;

/// A document that shares something with a benchmark.
#[derive(Debug, Clone)]
pub(crate) struct Leak {
    pub place: Place,
    pub id: String,
    /// Bytes of its text.
    pub bytes: u64,
    /// Byte ranges to cut; empty where the whole document goes.
    pub ranges: Vec<(u64, u64)>,
    shared: Shared,
    action: Action,
    /// Items that are not listed.
    left_out: usize,
}

/// What the policy does with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It goes.
    Removed,
    /// Parts of it go.
    Cut,
    /// It stays, and is reported.
    Reported,
    /// It holds less than the least share of every item.
    Kept,
}

/// One item that a document shares something with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub item: u32,
    /// Share of the n-grams of its best part; none where only the name matches.
    pub share: Option<f64>,
    /// Whether the document is a record that the item was made from.
    pub by_name: bool,
}

/// The items that a document holds, and those of which it holds less, each ascending.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    pub items: Vec<Found>,
    pub partial: Vec<Found>,
}

/// The documents that hold an item, in the order of the corpus, and those that hold less. Iterates over the former.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    leaks: Vec<Leak>,
    partial: Vec<Leak>,
}

/// The leaks of a corpus.
pub(crate) struct Leaks {
    pub rows: Findings,
    pub facts: Value,
}

impl<'f> IntoIterator for &'f Findings {
    type Item = &'f Leak;
    type IntoIter = std::slice::Iter<'f, Leak>;

    fn into_iter(self) -> Self::IntoIter {
        self.leaks.iter()
    }
}

impl Action {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Action::Removed => "removed",
            Action::Cut => "cut",
            Action::Reported => "reported",
            Action::Kept => "kept",
        }
    }
}

/// What has become of documents before benchmarks are looked at.
pub(crate) trait Fates {
    /// Whether a document is removed.
    fn is_gone(&self, place: Place) -> bool;

    /// The document that stands for a removed one, if it is in this run.
    fn stands_for(&self, place: Place) -> Option<Place>;
}

/// Decides which documents of the corpus hold a benchmark item. Removed ones do not count, but what they are named passes to the
/// documents that stand for them: those say the same.
///
/// # Errors
/// `Failure::Verification` for damaged objects.
pub(crate) fn leaks(
    context: &Context<'_>,
    commits: &[TaskCommit],
    recipe: &DecontaminateRecipe,
    fates: &dyn Fates,
) -> Result<Leaks, Failure> {
    let index = index(context)?.expect("called with [corpus.decontaminate]");
    let mut frequencies = Frequencies::new(&index);
    let mut inherited: BTreeMap<Place, BTreeSet<u64>> = BTreeMap::new();
    each_hit(context, commits, |hit| {
        if !fates.is_gone(hit.place) {
            frequencies.add(&index, &hit.hits.grams);
        } else if !hit.hits.excluded.is_empty()
            && let Some(kept) = fates.stands_for(hit.place)
        {
            inherited.entry(kept).or_default().extend(&hit.hits.excluded);
        }
        Ok(())
    })?;
    let boilerplate = frequencies.boilerplate(&index, BOILERPLATE_DOCUMENTS);
    drop(frequencies);
    let mut tallies = Tallies::new(&index, &boilerplate);
    let mut judge = Judge { context, commits, index: &index, boilerplate: &boilerplate, recipe, block: None };
    let mut rows = Findings::default();
    let mut take = |hit: Hit| {
        let Some(mut leak) = judge.judge(hit)? else { return Ok(()) };
        let taken = leak.taken_bytes();
        let source = context.source_name(context.plan.ingest[leak.place.task as usize].source);
        tallies.add(source, &leak.shared, leak.action, taken);
        leak.list();
        match leak.action {
            Action::Kept if rows.partial.len() == PARTIAL_DOCUMENTS => tallies.unlisted += 1,
            Action::Kept => rows.partial.push(leak),
            _ => rows.leaks.push(leak),
        }
        Ok(())
    };
    each_hit(context, commits, |mut hit| {
        if fates.is_gone(hit.place) {
            return Ok(());
        }
        let items = inherited.remove(&hit.place).unwrap_or_default();
        hit.hits.excluded = items.into_iter().chain(hit.hits.excluded).collect::<BTreeSet<u64>>().into_iter().collect();
        take(hit)
    })?;
    for (place, items) in inherited {
        take(named(context, commits, place, items)?)?;
    }
    rows.leaks.sort_unstable_by_key(|leak| leak.place);
    Ok(Leaks { facts: tallies.facts(recipe), rows })
}

/// Publishes who shares what: ids and shares, one JSON line a document; those that hold an item first.
///
/// # Errors
/// `Failure::Storage`.
pub(crate) fn publish_leaks(context: &Context<'_>, rows: &Findings) -> Result<ObjectEntry, Failure> {
    let index = index(context)?.expect("called with [corpus.decontaminate]");
    let list = |found: &[Found]| -> Vec<Value> {
        let line = |found: &Found| {
            let item = index.item(found.item);
            json!({"benchmark": item.benchmark, "item": item.item, "share": found.share, "by_name": found.by_name})
        };
        found.iter().map(line).collect()
    };
    let mut part = context.workdir.part()?;
    for leak in rows.leaks.iter().chain(&rows.partial) {
        let line = json!({
            "id": leak.id,
            "contaminated": leak.action != Action::Kept,
            "action": leak.action.as_str(),
            "items": list(&leak.shared.items),
            "partial": list(&leak.shared.partial),
            "left_out": leak.left_out,
        });
        writeln!(part, "{line}").map_err(|e| Failure::writing("contamination", &e))?;
    }
    Ok(part.finish("contamination", "documents", "jsonl", (rows.leaks.len() + rows.partial.len()) as u64)?)
}

/// A document that has nothing of a benchmark but the names that it inherits.
fn named(context: &Context<'_>, commits: &[TaskCommit], place: Place, items: BTreeSet<u64>) -> Result<Hit, Failure> {
    let entry = documents::object_of(&commits[place.task as usize]).expect("a document lies in an object that was written");
    let wrong = |e: &dyn std::fmt::Display| Failure::Verification(format!("{}: row {}: {e}", entry.key, place.row));
    let document = documents::open(context.workdir, entry)?.select(&[u64::from(place.row)]).next();
    let document = document.ok_or_else(|| wrong(&"absent"))?.map_err(|e| wrong(&chain(&e)))?;
    let hits = DocumentHits { grams: Vec::new(), excluded: items.into_iter().collect() };
    Ok(Hit { place, id: document.id, bytes: document.text.len() as u64, hits })
}

/// Calls `visit` with every hit in the order of the corpus; one object is in memory at a time.
fn each_hit(
    context: &Context<'_>,
    commits: &[TaskCommit],
    mut visit: impl FnMut(Hit) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for commit in commits {
        for entry in commit.objects.iter().filter(|entry| entry.key.starts_with("overlaps/")) {
            read(context.workdir, commit.task as u32, entry)?.into_iter().try_for_each(&mut visit)?;
        }
        context.check_stop()?;
    }
    Ok(())
}

impl Leak {
    /// Whether the whole document goes for what its text shares, and not because it is a record that an item was made from.
    pub(crate) fn goes_for_its_text(&self) -> bool {
        self.action == Action::Removed && !self.shared.items.iter().any(|found| found.by_name)
    }

    /// Bytes that the policy takes; of what is only reported all that it could.
    fn taken_bytes(&self) -> u64 {
        if self.action == Action::Cut { self.ranges.iter().map(|(start, end)| end - start).sum() } else { self.bytes }
    }

    /// Leaves the greatest shares in the lists; a match by name goes first.
    fn list(&mut self) {
        for list in [&mut self.shared.items, &mut self.shared.partial] {
            self.left_out += list.len().saturating_sub(LISTED_ITEMS);
            let rank = |found: &Found| if found.by_name { f64::INFINITY } else { found.share.unwrap_or(0.0) };
            list.sort_by(|a, b| rank(b).total_cmp(&rank(a)).then(a.item.cmp(&b.item)));
            list.truncate(LISTED_ITEMS);
            list.sort_unstable_by_key(|found| found.item);
            list.shrink_to_fit();
        }
    }
}

/// What the verdict on one document needs.
struct Judge<'a> {
    context: &'a Context<'a>,
    commits: &'a [TaskCommit],
    index: &'a BenchmarkIndex,
    boilerplate: &'a Boilerplate,
    recipe: &'a DecontaminateRecipe,
    /// The texts last read: task, first row, texts.
    block: Option<(u32, u32, Vec<String>)>,
}

impl Judge<'_> {
    /// None where nothing but boilerplate is shared.
    fn judge(&mut self, hit: Hit) -> Result<Option<Leak>, Failure> {
        let shared = self.shared(&hit);
        if shared.items.is_empty() && shared.partial.is_empty() {
            return Ok(None);
        }
        let (mut action, mut ranges) = match self.recipe.policy.as_str() {
            _ if shared.items.is_empty() => (Action::Kept, Vec::new()),
            "report" => (Action::Reported, Vec::new()),
            _ => (Action::Removed, Vec::new()),
        };
        // A document known by its name is the item's own source: cutting what matches would leave the rest of the abstract.
        if action == Action::Removed && self.recipe.policy == "cut" && hit.hits.excluded.is_empty() {
            ranges = self.ranges(hit.place, &shared)?;
            action = if ranges.is_empty() { Action::Removed } else { Action::Cut };
        }
        Ok(Some(Leak { place: hit.place, id: hit.id, bytes: hit.bytes, ranges, shared, action, left_out: 0 }))
    }

    fn shared(&self, hit: &Hit) -> Shared {
        let by_name = |share| Found { item: 0, share, by_name: true };
        let mut found: BTreeMap<u32, Found> = hit.hits.excluded.iter().map(|item| (*item as u32, by_name(None))).collect();
        for part in self.index.shares(&hit.hits.grams, self.boilerplate) {
            let best = found.entry(part.item).or_insert(Found { item: 0, share: None, by_name: false });
            best.share = Some(best.share.map_or(part.share, |share| share.max(part.share)));
        }
        let is_held = |found: &Found| found.by_name || found.share.is_some_and(|share| share >= self.recipe.min_share);
        let (items, partial) = found.into_iter().map(|(item, found)| Found { item, ..found }).partition(is_held);
        Shared { items, partial }
    }

    /// Where the items stand that a document holds; nothing where no word would be left beside them.
    fn ranges(&mut self, place: Place, shared: &Shared) -> Result<Vec<(u64, u64)>, Failure> {
        let items: BTreeSet<u32> = shared.items.iter().map(|found| found.item).collect();
        let (index, boilerplate) = (self.index, self.boilerplate);
        let text = self.text(place)?;
        let ranges = index.matched_ranges(text, &items, boilerplate);
        let ends = ranges.iter().map(|range| range.start).chain([text.len()]);
        let mut between = [0].into_iter().chain(ranges.iter().map(|range| range.end)).zip(ends);
        let is_left = between.any(|(start, end)| text[start..end].chars().any(char::is_alphanumeric));
        let ranges = if is_left { ranges } else { Vec::new() };
        Ok(ranges.into_iter().map(|range| (range.start as u64, range.end as u64)).collect())
    }

    /// Hits come in the order of the corpus, so the block that was read last often has the next text.
    fn text(&mut self, place: Place) -> Result<&str, Failure> {
        let is_in = |(task, first, texts): &(u32, u32, Vec<String>)| {
            *task == place.task && (*first..*first + texts.len() as u32).contains(&place.row)
        };
        if !self.block.as_ref().is_some_and(is_in) {
            let entry =
                documents::object_of(&self.commits[place.task as usize]).expect("a hit lies in an object that was written");
            let (first, texts) = documents::texts_around(self.context.workdir, entry, place.row)?;
            self.block = Some((place.task, first, texts));
        }
        let (_, first, texts) = self.block.as_ref().expect("read above");
        Ok(&texts[(place.row - first) as usize])
    }
}
