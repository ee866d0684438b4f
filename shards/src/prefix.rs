//! Whether every prefix of a training order is within one sequence of the ratio, from the domains of its sequences alone.
//!
//! It shares nothing with [`crate::interleave`], whose work it checks; it reads no files.

/// Counts sequences of each domain as they come and compares them, in integers, with `count · t / N` after each of them.
#[derive(Debug, Clone)]
pub struct PrefixCheck {
    counts: Vec<u64>,
    taken: Vec<u64>,
    total: u64,
    step: u64,
    /// Counted sequences that were taken out of the order afterwards.
    missing: u64,
}

/// A prefix that is a whole sequence or more away from the ratio, or an order that is not that of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixProblem {
    /// After `step` sequences a domain has too many or too few.
    #[error("first {step} of {total} sequences: {taken} of domain {domain}, expected within one of {step} x {count} / {total}")]
    Ratio {
        /// Sequences of the prefix.
        step: u64,
        /// Sequences in all.
        total: u64,
        /// Index of the domain.
        domain: usize,
        /// Its sequences in the prefix.
        taken: u64,
        /// Its sequences in all.
        count: u64,
    },
    /// A domain without a count, or more sequences than were counted.
    #[error("sequence {index}: domain {domain}, of which {count} were counted")]
    Uncounted {
        /// Place in the order, from 0.
        index: u64,
        /// Index of the domain.
        domain: usize,
        /// Its sequences in all.
        count: u64,
    },
    /// The order ends before every counted sequence came.
    #[error("order: {found} sequences, expected {expected}")]
    Length {
        /// Sequences that came.
        found: u64,
        /// Sequences counted.
        expected: u64,
    },
}

impl PrefixCheck {
    /// Begins with no sequence of `counts[i]` in all of domain `i`.
    ///
    /// # Panics
    /// When the counts sum to more than `u64::MAX`.
    pub fn new(counts: &[u64]) -> Self {
        Self::after(counts, vec![0; counts.len()])
    }

    /// Begins where `taken[i]` sequences of domain `i` came already.
    ///
    /// # Panics
    /// As [`PrefixCheck::new`], or when there are not as many entries as counts.
    pub fn after(counts: &[u64], taken: Vec<u64>) -> Self {
        assert_eq!(counts.len(), taken.len(), "an entry for each domain");
        let sum = |values: &[u64]| values.iter().try_fold(0_u64, |sum, &value| sum.checked_add(value));
        let total = sum(counts).expect("a number of sequences fits in 64 bits");
        let step = sum(&taken).expect("a number of sequences fits in 64 bits");
        Self { counts: counts.to_vec(), taken, total, step, missing: 0 }
    }

    /// Knows that so many of the counted sequences were taken out of the order, but not which.
    ///
    /// A prefix of what is left is a prefix of the whole order without r of its sequences, r at most `missing`. The whole one
    /// is within one sequence of the ratio; taking r out moves a count and its share by less than r each way, so that every
    /// prefix of what is left is within `1 + missing` of the ratio of the whole.
    #[must_use]
    pub fn without(mut self, missing: u64) -> Self {
        self.missing = missing;
        self
    }

    /// Takes the next sequence.
    ///
    /// # Errors
    /// [`PrefixProblem`] when the order up to it is off; the check is of no use afterwards.
    pub fn push(&mut self, domain: usize) -> Result<(), PrefixProblem> {
        let count = self.counts.get(domain).copied().unwrap_or(0);
        let index = self.step;
        if count == 0 || self.taken[domain] == count {
            return Err(PrefixProblem::Uncounted { index, domain, count });
        }
        self.taken[domain] += 1;
        self.step += 1;
        let (step, total) = (self.step, self.total);
        for (domain, (&count, &taken)) in self.counts.iter().zip(&self.taken).enumerate() {
            let exact = u128::from(count) * u128::from(step);
            let allowed = u128::from(total) * (1 + u128::from(self.missing));
            if (u128::from(taken) * u128::from(total)).abs_diff(exact) >= allowed {
                return Err(PrefixProblem::Ratio { step, total, domain, taken, count });
            }
        }
        Ok(())
    }

