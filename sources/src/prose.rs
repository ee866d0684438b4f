//! Turns the mixed content of PubMed and JATS elements into paragraphs of plain text.
//!
//! Runs of white space become one space. Kept: headings, lists, boxes, quotes, captions, citation markers as they
//! stand. Left out: tables (their captions stay), images, TeX, footnotes, references, alternative texts. It knows
//! nothing of front matter or records.

use crate::mathml;
use crate::xml::{Element, Node};

/// Elements that are left out with everything in them.
const LEFT_OUT: [&str; 43] = [
    "ack",
    "aff",
    "alt-text",
    "annotation",
    "attrib",
    "author-notes",
    "award-group",
    "citation",
    "colgroup",
    "contrib-group",
    "copyright-statement",
    "element-citation",
    "fn",
    "fn-group",
    "graphic",
    "index-term",
    "inline-graphic",
    "inline-media",
    "inline-supplementary-material",
    "kwd-group",
    "license",
    "long-desc",
    "media",
    "mixed-citation",
    "nlm-citation",
    "object-id",
    "permissions",
    "private-char",
    "processing-meta",
    "ref-list",
    "related-article",
    "related-object",
    "response",
    "sec-meta",
    "sig-block",
    "sub-article",
    "subj-group",
    "supplementary-material",
    "table",
    "table-wrap-foot",
    "tex-math",
    "tfoot",
    "trans-abstract",
];
/// Elements that stand in paragraphs of their own.
const BLOCKS: [&str; 17] = [
    "p",
    "title",
    "subtitle",
    "disp-quote",
    "statement",
    "verse-group",
    "verse-line",
    "speech",
    "question",
    "answer",
    "explanation",
    "abstract",
    "body",
    "app",
    "caption",
    "def",
    "floats-group",
];

/// Collects paragraphs.
#[derive(Debug, Default)]
pub(crate) struct Prose {
    paragraphs: Vec<String>,
    line: Line,
}

impl Prose {
    /// The paragraphs of an element's content.
    pub(crate) fn of(element: Element<'_>) -> Self {
        let mut prose = Self::default();
        prose.children(element);
        prose.flush();
        prose
    }

    /// The content on one line.
    pub(crate) fn line_of(element: Element<'_>) -> String {
        Self::of(element).paragraphs.join(" ").replace('\n', " ")
    }

