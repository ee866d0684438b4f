//! Finds tags in raw XML bytes, fed in pieces of any size: where they begin and end and what they are called.
//!
//! It steps over comments, CDATA sections, processing instructions and the document type, whose declarations are never
//! read. It does not decode text or judge whether tags match: [`crate::frame`] and [`crate::xml`] do. Where only some
//! names are looked for it passes over all other tags at the end of their name: what stands behind it is then like text.

use memchr::memchr;

use crate::xml::is_name_byte;

/// Bytes of a tag's name that are kept; a longer name can be no name that is looked for.
const NAME_BYTES: usize = 128;

/// What was completed by the last byte scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `<name …>`, or `<name …/>` where `empty`.
    Start { empty: bool },
    /// `</name>`.
    End,
    /// A comment, CDATA section or processing instruction, or the document type.
    Other,
    /// Bytes that can be no markup. Scanning goes on behind them.
    Malformed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    Opened,
    Declared,
    Comment,
    Cdata,
    Instruction,
    Doctype { brackets: u32, quote: u8 },
    DoctypeComment { brackets: u32 },
    DoctypeInstruction { brackets: u32 },
    Name { end: bool },
    Tag { end: bool, quote: u8 },
}

/// What scanning a piece came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// Bytes used.
    pub(crate) used: usize,
    /// Where in the piece the markup begins that is completed or still going on; `None` where it began before the piece
    /// or there is none.
    pub(crate) begin: Option<usize>,
    /// What was completed; `None` when all bytes were used and nothing is complete.
    pub(crate) mark: Option<Mark>,
}

/// The state between two pieces.
#[derive(Debug)]
pub(crate) struct Markup {
    state: State,
    /// Name of the tag being scanned or just completed, with its prefix.
    name: Vec<u8>,
    /// The last bytes scanned, newest lowest: enough to see `-->`, `]]>`, `/>` and `<!--` across pieces.
    tail: u32,
}

impl Markup {
    pub(crate) fn new() -> Self {
        Self { state: State::Text, name: Vec::new(), tail: 0 }
    }

    /// Whether the next byte is character data or begins markup.
    pub(crate) fn in_text(&self) -> bool {
        self.state == State::Text
    }

    /// Forgets markup that was begun.
    pub(crate) fn reset(&mut self) {
        self.state = State::Text;
        self.tail = 0;
    }

    /// Name of the tag completed last, without its prefix.
    pub(crate) fn local_name(&self) -> &[u8] {
        match self.name.iter().rposition(|&byte| byte == b':') {
            Some(colon) => &self.name[colon + 1..],
            None => &self.name,
        }
    }

