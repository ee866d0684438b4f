//! Merges the symbols of one segment: lowest rank first, leftmost first among equals. It knows no spaces and no files.
//!
//! Next person: three ways lead to the same ids. Up to [`FEW`] symbols are merged by looking at all of them at every step;
//! more are first cut where no merge can join two neighbours, and a part that is still long goes through a queue by rank, in
//! time linear in its symbols. Stale entries are recognised by looking the pair up again.

use std::collections::{HashMap, HashSet};

use super::alphabet::{Alphabet, FOREIGN, NumberHashing};
use super::pairs::{Merge, PairTable};
use super::rank_queue::RankQueue;

/// No symbol: the end of a list, or a symbol that was merged away.
const NONE: u32 = u32::MAX;
/// Most symbols that are merged by looking at all of them; above it the queue is quicker.
const FEW: usize = 48;
/// Most symbols whose buffers are kept for the next segment (about 2 MB).
const KEPT_SYMBOLS: usize = 1 << 16;

/// What text outside the alphabet becomes where no byte tokens stand for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) id: u32,
    /// Unknown characters side by side become one token.
    pub(super) fused: bool,
}

/// Tables of one vocabulary.
#[derive(Debug)]
pub(super) struct Merger {
    vocabulary_size: u32,
    alphabet: Alphabet,
    pairs: PairTable,
    /// First symbols that stand side by side in what some merge makes.
    neighbours: HashSet<u64, NumberHashing>,
    unknown: Option<Unknown>,
    /// Segments that are a token as a whole, whatever their merges say (`ignore_merges`).
    whole: HashMap<Box<[u8]>, u32>,
}

/// Buffers that are used again for each segment.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    numbers: Vec<u32>,
    starts: Vec<u32>,
    ranks: Vec<u32>,
    made: Vec<u32>,
    queue: RankQueue,
    ids: Vec<u32>,
}

impl Scratch {
    /// Gives back the memory of an extraordinary segment.
    pub(super) fn trim(&mut self) {
        if self.numbers.capacity() > KEPT_SYMBOLS {
            *self = Self::default();
        }
    }
}

