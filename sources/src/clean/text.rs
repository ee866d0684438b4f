//! The changes: mojibake, line ends, control characters, NFC, spaces, marks of de-identification, boilerplate, repeated
//! paragraphs, blank lines, in this order.
//!
//! The order makes them idempotent: what changes characters runs until nothing more changes, and before everything that looks
//! for shapes; what removes lines comes after everything that makes lines equal. Each step is linear in the text.

use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::changes::{Change, Changes};
use super::rules::{Cleaning, Deidentification, Spaces};
use super::{boilerplate, mojibake, paragraphs};

/// Longest `[** … **]` in bytes between its borders; longer ones are two stray borders.
const MARK_BYTES: usize = 300;
/// Rounds of repair and normalization. A repair at least halves a run, and a record of 64 MiB can be halved 26 times.
const CHARACTER_ROUNDS: usize = 32;
/// Rounds of marks and lines.
const LINE_ROUNDS: usize = 8;
const OPEN: &str = "[**";
const CLOSE: &str = "**]";

/// Applies every change of the table to one text.
pub(super) fn rewrite(text: &mut String, cleaning: &Cleaning, changes: &mut Changes) {
    rewrite_characters(text, cleaning, changes);
    rewrite_lines(text, cleaning, changes, remove_lines);
}

/// Applies the changes that concern a title too: those of characters, spaces, marks and blank lines.
pub(super) fn rewrite_title(title: &mut String, cleaning: &Cleaning, changes: &mut Changes) {
    rewrite_characters(title, cleaning, changes);
    rewrite_lines(title, cleaning, changes, remove_blank_lines);
}

fn rewrite_characters(text: &mut String, cleaning: &Cleaning, changes: &mut Changes) {
    changes.note(Change::Mojibake, cleaning.fix_mojibake && mojibake::repair(text));
    normalize(text, cleaning, changes);
    // What normalization removed may have stood between two halves of one damaged character.
    for _ in 0..CHARACTER_ROUNDS {
        if !(cleaning.fix_mojibake && mojibake::repair(text)) {
            break;
        }
        changes.note(Change::Mojibake, true);
        normalize(text, cleaning, changes);
    }
}

/// Marks and lines in turn: a line that goes may have stood inside a mark that was too long to be one. A text that does not
/// settle keeps its lines, the second time as the first.
fn rewrite_lines(
    text: &mut String,
    cleaning: &Cleaning,
    changes: &mut Changes,
    remove: fn(&mut String, &Cleaning, &mut Changes) -> bool,
) {
    if cleaning.deidentification == Deidentification::Keep {
        remove(text, cleaning, changes);
        return;
    }
    changes.note(Change::Deidentification, rewrite_marks(text, cleaning.deidentification));
    let before = (text.clone(), *changes);
    for _ in 0..LINE_ROUNDS {
        if !remove(text, cleaning, changes) {
            return;
        }
        if !rewrite_marks(text, cleaning.deidentification) {
            return;
        }
        changes.note(Change::Deidentification, true);
    }
    (*text, *changes) = before;
}

/// Boilerplate, repeated paragraphs, blank lines; whether any went.
fn remove_lines(text: &mut String, cleaning: &Cleaning, changes: &mut Changes) -> bool {
    let lines = if cleaning.drop_boilerplate { boilerplate::remove(text) } else { 0 };
    changes.boilerplate_lines += lines;
    changes.note(Change::Boilerplate, lines > 0);
    let least = cleaning.min_repeated_paragraph_characters;
    let copies = if cleaning.drop_repeated_paragraphs { paragraphs::remove_repeated(text, least) } else { 0 };
    changes.repeated_paragraphs += copies;
    changes.note(Change::RepeatedParagraphs, copies > 0);
    let blank = remove_blank_lines(text, cleaning, changes);
    lines + copies > 0 || blank
}

fn remove_blank_lines(text: &mut String, cleaning: &Cleaning, changes: &mut Changes) -> bool {
    let removed = cleaning.collapse_blank_lines && collapse_blank_lines(text);
    changes.note(Change::BlankLines, removed);
    removed
}

