//! The turns of the domains in the shards, by the sizes of their sequences, and with which turn each shard begins.
//!
//! `pack` works the beginnings out once, when every sequence is there; `publish` goes on from them, shard by shard.

use std::collections::VecDeque;

use arrow::array::UInt32Array;
use mellama_shards::Segment;
use mellama_shards::interleave::{Given, Interleave};
use mellama_storage::ObjectEntry;

use super::packed::Packed;
use crate::context::Context;
use crate::failure::Failure;
use crate::stages::mix::{MixFacts, Stream};
use crate::tables;

/// What of a sequence is in the ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Its tokens, without padding.
    Tokens,
    /// Itself, where whole sequences are asked for.
    Sequences,
}

impl Measure {
    pub(crate) fn of(facts: &MixFacts) -> Measure {
        if facts.unit == "sequences" { Measure::Sequences } else { Measure::Tokens }
    }

    /// The size of a sequence with these segments.
    pub(crate) fn size(self, segments: &[Segment]) -> u64 {
        match self {
            Measure::Tokens => segments.last().map_or(0, |last| u64::from(last.end)),
            Measure::Sequences => 1,
        }
    }

    /// The largest size of a sequence of T tokens.
    pub(crate) fn largest(self, sequence_length: u32) -> u64 {
        match self {
            Measure::Tokens => u64::from(sequence_length),
            Measure::Sequences => 1,
        }
    }
}

/// Sequences of one domain that are published.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) stream: Stream,
    /// Sequences packed.
    pub(crate) packed: u64,
    /// Sequences published; fewer than packed only where whole sequences are asked for.
    pub(crate) wanted: u64,
    /// Their sizes, summed.
    pub(crate) total: u64,
}

/// The domains of the training shards, or of the held-out ones; `packed` says how many sequences a stream has.
pub(crate) fn lanes(facts: &MixFacts, heldout: bool, sequence_length: u32, packed: &dyn Fn(&str) -> u64) -> Vec<Lane> {
    let measure = Measure::of(facts);
    let lane = |stream: &Stream| {
        let packed = packed(&stream.name);
        let quota = stream.tokens / u64::from(sequence_length);
        let wanted = if measure == Measure::Sequences && !heldout { packed.min(quota) } else { packed };
        let total = if measure == Measure::Tokens { stream.tokens } else { wanted };
        Lane { stream: stream.clone(), packed, wanted, total }
    };
    facts.streams.iter().filter(|stream| stream.heldout == heldout).map(lane).collect()
}

/// The turns from some sequence on.
pub(crate) struct Turns<'a> {
    context: &'a Context<'a>,
    measure: Measure,
    sizes: Vec<Sizes<'a>>,
    order: Interleave,
}

impl<'a> Turns<'a> {
    /// Goes on where `given` was handed out; `packed` are the sequences of `lanes`.
    pub(crate) fn after(context: &'a Context<'a>, measure: Measure, lanes: &[Lane], packed: &'a [Packed], given: Given) -> Self {
        let totals: Vec<u64> = lanes.iter().map(|lane| lane.total).collect();
        let sizes = packed.iter().zip(lanes).zip(&given.sequences).map(|((packed, lane), &next)| Sizes {
            packed,
            next,
            end: lane.wanted,
            ahead: VecDeque::new(),
        });
        Turns { context, measure, sizes: sizes.collect(), order: Interleave::after(&totals, given) }
    }

    /// The domain whose turn it is, as an index of the lanes; `None` at the end.
    ///
    /// # Errors
    /// `Failure::Verification` for tables that are not what `pack` wrote.
    pub(crate) fn next(&mut self) -> Result<Option<usize>, Failure> {
        for sizes in &mut self.sizes {
            sizes.look_ahead(self.context, self.measure)?;
        }
        let sizes = &self.sizes;
        let turn = self.order.turn(|lane| sizes[lane].ahead.front().copied());
        if let Some(lane) = turn {
            self.sizes[lane].ahead.pop_front();
        }
        Ok(turn)
    }

    /// What was handed out.
    pub(crate) fn given(&self) -> &Given {
        self.order.given()
    }
}

/// Sizes of the sequences of one lane, a part of the table at a time.
struct Sizes<'a> {
    packed: &'a Packed,
    /// The first sequence that is not read yet, and the one behind the last.
    next: u64,
    end: u64,
    ahead: VecDeque<u64>,
}

impl Sizes<'_> {
    fn look_ahead(&mut self, context: &Context<'_>, measure: Measure) -> Result<(), Failure> {
        if !self.ahead.is_empty() || self.next == self.end {
            return Ok(());
        }
        let (part, first) = self.packed.part_of(self.next)?;
        let end = self.end.min(first + part.records);
        let skipped = (self.next - first) as usize;
        let count = (end - self.next) as usize;
        match measure {
            Measure::Sequences => self.ahead.extend(std::iter::repeat_n(1, count)),
            Measure::Tokens => self.ahead.extend(tokens_of(context, part)?.into_iter().skip(skipped).take(count)),
        }
        self.next = end;
        Ok(())
    }
}

/// Tokens of the sequences of one part, in order.
fn tokens_of(context: &Context<'_>, part: &ObjectEntry) -> Result<Vec<u64>, Failure> {
    let mut sizes = vec![0; part.records as usize];
    for batch in tables::stream(context.workdir, part, &["sequence", "length"])? {
        let batch = batch?;
        let number = |name: &str| tables::column::<UInt32Array>(&batch, name);
        for (sequence, length) in number("sequence")?.values().iter().zip(number("length")?.values()) {
            let size = sizes.get_mut(*sequence as usize).ok_or_else(|| {
                Failure::Verification(format!("{}: sequence {sequence} of {}; run \"mellama verify\"", part.key, part.records))
            })?;
            *size += u64::from(*length);
        }
    }
    Ok(sizes)
}

/// What was handed out before each shard of `shard_sequences` sequences.
///
/// # Errors
/// As [`Turns::next`].
pub(super) fn beginnings(
    context: &Context<'_>,
    measure: Measure,
    lanes: &[Lane],
    packed: &[Packed],
    shard_sequences: u64,
) -> Result<Vec<Given>, Failure> {
    let sequences: u64 = lanes.iter().map(|lane| lane.wanted).sum();
    let mut turns = Turns::after(context, measure, lanes, packed, Given::none(lanes.len()));
    let mut found = Vec::with_capacity(sequences.div_ceil(shard_sequences) as usize);
    for sequence in 0..sequences {
        if sequence % shard_sequences == 0 {
            context.check_stop()?;
            found.push(turns.given().clone());
        }
        if turns.next()?.is_none() {
            let uri = context.workdir.store().uri();
            let lost = format!("{uri}: pack: the turns end after {sequence} of {sequences} sequences; report this as a bug");
            return Err(Failure::Failed(lost));
        }
    }
    Ok(found)
}
