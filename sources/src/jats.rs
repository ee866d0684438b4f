//! JATS full-text articles (PubMed Central, publishers) as documents: title, abstract, body, figures and tables set apart.
//!
//! By the source's options also footnotes, acknowledgements, appendices, references, and answers, reviews and translations
//! as documents of their own. Left out: authors, affiliations, funding, histories, statements of the back matter (`notes`,
//! `sec` and `glossary` of `back`), supplements. The module `prose` says how the rest becomes text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::document::{Document, document_id, text_id};
use crate::frame::FrameSpec;
use crate::input::Input;
use crate::licence::licence_of;
use crate::names::Name;
use crate::options::{ReadOptions, SubArticles};
use crate::prose::{Prose, line_of};
use crate::pubmed::{BETWEEN_VALUES, PREPRINT_OF, PUBLISHED_FROM, RETRACTED, first_year, lines, put_language};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::record_names;
use crate::records::{Record, XmlRecords};
use crate::references::references_of;
use crate::reject::RejectReason;
use crate::row::is_usable_id;
use crate::xml::Element;

/// Abstracts that repeat or advertise the article rather than sum it up.
const OTHER_ABSTRACTS: [&str; 8] = ["author-highlights", "graphical", "precis", "short", "teaser", "toc", "video", "web-summary"];
/// Dates of publication, as old and new JATS name them.
const PUBLICATION_DATES: [&str; 6] = ["collection", "epub", "epub-ppub", "epreprint", "ppub", "pub"];
/// Types of articles that are about another article, and the labels they get.
const LABELLED_TYPES: [(&str, &str); 7] = [
    ("addendum", "addendum"),
    ("correction", "correction"),
    ("corrected-article", "correction"),
    ("erratum", "correction"),
    ("expression-of-concern", "expression-of-concern"),
    ("partial-retraction", "partial-retraction"),
    ("retraction", "retraction"),
];
/// The type of an article that is a preprint.
const PREPRINT_TYPE: &str = "preprint";
/// Types of the link from an article to its preprint, and from a preprint to its article. All others (corrections, comments,
/// companions, reviews, updates) link works of their own.
const LINKS_TO_PREPRINT: [&str; 1] = ["preprint"];
const LINKS_TO_ARTICLE: [&str; 3] = ["journal-article", "published-article", "version-of-record"];
/// How titles of retracted articles begin, in lower case.
const RETRACTED_TITLES: [&str; 2] = ["retracted:", "retracted article:"];

static SPEC: FrameSpec = FrameSpec {
    roots: &["pmc-articleset", "OAI-PMH"],
    records: &["article"],
    never_inside: &["article"],
    wrong_root: |root| RejectReason::NotJats { root },
};

/// Reads JATS: one document or reject an article, alone in its file or in a `pmc-articleset` or `OAI-PMH` answer.
///
/// `native_id` is the PMCID as `PMC123`, else the PMID, else the DOI, else a hash of the text; that of a `sub-article` or
/// `response` is the article's with `/` and its own behind it. Meta: `pmcid`, `pmid`, `doi`, `journal`, `article_type`,
/// `subjects`, `subject_ids` (codes of subjects and keywords), `keywords`, `language`, `copyright`; several values are
/// joined by `; `. Further `abstract_LANGUAGE` and `title_LANGUAGE` of translations, `parent` of a sub-article, `retracted`
/// = `true`, `preprint_of` and `published_from` (names of the article that a preprint became, and of the preprint), and
/// `labels`: `no-body`, `correction`, `addendum`, `expression-of-concern`, `partial-retraction`, `retraction`.
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

/// An article, sub-article or response.
#[derive(Clone, Copy)]
struct Article<'t> {
    root: Element<'t>,
    /// `article-meta`, or the `front-stub` that a sub-article may have in its place.
    meta: Option<Element<'t>>,
}

impl<'t> Article<'t> {
    fn of(root: Element<'t>) -> Self {
        let meta = root.path(&[Name::Front, Name::ArticleMeta]).or_else(|| root.child(Name::FrontStub));
        Self { root, meta }
    }
}

fn convert(record: &Record<'_>, items: &mut Vec<Item>) -> Result<(), RejectReason> {
    let article = Article::of(record.root);
    let whole = document(record, article).ok_or(RejectReason::EmptyRecord)?;
    let parts = match record.context.read.sub_articles {
        SubArticles::Drop => Vec::new(),
        SubArticles::Separate => sub_articles(record, &whole),
    };
    items.push(Item::Document(whole));
    items.extend(parts.into_iter().map(Item::Document));
    Ok(())
}

