//! One XML record as a small tree, read with quick-xml under limits.
//!
//! Entities are resolved only where they are predefined, numeric or named by HTML; declarations are never expanded and
//! nothing outside the record is ever opened. It knows no format: PubMed and JATS walk the tree.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::errors::{Error, IllFormedError};
use quick_xml::escape::unescape_with;
use quick_xml::events::attributes::Attributes;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::entities::named_entity;
use crate::reader::Limits;
use crate::reject::{RejectReason, safe_name};

const NONE: u32 = u32::MAX;

/// An element or a piece of text.
#[derive(Debug)]
enum Content<'a> {
    /// Local name and the raw attributes.
    Element {
        name: &'a str,
        attributes: &'a str,
    },
    Text(Cow<'a, str>),
}

#[derive(Debug)]
struct Slot<'a> {
    content: Content<'a>,
    first_child: u32,
    next_sibling: u32,
}

/// The tree of one record.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    slots: Vec<Slot<'a>>,
}

/// A child of an element.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node<'t> {
    Element(Element<'t>),
    Text(&'t str),
}

/// An element of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'t> {
    tree: &'t Tree<'t>,
    index: u32,
}

impl<'a> Tree<'a> {
    /// Parses one element with everything in it.
    ///
    /// # Errors
    /// The reason to reject it.
    pub(crate) fn parse(text: &'a str, limits: &Limits) -> Result<Self, RejectReason> {
        if text.bytes().any(is_illegal) {
            return Err(RejectReason::malformed_xml("a control character"));
        }
        let mut reader = Reader::from_str(text);
        let mut builder = Builder::new(text, limits);
        loop {
            // A tag begins where the event before it ended.
            let begin = reader.buffer_position() as usize;
            match reader.read_event().map_err(|error| reason_of(&error))? {
                Event::Start(tag) => builder.open(begin, &tag, false)?,
                Event::Empty(tag) => builder.open(begin, &tag, true)?,
                Event::End(_) => builder.close(),
                Event::Text(piece) => builder.text(piece.into_inner())?,
                Event::CData(piece) => builder.text(piece.into_inner())?,
                Event::GeneralRef(reference) => builder.text(Cow::Owned(resolve(&reference)?))?,
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) | Event::DocType(_) => {}
                Event::Eof => break,
            }
        }
        builder.finish()
    }

    /// The record's element.
    pub(crate) fn root(&self) -> Element<'_> {
        Element { tree: self, index: 0 }
    }
}

/// Builds a tree from events.
struct Builder<'a> {
    source: &'a str,
    slots: Vec<Slot<'a>>,
    /// Open elements, each with its last child so far.
    open: Vec<(u32, u32)>,
    depth_limit: usize,
    slot_limit: usize,
    attribute_limit: usize,
}

impl<'a> Builder<'a> {
    fn new(source: &'a str, limits: &Limits) -> Self {
        Self {
            source,
            slots: Vec::new(),
            open: Vec::new(),
            depth_limit: limits.depth,
            slot_limit: limits.elements.min(NONE as usize - 1),
            attribute_limit: limits.attributes,
        }
    }

    fn open(&mut self, begin: usize, tag: &BytesStart<'_>, empty: bool) -> Result<(), RejectReason> {
        if self.open.len() >= self.depth_limit {
            return Err(RejectReason::over_limit("depth", self.depth_limit as u64));
        }
        // The reader's slice borrows from the event; the same bytes in the source live as long as the tree.
        let content: &str = tag;
        let same = self.source.get(begin + 1..begin + 1 + content.len());
        let Some(content) = same.filter(|&same| same == content) else {
            return Err(RejectReason::malformed_xml("a tag in an unexpected place"));
        };
        let (name, attributes) = content.split_at(tag.name().as_ref().len());
        if !name.starts_with(|first: char| first.is_alphabetic() || first == '_') {
            return Err(RejectReason::malformed_xml("a name that is not allowed"));
        }
        check_attributes(attributes, self.attribute_limit)?;
        let name = name.rsplit_once(':').map_or(name, |(_, local)| local);
        let index = self.add(Content::Element { name, attributes })?;
        if !empty {
            self.open.push((index, NONE));
        }
        Ok(())
    }

    fn close(&mut self) {
        self.open.pop();
    }

    fn text(&mut self, text: Cow<'a, str>) -> Result<(), RejectReason> {
        if self.open.is_empty() {
            let blank = text.trim_ascii().is_empty();
            return if blank { Ok(()) } else { Err(RejectReason::malformed_xml("text outside the root")) };
        }
        self.add(Content::Text(text)).map(drop)
    }

