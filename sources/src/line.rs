//! One paragraph while it is put together: runs of white space become one space, markers that the recipe drops go with the
//! brackets around them.

/// Stands where a marker was left out; XML allows it neither as a character nor as a reference.
const DROPPED: char = '\u{1}';

/// Text whose runs of white space are single spaces, with none at either end.
#[derive(Debug, Default)]
pub(crate) struct Line {
    text: String,
    space_waiting: bool,
    dropped: bool,
    /// Where digits that follow would be read as one number with those before.
    border: Option<usize>,
    /// Where a raised sign begins that ends the text, behind a digit.
    sign: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Space,
    /// First byte of a character that may be white space beyond ASCII.
    Maybe,
}

/// White space of Unicode begins with one of these bytes; `0x0b` and `0x0c` are ASCII, and no XML.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Plain; 256];
    let mut byte = 9;
    while byte <= 13 {
        classes[byte] = Class::Space;
        byte += 1;
    }
    classes[b' ' as usize] = Class::Space;
    classes[0xc2] = Class::Maybe;
    classes[0xe1] = Class::Maybe;
    classes[0xe2] = Class::Maybe;
    classes[0xe3] = Class::Maybe;
    classes
};

impl Line {
    /// Appends text.
    pub(crate) fn push(&mut self, text: &str) {
        if self.border == Some(self.text.len()) && starts_with_digit(text) && self.ends_with_digit() {
            self.space_waiting = true;
        }
        self.sign = None;
        let bytes = text.as_bytes();
        // What stands from here on is copied in one go, with the single spaces between its words.
        let (mut from, mut at) = (0, 0);
        while let Some(&byte) = bytes.get(at) {
            let width = match CLASSES[usize::from(byte)] {
                Class::Space if byte == b' ' && at > from && is_plain(bytes.get(at + 1)) => 0,
                Class::Space => 1,
                Class::Maybe => text[at..].chars().next().filter(|one| one.is_whitespace()).map_or(0, char::len_utf8),
                Class::Plain => 0,
            };
            if width == 0 {
                at += 1;
                continue;
            }
            self.word(&text[from..at]);
            self.space_waiting = true;
            at += width;
            from = at;
        }
        self.word(&text[from..]);
    }

    fn word(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.space_waiting && !self.text.is_empty() {
            self.text.push(' ');
        }
        self.space_waiting = false;
        self.text.push_str(text);
    }

    /// A space, unless there is one or the line is empty.
    pub(crate) fn space(&mut self) {
        self.space_waiting = true;
    }

    /// Notes that a marker is left out here.
    pub(crate) fn drop_marker(&mut self) {
        self.dropped = true;
        let mut mark = [0; 4];
        self.word(DROPPED.encode_utf8(&mut mark));
    }

    pub(crate) fn ends_with_digit(&self) -> bool {
        !self.space_waiting && self.text.ends_with(|last: char| last.is_ascii_digit())
    }

    /// Whether digits here would be taken for decimals: `5.` and then a raised `12`.
    pub(crate) fn ends_with_digit_and_stop(&self) -> bool {
        let number = self.text.strip_suffix(['.', ',']).unwrap_or_default();
        !self.space_waiting && number.ends_with(|last: char| last.is_ascii_digit())
    }

    /// Digits that follow right here are a number of their own.
    pub(crate) fn keep_digits_apart(&mut self) {
        self.border = Some(self.text.len());
    }

    /// A sign raised behind a digit: with what is raised next it may be a power.
    pub(crate) fn push_raised_sign(&mut self, sign: &str) {
        let begin = self.text.len();
        self.push(sign);
        self.sign = Some(begin);
    }

    /// Makes the raised sign that ends the text a part of a power; whether there is one.
    pub(crate) fn raise_power(&mut self) -> bool {
        let begin = self.sign.take().filter(|_| !self.space_waiting);
        if let Some(begin) = begin {
            self.text.insert(begin, '^');
        }
        begin.is_some()
    }

    /// A space behind a word or a full stop, unless there is one.
    pub(crate) fn part_from_name(&mut self) {
        self.space_waiting |= self.text.ends_with(|last: char| last.is_alphanumeric() || last == '.');
    }

    /// A space unless there is one, or an opening bracket.
    pub(crate) fn part_from_word(&mut self) {
        self.space_waiting |= !self.text.ends_with(['(', '[']);
    }

