//! Which word n-grams of evaluation items a document holds, and where.
//!
//! Phase 1 looks at one document at a time ([`BenchmarkIndex::grams`], no state, any order); what it finds becomes a
//! verdict in phase 2 (`resolve`), when it is known which n-grams are boilerplate. Removing documents by the ids that
//! items name is the caller's part; [`BenchmarkIndex::items_excluding`] looks one up.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::gram_table::GramTable;
use crate::shingle::{Shingler, word_hash};
use crate::words::for_each_word;

/// Fewest words of a part that is shorter than an n-gram and is matched whole.
pub const MIN_WHOLE_WORDS: usize = 8;

/// Most words of an n-gram.
pub(crate) const MAX_NGRAM: usize = 64;

/// One item of an evaluation set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkItem {
    /// Name of the set.
    pub benchmark: String,
    /// Id of the item in it.
    pub item: String,
    /// Question, context, options, answer: each is matched by itself, no n-gram spans two.
    pub parts: Vec<String>,
    /// Ids of the documents that the item was made from, as `pmid:123`.
    pub excluded_ids: Vec<String>,
}

/// The n-grams of all items, and which parts hold them.
#[derive(Debug)]
pub struct BenchmarkIndex {
    pub(crate) items: Vec<BenchmarkItem>,
    pub(crate) parts: Vec<PartGrams>,
    /// One table for each length of n-gram: whole short parts, then n-grams. Ascending by length.
    pub(crate) tables: Vec<GramTable>,
    /// (excluded id, item), ascending.
    excluded: Vec<(String, u32)>,
    parts_unchecked: usize,
    items_unchecked: usize,
}

/// A part that has n-grams.
#[derive(Debug)]
pub(crate) struct PartGrams {
    pub(crate) item: u32,
    /// Position of the part in the item.
    pub(crate) part: u32,
    /// Distinct n-grams.
    pub(crate) grams: u32,
}

/// A distinct n-gram of the index: its table and its position there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GramId {
    pub(crate) table: usize,
    pub(crate) gram: usize,
}

/// What one document shares with one part of an item, before boilerplate is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// Index of the item.
    pub item: u32,
    /// Index of the part in the item.
    pub part: u32,
    /// Distinct n-grams of the part that the document holds / distinct n-grams of the part.
    pub share: f64,
    /// Hashes of those n-grams, ascending.
    pub grams: Vec<u64>,
    /// Where they stand: ascending byte ranges of the text that do not overlap, from first word to last word.
    pub ranges: Vec<Range<usize>>,
}

/// A benchmark index that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IndexError {
    /// The number of words is out of range.
    #[error("decontaminate: ngram: got {got}, expected 1 to {MAX_NGRAM}; 13 is the default")]
    Ngram {
        /// Words asked for.
        got: usize,
    },
    /// More n-grams than the index can number.
    #[error("decontaminate: got {got} benchmark n-grams, expected at most {}; use fewer sets", u32::MAX)]
    TooLarge {
        /// n-grams of all parts.
        got: usize,
    },
}

impl BenchmarkIndex {
    /// Indexes items by n-grams of `ngram` words of the plain normal form. A part with fewer words, but at least
    /// [`MIN_WHOLE_WORDS`], is one gram of all its words; a shorter one is not checkable.
    ///
    /// # Errors
    /// `ngram` is out of range, or there are too many n-grams.
    pub fn build(items: Vec<BenchmarkItem>, ngram: usize) -> Result<Self, IndexError> {
        if ngram == 0 || ngram > MAX_NGRAM {
            return Err(IndexError::Ngram { got: ngram });
        }
        let mut occurrences: BTreeMap<usize, Vec<(u64, u32)>> = BTreeMap::new();
        let mut parts = Vec::new();
        let (mut parts_unchecked, mut items_unchecked) = (0, 0);
        for (item, content) in (0u32..).zip(&items) {
            let before = parts.len();
            for (part, text) in (0u32..).zip(&content.parts) {
                let Some((words, grams)) = part_grams(text, ngram) else {
                    parts_unchecked += 1;
                    continue;
                };
                let number = parts.len() as u32;
                parts.push(PartGrams { item, part, grams: grams.len() as u32 });
                let table = occurrences.entry(words).or_default();
                table.extend(grams.into_iter().map(|gram| (gram, number)));
            }
            items_unchecked += usize::from(parts.len() == before);
        }
        let got = occurrences.values().map(Vec::len).sum();
        if u32::try_from(got).is_err() {
            return Err(IndexError::TooLarge { got });
        }
        let tables = occurrences.into_iter().map(|(words, grams)| GramTable::new(words, grams));
        Ok(Self { tables: tables.collect(), parts, excluded: excluded(&items), items, parts_unchecked, items_unchecked })
    }

    /// The items, in the order given.
    pub fn items(&self) -> &[BenchmarkItem] {
        &self.items
    }

    /// One item.
    ///
    /// # Panics
    /// `index` is not one of this index's items.
    pub fn item(&self, index: u32) -> &BenchmarkItem {
        &self.items[index as usize]
    }

