//! What stands inside a line: markers of citations, formulas, raised and lowered text, so that numbers stay the numbers they were.

use super::Prose;
use crate::line::{Line, starts_with_digit};
use crate::mathml;
use crate::names::Name;
use crate::options::Markers;
use crate::xml::Element;

impl Prose<'_> {
    /// A citation or cross-reference in the text.
    pub(super) fn marker(&mut self, element: Element<'_>) {
        let options = self.options;
        if options.citations == Markers::Drop || options.cross_references == Markers::Drop {
            let cites = element.attribute("ref-type").as_deref() == Some("bibr");
            if if cites { options.citations } else { options.cross_references } == Markers::Drop {
                self.line.drop_marker();
                return;
            }
        }
        if element.child(Name::Sup).is_some() {
            self.line.part_from_word();
        }
        // `12` and the number of a reference are two numbers.
        self.line.keep_digits_apart();
        self.children(element);
        self.line.keep_digits_apart();
    }

    /// A formula that is nothing but a power or an index belongs to the digits before it.
    pub(super) fn math(&mut self, element: Element<'_>) {
        let text = mathml::render(element);
        if self.line.ends_with_digit() {
            if let Some(sign) = mathml::lone_script(element) {
                self.line.push(sign);
            }
            self.line.keep_digits_apart();
        }
        self.line.push(&text);
        self.line.keep_digits_apart();
    }

    /// `10<sup>6</sup>` is written 10^6, lest it read as 106. Citation markers are set off from the word before them.
    pub(super) fn superscript(&mut self, element: Element<'_>) {
        let text = Self::line(element, self.options);
        let cites = holds_marker(element);
        if cites && text.is_empty() {
            return;
        }
        self.set_off(element, |line| {
            let is_number = starts_with_digit(&text);
            if cites || (is_number && line.ends_with_digit_and_stop()) {
                line.part_from_word();
            } else if line.ends_with_digit() && is_power(&text) {
                line.push("^");
            } else if line.ends_with_digit() && text.chars().all(is_sign) {
                line.push_raised_sign(&text);
                return;
            } else if is_number {
                line.raise_power();
            }
            line.push(&text);
            line.keep_digits_apart();
        });
    }

    /// `F1<sub>100–23</sub>` is written `F1_100–23`. A single digit behind another is left: `P2<sub>1</sub>` is known as P21.
    pub(super) fn subscript(&mut self, element: Element<'_>) {
        if !self.line.ends_with_digit() {
            self.children(element);
            let (_, last) = element.outer_texts();
            if last.len() > 1 {
                self.line.keep_digits_apart();
            }
            return;
        }
        let text = Self::line(element, self.options);
        self.set_off(element, |line| {
            if line.ends_with_digit() && text.len() > 1 && text.starts_with(|first: char| first.is_ascii_digit()) {
                line.push("_");
            }
            line.push(&text);
            if text.len() > 1 {
                line.keep_digits_apart();
            }
        });
    }

    /// With the white space at both ends of the element.
    fn set_off(&mut self, element: Element<'_>, push: impl FnOnce(&mut Line)) {
        let (first, last) = element.outer_texts();
        if first.starts_with(char::is_whitespace) {
            self.line.space();
        }
        push(&mut self.line);
        if last.ends_with(char::is_whitespace) {
            self.line.space();
        }
    }
}

/// Whether an element holds a marker, be it in italics.
fn holds_marker(mut element: Element<'_>) -> bool {
    loop {
        if element.child(Name::Xref).is_some() {
            return true;
        }
        match element.elements().next() {
            Some(first) => element = first,
            None => return false,
        }
    }
}

/// Whether a superscript behind a digit is a number or a charge, or a letter that mathematics writes there: what would be
/// read as one number with the digit. `4th`, `1a`, `3+` and `1+/-` are not.
fn is_power(text: &str) -> bool {
    let unsigned = text.trim_start_matches(is_sign);
    if unsigned.len() < text.len() {
        return unsigned.contains(char::is_alphanumeric);
    }
    starts_with_digit(text.strip_prefix('.').unwrap_or(text)) || matches!(text, "n" | "N" | "m" | "k" | "x")
}

fn is_sign(one: char) -> bool {
    matches!(one, '+' | '-' | '−' | '–' | '‐' | '‑')
}