    /// Scans up to the end of one piece of markup; of tags only those that `wanted` accepts by their local name, at once
    /// known for names of less than [`NAME_BYTES`]. A mark of `Malformed` may use 0 bytes.
    pub(crate) fn scan(&mut self, bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Scanned {
        let mut position = 0;
        let mut begin = None;
        while position < bytes.len() {
            if self.state == State::Text {
                match next_tag(bytes, position, &wanted) {
                    None => return Scanned { used: bytes.len(), begin: None, mark: None },
                    Some(place) => {
                        begin = Some(place);
                        position = place + 1;
                        self.state = State::Opened;
                        continue;
                    }
                }
            }
            if let Some(skip) = self.skippable(&bytes[position..]) {
                position += skip;
                continue;
            }
            let byte = bytes[position];
            self.tail = (self.tail << 8) | u32::from(byte);
            match self.step(byte, &wanted) {
                Step::More => position += 1,
                Step::Done(mark) => {
                    self.state = State::Text;
                    return Scanned { used: position + 1, begin, mark: Some(mark) };
                }
                // The byte may begin markup of its own, so it is not used.
                Step::Malformed => {
                    self.state = State::Text;
                    return Scanned { used: position, begin, mark: Some(Mark::Malformed) };
                }
                Step::Unwanted => {
                    self.state = State::Text;
                    begin = None;
                }
            }
        }
        Scanned { used: position, begin, mark: None }
    }

    /// Bytes inside a comment, CDATA section or instruction that cannot end it.
    fn skippable(&mut self, bytes: &[u8]) -> Option<usize> {
        if !matches!(self.state, State::Comment | State::Cdata | State::Instruction) {
            return None;
        }
        // The two bytes before `>` decide, so at most these are looked at one by one.
        let stop = memchr(b'>', bytes).unwrap_or(bytes.len());
        (stop > 2).then(|| stop - 2)
    }

    fn step(&mut self, byte: u8, wanted: impl Fn(&[u8]) -> bool) -> Step {
        match self.state {
            State::Text => Step::More,
            State::Opened => self.step_opened(byte),
            State::Declared => self.step_declared(byte),
            State::Comment => finished(self.tail & 0x00ff_ffff == 0x002d_2d3e),
            State::Cdata => finished(self.tail & 0x00ff_ffff == 0x005d_5d3e),
            State::Instruction => finished(self.tail & 0xffff == 0x3f3e),
            State::Doctype { brackets, quote } => self.step_doctype(byte, brackets, quote),
            State::DoctypeComment { brackets } => {
                if self.tail & 0x00ff_ffff == 0x002d_2d3e {
                    self.state = State::Doctype { brackets, quote: 0 };
                }
                Step::More
            }
            State::DoctypeInstruction { brackets } => {
                if self.tail & 0xffff == 0x3f3e {
                    self.state = State::Doctype { brackets, quote: 0 };
                }
                Step::More
            }
            State::Name { end } => self.step_name(byte, end, wanted),
            State::Tag { end, quote } => self.step_tag(byte, end, quote),
        }
    }

    fn step_opened(&mut self, byte: u8) -> Step {
        self.name.clear();
        self.state = match byte {
            b'!' => State::Declared,
            b'?' => State::Instruction,
            b'/' => State::Name { end: true },
            _ if is_name_start(byte) => {
                self.name.push(byte);
                State::Name { end: false }
            }
            _ => return Step::Malformed,
        };
        // No byte from before may take part in the end mark: `<!-->` is no comment.
        self.tail = 0;
        Step::More
    }

    fn step_declared(&mut self, byte: u8) -> Step {
        self.name.push(byte);
        let known: [(&[u8], State); 3] =
            [(b"--", State::Comment), (b"[CDATA[", State::Cdata), (b"DOCTYPE", State::Doctype { brackets: 0, quote: 0 })];
        for (word, state) in known {
            if self.name == word {
                self.state = state;
                self.tail = 0;
                return Step::More;
            }
            if word.starts_with(&self.name) {
                return Step::More;
            }
        }
        Step::Malformed
    }

    fn step_doctype(&mut self, byte: u8, brackets: u32, quote: u8) -> Step {
        if quote != 0 {
            if byte == quote {
                self.state = State::Doctype { brackets, quote: 0 };
            }
            return Step::More;
        }
        self.state = match byte {
            b'"' | b'\'' => State::Doctype { brackets, quote: byte },
            b'[' => State::Doctype { brackets: brackets.saturating_add(1), quote },
            b']' => State::Doctype { brackets: brackets.saturating_sub(1), quote },
            b'>' if brackets == 0 => return Step::Done(Mark::Other),
            b'-' if self.tail == 0x3c21_2d2d => {
                self.tail = 0;
                State::DoctypeComment { brackets }
            }
            b'?' if self.tail & 0xffff == 0x3c3f => {
                self.tail = 0;
                State::DoctypeInstruction { brackets }
            }
            _ => return Step::More,
        };
        Step::More
    }

    fn step_name(&mut self, byte: u8, end: bool, wanted: impl Fn(&[u8]) -> bool) -> Step {
        match byte {
            b'>' | b'/' | b'<' | b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' => {
                if self.name.is_empty() {
                    return Step::Malformed;
                }
                if !wanted(self.local_name()) {
                    return Step::Unwanted;
                }
                self.state = State::Tag { end, quote: 0 };
                self.step_tag(byte, end, 0)
            }
            _ => {
                if self.name.is_empty() && !is_name_start(byte) {
                    return Step::Malformed;
                }
                if self.name.len() < NAME_BYTES {
                    self.name.push(byte);
                }
                Step::More
            }
        }
    }

    fn step_tag(&mut self, byte: u8, end: bool, quote: u8) -> Step {
        if byte == b'<' {
            // Not allowed in attribute values either, so the tag was never closed.
            return Step::Malformed;
        }
        if quote != 0 {
            if byte == quote {
                self.state = State::Tag { end, quote: 0 };
            }
            return Step::More;
        }
        match byte {
            b'>' if end => Step::Done(Mark::End),
            b'>' => Step::Done(Mark::Start { empty: self.tail & 0xffff == 0x2f3e }),
            b'"' | b'\'' => {
                self.state = State::Tag { end, quote: byte };
                Step::More
            }
            _ => Step::More,
        }
    }
}

enum Step {
    More,
    Done(Mark),
    Malformed,
    /// The name of a tag that is not looked for ended before this byte.
    Unwanted,
}

