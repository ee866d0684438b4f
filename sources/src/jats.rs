//! JATS full-text articles (PubMed Central, publishers) as documents: title, abstract, body.
//!
//! Authors, affiliations, references, acknowledgements, footnotes, tables (not their captions), appendices,
//! `sub-article` and `response` are left out; the module `prose` says how the rest becomes text.

use std::collections::BTreeMap;

use crate::document::{Document, text_id};
use crate::frame::FrameSpec;
use crate::input::Input;
use crate::licence::licence_of;
use crate::prose::Prose;
use crate::pubmed::{BETWEEN_VALUES, first_year, lines};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::records::XmlRecords;
use crate::reject::RejectReason;
use crate::xml::Element;

/// Abstracts that repeat or advertise the article rather than sum it up.
const OTHER_ABSTRACTS: [&str; 8] = ["author-highlights", "graphical", "precis", "short", "teaser", "toc", "video", "web-summary"];
/// Dates of publication, as old and new JATS name them.
const PUBLICATION_DATES: [&str; 6] = ["collection", "epub", "epub-ppub", "epreprint", "ppub", "pub"];

static SPEC: FrameSpec = FrameSpec {
    roots: &["pmc-articleset", "OAI-PMH"],
    records: &["article"],
    never_inside: &["article"],
    wrong_root: |root| RejectReason::NotJats { root },
};

/// Reads JATS: one document or reject an article, alone in its file or in a `pmc-articleset` or `OAI-PMH` answer.
///
/// `native_id` is the PMCID as `PMC123`, else the PMID, else the DOI, else a hash of the text. Meta: `pmcid`, `pmid`,
/// `doi`, `journal`, `article_type`, `subjects`, `keywords`, `language`; several values are joined by `; `.
#[derive(Debug)]
pub struct JatsReader(XmlRecords);

impl JatsReader {
    /// Opens an object.
    ///
    /// # Errors
    /// None at present: the first bytes are read by the first `next`.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        Ok(Self(XmlRecords::new(context, input, limits, &SPEC, convert)))
    }
}

impl Reader for JatsReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        self.0.next()
    }
}

fn convert(root: Element<'_>, context: &SourceContext) -> Result<Document, RejectReason> {
    let meta = root.path(&["front", "article-meta"]);
    let title = meta.and_then(title_of);
    let mut paragraphs: Vec<String> = title.clone().into_iter().collect();
    for part in meta.iter().flat_map(|meta| meta.named("abstract")).filter(|part| is_summary(*part)) {
        paragraphs.extend(Prose::of(part).into_paragraphs());
    }
    for part in ["body", "floats-group"].into_iter().filter_map(|name| root.child(name)) {
        paragraphs.extend(Prose::of(part).into_paragraphs());
    }
    if paragraphs.is_empty() {
        return Err(RejectReason::EmptyRecord);
    }
    let text = paragraphs.join("\n\n");
    let ids = meta.map(Identifiers::of).unwrap_or_default();
    let native_id = ids.native_id().unwrap_or_else(|| text_id(&text));
    let mut document = context.document(native_id, text, 0);
    document.version = ids.version;
    document.title = title;
    document.year = meta.and_then(year_of);
    if let Some(licence) = meta.and_then(licence_of) {
        document.licence = Some(licence);
    }
    document.meta = meta_of(root, meta, ids);
    Ok(document)
}

fn title_of(meta: Element<'_>) -> Option<String> {
    let group = meta.child("title-group")?;
    let title = Prose::line_of(group.child("article-title")?);
    let subtitle = group.child("subtitle").map(Prose::line_of).unwrap_or_default();
    let whole = match (title.is_empty(), subtitle.is_empty()) {
        (false, false) if title.ends_with(|last: char| last.is_alphanumeric()) => {
            format!("{title}: {subtitle}")
        }
        (false, false) => format!("{title} {subtitle}"),
        _ => title + &subtitle,
    };
    (!whole.is_empty()).then_some(whole)
}

fn is_summary(part: Element<'_>) -> bool {
    part.attribute("abstract-type").is_none_or(|kind| !OTHER_ABSTRACTS.contains(&kind.as_str()))
}

/// The names an article goes by.
#[derive(Debug)]
struct Identifiers {
    pmcid: Option<String>,
    pmid: Option<String>,
    doi: Option<String>,
    version: u32,
}

