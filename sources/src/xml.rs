//! One XML record as a small tree, parsed in one pass under limits.
//!
//! Entities are resolved only where they are predefined, numeric or named by HTML; declarations are never expanded and
//! nothing outside the record is ever opened. Well-formed is what XML 1.0 calls so, but for what no reader here depends on:
//! attributes of one name twice, `--` in comments and `]]>` in text are let through. It knows no format: PubMed and JATS
//! walk the tree.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::entities::named_entity;
use crate::names::Name;
use crate::reader::Limits;
use crate::reject::{RejectReason, safe_name};

const NONE: u32 = u32::MAX;
/// Deepest nesting whatever the limits say: those who walk the tree call themselves at each level.
const MAX_DEPTH: usize = 512;
/// Source bytes for which one slot is set aside at the start.
const BYTES_PER_SLOT: usize = 24;
/// Bytes looked at in one step when looking for control characters.
const BLOCK: usize = 64;
/// A reference that goes on for longer is none.
const REFERENCE_BYTES: usize = 128;

const UNCLOSED_TAG: &str = "a tag that is never closed";
const UNCLOSED_MARKUP: &str = "markup that is never closed";
const BAD_NAME: &str = "a name that is not allowed";
const BAD_ATTRIBUTE: &str = "an attribute";
const BAD_REFERENCE: &str = "an ampersand that begins no reference";
const BAD_END_TAG: &str = "an end tag that does not match";

/// An element or a piece of text.
#[derive(Debug)]
enum Content<'a> {
    /// Local name and the raw attributes.
    Element { name: Name, attributes: &'a str },
    /// As it stands in the source.
    Text(&'a str),
    /// A range of [`Tree::resolved`].
    Resolved { begin: u32, end: u32 },
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
    /// Pieces of text that hold references, resolved, one behind the other.
    resolved: String,
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
        if text.as_bytes().chunks(BLOCK).any(has_illegal) {
            return Err(malformed("a control character"));
        }
        let mut parser = Parser::new(text, limits);
        while let Some(next) = text.as_bytes().get(parser.at) {
            if *next == b'<' { parser.markup()? } else { parser.text()? }
        }
        parser.finish()
    }

    /// The record's element.
    pub(crate) fn root(&self) -> Element<'_> {
        Element { tree: self, index: 0 }
    }
}

/// An element whose end tag is still to come.
#[derive(Debug)]
struct Open<'a> {
    index: u32,
    last_child: u32,
    /// Name as written, with its prefix.
    name: &'a [u8],
}

/// Builds a tree from the bytes of a record.
struct Parser<'a> {
    source: &'a str,
    bytes: &'a [u8],
    /// The next byte to look at; always on a boundary of characters between two pieces.
    at: usize,
    tree: Tree<'a>,
    open: Vec<Open<'a>>,
    depth_limit: usize,
    slot_limit: usize,
    attribute_limit: usize,
}

impl<'a> Parser<'a> {
    fn new(source: &'a str, limits: &Limits) -> Self {
        let slot_limit = limits.elements.min(NONE as usize - 1);
        let slots = Vec::with_capacity((source.len() / BYTES_PER_SLOT).min(slot_limit));
        Self {
            source,
            bytes: source.as_bytes(),
            at: 0,
            tree: Tree { slots, resolved: String::new() },
            open: Vec::new(),
            depth_limit: limits.depth.min(MAX_DEPTH),
            slot_limit,
            attribute_limit: limits.attributes,
        }
    }

    /// Whatever begins with the `<` at the present place.
    fn markup(&mut self) -> Result<(), RejectReason> {
        let rest = &self.bytes[self.at..];
        match rest.get(1) {
            Some(b'/') => self.end_tag(),
            Some(b'?') => self.skip(2, b"?>"),
            Some(b'!') if rest.starts_with(b"<!--") => self.skip(4, b"-->"),
            Some(b'!') if rest.starts_with(b"<![CDATA[") => {
                let begin = self.at + b"<![CDATA[".len();
                self.skip(begin - self.at, b"]]>")?;
                self.plain(begin, self.at - b"]]>".len())
            }
            Some(b'!') => Err(malformed("a declaration inside a record")),
            _ => self.start_tag(),
        }
    }

    /// Goes behind the end mark of what begins here with a start mark of that length.
    fn skip(&mut self, start_mark: usize, end_mark: &[u8]) -> Result<(), RejectReason> {
        let from = self.at + start_mark;
        let length = memchr::memmem::find(&self.bytes[from..], end_mark).ok_or_else(|| malformed(UNCLOSED_MARKUP))?;
        self.at = from + length + end_mark.len();
        Ok(())
    }