    /// The paragraphs.
    pub(crate) fn into_paragraphs(self) -> Vec<String> {
        self.paragraphs
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.line).text;
        self.push(text);
    }

    fn push(&mut self, paragraph: String) {
        if !paragraph.is_empty() {
            self.paragraphs.push(paragraph);
        }
    }

    fn children(&mut self, element: Element<'_>) {
        for node in element.children() {
            match node {
                Node::Text(text) => self.line.push(text),
                Node::Element(child) => self.element(child),
            }
        }
    }

    fn element(&mut self, element: Element<'_>) {
        match element.name() {
            "sec" => self.section(element),
            "list" => self.list(element),
            "def-list" => self.definitions(element),
            "fig" | "table-wrap" | "chem-struct-wrap" => self.captioned(element),
            "boxed-text" => self.boxed(element),
            "code" | "preformat" => self.verbatim(element),
            "math" => {
                self.line.push(&mathml::render(element));
            }
            "alternatives" => self.alternatives(element),
            "sup" => self.superscript(element),
            "xref" if element.child("sup").is_some() => {
                self.line.part_from_word();
                self.children(element);
            }
            "break" | "br" => self.line.push(" "),
            "label" => {
                self.children(element);
                self.line.push(" ");
            }
            "disp-formula" | "DispFormula" | "disp-formula-group" => {
                self.line.push(" ");
                self.children(element);
                self.line.push(" ");
            }
            name if LEFT_OUT.contains(&name) => {}
            name if BLOCKS.contains(&name) => {
                self.flush();
                self.children(element);
                self.flush();
            }
            _ => self.children(element),
        }
    }

    /// A heading, then what it heads; a section without content loses its heading too.
    fn section(&mut self, element: Element<'_>) {
        self.flush();
        let before = self.paragraphs.len();
        let heading = heading(element);
        let headed = !heading.is_empty();
        self.push(heading);
        for child in element.elements().filter(|child| !matches!(child.name(), "label" | "title")) {
            self.element(child);
        }
        self.flush();
        if headed && self.paragraphs.len() == before + 1 {
            self.paragraphs.truncate(before);
        }
    }

    /// One paragraph with a line for each item.
    fn list(&mut self, element: Element<'_>) {
        self.flush();
        if let Some(title) = element.child("title") {
            self.push(Self::line_of(title));
        }
        let ordered = element.attribute("list-type").as_deref() == Some("order");
        let mut lines = Vec::new();
        for (index, item) in element.named("list-item").enumerate() {
            let mut inner = Self::default();
            for child in item.elements().filter(|child| child.name() != "label") {
                inner.element(child);
            }
            inner.flush();
            if inner.paragraphs.is_empty() {
                continue;
            }
            let label = item.child("label").map(Self::line_of).filter(|label| !label.is_empty());
            let mark = match label {
                Some(label) => label,
                None if ordered => format!("{}.", index + 1),
                None => "-".to_string(),
            };
            lines.push(format!("{mark} {}", inner.paragraphs.join("\n").replace('\n', "\n  ")));
        }
        self.push(lines.join("\n"));
    }

    /// One paragraph with a line `term: definition` for each item.
    fn definitions(&mut self, element: Element<'_>) {
        self.flush();
        if let Some(title) = element.child("title") {
            self.push(Self::line_of(title));
        }
        let mut lines = Vec::new();
        for item in element.named("def-item") {
            let terms: Vec<_> = item.named("term").map(Self::line_of).collect();
            let definitions: Vec<_> = item.named("def").map(Self::line_of).collect();
            let (term, definition) = (terms.join(", "), definitions.join(" "));
            match (term.is_empty(), definition.is_empty()) {
                (false, false) => lines.push(format!("{term}: {definition}")),
                (true, true) => {}
                _ => lines.push(term + &definition),
            }
        }
        self.push(lines.join("\n"));
    }

    /// A figure or table: label and caption, nothing else.
    fn captioned(&mut self, element: Element<'_>) {
        self.flush();
        let captions: Vec<_> = element.named("caption").map(Self::line_of).collect();
        let caption = captions.join(" ");
        if !caption.is_empty() {
            let label = element.child("label").map(Self::line_of).unwrap_or_default();
            self.push(labelled(&label, &caption, ". "));
        }
    }

    fn boxed(&mut self, element: Element<'_>) {
        self.flush();
        let label = element.child("label").map(Self::line_of).unwrap_or_default();
        let caption = element.child("caption").map(Self::line_of).unwrap_or_default();
        self.push(labelled(&label, &caption, ". "));
        for child in element.elements().filter(|child| !matches!(child.name(), "label" | "caption")) {
            self.element(child);
        }
        self.flush();
    }

    /// Several lines keep their shape; a single one runs on in the text.
    fn verbatim(&mut self, element: Element<'_>) {
        let text = element.raw_text().replace("\r\n", "\n");
        let text = text.trim_matches('\n').trim_end();
        if text.contains('\n') {
            self.flush();
            self.push(text.to_string());
        } else {
            self.children(element);
        }
    }

    /// The same thing in several forms: `MathML` if there is one, else whatever is text.
    fn alternatives(&mut self, element: Element<'_>) {
        match element.child("math") {
            Some(math) => self.element(math),
            None => self.children(element),
        }
    }

    /// `10<sup>6</sup>` is written 10^6, lest it read as 106. Citation markers are set off from the word before them.
    fn superscript(&mut self, element: Element<'_>) {
        let text = Self::line_of(element);
        let raw = element.raw_text();
        if raw.starts_with(char::is_whitespace) {
            self.line.push(" ");
        }
        let cites = element.elements().any(|child| child.name() == "xref");
        if cites {
            self.line.part_from_word();
        } else if self.line.ends_with_digit() && is_integer(&text) {
            self.line.push("^");
        }
        self.line.push(&text);
        if raw.ends_with(char::is_whitespace) {
            self.line.push(" ");
        }
    }
}

/// Label and title of a section on one line.
fn heading(element: Element<'_>) -> String {
    let label = element.child("label").map(Prose::line_of).unwrap_or_default();
    let title = element.child("title").map(Prose::line_of).unwrap_or_default();
    labelled(&label, &title, " ")
}

