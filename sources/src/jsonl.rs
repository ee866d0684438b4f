//! JSON lines: one object a line, one document an object.
//!
//! Columns come from the recipe's `fields` and may be paths (`meta.id`); every other top-level string, number or boolean goes
//! into the meta data. A bad line is a reject with its offset, and the file goes on. A file of no bytes is one reject, like in
//! every other format; blank lines alone are no records.

use crate::input::Input;
use crate::json::{self, Value};
use crate::lines::{Line, Lines};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::reject::RejectReason;
use crate::row::{Cell, Columns, Meta, Row};

/// Reads JSON lines.
#[derive(Debug)]
pub struct JsonlReader {
    lines: JsonLines,
    columns: Columns,
}

impl JsonlReader {
    /// Opens an object; nothing is read yet.
    ///
    /// # Errors
    /// None today; the signature is that of every reader.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        let columns = Columns::of(&context.fields);
        Ok(Self { lines: JsonLines::new(context, input, limits), columns })
    }
}

impl Reader for JsonlReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        let columns = &self.columns;
        self.lines.next_with(|context, offset, bytes, record| row_of(record, columns).into_item(context, columns, offset, bytes))
    }

    fn pass_to(&mut self, offset: u64) {
        self.lines.pass_to(offset);
    }
}

/// The values of an object by meaning.
pub(crate) fn row_of(record: &Value<'_>, columns: &Columns) -> Row {
    let optional = |name: &Option<String>| name.as_deref().map_or(Cell::Absent, |name| scalar(record.find(name)));
    let mut meta = Meta::default();
    add_meta(&mut meta, record, |name| columns.is_mapped(name));
    Row {
        id: scalar(record.find(&columns.id)),
        text: text(record.find(&columns.text)),
        title: scalar(record.find(&columns.title)),
        year: optional(&columns.year),
        licence: optional(&columns.licence),
        version: optional(&columns.version),
        meta,
    }
}

/// A string; anything else but null is unusable.
pub(crate) fn text(value: Option<&Value<'_>>) -> Cell {
    match value {
        None | Some(Value::Null) => Cell::Absent,
        Some(Value::Text(text)) => Cell::Scalar(text.clone().into_owned()),
        Some(_) => Cell::Unusable,
    }
}

/// A string, or a number or boolean as spelled.
pub(crate) fn scalar(value: Option<&Value<'_>>) -> Cell {
    match value {
        None | Some(Value::Null) => Cell::Absent,
        Some(value) => value.as_scalar().map_or(Cell::Unusable, |text| Cell::Scalar(text.to_owned())),
    }
}

/// Adds every scalar member of an object that `skip` does not name.
pub(crate) fn add_meta(meta: &mut Meta, object: &Value<'_>, skip: impl Fn(&str) -> bool) {
    if let Value::Map(members) = object {
        for (name, value) in members.iter().filter(|member| !skip(&member.0)) {
            if let Some(value) = value.as_scalar() {
                meta.insert(name, value);
            }
        }
    }
}

/// Objects of a stream of lines, one at a time: what the readers of JSON lines share.
#[derive(Debug)]
pub(crate) struct JsonLines {
    context: SourceContext,
    limits: Limits,
    lines: Lines,
    ended: bool,
}

impl JsonLines {
    pub(crate) fn new(context: SourceContext, input: Input, limits: &Limits) -> Self {
        Self { context, limits: limits.clone(), lines: Lines::new(input, limits), ended: false }
    }

    /// As [`Reader::pass_to`].
    pub(crate) fn pass_to(&mut self, offset: u64) {
        self.lines.pass_to(offset);
    }

    /// The item that `convert` makes of the next object; lines that are none are rejects.
    pub(crate) fn next_with(
        &mut self,
        convert: impl Fn(&SourceContext, u64, u64, &Value<'_>) -> Item,
    ) -> Option<Result<Item, ReadError>> {
        loop {
            if self.ended {
                return None;
            }
            let start = self.lines.offset();
            let (offset, bytes, reason) = match self.lines.read() {
                Err(error) => {
                    self.ended = true;
                    return Some(Err(self.context.read_error(start, error)));
                }
                Ok(Line::End) => {
                    self.ended = true;
                    return None;
                }
                Ok(Line::Fault { offset, bytes, reason }) => {
                    self.ended = true;
                    (offset, bytes, reason)
                }
                Ok(Line::OverLimit { offset, bytes }) => {
                    (offset, bytes, RejectReason::over_limit("record_bytes", self.limits.record_bytes))
                }
                Ok(Line::Content { offset, bytes }) => {
                    let line = self.lines.content();
                    if line.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    match read_object(line, &self.limits) {
                        Ok(object) => {
                            return Some(Ok(convert(&self.context, offset, bytes, &object)));
                        }
                        Err(reason) => (offset, bytes, reason),
                    }
                }
            };
            return Some(Ok(Item::Reject(self.context.reject(offset, bytes, reason))));
        }
    }
}

/// The object that the bytes of a record are.
pub(crate) fn read_object<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Value<'a>, RejectReason> {
    let text = std::str::from_utf8(bytes).map_err(|_| RejectReason::InvalidUtf8)?;
    match json::parse(text, limits)? {
        object @ Value::Map(_) => Ok(object),
        _ => Err(json::malformed("not an object")),
    }
}