    fn add(&mut self, content: Content<'a>) -> Result<u32, RejectReason> {
        if self.slots.len() >= self.slot_limit {
            return Err(RejectReason::over_limit("elements", self.slot_limit as u64));
        }
        let index = self.slots.len() as u32;
        match self.open.last_mut() {
            Some((parent, last)) => {
                if *last == NONE {
                    self.slots[*parent as usize].first_child = index;
                } else {
                    self.slots[*last as usize].next_sibling = index;
                }
                *last = index;
            }
            None if index > 0 => return Err(RejectReason::malformed_xml("a second root")),
            None => {}
        }
        self.slots.push(Slot { content, first_child: NONE, next_sibling: NONE });
        Ok(index)
    }

    fn finish(self) -> Result<Tree<'a>, RejectReason> {
        // quick-xml ends a truncated document silently.
        if !self.open.is_empty() || self.slots.is_empty() {
            return Err(RejectReason::TruncatedRecord);
        }
        Ok(Tree { slots: self.slots })
    }
}

impl<'t> Element<'t> {
    /// Local name.
    pub(crate) fn name(self) -> &'t str {
        match &self.tree.slots[self.index as usize].content {
            Content::Element { name, .. } => name,
            Content::Text(_) => "",
        }
    }

    /// Value of the attribute with this local name, entities resolved; `None` when absent or unreadable.
    pub(crate) fn attribute(self, local_name: &str) -> Option<String> {
        let Content::Element { attributes, .. } = &self.tree.slots[self.index as usize].content else {
            return None;
        };
        let found = Attributes::new(attributes, 0)
            .with_checks(false)
            .filter_map(Result::ok)
            .find(|attribute| attribute.key.local_name().as_ref() == local_name)?;
        unescape_with(&found.value, named_entity).ok().map(Cow::into_owned)
    }

    /// Elements and text in order.
    pub(crate) fn children(self) -> Children<'t> {
        Children { tree: self.tree, next: self.tree.slots[self.index as usize].first_child }
    }

    /// Child elements in order.
    pub(crate) fn elements(self) -> impl Iterator<Item = Element<'t>> {
        self.children().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Child elements with this name.
    pub(crate) fn named(self, name: &'static str) -> impl Iterator<Item = Element<'t>> {
        self.elements().filter(move |element| element.name() == name)
    }

    /// The first child element with this name.
    pub(crate) fn child(self, name: &'static str) -> Option<Element<'t>> {
        self.named(name).next()
    }

    /// The first element down this path of names.
    pub(crate) fn path(self, names: &[&'static str]) -> Option<Element<'t>> {
        names.iter().try_fold(self, |element, name| element.child(name))
    }

    /// Every element below this one, in order.
    pub(crate) fn descendants(self) -> Vec<Element<'t>> {
        let mut found = Vec::new();
        let mut waiting: Vec<_> = self.elements().collect();
        waiting.reverse();
        while let Some(element) = waiting.pop() {
            found.push(element);
            let before = waiting.len();
            waiting.extend(element.elements());
            waiting[before..].reverse();
        }
        found
    }

    /// All text below this element as it stands.
    pub(crate) fn raw_text(self) -> String {
        let mut text = String::new();
        let mut waiting: Vec<Children<'t>> = vec![self.children()];
        while let Some(children) = waiting.last_mut() {
            match children.next() {
                Some(Node::Text(piece)) => text.push_str(piece),
                Some(Node::Element(element)) => waiting.push(element.children()),
                None => {
                    waiting.pop();
                }
            }
        }
        text
    }
}

/// The children of an element.
#[derive(Debug, Clone)]
pub(crate) struct Children<'t> {
    tree: &'t Tree<'t>,
    next: u32,
}

impl<'t> Iterator for Children<'t> {
    type Item = Node<'t>;

    fn next(&mut self) -> Option<Node<'t>> {
        let index = self.next;
        let slot = self.tree.slots.get(index as usize)?;
        self.next = slot.next_sibling;
        Some(match &slot.content {
            Content::Element { .. } => Node::Element(Element { tree: self.tree, index }),
            Content::Text(text) => Node::Text(text),
        })
    }
}

/// Control characters that XML 1.0 does not allow.
fn is_illegal(byte: u8) -> bool {
    byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')
}

fn check_attributes(attributes: &str, limit: usize) -> Result<(), RejectReason> {
    for (count, attribute) in Attributes::new(attributes, 0).with_checks(false).enumerate() {
        if count >= limit {
            return Err(RejectReason::over_limit("attributes", limit as u64));
        }
        attribute.map_err(|_| RejectReason::malformed_xml("an attribute"))?;
    }
    Ok(())
}