/// The document of one article; `None` where it has no text.
fn document(record: &Record<'_>, article: Article<'_>) -> Option<Document> {
    let Article { root, meta } = article;
    let options = &record.context.read;
    let title = meta.and_then(|meta| title_of(meta, options));
    let mut paragraphs: Vec<String> = title.clone().into_iter().collect();
    for part in meta.iter().flat_map(|meta| meta.named(Name::Abstract)).filter(|part| is_summary(*part)) {
        paragraphs.extend(Prose::of(part, options));
    }
    let body = root.child(Name::Body).map(|body| Prose::of(body, options)).unwrap_or_default();
    let bodiless = body.is_empty();
    paragraphs.extend(body);
    paragraphs.extend(root.child(Name::FloatsGroup).map(|floats| Prose::of(floats, options)).unwrap_or_default());
    if let Some(back) = root.child(Name::Back) {
        paragraphs.extend(back_matter(back, options));
    }
    if paragraphs.is_empty() {
        return None;
    }
    let text = paragraphs.join("\n\n");
    let ids = meta.map(Identifiers::of).unwrap_or_default();
    let mut document = record.document(ids.native_id().unwrap_or_else(|| text_id(&text)), text);
    document.version = ids.version;
    document.year = meta.and_then(year_of);
    if let Some(licence) = meta.and_then(licence_of) {
        document.licence = Some(licence);
    }
    document.meta = meta_of(article, ids, options);
    label(article, title.as_deref(), bodiless, &mut document.meta);
    document.title = title;
    Some(document)
}

/// Answers, reviews and translations, at any depth, in the order of the file; those without text are passed over.
fn sub_articles(record: &Record<'_>, parent: &Document) -> Vec<Document> {
    let mut parts = Vec::new();
    collect_parts(record.root, &mut parts);
    let mut taken = BTreeSet::new();
    let mut documents = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        let Some(mut document) = document(record, Article::of(part)) else {
            continue;
        };
        // No id of XML begins with the sign of those given here.
        let own = part.attribute("id").filter(|id| !id.is_empty() && !id.starts_with('#') && !taken.contains(id.as_ref()));
        let own = own.unwrap_or_else(|| Cow::Owned(format!("#{}", index + 1)));
        let native_id = Some(format!("{}/{own}", parent.native_id)).filter(|id| is_usable_id(id));
        document.native_id = native_id.unwrap_or_else(|| format!("{}/#{}", parent.native_id, index + 1));
        document.id = document_id(&document.source, &document.native_id);
        taken.insert(own.into_owned());
        document.year = document.year.or(parent.year);
        if Article::of(part).meta.and_then(licence_of).is_none() {
            document.licence.clone_from(&parent.licence);
        }
        document.meta.insert("parent".to_string(), parent.native_id.clone());
        documents.push(document);
    }
    documents
}

fn collect_parts<'t>(element: Element<'t>, parts: &mut Vec<Element<'t>>) {
    for part in element.elements().filter(|part| matches!(part.name(), Name::SubArticle | Name::Response)) {
        parts.push(part);
        collect_parts(part, parts);
    }
}

/// What the options want of what stands behind the body, in the order of the file.
fn back_matter(back: Element<'_>, options: &ReadOptions) -> Vec<String> {
    let mut paragraphs = Vec::new();
    for part in back.elements() {
        match part.name() {
            Name::Ack if options.acknowledgements => paragraphs.extend(Prose::of_section(part, options)),
            Name::App if options.appendices => paragraphs.extend(Prose::of_section(part, options)),
            Name::AppGroup if options.appendices => {
                for appendix in part.named(Name::App) {
                    paragraphs.extend(Prose::of_section(appendix, options));
                }
            }
            Name::FnGroup if options.footnotes => paragraphs.extend(Prose::of_notes(part, options)),
            Name::RefList if options.references => paragraphs.extend(references_of(part, options)),
            _ => {}
        }
    }
    paragraphs
}

fn title_of(meta: Element<'_>, options: &ReadOptions) -> Option<String> {
    let group = meta.child(Name::TitleGroup)?;
    let title = Prose::line(group.child(Name::JatsArticleTitle)?, options);
    let subtitle = group.child(Name::Subtitle).map(|subtitle| Prose::line(subtitle, options)).unwrap_or_default();
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
    part.attribute("abstract-type").is_none_or(|kind| !OTHER_ABSTRACTS.contains(&kind.as_ref()))
}

