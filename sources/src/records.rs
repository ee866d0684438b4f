//! The loop that PubMed and JATS share: cut out a record, decode it, parse it, convert it, reject it where that fails.

use std::borrow::Cow;

use crate::document::Document;
use crate::frame::{Encoding, Frame, FrameSpec, Frames};
use crate::input::Input;
use crate::reader::{Item, Limits, ReadError, SourceContext};
use crate::reject::RejectReason;
use crate::xml::{Element, Tree};

/// One record as its format's conversion sees it.
pub(crate) struct Record<'r> {
    /// Its element.
    pub(crate) root: Element<'r>,
    /// The source it is read from.
    pub(crate) context: &'r SourceContext,
    /// Where it begins in the object.
    pub(crate) offset: u64,
}

impl Record<'_> {
    /// A document of this record with nothing but its name and text.
    pub(crate) fn document(&self, native_id: String, text: String) -> Document {
        self.context.document(native_id, text, self.offset)
    }
}

/// Appends what a record yields. Where it fails the record is rejected; what was appended before stands.
pub(crate) type Convert = fn(&Record<'_>, &mut Vec<Item>) -> Result<(), RejectReason>;

/// Records of one object, converted one at a time.
#[derive(Debug)]
pub(crate) struct XmlRecords {
    context: SourceContext,
    limits: Limits,
    frames: Frames,
    convert: Convert,
    /// Items of the last record, in reverse.
    waiting: Vec<Item>,
    failed: bool,
}

impl XmlRecords {
    pub(crate) fn new(context: SourceContext, input: Input, limits: &Limits, spec: &'static FrameSpec, convert: Convert) -> Self {
        let frames = Frames::new(input, spec, limits);
        Self { context, limits: limits.clone(), frames, convert, waiting: Vec::new(), failed: false }
    }

    pub(crate) fn next(&mut self) -> Option<Result<Item, ReadError>> {
        loop {
            if let Some(item) = self.waiting.pop() {
                return Some(Ok(item));
            }
            if self.failed {
                return None;
            }
            match self.frames.next() {
                Ok(None) => return None,
                Ok(Some(Frame::Broken { offset, bytes, reason })) => {
                    return Some(Ok(Item::Reject(self.context.reject(offset, bytes, reason))));
                }
                Ok(Some(Frame::Record { offset, bytes })) => self.read(offset, &bytes),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(self.context.read_error(self.frames.offset(), error)));
                }
            }
        }
    }

    fn read(&mut self, offset: u64, bytes: &[u8]) {
        let mut items = std::mem::take(&mut self.waiting);
        if let Err(reason) = self.convert(offset, bytes, &mut items) {
            if matches!(reason, RejectReason::MalformedXml { .. }) {
                self.frames.mark_malformed();
            }
            items.push(Item::Reject(self.context.reject(offset, bytes.len() as u64, reason)));
        }
        items.reverse();
        self.waiting = items;
    }

    fn convert(&self, offset: u64, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), RejectReason> {
        let text = match self.frames.encoding() {
            Encoding::Utf8 => Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| RejectReason::InvalidUtf8)?),
            Encoding::Latin1 => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
        };
        let tree = Tree::parse(&text, &self.limits)?;
        (self.convert)(&Record { root: tree.root(), context: &self.context, offset }, items)
    }
}

/// For the tests of both readers.
#[cfg(test)]
pub(crate) mod testing {
    use crate::document::{Document, Domain, Sensitivity};
    use crate::input::Input;
    use crate::options::ReadOptions;
    use crate::reader::{Fields, Format, Item, Limits, SourceContext, open};
    use crate::reject::Reject;

    pub(crate) fn context() -> SourceContext {
        SourceContext {
            name: "source".to_string(),
            domain: Domain::Biomedical,
            sensitivity: Sensitivity::Open,
            licence: Some("stated by the source".to_string()),
            fields: Fields::default(),
            read: ReadOptions::default(),
            object: "object.xml".to_string(),
        }
    }

    pub(crate) fn items(format: Format, bytes: &[u8], limits: &Limits) -> Vec<Item> {
        let mut reader = open(format, context(), Input::from_bytes(bytes.to_vec()), limits).unwrap();
        let mut items = Vec::new();
        while let Some(item) = reader.next() {
            items.push(item.unwrap());
        }
        assert!(reader.next().is_none(), "the end stays the end");
        items
    }

    /// The only document of an object without rejects.
    pub(crate) fn document(format: Format, xml: &str) -> Document {
        match items(format, xml.as_bytes(), &Limits::default()).as_slice() {
            [Item::Document(document)] => document.clone(),
            other => panic!("expected one document, got {other:?}"),
        }
    }

    /// Documents' native ids and rejects' reasons with their offsets, in order.
    pub(crate) fn outline(format: Format, bytes: &[u8], limits: &Limits) -> Vec<String> {
        let outline = items(format, bytes, limits).into_iter().map(|item| match item {
            Item::Document(document) => document.native_id,
            Item::Reject(Reject { byte_offset, reason, .. }) => format!("{byte_offset} {reason}"),
            Item::Withdrawal(notice) => format!("{} {}", notice.reason.as_str(), notice.native_id),
        });
        outline.collect()
    }
}