    fn start_tag(&mut self) -> Result<(), RejectReason> {
        if self.open.len() >= self.depth_limit {
            return Err(RejectReason::over_limit("depth", self.depth_limit as u64));
        }
        let (begin, end) = self.name(self.at + 1)?;
        let (behind, empty) = self.attributes(end)?;
        let attributes = &self.source[end..behind - 1 - usize::from(empty)];
        let name = &self.bytes[begin..end];
        let index = self.add(Content::Element { name: Name::of(local(name)), attributes })?;
        if !empty {
            self.open.push(Open { index, last_child: NONE, name });
        }
        self.at = behind;
        Ok(())
    }

    /// Where a name begins and ends.
    fn name(&self, begin: usize) -> Result<(usize, usize), RejectReason> {
        let rest = &self.bytes[begin..];
        let length = rest.iter().position(|&byte| !is_name_byte(byte)).ok_or_else(|| malformed(UNCLOSED_TAG))?;
        let behind = rest[length];
        // The first letter of a name written in another script than Latin is looked at as a character.
        let first = self.source[begin..begin + length].chars().next();
        if matches!(behind, b'<') && first.is_some() {
            return Err(malformed(UNCLOSED_TAG));
        }
        let named = first.is_some_and(|first| first.is_alphabetic() || first == '_');
        if !named || !matches!(behind, b'>' | b'/' | b' ' | b'\t' | b'\n' | b'\r') {
            return Err(malformed(BAD_NAME));
        }
        Ok((begin, begin + length))
    }

    /// Checks the attributes from here on. Returns the place behind the tag, and whether it is an empty element's.
    fn attributes(&self, mut at: usize) -> Result<(usize, bool), RejectReason> {
        let mut count = 0;
        loop {
            at = self.behind_space(at);
            match self.bytes.get(at..) {
                Some([b'>', ..]) => return Ok((at + 1, false)),
                Some([b'/', b'>', ..]) => return Ok((at + 2, true)),
                Some([b'<', ..] | []) | None => return Err(malformed(UNCLOSED_TAG)),
                Some(_) => {}
            }
            if count >= self.attribute_limit {
                return Err(RejectReason::over_limit("attributes", self.attribute_limit as u64));
            }
            count += 1;
            at = Attribute::next(self.source, at).ok_or_else(|| malformed(BAD_ATTRIBUTE))?.behind;
        }
    }

    fn end_tag(&mut self) -> Result<(), RejectReason> {
        let begin = self.at + 2;
        let Some(open) = self.open.pop() else {
            return Err(malformed(BAD_END_TAG));
        };
        let end = begin + open.name.len();
        if self.bytes.get(begin..end) != Some(open.name) {
            let closed = memchr2(b'>', b'<', &self.bytes[begin..]).is_some_and(|distance| self.bytes[begin + distance] == b'>');
            return Err(malformed(if closed { BAD_END_TAG } else { UNCLOSED_TAG }));
        }
        let at = self.behind_space(end);
        match self.bytes.get(at) {
            Some(b'>') => self.at = at + 1,
            Some(b'<') | None => return Err(malformed(UNCLOSED_TAG)),
            Some(_) => return Err(malformed(BAD_END_TAG)),
        }
        Ok(())
    }

    /// Character data up to the next markup.
    fn text(&mut self) -> Result<(), RejectReason> {
        let begin = self.at;
        let stop = memchr2(b'<', b'&', &self.bytes[begin..]).map_or(self.bytes.len(), |distance| begin + distance);
        self.at = stop;
        if self.bytes.get(stop) != Some(&b'&') {
            return self.plain(begin, stop);
        }
        let end = memchr(b'<', &self.bytes[stop..]).map_or(self.bytes.len(), |distance| stop + distance);
        let from = self.tree.resolved.len();
        resolve_into(&self.source[begin..end], &mut self.tree.resolved)?;
        self.at = end;
        if self.open.is_empty() {
            return Err(malformed("text outside the root"));
        }
        let range = (u32::try_from(from), u32::try_from(self.tree.resolved.len()));
        let (Ok(begin), Ok(end)) = range else {
            return Err(RejectReason::over_limit("record_bytes", u64::from(u32::MAX)));
        };
        self.add(Content::Resolved { begin, end }).map(drop)
    }

