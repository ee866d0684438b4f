//! Where the trainer's sequences come from, and in which order it takes them.
//!
//! The order is a function of the global position alone: nothing is shuffled in memory and nothing is skipped over
//! after a resume. The sequences' content, masks and packing are the shards' concern.

use std::error::Error;

use mellama_shards::order::prf;
use mellama_shards::{Sequence, ShardSet};

/// A finite list of packed sequences with O(1) access; the same index gives the same sequence at any time.
pub trait SequenceSource: Sync {
    /// Sequences of one pass, n.
    fn len(&self) -> u64;

    /// The sequence at `index`, in [0, n), in the order the shards store them.
    ///
    /// # Errors
    /// [`SourceError`] when it cannot be read.
    fn sequence(&self, index: u64) -> Result<Sequence, SourceError>;

    /// Whether there is no sequence at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A sequence that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("sequence {index}: cannot be read")]
pub struct SourceError {
    /// Its index in the source.
    pub index: u64,
    /// What went wrong; no text of a document.
    pub source: Box<dyn Error + Send + Sync>,
}

impl SequenceSource for ShardSet {
    fn len(&self) -> u64 {
        ShardSet::len(self)
    }

    fn sequence(&self, index: u64) -> Result<Sequence, SourceError> {
        ShardSet::sequence(self, index).map_err(|error| SourceError { index, source: Box::new(error) })
    }
}

impl SequenceSource for Vec<Sequence> {
    fn len(&self) -> u64 {
        <[Sequence]>::len(self) as u64
    }

    fn sequence(&self, index: u64) -> Result<Sequence, SourceError> {
        let found = usize::try_from(index).ok().and_then(|at| self.get(at)).cloned();
        let expected = <[Sequence]>::len(self);
        found.ok_or_else(|| SourceError { index, source: format!("past the end, expected below {expected}").into() })
    }
}

/// The order of training: global position g = step · B + b stands for pass e = g div n and, within the pass, the
/// sequence `π_e(g mod n)`. `π_0` is the identity, because shards are written in training order; later passes use a
/// keyed permutation each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingOrder {
    /// Sequences of one pass, n; not 0.
    pub sequences: u64,
    /// The recipe's seed.
    pub seed: u64,
}

impl TrainingOrder {
    /// Index in the source of the sequence at a global position.
    pub fn index(&self, position: u64) -> u64 {
        let (epoch, within) = (position / self.sequences, position % self.sequences);
        if epoch == 0 { within } else { Permutation::new(self.sequences, self.seed, epoch).apply(within) }
    }

    /// The pass that a global position belongs to, from 0.
    pub fn epoch(&self, position: u64) -> u64 {
        position / self.sequences
    }
}

/// Rounds of the Feistel network.
const ROUNDS: usize = 6;

/// A keyed permutation of [0, n): a balanced Feistel network on the next even number of bits (Luby and Rackoff 1988),
/// walked along its cycle until it lands below n (Black & Rogaway 2002). Fewer than 4 evaluations on average.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    size: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of [0, `size`) for one pass; `size` is not 0.
    pub fn new(size: u64, seed: u64, epoch: u64) -> Self {
        let bits = 64 - (size - 1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        let key = |round: usize| prf(seed, "training-order", epoch, &[round as u8]);
        Self { size, half_bits, keys: std::array::from_fn(key) }
    }

    /// The image of `index`, which is below the size.
    pub fn apply(&self, index: u64) -> u64 {
        debug_assert!(index < self.size, "an index of the pass");
        let mut value = index;
        loop {
            value = self.network(value);
            if value < self.size {
                return value;
            }
        }
    }

    fn network(&self, value: u64) -> u64 {
        let mask = if self.half_bits == 32 { u64::from(u32::MAX) } else { (1 << self.half_bits) - 1 };
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea & Flood 2014): every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::{Permutation, TrainingOrder, mix};

    fn is_bijection(size: u64, seed: u64, epoch: u64) -> bool {
        let permutation = Permutation::new(size, seed, epoch);
        let mut seen = vec![false; size as usize];
        (0..size).all(|index| {
            let image = permutation.apply(index) as usize;
            image < seen.len() && !std::mem::replace(&mut seen[image], true)
        })
    }

    #[test]
    fn bijection_for_every_small_size_and_at_powers_of_two() {
        for size in (1..200).chain([255, 256, 257, 1023, 1024, 1025, 4095, 4096, 4097, 30_757]) {
            assert!(is_bijection(size, 42, 1), "size {size}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn bijection_for_any_size_seed_and_epoch(size in 1_u64..5_000, seed: u64, epoch in 1_u64..100) {
            prop_assert!(is_bijection(size, seed, epoch));
        }
    }

    #[test]
    fn huge_sizes_stay_in_range() {
        for size in [u64::from(u32::MAX) + 1, (1 << 62) + 5, u64::MAX] {
            let permutation = Permutation::new(size, 7, 3);
            assert!([0, 1, size / 2, size - 1].iter().all(|&index| permutation.apply(index) < size), "size {size}");
        }
    }

    #[test]
    fn first_pass_is_the_identity_and_later_passes_differ() {
        let order = TrainingOrder { sequences: 1_000, seed: 42 };
        let pass = |epoch: u64| (0..1_000).map(|i| order.index(epoch * 1_000 + i)).collect::<Vec<_>>();
        assert_eq!(pass(0), (0..1_000).collect::<Vec<_>>());
        assert_ne!(pass(1), pass(0));
        assert_ne!(pass(1), pass(2));
        assert_eq!((order.epoch(999), order.epoch(1_000)), (0, 1));
        // Neighbours must be torn apart: a uniform permutation keeps about 2 in 1,000 together.
        let together = pass(1).windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
        assert!(together < 12, "{together} neighbours of 999 stay together");
    }

    #[test]
    fn golden_mix_is_splitmix64() {
        // SplitMix64 seeded with 0: the first three published outputs.
        let golden = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        for (i, expected) in golden.into_iter().enumerate() {
            assert_eq!(mix(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(i as u64 + 1)), expected);
        }
    }
}
