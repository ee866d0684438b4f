//! The merges of a vocabulary: two neighbouring symbols to the symbol that they make and its rank. It merges nothing.
//!
//! One open-addressed table of eight-byte slots, at most half full, so that a table of LLaMA-2's 61,249 merges takes one
//! megabyte. A slot holds both symbols and the number of the merge, and 0 is an empty slot:
//!
//! | bits | 42–62 | 21–41 | 0–20 |
//! |---|---|---|---|
//! | value | left symbol | right symbol | number of the merge, from 1 |

use super::Refusal;

/// Most merges of a table, and one more than the largest symbol number.
pub(super) const PAIRS_MAX: u64 = (1 << BITS) - 1;
const BITS: u32 = 21;
/// Most slots that one pair passes by. Tables of published vocabularies need fewer than fifty; a file made so that its
/// merges collide is refused instead of taking quadratic time.
const PROBES_MAX: u64 = 1 << 12;
/// Odd multiplier of Fibonacci hashing: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a pair makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merge {
    /// 0 is merged first.
    pub(super) rank: u32,
    /// The symbol that it makes.
    pub(super) made: u32,
}

/// Merges by their pair.
#[derive(Debug)]
pub(super) struct PairTable {
    slots: Box<[u64]>,
    shift: u32,
    merges: Vec<Merge>,
}

impl PairTable {
    /// A table of `merges`: left symbol, right symbol and what they make. Of a repeated pair the last one counts, as in
    /// the `tokenizers` crate.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] above [`PAIRS_MAX`] merges, or where too many pairs fall into one place.
    pub(super) fn new(merges: impl ExactSizeIterator<Item = (u32, u32, Merge)>) -> Result<Self, Refusal> {
        let count = merges.len() as u64;
        if count > PAIRS_MAX {
            return Err(Refusal::TooMany { what: "merges", found: count, limit: PAIRS_MAX });
        }
        let slots = (count * 2).next_power_of_two().max(16);
        let mut table = Self {
            slots: vec![0; slots as usize].into_boxed_slice(),
            shift: 64 - slots.trailing_zeros(),
            merges: Vec::with_capacity(count as usize),
        };
        for (left, right, merge) in merges {
            table.insert(left, right, merge)?;
        }
        Ok(table)
    }

    /// What `left` followed by `right` makes.
    #[inline]
    pub(super) fn get(&self, left: u32, right: u32) -> Option<Merge> {
        let pair = pair(left, right);
        let mut at = first_slot(pair, self.shift);
        loop {
            let slot = self.slots[at & (self.slots.len() - 1)];
            if slot == 0 {
                return None;
            }
            if slot >> BITS == pair {
                return Some(self.merges[(slot & PAIRS_MAX) as usize - 1]);
            }
            at += 1;
        }
    }

    fn insert(&mut self, left: u32, right: u32, merge: Merge) -> Result<(), Refusal> {
        let pair = pair(left, right);
        let first = first_slot(pair, self.shift);
        for probe in 0..PROBES_MAX as usize {
            let at = (first + probe) & (self.slots.len() - 1);
            let slot = self.slots[at];
            if slot == 0 {
                self.merges.push(merge);
                self.slots[at] = pair << BITS | self.merges.len() as u64;
                return Ok(());
            }
            if slot >> BITS == pair {
                self.merges[(slot & PAIRS_MAX) as usize - 1] = merge;
                return Ok(());
            }
        }
        Err(Refusal::TooMany { what: "merges that fall into one place", found: PROBES_MAX + 1, limit: PROBES_MAX })
    }
}

/// The first slot that a pair may be in.
#[inline]
fn first_slot(pair: u64, shift: u32) -> usize {
    ((pair ^ pair >> 32).wrapping_mul(MULTIPLIER) >> shift) as usize
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << BITS | u64::from(right)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_and_the_last_of_equal_ones_counts() {
        let pairs: Vec<(u32, u32, Merge)> =
            (0..5000_u32).map(|n| (n % 71, n / 71 * 400, Merge { rank: n, made: n + 1 })).collect();
        let again = (0, 0, Merge { rank: 7, made: 9 });
        let table = PairTable::new(pairs.iter().copied().chain([again]).collect::<Vec<_>>().into_iter()).unwrap();
        assert_eq!(table.get(0, 0), Some(again.2));
        for (left, right, merge) in &pairs[1..] {
            assert_eq!(table.get(*left, *right), Some(*merge));
            assert_eq!(table.get(*right + 1, *left), None);
        }
        assert_eq!(PairTable::new([].into_iter()).unwrap().get(0, 0), None);
    }

    #[test]
    fn case_36_merges_made_to_collide_are_refused() {
        let wanted = PROBES_MAX + 1;
        let shift = 64 - (wanted * 2).next_power_of_two().trailing_zeros();
        let pairs = (0..2048_u32).flat_map(|left| (0..1 << 20).map(move |right| (left, right)));
        let colliding = pairs.filter(|(left, right)| first_slot(pair(*left, *right), shift) == 7).take(wanted as usize);
        let merges: Vec<_> = colliding.map(|(left, right)| (left, right, Merge { rank: 0, made: 0 })).collect();
        let refused = |count: usize| PairTable::new(merges[..count].iter().copied()).is_err();
        assert_eq!(merges.len() as u64, wanted);
        assert!(refused(merges.len()) && !refused(merges.len() - 1));
    }

    #[test]
    fn the_largest_symbols_do_not_run_into_each_other() {
        let largest = PAIRS_MAX as u32;
        let made = |made| Merge { rank: 0, made };
        let table = PairTable::new([(largest, largest, made(1)), (largest, 0, made(2)), (0, largest, made(3))].into_iter());
        let table = table.unwrap();
        assert_eq!(table.get(largest, largest), Some(made(1)));
        assert_eq!(table.get(largest, 0), Some(made(2)));
        assert_eq!(table.get(0, largest), Some(made(3)));
        assert_eq!(table.get(0, 0), None);
    }
}
