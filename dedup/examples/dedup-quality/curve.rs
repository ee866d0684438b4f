//! Share of candidate pairs by similarity, beside the share that the S-curve gives.
//!
//! The expected share of a bin is the mean of 1 − (1 − sʳ)ᵇ over its own pairs, so a bin need not be evenly filled.

use std::fmt::Write as _;

use mellama_dedup::{NormalForm, SketchSpec, Sketcher};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::corpus::{Corpus, Pair};
use crate::words::{Vocabulary, jaccard};

const BINS: usize = 13;
const FIRST: f64 = 0.35;
const WIDTH: f64 = 0.05;

/// Words of the pairs that are made: 200 to 400.
const PAIR_WORDS: (usize, usize) = (200, 400);
/// Words of the vocabulary that they are drawn from: two texts that are not copies share no shingle of 5.
const VOCABULARY: usize = 30_000;
/// Pairs that one task makes before the bins are looked at again.
const BATCH: u64 = 4000;
/// Batches after which a bin that does not fill is given up.
const MOST_BATCHES: u64 = 500;

/// Counts of one bin of similarity.
#[derive(Clone, Copy, Default)]
pub(crate) struct Bin {
    pairs: u32,
    candidates: u32,
    expected: f64,
}

impl Bin {
    fn share(&self) -> f64 {
        f64::from(self.candidates) / f64::from(self.pairs.max(1))
    }

    fn expected_share(&self) -> f64 {
        self.expected / f64::from(self.pairs.max(1))
    }

    /// Standard error of a share of so many independent pairs.
    pub(crate) fn standard_error(&self) -> f64 {
        let p = self.expected_share();
        (p * (1.0 - p) / f64::from(self.pairs.max(1))).sqrt()
    }
}

/// Bins of 0.05 from 0.35 to 1; the last one holds 1 too.
pub(crate) struct Curve {
    bins: [Bin; BINS],
    spec: SketchSpec,
}

impl Curve {
    /// Pairs of a text and a copy in which words were replaced, so many in each bin.
    pub(crate) fn of_made_pairs(pairs_per_bin: u32) -> Self {
        let mut curve = Self { bins: [Bin::default(); BINS], spec: SketchSpec::default() };
        let sketcher = Sketcher::new(curve.spec).expect("the default setting is in its limits");
        for batch in 0..MOST_BATCHES {
            let numbers = batch * BATCH..(batch + 1) * BATCH;
            let made: Vec<(f64, bool)> = numbers.into_par_iter().map(|number| made_pair(number, &sketcher)).collect();
            for (similarity, candidate) in made {
                // A bin that is full takes no more, so the first pairs of the sequence decide.
                if bin_of(similarity).is_some_and(|bin| curve.bins[bin].pairs < pairs_per_bin) && similarity < 1.0 {
                    curve.add(similarity, candidate);
                }
            }
            if curve.bins.iter().all(|bin| bin.pairs >= pairs_per_bin) {
                break;
            }
        }
        curve
    }

    /// The pairs of a corpus.
    pub(crate) fn of_pairs(corpus: &Corpus, pairs: &[Pair]) -> Self {
        let mut curve = Self { bins: [Bin::default(); BINS], spec: SketchSpec::default() };
        for pair in pairs {
            curve.add(pair.similarity, corpus.is_candidate(pair));
        }
        curve
    }

    fn add(&mut self, similarity: f64, candidate: bool) {
        if let Some(bin) = bin_of(similarity) {
            let bin = &mut self.bins[bin];
            bin.pairs += 1;
            bin.candidates += u32::from(candidate);
            bin.expected += self.spec.candidate_probability(similarity);
        }
    }

    /// The bins whose share is further from the curve than `allowed`.
    pub(crate) fn missed(&self, name: &str, allowed: impl Fn(&Bin) -> f64) -> Vec<String> {
        let far = |(_, bin): &(usize, &Bin)| (bin.share() - bin.expected_share()).abs() > allowed(bin) && bin.pairs > 0;
        let line = |(at, bin): (usize, &Bin)| {
            format!("{name}: from {:.2}: candidates {:.4}, the curve has {:.4}", low(at), bin.share(), bin.expected_share())
        };
        self.bins.iter().enumerate().filter(far).map(line).collect()
    }

    pub(crate) fn table(&self) -> String {
        let mut table =
            String::from("| Jaccard | Pairs | Candidates | S-curve | Difference | Standard error |\n|---|---|---|---|---|---|\n");
        for (at, bin) in self.bins.iter().enumerate() {
            let (share, expected) = (bin.share(), bin.expected_share());
            if bin.pairs == 0 {
                continue;
            }
            writeln!(
                table,
                "| {:.2}–{:.2} | {} | {share:.4} | {expected:.4} | {:+.4} | {:.4} |",
                low(at),
                low(at) + WIDTH,
                bin.pairs,
                share - expected,
                bin.standard_error()
            )
            .expect("a string takes all");
        }
        table
    }
}

fn low(bin: usize) -> f64 {
    FIRST + WIDTH * bin as f64
}

fn bin_of(similarity: f64) -> Option<usize> {
    (similarity >= FIRST).then(|| (((similarity - FIRST) / WIDTH) as usize).min(BINS - 1))
}

/// Similarity of the pair of this number, and whether it shares a band key.
fn made_pair(number: u64, sketcher: &Sketcher) -> (f64, bool) {
    let mut random = Random(number.wrapping_mul(0xD134_2543_DE82_EF95) | 1);
    let words = PAIR_WORDS.0 + random.below(PAIR_WORDS.1 - PAIR_WORDS.0);
    // From a little below the first bin, because few replacements scatter widely.
    let similarity = FIRST - 0.02 + (1.02 - FIRST) * random.unit();
    // A shingle stays with (1 − p)⁵; two sets of one size with that share in common have J = c / (2 − c).
    let kept = 2.0 * similarity / (1.0 + similarity);
    let replaced = 1.0 - kept.powf(0.2);
    let base: Vec<usize> = (0..words).map(|_| random.below(VOCABULARY)).collect();
    let copy: Vec<usize> =
        base.iter().map(|&word| if random.unit() < replaced { VOCABULARY + random.below(VOCABULARY) } else { word }).collect();
    let (base, copy) = (text(&base), text(&copy));
    let mut vocabulary = Vocabulary::default();
    let measured = jaccard(&vocabulary.shingles(&base), &vocabulary.shingles(&copy));
    let bands = |text: &str| sketcher.sketch(text, NormalForm::Plain).bands;
    (measured, bands(&base).iter().zip(bands(&copy)).any(|(x, y)| *x == y))
}

fn text(words: &[usize]) -> String {
    words.iter().map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ")
}

/// xorshift, so that the pairs are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
