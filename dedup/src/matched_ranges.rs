//! Where a document holds an item's n-grams, in bytes of the original text, so that they can be cut.
//!
//! A range goes from the first scalar of the first word to the last of the last word. Words are found in the normalized
//! text and mapped back by normalization segments (`normal`): a range is exact but for a word that begins or ends inside
//! one segment, where it takes the whole of it (of `½`, which reads 1⁄2, all two bytes).

use std::collections::BTreeSet;
use std::ops::Range;

use crate::contamination::BenchmarkIndex;
use crate::resolve::Boilerplate;

impl BenchmarkIndex {
    /// The byte ranges of `text` that hold n-grams of any of `items`, boilerplate not counted: ascending, not
    /// overlapping, on character boundaries.
    pub fn matched_ranges(&self, text: &str, items: &BTreeSet<u32>, boilerplate: &Boilerplate) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        self.scan(text, |id, _, range| {
            let wanted = |&part: &u32| items.contains(&self.parts[part as usize].item);
            if !boilerplate.contains(id) && self.tables[id.table].parts(id.gram).iter().any(wanted) {
                ranges.push(range);
            }
        });
        merged(ranges)
    }
}

/// Joins ranges that overlap.
pub(crate) fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ranges: &[(usize, usize)], expected: &[(usize, usize)]) {
        let got = merged(ranges.iter().map(|&(start, end)| start..end).collect());
        let got: Vec<(usize, usize)> = got.iter().map(|r| (r.start, r.end)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn overlapping_ranges_are_joined() {
        check(&[], &[]);
        check(&[(3, 5), (0, 2)], &[(0, 2), (3, 5)]);
        check(&[(0, 4), (2, 6), (5, 9)], &[(0, 9)]);
        // A whole short part inside a long n-gram.
        check(&[(10, 20), (0, 50)], &[(0, 50)]);
        check(&[(0, 50), (10, 20), (40, 60)], &[(0, 60)]);
        check(&[(0, 5), (0, 9), (0, 5)], &[(0, 9)]);
        // Ranges that only touch stay two.
        check(&[(0, 5), (5, 9)], &[(0, 5), (5, 9)]);
    }
}