/// Label and text; `between` unless the label brings its own stop.
fn labelled(label: &str, text: &str, between: &str) -> String {
    match (label.is_empty(), text.is_empty()) {
        (true, _) => text.to_string(),
        (_, true) => label.to_string(),
        _ if label.ends_with(char::is_alphanumeric) => format!("{label}{between}{text}"),
        _ => format!("{label} {text}"),
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-', '−', '–', '‐', '‑']).trim_start();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Text whose runs of white space are single spaces, with none at either end.
#[derive(Debug, Default)]
struct Line {
    text: String,
    space_waiting: bool,
}

impl Line {
    fn push(&mut self, text: &str) {
        for word in text.split_inclusive(char::is_whitespace) {
            let trimmed = word.trim_end_matches(char::is_whitespace);
            if !trimmed.is_empty() {
                if self.space_waiting && !self.text.is_empty() {
                    self.text.push(' ');
                }
                self.space_waiting = false;
                self.text.push_str(trimmed);
            }
            self.space_waiting |= trimmed.len() < word.len();
        }
    }

    fn ends_with_digit(&self) -> bool {
        !self.space_waiting && self.text.ends_with(|last: char| last.is_ascii_digit())
    }

    /// A space unless there is one, or an opening bracket.
    fn part_from_word(&mut self) {
        self.space_waiting |= !self.text.ends_with(['(', '[']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Limits;
    use crate::xml::Tree;

    fn check(body: &str, expected: &[&str]) {
        let xml = format!("<body>{body}</body>");
        let tree = Tree::parse(&xml, &Limits::default()).unwrap();
        assert_eq!(Prose::of(tree.root()).into_paragraphs(), expected, "{body}");
    }

    #[test]
    fn white_space() {
        check("<p>a \n\t b</p>\n <p> c\u{a0}\u{2009}d </p><p> </p>", &["a b", "c d"]);
        check("<p>a<bold> b</bold> <italic>c </italic>d</p>", &["a b c d"]);
        check("<p>a<break/>b</p>", &["a b"]);
    }

    #[test]
    fn paragraphs_around_blocks() {
        check("<p>a <list><list-item><p>x</p></list-item></list> b</p>", &["a", "- x", "b"]);
        check(
            "<p>a <fig><label>Figure 1</label><caption><title>T.</title><p>c</p></caption><graphic/></fig>b</p>",
            &["a", "Figure 1. T. c", "b"],
        );
        check("<disp-quote><p>q</p></disp-quote>x", &["q", "x"]);
    }

    #[test]
    fn sections() {
        check("<sec><title>A</title><p>x</p></sec><sec><title>Gone</title><supplementary-material/></sec>", &["A", "x"]);
        check("<sec><label>2.</label><title>A</title><p>x</p></sec>", &["2. A", "x"]);
        check("<sec><title>A</title><sec><title>B</title></sec></sec>", &[]);
    }

    #[test]
    fn lists_and_definitions() {
        check(
            "<list list-type='order'><list-item><p>x</p></list-item><list-item><p>y</p><p>z</p></list-item></list>",
            &["1. x\n2. y\n  z"],
        );
        check("<list><title>L</title><list-item><label>•</label><p>x</p></list-item><list-item/></list>", &["L", "• x"]);
        check("<list><list-item><p>x</p><list><list-item><p>y</p></list-item></list></list-item></list>", &["- x\n  - y"]);
        check(
            "<def-list><def-item><term>t</term><def><p>d</p></def></def-item><def-item><term>u</term></def-item></def-list>",
            &["t: d\nu"],
        );
    }

    #[test]
    fn tables_leave_their_captions() {
        check(
            "<table-wrap><label>Table 1.</label><caption><p>c</p></caption><table><tr><td>9</td></tr></table>\
            <table-wrap-foot><fn><p>f</p></fn></table-wrap-foot></table-wrap>",
            &["Table 1. c"],
        );
        check("<table-wrap><label>Table 2</label><table/></table-wrap>", &[]);
        check("<boxed-text><label>Box 1</label><caption><title>B</title></caption><p>x</p></boxed-text>", &["Box 1. B", "x"]);
    }

    #[test]
    fn formulas() {
        check(
            "<p>a <inline-formula><alternatives><tex-math>\\frac</tex-math><mml:math><mml:mi>x</mml:mi></mml:math>\
            <inline-graphic/></alternatives></inline-formula> b</p>",
            &["a x b"],
        );
        check("<p>a<disp-formula><label>(1)</label><tex-math>\\frac</tex-math></disp-formula>b</p>", &["a (1) b"]);
        check(
            "<p>a <inline-formula><alternatives><tex-math>\\frac</tex-math><textual-form>1/2</textual-form></alternatives></inline-formula></p>",
            &["a 1/2"],
        );
    }

    #[test]
    fn citations_and_superscripts() {
        check("<p>seen [<xref ref-type='bibr'>1</xref>,<xref ref-type='bibr'>2</xref>].</p>", &["seen [1,2]."]);
        check("<p>seen<sup><xref ref-type='bibr'>1</xref>,<xref>2</xref></sup>.</p>", &["seen 1,2."]);
        check("<p>seen<xref ref-type='bibr'><sup>1</sup></xref> (<sup><xref>2</xref></sup>)</p>", &["seen 1 (2)"]);
        check("<p>R<sup>2 </sup>= 10<sup>−4</sup>, 4<sup>th</sup>, x<sub>1</sub></p>", &["R2 = 10^−4, 4th, x1"]);
    }

    #[test]
    fn code_keeps_its_lines() {
        check("<p>run <monospace>a b</monospace> or <code>c  d</code></p>", &["run a b or c d"]);
        check("<code>\nif x:\n    y\n</code>", &["if x:\n    y"]);
    }
}
