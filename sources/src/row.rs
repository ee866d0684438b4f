//! What the table-like formats (JSON lines, CSV, Parquet) share: which column is which, and how a row becomes a document.
//!
//! It does not read any format; readers hand it the values they found.

use std::collections::BTreeMap;

use crate::document::text_id;
use crate::reader::{Fields, Item, SourceContext};
use crate::reject::RejectReason;

/// Longest native id, in bytes.
pub(crate) const MAX_ID_BYTES: usize = 1_024;
/// Longest value kept in a document's meta data, in bytes; longer ones are left out.
pub(crate) const MAX_META_VALUE_BYTES: usize = 4_096;
/// Longest name kept in a document's meta data, in bytes.
const MAX_META_NAME_BYTES: usize = 128;
/// Most entries kept in a document's meta data.
const MAX_META_ENTRIES: usize = 128;

/// Names of the columns with a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) id: String,
    /// Whether the recipe names the id: then a record without one is rejected.
    pub(crate) id_required: bool,
    pub(crate) text: String,
    pub(crate) title: String,
    pub(crate) year: Option<String>,
    pub(crate) licence: Option<String>,
    pub(crate) version: Option<String>,
}

impl Columns {
    /// The recipe's names, and `id`, `text`, `title` where it names none.
    pub(crate) fn of(fields: &Fields) -> Self {
        let or = |name: &Option<String>, default: &str| name.clone().unwrap_or_else(|| default.to_owned());
        Self {
            id: or(&fields.id, "id"),
            id_required: fields.id.is_some(),
            text: or(&fields.text, "text"),
            title: or(&fields.title, "title"),
            year: fields.year.clone(),
            licence: fields.licence.clone(),
            version: fields.version.clone(),
        }
    }

    /// The columns that have a meaning of their own and so are no meta data.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let optional = [&self.year, &self.licence, &self.version];
        let optional = optional.into_iter().filter_map(|own| own.as_deref());
        [&self.id, &self.text, &self.title].into_iter().map(String::as_str).chain(optional)
    }

    /// Whether a column is one of these.
    pub(crate) fn is_mapped(&self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }
}

/// One value of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Cell {
    /// No such column, or null.
    #[default]
    Absent,
    /// A text, or a number as spelled.
    Scalar(String),
    /// A list, an object, or text where none can be.
    Unusable,
    /// Bytes that are not UTF-8.
    NotUtf8,
}

impl Cell {
    fn into_scalar(self) -> Option<String> {
        match self {
            Self::Scalar(text) => Some(text),
            Self::Absent | Self::Unusable | Self::NotUtf8 => None,
        }
    }
}

/// A record with its values by meaning.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) id: Cell,
    pub(crate) text: Cell,
    pub(crate) title: Cell,
    pub(crate) year: Cell,
    pub(crate) licence: Cell,
    pub(crate) version: Cell,
    pub(crate) meta: Meta,
}

impl Row {
    /// The document, or the reject, that begins at `byte_offset` and is `bytes` long.
    pub(crate) fn into_item(self, context: &SourceContext, columns: &Columns, byte_offset: u64, bytes: u64) -> Item {
        match self.into_document(context, columns, byte_offset) {
            Ok(document) => Item::Document(document),
            Err(reason) => Item::Reject(context.reject(byte_offset, bytes, reason)),
        }
    }

    fn into_document(
        self,
        context: &SourceContext,
        columns: &Columns,
        byte_offset: u64,
    ) -> Result<crate::Document, RejectReason> {
        let text = required_text(self.text, &columns.text)?;
        let native_id = match native_id(self.id, columns)? {
            Some(id) => id,
            None => text_id(&text),
        };
        let version = version(self.version, columns.version.as_deref())?;
        let mut meta = self.meta;
        let year = self.year.into_scalar().and_then(|written| {
            let year = parse_year(&written);
            if year.is_none() {
                meta.insert(columns.year.as_deref().unwrap_or("year"), &written);
            }
            year
        });
        let mut document = context.document(native_id, text, byte_offset);
        document.version = version;
        document.title = self.title.into_scalar().filter(|title| !title.trim().is_empty());
        document.year = year;
        if let Some(licence) = self.licence.into_scalar().filter(|licence| !licence.trim().is_empty()) {
            document.licence = Some(licence);
        }
        document.meta = meta.0;
        Ok(document)
    }
}