/// The character or characters that a reference stands for.
fn resolve(reference: &BytesRef<'_>) -> Result<String, RejectReason> {
    let undefined = || RejectReason::UndefinedEntity { entity: safe_name(reference.as_bytes()) };
    if reference.is_char_ref() {
        let character = reference.resolve_char_ref().ok().flatten();
        let legal = character.filter(|&one| !u8::try_from(one).is_ok_and(is_illegal));
        return legal.map(String::from).ok_or_else(undefined);
    }
    named_entity(reference).map(str::to_string).ok_or_else(undefined)
}

/// Our words for quick-xml's errors, whose own messages hold names from the data.
fn reason_of(error: &Error) -> RejectReason {
    RejectReason::malformed_xml(match error {
        Error::Syntax(_) => "markup that is never closed",
        Error::IllFormed(IllFormedError::UnclosedReference) => "an ampersand that begins no reference",
        Error::IllFormed(
            IllFormedError::MismatchedEndTag { .. } | IllFormedError::UnmatchedEndTag(_) | IllFormedError::MissingEndTag(_),
        ) => "an end tag that does not match",
        Error::InvalidAttr(_) => "an attribute",
        _ => "not well-formed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(xml: &str) -> Result<String, String> {
        let limits = Limits { depth: 4, elements: 9, attributes: 2, ..Limits::default() };
        Tree::parse(xml, &limits).map(|tree| tree.root().raw_text()).map_err(|reason| reason.to_string())
    }

    fn check(xml: &str, expected: Result<&str, &str>) {
        assert_eq!(parse(xml), expected.map(str::to_string).map_err(str::to_string), "{xml}");
    }

    #[test]
    fn text_and_references() {
        check("<a>x<b>y</b><!-- c --><?p?>z</a>", Ok("xyz"));
        check("<a>&lt;&amp;&#65;&#x1F600;&alpha;&nbsp;</a>", Ok("<&A😀α\u{a0}"));
        check("<a><![CDATA[<&x;>]]></a>", Ok("<&x;>"));
    }

    #[test]
    fn undefined_and_illegal_references() {
        check("<a>&lol;</a>", Err("undefined-entity: lol"));
        check("<a>&#0;</a>", Err("undefined-entity: ?0"));
        check("<a>&#xD800;</a>", Err("undefined-entity: ?xD800"));
        check("<a>&#1;</a>", Err("undefined-entity: ?1"));
        check("<a>b & c</a>", Err("malformed-xml: an ampersand that begins no reference"));
    }

    #[test]
    fn not_well_formed() {
        check("<a><b></a>", Err("malformed-xml: an end tag that does not match"));
        check("<a>", Err("truncated-record"));
        check("<a><b/>", Err("truncated-record"));
        check("", Err("truncated-record"));
        check("<a/>x", Err("malformed-xml: text outside the root"));
        check("<a/><a/>", Err("malformed-xml: a second root"));
        check("<a>\u{b}</a>", Err("malformed-xml: a control character"));
        check("<a b></a>", Err("malformed-xml: an attribute"));
        check("<a><1/></a>", Err("malformed-xml: a name that is not allowed"));
    }

    #[test]
    fn limits() {
        check("<a><a><a><a/></a></a></a>", Ok(""));
        check("<a><a><a><a><a/></a></a></a></a>", Err("over-limit: depth = 4"));
        check(&format!("<a>{}</a>", "<b/>".repeat(8)), Ok(""));
        check(&format!("<a>{}</a>", "<b/>".repeat(9)), Err("over-limit: elements = 9"));
        check("<a b='1' c='2' d='3'/>", Err("over-limit: attributes = 2"));
    }

    #[test]
    fn walking() {
        let xml = "<m:a x:k='1&amp;2' l=\"&bad;\"><b>1</b><c><b>2</b></c><b>3</b></m:a>";
        let tree = Tree::parse(xml, &Limits::default()).unwrap();
        let root = tree.root();
        assert_eq!(root.name(), "a");
        assert_eq!(root.attribute("k").as_deref(), Some("1&2"));
        assert_eq!(root.attribute("l"), None);
        assert_eq!(root.attribute("m"), None);
        let texts: Vec<_> = root.named("b").map(Element::raw_text).collect();
        assert_eq!(texts, ["1", "3"]);
        assert_eq!(root.path(&["c", "b"]).map(Element::raw_text).as_deref(), Some("2"));
        let names: Vec<_> = root.descendants().into_iter().map(|one| one.name().to_string() + &one.raw_text()).collect();
        assert_eq!(names, ["b1", "c2", "b2", "b3"]);
    }
}