    /// Whether some part of an item is long enough to be looked for.
    pub fn is_checkable(&self, item: u32) -> bool {
        self.parts.binary_search_by_key(&item, |part| part.item).is_ok()
    }

    /// Items of which no part is long enough to be looked for.
    pub fn items_unchecked(&self) -> usize {
        self.items_unchecked
    }

    /// Parts that are too short to be looked for.
    pub fn parts_unchecked(&self) -> usize {
        self.parts_unchecked
    }

    /// Parts that are looked for.
    pub fn parts_checked(&self) -> usize {
        self.parts.len()
    }

    /// Distinct n-grams of all lengths.
    pub fn gram_count(&self) -> usize {
        self.tables.iter().map(GramTable::len).sum()
    }

    /// The items that were made from the document with this id, ascending.
    pub fn items_excluding(&self, id: &str) -> Vec<u32> {
        let start = self.excluded.partition_point(|(excluded, _)| excluded.as_str() < id);
        let same = self.excluded[start..].iter().take_while(|(excluded, _)| excluded == id);
        same.map(|&(_, item)| item).collect()
    }

    /// Phase 1: the hashes of the benchmark n-grams that a document holds, distinct and ascending. This is all that
    /// phase 2 needs of it; for nearly every document it is empty.
    pub fn grams(&self, text: &str) -> Vec<u64> {
        let mut grams = Vec::new();
        self.scan(text, |_, hash, _| grams.push(hash));
        grams.sort_unstable();
        grams.dedup();
        grams
    }

    /// Everything one document shares with any part, boilerplate included, ascending by item and part. For a report on a
    /// few documents; a corpus goes through [`Self::grams`] and phase 2.
    pub fn overlaps(&self, text: &str) -> Vec<Overlap> {
        let mut found: BTreeMap<u32, (Vec<u64>, Vec<Range<usize>>)> = BTreeMap::new();
        self.scan(text, |id, hash, range| {
            for &part in self.tables[id.table].parts(id.gram) {
                let (grams, ranges) = found.entry(part).or_default();
                grams.push(hash);
                ranges.push(range.clone());
            }
        });
        let overlap = |(number, (mut grams, ranges)): (u32, (Vec<u64>, Vec<Range<usize>>))| {
            grams.sort_unstable();
            grams.dedup();
            let part = &self.parts[number as usize];
            Overlap {
                item: part.item,
                part: part.part,
                share: grams.len() as f64 / f64::from(part.grams),
                grams,
                ranges: crate::matched_ranges::merged(ranges),
            }
        };
        found.into_iter().map(overlap).collect()
    }

    /// Calls `visit` with each n-gram of the index in the text: its id, its hash and the bytes from its first word to
    /// its last.
    pub(crate) fn scan(&self, text: &str, mut visit: impl FnMut(GramId, u64, Range<usize>)) {
        let Some(longest) = self.tables.last().map(GramTable::words) else {
            return;
        };
        let mut shinglers: Vec<Shingler> = self.tables.iter().map(|table| Shingler::new(table.words())).collect();
        // Start of word w at position w mod `longest`: the longest n-gram still finds its first word.
        let mut starts = vec![0; longest];
        let mut words = 0;
        for_each_word(text, |word, range| {
            starts[words % longest] = range.start;
            words += 1;
            let hash = word_hash(word);
            for (index, (shingler, table)) in shinglers.iter_mut().zip(&self.tables).enumerate() {
                if let Some(gram_hash) = shingler.push(hash)
                    && let Some(gram) = table.find(gram_hash)
                {
                    let start = starts[(words - table.words()) % longest];
                    let id = GramId { table: index, gram };
                    visit(id, gram_hash, start..range.end);
                }
            }
        });
    }

    /// Where a hash stands in the index.
    pub(crate) fn find(&self, hash: u64) -> Option<GramId> {
        self.tables.iter().enumerate().find_map(|(table, grams)| Some(GramId { table, gram: grams.find(hash)? }))
    }
}

/// Length and distinct hashes of the n-grams of a part; none if it is too short.
fn part_grams(text: &str, ngram: usize) -> Option<(usize, Vec<u64>)> {
    let mut words = Vec::new();
    for_each_word(text, |word, _| words.push(word_hash(word)));
    let length = match words.len() {
        count if count >= ngram => ngram,
        count if count >= MIN_WHOLE_WORDS => count,
        _ => return None,
    };
    let mut shingler = Shingler::new(length);
    let mut grams: Vec<u64> = words.into_iter().filter_map(|word| shingler.push(word)).collect();
    grams.sort_unstable();
    grams.dedup();
    Some((length, grams))
}

fn excluded(items: &[BenchmarkItem]) -> Vec<(String, u32)> {
    let mut excluded: Vec<(String, u32)> =
        (0u32..).zip(items).flat_map(|(number, item)| item.excluded_ids.iter().map(move |id| (id.clone(), number))).collect();
    excluded.sort_unstable();
    excluded.dedup();
    excluded
}
