//! Cuts a stream of XML into records, each with its byte offset, so that one malformed record costs that record alone.
//!
//! Records are elements of known names inside a known root; only they are held in memory. Their inside is not parsed
//! here, see [`crate::xml`].

use std::collections::VecDeque;
use std::io::{self, BufRead};

use crate::compression::StreamFault;
use crate::input::{ByteStream, Input};
use crate::markup::{Mark, Markup};
use crate::reader::Limits;
use crate::reject::{RejectReason, safe_name};

/// Bytes of a prolog instruction kept to find the declared encoding.
const DECLARATION_BYTES: usize = 256;
/// How often in an object what an unclosed comment, CDATA section or instruction has swallowed is looked through again. Each
/// time may cost a record's bytes.
const MAX_REPLAYS: u32 = 16;

/// What a format's files look like from outside. All names are local names.
#[derive(Debug)]
pub(crate) struct FrameSpec {
    /// Roots that hold records.
    pub(crate) roots: &'static [&'static str],
    /// Elements that are records, also as root.
    pub(crate) records: &'static [&'static str],
    /// Records that can never stand inside another record: a start tag of one ends an unclosed record.
    pub(crate) never_inside: &'static [&'static str],
    /// The reject for another root.
    pub(crate) wrong_root: fn(String) -> RejectReason,
}

/// A record or a place where there should have been one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The bytes of one element, start tag to end tag.
    Record { offset: u64, bytes: Vec<u8> },
    /// A broken one.
    Broken { offset: u64, bytes: u64, reason: RejectReason },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing read yet.
    Start,
    /// Outside every record.
    Outside,
    /// Inside a record, collecting.
    Inside,
    /// Inside a record that is too large, dropping.
    Dropping,
    /// Nothing more to come.
    Done,
}

/// How the bytes of the object are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// UTF-8 or US-ASCII.
    Utf8,
    /// ISO-8859-1: byte values are code points.
    Latin1,
}

/// The stream, and before it bytes that are read a second time.
#[derive(Debug)]
struct Source {
    stream: ByteStream,
    replay: Vec<u8>,
    /// How many of `replay` were read again.
    replayed: usize,
    replays: u32,
}

impl Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.replayed < self.replay.len() { Ok(&self.replay[self.replayed..]) } else { self.stream.fill_buf() }
    }

    fn consume(&mut self, count: usize) {
        if self.replayed >= self.replay.len() {
            self.stream.consume(count);
            return;
        }
        self.replayed += count;
        if self.replayed == self.replay.len() {
            self.replay = Vec::new();
            self.replayed = 0;
        }
    }

    /// Offset of the next byte.
    fn offset(&self) -> u64 {
        self.stream.offset() - (self.replay.len() - self.replayed) as u64
    }

    /// Has the bytes that were read last read again; not for ever.
    fn replay(&mut self, mut bytes: Vec<u8>) -> bool {
        if self.replays >= MAX_REPLAYS {
            return false;
        }
        self.replays += 1;
        bytes.extend_from_slice(&self.replay[self.replayed..]);
        self.replay = bytes;
        self.replayed = 0;
        true
    }
}

/// The records of one object.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: Source,
    spec: &'static FrameSpec,
    record_limit: u64,
    depth_limit: usize,
    markup: Markup,
    mode: Mode,
    encoding: Encoding,
    /// Names of the open elements outside records, root first.
    open: Vec<Vec<u8>>,
    seen_root: bool,
    /// The record or outer tag being collected, and where it began.
    collected: Vec<u8>,
    begin: u64,
    record_name: Vec<u8>,
    /// Where in `collected` the markup being scanned began.
    mark_begin: usize,
    malformed: bool,
    /// A broken record was reported and no good one seen since: the wreckage is not reported again.
    recovering: bool,
    /// To be returned first: at most two, a broken record and the one that ended it.
    queued: VecDeque<Frame>,
}

impl Frames {
    pub(crate) fn new(input: Input, spec: &'static FrameSpec, limits: &Limits) -> Self {
        Self {
            bytes: Source { stream: ByteStream::new(input, limits), replay: Vec::new(), replayed: 0, replays: 0 },
            spec,
            record_limit: limits.record_bytes,
            depth_limit: limits.depth,
            markup: Markup::new(),
            mode: Mode::Start,
            encoding: Encoding::Utf8,
            open: Vec::new(),
            seen_root: false,
            collected: Vec::new(),
            begin: 0,
            record_name: Vec::new(),
            mark_begin: 0,
            malformed: false,
            recovering: false,
            queued: VecDeque::new(),
        }
    }

