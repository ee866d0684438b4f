//! The list of references of a JATS article, one line each.

use crate::names::Name;
use crate::options::ReadOptions;
use crate::prose::{Prose, line_of};
use crate::xml::{Element, Node};

/// Title and references of a list; none where there is no reference.
///
/// A `mixed-citation` stands as it is written. An `element-citation`, which has no punctuation, becomes
/// `Authors. Title. Source. Year;volume(issue):first-last. doi`.
pub(crate) fn references_of(list: Element<'_>, options: &ReadOptions) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    collect(list, options, &mut lines);
    if !lines.is_empty()
        && let Some(title) = list.child(Name::Title).map(|title| Prose::line(title, options)).filter(|title| !title.is_empty())
    {
        lines.insert(0, title);
    }
    lines
}

fn collect(list: Element<'_>, options: &ReadOptions, lines: &mut Vec<String>) {
    for child in list.elements() {
        match child.name() {
            Name::Ref => lines.extend(reference(child, options)),
            Name::RefList => collect(child, options, lines),
            _ => {}
        }
    }
}

fn reference(reference: Element<'_>, options: &ReadOptions) -> Option<String> {
    let parts = reference.elements().filter_map(|part| {
        // The same citation in several forms: the first will do.
        if part.name() == Name::CitationAlternatives { part.elements().next() } else { Some(part) }
    });
    let texts = parts.filter_map(|part| match part.name() {
        Name::MixedCitation | Name::ElementCitation | Name::NlmCitation | Name::Citation => Some(citation(part, options)),
        Name::Note => Some(Prose::line(part, options)),
        _ => None,
    });
    let text = texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
    let label = reference.child(Name::Label).map(line_of).filter(|label| !label.is_empty());
    match (label, text.is_empty()) {
        (_, true) => None,
        (Some(label), false) => Some(format!("{label} {text}")),
        (None, false) => Some(text),
    }
}

fn citation(citation: Element<'_>, options: &ReadOptions) -> String {
    let written = citation.children().any(|node| matches!(node, Node::Text(text) if !text.trim().is_empty()));
    if written { Prose::line(citation, options) } else { assembled(citation) }
}

fn assembled(citation: Element<'_>) -> String {
    let one = |name: Name| citation.child(name).map(line_of).unwrap_or_default();
    let mut authors = Vec::new();
    for child in citation.elements() {
        match child.name() {
            Name::PersonGroup => authors.extend(child.elements().filter_map(author)),
            _ => authors.extend(author(child)),
        }
    }
    let numbers = match (one(Name::Volume), one(Name::Issue)) {
        (volume, issue) if issue.is_empty() => volume,
        (volume, issue) => format!("{volume}({issue})"),
    };
    let pages = match (one(Name::Fpage), one(Name::Lpage)) {
        (first, last) if last.is_empty() => first,
        (first, last) => format!("{first}-{last}"),
    };
    let mut when = one(Name::Year);
    for (sign, part) in [(";", numbers), (":", pages)] {
        if !part.is_empty() {
            if !when.is_empty() {
                when.push_str(sign);
            }
            when.push_str(&part);
        }
    }
    let identifier = citation.child(Name::PubId).map(|id| match id.attribute("pub-id-type") {
        Some(kind) => format!("{kind}:{}", line_of(id)),
        None => line_of(id),
    });
    let publisher = one(Name::Publisher);
    let parts =
        [authors.join(", "), one(Name::JatsArticleTitle), one(Name::Source), publisher, when, identifier.unwrap_or_default()];
    let mut text = String::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if !text.is_empty() {
            text.push_str(if text.ends_with(['.', '?', '!']) { " " } else { ". " });
        }
        text.push_str(part);
    }
    text
}

fn author(element: Element<'_>) -> Option<String> {
    matches!(element.name(), Name::Person | Name::Collab).then(|| line_of(element)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Limits;
    use crate::xml::Tree;

    fn check(inside: &str, expected: &[&str]) {
        let xml = format!("<ref-list>{inside}</ref-list>");
        let tree = Tree::parse(&xml, &Limits::default()).unwrap();
        assert_eq!(references_of(tree.root(), &ReadOptions::default()), expected, "{inside}");
    }

    #[test]
    fn as_written() {
        check(
            "<title>References</title><ref><label>1.</label><mixed-citation><name><surname>Roe</surname><given-names>A</given-names></name>. \
             <source>J Inv</source> <year>1999</year>.</mixed-citation></ref>",
            &["References", "1. Roe A. J Inv 1999."],
        );
        let name = "<name><surname>Roe</surname><given-names>A.</given-names></name>";
        check(
            &format!("<ref><mixed-citation>({name}{name}, {name}). T.</mixed-citation></ref>"),
            &["(Roe A. Roe A., Roe A.). T."],
        );
        check("<title>References</title><ref><label>1</label></ref>", &[]);
    }

    #[test]
    fn put_together() {
        let names = "<person-group><name><surname>Roe</surname><given-names>A</given-names></name><collab>The Group</collab></person-group>";
        check(
            &format!(
                "<ref><element-citation>{names}<article-title>Why?</article-title><source>J Inv</source><year>1999</year>\
                 <volume>3</volume><issue>2</issue><fpage>1</fpage><lpage>9</lpage><pub-id pub-id-type='doi'>10.1/x</pub-id>\
                 </element-citation></ref>"
            ),
            &["Roe A, The Group. Why? J Inv. 1999;3(2):1-9. doi:10.1/x"],
        );
        check(
            "<ref><element-citation><name><surname>Roe</surname><given-names>A</given-names><suffix>Jr</suffix></name>\
             <year>1999</year></element-citation></ref>",
            &["Roe A Jr. 1999"],
        );
        check(
            "<ref><citation-alternatives><element-citation><source>S</source></element-citation><mixed-citation>S.</mixed-citation></citation-alternatives></ref>",
            &["S"],
        );
    }
}
