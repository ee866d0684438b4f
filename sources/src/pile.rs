//! The Pile's JSON lines: `{"text", "meta": {"pile_set_name": …}}`, `meta` an object or a string that holds one.
//!
//! The native id is `id` of the meta data, or what `fields.id` names there or at the top level; the Pile has none, so it is
//! the first 32 hex digits of the BLAKE3 of the text. The set's name is kept as `pile_set_name`; which sets are taken is
//! decided behind the reader, by `read.sets`, so that what is left out is counted.

use crate::input::Input;
use crate::json::Value;
use crate::jsonl::{JsonLines, add_meta, scalar, text};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::redpajama::{either, with_meta};
use crate::row::{Cell, Columns, Meta, Row};

/// Reads the Pile.
#[derive(Debug)]
pub struct PileReader {
    lines: JsonLines,
    columns: Columns,
    limits: Limits,
}

impl PileReader {
    /// Opens an object; nothing is read yet.
    ///
    /// # Errors
    /// None today; the signature is that of every reader.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        let columns = Columns::of(&context.fields);
        Ok(Self { lines: JsonLines::new(context, input, limits), columns, limits: limits.clone() })
    }
}

impl Reader for PileReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        let (columns, limits) = (&self.columns, &self.limits);
        self.lines.next_with(|context, offset, bytes, record| {
            let read = with_meta(record, limits, |meta| row_of(record, meta, columns));
            match read {
                Ok(row) => row.into_item(context, columns, offset, bytes),
                Err(reason) => Item::Reject(context.reject(offset, bytes, reason)),
            }
        })
    }

    fn pass_to(&mut self, offset: u64) {
        self.lines.pass_to(offset);
    }
}

fn row_of(record: &Value<'_>, meta: &Value<'_>, columns: &Columns) -> Row {
    let mut kept = Meta::default();
    // The set's name first: meta data are bounded.
    add_meta(&mut kept, meta, |name| name != "pile_set_name");
    add_meta(&mut kept, meta, |name| columns.is_mapped(name));
    add_meta(&mut kept, record, |name| columns.is_mapped(name) || name == "meta");
    let optional = |name: &Option<String>| name.as_deref().map_or(Cell::Absent, |name| either(record, meta, name));
    let id = if columns.id_required { either(record, meta, &columns.id) } else { scalar(meta.get("id")) };
    Row {
        id,
        text: text(record.find(&columns.text)),
        title: either(record, meta, &columns.title),
        year: optional(&columns.year),
        licence: optional(&columns.licence),
        version: optional(&columns.version),
        meta: kept,
    }
}
