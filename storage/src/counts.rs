//! What a task read and where it went, and the balance that every stage keeps: read = written + dropped + rejected.
//! Tokens are not counted here; documents and bytes are.

use serde::{Deserialize, Serialize};
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// A number of documents (or other records) and their length in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Documents.
    pub documents: u64,
    /// Bytes of those documents, as the stage defines them.
    pub bytes: u64,
}

impl Tally {
    /// One document of `bytes` bytes.
    pub fn one(bytes: u64) -> Self {
        Self { documents: 1, bytes }
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        // Saturated sums do not balance any more, where wrapped ones might.
        Self { documents: self.documents.saturating_add(other.documents), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

/// Where everything went that a task or a stage read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// What came in.
    pub read: Tally,
    /// What went on to the next stage.
    pub written: Tally,
    /// Good documents that a rule removed.
    pub dropped: Tally,
    /// Malformed records.
    pub rejected: Tally,
}

impl Counts {
    /// Checks that read = written + dropped + rejected, in documents and in bytes.
    ///
    /// # Errors
    /// [`Imbalance`] with both sides of the first sum that does not hold.
    pub fn check(&self) -> Result<(), Imbalance> {
        let sums = |pick: fn(&Tally) -> u64| {
            let out = [&self.written, &self.dropped, &self.rejected].map(|tally| u128::from(pick(tally)));
            (u128::from(pick(&self.read)), out.iter().sum::<u128>())
        };
        for (unit, (read, accounted)) in [("documents", sums(|tally| tally.documents)), ("bytes", sums(|tally| tally.bytes))] {
            if read != accounted {
                return Err(Imbalance { unit, read, accounted });
            }
        }
        Ok(())
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            written: self.written + other.written,
            dropped: self.dropped + other.dropped,
            rejected: self.rejected + other.rejected,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

/// Documents or bytes that are unaccounted for, or counted twice: a bug in the stage that counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("counts: written + dropped + rejected = {accounted} {unit}, {read} read; report this as a bug")]
pub struct Imbalance {
    /// "documents" or "bytes".
    pub unit: &'static str,
    /// The left side.
    pub read: u128,
    /// The right side: written + dropped + rejected.
    pub accounted: u128,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(documents: [u64; 4], bytes: [u64; 4]) -> Counts {
        let tally = |index: usize| Tally { documents: documents[index], bytes: bytes[index] };
        Counts { read: tally(0), written: tally(1), dropped: tally(2), rejected: tally(3) }
    }

    #[test]
    fn what_is_read_is_accounted_for() {
        let check = |documents, bytes, expected: Option<&str>| {
            let found = counts(documents, bytes).check().err();
            assert_eq!(found.map(|imbalance| imbalance.unit), expected, "{documents:?} {bytes:?}");
        };
        check([0; 4], [0; 4], None);
        check([10, 7, 2, 1], [100, 50, 30, 20], None);
        check([10, 7, 2, 0], [100, 50, 30, 20], Some("documents"));
        check([10, 7, 2, 2], [100, 50, 30, 20], Some("documents"));
        check([10, 7, 2, 1], [100, 50, 30, 19], Some("bytes"));
        // No wrap-around: u64::MAX + 1 documents are not 0.
        check([0, u64::MAX, 1, 0], [0; 4], Some("documents"));
    }

    #[test]
    fn sums_of_balanced_counts_balance() {
        let sum: Counts = [counts([3, 1, 1, 1], [6, 1, 2, 3]), counts([5, 5, 0, 0], [9, 9, 0, 0])].into_iter().sum();
        assert_eq!(sum, counts([8, 6, 1, 1], [15, 10, 2, 3]));
        assert_eq!(sum.check(), Ok(()));
    }
}
