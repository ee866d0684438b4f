//! The order of one stream, written as a table of placements as it is merged, and cut into windows on the way.
//!
//! It holds a row group of the table and what `Draws` holds, whatever the number of documents.

use std::collections::BTreeMap;

use mellama_shards::mixture::{DOMAIN_NAMES, SourceShare};
use mellama_shards::order::{Placed, Run};
use mellama_shards::packing::WINDOW_DOCUMENTS;
use mellama_storage::Workdir;

use super::counted::Counted;
use super::{Stream, WINDOW_TOKENS, Window};
use crate::context::Context;
use crate::documents::scratch_failure;
use crate::draws::{Draws, DrawsError};
use crate::failure::{Failure, chain};
use crate::tables::{self, TableWriter};

/// Documents that are hashed together, over all threads.
const BATCH_DOCUMENTS: usize = 65_536;

/// A stream as it was written.
pub(super) struct Written {
    pub(super) stream: Stream,
    /// Documents that are in it, each counted once.
    pub(super) documents: u64,
    /// The last document of each source that is used in part, by the number of the source.
    pub(super) cuts: BTreeMap<u16, Placed>,
}

/// Orders the documents of a domain, training or held out, by the shares of its sources and writes the table.
/// `None` where nothing is taken.
pub(super) fn write(
    context: &Context<'_>,
    counted: &Counted,
    domain: usize,
    heldout: bool,
    shares: Vec<(u16, SourceShare)>,
) -> Result<Option<Written>, Failure> {
    let shares: Vec<(u16, SourceShare)> = shares.into_iter().filter(|(_, share)| share.quota > 0).collect();
    if shares.is_empty() {
        return Ok(None);
    }
    let numbers: Vec<u16> = shares.iter().map(|(number, _)| *number).collect();
    let resources = context.resources;
    let mut draws = Draws::new(context.file.recipe.seed, shares, resources.memory_bytes, &resources.scratch);
    for (position, &source) in numbers.iter().enumerate() {
        counted.for_each_index(context, source, |object, index| {
            let entries = (0..).zip(index.entries()).filter(|(_, entry)| entry.heldout == heldout);
            let runs = entries.map(|(row, entry)| Run {
                object,
                row,
                tokens: entry.length,
                key: entry.key,
                source,
                place: entry.place(),
            });
            let runs: Vec<Run> = runs.collect();
            runs.chunks(BATCH_DOCUMENTS).try_for_each(|runs| draws.push(position, runs)).map_err(|e| scratch_failure(&e))
        })?;
    }
    let name = format!("{}-{}", if heldout { "heldout" } else { "train" }, DOMAIN_NAMES[domain]);
    let mut table = Table::begin(context.workdir)?;
    for placed in draws.finish().map_err(|e| failed(&e))? {
        table.push(placed.map_err(|e| failed(&DrawsError::Order(e)))?, context)?;
    }
    table.finish(name, domain, heldout).map(Some)
}

fn failed(error: &DrawsError) -> Failure {
    match error {
        DrawsError::Scratch(error) => scratch_failure(error),
        DrawsError::Order(_) => Failure::Failed(chain(error)),
    }
}

/// The table being written, and what is known of its rows.
struct Table {
    writer: TableWriter,
    rows: Vec<Placed>,
    windows: Vec<Window>,
    tokens: u64,
    documents: u64,
    cuts: BTreeMap<u16, Placed>,
}

impl Table {
    fn begin(workdir: &Workdir) -> Result<Table, Failure> {
        let writer = TableWriter::new(workdir, "mix", &batch(&[]))?;
        Ok(Table { writer, rows: Vec::new(), windows: Vec::new(), tokens: 0, documents: 0, cuts: BTreeMap::new() })
    }

    fn push(&mut self, placed: Placed, context: &Context<'_>) -> Result<(), Failure> {
        widen(&mut self.windows, placed.take);
        self.tokens += u64::from(placed.take);
        self.documents += u64::from(placed.epoch == 0);
        if placed.take < placed.run.tokens {
            self.cuts.insert(placed.run.source, placed);
        }
        self.rows.push(placed);
        if self.rows.len() == tables::ROW_GROUP_ROWS {
            context.check_stop()?;
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.writer.push(&batch(&self.rows))?;
        self.rows.clear();
        Ok(())
    }

    fn finish(mut self, name: String, domain: usize, heldout: bool) -> Result<Written, Failure> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        let table = self.writer.finish(&name)?;
        let stream = Stream { name, domain, heldout, tokens: self.tokens, table, windows: self.windows };
        Ok(Written { stream, documents: self.documents, cuts: self.cuts })
    }
}

fn batch(placed: &[Placed]) -> arrow::array::RecordBatch {
    tables::batch(vec![
        ("object", tables::u32s(placed.iter().map(|p| p.run.object))),
        ("row", tables::u32s(placed.iter().map(|p| p.run.row))),
        ("source", tables::u32s(placed.iter().map(|p| u32::from(p.run.source)))),
        ("epoch", tables::u32s(placed.iter().map(|p| p.epoch))),
        ("take", tables::u32s(placed.iter().map(|p| p.take))),
        ("tokens", tables::u32s(placed.iter().map(|p| p.run.tokens))),
        ("start", tables::u64s(placed.iter().map(|p| p.run.place.start))),
        ("check", tables::u64s(placed.iter().map(|p| p.run.place.check))),
        ("key", tables::keys(placed.iter().map(|p| p.run.key))),
    ])
}

/// Puts the next row into the last window, or into a new one: a window closes at `WINDOW_DOCUMENTS` documents or before it
/// would exceed `WINDOW_TOKENS`.
fn widen(windows: &mut Vec<Window>, take: u32) {
    let take = u64::from(take);
    let full = |w: &Window| w.rows >= WINDOW_DOCUMENTS as u64 || w.tokens + take > WINDOW_TOKENS;
    if windows.last().is_none_or(full) {
        let first_row = windows.last().map_or(0, |w| w.first_row + w.rows);
        windows.push(Window { first_row, rows: 0, tokens: 0 });
    }
    let window = windows.last_mut().expect("one was just pushed");
    window.rows += 1;
    window.tokens += take;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_bounded_in_tokens_and_documents() {
        let check = |takes: &[u32], expected: &[(u64, u64, u64)]| {
            let mut windows = Vec::new();
            for &take in takes {
                widen(&mut windows, take);
            }
            let found: Vec<_> = windows.iter().map(|w| (w.first_row, w.rows, w.tokens)).collect();
            assert_eq!(found, expected);
        };
        let (big, limit) = (1 << 23, WINDOW_TOKENS);
        check(&[], &[]);
        check(&[1, 2, 3], &[(0, 3, 6)]);
        check(&[big, big, 1], &[(0, 2, limit), (2, 1, 1)]);
        check(&[1, 1 << 25, 1], &[(0, 1, 1), (1, 1, 1 << 25), (2, 1, 1)]);
        check(&[1, u32::MAX, u32::MAX], &[(0, 1, 1), (1, 1, (1 << 32) - 1), (2, 1, (1 << 32) - 1)]);
        check(&vec![1; WINDOW_DOCUMENTS + 2], &[(0, 65_536, 65_536), (65_536, 2, 2)]);
    }
}
