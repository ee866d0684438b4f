//! Exact interleaving of whole sequences of several domains: integers only, every prefix within one sequence of the ratio.
//!
//! It decides whose turn it is, never which sequence of that domain comes.

use serde::{Deserialize, Serialize};

/// Worst-case fair weighted fair queueing (WF²Q: Bennett and Zhang, "WF²Q: worst-case fair weighted fair queueing", INFOCOM 1996)
/// over sequences of known sizes. `Q_i` is the size of all sequences of domain `i`, `N` their sum, `c_i` the size handed out so far
/// and `C` the sum of those. A domain is eligible when `N·c_i <= Q_i·C`; of the eligible ones that is taken whose next sequence of
/// size `s_i` ends first, by the smallest `(c_i + s_i) / Q_i`, ties by index.
///
/// After any number of sequences each `c_i` is within the largest size of `Q_i·C/N`, and at the end exactly `Q_i`. Sizes are tokens,
/// where tokens have a ratio, or 1, where sequences have.
#[derive(Debug, Clone)]
pub struct Interleave {
    totals: Vec<u64>,
    total: u64,
    given: Given,
}

/// What was handed out, domain by domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Given {
    /// Sequences.
    pub sequences: Vec<u64>,
    /// Their sizes, summed.
    pub sizes: Vec<u64>,
}

impl Given {
    /// Nothing of so many domains.
    pub fn none(domains: usize) -> Self {
        Self { sequences: vec![0; domains], sizes: vec![0; domains] }
    }
}

impl Interleave {
    /// Starts an interleaving of sequences of the sizes `totals[i]` in all. A total of 0 leaves a domain out.
    ///
    /// # Panics
    /// When the totals sum to more than `u64::MAX`.
    pub fn new(totals: &[u64]) -> Self {
        Self::after(totals, Given::none(totals.len()))
    }

    /// Goes on where an interleaving of the same totals has handed out `given`.
    ///
    /// # Panics
    /// As [`Interleave::new`], or when `given` is not at most `totals`, entry by entry.
    pub fn after(totals: &[u64], given: Given) -> Self {
        let total = totals.iter().try_fold(0_u64, |sum, &size| sum.checked_add(size)).expect("sizes fit in 64 bits");
        let is_part = totals.len() == given.sizes.len() && totals.iter().zip(&given.sizes).all(|(total, given)| given <= total);
        assert!(is_part && given.sequences.len() == totals.len(), "given of the totals");
        Self { totals: totals.to_vec(), total, given }
    }

