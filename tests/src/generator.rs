//! The number generator of the fixtures: `SplitMix64`, read by counter, seeded by name. It is not for cryptography.

/// The step of the counter (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of numbers that depends on its seed alone.
#[derive(Clone, Debug)]
pub struct Generator {
    seed: u64,
    drawn: u64,
}

impl Generator {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The stream of a consumer: the first 8 bytes, little-endian, of the BLAKE3 of its name.
    pub fn named(name: &str) -> Self {
        let hash = blake3::hash(name.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        Self::new(u64::from_le_bytes(first))
    }

    /// The number at a place of the stream, from 0.
    pub fn at(&self, place: u64) -> u64 {
        let mut z = self.seed.wrapping_add(GAMMA.wrapping_mul(place.wrapping_add(1)));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number of the stream.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.at(self.drawn - 1)
    }

    /// A number in `0..limit`.
    ///
    /// # Panics
    /// When `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "nothing is below 0");
        ((u128::from(self.draw()) * u128::from(limit)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether an event of the given percentage happens.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of some things.
    pub fn pick<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len() as u64) as usize]
    }

    /// Puts things into an order of the stream (Fisher–Yates).
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_numbers_of_the_published_generator() {
        let mut generator = Generator::new(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(expected.map(|_| generator.draw()), expected);
        assert_eq!(generator.at(0), expected[0]);
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut generator = Generator::named("bounds");
        let drawn: Vec<u64> = (0..1000).map(|_| generator.between(3, 7)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&7)));
        let mut order: Vec<u32> = (0..50).collect();
        generator.shuffle(&mut order);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
