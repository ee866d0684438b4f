//! Turns the mixed content of PubMed and JATS elements into paragraphs of plain text, by the source's [`ReadOptions`].
//!
//! Runs of white space become one space. Kept: headings, lists, boxes, quotes, captions. By the options: tables, formulas,
//! markers, footnotes. Left out: images, supplements, alternative texts, and all that is not running text. It knows nothing
//! of front matter or records.

use std::sync::LazyLock;

use crate::line::{Line, starts_with_digit};
use crate::mathml;
use crate::names::Name;
use crate::options::{Formulas, Markers, ReadOptions, Tables};
use crate::table::linearized;
use crate::xml::{Element, Node};

/// For names, titles of journals and the like, which no option touches.
static PLAIN: LazyLock<ReadOptions> = LazyLock::new(ReadOptions::default);

/// Lists within lists up to here are indented; each level copies and widens every line below it.
const INDENTED_LISTS: usize = 4;

/// Collects paragraphs.
#[derive(Debug)]
pub(crate) struct Prose<'o> {
    options: &'o ReadOptions,
    paragraphs: Vec<String>,
    line: Line,
    /// Footnotes of the paragraph that is being put together.
    notes: Vec<String>,
    /// Lists around what is collected.
    lists: usize,
}

impl<'o> Prose<'o> {
    fn new(options: &'o ReadOptions) -> Self {
        Self { options, paragraphs: Vec::new(), line: Line::default(), notes: Vec::new(), lists: 0 }
    }

    /// The paragraphs of an element's content.
    pub(crate) fn of(element: Element<'_>, options: &'o ReadOptions) -> Vec<String> {
        let mut prose = Self::new(options);
        prose.children(element);
        prose.flush();
        prose.paragraphs
    }

    /// The paragraphs of an element's content, headed by its label and title; none where nothing is headed.
    pub(crate) fn of_section(element: Element<'_>, options: &'o ReadOptions) -> Vec<String> {
        let mut prose = Self::new(options);
        prose.section(element);
        prose.paragraphs
    }

    /// The footnotes of a group, a paragraph each.
    pub(crate) fn of_notes(group: Element<'_>, options: &'o ReadOptions) -> Vec<String> {
        let mut prose = Self::new(options);
        prose.note_group(group);
        prose.paragraphs
    }

    /// The content on one line.
    pub(crate) fn line(element: Element<'_>, options: &'o ReadOptions) -> String {
        let mut paragraphs = Self::of(element, options);
        let text = if paragraphs.len() == 1 { paragraphs.swap_remove(0) } else { paragraphs.join(" ") };
        if text.contains('\n') { text.replace('\n', " ") } else { text }
    }