/// Marks of de-identification; whether any was spelled anew.
fn rewrite_marks(text: &mut String, deidentification: Deidentification) -> bool {
    let before = text.clone();
    match deidentification {
        Deidentification::Keep => {}
        Deidentification::Normalize => replace_marks(text, |_| "___"),
        Deidentification::Placeholder => {
            replace_marks(text, placeholder);
            replace_underscores(text);
        }
    }
    *text != before
}

/// Line ends, control characters, NFC and spaces.
fn normalize(text: &mut String, cleaning: &Cleaning, changes: &mut Changes) {
    if cleaning.normalize_newlines && text.contains(is_line_end) {
        *text = normalize_newlines(text);
        changes.note(Change::LineEnds, true);
    }
    if cleaning.strip_control && text.contains(is_stripped) {
        *text = strip(text);
        changes.note(Change::ControlCharacters, true);
    }
    changes.note(Change::NormalForm, compose(text));
    changes.note(Change::Spaces, normalize_spaces(text, cleaning.normalize_spaces));
}

/// Unicode normal form C; whether that changed the text.
pub(super) fn compose(text: &mut String) -> bool {
    if text.is_ascii() || is_nfc(text) {
        return false;
    }
    *text = text.nfc().collect();
    true
}

/// White space at the ends of lines, and inside them; whether there was any to change.
fn normalize_spaces(text: &mut String, spaces: Spaces) -> bool {
    let is_space = |c: char| c.is_whitespace() && c != '\n' && !is_line_end(c);
    let mut output = String::new();
    match spaces {
        Spaces::Off => return false,
        Spaces::Ends => {
            if !text.contains(|c: char| is_space(c)) {
                return false;
            }
            output.reserve(text.len());
            for line in text.split_inclusive('\n') {
                let content = line.strip_suffix('\n');
                output.push_str(content.unwrap_or(line).trim_end_matches(is_space));
                output.push_str(if content.is_some() { "\n" } else { "" });
            }
        }
        Spaces::All => {
            output.reserve(text.len());
            let mut waiting = false;
            for c in text.chars() {
                if is_space(c) {
                    waiting = true;
                    continue;
                }
                if waiting && c != '\n' && !output.is_empty() && !output.ends_with('\n') {
                    output.push(' ');
                }
                waiting = false;
                output.push(c);
            }
        }
    }
    let changed = output != *text;
    if changed {
        *text = output;
    }
    changed
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn normalize_newlines(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut after_return = false;
    for c in text.chars() {
        match c {
            '\n' if after_return => {}
            c if is_line_end(c) => output.push('\n'),
            c => output.push(c),
        }
        after_return = c == '\r';
    }
    output
}

/// Two numbers stay two: the soft hyphen between them stands for the hyphen that it looks like, a space without width for a space.
fn strip(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut between = None;
    for c in text.chars() {
        if is_stripped(c) {
            between = match c {
                '\u{ad}' => Some('-'),
                '\u{200b}' => between.or(Some(' ')),
                _ => between,
            };
            continue;
        }
        if let Some(sign) = between.take().filter(|_| c.is_ascii_digit() && output.ends_with(|last: char| last.is_ascii_digit()))
        {
            output.push(sign);
        }
        output.push(c);
    }
    output
}

fn is_stripped(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        // Joiners (U+200C, U+200D) stay: some scripts are spelled with them.
        '\u{ad}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2060}'
        | '\u{feff}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

/// Replaces every closed `[** … **]`, the outermost of nested ones, by what `name` makes of its inside.
///
/// One buffer and one stack of places in it: a border that closes cuts the buffer back to the border that opened. Lengths are
/// those after inner marks were replaced, so that a second pass decides the same.
fn replace_marks(text: &mut String, name: impl Fn(&str) -> &'static str) {
    if !text.contains(OPEN) {
        return;
    }
    let mut output = String::with_capacity(text.len());
    let mut open: Vec<usize> = Vec::new();
    let mut rest = text.as_str();
    while let Some(star) = rest.find("**") {
        let opens = star > 0 && rest.as_bytes()[star - 1] == b'[';
        let closes = !opens && rest.as_bytes().get(star + 2) == Some(&b']');
        if opens {
            output.push_str(&rest[..star - 1]);
            open.push(output.len());
            output.push_str(OPEN);
            rest = &rest[star + 2..];
        } else if closes {
            output.push_str(&rest[..star]);
            rest = &rest[star + 3..];
            match open.pop() {
                Some(start) if output.len() - start <= MARK_BYTES + OPEN.len() => {
                    let mark = name(&output[start + OPEN.len()..]);
                    output.truncate(start);
                    output.push_str(mark);
                }
                _ => output.push_str(CLOSE),
            }
        } else {
            output.push_str(&rest[..=star]);
            rest = &rest[star + 1..];
        }
    }
    output.push_str(rest);
    *text = output;
}

/// Words inside a mark and what they say, looked for in this order.
const MARK_KINDS: [(&str, &[&str]); 9] = [
    ("[AGE]", &["age over", "age "]),
    ("[HOSPITAL]", &["hospital", "ward", "clinic"]),
    ("[PHONE]", &["telephone", "phone", "fax", "pager"]),
    ("[LOCATION]", &["location", "address", "street", "state", "country", "zip", "city", "university", "college"]),
    ("[NAME]", &["name", "initial", "dictator", "attending", "doctor"]),
    ("[ORGANIZATION]", &["company", "organization"]),
    ("[DATE]", &["date", "month", "year", "day", "holiday"]),
    ("[NUMBER]", &["number", "numeric", "identifier", "record", "serial", "ssn", "job", "unit", "md number", "cc contact"]),
    ("[URL]", &["url", "e-mail", "email"]),
];

fn placeholder(inside: &str) -> &'static str {
    let inside = inside.trim().to_ascii_lowercase();
    let dated = inside.bytes().any(|b| b.is_ascii_digit())
        && inside.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'/' | b' '));
    if dated {
        return "[DATE]";
    }
    let says = |words: &&(&str, &[&str])| words.1.iter().any(|word| inside.contains(word));
    MARK_KINDS.iter().find(says).map_or("[DEIDENTIFIED]", |kind| kind.0)
}

