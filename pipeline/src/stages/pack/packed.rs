//! Packed sequences at rest: a table of pieces, a row each, that says which tokens of which document stand where. It holds no
//! tokens; `publish` gathers them once, when a sequence's place in the shards is known.

use std::ops::Range;

use arrow::array::UInt32Array;
use mellama_shards::packing::PackedSequence;
use mellama_storage::ObjectEntry;

use crate::context::Context;
use crate::failure::Failure;
use crate::stage::Stage;
use crate::stages::pack::Placement;
use crate::tables::{self, TableWriter};

/// Rows that are made at once.
const BATCH_ROWS: usize = tables::ROW_GROUP_ROWS;

/// A part of one document in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlacedPiece {
    /// Tokenize task whose object holds the document.
    pub object: u32,
    /// Row of the document there.
    pub row: u32,
    /// Source, by its place in the recipe.
    pub source: u16,
    /// Which pass over its source it is, from 0.
    pub epoch: u32,
    /// First token, counted in the document.
    pub offset: u32,
    /// Number of tokens.
    pub length: u32,
}

/// Writes the sequences of part `part` of a stream; its entry counts sequences.
///
/// # Errors
/// `Failure::Storage`.
pub(super) fn write(
    context: &Context<'_>,
    stream: &str,
    part: u64,
    placements: &[Placement],
    sequences: &[PackedSequence],
) -> Result<ObjectEntry, Failure> {
    let mut rows = Vec::with_capacity(BATCH_ROWS);
    let mut table = TableWriter::new(context.workdir, &format!("packed/{stream}"), &batch(&rows))?;
    for (number, pieces) in (0..).zip(sequences) {
        for piece in pieces {
            let Placement { object, row, source, epoch, .. } = placements[piece.run as usize];
            rows.push((number, PlacedPiece { object, row, source, epoch, offset: piece.offset, length: piece.length }));
            if rows.len() == BATCH_ROWS {
                table.push(&batch(&rows))?;
                rows.clear();
            }
        }
    }
    if !rows.is_empty() {
        table.push(&batch(&rows))?;
    }
    table.finish_counting(&format!("{part:05}"), sequences.len() as u64)
}

fn batch(rows: &[(u32, PlacedPiece)]) -> arrow::array::RecordBatch {
    tables::batch(vec![
        ("sequence", tables::u32s(rows.iter().map(|row| row.0))),
        ("object", tables::u32s(rows.iter().map(|row| row.1.object))),
        ("row", tables::u32s(rows.iter().map(|row| row.1.row))),
        ("source", tables::u32s(rows.iter().map(|row| u32::from(row.1.source)))),
        ("epoch", tables::u32s(rows.iter().map(|row| row.1.epoch))),
        ("offset", tables::u32s(rows.iter().map(|row| row.1.offset))),
        ("length", tables::u32s(rows.iter().map(|row| row.1.length))),
    ])
}

/// The packed sequences of one stream, in order.
pub(crate) struct Packed {
    parts: Vec<ObjectEntry>,
    /// `starts[i]` is the number of sequences before part `i`; one more entry for the end.
    starts: Vec<u64>,
}

impl Packed {
    /// Lists the parts of a stream; none is read.
    ///
    /// # Errors
    /// As `Context::manifest`.
    pub(crate) fn open(context: &Context<'_>, stream: &str) -> Result<Packed, Failure> {
        let folder = format!("packed/{stream}/");
        let objects = context.manifest(Stage::Pack)?.objects;
        let parts: Vec<ObjectEntry> = objects.into_iter().filter(|object| object.key.starts_with(&folder)).collect();
        let mut starts = vec![0];
        starts.extend(parts.iter().scan(0, |sum, part| {
            *sum += part.records;
            Some(*sum)
        }));
        Ok(Packed { parts, starts })
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
                let batch = batch?;
                let columns: Vec<&UInt32Array> =
                    COLUMNS.iter().map(|name| tables::column(&batch, name)).collect::<Result<_, _>>()?;
                for row in 0..batch.num_rows() {
                    let [number, object, row, source, epoch, offset, length] =
                        [0, 1, 2, 3, 4, 5, 6].map(|column| columns[column].value(row));
                    let at = (start + u64::from(number)).checked_sub(range.start).map(|at| at as usize);
                    if let Some(pieces) = at.and_then(|at| found.get_mut(at)) {
                        pieces.push(PlacedPiece { object, row, source: source as u16, epoch, offset, length });
                    }
                }
            }
        }
        Ok(found)
    }
}

const COLUMNS: [&str; 7] = ["sequence", "object", "row", "source", "epoch", "offset", "length"];
