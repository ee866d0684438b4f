//! The layout, micro-batch and recompute mode that fit a cluster, the cheapest first, and what to be warned of.

use serde::Serialize;

use super::memory::{ElementSizes, MemoryNeed, Zero, adapter_memory_need, memory_need};
use super::time::{StepTime, Trained, step_time};
use super::{Layout, Machine};
use crate::engine::{MomentPrecision, Recompute};
use crate::lora::LoraSpec;
use crate::shape::Shape;

/// Tokens of a micro-batch that keep matrix products wide.
const MICRO_BATCH_TOKENS: u64 = 4096;
/// A layout that leaves less of the card than this is warned of.
const MARGIN: f64 = 0.03;

/// What a training is to run on, and what is fixed already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted<'a> {
    /// The model.
    pub shape: &'a Shape,
    /// The GPU.
    pub machine: &'a Machine,
    /// How many.
    pub gpus: u64,
    /// Tokens of a sequence.
    pub length: u64,
    /// Sequences of an optimizer step.
    pub batch_sequences: u64,
    /// Adapters on frozen weights.
    pub lora: Option<&'a LoraSpec>,
    /// Tensor-parallel ranks, when they are fixed.
    pub tensor_parallel: Option<u64>,
    /// ZeRO stage, when it is fixed.
    pub zero: Option<Zero>,
    /// Sequences of a micro-batch, when they are fixed.
    pub micro_batch_sequences: Option<u64>,
    /// Recompute mode, when it is fixed.
    pub recompute: Option<Recompute>,
    /// How moments are stored, when it is fixed.
    pub moments: Option<MomentPrecision>,
}

/// A layout with what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// How ranks share the work.
    pub layout: Layout,
    /// What is computed again.
    pub recompute: Recompute,
    /// Sequences of one micro-batch.
    pub micro_batch_sequences: u64,
    /// Micro-batches of a step on the busiest rank.
    pub accumulation: u64,
    /// Bytes of one rank.
    pub memory: MemoryNeed,
    /// Whether they fit the card.
    pub fits: bool,
    /// Seconds of a step, none of the traffic hidden.
    pub time: StepTime,
    /// What a person should look at.
    pub warnings: Vec<Warning>,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warning {
    /// Which.
    pub kind: WarningKind,
    /// In words.
    pub text: String,
}

/// What a [`Warning`] is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// The layout needs more than the card has.
    DoesNotFit,
    /// It leaves less than 3 % of the card.
    NoMargin,
    /// Some ranks have more micro-batches than others.
    UnevenBatch,
    /// GPUs are left over.
    UnusedGpus,
    /// Times come from rates that nobody measured on this machine.
    AssumedRates,
}

/// One step of the search.
#[derive(Clone, Copy)]
struct Attempt {
    recompute: Recompute,
    sizes: ElementSizes,
    zero: Zero,
}

/// What is given up, one after the other, until a layout fits.
fn attempts() -> [Attempt; 8] {
    let sizes = ElementSizes::default();
    let first = Attempt { recompute: Recompute::SelA, sizes, zero: Zero::Optimizer };
    let split = Attempt { sizes: ElementSizes { master: 2.0, ..sizes }, ..first };
    let sel_b = Attempt { recompute: Recompute::SelB, ..split };
    let moments = Attempt { sizes: ElementSizes { moment: 2.0, ..split.sizes }, ..sel_b };
    let gradients = Attempt { sizes: ElementSizes { gradients: 2.0, ..moments.sizes }, ..moments };
    let shared = Attempt { zero: Zero::Gradients, ..gradients };
    let weights = Attempt { zero: Zero::Weights, ..gradients };
    [first, split, sel_b, moments, gradients, shared, weights, Attempt { recompute: Recompute::Full, ..weights }]
}

/// The cheapest layout that fits; where none does, the smallest, which says so.
///
/// # Panics
/// Never: there is always a layout to name.
pub fn choose(wanted: &Wanted<'_>) -> Chosen {
    let candidates = candidates(wanted);
    let found = candidates
        .iter()
        .find(|chosen| chosen.fits)
        .or_else(|| candidates.iter().min_by(|one, other| one.memory.total_bytes.total_cmp(&other.memory.total_bytes)));
    let mut chosen = found.expect("there is at least one candidate").clone();
    chosen.warnings = warnings(wanted, &chosen);
    chosen
}