    /// The text; the line is empty then.
    pub(crate) fn take(&mut self) -> String {
        let line = std::mem::take(self);
        if line.dropped { without_markers(&line.text) } else { line.text }
    }
}

pub(crate) fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

fn is_plain(byte: Option<&u8>) -> bool {
    byte.is_some_and(|&byte| CLASSES[usize::from(byte)] == Class::Plain)
}

/// Takes the places of markers out: each with what separates it from the next one, with brackets that hold nothing else,
/// and with the space before.
fn without_markers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.find(['(', '[', DROPPED]) {
        let (before, here) = rest.split_at(next);
        out.push_str(before);
        let length = markers(here);
        if length == 0 {
            // A bracket of another kind.
            out.push_str(&here[..1]);
            rest = &here[1..];
            continue;
        }
        rest = &here[length..];
        let glued = rest.chars().next().is_some_and(|one| one.is_alphanumeric() || matches!(one, '(' | '['));
        if !glued {
            out.truncate(out.trim_end_matches(' ').len());
        }
        if out.is_empty() || out.ends_with(' ') {
            rest = rest.trim_start_matches(' ');
        }
        // `(Roe and Doe, ⌂; Doe, ⌂)` keeps the names alone.
        if rest.trim_start().starts_with([')', ']', ';']) {
            out.truncate(out.trim_end_matches([' ', ',', ';']).len());
            rest = rest.trim_start();
        }
    }
    out.push_str(rest);
    out
}

/// Length of the markers at the beginning of a text, or 0.
fn markers(text: &str) -> usize {
    let close = match text.as_bytes().first() {
        Some(b'(') => ')',
        Some(b'[') => ']',
        _ => return run(text),
    };
    let inside = &text[1..];
    // No further than such a list goes, so that many brackets are not many searches through the paragraph.
    let foreign = |one: char| one != DROPPED && !one.is_whitespace() && !"and&,;-–—‐‑".contains(one);
    let held = &inside[..inside.find(foreign).unwrap_or(inside.len())];
    let closed = inside[held.len()..].starts_with(close);
    let nothing_else = held.contains(DROPPED) && held.split(DROPPED).all(is_separator);
    if closed && nothing_else { 1 + held.len() + 1 } else { 0 }
}

/// A marker and those behind it that only a sign of punctuation parts from it.
fn run(text: &str) -> usize {
    let mut length = DROPPED.len_utf8();
    while let Some(next) = text[length..].find(DROPPED) {
        let between = &text[length..length + next];
        if between.chars().any(char::is_alphabetic) || !is_separator(between) {
            break;
        }
        length += next + DROPPED.len_utf8();
    }
    length
}

/// What stands between two markers.
fn is_separator(text: &str) -> bool {
    text.split_whitespace()
        .all(|word| matches!(word, "and" | "&") || word.chars().all(|one| matches!(one, ',' | ';' | '-' | '–' | '—' | '‐' | '‑')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], expected: &str) {
        let mut line = Line::default();
        for piece in pieces {
            match *piece {
                "*" => line.drop_marker(),
                text => line.push(text),
            }
        }
        assert_eq!(line.take(), expected, "{pieces:?}");
        assert_eq!(line.take(), "");
    }

    #[test]
    fn white_space_becomes_single_spaces() {
        check(&[" a  b\t\nc ", " d"], "a b c d");
        check(&["a", "b ", "", " ", "c"], "ab c");
        check(&["x\u{a0}y\u{2009}\u{3000}z\u{1680}", "é’ “α”"], "x y z é’ “α”");
        check(&[" ", "\u{a0}"], "");
        check(&["a b", " ", "c d e"], "a b c d e");
    }

    #[test]
    fn markers_go_with_what_holds_nothing_else() {
        check(&["seen [", "*", ",", "*", "–", "*", "]."], "seen.");
        check(&["seen ", "*", ", ", "*", " and more"], "seen and more");
        check(&["seen", "*", ",", "*", ". Next"], "seen. Next");
        check(&["as (", "*", "; ", "*", " and ", "*", ") say"], "as say");
        check(&["as (see ", "*", ") say (x)"], "as (see) say (x)");
        check(&["*", " says (a [b"], "says (a [b");
        check(&["in ", "*", " and ", "*", "."], "in and.");
        check(&["so (Roe and Doe, ", "*", "; Doe et al., ", "*", ") say"], "so (Roe and Doe; Doe et al.) say");
        check(&["(", "*", ")"], "");
        check(&["a", "*", "b"], "ab");
    }
}
