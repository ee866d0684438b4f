//! Whether every prefix of a training order is within one sequence of the ratio, from the domains and sizes of its sequences alone.
//!
//! It shares nothing with [`crate::interleave`], whose work it checks; it reads no files.

/// Sums the sizes of the sequences of each domain as they come and compares them, in integers, with `total · C / N` after each of
/// them, `C` being the size of all that came and `N` that of all there are. Sizes are tokens, or 1 where sequences have the ratio.
#[derive(Debug, Clone)]
pub struct PrefixCheck {
    totals: Vec<u64>,
    taken: Vec<u64>,
    total: u64,
    /// Size of what came.
    sum: u64,
    /// Largest size of a sequence.
    largest: u64,
    /// Size of what was taken out of the order afterwards.
    missing: u64,
}

/// A prefix that is more than a whole sequence away from the ratio, or an order that is not that of the totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixProblem {
    /// After `sum` of the order a domain has too much or too little.
    #[error("first {sum} of {total}: {taken} of domain {domain}, expected within {allowed} of {sum} x {of_domain} / {total}")]
    Ratio {
        /// Size of the prefix.
        sum: u64,
        /// Size of all.
        total: u64,
        /// Index of the domain.
        domain: usize,
        /// Its size in the prefix.
        taken: u64,
        /// Its size in all.
        of_domain: u64,
        /// How far it may be off.
        allowed: u64,
    },
    /// More of a domain than there is.
    #[error("after {sum}: more of domain {domain} than its {of_domain}")]
    Uncounted {
        /// Size of what came before.
        sum: u64,
        /// Index of the domain.
        domain: usize,
        /// Its size in all.
        of_domain: u64,
    },
    /// The order ends before everything came.
    #[error("order: {found} in all, expected {expected}")]
    Length {
        /// Size of what came.
        found: u64,
        /// Size of what there is.
        expected: u64,
    },
}

impl PrefixCheck {
    /// Begins with nothing of `totals[i]` of domain `i`, in sequences of at most `largest`.
    ///
    /// # Panics
    /// When the totals sum to more than `u64::MAX`.
    pub fn new(totals: &[u64], largest: u64) -> Self {
        Self::after(totals, largest, vec![0; totals.len()])
    }

    /// Begins where `taken[i]` of domain `i` came already.
    ///
    /// # Panics
    /// As [`PrefixCheck::new`], or when there are not as many entries as totals.
    pub fn after(totals: &[u64], largest: u64, taken: Vec<u64>) -> Self {
        assert_eq!(totals.len(), taken.len(), "an entry for each domain");
        let sum = |values: &[u64]| values.iter().try_fold(0_u64, |sum, &value| sum.checked_add(value));
        let total = sum(totals).expect("sizes fit in 64 bits");
        let sum = sum(&taken).expect("sizes fit in 64 bits");
        Self { totals: totals.to_vec(), taken, total, sum, largest, missing: 0 }
    }

    /// Knows that so much of the totals was taken out of the order, but not where.
    ///
    /// A prefix of what is left is a prefix of the whole order without r of it, r at most `missing`. The whole one is within one
    /// sequence of the ratio; taking r out moves a domain's part and its share by at most r each, in one direction, so that every
    /// prefix of what is left is within `largest + missing` of the ratio of the whole.
    #[must_use]
    pub fn without(mut self, missing: u64) -> Self {
        self.missing = missing;
        self
    }

    /// Takes the next sequence.
    ///
    /// # Errors
    /// [`PrefixProblem`] when the order up to it is off; the check is of no use afterwards.
    pub fn push(&mut self, domain: usize, size: u64) -> Result<(), PrefixProblem> {
        let of_domain = self.totals.get(domain).copied().unwrap_or(0);
        let sum = self.sum;
        let after = self.taken.get(domain).and_then(|taken| taken.checked_add(size)).filter(|after| *after <= of_domain);
        let Some(after) = after else { return Err(PrefixProblem::Uncounted { sum, domain, of_domain }) };
        self.taken[domain] = after;
        self.sum += size;
        let (sum, total) = (self.sum, self.total);
        let allowed = self.largest.saturating_add(self.missing);
        for (domain, (&of_domain, &taken)) in self.totals.iter().zip(&self.taken).enumerate() {
            let exact = u128::from(of_domain) * u128::from(sum);
            if (u128::from(taken) * u128::from(total)).abs_diff(exact) > u128::from(total) * u128::from(allowed) {
                return Err(PrefixProblem::Ratio { sum, total, domain, taken, of_domain, allowed });
            }
        }
        Ok(())
    }

