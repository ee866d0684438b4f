//! The counter generator of training: Philox-4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011), keyed by the seed and addressed by (purpose, step, tensor, element).
//!
//! It has no state: every value is a pure function of its address, so threads, micro-batches and resumed runs draw the
//! same numbers in any order. Not for cryptography.

/// What a stream of random numbers is for; part of the address, so that two uses never share a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights of the base model.
    Initialisation = 1,
    /// Initial weights of adapters.
    AdapterInitialisation = 2,
    /// Dropout on adapter inputs.
    Dropout = 3,
    /// Stochastic rounding of stored moments.
    Rounding = 4,
    /// Tokens drawn from a model.
    Sampling = 5,
}

/// One stream: everything of the address but the element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    step: u32,
    place: u32,
}

impl Stream {
    /// The stream of `tensor` (its index in the layout, below 2^24) at optimizer step `step` (below 2^32).
    ///
    /// # Panics
    /// When `step` or `tensor` is out of these ranges: a run of 4 billion steps or 16 million tensors does not exist.
    pub fn new(seed: u64, purpose: Purpose, step: u64, tensor: usize) -> Self {
        let step = u32::try_from(step).expect("a run has fewer than 2^32 steps");
        assert!(tensor < 1 << 24, "a model has fewer than 2^24 tensors: {tensor}");
        Self { key: [seed as u32, (seed >> 32) as u32], step, place: (purpose as u32) << 24 | tensor as u32 }
    }

    /// The four numbers of block `block`, which are those of elements 4 block to 4 block + 3.
    #[inline]
    pub fn block(self, block: u64) -> [u32; 4] {
        philox([block as u32, (block >> 32) as u32, self.step, self.place], self.key)
    }

    /// 16 bits for each of elements 8 block to 8 block + 7: the halves of the four numbers, the lower half first.
    #[inline]
    pub fn halves(self, block: u64) -> [u16; 8] {
        let words = self.block(block);
        std::array::from_fn(|index| (words[index / 2] >> (16 * (index % 2))) as u16)
    }

    /// Its key, and the last word of its counters: what does not depend on the step.
    pub(crate) fn address(self) -> ([u32; 2], u32) {
        (self.key, self.place)
    }

    /// The number of one element, uniform over all 2^32 values.
    #[inline]
    pub fn bits(self, element: u64) -> u32 {
        self.block(element / 4)[(element % 4) as usize]
    }

    /// Uniform in the open interval (0, 1), a multiple of 2^-33.
    #[inline]
    pub fn uniform(self, element: u64) -> f64 {
        unit(self.bits(element))
    }

    /// Normal with mean 0 and variance 1, by Box and Muller on the two halves of the element's pair.
    pub fn normal(self, element: u64) -> f64 {
        let block = self.block(element / 4);
        let pair = if element % 4 < 2 { [block[0], block[1]] } else { [block[2], block[3]] };
        let radius = (-2.0 * unit(pair[0]).ln()).sqrt();
        let angle = 2.0 * std::f64::consts::PI * unit(pair[1]);
        if element.is_multiple_of(2) { radius * angle.cos() } else { radius * angle.sin() }
    }
}

/// The middle of the `bits`-th of 2^32 equal parts of the unit interval.
#[inline]
fn unit(bits: u32) -> f64 {
    (f64::from(bits) + 0.5) / 4_294_967_296.0
}

const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox-4x32.
#[inline]
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let first = MULTIPLIERS[0] * u64::from(a);
        let second = MULTIPLIERS[1] * u64::from(c);
        (a, b, c, d) = ((second >> 32) as u32 ^ b ^ k0, second as u32, (first >> 32) as u32 ^ d ^ k1, first as u32);
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::{Purpose, Stream, philox};

    #[test]
    fn golden_vectors_of_the_authors() {
        // The three known answers for philox4x32-10 in the authors' Random123 distribution (kat_vectors).
        let check = |counter, key, expected| assert_eq!(philox(counter, key), expected);
        check([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        check(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    #[test]
    fn determinism_every_part_of_the_address_matters() {
        let base = Stream::new(7, Purpose::Dropout, 3, 5).bits(11);
        let others = [
            Stream::new(8, Purpose::Dropout, 3, 5).bits(11),
            Stream::new(7 | 1 << 40, Purpose::Dropout, 3, 5).bits(11),
            Stream::new(7, Purpose::Rounding, 3, 5).bits(11),
            Stream::new(7, Purpose::Dropout, 4, 5).bits(11),
            Stream::new(7, Purpose::Dropout, 3, 6).bits(11),
            Stream::new(7, Purpose::Dropout, 3, 5).bits(12),
            Stream::new(7, Purpose::Dropout, 3, 5).bits(11 + (4 << 32)),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(base, *other, "part {index}");
        }
        assert_eq!(base, Stream::new(7, Purpose::Dropout, 3, 5).bits(11));
    }

    #[test]
    fn halves_are_those_of_the_words_of_a_block() {
        let stream = Stream::new(7, Purpose::Rounding, 3, 1);
        let (words, halves) = (stream.block(9), stream.halves(9));
        for (index, word) in words.into_iter().enumerate() {
            assert_eq!(word, u32::from(halves[2 * index]) | u32::from(halves[2 * index + 1]) << 16);
        }
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let stream = Stream::new(1, Purpose::Initialisation, 0, 0);
        let count = 200_000_u64;
        let mut moments = [0.0_f64; 4];
        for element in 0..count {
            let x = stream.normal(element);
            for (power, moment) in moments.iter_mut().enumerate() {
                *moment += x.powi(power as i32 + 1) / count as f64;
            }
        }
        // Five standard errors of each mean: sqrt(Var(x^k) / n) with Var 1, 2, 15, 96.
        for ((moment, expected), variance) in moments.iter().zip([0.0, 1.0, 0.0, 3.0]).zip([1.0, 2.0, 15.0, 96.0]) {
            let bound = 5.0 * (variance / count as f64).sqrt();
            assert!((moment - expected).abs() < bound, "{moments:?}");
        }
    }

    #[test]
    fn uniforms_stay_inside_the_open_interval() {
        let stream = Stream::new(2, Purpose::Dropout, 9, 1);
        let mean = (0..100_000).map(|element| stream.uniform(element)).sum::<f64>() / 100_000.0;
        // Five standard errors: 5 sqrt(1/12 / 100000).
        assert!((mean - 0.5).abs() < 0.0046, "{mean}");
        assert!(super::unit(0) > 0.0 && super::unit(u32::MAX) < 1.0);
    }
}
