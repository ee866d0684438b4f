//! `SplitMix64` and the 64-bit linear maps that stand for permutations of the shingle space.
//!
//! Frozen by specification version 1: a change of one constant is a new version.

/// Odd multiplier of the shingle polynomial and increment of `SplitMix64`: 2⁶⁴ divided by the golden ratio.
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

const SEED: u64 = 1;

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014): a bijection of 64 bits that mixes all of them.
pub(crate) const fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `SplitMix64` with the seed of the specification.
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        finalize(self.state)
    }
}

/// One row: the map `s ↦ multiplier·s + increment` mod 2⁶⁴, a bijection because the multiplier is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permutation {
    pub(crate) multiplier: u64,
    pub(crate) increment: u64,
}

/// The first `rows` permutations: A₀, B₀, A₁, B₁ … drawn from `SplitMix64` seeded with 1, then Aᵢ made odd.
pub(crate) fn permutations(rows: usize) -> Vec<Permutation> {
    let mut generator = SplitMix64 { state: SEED };
    (0..rows).map(|_| Permutation { multiplier: generator.next() | 1, increment: generator.next() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_constants() {
        let rows = permutations(112);
        assert_eq!(rows[0].multiplier, 0x910a_2dec_8902_5cc1);
        assert_eq!(rows[0].increment, 0xbeeb_8da1_658e_ec67);
        assert_eq!(rows[111].multiplier, 0x99df_da57_3db6_d447);
        assert_eq!(rows[111].increment, 0x954e_c310_ef16_2d6b);
    }

    #[test]
    fn fewer_rows_are_a_prefix() {
        assert_eq!(permutations(20), permutations(112)[..20]);
    }
}