impl Default for Identifiers {
    fn default() -> Self {
        Self { pmcid: None, pmid: None, doi: None, version: 1 }
    }
}

impl Identifiers {
    fn of(meta: Element<'_>) -> Self {
        let mut ids = Self::default();
        for element in meta.named("article-id") {
            let value = Prose::line_of(element);
            let kind = element.attribute("pub-id-type").unwrap_or_default();
            match kind.as_str() {
                "pmc" | "pmcid" if ids.pmcid.is_none() => ids.pmcid = pmcid(&value),
                "pmcid-ver" | "pmc-version" => {
                    let version = value.rsplit_once('.').and_then(|(_, version)| version.parse().ok());
                    ids.version = version.filter(|&version| version > 0).unwrap_or(ids.version);
                }
                "pmid" if ids.pmid.is_none() && is_number(&value) => ids.pmid = Some(value),
                "doi" if ids.doi.is_none() && !value.is_empty() => ids.doi = Some(value),
                _ => {}
            }
        }
        ids
    }

    fn native_id(&self) -> Option<String> {
        [&self.pmcid, &self.pmid, &self.doi].into_iter().flatten().next().cloned()
    }
}

/// `PMC` and digits, from either way of writing it.
fn pmcid(value: &str) -> Option<String> {
    let digits = value.strip_prefix("PMC").unwrap_or(value);
    is_number(digits).then(|| format!("PMC{digits}"))
}

