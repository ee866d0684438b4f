//! RedPajama JSON lines: the 1T layout `{"text", "meta"}`, `meta` an object or a string that holds one, `SlimPajama`'s of the same
//! form, and the V2 layout `{"raw_content", "url", "digest" or "doc_id", …}`, with or without a string of quality signals.
//!
//! The native id is what the part of the corpus itself calls its records by:
//!
//! | part | id | from |
//! |---|---|---|
//! | any, with `fields.id` in the recipe | that key or path | top level, else `meta` |
//! | V2 (Common Crawl) | `digest`, else `doc_id` at the top level, else `digest` | top level, `meta` |
//! | arXiv | `arxiv_id` | `meta` |
//! | code hosting | `content_hash` | `meta` |
//! | Stack Exchange | `question_id`, behind the host of `url` and a slash where there is one | `meta` |
//! | C4, Wikipedia, Stack Exchange without `question_id` | `url`, with `@` and `timestamp` behind it where there is one | `meta` |
//! | Books | `isbn`, else `short_book_title` | `meta` |
//! | others | `id` | `meta`, else top level |
//! | Common Crawl, and everything without one of these | first 32 hex digits of the BLAKE3 of the text | |
//!
//! A line number in a crawl's file (`source`) is a position, no name: it stays in the meta data. A book's title is
//! `short_book_title` where it has no other; a source file's licence is its `license`. Years are never guessed: a crawl's date
//! is not the text's. Quality signals are not kept.

use crate::input::Input;
use crate::json::{self, Value};
use crate::jsonl::{JsonLines, add_meta, scalar, text};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::reject::RejectReason;
use crate::row::{Cell, Columns, Meta, Row};

/// Reads RedPajama JSON lines.
#[derive(Debug)]
pub struct RedpajamaReader {
    lines: JsonLines,
    columns: Columns,
    limits: Limits,
}

impl RedpajamaReader {
    /// Opens an object; nothing is read yet.
    ///
    /// # Errors
    /// None today; the signature is that of every reader.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        let columns = Columns::of(&context.fields);
        Ok(Self { lines: JsonLines::new(context, input, limits), columns, limits: limits.clone() })
    }
}

impl Reader for RedpajamaReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        let (columns, limits) = (&self.columns, &self.limits);
        self.lines.next_with(|context, offset, bytes, record| {
            match with_meta(record, limits, |meta| row_of(record, meta, columns)) {
                Ok(row) => row.into_item(context, columns, offset, bytes),
                Err(reason) => Item::Reject(context.reject(offset, bytes, reason)),
            }
        })
    }

    fn pass_to(&mut self, offset: u64) {
        self.lines.pass_to(offset);
    }
}

/// What `convert` makes of a record's meta data; the older dumps hold them as JSON inside a string.
pub(crate) fn with_meta(record: &Value<'_>, limits: &Limits, convert: impl Fn(&Value<'_>) -> Row) -> Result<Row, RejectReason> {
    match record.get("meta") {
        Some(Value::Text(inner)) => match json::parse(inner, limits) {
            Ok(meta @ Value::Map(_)) => Ok(convert(&meta)),
            _ => Err(json::malformed("meta is a string without an object")),
        },
        Some(meta) => Ok(convert(meta)),
        None => Ok(convert(&Value::Null)),
    }
}

fn row_of(record: &Value<'_>, meta: &Value<'_>, columns: &Columns) -> Row {
    let mut kept = Meta::default();
    let apart = ["raw_content", "meta", "quality_signals"];
    add_meta(&mut kept, record, |name| columns.is_mapped(name) || apart.contains(&name));
    add_meta(&mut kept, meta, |name| name == "quality_signals");
    if let Some(languages) = languages(meta) {
        kept.insert("language", &languages);
    }
    let optional = |name: &Option<String>| name.as_deref().map_or(Cell::Absent, |name| either(record, meta, name));
    let text_key = if record.get(&columns.text).is_none() { "raw_content" } else { &columns.text };
    Row {
        id: native_id(record, meta, columns),
        text: text(record.find(text_key)),
        title: or_else(either(record, meta, &columns.title), || scalar(meta.get("short_book_title"))),
        year: optional(&columns.year),
        licence: or_else(optional(&columns.licence), || scalar(meta.get("license"))),
        version: optional(&columns.version),
        meta: kept,
    }
}

fn or_else(cell: Cell, other: impl FnOnce() -> Cell) -> Cell {
    if cell == Cell::Absent { other() } else { cell }
}

/// Names of the programming languages of a source file: a list of objects with `name` and `bytes`.
fn languages(meta: &Value<'_>) -> Option<String> {
    let Some(Value::List(list)) = meta.get("language") else { return None };
    let names: Vec<&str> = list.iter().filter_map(|one| one.get("name")?.as_text()).collect();
    (!names.is_empty()).then(|| names.join("; "))
}

/// A value at the top level or, with or without `meta.` before its name, in the meta data.
pub(crate) fn either(record: &Value<'_>, meta: &Value<'_>, name: &str) -> Cell {
    let inner = name.strip_prefix("meta.").unwrap_or(name);
    match scalar(record.find(name)) {
        Cell::Absent => scalar(meta.find(inner)),
        found => found,
    }
}

fn native_id(record: &Value<'_>, meta: &Value<'_>, columns: &Columns) -> Cell {
    if columns.id_required {
        return either(record, meta, &columns.id);
    }
    let usable = |value: Option<&Value<'_>>| value.and_then(Value::as_scalar).filter(|id| !id.is_empty()).map(str::to_owned);
    let crawled = record.get("raw_content").is_some();
    let of_record = ["digest", "doc_id"].iter().filter(|_| crawled);
    let found = of_record
        .map(|name| usable(record.get(name)))
        .chain([usable(meta.get("digest")).filter(|_| crawled)])
        .chain(["arxiv_id", "content_hash"].iter().map(|name| usable(meta.get(name))))
        .chain([question_id(meta), page_id(meta)])
        .chain(["isbn", "short_book_title", "id"].iter().map(|name| usable(meta.get(name))))
        .chain([usable(record.get("id"))])
        .flatten()
        .next();
    found.map_or(Cell::Absent, Cell::Scalar)
}

/// `SITE/question_id`: questions are counted by site.
fn question_id(meta: &Value<'_>) -> Option<String> {
    let question = meta.get("question_id")?.as_scalar().filter(|id| !id.is_empty())?;
    let site = meta.get("url").and_then(Value::as_text).and_then(|url| url.split_once("://")).map(|parts| parts.1);
    match site.and_then(|rest| rest.split('/').next()).filter(|host| !host.is_empty()) {
        Some(host) => Some(format!("{host}/{question}")),
        None => Some(question.to_owned()),
    }
}

/// `URL@timestamp`: the same page is crawled more than once.
fn page_id(meta: &Value<'_>) -> Option<String> {
    let url = meta.get("url")?.as_text().filter(|url| !url.is_empty())?;
    match meta.get("timestamp").and_then(Value::as_scalar).filter(|time| !time.is_empty()) {
        Some(time) => Some(format!("{url}@{time}")),
        None => Some(url.to_owned()),
    }
}