    /// Demands that every sequence came that was not taken out.
    ///
    /// # Errors
    /// [`PrefixProblem::Length`].
    pub fn finish(self) -> Result<(), PrefixProblem> {
        let (found, expected) = (self.step, self.total - self.missing.min(self.total));
        if found == expected { Ok(()) } else { Err(PrefixProblem::Length { found, expected }) }
    }
}

#[cfg(test)]
mod tests {
    use super::{PrefixCheck, PrefixProblem};
    use crate::interleave::Interleave;

    fn check(counts: &[u64], order: &[usize], expected: Result<(), PrefixProblem>) {
        let mut check = PrefixCheck::new(counts);
        let pushed = order.iter().try_for_each(|&domain| check.push(domain));
        assert_eq!(pushed.and_then(|()| check.finish()), expected, "{counts:?} {order:?}");
    }

    #[test]
    fn orders_are_accepted_up_to_less_than_a_sequence() {
        check(&[], &[], Ok(()));
        check(&[2, 2], &[0, 1, 0, 1], Ok(()));
        check(&[2, 2], &[0, 1, 1, 0], Ok(()));
        check(&[2, 2], &[0, 0, 1, 1], Err(PrefixProblem::Ratio { step: 2, total: 4, domain: 0, taken: 2, count: 2 }));
        check(&[3, 1], &[0, 0, 0, 1], Ok(()));
        check(&[0, 1], &[0], Err(PrefixProblem::Uncounted { index: 0, domain: 0, count: 0 }));
        check(&[1, 1], &[0, 0], Err(PrefixProblem::Uncounted { index: 1, domain: 0, count: 1 }));
        check(&[1], &[1], Err(PrefixProblem::Uncounted { index: 0, domain: 1, count: 0 }));
        check(&[1, 1], &[0], Err(PrefixProblem::Length { found: 1, expected: 2 }));
    }

    #[test]
    fn a_sequence_moved_across_a_period_is_found() {
        let counts = [1500, 100, 400];
        let order: Vec<usize> = Interleave::new(&counts).collect();
        // Any clinical sequence that changes places with a biomedical one at least a period away.
        let clinical: Vec<usize> = (0..order.len()).filter(|&index| order[index] == 1).collect();
        for &index in &clinical {
            for other in [index.checked_sub(21), index.checked_sub(300), Some(index + 21), Some(index + 300)] {
                let Some(other) = other.filter(|&other| other < order.len() && order[other] == 0) else { continue };
                let mut swapped = order.clone();
                swapped.swap(index, other);
                let mut check = PrefixCheck::new(&counts);
                assert!(swapped.iter().try_for_each(|&domain| check.push(domain)).is_err(), "{index} and {other}");
            }
        }
        assert!(clinical.len() == 100);
    }

    #[test]
    fn a_check_goes_on_where_another_ended() {
        let counts = [15, 1, 4];
        let order: Vec<usize> = Interleave::new(&counts).collect();
        let mut taken = vec![0; 3];
        for &domain in &order[..7] {
            taken[domain] += 1;
        }
        let mut check = PrefixCheck::after(&counts, taken);
        for &domain in &order[7..] {
            check.push(domain).unwrap();
        }
        assert_eq!(check.finish(), Ok(()));
    }

    #[test]
    fn an_order_without_some_of_its_sequences_keeps_the_wider_bound() {
        let counts = [30, 5, 11];
        let order: Vec<usize> = Interleave::new(&counts).collect();
        for missing in 0..=6_usize {
            // The worst that can be taken out of one place: consecutive sequences of one domain, from its middle on.
            for domain in 0..3 {
                let of_domain: Vec<usize> = (0..order.len()).filter(|&at| order[at] == domain).collect();
                let gone: Vec<usize> = of_domain.iter().skip(of_domain.len() / 3).take(missing).copied().collect();
                let left = (0..order.len()).filter(|at| !gone.contains(at)).map(|at| order[at]);
                let mut check = PrefixCheck::new(&counts).without(gone.len() as u64);
                left.for_each(|domain| check.push(domain).unwrap());
                check.finish().unwrap();
            }
        }
        // One sequence less than was said is an order that ends early; an order turned round is off all the same.
        let mut check = PrefixCheck::new(&counts).without(1);
        order[2..].iter().for_each(|&domain| check.push(domain).unwrap());
        assert!(check.finish().is_err());
        let mut check = PrefixCheck::new(&counts).without(2);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().any(|&domain| check.push(domain).is_err()));
    }
}