    /// Text as it stands.
    fn plain(&mut self, begin: usize, end: usize) -> Result<(), RejectReason> {
        let text = &self.source[begin..end];
        if self.open.is_empty() {
            return if text.trim_ascii().is_empty() { Ok(()) } else { Err(malformed("text outside the root")) };
        }
        if text.is_empty() { Ok(()) } else { self.add(Content::Text(text)).map(drop) }
    }

    fn add(&mut self, content: Content<'a>) -> Result<u32, RejectReason> {
        let slots = &mut self.tree.slots;
        if slots.len() >= self.slot_limit {
            return Err(RejectReason::over_limit("elements", self.slot_limit as u64));
        }
        let index = slots.len() as u32;
        match self.open.last_mut() {
            Some(open) => {
                if open.last_child == NONE {
                    slots[open.index as usize].first_child = index;
                } else {
                    slots[open.last_child as usize].next_sibling = index;
                }
                open.last_child = index;
            }
            None if index > 0 => return Err(malformed("a second root")),
            None => {}
        }
        slots.push(Slot { content, first_child: NONE, next_sibling: NONE });
        Ok(index)
    }

    fn behind_space(&self, at: usize) -> usize {
        let rest = self.bytes.get(at..).unwrap_or_default();
        at + rest.iter().take_while(|&&byte| is_space(byte)).count()
    }

    fn finish(self) -> Result<Tree<'a>, RejectReason> {
        if !self.open.is_empty() || self.tree.slots.is_empty() {
            return Err(RejectReason::TruncatedRecord);
        }
        Ok(self.tree)
    }
}

/// One attribute as written.
struct Attribute<'a> {
    local_name: &'a str,
    value: &'a str,
    /// The place behind its closing quote.
    behind: usize,
}

impl<'a> Attribute<'a> {
    /// The attribute that begins at this place of a tag; `None` where there is none that is well-formed.
    fn next(tag: &'a str, at: usize) -> Option<Self> {
        let bytes = tag.as_bytes();
        let name = bytes[at..].iter().take_while(|&&byte| is_name_byte(byte)).count();
        let space = |from: usize| from + bytes[from..].iter().take_while(|&&byte| is_space(byte)).count();
        let equals = space(at + name);
        if name == 0 || bytes.get(equals) != Some(&b'=') {
            return None;
        }
        let begin = space(equals + 1) + 1;
        let quote = *bytes.get(begin - 1)?;
        if !matches!(quote, b'"' | b'\'') {
            return None;
        }
        let length = memchr2(quote, b'<', &bytes[begin..])?;
        if bytes[begin + length] == b'<' {
            return None;
        }
        let written = &tag[at..at + name];
        let local_name = written.rsplit_once(':').map_or(written, |(_, local)| local);
        Some(Self { local_name, value: &tag[begin..begin + length], behind: begin + length + 1 })
    }
}

impl<'t> Element<'t> {
    /// Local name.
    pub(crate) fn name(self) -> Name {
        match &self.tree.slots[self.index as usize].content {
            Content::Element { name, .. } => *name,
            Content::Text(_) | Content::Resolved { .. } => Name::Other,
        }
    }

    /// Value of the attribute with this local name, entities resolved; `None` when absent or unreadable.
    pub(crate) fn attribute(self, local_name: &str) -> Option<Cow<'t, str>> {
        let Content::Element { attributes, .. } = &self.tree.slots[self.index as usize].content else {
            return None;
        };
        let mut at = 0;
        loop {
            at += attributes[at..].bytes().take_while(|&byte| is_space(byte)).count();
            let attribute = Attribute::next(attributes, at)?;
            if attribute.local_name == local_name {
                return unescaped(attribute.value);
            }
            at = attribute.behind;
        }
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
    pub(crate) fn named(self, name: Name) -> impl Iterator<Item = Element<'t>> {
        self.elements().filter(move |element| element.name() == name)
    }

    /// The first child element with this name.
    pub(crate) fn child(self, name: Name) -> Option<Element<'t>> {
        self.named(name).next()
    }

    /// The first element down this path of names.
    pub(crate) fn path(self, names: &[Name]) -> Option<Element<'t>> {
        names.iter().try_fold(self, |element, &name| element.child(name))
    }

    /// Every element below this one, in order, but for those below a leaf: an element that is taken with all it holds is to be
    /// a leaf, or one within the other would be many copies.
    pub(crate) fn descendants(self, is_leaf: impl Fn(Name) -> bool) -> Vec<Element<'t>> {
        let mut found = Vec::new();
        let mut waiting: Vec<_> = self.elements().collect();
        waiting.reverse();
        while let Some(element) = waiting.pop() {
            found.push(element);
            if is_leaf(element.name()) {
                continue;
            }
            let before = waiting.len();
            waiting.extend(element.elements());
            waiting[before..].reverse();
        }
        found
    }

    /// The first and the last piece of text below this element; empty where another kind of thing stands there.
    pub(crate) fn outer_texts(self) -> (&'t str, &'t str) {
        let outer = |pick: fn(Children<'t>) -> Option<Node<'t>>| {
            let mut node = pick(self.children());
            while let Some(Node::Element(element)) = node {
                node = pick(element.children());
            }
            node.map_or("", |node| if let Node::Text(text) = node { text } else { "" })
        };
        (outer(|mut children| children.next()), outer(Iterator::last))
    }

    /// Whether any text but white space stands below this element.
    pub(crate) fn has_text(self) -> bool {
        let mut waiting = vec![self.children()];
        while let Some(children) = waiting.last_mut() {
            match children.next() {
                Some(Node::Text(text)) if !text.trim().is_empty() => return true,
                Some(Node::Text(_)) => {}
                Some(Node::Element(element)) => waiting.push(element.children()),
                None => drop(waiting.pop()),
            }
        }
        false
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
            Content::Resolved { begin, end } => Node::Text(&self.tree.resolved[*begin as usize..*end as usize]),
        })
    }
}