/// Layouts from the cheapest to the smallest: for each compromise the tensor-parallel widths in ascending order.
fn candidates(wanted: &Wanted<'_>) -> Vec<Chosen> {
    let mut widths: Vec<u64> = match wanted.tensor_parallel {
        Some(width) => vec![width],
        None => [1, 2, 4, 8].into_iter().filter(|&width| fits_width(wanted, width)).collect(),
    };
    if widths.is_empty() {
        widths.push(1);
    }
    let mut all = Vec::new();
    for attempt in attempts() {
        for &width in &widths {
            let recompute = wanted.recompute.unwrap_or(attempt.recompute);
            let data_parallel = (wanted.gpus / width).max(1);
            let alone = if data_parallel == 1 { Zero::None } else { attempt.zero };
            let zero = wanted.zero.unwrap_or(alone);
            let moment = wanted.moments.map_or(attempt.sizes.moment, |moments| moments.dtype().device_bytes() as f64);
            let sizes = ElementSizes { moment, ..attempt.sizes };
            let layout = Layout { zero, tensor_parallel: width, data_parallel, sizes };
            all.push(evaluate(wanted, layout, recompute));
        }
    }
    all
}

/// Whether heads, key-value heads and GPUs can be cut into so many.
fn fits_width(wanted: &Wanted<'_>, width: u64) -> bool {
    let shape = wanted.shape;
    let cuts = [shape.heads, shape.kv_heads, shape.feed_forward].into_iter().all(|size| (size as u64).is_multiple_of(width));
    cuts && width <= wanted.machine.gpus_per_node && wanted.gpus.is_multiple_of(width)
}

fn evaluate(wanted: &Wanted<'_>, layout: Layout, recompute: Recompute) -> Chosen {
    let share = wanted.batch_sequences.div_ceil(layout.data_parallel).max(1);
    let wide = MICRO_BATCH_TOKENS.div_ceil(wanted.length).clamp(1, share);
    let micro = wanted.micro_batch_sequences.unwrap_or(wide);
    let tokens = micro * wanted.length;
    let accumulation = share.div_ceil(micro);
    let memory = match wanted.lora {
        None => memory_need(wanted.shape, layout, tokens, recompute),
        Some(lora) => adapter_memory_need((wanted.shape, lora), layout, tokens, recompute),
    };
    let trained = Trained { parameters: wanted.lora.map(|lora| lora.parameter_count(wanted.shape)) };
    let time =
        step_time((wanted.shape, trained), wanted.machine, (tokens, wanted.length), recompute, layout, (accumulation, 0.0));
    Chosen {
        layout,
        recompute,
        micro_batch_sequences: micro,
        accumulation,
        memory,
        fits: memory.total_bytes < wanted.machine.card_bytes,
        time,
        warnings: Vec::new(),
    }
}

fn warnings(wanted: &Wanted<'_>, chosen: &Chosen) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |kind, text: String| warnings.push(Warning { kind, text });
    let (need, card) = (chosen.memory.total_bytes / 1e9, wanted.machine.card_bytes / 1e9);
    if !chosen.fits {
        warn(WarningKind::DoesNotFit, format!("{need:.1} GB a rank, the card has {card:.1}: more GPUs are needed"));
    } else if need > (1.0 - MARGIN) * card {
        warn(WarningKind::NoMargin, format!("{need:.1} GB a rank leave less than 3 % of the card's {card:.1}"));
    }
    let (batch, dp) = (wanted.batch_sequences, chosen.layout.data_parallel);
    let round = dp * chosen.micro_batch_sequences;
    if !batch.is_multiple_of(round) {
        let even = batch.next_multiple_of(round);
        let idle = 1.0 - batch as f64 / even as f64;
        warn(
            WarningKind::UnevenBatch,
            format!(
                "{batch} sequences a step on {dp} ranks of {} at once do not divide: {:.1} % of the time is idle; {even} divide",
                chosen.micro_batch_sequences,
                100.0 * idle
            ),
        );
    }
    let unused = wanted.gpus.saturating_sub(chosen.layout.ranks());
    if unused > 0 {
        warn(WarningKind::UnusedGpus, format!("{unused} of {} GPUs are not used", wanted.gpus));
    }
    warn(
        WarningKind::AssumedRates,
        format!("times come from rates assumed for {}, with no traffic hidden: none was measured", wanted.machine.name),
    );
    warnings
}
