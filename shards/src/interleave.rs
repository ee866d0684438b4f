//! Exact interleaving of whole sequences of several domains: integers only, every prefix within one sequence of the ratio.
//!
//! It decides whose turn it is, never which sequence of that domain comes.

/// The deadline rule of the format notes (§9): at step `t` (1…N) a domain `i` is eligible when `N·c_i < q_i·t`, and the
/// eligible one with the smallest deadline `ceil(N·(c_i + 1) / q_i)` is taken, ties by index.
///
/// `q_i` are the counts given, `N` their sum and `c_i` what was handed out so far. After any number of steps each `c_i` is
/// within one of `q_i·t/N`, and at the end exactly `q_i`.
#[derive(Debug, Clone)]
pub struct Interleave {
    turns: Vec<Turn>,
    taken: Vec<u64>,
    total: u64,
    step: u64,
}

/// When a domain's next sequence may and must come. Both change only when the domain is taken, so a step costs one division.
#[derive(Debug, Clone, Copy)]
struct Turn {
    count: u64,
    /// First step at which it is eligible: `floor(N·c / q) + 1`; past the end when it has given everything.
    eligible: u128,
    /// `ceil(N·(c + 1) / q)`.
    deadline: u128,
}

impl Turn {
    fn new(count: u64, total: u64, taken: u64) -> Self {
        if taken == count {
            return Self { count, eligible: u128::MAX, deadline: u128::MAX };
        }
        let (total, count_wide) = (u128::from(total), u128::from(count));
        let before = total * u128::from(taken);
        Self { count, eligible: before / count_wide + 1, deadline: (before + total).div_ceil(count_wide) }
    }
}

impl Interleave {
    /// Starts an interleaving of `counts[i]` sequences of domain `i`. A count of 0 leaves a domain out.
    ///
    /// # Panics
    /// When the counts sum to more than `u64::MAX`.
    pub fn new(counts: &[u64]) -> Self {
        let total =
            counts.iter().try_fold(0_u64, |sum, &count| sum.checked_add(count)).expect("a number of sequences fits in 64 bits");
        let turns = counts.iter().map(|&count| Turn::new(count, total, 0)).collect();
        Self { turns, taken: vec![0; counts.len()], total, step: 0 }
    }

    /// Goes on where an interleaving of the same counts has handed out `taken`.
    ///
    /// # Panics
    /// As [`Interleave::new`], or when `taken` is not at most `counts`, entry by entry.
    pub fn after(counts: &[u64], taken: &[u64]) -> Self {
        assert!(
            counts.len() == taken.len() && counts.iter().zip(taken).all(|(count, taken)| taken <= count),
            "taken of the counts"
        );
        let mut interleave = Self::new(counts);
        interleave.step = taken.iter().sum();
        interleave.taken = taken.to_vec();
        let turns = counts.iter().zip(taken).map(|(&count, &taken)| Turn::new(count, interleave.total, taken));
        interleave.turns = turns.collect();
        interleave
    }

    /// How many sequences of each domain were handed out so far.
    pub fn taken(&self) -> &[u64] {
        &self.taken
    }
}