    /// Offset of the next byte to be read.
    pub(crate) fn offset(&self) -> u64 {
        self.bytes.offset()
    }

    /// The record returned last proved to be malformed: damage right behind it is the same damage.
    pub(crate) fn mark_malformed(&mut self) {
        self.recovering = true;
    }

    /// The declared encoding of the object.
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The next record or broken place.
    ///
    /// # Errors
    /// Failures of the underlying store.
    pub(crate) fn next(&mut self) -> io::Result<Option<Frame>> {
        if self.mode == Mode::Start {
            self.begin_object()?;
        }
        loop {
            if let Some(frame) = self.queued.pop_front() {
                return Ok(Some(frame));
            }
            if self.mode == Mode::Done {
                return Ok(None);
            }
            let at_end = match self.bytes.fill_buf() {
                Ok(bytes) => bytes.is_empty(),
                Err(error) => match StreamFault::of(&error) {
                    Some(StreamFault(reason)) => {
                        let reason = reason.clone();
                        self.end_by_fault(reason);
                        continue;
                    }
                    None => return Err(error),
                },
            };
            if at_end {
                self.end_object();
            } else if self.mode == Mode::Outside && self.markup.in_text() {
                self.skip_text()?;
            } else {
                self.scan()?;
            }
        }
    }

    /// Byte order marks, and whether this can be XML at all.
    fn begin_object(&mut self) -> io::Result<()> {
        self.mode = Mode::Outside;
        let mut head = Vec::new();
        // One byte at a time, so that the pieces do not matter.
        while head.len() < 3 {
            match self.bytes.fill_buf() {
                Ok([]) => break,
                Ok(bytes) => {
                    if head.is_empty() && !matches!(bytes[0], 0xef | 0xff | 0xfe) {
                        return Ok(());
                    }
                    head.push(bytes[0]);
                    self.bytes.consume(1);
                }
                Err(error) if StreamFault::of(&error).is_some() => break,
                Err(error) => return Err(error),
            }
            if matches!(head.as_slice(), [0xff, 0xfe] | [0xfe, 0xff]) {
                let reason = RejectReason::UnsupportedEncoding { encoding: "utf-16".to_string() };
                self.finish_with(0, 0, reason);
                return Ok(());
            }
        }
        if !head.is_empty() && head != [0xef, 0xbb, 0xbf] {
            self.finish_with(0, 0, RejectReason::NotXml);
        }
        Ok(())
    }

    /// Character data outside records: only white space belongs there.
    fn skip_text(&mut self) -> io::Result<()> {
        let offset = self.bytes.offset();
        let bytes = self.bytes.fill_buf()?;
        let text = &bytes[..memchr::memchr(b'<', bytes).unwrap_or(bytes.len())];
        let stray = text.iter().position(|byte| !byte.is_ascii_whitespace());
        let (count, markup_next) = (text.len(), text.len() < bytes.len());
        self.bytes.consume(count);
        if let Some(position) = stray {
            let place = offset + position as u64;
            if !self.seen_root {
                self.finish_with(place, 0, RejectReason::NotXml);
                return Ok(());
            }
            // Below the root there is text that is no record's, such as the numbers in a list of deletions.
            if self.open.len() <= 1 {
                self.report_wreckage(place, "text outside every record");
            }
        }
        if markup_next {
            self.collected.clear();
            self.begin = self.bytes.offset();
            self.mark_begin = 0;
            // The `<` itself, so that the markup is no longer in its text state.
            self.scan()?;
        }
        Ok(())
    }