    fn flush(&mut self) {
        let text = self.line.take();
        self.push(text);
        self.paragraphs.append(&mut self.notes);
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
            name if is_left_out(name) => {}
            name if is_block(name) => {
                self.flush();
                self.children(element);
                self.flush();
            }
            Name::Sec => self.section(element),
            Name::List => self.list(element),
            Name::DefList => self.definitions(element),
            Name::Fig | Name::ChemStructWrap | Name::TableWrap => self.captioned(element),
            Name::Table | Name::Array => self.table(element),
            Name::BoxedText => self.boxed(element),
            Name::Code | Name::Preformat => self.verbatim(element),
            Name::Fn => self.note(element),
            Name::FnGroup | Name::TableWrapFoot => self.note_group(element),
            Name::Sup => self.superscript(element),
            Name::Sub => self.subscript(element),
            Name::Xref => self.marker(element),
            Name::Break | Name::Br => self.line.space(),
            Name::Label | Name::Prefix => {
                self.children(element);
                self.line.space();
            }
            Name::Person => {
                self.line.part_from_name();
                self.children(element);
            }
            Name::GivenNames | Name::Suffix => {
                self.line.space();
                self.children(element);
            }
            _ => self.formula_or_other(element),
        }
    }

    fn formula_or_other(&mut self, element: Element<'_>) {
        let formulas = self.options.formulas;
        match element.name() {
            Name::Math
            | Name::TexMath
            | Name::InlineFormula
            | Name::DispFormula
            | Name::PubmedDispFormula
            | Name::DispFormulaGroup
                if formulas == Formulas::Drop => {}
            Name::Math => self.math(element),
            Name::TexMath if formulas == Formulas::Readable => {}
            Name::TexMath => self.line.push(tex_of(&element.raw_text())),
            Name::Alternatives => self.alternatives(element),
            Name::DispFormula | Name::PubmedDispFormula | Name::DispFormulaGroup => {
                self.line.space();
                self.children(element);
                self.line.space();
            }
            _ => self.children(element),
        }
    }

    /// A heading, then what it heads; a section without content loses its heading too.
    fn section(&mut self, element: Element<'_>) {
        self.flush();
        let before = self.paragraphs.len();
        let heading = self.heading(element);
        let headed = !heading.is_empty();
        self.push(heading);
        for child in element.elements().filter(|child| !matches!(child.name(), Name::Label | Name::Title)) {
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
        let title = self.line_of(element.child(Name::Title));
        self.push(title);
        if self.lists >= INDENTED_LISTS {
            self.flat_list(element);
            return;
        }
        let ordered = element.attribute("list-type").as_deref() == Some("order");
        let mut lines = Vec::new();
        for (index, item) in element.named(Name::ListItem).enumerate() {
            let mut inner = Self { lists: self.lists + 1, ..Self::new(self.options) };
            inner.item(item);
            if inner.paragraphs.is_empty() {
                continue;
            }
            let label = self.line_of(item.child(Name::Label));
            let mark = match (label.is_empty(), ordered) {
                (false, _) => label,
                (true, true) => format!("{}.", index + 1),
                (true, false) => "-".to_string(),
            };
            lines.push(format!("{mark} {}", inner.paragraphs.join("\n").replace('\n', "\n  ")));
        }
        self.push(lines.join("\n"));
    }

    /// What a list item holds, its label aside.
    fn item(&mut self, item: Element<'_>) {
        for child in item.elements().filter(|child| child.name() != Name::Label) {
            self.element(child);
        }
        self.flush();
    }

    /// The items of a list that stands too deep to be indented, as paragraphs.
    fn flat_list(&mut self, element: Element<'_>) {
        for item in element.named(Name::ListItem) {
            let label = self.line_of(item.child(Name::Label));
            self.push(label);
            self.item(item);
        }
    }

    /// One paragraph with a line `term: definition` for each item.
    fn definitions(&mut self, element: Element<'_>) {
        self.flush();
        let title = self.line_of(element.child(Name::Title));
        self.push(title);
        let mut lines = Vec::new();
        for item in element.named(Name::DefItem) {
            let terms: Vec<_> = item.named(Name::Term).map(|term| Self::line(term, self.options)).collect();
            let definitions: Vec<_> = item.named(Name::Def).map(|def| Self::line(def, self.options)).collect();
            let (term, definition) = (terms.join(", "), definitions.join(" "));
            match (term.is_empty(), definition.is_empty()) {
                (false, false) => lines.push(format!("{term}: {definition}")),
                (true, true) => {}
                _ => lines.push(term + &definition),
            }
        }
        self.push(lines.join("\n"));
        for further in element.named(Name::DefList) {
            self.definitions(further);
        }
    }

    /// A figure or table: label and caption, then the figures and tables within it.
    fn captioned(&mut self, element: Element<'_>) {
        self.flush();
        let is_table = element.name() == Name::TableWrap;
        if is_table && self.options.tables == Tables::Drop {
            return;
        }
        let captions: Vec<_> = element.named(Name::Caption).map(|caption| Self::line(caption, self.options)).collect();
        let caption = captions.join(" ");
        if !caption.is_empty() || (is_table && self.options.tables == Tables::Linearize) {
            let label = self.line_of(element.child(Name::Label));
            self.push(labelled(&label, &caption, ". "));
        }
        self.captioned_inside(element);
    }

    fn captioned_inside(&mut self, element: Element<'_>) {
        for child in element.elements() {
            match child.name() {
                Name::Label | Name::Caption => {}
                Name::Fig | Name::TableWrap | Name::ChemStructWrap | Name::Table | Name::Array | Name::TableWrapFoot => {
                    self.element(child);
                }
                name if is_left_out(name) => {}
                _ => self.captioned_inside(child),
            }
        }
    }

    fn table(&mut self, element: Element<'_>) {
        self.flush();
        if self.options.tables == Tables::Linearize {
            self.push(linearized(element, self.options));
        }
    }

    fn boxed(&mut self, element: Element<'_>) {
        self.flush();
        let label = self.line_of(element.child(Name::Label));
        let caption = self.line_of(element.child(Name::Caption));
        self.push(labelled(&label, &caption, ". "));
        for child in element.elements().filter(|child| !matches!(child.name(), Name::Label | Name::Caption)) {
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

    /// The same thing in several forms: TeX where it is asked for, else `MathML`, else whatever is text.
    fn alternatives(&mut self, element: Element<'_>) {
        let tex = element.child(Name::TexMath).filter(|_| self.options.formulas == Formulas::Tex);
        match tex.or_else(|| element.child(Name::Math)) {
            Some(formula) => self.element(formula),
            None => self.children(element),
        }
    }

    fn note(&mut self, element: Element<'_>) {
        if self.options.footnotes {
            let note = Self::line(element, self.options);
            if !note.is_empty() {
                self.notes.push(note);
            }
        }
    }

    fn note_group(&mut self, group: Element<'_>) {
        self.flush();
        if !self.options.footnotes {
            return;
        }
        let before = self.paragraphs.len();
        let heading = self.heading(group);
        let headed = !heading.is_empty();
        self.push(heading);
        for child in group.elements().filter(|child| !matches!(child.name(), Name::Label | Name::Title)) {
            self.element(child);
            self.flush();
        }
        if headed && self.paragraphs.len() == before + 1 {
            self.paragraphs.truncate(before);
        }
    }

    /// A citation or cross-reference in the text.
    fn marker(&mut self, element: Element<'_>) {
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
    fn math(&mut self, element: Element<'_>) {
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
    fn superscript(&mut self, element: Element<'_>) {
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
    fn subscript(&mut self, element: Element<'_>) {
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

    /// Label and title of a section on one line.
    fn heading(&self, element: Element<'_>) -> String {
        let (label, title) = (self.line_of(element.child(Name::Label)), self.line_of(element.child(Name::Title)));
        labelled(&label, &title, " ")
    }

    fn line_of(&self, element: Option<Element<'_>>) -> String {
        element.map(|element| Self::line(element, self.options)).unwrap_or_default()
    }
}

/// The content on one line, as it is written by default.
pub(crate) fn line_of(element: Element<'_>) -> String {
    Prose::line(element, &PLAIN)
}

/// Elements that are left out with everything in them.
fn is_left_out(name: Name) -> bool {
    matches!(
        name,
        Name::Ack
            | Name::Aff
            | Name::AltText
            | Name::Annotation
            | Name::App
            | Name::AppGroup
            | Name::Attrib
            | Name::AuthorNotes
            | Name::AwardGroup
            | Name::Citation
            | Name::Colgroup
            | Name::ContribGroup
            | Name::CopyrightStatement
            | Name::ElementCitation
            | Name::Graphic
            | Name::IndexTerm
            | Name::InlineGraphic
            | Name::InlineMedia
            | Name::KwdGroup
            | Name::License
            | Name::LongDesc
            | Name::Media
            | Name::MixedCitation
            | Name::NlmCitation
            | Name::ObjectId
            | Name::Permissions
            | Name::PrivateChar
            | Name::ProcessingMeta
            | Name::RefList
            | Name::RelatedArticle
            | Name::RelatedObject
            | Name::Response
            | Name::SecMeta
            | Name::SigBlock
            | Name::SubArticle
            | Name::SubjGroup
            | Name::SupplementaryMaterial
            | Name::TransAbstract
    )
}

/// Elements that stand in paragraphs of their own.
fn is_block(name: Name) -> bool {
    matches!(
        name,
        Name::P
            | Name::Title
            | Name::Subtitle
            | Name::DispQuote
            | Name::Statement
            | Name::VerseGroup
            | Name::VerseLine
            | Name::Speech
            | Name::Question
            | Name::Answer
            | Name::Explanation
            | Name::Abstract
            | Name::Body
            | Name::Caption
            | Name::Def
            | Name::FloatsGroup
    )
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

/// The formula in what may be a whole LaTeX document.
fn tex_of(text: &str) -> &str {
    let inside = text.split_once("\\begin{document}").map_or(text, |(_, inside)| inside);
    let formula = inside.split_once("\\end{document}").map_or(inside, |(inside, _)| inside).trim();
    // Some publishers close a group there that was never opened.
    formula.strip_prefix("}{}").unwrap_or(formula)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Limits;
    use crate::xml::Tree;

    fn check(body: &str, expected: &[&str]) {
        check_with(&ReadOptions::default(), body, expected);
    }

    fn check_with(options: &ReadOptions, body: &str, expected: &[&str]) {
        let xml = format!("<body>{body}</body>");
        let tree = Tree::parse(&xml, &Limits::default()).unwrap();
        assert_eq!(Prose::of(tree.root(), options), expected, "{body}");
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
        let deep = |depth: usize| {
            format!("{}<code>a\nb</code>{}", "<list><list-item>".repeat(depth), "</list-item></list>".repeat(depth))
        };
        check(&deep(2), &["- - a\n    b"]);
        check(&deep(6), &["- - - - a\n        b"]);
        check(
            "<def-list><def-item><term>t</term><def><p>d</p></def></def-item><def-item><term>u</term></def-item></def-list>",
            &["t: d\nu"],
        );
        let inner = "<def-list><title>I</title><def-item><term>v</term><def><p>e</p></def></def-item></def-list>";
        check(&format!("<def-list><def-item><term>t</term></def-item>{inner}</def-list>"), &["t", "I", "v: e"]);
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

    #[test]
    fn powers_stay_apart_from_what_they_raise() {
        check("<p>10<sup>4-5</sup>, b<sub>1</sub><sup>1/2</sup>, SO<sub>4</sub><sup>2-</sup></p>", &["10^4-5, b1^1/2, SO4^2-"]);
        check(
            "<p>2<sup>-ΔΔCt</sup>, 2<sup><italic>n</italic></sup>, 0<sup>+</sup>, 1<sup>a</sup></p>",
            &["2^-ΔΔCt, 2^n, 0+, 1a"],
        );
        check("<p>F1<sub>100-23</sub>, H<sub>2</sub>O, P2<sub>1</sub>, 10 <sub>22</sub></p>", &["F1_100-23, H2O, P21, 10 22"]);
        check("<p>5 × 10<sup> 3 </sup>l and cm<sup>-1</sup></p>", &["5 × 10 3 l and cm-1"]);
    }

    #[test]
    fn numbers_side_by_side_stay_two() {
        check("<p>10<sup>−</sup><sup>6</sup> M, 10<sup>-</sup><sup>5</sup>, 10<sup>.5</sup></p>", &["10^−6 M, 10^-5, 10^.5"]);
        check("<p>log<sub>10</sub>5, O<sub>40</sub>8H<sub>2</sub>O, 10<sup>6</sup>5</p>", &["log10 5, O40 8H2O, 10^6 5"]);
        check("<p>P2<sub>1</sub>2<sub>1</sub>2<sub>1</sub>, Na<sup>+</sup>2, 5<sup>+</sup> 6</p>", &["P212121, Na+2, 5+ 6"]);
        check("<p>in 2010.<sup>12</sup> Then, in 2011,<sup>1</sup></p>", &["in 2010. 12 Then, in 2011, 1"]);
        check("<p>in 2010<sup><italic><xref ref-type='bibr'>3</xref></italic></sup></p>", &["in 2010 3"]);
        check("<p>12<xref ref-type='bibr'>3</xref>, <xref>1</xref><xref>2</xref>, P<xref>1</xref></p>", &["12 3, 1 2, P1"]);
        check(
            "<p>10<math><msup><mrow/><mn>6</mn></msup></math>, 2<math><mfrac><mn>1</mn><mn>2</mn></mfrac></math></p>",
            &["10^6, 2 1/2"],
        );
        check("<p>10<math><msub><mi/><mn>2</mn></msub></math>, <math><mn>3</mn></math>4</p>", &["10_2, 3 4"]);
    }

    #[test]
    fn figures_within_figures_and_names_of_supplements() {
        let inner = "<fig><label>B</label><caption><p>b</p></caption></fig>";
        check(&format!("<fig><label>A</label><caption><p>a</p></caption><p><graphic/>{inner}</p></fig>"), &["A. a", "B. b"]);
        check(&format!("<table-wrap><alternatives><table><tr><td>{inner}</td></tr></table></alternatives></table-wrap>"), &[]);
        check("<p>see <inline-supplementary-material>Table S1</inline-supplementary-material>.</p>", &["see Table S1."]);
    }

    #[test]
    fn tables_by_option() {
        let table = "<table-wrap><label>Table 1</label><caption><p>c</p></caption><table><thead><tr><th>a</th><th>b</th></tr>\
            </thead><tr><td>1</td><td>2<sup>3</sup></td></tr></table><table-wrap-foot><fn><label>*</label><p>f</p></fn>\
            </table-wrap-foot></table-wrap>";
        let with = |tables, footnotes| ReadOptions { tables, footnotes, ..ReadOptions::default() };
        check_with(&with(Tables::Drop, true), table, &[]);
        check_with(&with(Tables::Caption, false), table, &["Table 1. c"]);
        check_with(&with(Tables::Linearize, false), table, &["Table 1. c", "a | b\n1 | 2^3"]);
        check_with(&with(Tables::Linearize, true), table, &["Table 1. c", "a | b\n1 | 2^3", "* f"]);
        check_with(&with(Tables::Linearize, false), "<table><tr><td>x</td></tr></table>", &["x"]);
    }

    #[test]
    fn formulas_by_option() {
        let body = "<p>a <inline-formula><alternatives><tex-math>\\documentclass{x} \\begin{document}$x_1$\\end{document}</tex-math>\
            <mml:math><mml:mi>x</mml:mi></mml:math></alternatives></inline-formula> b <math><mi>y</mi></math></p>";
        let with = |formulas| ReadOptions { formulas, ..ReadOptions::default() };
        check_with(&with(Formulas::Readable), body, &["a x b y"]);
        check_with(&with(Formulas::Tex), body, &["a $x_1$ b y"]);
        check_with(&with(Formulas::Drop), body, &["a b"]);
        check_with(&with(Formulas::Tex), "<p><tex-math>\\begin{document} }{}$y$\\end{document}</tex-math></p>", &["$y$"]);
    }

    #[test]
    fn markers_by_option() {
        let body = "<p>as [<xref ref-type='bibr'>1</xref>,<xref ref-type='bibr'>2</xref>] say<sup><xref ref-type='bibr'>3</xref></sup>, \
            see <xref ref-type='fig'>Fig. 1</xref> (<xref ref-type='table'>Table 1</xref>).</p>";
        let with = |citations, cross_references| ReadOptions { citations, cross_references, ..ReadOptions::default() };
        check_with(&with(Markers::Keep, Markers::Keep), body, &["as [1,2] say 3, see Fig. 1 (Table 1)."]);
        check_with(&with(Markers::Drop, Markers::Keep), body, &["as say, see Fig. 1 (Table 1)."]);
        check_with(&with(Markers::Keep, Markers::Drop), body, &["as [1,2] say 3, see."]);
    }

    #[test]
    fn footnotes_by_option() {
        let body = "<p>a<xref ref-type='fn'>*</xref><fn><label>*</label><p>note</p></fn> b</p><p>c</p>";
        check(body, &["a* b", "c"]);
        check_with(&ReadOptions { footnotes: true, ..ReadOptions::default() }, body, &["a* b", "* note", "c"]);
    }
}