    /// What was handed out so far.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// The domain whose turn it is, which is handed out; `next` says the size of the next sequence of a domain that has one. `None`
    /// when none has.
    ///
    /// # Panics
    /// When sequences are larger than the totals said.
    pub fn turn(&mut self, mut next: impl FnMut(usize) -> Option<u64>) -> Option<usize> {
        let given: u128 = self.given.sizes.iter().map(|&size| u128::from(size)).sum();
        // (end of the next sequence, total of the domain) of the one that ends first.
        let mut first: Option<(usize, u128, u128, u64)> = None;
        for (domain, (&total, &sizes)) in self.totals.iter().zip(&self.given.sizes).enumerate() {
            let of_domain = u128::from(total);
            // The shares of all domains in C sum to C, so one that has something left is at or below its share.
            if sizes == total || u128::from(self.total) * u128::from(sizes) > of_domain * given {
                continue;
            }
            let Some(size) = next(domain) else { continue };
            let end = u128::from(sizes) + u128::from(size);
            if first.is_none_or(|(_, first_end, first_total, _)| end * first_total < first_end * of_domain) {
                first = Some((domain, end, of_domain, size));
            }
        }
        let (domain, _, _, size) = first?;
        self.given.sequences[domain] += 1;
        self.given.sizes[domain] += size;
        assert!(self.given.sizes[domain] <= self.totals[domain], "sequences of a domain are as large as its total");
        Some(domain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::prop_assert_eq, prop_assert, proptest};

    use super::{Given, Interleave};
    use crate::prefix::PrefixCheck;

    /// Totals of domains whose sequences have these sizes.
    fn totals(sizes: &[Vec<u64>]) -> Vec<u64> {
        sizes.iter().map(|of_domain| of_domain.iter().sum()).collect()
    }

    /// The order of sequences of these sizes, domain by domain, from what was handed out on.
    fn order(sizes: &[Vec<u64>], given: &Given) -> Vec<usize> {
        let mut interleave = Interleave::after(&totals(sizes), given.clone());
        let mut places: Vec<usize> = given.sequences.iter().map(|&sequences| sequences as usize).collect();
        let mut order = Vec::new();
        while let Some(domain) = interleave.turn(|domain| sizes[domain].get(places[domain]).copied()) {
            places[domain] += 1;
            order.push(domain);
        }
        order
    }

    fn check(counts: &[usize], expected: &[usize]) {
        let sizes: Vec<Vec<u64>> = counts.iter().map(|&count| vec![1; count]).collect();
        assert_eq!(order(&sizes, &Given::none(counts.len())), expected, "{counts:?}");
    }

    #[test]
    fn small_mixtures_come_out_as_computed_by_hand() {
        check(&[], &[]);
        check(&[0, 0], &[]);
        check(&[3], &[0, 0, 0]);
        check(&[0, 2], &[1, 1]);
        check(&[2, 2], &[0, 1, 0, 1]);
        check(&[3, 1], &[0, 1, 0, 0]);
        check(&[1, 1, 2], &[2, 0, 1, 2]);
    }

    #[test]
    fn sizes_decide() {
        // A long sequence of one domain is worth as many tokens as two short ones of the other.
        let sizes = [vec![4, 4, 4], vec![2; 6]];
        assert_eq!(order(&sizes, &Given::none(2)), [1, 0, 1, 1, 0, 1, 1, 0, 1]);
    }

    /// The largest distance of any prefix from the ratio, as `max |N·c - Q·C|`.
    fn worst_deviation(sizes: &[Vec<u64>]) -> u128 {
        let totals = totals(sizes);
        let total: u128 = totals.iter().map(|&total| u128::from(total)).sum();
        let mut given = vec![0_u128; sizes.len()];
        let mut places = vec![0; sizes.len()];
        let mut worst = 0;
        let order = order(sizes, &Given::none(sizes.len()));
        assert_eq!(order.len(), sizes.iter().map(Vec::len).sum::<usize>());
        for domain in order {
            given[domain] += u128::from(sizes[domain][places[domain]]);
            places[domain] += 1;
            let all: u128 = given.iter().sum();
            for (&total_of, &given) in totals.iter().zip(&given) {
                worst = worst.max((total * given).abs_diff(u128::from(total_of) * all));
            }
        }
        worst
    }

    proptest! {
        #[test]
        fn every_prefix_is_within_one_sequence(sizes in vec(vec(1_u64..65, 0..90), 1..7)) {
            let total: u64 = totals(&sizes).iter().sum();
            let largest = sizes.iter().flatten().max().copied().unwrap_or(0);
            prop_assert!(worst_deviation(&sizes) <= u128::from(total) * u128::from(largest));
        }

        #[test]
        fn it_goes_on_where_it_was(sizes in vec(vec(1_u64..65, 0..40), 1..5), share in 0.0_f64..1.0) {
            let whole = order(&sizes, &Given::none(sizes.len()));
            let first = (share * whole.len() as f64) as usize;
            let mut given = Given::none(sizes.len());
            for &domain in &whole[..first] {
                given.sizes[domain] += sizes[domain][given.sequences[domain] as usize];
                given.sequences[domain] += 1;
            }
            prop_assert_eq!(&order(&sizes, &given), &whole[first..]);
        }
    }

    #[test]
    fn every_prefix_of_the_papers_31_494_143_sequences_is_within_one_of_the_ratio() {
        // 129,000,000,000 tokens in sequences of 4,096, the last one of each domain padded.
        let quotas = [96_750_000_000_u64, 6_450_000_000, 25_800_000_000];
        assert_eq!(quotas.iter().sum::<u64>(), 129_000_000_000);
        let mut check = PrefixCheck::new(&quotas, 4096);
        let mut interleave = Interleave::new(&quotas);
        let mut left = quotas;
        let mut sequences = 0_u64;
        while let Some(domain) = interleave.turn(|domain| Some(left[domain].min(4096)).filter(|&size| size > 0)) {
            check.push(domain, left[domain].min(4096)).unwrap();
            left[domain] -= left[domain].min(4096);
            sequences += 1;
        }
        check.finish().unwrap();
        assert_eq!((sequences, interleave.given().sizes.as_slice()), (31_494_143, quotas.as_slice()));
    }
}