    /// Scans one piece of markup, with the text before it when inside a record.
    fn scan(&mut self) -> io::Result<()> {
        let bytes = self.bytes.fill_buf()?;
        // One byte over the limit at most, so that what follows an oversized piece is still to be scanned.
        let room = (self.record_limit + 1).saturating_sub(self.collected.len() as u64).max(1);
        let bytes = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        let record = (self.mode != Mode::Outside).then_some((&self.record_name, self.open.first()));
        let never_inside = self.spec.never_inside;
        // Inside a record only what may end it is of interest.
        let scanned = self.markup.scan(bytes, |name| match record {
            None => true,
            Some((record, root)) => record == name || root.is_some_and(|root| root == name) || contains(never_inside, name),
        });
        let mut keep_from = 0;
        if self.mode == Mode::Dropping {
            let nothing_begun = scanned.mark.is_none() && self.markup.in_text();
            keep_from = if nothing_begun { scanned.used } else { scanned.begin.unwrap_or(0) };
            if nothing_begun || scanned.begin.is_some() {
                self.collected.clear();
            }
        }
        if let Some(begin) = scanned.begin {
            self.mark_begin = self.collected.len() + begin - keep_from;
        }
        self.collected.extend_from_slice(&bytes[keep_from..scanned.used]);
        self.bytes.consume(scanned.used);
        if scanned.mark.is_none() && self.markup.in_text() {
            self.mark_begin = self.collected.len();
        }
        if self.collected.len() as u64 > self.record_limit && !self.drop_record() {
            return Ok(());
        }
        match scanned.mark {
            None => {}
            Some(mark) if self.mode == Mode::Outside => self.outside(mark),
            Some(mark) => self.inside(mark),
        }
        Ok(())
    }

    fn outside(&mut self, mark: Mark) {
        match mark {
            Mark::Other => self.read_declaration(),
            Mark::Malformed if self.seen_root => {
                self.report_wreckage(self.begin, "a tag that is never closed");
            }
            Mark::Malformed => self.finish_with(self.begin, 0, RejectReason::NotXml),
            Mark::End => self.outside_end(),
            Mark::Start { empty } => self.outside_start(empty),
        }
    }

    fn outside_start(&mut self, empty: bool) {
        let name = self.markup.local_name().to_vec();
        if contains(self.spec.records, &name) {
            self.seen_root = true;
            if empty {
                self.recovering = false;
                let bytes = std::mem::take(&mut self.collected);
                self.queued.push_back(Frame::Record { offset: self.begin, bytes });
            } else {
                self.begin_record(name);
            }
            return;
        }
        if self.open.is_empty() && !contains(self.spec.roots, &name) {
            let reason = (self.spec.wrong_root)(safe_name(&name));
            self.finish_with(self.begin, 0, reason);
            return;
        }
        self.seen_root = true;
        if !empty {
            if self.open.len() >= self.depth_limit {
                let reason = RejectReason::over_limit("depth", self.depth_limit as u64);
                self.finish_with(self.begin, 0, reason);
                return;
            }
            self.open.push(name);
        }
    }

    fn outside_end(&mut self) {
        let name = self.markup.local_name();
        if self.open.last().is_some_and(|open| open == name) {
            self.open.pop();
        } else if self.open.first().is_some_and(|root| root == name) {
            self.open.clear();
            self.report_wreckage(self.begin, "an end tag without its start tag");
        } else {
            self.report_wreckage(self.begin, "an end tag without its start tag");
        }
    }

    fn begin_record(&mut self, name: Vec<u8>) {
        self.record_name = name;
        self.malformed = false;
        self.mode = Mode::Inside;
    }

    fn inside(&mut self, mark: Mark) {
        match mark {
            Mark::Other => {}
            Mark::Malformed => self.malformed = true,
            Mark::End => {
                let name = self.markup.local_name();
                if name == self.record_name {
                    self.end_record();
                } else if self.open.first().is_some_and(|root| root == name) {
                    self.break_record();
                    self.open.clear();
                }
            }
            Mark::Start { empty } => {
                let name = self.markup.local_name();
                if name == self.record_name || contains(self.spec.never_inside, name) {
                    self.break_record();
                    self.outside_start(empty);
                }
            }
        }
    }

    fn end_record(&mut self) {
        let dropping = self.mode == Mode::Dropping;
        self.mode = Mode::Outside;
        if dropping {
            return;
        }
        let bytes = std::mem::take(&mut self.collected);
        if self.malformed {
            let reason = RejectReason::malformed_xml("a tag that is never closed");
            self.break_at(self.begin, bytes.len() as u64, reason);
        } else {
            self.recovering = false;
            self.queued.push_back(Frame::Record { offset: self.begin, bytes });
        }
    }

