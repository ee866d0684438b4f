//! Packed sequences at rest: a table of pieces, a row each, that says which tokens of which document stand where. It holds no
//! tokens; `publish` gathers them once, when a sequence's place in the shards is known, and needs no index for it.

use std::ops::Range;

use arrow::array::{FixedSizeBinaryArray, RecordBatch, UInt32Array, UInt64Array};
use mellama_shards::packing::PackedSequence;
use mellama_shards::{RunPart, RunPlace};
use mellama_storage::ObjectEntry;

use crate::context::Context;
use crate::failure::Failure;
use crate::stage::Stage;
use crate::stages::pack::Placement;
use crate::tables::{self, TableWriter};

/// Rows that are made at once.
const BATCH_ROWS: usize = tables::ROW_GROUP_ROWS;

/// Names of the columns. `sequence` counts from the first one of the table.
const COLUMNS: [&str; 11] =
    ["sequence", "object", "row", "source", "epoch", "offset", "length", "tokens", "start", "check", "key"];

/// A part of one document in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlacedPiece {
    /// Tokenize task whose object holds the document.
    pub object: u32,
    /// Which tokens, and where they lie.
    pub part: RunPart,
    /// Document key.
    pub key: u128,
    /// Source, by its place in the recipe.
    pub source: u16,
    /// Which pass over its source it is, from 0.
    pub epoch: u32,
}

/// Writes the sequences of part `number` of a stream; its entry counts sequences.
///
/// # Errors
/// `Failure::Storage`.
pub(super) fn write(
    context: &Context<'_>,
    stream: &str,
    number: u64,
    placements: &[Placement],
    sequences: &[PackedSequence],
) -> Result<ObjectEntry, Failure> {
    let mut rows = Vec::with_capacity(BATCH_ROWS);
    let mut table = TableWriter::new(context.workdir, &format!("packed/{stream}"), &batch(&rows))?;
    for (sequence, pieces) in (0..).zip(sequences) {
        for piece in pieces {
            let Placement { object, row, tokens, place, key, source, epoch, .. } = placements[piece.run as usize];
            let part = RunPart { row, tokens, place, offset: piece.offset, length: piece.length };
            rows.push((sequence, PlacedPiece { object, part, key, source, epoch }));
            if rows.len() == BATCH_ROWS {
                table.push(&batch(&rows))?;
                rows.clear();
            }
        }
    }
    if !rows.is_empty() {
        table.push(&batch(&rows))?;
    }
    table.finish_counting(&format!("{number:05}"), sequences.len() as u64)
}

fn batch(rows: &[(u32, PlacedPiece)]) -> RecordBatch {
    let numbers = |get: fn(&PlacedPiece) -> u32| tables::u32s(rows.iter().map(|row| get(&row.1)));
    let columns = [
        tables::u32s(rows.iter().map(|row| row.0)),
        numbers(|piece| piece.object),
        numbers(|piece| piece.part.row),
        numbers(|piece| u32::from(piece.source)),
        numbers(|piece| piece.epoch),
        numbers(|piece| piece.part.offset),
        numbers(|piece| piece.part.length),
        numbers(|piece| piece.part.tokens),
        tables::u64s(rows.iter().map(|row| row.1.part.place.start)),
        tables::u64s(rows.iter().map(|row| row.1.part.place.check)),
        tables::keys(rows.iter().map(|row| row.1.key)),
    ];
    tables::batch(COLUMNS.into_iter().zip(columns).collect())
}

/// The packed sequences of one stream, in order.
pub(crate) struct Packed {
    parts: Vec<ObjectEntry>,
    /// `starts[i]` is the number of sequences before part `i`.
    starts: Vec<u64>,
}

impl Packed {
    /// Lists the parts of a stream; none is read.
    ///
    /// # Errors
    /// As `Context::manifest`.
    pub(crate) fn open(context: &Context<'_>, stream: &str) -> Result<Packed, Failure> {
        Ok(Packed::of(&context.manifest(Stage::Pack)?.objects, stream))
    }

    /// The parts of a stream among the objects of the stage.
    pub(crate) fn of(objects: &[ObjectEntry], stream: &str) -> Packed {
        let folder = format!("packed/{stream}/");
        let parts: Vec<ObjectEntry> = objects.iter().filter(|object| object.key.starts_with(&folder)).cloned().collect();
        let mut sequences = 0;
        let mut starts = Vec::with_capacity(parts.len());
        for part in &parts {
            starts.push(sequences);
            sequences += part.records;
        }
        Packed { parts, starts }
    }

    /// The part that holds a sequence, and its first one.
    pub(super) fn part_of(&self, sequence: u64) -> Result<(&ObjectEntry, u64), Failure> {
        let at = self.starts.partition_point(|start| *start <= sequence).checked_sub(1);
        let found = at.map(|at| (&self.parts[at], self.starts[at]));
        found
            .filter(|(part, start)| sequence < start + part.records)
            .ok_or_else(|| Failure::Verification(format!("packed: sequence {sequence} is in no part; run \"mellama verify\"")))
    }

    /// The pieces of the sequences of `range`.
    ///
    /// # Errors
    /// `Failure::Verification` for a table that is not what `pack` wrote.
    pub(crate) fn read(&self, context: &Context<'_>, range: Range<u64>) -> Result<Vec<Vec<PlacedPiece>>, Failure> {
        let mut found = vec![Vec::new(); (range.end - range.start) as usize];
        for (part, start) in self.parts.iter().zip(&self.starts) {
            if *start >= range.end || start + part.records <= range.start {
                continue;
            }
            for batch in tables::stream(context.workdir, part, &COLUMNS)? {
                for_each(&batch?, |sequence, piece| {
                    let at = (start + u64::from(sequence)).checked_sub(range.start);
                    if let Some(pieces) = at.and_then(|at| found.get_mut(at as usize)) {
                        pieces.push(piece);
                    }
                })?;
            }
        }
        Ok(found)
    }
}

/// Shows each row of a batch of the table.
fn for_each(batch: &RecordBatch, mut take: impl FnMut(u32, PlacedPiece)) -> Result<(), Failure> {
    let number = |name| tables::column::<UInt32Array>(batch, name);
    let (sequence, object, row, source) = (number("sequence")?, number("object")?, number("row")?, number("source")?);
    let (epoch, offset, length, tokens) = (number("epoch")?, number("offset")?, number("length")?, number("tokens")?);
    let start: &UInt64Array = tables::column(batch, "start")?;
    let check: &UInt64Array = tables::column(batch, "check")?;
    let keys: &FixedSizeBinaryArray = tables::column(batch, "key")?;
    for i in 0..batch.num_rows() {
        let place = RunPlace { start: start.value(i), check: check.value(i) };
        let (row, tokens) = (row.value(i), tokens.value(i));
        let part = RunPart { row, tokens, place, offset: offset.value(i), length: length.value(i) };
        let (source, key) = (source.value(i) as u16, tables::key(keys, i)?);
        take(sequence.value(i), PlacedPiece { object: object.value(i), part, key, source, epoch: epoch.value(i) });
    }
    Ok(())
}