fn is_number(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// The earliest year of publication, on paper or not.
fn year_of(meta: Element<'_>) -> Option<u16> {
    let published = meta.named("pub-date").filter(|date| {
        let kinds = [date.attribute("pub-type"), date.attribute("date-type")];
        kinds.iter().flatten().any(|kind| PUBLICATION_DATES.contains(&kind.as_str()))
    });
    let year = |date: Element<'_>| date.child("year").and_then(|year| first_year(&Prose::line_of(year)));
    published.filter_map(year).min().or_else(|| meta.named("pub-date").filter_map(year).min())
}

fn meta_of(root: Element<'_>, meta: Option<Element<'_>>, ids: Identifiers) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.insert(name.to_string(), value);
        }
    };
    put("pmcid", ids.pmcid);
    put("pmid", ids.pmid);
    put("doi", ids.doi);
    put("article_type", root.attribute("article-type"));
    put("language", root.attribute("lang"));
    let journal = root.path(&["front", "journal-meta"]);
    let journal = journal
        .and_then(|journal| journal.path(&["journal-title-group", "journal-title"]).or_else(|| journal.child("journal-title")));
    put("journal", journal.map(Prose::line_of));
    if let Some(meta) = meta {
        let subjects = meta.named("article-categories").flat_map(Element::descendants);
        put("subjects", Some(lines(subjects.filter(|one| one.name() == "subject")).join(BETWEEN_VALUES)));
        let keywords = meta.named("kwd-group").flat_map(Element::descendants);
        put("keywords", Some(lines(keywords.filter(|one| one.name() == "kwd")).join(BETWEEN_VALUES)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Format;
    use crate::records::testing;

    fn article(meta: &str, body: &str) -> String {
        format!("<article><front><article-meta>{meta}</article-meta></front><body>{body}</body></article>")
    }

    fn document(meta: &str, body: &str) -> Document {
        testing::document(Format::Jats, &article(meta, body))
    }

    const TITLE: &str = "<title-group><article-title>T</article-title></title-group>";

    #[test]
    fn title_abstract_and_body_in_order() {
        let meta = "<title-group><article-title>Title<xref ref-type='fn'/></article-title><subtitle>Sub</subtitle></title-group>\
            <contrib-group><contrib>Author</contrib></contrib-group><aff>Place</aff>\
            <abstract><sec><title>Aim</title><p>a</p></sec></abstract><abstract abstract-type='graphical'><p>g</p></abstract>\
            <abstract abstract-type='teaser'><p>t</p></abstract><trans-abstract><p>autre</p></trans-abstract>";
        let body = "<sec><label>1</label><title>Intro</title><p>b</p><sec><title>Deep</title><p>c</p></sec></sec>";
        let found = document(meta, body);
        assert_eq!(found.text, "Title: Sub\n\nAim\n\na\n\n1 Intro\n\nb\n\nDeep\n\nc");
        assert_eq!(found.title.as_deref(), Some("Title: Sub"));
    }

    #[test]
    fn back_matter_and_answers_are_left_out() {
        let xml = format!(
            "<article><front><article-meta>{TITLE}</article-meta></front><body><p>b</p></body>\
             <back><ack><p>thanks</p></ack><ref-list><ref>r</ref></ref-list><fn-group><fn><p>f</p></fn></fn-group></back>\
             <floats-group><fig><label>Fig. 1</label><caption><p>c</p></caption></fig></floats-group>\
             <sub-article><body><p>s</p></body></sub-article><response><body><p>r</p></body></response></article>"
        );
        assert_eq!(testing::document(Format::Jats, &xml).text, "T\n\nb\n\nFig. 1. c");
    }

    #[test]
    fn identifiers() {
        let id = |kind: &str, value: &str| format!("<article-id pub-id-type='{kind}'>{value}</article-id>");
        let check = |ids: String, expected: (&str, u32)| {
            let found = document(&(ids.clone() + TITLE), "");
            assert_eq!((found.native_id.as_str(), found.version), expected, "{ids}");
        };
        check(id("pmc", "123") + &id("pmid", "9"), ("PMC123", 1));
        check(id("pmcid", "PMC123"), ("PMC123", 1));
        check(id("pmcid", "PMC123") + &id("pmcid-ver", "PMC123.4") + &id("pmcaid", "77"), ("PMC123", 4));
        check(id("pmid", "9") + &id("doi", "10.1/x"), ("9", 1));
        check(id("doi", "10.1/x"), ("10.1/x", 1));
        check(id("publisher-id", "p"), (text_id("T").as_str(), 1));
        let meta = document(&(id("pmc", "1") + &id("pmid", "2") + &id("doi", "3") + TITLE), "").meta;
        assert_eq!([&meta["pmcid"], &meta["pmid"], &meta["doi"]], ["PMC1", "2", "3"]);
    }

    #[test]
    fn years_and_licences() {
        let dates = "<pub-date pub-type='ppub'><year>2009</year></pub-date><pub-date pub-type='epub'><year>2008</year></pub-date>\
            <pub-date pub-type='pmc-release'><year>2007</year></pub-date>";
        assert_eq!(document(&format!("{TITLE}{dates}"), "").year, Some(2008));
        let only = "<pub-date pub-type='pmc-release'><year>2007</year></pub-date>";
        assert_eq!(document(&format!("{TITLE}{only}"), "").year, Some(2007));
        let licence = "<permissions><license xlink:href='http://creativecommons.org/licenses/by/3.0/'/></permissions>";
        assert_eq!(document(&format!("{TITLE}{licence}"), "").licence.as_deref(), Some("CC-BY-3.0"));
        assert_eq!(document(TITLE, "").licence.as_deref(), Some("stated by the source"));
    }

    #[test]
    fn facts_of_the_article() {
        let xml = "<article article-type='case-report' xml:lang='en'><front><journal-meta><journal-title-group>\
            <journal-title>J</journal-title></journal-title-group></journal-meta><article-meta><article-categories>\
            <subj-group><subject>A</subject><subj-group><subject>B</subject></subj-group></subj-group></article-categories>\
            <title-group><article-title>T</article-title></title-group><kwd-group><kwd>k</kwd><kwd>l</kwd></kwd-group>\
            </article-meta></front></article>";
        let meta = testing::document(Format::Jats, xml).meta;
        let found: Vec<_> = meta.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(found, ["article_type=case-report", "journal=J", "keywords=k; l", "language=en", "subjects=A; B"]);
    }

    #[test]
    fn sets_and_other_roots() {
        let one = article(TITLE, "<p>x</p>");
        let id = text_id("T\n\nx");
        let outline = |xml: &str| testing::outline(Format::Jats, xml.as_bytes(), &Limits::default());
        assert_eq!(outline(&format!("<pmc-articleset>{one}{one}</pmc-articleset>")), [id.as_str(), id.as_str()]);
        let oai = format!("<OAI-PMH><request>url</request><record><metadata>{one}</metadata></record></OAI-PMH>");
        assert_eq!(outline(&oai), [id.as_str()]);
        assert_eq!(outline("<collection/>"), ["0 not-jats: root element collection"]);
        assert_eq!(outline("<article/>"), ["0 empty-record"]);
        assert_eq!(outline("<article><body><sec><title>alone</title></sec></body></article>"), ["0 empty-record"]);
    }
}
