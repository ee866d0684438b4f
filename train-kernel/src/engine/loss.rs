//! Sums of cross-entropy, in all and by source.
//!
//! Sums, never means: micro-batches and ranks have different numbers of targets, so only sums may be added up.

use std::ops::AddAssign;

/// The cross-entropy of a set of targets, in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Sum over the targets.
    pub sum: f64,
    /// Number of targets.
    pub tokens: u64,
    /// The same by source, ascending; only sources with targets.
    pub sources: Vec<SourceLoss>,
}

/// One source's part of a [`LossSum`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceLoss {
    /// The source's index in the shard header.
    pub source: u16,
    /// Sum over its targets.
    pub sum: f64,
    /// Number of its targets.
    pub tokens: u64,
}

impl LossSum {
    /// The mean over the targets; None when there is none.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.sum / self.tokens as f64)
    }

    /// Adds one target's loss.
    pub(crate) fn add(&mut self, source: u16, loss: f64) {
        self.sum += loss;
        self.tokens += 1;
        self.add_source(SourceLoss { source, sum: loss, tokens: 1 });
    }

    fn add_source(&mut self, part: SourceLoss) {
        match self.sources.binary_search_by_key(&part.source, |known| known.source) {
            Ok(place) => {
                self.sources[place].sum += part.sum;
                self.sources[place].tokens += part.tokens;
            }
            Err(place) => self.sources.insert(place, part),
        }
    }
}

impl AddAssign<&LossSum> for LossSum {
    fn add_assign(&mut self, other: &LossSum) {
        self.sum += other.sum;
        self.tokens += other.tokens;
        for part in &other.sources {
            self.add_source(*part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LossSum, SourceLoss};

    #[test]
    fn sums_add_up_by_source() {
        let mut first = LossSum::default();
        assert_eq!(first.mean(), None);
        first.add(3, 1.0);
        first.add(1, 2.0);
        first.add(3, 4.0);
        let mut second = LossSum::default();
        second.add(2, 0.5);
        second.add(3, 0.25);
        first += &second;
        let part = |source, sum, tokens| SourceLoss { source, sum, tokens };
        assert_eq!(first.sources, [part(1, 2.0, 1), part(2, 0.5, 1), part(3, 5.25, 3)]);
        assert_eq!((first.sum, first.tokens), (7.75, 5));
        assert_eq!(first.mean(), Some(1.55));
    }
}
