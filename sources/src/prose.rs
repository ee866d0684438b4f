//! Turns the mixed content of PubMed and JATS elements into paragraphs of plain text, by the source's [`ReadOptions`].
//!
//! Runs of white space become one space. Kept: headings, lists, boxes, quotes, captions. By the options: tables, formulas,
//! markers, footnotes. Left out: images, supplements, alternative texts, and all that is not running text. It knows nothing
//! of front matter or records.

mod elements;
mod inline;

use std::sync::LazyLock;

use elements::{is_block, is_left_out};

use crate::line::Line;
use crate::names::Name;
use crate::options::{Formulas, ReadOptions, Tables};
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

/// Label and text; `between` unless the label brings its own stop.
fn labelled(label: &str, text: &str, between: &str) -> String {
    match (label.is_empty(), text.is_empty()) {
        (true, _) => text.to_string(),
        (_, true) => label.to_string(),
        _ if label.ends_with(char::is_alphanumeric) => format!("{label}{between}{text}"),
        _ => format!("{label} {text}"),
    }
}

/// The formula in what may be a whole LaTeX document.
fn tex_of(text: &str) -> &str {
    let inside = text.split_once("\\begin{document}").map_or(text, |(_, inside)| inside);
    let formula = inside.split_once("\\end{document}").map_or(inside, |(inside, _)| inside).trim();
    // Some publishers close a group there that was never opened.
    formula.strip_prefix("}{}").unwrap_or(formula)
}

#[cfg(test)]
mod tests;