impl Iterator for Interleave {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.step == self.total {
            return None;
        }
        self.step += 1;
        let step = u128::from(self.step);
        // The sum of all c_i is t - 1 < t = sum of q_i·t/N, so at least one domain is below its share, hence eligible.
        let eligible = (0..self.turns.len()).filter(|&index| self.turns[index].eligible <= step);
        let index = eligible
            .min_by_key(|&index| (self.turns[index].deadline, index))
            .expect("some domain is below its share before every step");
        self.taken[index] += 1;
        self.turns[index] = Turn::new(self.turns[index].count, self.total, self.taken[index]);
        Some(index)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.total - self.step);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::prop_assert_eq, proptest};

    use super::Interleave;
    use crate::prefix::PrefixCheck;

    /// The largest distance of any prefix from the exact ratio, as (numerator, denominator) of `|N·c - q·t| / N`.
    fn worst_deviation(counts: &[u64]) -> (u128, u128) {
        let total: u64 = counts.iter().sum();
        let mut interleave = Interleave::new(counts);
        let mut worst = 0;
        for step in 1..=u128::from(total) {
            interleave.next().unwrap();
            for (&count, &taken) in counts.iter().zip(interleave.taken()) {
                let exact = u128::from(count) * step;
                worst = worst.max((u128::from(total) * u128::from(taken)).abs_diff(exact));
            }
        }
        assert_eq!(interleave.next(), None);
        assert_eq!(interleave.taken(), counts);
        (worst, u128::from(total))
    }

    fn check(counts: &[u64], expected: &[usize]) {
        assert_eq!(Interleave::new(counts).collect::<Vec<_>>(), expected, "{counts:?}");
    }

    #[test]
    fn small_mixtures_come_out_as_computed_by_hand() {
        check(&[], &[]);
        check(&[0, 0], &[]);
        check(&[3], &[0, 0, 0]);
        check(&[0, 2], &[1, 1]);
        check(&[2, 2], &[0, 1, 0, 1]);
        check(&[3, 1], &[0, 0, 0, 1]);
        check(&[1, 1, 2], &[2, 0, 1, 2]);
    }

    #[test]
    fn the_papers_ratio_stays_within_four_fifths_of_a_sequence() {
        for scale in [1, 7, 400] {
            let (worst, total) = worst_deviation(&[15 * scale, scale, 4 * scale]);
            assert!(worst * 10 <= total * 8, "{worst} / {total} at scale {scale}");
        }
    }

    #[test]
    fn every_prefix_of_300_random_mixtures_stays_under_one_sequence() {
        let mut state = 7_u64;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for case in 0..300 {
            let domains = 2 + random(11);
            let counts: Vec<u64> = (0..domains).map(|_| 1 + random(400)).collect();
            let (worst, total) = worst_deviation(&counts);
            assert!(worst < total, "case {case}: {counts:?} deviates by {worst}/{total}");
        }
    }

    #[test]
    fn counts_of_the_full_corpus_do_not_overflow() {
        let counts = [23_620_605, 1_574_707, 6_298_828];
        let mut interleave = Interleave::new(&counts);
        assert_eq!(interleave.size_hint().0, 31_494_140);
        let first: Vec<usize> = interleave.by_ref().take(20).collect();
        let of = |domain| first.iter().filter(|&&taken| taken == domain).count();
        assert_eq!([of(0), of(1), of(2)], [15, 1, 4]);
        let huge = Interleave::new(&[u64::MAX - 1, 1]);
        assert_eq!(huge.take(3).collect::<Vec<_>>(), [0, 0, 0]);
    }

    /// The rule as it stands at the type, computed anew at every step.
    fn by_the_rule(counts: &[u64]) -> Vec<usize> {
        let total: u64 = counts.iter().sum();
        let mut taken = vec![0_u64; counts.len()];
        let mut order = Vec::new();
        for step in 1..=total {
            let eligible = (0..counts.len()).filter(|&index| total * taken[index] < counts[index] * step);
            let deadline = |index: usize| (total * (taken[index] + 1)).div_ceil(counts[index]);
            let index = eligible.min_by_key(|&index| (deadline(index), index)).unwrap();
            taken[index] += 1;
            order.push(index);
        }
        order
    }

    proptest! {
        #[test]
        fn the_order_is_the_rules(counts in vec(0_u64..60, 1..7)) {
            let expected = by_the_rule(&counts);
            prop_assert_eq!(&Interleave::new(&counts).collect::<Vec<_>>(), &expected);
            let mut first = Interleave::new(&counts);
            let half = expected.len() / 2;
            first.by_ref().take(half).for_each(drop);
            prop_assert_eq!(&Interleave::after(&counts, first.taken()).collect::<Vec<_>>(), &expected[half..]);
        }
    }

    #[test]
    fn every_prefix_of_the_papers_31_494_143_sequences_is_within_one_of_the_ratio() {
        // 129,000,000,000 tokens in sequences of 4,096, the last one of each domain padded.
        let quotas = [96_750_000_000_u64, 6_450_000_000, 25_800_000_000];
        assert_eq!(quotas.iter().sum::<u64>(), 129_000_000_000);
        let counts = quotas.map(|tokens| tokens.div_ceil(4096));
        assert_eq!(counts, [23_620_606, 1_574_708, 6_298_829]);
        let mut check = PrefixCheck::new(&counts);
        let mut interleave = Interleave::new(&counts);
        for domain in interleave.by_ref() {
            check.push(domain).unwrap();
        }
        check.finish().unwrap();
        assert_eq!(interleave.taken(), counts);
    }
}
