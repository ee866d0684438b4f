//! Loss on sequences that are never trained on, by domain and source.

use std::collections::BTreeMap;

use super::job::TrainError;
use super::record::{HeldoutRecord, MeanLoss, by_source};
use super::step::{batch_of, read_sequences};
use crate::engine::{Engine, LossSum};
use crate::sequence_source::SequenceSource;

/// Sequences kept for validation.
pub struct Heldout<'a> {
    /// The sequences.
    pub sequences: &'a dyn SequenceSource,
    /// What the source numbers of these sequences stand for.
    pub sources: Vec<HeldoutSource>,
}

/// One source of held-out sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldoutSource {
    /// Its name.
    pub name: String,
    /// Its domain.
    pub domain: String,
}

impl Heldout<'_> {
    /// Measures the loss of everything held out, adapters without dropout, `micro_batch` sequences at a time.
    ///
    /// # Errors
    /// [`TrainError`] when a sequence cannot be read or does not fit the model.
    pub(super) fn measure(
        &self,
        engine: &mut Engine<f32>,
        micro_batch: u64,
        steps_done: u64,
    ) -> Result<HeldoutRecord, TrainError> {
        let mut sum = LossSum::default();
        let mut first = 0;
        while first < self.sequences.len() {
            let end = self.sequences.len().min(first + micro_batch);
            let sequences = read_sequences(self.sequences, first..end)?;
            let batch = batch_of(&sequences, engine.model().shape(), first)?;
            sum += &engine.loss(&batch, None)?;
            first = end;
        }
        let names: Vec<String> = self.sources.iter().map(|source| source.name.clone()).collect();
        let all = MeanLoss::of(sum.sum, sum.tokens);
        Ok(HeldoutRecord { steps_done, all, domains: self.by_domain(&sum), sources: by_source(&sum, &names) })
    }

    fn by_domain(&self, sum: &LossSum) -> BTreeMap<String, MeanLoss> {
        let mut sums: BTreeMap<String, (f64, u64)> = BTreeMap::new();
        for part in &sum.sources {
            let domain = self.sources.get(usize::from(part.source)).map_or("unknown", |source| &source.domain);
            let entry = sums.entry(domain.to_owned()).or_default();
            entry.0 += part.sum;
            entry.1 += part.tokens;
        }
        sums.into_iter().map(|(domain, (sum, tokens))| (domain, MeanLoss::of(sum, tokens))).collect()
    }
}