/// Labels and the mark of a retracted article.
fn label(article: Article<'_>, title: Option<&str>, bodiless: bool, meta: &mut BTreeMap<String, String>) {
    let kind = article.root.attribute("article-type").unwrap_or_default();
    let mut labels: Vec<&str> = if bodiless { vec!["no-body"] } else { Vec::new() };
    labels.extend(LABELLED_TYPES.iter().filter(|(listed, _)| *listed == kind).map(|(_, label)| *label));
    if !labels.is_empty() {
        meta.insert("labels".to_string(), labels.join(BETWEEN_VALUES));
    }
    // The notice has a title like this too.
    let is_notice = matches!(kind.as_ref(), "retraction" | "partial-retraction");
    let titled = title.is_some_and(|title| {
        let title = title.to_lowercase();
        RETRACTED_TITLES.iter().any(|start| title.starts_with(start))
    });
    let mut related = article.meta.iter().flat_map(|meta| meta.named(Name::RelatedArticle));
    let linked = related.any(|one| one.attribute("related-article-type").as_deref() == Some("retraction-forward"));
    if !is_notice && (titled || linked || kind == "retracted-article") {
        meta.insert(RETRACTED.to_string(), "true".to_string());
    }
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
        for element in meta.named(Name::ArticleId) {
            // What is no id at all is not to be copied into every name made from it.
            let value = Some(line_of(element)).filter(|value| is_usable_id(value)).unwrap_or_default();
            let kind = element.attribute("pub-id-type").unwrap_or_default();
            match kind.as_ref() {
                "pmc" | "pmcid" if ids.pmcid.is_none() => ids.pmcid = record_names::pmcid(&value),
                "pmcid-ver" | "pmc-version" => {
                    let version = value.rsplit_once('.').and_then(|(_, version)| version.parse().ok());
                    ids.version = version.filter(|&version| version > 0).unwrap_or(ids.version);
                }
                "pmid" if ids.pmid.is_none() => ids.pmid = record_names::pmid(&value),
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

/// The names of the article that a preprint became, or of the preprint that an article comes from.
fn preprint_links(meta: Element<'_>, is_preprint: bool) -> Option<String> {
    let kinds: &[&str] = if is_preprint { &LINKS_TO_ARTICLE } else { &LINKS_TO_PREPRINT };
    let related = meta.named(Name::RelatedArticle);
    let wanted = related.filter(|one| one.attribute("related-article-type").is_some_and(|kind| kinds.contains(&kind.as_ref())));
    record_names::links(wanted.filter_map(|one| {
        let target = one.attribute("href")?;
        match one.attribute("ext-link-type").as_deref() {
            Some("pmid" | "pubmed") => record_names::pmid(&target).map(|pmid| format!("pmid:{pmid}")),
            Some("pmc" | "pmcid") => record_names::pmcid(&target).map(|pmcid| format!("pmcid:{pmcid}")),
            _ => record_names::doi(&target).map(|doi| format!("doi:{doi}")),
        }
    }))
}

/// The earliest year of publication, on paper or not.
fn year_of(meta: Element<'_>) -> Option<u16> {
    let published = meta.named(Name::PubDate).filter(|date| {
        let kinds = [date.attribute("pub-type"), date.attribute("date-type")];
        kinds.iter().flatten().any(|kind| PUBLICATION_DATES.contains(&kind.as_ref()))
    });
    let year = |date: Element<'_>| date.child(Name::Year).and_then(|year| first_year(&line_of(year)));
    published.filter_map(year).min().or_else(|| meta.named(Name::PubDate).filter_map(year).min())
}

fn meta_of(article: Article<'_>, ids: Identifiers, options: &ReadOptions) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.insert(name.to_string(), value);
        }
    };
    put("pmcid", ids.pmcid);
    put("pmid", ids.pmid);
    put("doi", ids.doi.and_then(|doi| record_names::doi(&doi)));
    let is_preprint = article.root.attribute("article-type").as_deref() == Some(PREPRINT_TYPE);
    let links = article.meta.and_then(|meta| preprint_links(meta, is_preprint));
    put(if is_preprint { PREPRINT_OF } else { PUBLISHED_FROM }, links);
    put("article_type", article.root.attribute("article-type").map(Cow::into_owned));
    put("language", article.root.attribute("lang").map(Cow::into_owned));
    let journal = article.root.path(&[Name::Front, Name::JournalMeta]);
    let journal = journal.and_then(|journal| {
        journal.path(&[Name::JournalTitleGroup, Name::JournalTitle]).or_else(|| journal.child(Name::JournalTitle))
    });
    put("journal", journal.map(line_of));
    let Some(meta) = article.meta else {
        return found;
    };
    let subjects = Terms::of(meta.named(Name::ArticleCategories).chain(meta.named(Name::SubjGroup)));
    let keywords = Terms::of(meta.named(Name::KwdGroup));
    put("subjects", Some(subjects.words.join(BETWEEN_VALUES)));
    put("keywords", Some(keywords.words.join(BETWEEN_VALUES)));
    put("subject_ids", Some([subjects.codes, keywords.codes].concat().join(BETWEEN_VALUES)));
    put("copyright", meta.child(Name::Permissions).and_then(copyright_of));
    translations(meta, options, &mut found);
    found
}

/// Subjects or keywords: their words, and their codes in some vocabulary.
#[derive(Debug, Default)]
struct Terms {
    words: Vec<String>,
    codes: Vec<String>,
}

impl Terms {
    fn of<'t>(groups: impl Iterator<Item = Element<'t>>) -> Self {
        let mut terms = Self::default();
        for element in groups.flat_map(|group| group.descendants(is_term)) {
            match element.name() {
                Name::Subject | Name::Kwd => terms.words.extend(lines(std::iter::once(element))),
                Name::CompoundSubjectPart | Name::CompoundKwdPart => {
                    let code = element.attribute("content-type").as_deref() == Some("code");
                    let words = if code { &mut terms.codes } else { &mut terms.words };
                    words.extend(lines(std::iter::once(element)));
                }
                _ => continue,
            }
            terms.codes.extend(element.attribute("vocab-term-identifier").map(Cow::into_owned).filter(|code| !code.is_empty()));
        }
        terms
    }
}

