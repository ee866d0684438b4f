//! What decontamination says of itself: items and documents by benchmark, source × benchmark, and how much partial hits share.

use std::collections::{BTreeMap, BTreeSet};

use mellama_dedup::{BenchmarkIndex, Boilerplate};
use serde_json::{Value, json};

use super::verdict::{Action, Shared};
use crate::recipe::DecontaminateRecipe;

/// Counts while documents are judged.
pub(super) struct Tallies<'a> {
    index: &'a BenchmarkIndex,
    boilerplate: &'a Boilerplate,
    sets: BTreeMap<&'a str, Set>,
    /// By source and set: documents that hold an item, and the items.
    matrix: BTreeMap<String, BTreeMap<&'a str, (u64, BTreeSet<u32>)>>,
    documents: u64,
    partial: u64,
    /// Documents with partial hits that are not listed.
    pub unlisted: u64,
}

/// One benchmark. A document counts in each that it shares something with.
#[derive(Default)]
struct Set {
    items: u64,
    by_ngram: u64,
    by_id: u64,
    unchecked: u64,
    boilerplate: u64,
    found: BTreeSet<u32>,
    found_by_id: BTreeSet<u32>,
    /// Documents and bytes by what became of them.
    taken: BTreeMap<&'static str, (u64, u64)>,
    /// Documents that hold no item of the set whole, by tenths of the greatest share.
    tenths: [u64; 10],
}

impl<'a> Tallies<'a> {
    pub(super) fn new(index: &'a BenchmarkIndex, boilerplate: &'a Boilerplate) -> Self {
        let mut sets: BTreeMap<&str, Set> = BTreeMap::new();
        for (number, item) in (0u32..).zip(index.items()) {
            let set = sets.entry(&item.benchmark).or_default();
            let (by_ngram, by_id) = (index.is_checkable(number), !item.excluded_ids.is_empty());
            set.items += 1;
            set.by_ngram += u64::from(by_ngram);
            set.by_id += u64::from(by_id);
            set.unchecked += u64::from(!by_ngram && !by_id);
        }
        for item in boilerplate.items(index) {
            sets.get_mut(index.item(item).benchmark.as_str()).expect("every item has its set").boilerplate += 1;
        }
        Self { index, boilerplate, sets, matrix: BTreeMap::new(), documents: 0, partial: 0, unlisted: 0 }
    }

    /// Counts one document of a source, of which the policy takes `bytes`.
    pub(super) fn add(&mut self, source: &str, shared: &Shared, action: Action, bytes: u64) {
        let index = self.index;
        let set_of = |item: u32| index.item(item).benchmark.as_str();
        self.documents += u64::from(action != Action::Kept);
        self.partial += u64::from(action == Action::Kept);
        let mut held: BTreeSet<&'a str> = BTreeSet::new();
        for found in &shared.items {
            let name = set_of(found.item);
            let set = self.sets.get_mut(name).expect("every item has its set");
            set.found.insert(found.item);
            if found.by_name {
                set.found_by_id.insert(found.item);
            }
            let cell = self.matrix.entry(source.to_owned()).or_default().entry(name).or_default();
            cell.1.insert(found.item);
            if held.insert(name) {
                cell.0 += 1;
                let taken = set.taken.entry(action.as_str()).or_default();
                *taken = (taken.0 + 1, taken.1 + bytes);
            }
        }
        let mut best: BTreeMap<&'a str, f64> = BTreeMap::new();
        for found in &shared.partial {
            let share = best.entry(set_of(found.item)).or_default();
            *share = share.max(found.share.unwrap_or(0.0));
        }
        for (name, share) in best.into_iter().filter(|(name, _)| !held.contains(name)) {
            let tenth = ((share * 10.0) as usize).min(9);
            self.sets.get_mut(name).expect("every item has its set").tenths[tenth] += 1;
        }
    }

    pub(super) fn facts(&self, recipe: &DecontaminateRecipe) -> Value {
        let sum = |count: fn(&Set) -> u64| self.sets.values().map(count).sum::<u64>();
        let by_source = |cell: fn(&(u64, BTreeSet<u32>)) -> u64| -> BTreeMap<&String, BTreeMap<&str, u64>> {
            let row =
                |row: &BTreeMap<&'a str, (u64, BTreeSet<u32>)>| row.iter().map(|(name, found)| (*name, cell(found))).collect();
            self.matrix.iter().map(|(source, found)| (source, row(found))).collect()
        };
        json!({
            "policy": recipe.policy,
            "ngram": recipe.ngram,
            "min_share": recipe.min_share,
            "items": self.sets.iter().map(|(name, set)| (*name, set.items)).collect::<BTreeMap<_, _>>(),
            "items_unchecked": sum(|set| set.unchecked),
            "benchmarks": self.sets.iter().map(|(name, set)| (*name, set.facts())).collect::<BTreeMap<_, _>>(),
            "documents": self.documents,
            "documents_partial": self.partial,
            "documents_partial_unlisted": self.unlisted,
            "boilerplate_grams": self.boilerplate.gram_count(),
            "boilerplate_parts": self.boilerplate.part_count(),
            "source_by_benchmark": by_source(|found| found.0),
            "source_by_benchmark_items": by_source(|found| found.1.len() as u64),
        })
    }
}

impl Set {
    fn facts(&self) -> Value {
        let taken = |action: Action| self.taken.get(action.as_str()).copied().unwrap_or_default();
        let both = |action: Action| json!({"documents": taken(action).0, "bytes": taken(action).1});
        json!({
            "items": self.items,
            "items_by_ngram": self.by_ngram,
            "items_by_id": self.by_id,
            "items_unchecked": self.unchecked,
            "items_boilerplate": self.boilerplate,
            "items_found": self.found.len(),
            "items_found_by_id": self.found_by_id.len(),
            "removed": both(Action::Removed),
            "cut": both(Action::Cut),
            "reported": both(Action::Reported),
            "documents_partial": self.tenths.iter().sum::<u64>(),
            "partial_by_tenth": self.tenths,
        })
    }
}