/// `___` standing alone becomes a placeholder; longer rules and blanks of forms stay.
fn replace_underscores(text: &mut String) {
    if !text.contains("___") {
        return;
    }
    let mut output = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find("___") {
        let length = rest[start..].bytes().take_while(|b| *b == b'_').count();
        output.push_str(&rest[..start]);
        output.push_str(if length == 3 { "[DEIDENTIFIED]" } else { &rest[start..start + length] });
        rest = &rest[start + length..];
    }
    output.push_str(rest);
    *text = output;
}

fn collapse_blank_lines(text: &mut String) -> bool {
    let mut output = String::with_capacity(text.len());
    let mut blank_before = true;
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        match (blank, blank_before) {
            (false, _) => output.push_str(line),
            (true, false) => output.push('\n'),
            (true, true) => {}
        }
        blank_before = blank;
    }
    // Line ends alone: a no-break space behind damaged characters is one of them (`voilÃ\u{a0}`).
    output.truncate(output.trim_end_matches('\n').len());
    let changed = output != *text;
    if changed {
        *text = output;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, cleaning: &Cleaning, expected: &str) {
        let mut cleaned = text.to_owned();
        let mut changes = Changes::default();
        rewrite(&mut cleaned, cleaning, &mut changes);
        assert_eq!(cleaned, expected, "{text:?}");
        assert_eq!(changes.iter().count() > 0, cleaned != text, "{text:?}: {changes:?}");
        let once = cleaned.clone();
        rewrite(&mut cleaned, cleaning, &mut Changes::default());
        assert_eq!(cleaned, once, "{text:?} twice");
    }

    #[test]
    fn line_ends_become_newlines() {
        let plain = Cleaning { collapse_blank_lines: false, ..Cleaning::default() };
        check("a\r\nb\rc\u{c}d\u{2028}e\n\r\nf", &plain, "a\nb\nc\nd\ne\n\nf");
        check("a\r\r\nb", &plain, "a\n\nb");
    }

    #[test]
    fn control_and_direction_characters_go() {
        let plain = Cleaning::default();
        check("\u{feff}a\0b\u{200b}c\u{202e}d\te\u{ad}f\u{7f}", &plain, "abcd\tef");
        check("نمی\u{200c}خواهم", &plain, "نمی\u{200c}خواهم");
        check("5\u{ad}10 mg, 1\u{200b}2, 3\u{2060}4, 5\u{200b}\u{ad}6, 7\u{ad}x\u{ad}8", &plain, "5-10 mg, 1 2, 34, 5-6, 7x8");
        let kept = Cleaning { strip_control: false, ..Cleaning::default() };
        check("a\0b\u{200b}c", &kept, "a\0b\u{200b}c");
    }

    #[test]
    fn composition_comes_after_removal() {
        check("cafe\u{200b}\u{301}", &Cleaning::default(), "caf\u{e9}");
        check("A\u{30a} \u{212b} \u{1e9b}\u{323}", &Cleaning::default(), "\u{c5} \u{c5} \u{1e9b}\u{323}");
    }

    #[test]
    fn blank_lines_collapse() {
        check("\n \na\n\n \n\nb  \nc\n\n", &Cleaning::default(), "a\n\nb\nc");
        check(" \n\t", &Cleaning::default(), "");
        check("  indented", &Cleaning::default(), "  indented");
    }

    #[test]
    fn spaces_are_normalized_as_told() {
        let with = |normalize_spaces| Cleaning { normalize_spaces, ..Cleaning::default() };
        let table = "  Na\t138   mmol/L \u{a0}\n  K   4.1\u{2003} mmol/L\t\nend";
        check(table, &with(Spaces::Off), table);
        check(table, &with(Spaces::Ends), "  Na\t138   mmol/L\n  K   4.1\u{2003} mmol/L\nend");
        check(table, &with(Spaces::All), "Na 138 mmol/L\nK 4.1 mmol/L\nend");
        let raw = Cleaning { normalize_newlines: false, collapse_blank_lines: false, ..with(Spaces::Ends) };
        check("a \r\nb \n", &raw, "a \r\nb\n");
    }

    #[test]
    fn halves_of_a_damaged_character_are_joined_first() {
        check("caf\u{c3}\u{200b}\u{a9}", &Cleaning::default(), "café");
        check("d\u{c3}\u{ad}a \u{c2}\u{85}", &Cleaning::default(), "día \u{c2}");
    }

    #[test]
    fn marks_are_kept_unless_told_otherwise() {
        let text = "Dr. [**Last Name (STitle) 12**] ___";
        check(text, &Cleaning::default(), text);
    }

    #[test]
    fn marks_are_normalized() {
        let normal = Cleaning { deidentification: Deidentification::Normalize, ..Cleaning::default() };
        check("Dr. [**Last Name (STitle) 12**] on [**2151-7-16**].", &normal, "Dr. ___ on ___.");
        check("[** a\nb **][****] ___ _____", &normal, "______ ___ _____");
        check("[** [** x **] **] y **] [** z", &normal, "___ y **] [** z");
        check("[***] [**] **", &normal, "[***] [**] **");
        let long = format!("[**{}[**x**]**] **]", "a".repeat(299));
        check(&long, &normal, &format!("[**{}___**] **]", "a".repeat(299)));
    }

    #[test]
    fn marks_become_placeholders() {
        let named = Cleaning { deidentification: Deidentification::Placeholder, ..Cleaning::default() };
        check("[**Known lastname 5**] [**2151-7-16**] [**7-16**]", &named, "[NAME] [DATE] [DATE]");
        check("[**Hospital1 18**] [**Telephone/Fax (1) 55**]", &named, "[HOSPITAL] [PHONE]");
        check("[**Age over 90 **] [**Street Address(2)**] [** **]", &named, "[AGE] [LOCATION] [DEIDENTIFIED]");
        check("___ said ____ and ___", &named, "[DEIDENTIFIED] said ____ and [DEIDENTIFIED]");
    }

    #[test]
    fn hostile_nesting_is_linear() {
        let normal = Cleaning { deidentification: Deidentification::Normalize, ..Cleaning::default() };
        check(&"[**".repeat(200_000), &normal, &"[**".repeat(200_000));
        check(&format!("{}{}", "[**".repeat(90), "**]".repeat(90)), &normal, "___");
    }
}