fn is_term(name: Name) -> bool {
    matches!(name, Name::Subject | Name::Kwd | Name::CompoundSubjectPart | Name::CompoundKwdPart)
}

/// The statement, else `© year holder`.
fn copyright_of(permissions: Element<'_>) -> Option<String> {
    let one = |name| permissions.child(name).map(line_of).filter(|text| !text.is_empty());
    one(Name::CopyrightStatement).or_else(|| {
        let parts: Vec<_> = [one(Name::CopyrightYear), one(Name::CopyrightHolder)].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("© {}", parts.join(" ")))
    })
}

/// Title and abstract in other languages.
fn translations(meta: Element<'_>, options: &ReadOptions, found: &mut BTreeMap<String, String>) {
    for part in meta.named(Name::TransAbstract) {
        let language = part.attribute("lang").unwrap_or_default();
        put_language(found, "abstract", &language, &Prose::of(part, options).join("\n\n"));
    }
    for group in meta.named(Name::TitleGroup).flat_map(|group| group.named(Name::TransTitleGroup)) {
        let title = group.child(Name::TransTitle).map(|title| Prose::line(title, options)).unwrap_or_default();
        let own = group.child(Name::TransTitle).and_then(|title| title.attribute("lang"));
        put_language(found, "title", &group.attribute("lang").or(own).unwrap_or_default(), &title);
    }
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
        let long = "1".repeat(1_025);
        check(["pmc", "pmid", "doi"].map(|kind| id(kind, &long)).concat() + &id("doi", "10.1/x"), ("10.1/x", 1));
        let spelled = id("pmc", "PMC1.2") + &id("pmid", "02") + &id("doi", "https://doi.org/10.1/X") + TITLE;
        let meta = document(&spelled, "").meta;
        assert_eq!([&meta["pmcid"], &meta["pmid"], &meta["doi"]], ["PMC1", "2", "10.1/x"]);
        // What is no DOI names the document and joins nothing.
        let odd = document(&(id("doi", "3") + TITLE), "");
        assert_eq!((odd.native_id.as_str(), odd.meta.get("doi")), ("3", None));
    }

    #[test]
    fn preprints_and_their_articles_name_each_other() {
        let check = |kind: &str, links: &[(&str, &str, &str)], expected: &[&str]| {
            let link = |(kind, by, target): &(&str, &str, &str)| {
                format!("<related-article related-article-type='{kind}' ext-link-type='{by}' xlink:href='{target}'/>")
            };
            let links: String = links.iter().map(link).collect();
            let xml = article(&(links + TITLE), "<p>x</p>").replace("<article>", &format!("<article article-type='{kind}'>"));
            let meta = testing::document(Format::Jats, &xml).meta;
            let found: Vec<String> = [PREPRINT_OF, PUBLISHED_FROM]
                .into_iter()
                .filter_map(|name| meta.get(name).map(|value| format!("{name}={value}")))
                .collect();
            assert_eq!(found, expected, "{xml}");
        };
        let server = ("preprint", "doi", "https://doi.org/10.1101/2020.A");
        check(
            "research-article",
            &[server, ("preprint", "uri", "https://example.org/1")],
            &["published_from=doi:10.1101/2020.a"],
        );
        check(
            "preprint",
            &[("published-article", "pmid", "12"), ("version-of-record", "pmc", "PMC5"), ("preprint", "doi", "10.1/other")],
            &["preprint_of=pmid:12 pmcid:PMC5"],
        );
        let others =
            ["corrected-article", "retracted-article", "retraction-forward", "commentary-article", "companion", "update"];
        for kind in ["research-article", "preprint", "correction"] {
            check(kind, &others.map(|other| (other, "doi", "10.1/x")), &[]);
        }
        check("research-article", &[("published-article", "doi", "10.1/x")], &[]);
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
        let expected =
            ["article_type=case-report", "journal=J", "keywords=k; l", "labels=no-body", "language=en", "subjects=A; B"];
        assert_eq!(found, expected);
    }

    #[test]
    fn codes_copyright_and_translations() {
        let meta = "<article-categories><subj-group><subject vocab-term-identifier='S1'>A</subject><compound-subject>\
            <compound-subject-part content-type='code'>S2</compound-subject-part><compound-subject-part content-type='text'>B\
            </compound-subject-part></compound-subject></subj-group></article-categories>\
            <title-group><article-title>T</article-title><trans-title-group xml:lang='fr'><trans-title>Titre</trans-title>\
            </trans-title-group></title-group><permissions><copyright-year>2001</copyright-year><copyright-holder>A</copyright-holder>\
            </permissions><trans-abstract xml:lang='fr'><p>un</p></trans-abstract><trans-abstract xml:lang='de'><p>eins</p>\
            </trans-abstract><trans-abstract xml:lang='fr'><p>deux</p></trans-abstract><kwd-group><kwd>k</kwd><compound-kwd>\
            <compound-kwd-part content-type='code'>K1</compound-kwd-part></compound-kwd></kwd-group>";
        let found = document(meta, "<p>x</p>");
        assert_eq!(found.text, "T\n\nx");
        let found: Vec<_> = found.meta.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "abstract_de=eins",
            "abstract_fr=un\n\ndeux",
            "copyright=© 2001 A",
            "keywords=k",
            "subject_ids=S1; S2; K1",
            "subjects=A; B",
            "title_fr=Titre",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn terms_within_terms_are_taken_once() {
        let nested = format!("{TITLE}<kwd-group>{}k{}</kwd-group>", "<kwd>".repeat(200), "</kwd>".repeat(200));
        assert_eq!(document(&nested, "<p>x</p>").meta["keywords"], "k");
    }

    #[test]
    fn labels_and_retractions() {
        let check = |kind: &str, meta: &str, body: &str, expected: (Option<&str>, bool)| {
            let xml = article(meta, body).replace("<article>", &format!("<article article-type='{kind}'>"));
            let meta = testing::document(Format::Jats, &xml).meta;
            assert_eq!((meta.get("labels").map(String::as_str), meta.contains_key(RETRACTED)), expected, "{kind} {xml}");
        };
        let title = |title: &str| format!("<title-group><article-title>{title}</article-title></title-group>");
        let body = "<p>x</p>";
        check("research-article", TITLE, body, (None, false));
        check("research-article", TITLE, "<sec><title>Gone</title></sec>", (Some("no-body"), false));
        check("correction", TITLE, "", (Some("no-body; correction"), false));
        check("retraction", &title("Retracted: A"), body, (Some("retraction"), false));
        check("research-article", &title("RETRACTED ARTICLE: A"), body, (None, true));
        let forward = format!("{TITLE}<related-article related-article-type='retraction-forward'/>");
        check("research-article", &forward, body, (None, true));
        let companion = format!("{TITLE}<related-article related-article-type='companion'/>");
        check("expression-of-concern", &companion, body, (Some("expression-of-concern"), false));
    }

    fn with_options(options: ReadOptions, xml: &str) -> Vec<Document> {
        let context = SourceContext { read: options, ..testing::context() };
        let input = Input::from_bytes(xml.as_bytes().to_vec());
        let mut reader = JatsReader::open(context, input, &Limits::default()).unwrap();
        let mut documents = Vec::new();
        while let Some(item) = reader.next() {
            match item.unwrap() {
                Item::Document(document) => documents.push(document),
                other => panic!("expected documents, got {other:?}"),
            }
        }
        documents
    }

    #[test]
    fn back_matter_by_option() {
        let xml = format!(
            "<article><front><article-meta>{TITLE}</article-meta></front><body><p>b</p></body><back>\
             <ack><title>Thanks</title><p>a</p></ack><app-group><app><title>App</title><p>p</p></app></app-group>\
             <fn-group><fn><label>1</label><p>f</p></fn><fn><p>g</p></fn></fn-group>\
             <ref-list><title>Refs</title><ref><mixed-citation>r</mixed-citation></ref></ref-list></back></article>"
        );
        let none = ReadOptions::default();
        let check = |options: ReadOptions, expected: &str| assert_eq!(with_options(options, &xml)[0].text, expected);
        check(none.clone(), "T\n\nb");
        check(ReadOptions { acknowledgements: true, ..none.clone() }, "T\n\nb\n\nThanks\n\na");
        check(ReadOptions { appendices: true, ..none.clone() }, "T\n\nb\n\nApp\n\np");
        check(ReadOptions { footnotes: true, ..none.clone() }, "T\n\nb\n\n1 f\n\ng");
        check(ReadOptions { references: true, ..none }, "T\n\nb\n\nRefs\n\nr");
    }

    #[test]
    fn sub_articles_apart() {
        let part = |id: &str, text: &str, more: &str| {
            format!(
                "<sub-article article-type='reply' {id}><front-stub>{TITLE}</front-stub><body><p>{text}</p></body>{more}</sub-article>"
            )
        };
        let parts =
            part("id='s1'", "one", &part("id='s1'", "two", "")) + "<response id='r'><body/></response>" + &part("", "three", "");
        let licence = "<permissions><license license-type='cc-by'/></permissions>";
        let xml = format!(
            "<article><front><article-meta><article-id pub-id-type='pmc'>5</article-id>{TITLE}<pub-date><year>2001</year></pub-date>\
             {licence}</article-meta></front><body><p>b</p></body>{parts}</article>"
        );
        assert_eq!(with_options(ReadOptions::default(), &xml).len(), 1);
        let found = with_options(ReadOptions { sub_articles: SubArticles::Separate, ..ReadOptions::default() }, &xml);
        let outline: Vec<_> = found.iter().map(|one| format!("{} {}", one.id, one.text.replace("\n\n", " "))).collect();
        let expected = ["source:PMC5 T b", "source:PMC5/s1 T one", "source:PMC5/#2 T two", "source:PMC5/#4 T three"];
        assert_eq!(outline, expected);
        let copied = xml.replace("id='s1'", "id='#2'").replacen("id='#2'", "id=''", 1);
        let found_again = with_options(ReadOptions { sub_articles: SubArticles::Separate, ..ReadOptions::default() }, &copied);
        let ids: Vec<_> = found_again.iter().map(|one| one.native_id.as_str()).collect();
        assert_eq!(ids, ["PMC5", "PMC5/#1", "PMC5/#2", "PMC5/#4"]);
        for one in &found[1..] {
            assert_eq!((one.meta["parent"].as_str(), one.meta["article_type"].as_str()), ("PMC5", "reply"));
            assert_eq!((one.year, one.licence.as_deref()), (Some(2001), Some("CC-BY")));
        }
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
        assert_eq!(outline("<art><ui>1471-1</ui></art>"), ["0 not-jats: root element art"]);
        let page = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0//EN\" \"x.dtd\"><html><body><p>502</p></body></html>";
        assert_eq!(outline(page), ["58 not-jats: root element html"]);
        assert_eq!(outline("<article/>"), ["0 empty-record"]);
        assert_eq!(outline("<article><body><sec><title>alone</title></sec></body></article>"), ["0 empty-record"]);
    }
}