/// The part of a name behind its prefix.
fn local(name: &[u8]) -> &[u8] {
    memchr::memrchr(b':', name).map_or(name, |colon| &name[colon + 1..])
}

/// Control characters that XML 1.0 does not allow.
fn is_illegal(byte: u8) -> bool {
    byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')
}

/// Without a way out in the middle, so that a block is one or two machine instructions.
fn has_illegal(block: &[u8]) -> bool {
    block.iter().fold(false, |found, &byte| found | is_illegal(byte))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Bytes of names; which characters beyond ASCII XML allows in them makes no difference here.
pub(crate) fn is_name_byte(byte: u8) -> bool {
    const NAME_BYTES: [bool; 256] = {
        let mut allowed = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let one = byte as u8;
            allowed[byte] = one.is_ascii_alphanumeric() || one >= 0x80 || matches!(one, b'_' | b':' | b'-' | b'.');
            byte += 1;
        }
        allowed
    };
    NAME_BYTES[usize::from(byte)]
}

/// Appends a text with its references resolved.
fn resolve_into(text: &str, out: &mut String) -> Result<(), RejectReason> {
    let mut rest = text;
    while let Some(ampersand) = memchr(b'&', rest.as_bytes()) {
        out.push_str(&rest[..ampersand]);
        rest = &rest[ampersand + 1..];
        let length = rest.bytes().take(REFERENCE_BYTES).take_while(|&byte| is_name_byte(byte) || byte == b'#').count();
        if rest.as_bytes().get(length) != Some(&b';') || length == 0 {
            return Err(malformed(BAD_REFERENCE));
        }
        let reference = &rest[..length];
        let undefined = || RejectReason::UndefinedEntity { entity: safe_name(reference.as_bytes()) };
        match reference.strip_prefix('#') {
            Some(number) => out.push(character(number).ok_or_else(undefined)?),
            None => out.push_str(named_entity(reference).ok_or_else(undefined)?),
        }
        rest = &rest[length + 1..];
    }
    out.push_str(rest);
    Ok(())
}

/// The character of `&#65;` or `&#x41;`, from what stands behind the `#`; `None` for what XML does not allow.
fn character(number: &str) -> Option<char> {
    let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let character = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32)?;
    (!u8::try_from(character).is_ok_and(is_illegal)).then_some(character)
}

/// An attribute's value; `None` where a reference in it cannot be resolved.
fn unescaped(value: &str) -> Option<Cow<'_, str>> {
    if memchr(b'&', value.as_bytes()).is_none() {
        return Some(Cow::Borrowed(value));
    }
    let mut text = String::with_capacity(value.len());
    resolve_into(value, &mut text).ok()?;
    Some(Cow::Owned(text))
}