    /// Ends an unclosed record before the tag just scanned, which becomes the collected one.
    fn break_record(&mut self) {
        let (begin, length) = (self.begin, self.mark_begin as u64);
        self.collected.drain(..self.mark_begin);
        self.begin = self.bytes.offset() - self.collected.len() as u64;
        if self.mode == Mode::Inside {
            let reason = RejectReason::malformed_xml("a record that is never closed");
            self.break_at(begin, length, reason);
        }
        self.mode = Mode::Outside;
        self.mark_begin = 0;
    }

    /// Lets go of a record over its limit, all but the markup being scanned: that may be what ends it. Returns whether
    /// that markup is still there.
    fn drop_record(&mut self) -> bool {
        if self.mode != Mode::Dropping {
            let reason = RejectReason::over_limit("record_bytes", self.record_limit);
            self.break_at(self.begin, 0, reason);
        }
        if self.mode == Mode::Inside {
            self.mode = Mode::Dropping;
        }
        self.collected = self.collected.split_off(self.mark_begin);
        self.mark_begin = 0;
        let kept = self.collected.len() as u64 <= self.record_limit;
        if !kept {
            // An unclosed comment or value must not swallow the records that follow.
            let swallowed = std::mem::take(&mut self.collected);
            self.bytes.replay(swallowed[1..].to_vec());
            self.markup.reset();
        }
        kept
    }

    fn break_at(&mut self, offset: u64, bytes: u64, reason: RejectReason) {
        self.recovering = true;
        self.queued.push_back(Frame::Broken { offset, bytes, reason });
    }

    /// Reports damage between records, once until the next good record.
    fn report_wreckage(&mut self, offset: u64, what: &'static str) {
        if !self.recovering {
            self.break_at(offset, 0, RejectReason::malformed_xml(what));
        }
    }

    fn finish_with(&mut self, offset: u64, bytes: u64, reason: RejectReason) {
        self.mode = Mode::Done;
        self.queued.push_back(Frame::Broken { offset, bytes, reason });
    }

    /// The stream is damaged here: the record being read, or the place, is rejected for that reason.
    fn end_by_fault(&mut self, reason: RejectReason) {
        if self.mode == Mode::Inside {
            self.finish_with(self.begin, self.collected.len() as u64, reason);
        } else {
            self.finish_with(self.bytes.offset(), 0, reason);
        }
    }

    fn end_object(&mut self) {
        let end = self.bytes.offset();
        let mid_markup = !self.markup.in_text();
        match self.mode {
            Mode::Inside | Mode::Outside if mid_markup && self.swallowed_a_record() => self.read_swallowed(),
            Mode::Inside => {
                self.finish_with(self.begin, self.collected.len() as u64, RejectReason::TruncatedRecord);
            }
            _ if !self.seen_root && !mid_markup => {
                self.finish_with(0, 0, RejectReason::EmptyObject);
            }
            _ if mid_markup || !self.open.is_empty() || self.mode == Mode::Dropping => {
                self.finish_with(end, 0, RejectReason::TruncatedRecord);
            }
            _ => self.mode = Mode::Done,
        }
    }

    /// Whether another record begins in markup that is never closed.
    fn swallowed_a_record(&self) -> bool {
        let swallowed = &self.collected[self.mark_begin..];
        self.bytes.replays < MAX_REPLAYS
            && memchr::memchr_iter(b'<', swallowed).skip(1).any(|begin| {
                let behind = &swallowed[begin + 1..];
                self.spec.records.iter().any(|name| behind.starts_with(name.as_bytes()))
            })
    }

    /// Rejects the record or place in which the markup began, and reads on behind its first byte.
    fn read_swallowed(&mut self) {
        let swallowed = self.collected.split_off(self.mark_begin);
        let length = self.mark_begin as u64;
        self.bytes.replay(swallowed[1..].to_vec());
        self.markup.reset();
        self.break_at(self.begin, length, RejectReason::malformed_xml("markup that is never closed"));
        self.collected = Vec::new();
        self.mark_begin = 0;
        self.mode = Mode::Outside;
    }