/// Text that is trained on: there, UTF-8, and not only white space.
pub(crate) fn required_text(cell: Cell, column: &str) -> Result<String, RejectReason> {
    match cell {
        Cell::Absent => Err(RejectReason::MissingField { field: column.to_owned() }),
        Cell::Unusable => Err(RejectReason::WrongType { field: column.to_owned() }),
        Cell::NotUtf8 => Err(RejectReason::InvalidUtf8),
        Cell::Scalar(text) if text.trim().is_empty() => Err(RejectReason::EmptyRecord),
        Cell::Scalar(text) => Ok(text),
    }
}

fn native_id(cell: Cell, columns: &Columns) -> Result<Option<String>, RejectReason> {
    let field = || columns.id.clone();
    match cell {
        Cell::Unusable | Cell::NotUtf8 => Err(RejectReason::WrongType { field: field() }),
        Cell::Absent if columns.id_required => Err(RejectReason::MissingField { field: field() }),
        Cell::Scalar(id) if id.is_empty() && columns.id_required => Err(RejectReason::MissingField { field: field() }),
        Cell::Absent => Ok(None),
        Cell::Scalar(id) if id.is_empty() => Ok(None),
        Cell::Scalar(id) if is_usable_id(&id) => Ok(Some(id)),
        Cell::Scalar(_) => Err(RejectReason::InvalidValue { field: field() }),
    }
}

/// Ids stand in reports and file names: bounded, and without control characters.
pub(crate) fn is_usable_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control)
}

fn version(cell: Cell, column: Option<&str>) -> Result<u32, RejectReason> {
    match (cell, column) {
        (Cell::Absent, _) | (_, None) => Ok(1),
        (Cell::Scalar(version), Some(column)) => {
            version.trim().parse().map_err(|_| RejectReason::InvalidValue { field: column.to_owned() })
        }
        (Cell::Unusable | Cell::NotUtf8, Some(column)) => Err(RejectReason::WrongType { field: column.to_owned() }),
    }
}

/// The year at the start of a number or date: four digits, 1000 to 2999, with no digit after them.
pub(crate) fn parse_year(written: &str) -> Option<u16> {
    let written = written.trim();
    let digits = written.get(..4).filter(|head| head.bytes().all(|b| b.is_ascii_digit()))?;
    if written[4..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|year| (1000..3000).contains(year))
}

/// Meta data under their limits, by lower-case name; the first of two values of one name stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meta(BTreeMap<String, String>);

impl Meta {
    /// Adds a value, unless it is empty, too long, or one too many.
    pub(crate) fn insert(&mut self, name: &str, value: &str) {
        let fits = !value.is_empty() && value.len() <= MAX_META_VALUE_BYTES && name.len() <= MAX_META_NAME_BYTES;
        if fits && self.0.len() < MAX_META_ENTRIES {
            self.0.entry(name.to_lowercase()).or_insert_with(|| value.to_owned());
        }
    }

    /// The entries of a document.
    pub(crate) fn into_entries(self) -> BTreeMap<String, String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_are_read_from_numbers_and_dates() {
        for (written, expected) in [
            ("2012", Some(2012)),
            ("2012-03-14", Some(2012)),
            (" 1998.0", Some(1998)),
            ("2012Q1", Some(2012)),
            ("20120314", None),
            ("0999", None),
            ("3000", None),
            ("12", None),
            ("éé", None),
            ("", None),
        ] {
            assert_eq!(parse_year(written), expected, "{written}");
        }
    }

    #[test]
    fn meta_data_are_bounded() {
        let mut meta = Meta::default();
        meta.insert("Name", "first");
        meta.insert("name", "second");
        meta.insert("empty", "");
        meta.insert("long", &"x".repeat(MAX_META_VALUE_BYTES + 1));
        meta.insert(&"n".repeat(MAX_META_NAME_BYTES + 1), "v");
        assert_eq!(meta.0, BTreeMap::from([("name".to_owned(), "first".to_owned())]));
        for i in 0..1_000 {
            meta.insert(&i.to_string(), "v");
        }
        assert_eq!(meta.0.len(), MAX_META_ENTRIES);
    }

    #[test]
    fn ids_are_bounded_and_plain() {
        assert!(is_usable_id("PMC-1/é:2") && is_usable_id(&"x".repeat(MAX_ID_BYTES)));
        assert!(!is_usable_id("") && !is_usable_id("a\nb") && !is_usable_id(&"x".repeat(MAX_ID_BYTES + 1)));
    }
}