/// The next `<` from `position` on, but for those of tags that are seen at a glance not to be wanted.
fn next_tag(bytes: &[u8], position: usize, wanted: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let mut from = position;
    loop {
        let place = from + memchr(b'<', &bytes[from..])?;
        let name = place + 1 + usize::from(bytes.get(place + 1) == Some(&b'/'));
        let (mut begin, mut end) = (name, name);
        while let Some(&byte) = bytes.get(end).filter(|&&byte| is_name_byte(byte)) {
            end += 1;
            if byte == b':' {
                begin = end;
            }
        }
        let named = bytes.get(name).is_some_and(|&first| is_name_start(first));
        // Whatever the steps would see differently is left to them.
        let plain =
            named && end - name < NAME_BYTES && matches!(bytes.get(end), Some(b'>' | b'/' | b' ' | b'\t' | b'\r' | b'\n'));
        if !plain || wanted(&bytes[begin..end]) {
            return Some(place);
        }
        from = end;
    }
}

fn finished(ended: bool) -> Step {
    if ended { Step::Done(Mark::Other) } else { Step::More }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b':' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks in order, one letter each with the tag's name: `+a` start, `0a` empty, `-a` end, `.` other, `!` malformed.
    fn marks(input: &str, piece: usize, wanted: fn(&[u8]) -> bool) -> String {
        let mut markup = Markup::new();
        let mut found = String::new();
        for chunk in input.as_bytes().chunks(piece) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let scanned = markup.scan(rest, wanted);
                rest = &rest[scanned.used..];
                let sign = match scanned.mark {
                    None => continue,
                    Some(Mark::Start { empty: false }) => "+",
                    Some(Mark::Start { empty: true }) => "0",
                    Some(Mark::End) => "-",
                    Some(Mark::Other) => ".",
                    Some(Mark::Malformed) => "!",
                };
                found += sign;
                if matches!(sign, "+" | "0" | "-") {
                    found += std::str::from_utf8(markup.local_name()).unwrap();
                }
            }
        }
        if !markup.in_text() {
            found.push('?');
        }
        found
    }

    fn check(input: &str, expected: &str) {
        for piece in 1..=input.len() {
            assert_eq!(marks(input, piece, |_| true), expected, "{input:?} in pieces of {piece}");
        }
    }

    #[test]
    fn only_the_names_that_are_looked_for() {
        let check = |input: &str, expected: &str| {
            for piece in 1..=input.len() {
                assert_eq!(marks(input, piece, |name| name == b"a"), expected, "{input:?} in pieces of {piece}");
            }
        };
        check("<b><a>x</a><m:a/><a:b t='1'></b></a:b ></b>", "+a-a0a");
        check("<ab><a></aa><!-- <a> --><![CDATA[<a>]]>", "+a..");
        check("<b <a><b t='<a t='>'/>", "+a0a");
        check(&format!("<{0}><{0}:a>", "b".repeat(NAME_BYTES)), "");
        check("x < y<a<", "!!?");
    }

    #[test]
    fn where_the_markup_begins() {
        let mut markup = Markup::new();
        let scan = |markup: &mut Markup, bytes: &[u8]| {
            let scanned = markup.scan(bytes, |name| name == b"a");
            (scanned.used, scanned.begin, scanned.mark)
        };
        assert_eq!(scan(&mut markup, b"xy<b>z<a t"), (10, Some(6), None));
        assert_eq!(scan(&mut markup, b">x<a>"), (1, None, Some(Mark::Start { empty: false })));
        assert_eq!(scan(&mut markup, b"x<b"), (3, Some(1), None));
        assert_eq!(scan(&mut markup, b"c>x</a>"), (7, Some(3), Some(Mark::End)));
    }

    #[test]
    fn tags() {
        check("<a>x</a>", "+a-a");
        check("<a/><b />", "0a0b");
        check("<m:a x='1'>y</m:a >", "+a-a");
        check("<a t=\"x>y/\">", "+a");
        check("<a t='/'/>", "0a");
        check("<é>", "+é");
    }

    #[test]
    fn what_is_stepped_over() {
        check("<!-- <a> -- > -->", ".");
        check("<!----><b>", ".+b");
        check("<!--->", "?");
        check("<![CDATA[<a>]]]><b>", ".+b");
        check("<?xml version='1.0' ?><b>", ".+b");
        check("<?>", "?");
        check("<?a?>", ".");
    }

    #[test]
    fn document_types_are_never_read() {
        check("<!DOCTYPE a><b>", ".+b");
        check("<!DOCTYPE a PUBLIC '>' \"<b>\"><b>", ".+b");
        check("<!DOCTYPE a [<!ENTITY b '<c>'> <!-- ' ]> --> <?p ' ]>?> ]><b>", ".+b");
        check("<!DOCTYPE a [<!ENTITY", "?");
    }

    #[test]
    fn malformed_markup_is_marked_and_left() {
        check("a < b <c>", "!+c");
        check("<a <b>", "!+b");
        check("<a t=\"<b>", "!+b");
        check("</><b>", "!+b");
        check("<!x><b>", "!+b");
        check("<<a>", "!+a");
    }
}