impl Merger {
    /// A merger without unknown token and whole segments. `products` are the texts that merges make.
    pub(super) fn new<'a>(
        vocabulary_size: u32,
        alphabet: Alphabet,
        pairs: PairTable,
        products: impl Iterator<Item = &'a [u8]>,
    ) -> Self {
        let mut neighbours = HashSet::default();
        let mut numbers = Vec::new();
        for product in products {
            numbers.clear();
            alphabet.numbers(product, &mut numbers, &mut Vec::new());
            neighbours.extend(numbers.windows(2).map(|pair| neighbour_key(pair[0], pair[1])));
        }
        Self { vocabulary_size, alphabet, pairs, neighbours, unknown: None, whole: HashMap::new() }
    }

    pub(super) fn with_unknown(mut self, unknown: Unknown) -> Self {
        self.unknown = Some(unknown);
        self
    }

    pub(super) fn with_whole(mut self, whole: HashMap<Box<[u8]>, u32>) -> Self {
        self.whole = whole;
        self
    }

    /// The unknown token that a segment may both end and begin with, so that two become one.
    pub(super) fn fused_unknown(&self) -> Option<u32> {
        self.unknown.filter(|unknown| unknown.fused && !self.alphabet.has_bytes()).map(|unknown| unknown.id)
    }

    /// Ids of one segment, in `scratch` until the next call.
    pub(super) fn encode<'a>(&self, segment: &[u8], scratch: &'a mut Scratch) -> &'a [u32] {
        scratch.ids.clear();
        if !self.whole.is_empty()
            && let Some(id) = self.whole.get(segment)
        {
            scratch.ids.push(*id);
            return &scratch.ids;
        }
        scratch.numbers.clear();
        scratch.starts.clear();
        self.alphabet.numbers(segment, &mut scratch.numbers, &mut scratch.starts);
        let count = scratch.numbers.len();
        if count <= FEW {
            self.part(segment, 0..count, scratch);
            return &scratch.ids;
        }
        let mut start = 0;
        for at in 1..count {
            if !self.neighbours.contains(&neighbour_key(scratch.numbers[at - 1], scratch.numbers[at])) {
                self.part(segment, start..at, scratch);
                start = at;
            }
        }
        self.part(segment, start..count, scratch);
        &scratch.ids
    }

    /// Merges the symbols of `range`, none of which merges with one outside, and appends their ids.
    fn part(&self, segment: &[u8], range: std::ops::Range<usize>, scratch: &mut Scratch) {
        let Scratch { numbers, starts, ranks, made, queue, ids } = scratch;
        let (numbers, starts) = (&mut numbers[range.clone()], &mut starts[range]);
        let left = if numbers.len() <= FEW {
            self.merge_few(numbers, starts, ranks, made)
        } else {
            // The buffers of `merge_few` hold the two lists.
            self.merge_many(numbers, (ranks, made), queue);
            compact(numbers, starts)
        };
        for (number, start) in numbers[..left].iter().zip(starts) {
            self.emit(*number, &segment[*start as usize..], ids);
        }
    }

    /// Merges in place; returns how many symbols are left.
    fn merge_few(&self, numbers: &mut [u32], starts: &mut [u32], ranks: &mut Vec<u32>, made: &mut Vec<u32>) -> usize {
        let mut count = numbers.len();
        ranks.clear();
        made.clear();
        for pair in numbers.windows(2) {
            let merge = self.merge(pair[0], pair[1]);
            ranks.push(merge.rank);
            made.push(merge.made);
        }
        // The pair at `i` is that of symbols `i` and `i + 1`.
        loop {
            let (mut at, mut lowest) = (0, NONE);
            for (index, rank) in ranks.iter().enumerate() {
                if *rank < lowest {
                    (at, lowest) = (index, *rank);
                }
            }
            if lowest == NONE {
                return count;
            }
            numbers[at] = made[at];
            numbers.copy_within(at + 2..count, at + 1);
            starts.copy_within(at + 2..count, at + 1);
            ranks.remove(at);
            made.remove(at);
            count -= 1;
            for left in [at.wrapping_sub(1), at] {
                if left < ranks.len() {
                    let merge = self.merge(numbers[left], numbers[left + 1]);
                    (ranks[left], made[left]) = (merge.rank, merge.made);
                }
            }
        }
    }

    /// Merges with a queue; symbols that were merged away become [`NONE`].
    fn merge_many(&self, numbers: &mut [u32], lists: (&mut Vec<u32>, &mut Vec<u32>), queue: &mut RankQueue) {
        let (previous, next) = lists;
        let count = numbers.len() as u32;
        previous.clear();
        previous.extend((0..count).map(|at| at.wrapping_sub(1)));
        next.clear();
        next.extend((1..count).chain([NONE]));
        let merge = |numbers: &[u32], left: u32, right: u32| self.pairs.get(numbers[left as usize], numbers[right as usize]);
        for right in 1..count {
            if let Some(found) = merge(numbers, right - 1, right) {
                queue.push(found.rank, right - 1);
            }
        }
        while let Some((rank, left)) = queue.pop() {
            let right = next[left as usize];
            if numbers[left as usize] == NONE || right == NONE {
                continue;
            }
            let Some(found) = merge(numbers, left, right).filter(|found| found.rank == rank) else { continue };
            numbers[left as usize] = found.made;
            numbers[right as usize] = NONE;
            let after = next[right as usize];
            next[left as usize] = after;
            if after != NONE {
                previous[after as usize] = left;
                if let Some(found) = merge(numbers, left, after) {
                    queue.push(found.rank, left);
                }
            }
            let before = previous[left as usize];
            if before != NONE
                && let Some(found) = merge(numbers, before, left)
            {
                queue.push(found.rank, before);
            }
        }
    }

    #[inline]
    fn merge(&self, left: u32, right: u32) -> Merge {
        self.pairs.get(left, right).unwrap_or(Merge { rank: NONE, made: NONE })
    }

    /// Appends the id of a symbol whose text begins `rest`, or what stands for a character without one.
    fn emit(&self, number: u32, rest: &[u8], ids: &mut Vec<u32>) {
        if number < self.vocabulary_size {
            ids.push(number);
        } else if !self.alphabet.bytes_of_first(rest, ids)
            && let Some(unknown) = self.unknown
            && !(unknown.fused && ids.last() == Some(&unknown.id))
        {
            ids.push(unknown.id);
        }
    }
}

/// Moves the symbols that are left to the front; returns how many they are.
fn compact(numbers: &mut [u32], starts: &mut [u32]) -> usize {
    let mut kept = 0;
    for at in 0..numbers.len() {
        if numbers[at] != NONE {
            (numbers[kept], starts[kept]) = (numbers[at], starts[at]);
            kept += 1;
        }
    }
    kept
}

/// Characters outside every token have no neighbours that they merge with.
fn neighbour_key(left: u32, right: u32) -> u64 {
    if left == FOREIGN || right == FOREIGN { u64::MAX } else { u64::from(left) << 32 | u64::from(right) }
}
