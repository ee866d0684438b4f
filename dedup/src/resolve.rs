//! Phase 2 of the benchmark check: drops boilerplate n-grams and says which documents hold too much of an item.
//!
//! It reads no text. The caller gives what phase 1 found, of the documents that are still kept: copies that are removed
//! anyway must not turn a leaked item into boilerplate. It goes over them twice, one document at a time: all of them are
//! counted ([`Frequencies::add`]), then each is judged ([`BenchmarkIndex::shares`]). The memory is that of the index.

use serde::{Deserialize, Serialize};

use crate::contamination::{BenchmarkIndex, GramId};

/// An n-gram in more corpus documents than this is boilerplate.
pub const BOILERPLATE_DOCUMENTS: u32 = 10;

/// A document that holds at least this share of a part's n-grams is contaminated.
pub const MIN_SHARE: f64 = 0.8;

/// In how many documents each n-gram of an index occurs.
///
/// Counts of several tasks are added with [`Self::merge`]; the order does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frequencies {
    /// By table, by gram.
    counts: Vec<Vec<u32>>,
}

/// The n-grams of an index that do not count, and how many are left of each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boilerplate {
    /// By table, by gram.
    dropped: Vec<Vec<bool>>,
    /// By part: distinct n-grams that count.
    left: Vec<u32>,
    grams: u64,
}

/// What one document shares with one part of an item.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartOverlap {
    /// Index of the item.
    pub item: u32,
    /// Index of the part in the item.
    pub part: u32,
    /// Distinct n-grams of the part that the document holds, boilerplate not counted; at least 1.
    pub matched: u32,
    /// Distinct n-grams of the part, boilerplate not counted.
    pub grams: u32,
    /// `matched` / `grams`.
    pub share: f64,
}

impl Frequencies {
    /// Zero for each n-gram of `index`.
    pub fn new(index: &BenchmarkIndex) -> Self {
        let counts = index.tables.iter().map(|table| vec![0; table.len()]).collect();
        Self { counts }
    }

    /// Counts one document: its distinct n-grams from [`BenchmarkIndex::grams`]. Hashes that the index lacks are ignored.
    pub fn add(&mut self, index: &BenchmarkIndex, grams: &[u64]) {
        for id in grams.iter().filter_map(|&hash| index.find(hash)) {
            let count = &mut self.counts[id.table][id.gram];
            *count = count.saturating_add(1);
        }
    }

    /// Adds the counts of another set of documents, made with the same index.
    pub fn merge(&mut self, other: &Self) {
        let counts = self.counts.iter_mut().flatten();
        for (count, more) in counts.zip(other.counts.iter().flatten()) {
            *count = count.saturating_add(*more);
        }
    }

    /// The n-grams in more than `documents` documents.
    pub fn boilerplate(&self, index: &BenchmarkIndex, documents: u32) -> Boilerplate {
        let mut boilerplate = Boilerplate::none(index);
        for (table, counts) in self.counts.iter().enumerate() {
            for (gram, _) in counts.iter().enumerate().filter(|&(_, &count)| count > documents) {
                boilerplate.dropped[table][gram] = true;
                boilerplate.grams += 1;
                for &part in index.tables[table].parts(gram) {
                    boilerplate.left[part as usize] -= 1;
                }
            }
        }
        boilerplate
    }
}

impl Boilerplate {
    /// Nothing is boilerplate.
    pub fn none(index: &BenchmarkIndex) -> Self {
        Self {
            dropped: index.tables.iter().map(|table| vec![false; table.len()]).collect(),
            left: index.parts.iter().map(|part| part.grams).collect(),
            grams: 0,
        }
    }

    /// n-grams that do not count.
    pub fn gram_count(&self) -> u64 {
        self.grams
    }

    /// Parts of which every n-gram is boilerplate: they are not checked after all.
    pub fn part_count(&self) -> u64 {
        self.left.iter().filter(|&&left| left == 0).count() as u64
    }

    /// Items of which every part that could be looked for is boilerplate, ascending.
    pub fn items(&self, index: &BenchmarkIndex) -> Vec<u32> {
        let parts: Vec<(u32, u32)> = index.parts.iter().map(|part| part.item).zip(self.left.iter().copied()).collect();
        let items = parts.chunk_by(|a, b| a.0 == b.0);
        items.filter(|parts| parts.iter().all(|(_, left)| *left == 0)).map(|parts| parts[0].0).collect()
    }

    pub(crate) fn contains(&self, id: GramId) -> bool {
        self.dropped[id.table][id.gram]
    }
}

impl BenchmarkIndex {
    /// What a document with these n-grams shares with each part, boilerplate not counted; ascending by item and part.
    pub fn shares(&self, grams: &[u64], boilerplate: &Boilerplate) -> Vec<PartOverlap> {
        let counted = grams.iter().filter_map(|&hash| self.find(hash)).filter(|&id| !boilerplate.contains(id));
        let mut parts: Vec<u32> = counted.flat_map(|id| self.tables[id.table].parts(id.gram)).copied().collect();
        parts.sort_unstable();
        let overlap = |same: &[u32]| {
            let part = &self.parts[same[0] as usize];
            let grams = boilerplate.left[same[0] as usize];
            PartOverlap {
                item: part.item,
                part: part.part,
                matched: same.len() as u32,
                grams,
                share: same.len() as f64 / f64::from(grams),
            }
        };
        parts.chunk_by(|a, b| a == b).map(overlap).collect()
    }
}
