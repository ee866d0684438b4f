//! Which of several documents is preferred, and the two joins that need no text: equal ids and equal exact hashes.
//!
//! The priority is a total order: rank of the source (smaller first), length (longest first: words, then characters, so
//! that a copy does not gain by blanks), document id (bytes). Of entries with one id the highest version comes first,
//! then the one that was given first; this last tie is the only place where the order of the entries counts, and only
//! between copies of one version.

use std::cmp::{Ordering, Reverse};

use rayon::slice::ParallelSliceMut;

use crate::entry::{Entry, Removal, Rule};

/// Entry indexes by priority: position 0 is preferred to all others.
pub(crate) fn by_priority(entries: &[Entry]) -> Vec<u32> {
    let mut order = indexes(entries);
    order.par_sort_unstable_by(|&a, &b| {
        let key = |e: &Entry| (e.rank, Reverse(e.sketch.words), Reverse(e.characters));
        let (x, y) = (&entries[a as usize], &entries[b as usize]);
        key(x).cmp(&key(y)).then_with(|| by_id(entries, a, b))
    });
    order
}

/// Of the entries with one id all but the newest: an older version, or a copy of the same text (`exact`:
/// two records without an id of their own have one id when their texts are one). Records of one id and version with other
/// texts are both kept: nothing proves that either stands for the other.
pub(crate) fn same_ids(entries: &[Entry]) -> Vec<Removal> {
    let mut order = indexes(entries);
    order.par_sort_unstable_by(|&a, &b| by_id(entries, a, b));
    let equal = |a: &u32, b: &u32| entries[*a as usize].id == entries[*b as usize].id;
    let mut found = removals(order.chunk_by(equal), Rule::SameId);
    found.retain_mut(|removal| {
        let (dropped, kept) = (&entries[removal.dropped], &entries[removal.kept]);
        if dropped.sketch.exact == kept.sketch.exact {
            removal.rule = Rule::Exact;
        }
        removal.rule == Rule::Exact || dropped.version < kept.version
    });
    found
}

/// Of the entries with one exact hash all but the preferred. `order` holds indexes by priority.
pub(crate) fn exact_copies(entries: &[Entry], order: &[u32]) -> Vec<Removal> {
    let hash = |ordinal: u32| entries[order[ordinal as usize] as usize].sketch.exact;
    let mut ordinals: Vec<u32> = (0..order.len() as u32).collect();
    ordinals.par_sort_unstable_by_key(|&ordinal| (hash(ordinal), ordinal));
    let groups: Vec<Vec<u32>> = ordinals
        .chunk_by(|&a, &b| hash(a) == hash(b))
        .filter(|group| group.len() > 1)
        .map(|group| group.iter().map(|&o| order[o as usize]).collect())
        .collect();
    removals(groups.iter().map(Vec::as_slice), Rule::Exact)
}

fn by_id(entries: &[Entry], a: u32, b: u32) -> Ordering {
    let (x, y) = (&entries[a as usize], &entries[b as usize]);
    x.id.as_bytes().cmp(y.id.as_bytes()).then(y.version.cmp(&x.version)).then(a.cmp(&b))
}

/// Keeps the first of each group.
fn removals<'a>(groups: impl Iterator<Item = &'a [u32]>, rule: Rule) -> Vec<Removal> {
    let mut removals = Vec::new();
    for group in groups {
        for &dropped in &group[1..] {
            removals.push(Removal { dropped: dropped as usize, kept: group[0] as usize, rule, similarity: 1.0 });
        }
    }
    removals
}

fn indexes(entries: &[Entry]) -> Vec<u32> {
    (0..entries.len() as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal::NormalForm;
    use crate::sketch::Sketch;

    /// (id, version, rank, characters, exact)
    type Row = (&'static str, u32, u32, u64, u8);

    fn entries(rows: &[Row]) -> Vec<Entry> {
        rows.iter()
            .map(|&(id, version, rank, characters, exact)| Entry {
                id: id.to_string(),
                source: 0,
                version,
                rank,
                characters,
                form: NormalForm::Plain,
                exact_only: false,
                sketch: Sketch { exact: [exact; 16], words: 0, bands: Vec::new() },
            })
            .collect()
    }

    fn check_order(rows: &[Row], expected: &[u32]) {
        assert_eq!(by_priority(&entries(rows)), expected);
    }

    #[test]
    fn words_before_characters() {
        let mut padded = entries(&[("a", 1, 0, 90, 0), ("b", 1, 0, 80, 0)]);
        padded[0].sketch.words = 9;
        padded[1].sketch.words = 10;
        assert_eq!(by_priority(&padded), [1, 0]);
        padded[0].rank = 0;
        padded[1].rank = 1;
        assert_eq!(by_priority(&padded), [0, 1]);
    }

    #[test]
    fn rank_then_length_then_id() {
        check_order(&[], &[]);
        check_order(&[("b", 1, 0, 5, 0), ("a", 1, 0, 5, 0)], &[1, 0]);
        check_order(&[("a", 1, 0, 5, 0), ("b", 1, 0, 6, 0)], &[1, 0]);
        check_order(&[("a", 1, 1, 9, 0), ("b", 1, 0, 6, 0)], &[1, 0]);
        // The version decides between copies of one id only.
        check_order(&[("a", 1, 0, 5, 0), ("b", 9, 0, 5, 0)], &[0, 1]);
        check_order(&[("a", 1, 0, 5, 0), ("a", 9, 0, 5, 0)], &[1, 0]);
        check_order(&[("a", 1, 0, 5, 0), ("a", 1, 0, 5, 0)], &[0, 1]);
    }

    fn pairs(removals: &[Removal]) -> Vec<(usize, usize)> {
        removals.iter().map(|r| (r.dropped, r.kept)).collect()
    }

    fn check_same_ids(rows: &[Row], expected: &[(usize, usize)]) {
        assert_eq!(pairs(&same_ids(&entries(rows))), expected);
    }

    #[test]
    fn the_newest_version_of_an_id_stays() {
        check_same_ids(&[("a", 1, 0, 5, 0), ("b", 1, 0, 5, 0)], &[]);
        check_same_ids(&[("a", 1, 0, 5, 0), ("a", 2, 0, 1, 0)], &[(0, 1)]);
        // A newer version wins over a better rank.
        check_same_ids(&[("a", 2, 7, 5, 0), ("a", 1, 0, 9, 0)], &[(1, 0)]);
        // Equal versions: the first entry stays.
        check_same_ids(&[("a", 2, 0, 5, 0), ("a", 1, 0, 9, 0), ("a", 2, 0, 99, 0)], &[(2, 0), (1, 0)]);
    }

    fn check_exact(rows: &[Row], expected: &[(usize, usize)]) {
        let entries = entries(rows);
        let order = by_priority(&entries);
        assert_eq!(pairs(&exact_copies(&entries, &order)), expected);
    }

    #[test]
    fn the_preferred_exact_copy_stays() {
        check_exact(&[("a", 1, 0, 5, 1), ("b", 1, 0, 5, 2)], &[]);
        check_exact(&[("b", 1, 0, 5, 1), ("a", 1, 0, 5, 1)], &[(0, 1)]);
        check_exact(&[("a", 1, 1, 5, 1), ("b", 1, 0, 5, 1), ("c", 1, 2, 5, 1)], &[(0, 1), (2, 1)]);
    }
}
