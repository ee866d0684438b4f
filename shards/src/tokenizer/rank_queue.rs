//! A queue of possible merges: lowest rank first, leftmost first among equals, in time linear in the merges of a text.
//!
//! A text has many places and a vocabulary few ranks, so places wait in a list for each rank and only ranks are kept in a
//! heap. The list of the lowest rank is taken as a whole and put in order; what arrives meanwhile and comes before the rest of
//! it waits in a heap of its own, which holds a few places around the last merge. The order is that of a heap of all places,
//! for any vocabulary; `merge_many` of `merge.rs` uses it for segments of many symbols.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The end of a list.
const END: u32 = u32::MAX;

/// Places by rank. Ranks are below 2^32 − 1, places below 2^32 − 1.
#[derive(Debug, Default)]
pub(super) struct RankQueue {
    /// First entry of the list of each rank.
    lists: Vec<u32>,
    /// Ranks whose lists are not empty.
    ranks: BinaryHeap<Reverse<u32>>,
    /// Place and next entry, of all lists and of the free one.
    entries: Vec<(u32, u32)>,
    /// First free entry.
    free: Option<u32>,
    /// The rank that is being merged, with the places of its list that are to come, the next one last.
    current: (u32, Vec<u32>),
    /// What came in since and is not above that rank.
    urgent: BinaryHeap<Reverse<(u32, u32)>>,
}

impl RankQueue {
    /// Adds a place.
    #[inline]
    pub(super) fn push(&mut self, rank: u32, place: u32) {
        let is_merging = !(self.current.1.is_empty() && self.urgent.is_empty());
        if is_merging && rank <= self.current.0 {
            self.urgent.push(Reverse((rank, place)));
            return;
        }
        let list = rank as usize;
        if self.lists.len() <= list {
            self.lists.resize(list + 1, END);
        }
        let next = self.lists[list];
        if next == END {
            self.ranks.push(Reverse(rank));
        }
        self.lists[list] = self.entry(place, next);
    }

    /// Takes the next place out, with its rank.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(u32, u32)> {
        let (rank, places) = (self.current.0, &mut self.current.1);
        if let Some(Reverse(urgent)) = self.urgent.peek()
            && places.last().is_none_or(|place| *urgent < (rank, *place))
        {
            return self.urgent.pop().map(|Reverse(urgent)| urgent);
        }
        if let Some(place) = places.pop() {
            return Some((rank, place));
        }
        self.take_list()?;
        self.current.1.pop().map(|place| (self.current.0, place))
    }

    /// Makes the list of the lowest rank the current one.
    fn take_list(&mut self) -> Option<()> {
        let Reverse(rank) = self.ranks.pop()?;
        let places = &mut self.current.1;
        let mut at = std::mem::replace(&mut self.lists[rank as usize], END);
        while at != END {
            let (place, next) = self.entries[at as usize];
            places.push(place);
            self.entries[at as usize].1 = self.free.unwrap_or(END);
            self.free = Some(at);
            at = next;
        }
        // The last one that came in is the first of its list, and most came in from left to right: few runs, all falling.
        places.sort_by_key(|place| Reverse(*place));
        self.current.0 = rank;
        Some(())
    }

    fn entry(&mut self, place: u32, next: u32) -> u32 {
        let Some(at) = self.free else {
            self.entries.push((place, next));
            return (self.entries.len() - 1) as u32;
        };
        let after = self.entries[at as usize].1;
        self.free = (after != END).then_some(after);
        self.entries[at as usize] = (place, next);
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Pushes and pops in any order give what a heap of all places gives.
        #[test]
        fn the_order_is_that_of_a_heap(steps in prop::collection::vec(prop::option::of((0..9_u32, 0..40_u32)), 0..400)) {
            let (mut queue, mut heap) = (RankQueue::default(), BinaryHeap::new());
            let ends = std::iter::repeat_n(None, steps.len() + 1);
            for step in steps.into_iter().chain(ends) {
                if let Some((rank, place)) = step {
                    queue.push(rank, place);
                    heap.push(Reverse((rank, place)));
                } else {
                    prop_assert_eq!(queue.pop(), heap.pop().map(|Reverse(first)| first));
                }
            }
            prop_assert!(queue.entries.len() <= 400 && queue.lists.len() <= 9);
        }
    }
}