fn malformed(what: &'static str) -> RejectReason {
    RejectReason::malformed_xml(what)
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
    fn nesting_has_a_bound_whatever_the_limits_say() {
        let limits = Limits { depth: usize::MAX, ..Limits::default() };
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(Tree::parse(&nested(MAX_DEPTH), &limits).is_ok());
        let reason = Tree::parse(&nested(MAX_DEPTH + 1), &limits).unwrap_err();
        assert_eq!(reason, RejectReason::over_limit("depth", MAX_DEPTH as u64));
    }

    #[test]
    fn undefined_and_illegal_references() {
        check("<a>&lol;</a>", Err("undefined-entity: lol"));
        check("<a>&#0;</a>", Err("undefined-entity: ?0"));
        check("<a>&#xD800;</a>", Err("undefined-entity: ?xD800"));
        check("<a>&#1;</a>", Err("undefined-entity: ?1"));
        check("<a>&#65536000;&#x;</a>", Err("undefined-entity: ?65536000"));
        check("<a>&#+5;</a>", Err("malformed-xml: an ampersand that begins no reference"));
        check("<a>b & c</a>", Err("malformed-xml: an ampersand that begins no reference"));
        check("<a>b&amp</a>", Err("malformed-xml: an ampersand that begins no reference"));
        check("<a>&;</a>", Err("malformed-xml: an ampersand that begins no reference"));
    }

    #[test]
    fn not_well_formed() {
        check("<a><b></a>", Err("malformed-xml: an end tag that does not match"));
        check("<a></a></a>", Err("malformed-xml: an end tag that does not match"));
        check("<x:a></a>", Err("malformed-xml: an end tag that does not match"));
        check("<a></ab>", Err("malformed-xml: an end tag that does not match"));
        check("<a></a", Err("malformed-xml: a tag that is never closed"));
        check("<a></", Err("malformed-xml: a tag that is never closed"));
        check("<a></<b/>", Err("malformed-xml: a tag that is never closed"));
        check("<a <b></a>", Err("malformed-xml: a tag that is never closed"));
        check("<a<b></a>", Err("malformed-xml: a tag that is never closed"));
        check("<a", Err("malformed-xml: a tag that is never closed"));
        check("<a>x < y</a>", Err("malformed-xml: a name that is not allowed"));
        check("<a><", Err("malformed-xml: a tag that is never closed"));
        check("<a>", Err("truncated-record"));
        check("<a><b/>", Err("truncated-record"));
        check("", Err("truncated-record"));
        check("<!-- a -->", Err("truncated-record"));
        check("<a><!-- a --></a><!-- a -", Err("malformed-xml: markup that is never closed"));
        check("<a><![CDATA[x]]</a>", Err("malformed-xml: markup that is never closed"));
        check("<a><?x></a>", Err("malformed-xml: markup that is never closed"));
        check("<a><!DOCTYPE x></a>", Err("malformed-xml: a declaration inside a record"));
        check("<a/>x", Err("malformed-xml: text outside the root"));
        check("<a/>&amp;", Err("malformed-xml: text outside the root"));
        check(" <a/>\n", Ok(""));
        check("<a/><a/>", Err("malformed-xml: a second root"));
        check("<a>\u{b}</a>", Err("malformed-xml: a control character"));
        check("<a b></a>", Err("malformed-xml: an attribute"));
        check("<a b=c></a>", Err("malformed-xml: an attribute"));
        check("<a b='c></a>", Err("malformed-xml: an attribute"));
        check("<a b='<'></a>", Err("malformed-xml: an attribute"));
        check("<a b = \"c>\" d='/'/>", Ok(""));
        check("<a><1/></a>", Err("malformed-xml: a name that is not allowed"));
        check("<a><b=/></a>", Err("malformed-xml: a name that is not allowed"));
        check("<é>x</é >", Ok("x"));
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
        let xml = "<m:p x:k='1&amp;2' l=\"&bad;\" ><sub>1</sub><x:list><sub>2</sub></x:list ><sub>3</sub></m:p>";
        let tree = Tree::parse(xml, &Limits::default()).unwrap();
        let root = tree.root();
        assert_eq!(root.name(), Name::P);
        assert_eq!(root.attribute("k").as_deref(), Some("1&2"));
        assert_eq!(root.attribute("l"), None);
        assert_eq!(root.attribute("m"), None);
        let texts: Vec<_> = root.named(Name::Sub).map(Element::raw_text).collect();
        assert_eq!(texts, ["1", "3"]);
        assert_eq!(root.path(&[Name::List, Name::Sub]).map(Element::raw_text).as_deref(), Some("2"));
        let names: Vec<_> = root.descendants(|_| false).into_iter().map(|one| (one.name(), one.raw_text())).collect();
        let expected = [(Name::Sub, "1"), (Name::List, "2"), (Name::Sub, "2"), (Name::Sub, "3")];
        assert_eq!(names, expected.map(|(name, text)| (name, text.to_string())));
        assert_eq!(root.outer_texts(), ("1", "3"));
    }
}