    /// Looks for an encoding in `<?xml … encoding="…"?>`.
    fn read_declaration(&mut self) {
        if !self.collected.starts_with(b"<?xml") || self.collected.len() > DECLARATION_BYTES {
            return;
        }
        let Some(name) = declared_encoding(&self.collected) else {
            return;
        };
        match name.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" | "us-ascii" | "ascii" => self.encoding = Encoding::Utf8,
            "iso-8859-1" | "latin1" | "latin-1" => self.encoding = Encoding::Latin1,
            _ => {
                let encoding = safe_name(name.as_bytes());
                self.finish_with(self.begin, 0, RejectReason::UnsupportedEncoding { encoding });
            }
        }
    }
}

fn contains(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes() == name)
}

fn declared_encoding(declaration: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(declaration).ok()?;
    let (_, rest) = text.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|&first| first == '"' || first == '\'')?;
    rest[1..].split_once(quote).map(|(name, _)| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    static SPEC: FrameSpec = FrameSpec {
        roots: &["set"],
        records: &["r", "s"],
        never_inside: &["r"],
        wrong_root: |root| RejectReason::NotPubmed { root },
    };

    fn frames(bytes: &[u8], record_bytes: u64, piece: usize) -> Vec<String> {
        let limits = Limits { record_bytes, depth: 3, ..Limits::default() };
        let reader = std::io::BufReader::with_capacity(piece, std::io::Cursor::new(bytes.to_vec()));
        let mut frames = Frames::new(Input::Stream(Box::new(reader)), &SPEC, &limits);
        let mut found = Vec::new();
        while let Some(frame) = frames.next().unwrap() {
            found.push(match frame {
                Frame::Record { offset, bytes } => {
                    format!("{offset} {}", String::from_utf8(bytes).unwrap())
                }
                Frame::Broken { offset, bytes, reason } => format!("{offset}+{bytes} {reason}"),
            });
        }
        found
    }

    fn check_limited(input: &str, record_bytes: u64, expected: &[&str]) {
        for piece in [1, 2, 3, 7, 4096] {
            assert_eq!(frames(input.as_bytes(), record_bytes, piece), expected, "{input:?} in pieces of {piece}");
        }
    }

    fn check(input: &str, expected: &[&str]) {
        check_limited(input, 1 << 20, expected);
    }

    const UNCLOSED: &str = "malformed-xml: a record that is never closed";

    #[test]
    fn records_with_their_offsets() {
        check("<set><r>1</r> <r a='2'/><s>3</s></set>", &["5 <r>1</r>", "14 <r a='2'/>", "24 <s>3</s>"]);
        check("\u{feff}<?xml version='1.0' encoding='UTF-8'?><!DOCTYPE set [<!ENTITY r '<r>'>]><set><r/></set> ", &["80 <r/>"]);
        check("<set><!-- <r> --><g><r><![CDATA[</r>]]></r></g></set>", &["20 <r><![CDATA[</r>]]></r>"]);
        check("<r><s></s></r>", &["0 <r><s></s></r>"]);
        check("<p:set><p:r></p:r></p:set>", &["7 <p:r></p:r>"]);
    }

    #[test]
    fn one_broken_record_costs_itself() {
        check("<set><r>1<r>2</r></set>", &[&format!("5+4 {UNCLOSED}"), "9 <r>2</r>"]);
        check("<set><r>1</set><set><r>2</r></set>", &[&format!("5+4 {UNCLOSED}"), "20 <r>2</r>"]);
        check("<set><r>1<r/></set>", &[&format!("5+4 {UNCLOSED}"), "9 <r/>"]);
        check("<set><r>a < b</r><r>2</r></set>", &["5+12 malformed-xml: a tag that is never closed", "17 <r>2</r>"]);
        // Tags of other names are for the parser to judge.
        check("<set><r><a <b</r><r>2</r></set>", &["5 <r><a <b</r>", "17 <r>2</r>"]);
        check("<set><r>a</r <b/></r><r>2</r></set>", &["5+16 malformed-xml: a tag that is never closed", "21 <r>2</r>"]);
        check(
            "<set><r></r></x><y><r></r></y></set>",
            &["5 <r></r>", "12+0 malformed-xml: an end tag without its start tag", "19 <r></r>"],
        );
        check(
            "<set>x<r/>y z</set>",
            &["5+0 malformed-xml: text outside every record", "6 <r/>", "10+0 malformed-xml: text outside every record"],
        );
        check("<r/>x", &["0 <r/>", "4+0 malformed-xml: text outside every record"]);
    }

    #[test]
    fn case_27_truncated_documents_are_rejected() {
        check("<set><r>1</r><r>2", &["5 <r>1</r>", "13+4 truncated-record"]);
        check("<set><r>1</r>", &["5 <r>1</r>", "13+0 truncated-record"]);
        check("<set><r>1</r></se", &["5 <r>1</r>", "17+0 truncated-record"]);
        check("<set><r>1</r></set><!--", &["5 <r>1</r>", "23+0 truncated-record"]);
        check("<set", &["4+0 truncated-record"]);
        check("<?xml", &["5+0 truncated-record"]);
    }

    #[test]
    fn what_is_no_such_object() {
        check("", &["0+0 empty-object"]);
        check("\n<!-- c -->", &["0+0 empty-object"]);
        check("{\"a\": 1}", &["0+0 not-xml"]);
        check("<< x", &["0+0 not-xml"]);
        check(" <html><r/></html>", &["1+0 not-pubmed: root element html"]);
        check("<?xml version='1.0' encoding='Shift_JIS'?><set/>", &["0+0 unsupported-encoding: Shift_JIS"]);
        assert_eq!(frames(b"\xff\xfe<\0r\0", 99, 1), ["0+0 unsupported-encoding: utf-16"]);
        assert_eq!(frames(b"\xef\xbbx<r/>", 99, 1), ["0+0 not-xml"]);
    }

    #[test]
    fn records_over_the_limit_are_dropped_and_reading_goes_on() {
        let long = "x".repeat(50);
        check_limited(&format!("<set><r>{long}</r><r>2</r></set>"), 40, &["5+0 over-limit: record_bytes = 40", "62 <r>2</r>"]);
        // Unclosed: the next record ends it, with its attributes.
        check_limited(
            &format!("<set><r>{long}<r a='2'></r></set>"),
            40,
            &["5+0 over-limit: record_bytes = 40", "58 <r a='2'></r>"],
        );
        // An unclosed comment would swallow everything.
        check_limited(
            &format!("<set><r><!-- {long}</r><r>2</r></set>"),
            40,
            &["5+0 over-limit: record_bytes = 40", "67 <r>2</r>"],
        );
        // What it would have swallowed is read, as far back as the limit goes.
        let swallowing = format!("<set><r><!-- x</r><r>2</r>{long}<r>3</r></set>");
        check_limited(
            &swallowing,
            60,
            &["5+0 over-limit: record_bytes = 60", "18 <r>2</r>", "26+0 malformed-xml: text outside every record", "76 <r>3</r>"],
        );
        check_limited(&format!("<set><r>{long}"), 40, &["5+0 over-limit: record_bytes = 40", "58+0 truncated-record"]);
    }

    #[test]
    fn unclosed_markup_costs_the_record_that_it_begins_in() {
        for open in ["<!-- x", "<![CDATA[ x", "<? x"] {
            let input = format!("<set><r>1</r><r>{open}</r><r>3</r><s>4</s></set>");
            let behind = 13 + 3 + open.len() + 4;
            let expected = [
                "5 <r>1</r>".to_string(),
                "13+3 malformed-xml: markup that is never closed".to_string(),
                format!("{behind} <r>3</r>"),
                format!("{} <s>4</s>", behind + 8),
            ];
            check(&input, &expected.each_ref().map(String::as_str));
        }
        check("<set><!-- <r>1</r></set>", &["5+0 malformed-xml: markup that is never closed", "10 <r>1</r>"]);
        check("<set><r>1</r><r><!-- x </r></set>", &["5 <r>1</r>", "13+20 truncated-record"]);
        // Not for ever: the last record that is looked for takes the rest.
        let many = format!("<set>{}</set>", "<r><!-- </r>".repeat(40));
        let found = frames(many.as_bytes(), 1 << 20, 4096);
        assert_eq!(found.len(), MAX_REPLAYS as usize + 1, "{found:?}");
        assert_eq!(found.last().map(String::as_str), Some("197+294 truncated-record"));
    }

    #[test]
    fn nesting_outside_records_is_limited() {
        check("<set><g><g><g><r/>", &["11+0 over-limit: depth = 3"]);
    }
}