    /// Demands that everything came that was not taken out.
    ///
    /// # Errors
    /// [`PrefixProblem::Length`].
    pub fn finish(self) -> Result<(), PrefixProblem> {
        let (found, expected) = (self.sum, self.total - self.missing.min(self.total));
        if found == expected { Ok(()) } else { Err(PrefixProblem::Length { found, expected }) }
    }
}

#[cfg(test)]
mod tests {
    use super::{PrefixCheck, PrefixProblem};

    fn check(totals: &[u64], largest: u64, order: &[(usize, u64)], expected: Result<(), PrefixProblem>) {
        let mut check = PrefixCheck::new(totals, largest);
        let pushed = order.iter().try_for_each(|&(domain, size)| check.push(domain, size));
        assert_eq!(pushed.and_then(|()| check.finish()), expected, "{totals:?} {order:?}");
    }

    #[test]
    fn orders_are_accepted_up_to_a_sequence() {
        check(&[], 1, &[], Ok(()));
        check(&[2, 2], 1, &[(0, 1), (1, 1), (1, 1), (0, 1)], Ok(()));
        check(&[2, 2], 1, &[(0, 1), (0, 1), (1, 1), (1, 1)], Ok(()));
        let off = PrefixProblem::Ratio { sum: 3, total: 6, domain: 0, taken: 3, of_domain: 3, allowed: 1 };
        check(&[3, 3], 1, &[(0, 1), (0, 1), (0, 1), (1, 1), (1, 1), (1, 1)], Err(off));
        check(&[8, 8], 4, &[(0, 4), (0, 4), (1, 8)], Ok(()));
        let off = PrefixProblem::Ratio { sum: 8, total: 16, domain: 0, taken: 8, of_domain: 8, allowed: 3 };
        check(&[8, 8], 3, &[(0, 4), (0, 4), (1, 8)], Err(off));
        check(&[0, 1], 1, &[(0, 1)], Err(PrefixProblem::Uncounted { sum: 0, domain: 0, of_domain: 0 }));
        check(&[1, 1], 1, &[(0, 1), (0, 1)], Err(PrefixProblem::Uncounted { sum: 1, domain: 0, of_domain: 1 }));
        check(&[1], 1, &[(1, 1)], Err(PrefixProblem::Uncounted { sum: 0, domain: 1, of_domain: 0 }));
        check(&[1, 1], 1, &[(0, 1)], Err(PrefixProblem::Length { found: 1, expected: 2 }));
    }

    #[test]
    fn a_check_goes_on_where_another_ended() {
        let order = [0, 1, 0, 2, 0, 1, 0, 2];
        let mut check = PrefixCheck::after(&[4, 2, 2], 1, vec![2, 1, 1]);
        order[4..].iter().for_each(|&domain| check.push(domain, 1).unwrap());
        assert_eq!(check.finish(), Ok(()));
    }

    #[test]
    fn an_order_without_some_of_it_keeps_the_wider_bound() {
        // 30, 5 and 11 by the deadline of each sequence's middle: within one of the ratio.
        let counts = [30_u64, 5, 11];
        let mut order: Vec<(u64, usize)> = Vec::new();
        for (domain, &count) in counts.iter().enumerate() {
            order.extend((0..count).map(|at| ((2 * at + 1) * 1000 / count, domain)));
        }
        order.sort_unstable();
        let order: Vec<usize> = order.into_iter().map(|(_, domain)| domain).collect();
        for missing in 0..=6_usize {
            // The worst that can be taken out of one place: consecutive sequences of one domain, from its middle on.
            for domain in 0..3 {
                let of_domain: Vec<usize> = (0..order.len()).filter(|&at| order[at] == domain).collect();
                let gone: Vec<usize> = of_domain.iter().skip(of_domain.len() / 3).take(missing).copied().collect();
                let left = (0..order.len()).filter(|at| !gone.contains(at)).map(|at| order[at]);
                let mut check = PrefixCheck::new(&counts, 1).without(gone.len() as u64);
                left.for_each(|domain| check.push(domain, 1).unwrap());
                check.finish().unwrap();
            }
        }
        // Less than was said is an order that ends early; an order turned round is off all the same.
        let mut check = PrefixCheck::new(&counts, 1).without(1);
        order[2..].iter().for_each(|&domain| check.push(domain, 1).unwrap());
        assert!(check.finish().is_err());
        let mut check = PrefixCheck::new(&counts, 1).without(2);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().any(|&domain| check.push(domain, 1).is_err()));
    }
}
