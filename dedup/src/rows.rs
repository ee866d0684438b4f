//! Minimum hashes of a signature: for each row the least `multiplier·s + increment` mod 2⁶⁴ over the shingles s.
//!
//! It chooses the instructions for that; every choice gives the same numbers. The vector code itself is in `rows_x86`.

use crate::permutation::permutations;
#[cfg(target_arch = "x86_64")]
use crate::rows_x86::{Avx2, Avx512};

/// Rows computed side by side: one register of 512 bits.
pub(crate) const LANE_ROWS: usize = 8;

/// Numbers of eight rows that follow each other.
pub(crate) type RowLanes = [u64; LANE_ROWS];

/// The instructions that minimum hashes are computed with. All give the same results, and one can only be had where
/// the processor has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instructions(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Instructions {
    /// Those this processor has, the fastest last; never empty.
    pub fn available() -> Vec<Self> {
        let kinds = [
            Some(Kind::Portable),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Kind::Avx2),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(Kind::Avx512),
        ];
        kinds.into_iter().flatten().map(Self).collect()
    }

    /// The fastest of [`Self::available`].
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self(Kind::Portable))
    }

    /// `portable`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
        }
    }
}

/// The rows of a signature. The last lanes are filled up with rows that nobody reads.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    count: usize,
    pub(crate) multipliers: Vec<RowLanes>,
    pub(crate) increments: Vec<RowLanes>,
    instructions: Instructions,
}

impl Rows {
    /// The first `count` rows of the specification.
    pub(crate) fn new(count: usize, instructions: Instructions) -> Self {
        let permutations = permutations(count.next_multiple_of(LANE_ROWS));
        let (lanes, _) = permutations.as_chunks::<LANE_ROWS>();
        Self {
            count,
            multipliers: lanes.iter().map(|rows| rows.map(|row| row.multiplier)).collect(),
            increments: lanes.iter().map(|rows| rows.map(|row| row.increment)).collect(),
            instructions,
        }
    }

    /// Minima over no shingle.
    pub(crate) fn minima(&self) -> Minima {
        Minima(vec![[u64::MAX; LANE_ROWS]; self.multipliers.len()])
    }

    /// Lowers each row's minimum by the shingles of one block.
    pub(crate) fn lower(&self, minima: &mut Minima, shingles: &[u64]) {
        match self.instructions.0 {
            Kind::Portable => self.lower_portable(&mut minima.0, shingles),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.lower(self, &mut minima.0, shingles),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(avx512) => avx512.lower(self, &mut minima.0, shingles),
        }
    }

    /// The minima in row order.
    pub(crate) fn signature(&self, minima: &Minima) -> Vec<u64> {
        minima.0.as_flattened()[..self.count].to_vec()
    }

    fn lower_portable(&self, minima: &mut [RowLanes], shingles: &[u64]) {
        let rows = self.multipliers.as_flattened().iter().zip(self.increments.as_flattened());
        for (minimum, (multiplier, increment)) in minima.as_flattened_mut().iter_mut().zip(rows) {
            let hash = |shingle: &u64| multiplier.wrapping_mul(*shingle).wrapping_add(*increment);
            *minimum = shingles.iter().fold(*minimum, |least, shingle| least.min(hash(shingle)));
        }
    }
}

/// Minimum hashes on their way down.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Minima(Vec<RowLanes>);

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::permutation::finalize;

    fn signature_with(instructions: Instructions, count: usize, blocks: &[&[u64]]) -> Vec<u64> {
        let rows = Rows::new(count, instructions);
        let mut minima = rows.minima();
        for block in blocks {
            rows.lower(&mut minima, block);
        }
        rows.signature(&minima)
    }

    fn check(count: usize, blocks: &[&[u64]]) {
        let expected: Vec<u64> = permutations(count)
            .iter()
            .map(|row| {
                let hashes =
                    blocks.iter().copied().flatten().map(|s| row.multiplier.wrapping_mul(*s).wrapping_add(row.increment));
                hashes.min().unwrap_or(u64::MAX)
            })
            .collect();
        for instructions in Instructions::available() {
            let got = signature_with(instructions, count, blocks);
            assert_eq!(got, expected, "{} {count} rows", instructions.name());
        }
    }

    #[test]
    fn all_instructions_give_the_same_minima() {
        let shingles: Vec<u64> = (0..5000).map(finalize).collect();
        for length in [0, 1, 2, 3, 7, 64, 1001, 4096, 4999] {
            for count in [1, 6, 8, 9, 30, 56, 100, 112, 250] {
                check(count, &[&shingles[..length]]);
            }
        }
        check(4096, &[&shingles[..5]]);
        check(112, &[&shingles[..1], &[], &shingles[1..4097]]);
    }

    #[test]
    fn all_instructions_agree_on_extreme_shingles() {
        check(112, &[&[0, u64::MAX, 1, 1 << 63, (1 << 63) - 1, 0xFFFF_FFFF, 1 << 32]]);
        check(112, &[&[0]]);
    }

    #[test]
    fn portable_is_always_there_and_the_best_is_last() {
        let available = Instructions::available();
        assert_eq!(available[0].name(), "portable");
        assert_eq!(available.last(), Some(&Instructions::best()));
    }

    proptest! {
        #[test]
        fn all_instructions_agree_on_any_block(shingles in proptest::collection::vec(any::<u64>(), 0..200), count in 1usize..200) {
            check(count, &[&shingles]);
        }
    }
}
