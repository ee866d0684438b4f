//! Standard errors and intervals of any statistic by resampling, with the draws of lm-evaluation-harness 0.4.13.
//!
//! Chunks of 1,000 draws; chunk i seeds MT19937 with i as Python's `random.Random` does and draws each resample with
//! `choices`. So the numbers equal that harness's, and do not depend on the number of threads.

use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

/// Draws by default.
pub const DRAWS: usize = 100_000;
/// Draws of one seed.
const CHUNK: usize = 1_000;

/// What resampling says about a statistic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Sample standard deviation of the resampled values.
    pub standard_error: f64,
    /// The 2.5th and 97.5th percentile of them, linearly interpolated.
    pub interval: [f64; 2],
}

/// Resamples `items` indices with replacement, `draws` times (rounded up to whole chunks), and describes `N` statistics
/// of each resample.
///
/// `statistic` gets the indices drawn. There must be at least one item, and two draws.
pub fn bootstrap<const N: usize>(items: usize, draws: usize, statistic: &(dyn Fn(&[usize]) -> [f64; N] + Sync)) -> [Spread; N] {
    let chunk_draws = draws.min(CHUNK);
    let chunk = |chunk: usize| {
        let mut random = MersenneTwister::seeded(chunk as u32);
        let mut drawn = vec![0; items];
        let mut values = Vec::with_capacity(chunk_draws);
        for _ in 0..chunk_draws {
            for index in &mut drawn {
                *index = (random.unit() * items as f64) as usize;
            }
            values.push(statistic(&drawn));
        }
        values
    };
    let chunks: Vec<Vec<[f64; N]>> = (0..draws.div_ceil(CHUNK)).into_par_iter().map(chunk).collect();
    std::array::from_fn(|at| spread(chunks.iter().flatten().map(|values| values[at]).collect()))
}

fn spread(mut values: Vec<f64>) -> Spread {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    values.sort_by(f64::total_cmp);
    let percentile = |share: f64| {
        let place = share * (n - 1.0);
        let (below, part) = (place.floor() as usize, place.fract());
        let above = (below + 1).min(values.len() - 1);
        values[below] + part * (values[above] - values[below])
    };
    Spread { standard_error: (squares / (n - 1.0)).sqrt(), interval: [percentile(0.025), percentile(0.975)] }
}

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// MT19937 (Matsumoto and Nishimura 1998), seeded through its array initialisation as Python does for small integers.
struct MersenneTwister {
    state: [u32; WORDS],
    next: usize,
}

impl MersenneTwister {
    fn seeded(seed: u32) -> Self {
        let mut state = [0_u32; WORDS];
        state[0] = 19_650_218;
        for i in 1..WORDS {
            state[i] = scrambled(state[i - 1]).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        // The key has one word, so its index is always 0.
        let mut i = 1;
        for _ in 0..WORDS {
            state[i] = (state[i] ^ scrambled(state[i - 1]).wrapping_mul(1_664_525)).wrapping_add(seed);
            i = Self::after(&mut state, i);
        }
        for _ in 1..WORDS {
            let mixed = state[i] ^ scrambled(state[i - 1]).wrapping_mul(1_566_083_941);
            state[i] = mixed.wrapping_sub(i as u32);
            i = Self::after(&mut state, i);
        }
        state[0] = 0x8000_0000;
        Self { state, next: WORDS }
    }

    /// The index after `i`; going round carries the last word to the front.
    fn after(state: &mut [u32; WORDS], i: usize) -> usize {
        if i + 1 < WORDS {
            return i + 1;
        }
        state[0] = state[WORDS - 1];
        1
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            for i in 0..WORDS {
                let joined = self.state[i] & 0x8000_0000 | self.state[(i + 1) % WORDS] & 0x7fff_ffff;
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + SHIFT) % WORDS] ^ (joined >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Uniform in [0, 1) with 53 bits, Python's `random()`.
    fn unit(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }
}

fn scrambled(word: u32) -> u32 {
    word ^ (word >> 30)
}

#[cfg(test)]
mod tests {
    use super::{MersenneTwister, bootstrap, spread};

    #[test]
    fn golden_draws_of_python() {
        let mut random = MersenneTwister::seeded(0);
        let got = [random.unit(), random.unit(), random.unit()];
        let expected = [0.844_421_851_525_048_1, 0.757_954_402_940_302_5, 0.420_571_580_830_845];
        assert_eq!(got.map(f64::to_bits), expected.map(f64::to_bits));
        let mut random = MersenneTwister::seeded(0);
        let choices: Vec<usize> = (0..10).map(|_| (random.unit() * 10.0) as usize).collect();
        assert_eq!(choices, [8, 7, 4, 2, 5, 4, 7, 3, 4, 5]);
    }

    #[test]
    fn golden_bootstrap_of_a_mean() {
        let values = [0.0, 1.0, 1.0, 0.0, 1.0];
        let mean = |drawn: &[usize]| [drawn.iter().map(|&index| values[index]).sum::<f64>() / drawn.len() as f64];
        let [spread] = bootstrap(values.len(), 2_000, &mean);
        assert!((spread.standard_error - 0.221_504_587_178_393_36).abs() < 1e-15, "{spread:?}");
        assert_eq!(spread.interval.map(f64::to_bits), [0.2_f64, 1.0].map(f64::to_bits));
    }

    #[test]
    fn determinism_threads_change_nothing() {
        let statistic = |drawn: &[usize]| [drawn.iter().sum::<usize>() as f64];
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bootstrap(7, 5_000, &statistic))
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn percentiles_are_interpolated() {
        let spread = spread((0..=40).rev().map(f64::from).collect());
        assert_eq!(spread.interval.map(f64::to_bits), [1.0_f64, 39.0].map(f64::to_bits));
    }
}
