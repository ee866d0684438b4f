//! Records of a training stage under `metrics/`, read back.

use std::sync::Arc;

use mellama_storage::{ObjectEntry, RangeReader};
use mellama_train::trainer::{HeldoutRecord, Kind, MetricLine, StepRecord};

use crate::context::Context;
use crate::failure::Failure;

/// What a training stage recorded.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Every step, in order.
    pub steps: Vec<StepRecord>,
    /// Every held-out measurement, in order.
    pub heldout: Vec<HeldoutRecord>,
    /// The objects that hold them.
    pub objects: Vec<ObjectEntry>,
}

/// The records so far, from the objects under `metrics/` whose bytes do not depend on when they were written.
///
/// # Errors
/// `Failure::Verification` for damaged metrics.
pub(crate) fn read(context: &Context<'_>, kind: Kind) -> Result<Metrics, Failure> {
    let prefix = format!("metrics/{}-", kind.as_str());
    let mut metrics = Metrics::default();
    let store = Arc::clone(context.workdir.store());
    for object in mellama_storage::list_all(&*store, &prefix) {
        let meta = object?;
        let rest = meta.key.as_str()[prefix.len()..].strip_suffix(".jsonl");
        if !rest.is_some_and(|step| step.bytes().all(|byte| byte.is_ascii_digit())) {
            continue;
        }
        let object = RangeReader::known(Arc::clone(&store), meta.clone());
        let bytes = object.read_at(0, meta.size_bytes as usize)?;
        let mut records = 0;
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            records += 1;
            let line = serde_json::from_slice(line);
            match line.map_err(|e| Failure::Verification(format!("{}: line {records}: {e}", meta.key)))? {
                MetricLine::Step(record) => metrics.steps.push(record),
                MetricLine::Heldout(record) => metrics.heldout.push(record),
                MetricLine::Rewind(_) => {}
            }
        }
        metrics.objects.push(ObjectEntry {
            key: meta.key.as_str().to_owned(),
            bytes: bytes.len() as u64,
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            records,
        });
    }
    metrics.steps.sort_by_key(|record| record.step);
    metrics.steps.dedup_by_key(|record| record.step);
    metrics.heldout.sort_by_key(|record| record.steps_done);
    metrics.heldout.dedup_by_key(|record| record.steps_done);
    Ok(metrics)
}
