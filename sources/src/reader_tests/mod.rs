//! Tests of the readers of JSON lines, CSV, Parquet and plain text through the door that callers use.

mod collections;
mod hostile;
mod json_lines;
mod parquet_files;
pub(crate) mod parts;
mod real;
mod tables;

use crate::document::{Document, Domain, Sensitivity};
use crate::input::Input;
use crate::options::ReadOptions;
use crate::reader::{Fields, Format, Item, Limits, SourceContext, open};
use crate::reject::Reject;

/// A source whose object is named by its format.
pub(crate) fn context(object: &str) -> SourceContext {
    SourceContext {
        name: "source".into(),
        domain: Domain::General,
        sensitivity: Sensitivity::Dua,
        licence: Some("stated".into()),
        fields: Fields::default(),
        read: ReadOptions::default(),
        object: object.into(),
    }
}

/// Every item, with a check that the end stays the end.
pub(crate) fn items(format: Format, context: SourceContext, bytes: Vec<u8>, limits: &Limits) -> Vec<Item> {
    let mut reader = open(format, context, Input::from_bytes(bytes), limits).unwrap();
    let items = std::iter::from_fn(|| reader.next()).map(Result::unwrap).collect();
    assert!(reader.next().is_none());
    items
}

/// Items with the default limits and fields.
pub(crate) fn read(format: Format, bytes: &[u8]) -> Vec<Item> {
    items(format, context("object"), bytes.to_vec(), &Limits::default())
}

pub(crate) fn documents(items: &[Item]) -> Vec<&Document> {
    items.iter().filter_map(|item| if let Item::Document(document) = item { Some(document) } else { None }).collect()
}

pub(crate) fn rejects(items: &[Item]) -> Vec<&Reject> {
    items.iter().filter_map(|item| if let Item::Reject(reject) = item { Some(reject) } else { None }).collect()
}

/// `OFFSET NATIVE_ID` of documents and `OFFSET+BYTES REASON` of rejects.
pub(crate) fn outline(items: &[Item]) -> Vec<String> {
    items
        .iter()
        .map(|item| match item {
            Item::Document(document) => {
                format!("{} {}", document.origin.byte_offset, document.native_id)
            }
            Item::Withdrawal(notice) => format!("{} {}", notice.reason.as_str(), notice.native_id),
            Item::Reject(reject) => {
                format!("{}+{} {}", reject.byte_offset, reject.bytes, reject.reason)
            }
        })
        .collect()
}
