//! PubMed citations (`PubmedArticleSet`, `MedlineCitationSet`, book records) as documents: title and abstract.
//!
//! Notices become withdrawals: the lists of `DeleteCitation`, and what a notice of retraction cites as retracted. Authors,
//! affiliations, grants, chemicals, references and comments are left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::document::{Document, text_id};
use crate::frame::FrameSpec;
use crate::input::Input;
use crate::names::Name;
use crate::options::ReadOptions;
use crate::prose::{Prose, line_of};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::record_names::{self, links};
use crate::records::{Record, XmlRecords};
use crate::reject::RejectReason;
use crate::row::is_usable_id;
use crate::withdrawal::{Withdrawal, WithdrawalReason};
use crate::xml::Element;

/// Stands between the values of a meta entry that has several.
pub(crate) const BETWEEN_VALUES: &str = "; ";
/// The meta entry of what its journal took back; its value is `true`.
pub(crate) const RETRACTED: &str = "retracted";
/// What PubMed writes where a citation has no title in English.
const NO_TITLE: [&str; 2] = ["[Not Available]", "[Not Available]."];
/// The label of abstract sections that have none.
const NO_LABEL: &str = "UNLABELLED";
/// The type that PubMed gives to an article when it is retracted.
const RETRACTED_TYPE: &str = "Retracted Publication";
/// The type that PubMed gives to preprints.
const PREPRINT_TYPE: &str = "Preprint";
/// The meta entry of a preprint that names the article it became.
pub(crate) const PREPRINT_OF: &str = "preprint_of";
/// The meta entry of an article that names its preprint.
pub(crate) const PUBLISHED_FROM: &str = "published_from";
/// Servers of preprints as PubMed writes them where it cites one, in lower case. Updates of other sources (a review, a
/// guideline) are works of their own.
const PREPRINT_SERVERS: [&str; 9] =
    ["arxiv", "biorxiv", "chemrxiv", "medrxiv", "preprints.org", "psyarxiv", "res sq", "research square", "ssrn"];

static SPEC: FrameSpec = FrameSpec {
    roots: &["PubmedArticleSet", "MedlineCitationSet", "PubmedBookArticleSet"],
    records: &["PubmedArticle", "PubmedBookArticle", "MedlineCitation", "DeleteCitation", "DeleteDocument"],
    never_inside: &["PubmedArticle", "PubmedBookArticle", "DeleteCitation", "DeleteDocument"],
    wrong_root: |root| RejectReason::NotPubmed { root },
};

/// Reads PubMed XML: a citation is one document or reject, in the order of the file; see [`Withdrawal`] for notices.
///
/// `native_id` is the PMID, `version` its `Version`; `text` is the title, then the paragraphs of the abstract as
/// `LABEL: text`, with blank lines between. Meta: `pmid`, `pmcid`, `doi`, `pii`, `journal`, `language`, `mesh`
/// (`Descriptor/Qualifier`), `keywords`, `publication_types`, `copyright`, `book`; several values are joined by `; `.
/// Further `vernacular_title` where the text has an English one, `abstract_LANGUAGE` (PubMed's three letters) for abstracts
/// of other languages and providers, and `retracted` = `true`. `preprint_of` and `published_from` link a preprint and its
/// article, as names with spaces between them (`pmid:123 doi:10.1/x`).
#[derive(Debug)]
pub struct PubmedReader(XmlRecords);

impl PubmedReader {
    /// Opens an object.
    ///
    /// # Errors
    /// None at present: the first bytes are read by the first `next`.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        Ok(Self(XmlRecords::new(context, input, limits, &SPEC, convert)))
    }
}

impl Reader for PubmedReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        self.0.next()
    }
}

fn convert(record: &Record<'_>, items: &mut Vec<Item>) -> Result<(), RejectReason> {
    let root = record.root;
    if matches!(root.name(), Name::DeleteCitation | Name::DeleteDocument) {
        let pmids: Vec<_> = root.named(Name::Pmid).collect();
        return withdraw(&pmids, WithdrawalReason::Deleted, record.offset, items);
    }
    let (citation, article) = match root.name() {
        Name::PubmedBookArticle => {
            let book = root.child(Name::BookDocument).ok_or(RejectReason::EmptyRecord)?;
            (book, Some(book))
        }
        name => {
            let citation = if name == Name::MedlineCitation { Some(root) } else { root.child(Name::MedlineCitation) };
            let citation = citation.ok_or(RejectReason::EmptyRecord)?;
            (citation, citation.child(Name::PubmedArticle))
        }
    };
    // A notice says whom it retracts even where it has no text of its own.
    let retracted: Vec<_> =
        corrections(citation, &["RetractionOf", "RetractedandRepublishedFrom"]).filter_map(|one| one.child(Name::Pmid)).collect();
    withdraw(&retracted, WithdrawalReason::Retracted, record.offset, items)?;
    let document = article.map_or(Err(RejectReason::EmptyRecord), |article| document(record, citation, article));
    let types = article.map(publication_types).unwrap_or_default();
    // A citation that is marked and has no text is no document, and takes those before it back all the same.
    if matches!(document, Err(RejectReason::EmptyRecord)) && is_retracted(citation, &types) {
        withdraw(&citation.child(Name::Pmid).into_iter().collect::<Vec<_>>(), WithdrawalReason::Retracted, record.offset, items)?;
    }
    items.push(Item::Document(document?));
    Ok(())
}

fn withdraw(pmids: &[Element<'_>], reason: WithdrawalReason, offset: u64, items: &mut Vec<Item>) -> Result<(), RejectReason> {
    let mut unusable = false;
    for pmid in pmids.iter().map(|pmid| line_of(*pmid)) {
        if is_pmid(&pmid) {
            items.push(Item::Withdrawal(Withdrawal { native_id: pmid, byte_offset: offset, reason }));
        } else {
            unusable = true;
        }
    }
    if unusable { Err(invalid("PMID")) } else { Ok(()) }
}

fn document(record: &Record<'_>, citation: Element<'_>, article: Element<'_>) -> Result<Document, RejectReason> {
    let options = &record.context.read;
    let title = title_of(article, options);
    let text = text_of(title.as_deref(), article, options).ok_or(RejectReason::EmptyRecord)?;
    let pmid = pmid_of(citation)?.or_else(|| identifier(record.root, article, "pubmed").filter(|id| is_pmid(id)));
    let mut document = record.document(pmid.clone().unwrap_or_else(|| text_id(&text)), text);
    document.version = version_of(citation)?;
    document.year = year_of(article);
    document.meta = meta_of(record.root, citation, article);
    if let Some(vernacular) = line(article, &[Name::VernacularTitle]).filter(|vernacular| Some(vernacular) != title.as_ref()) {
        document.meta.insert("vernacular_title".to_string(), vernacular);
    }
    other_abstracts(citation, options, &mut document.meta);
    if let Some(pmid) = pmid {
        document.meta.insert("pmid".to_string(), pmid);
    }
    document.title = title;
    Ok(document)
}

/// The English title, else the one in the language of the article, else that of the book.
fn title_of(article: Element<'_>, options: &ReadOptions) -> Option<String> {
    let titles = [&[Name::ArticleTitle][..], &[Name::VernacularTitle], &[Name::Book, Name::BookTitle]];
    let mut found = titles.iter().filter_map(|path| article.path(path)).map(|title| Prose::line(title, options));
    found.find(|title| !title.is_empty() && !NO_TITLE.contains(&title.as_str()))
}

/// Title and abstract; `None` when there is neither.
fn text_of(title: Option<&str>, article: Element<'_>, options: &ReadOptions) -> Option<String> {
    let mut paragraphs: Vec<String> = title.map(str::to_string).into_iter().collect();
    paragraphs.extend(article.named(Name::PubmedAbstract).flat_map(|part| paragraphs_of(part, options)));
    (!paragraphs.is_empty()).then(|| paragraphs.join("\n\n"))
}

fn paragraphs_of(part: Element<'_>, options: &ReadOptions) -> Vec<String> {
    let mut paragraphs = Vec::new();
    for section in part.named(Name::AbstractText) {
        let first = paragraphs.len();
        paragraphs.extend(Prose::of(section, options));
        let label = section.attribute("Label").unwrap_or_default();
        let label = label.trim().trim_end_matches(':').trim();
        if let Some(paragraph) = paragraphs.get_mut(first).filter(|_| !label.is_empty() && label != NO_LABEL) {
            *paragraph = format!("{label}: {paragraph}");
        }
    }
    paragraphs
}

/// Abstracts in other languages, and in English those that others than the journal wrote.
fn other_abstracts(citation: Element<'_>, options: &ReadOptions, meta: &mut BTreeMap<String, String>) {
    for part in citation.named(Name::OtherAbstract) {
        let text = paragraphs_of(part, options).join("\n\n");
        let language = part.attribute("Language").unwrap_or(Cow::Borrowed("eng"));
        put_language(meta, "abstract", &language, &text);
    }
}

/// Adds a text to `WHAT_LANGUAGE`; letters, digits and `-` make a language.
pub(crate) fn put_language(meta: &mut BTreeMap<String, String>, what: &str, language: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    let usable = !language.is_empty() && language.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let key = format!("{what}_{}", if usable { language } else { "other" });
    let value = meta.entry(key).or_default();
    if !value.is_empty() {
        value.push_str("\n\n");
    }
    value.push_str(text);
}

/// The corrections and comments of these kinds.
fn corrections<'t, 'k>(citation: Element<'t>, kinds: &'k [&'k str]) -> impl Iterator<Item = Element<'t>> {
    let lists = citation.named(Name::CommentsCorrectionsList);
    let all = lists.flat_map(|list| list.named(Name::CommentsCorrections));
    all.filter(move |one| one.attribute("RefType").is_some_and(|kind| kinds.contains(&kind.as_ref())))
}

fn is_pmid(text: &str) -> bool {
    is_usable_id(text) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn invalid(field: &str) -> RejectReason {
    RejectReason::InvalidValue { field: field.to_string() }
}

fn pmid_of(citation: Element<'_>) -> Result<Option<String>, RejectReason> {
    match line(citation, &[Name::Pmid]) {
        Some(pmid) if !is_pmid(&pmid) => Err(invalid("PMID")),
        pmid => Ok(pmid),
    }
}

fn version_of(citation: Element<'_>) -> Result<u32, RejectReason> {
    let Some(version) = citation.child(Name::Pmid).and_then(|pmid| pmid.attribute("Version")) else {
        return Ok(1);
    };
    version.trim().parse().map_err(|_| invalid("PMID Version"))
}

/// Year of the issue, of the season or span in words (`1998 Dec-1999 Jan`), of the electronic article, of the book.
fn year_of(article: Element<'_>) -> Option<u16> {
    let places: [&[Name]; 6] = [
        &[Name::Journal, Name::JournalIssue, Name::PubmedPubDate, Name::PubmedYear],
        &[Name::Journal, Name::JournalIssue, Name::PubmedPubDate, Name::MedlineDate],
        &[Name::ArticleDate, Name::PubmedYear],
        &[Name::Book, Name::PubmedPubDate, Name::PubmedYear],
        &[Name::Book, Name::PubmedPubDate, Name::MedlineDate],
        &[Name::ContributionDate, Name::PubmedYear],
    ];
    places.iter().filter_map(|path| line(article, path)).find_map(|text| first_year(&text))
}

/// The first group of exactly four digits.
pub(crate) fn first_year(text: &str) -> Option<u16> {
    text.split(|one: char| !one.is_ascii_digit()).find(|digits| digits.len() == 4)?.parse().ok()
}

fn meta_of(root: Element<'_>, citation: Element<'_>, article: Element<'_>) -> BTreeMap<String, String> {
    let mut meta = BTreeMap::new();
    let mut put = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            meta.insert(name.to_string(), values.join(BETWEEN_VALUES));
        }
    };
    let own = |kind: &str| identifier(root, article, kind);
    put("doi", own("doi").and_then(|doi| record_names::doi(&doi)).into_iter().collect());
    put("pmcid", own("pmc").and_then(|pmcid| record_names::pmcid(&pmcid)).into_iter().collect());
    put("pii", own("pii").into_iter().collect());
    put("journal", line(article, &[Name::Journal, Name::PubmedTitle]).into_iter().collect());
    put("book", line(article, &[Name::Book, Name::BookTitle]).into_iter().collect());
    put("language", lines(article.named(Name::Language)));
    put("mesh", citation.child(Name::MeshHeadingList).map(mesh_of).unwrap_or_default());
    put("keywords", lines(citation.named(Name::KeywordList).flat_map(|list| list.named(Name::Keyword))));
    let types = publication_types(article);
    let retracted = is_retracted(citation, &types);
    let is_preprint = types.iter().any(|kind| kind == PREPRINT_TYPE);
    put(if is_preprint { PREPRINT_OF } else { PUBLISHED_FROM }, preprint_links(citation, is_preprint).into_iter().collect());
    put("publication_types", types);
    put("copyright", line(article, &[Name::PubmedAbstract, Name::CopyrightInformation]).into_iter().collect());
    if retracted {
        put(RETRACTED, vec!["true".to_string()]);
    }
    meta
}

fn publication_types(article: Element<'_>) -> Vec<String> {
    let types = article.named(Name::PublicationTypeList).flat_map(|list| list.named(Name::PublicationType));
    lines(types.chain(article.named(Name::PublicationType)))
}

/// Whether a citation says that its journal took the article back.
fn is_retracted(citation: Element<'_>, types: &[String]) -> bool {
    types.iter().any(|kind| kind == RETRACTED_TYPE)
        || corrections(citation, &["RetractionIn", "RetractedandRepublishedIn"]).next().is_some()
}

/// The article that a preprint became, or the preprint that an article comes from.
fn preprint_links(citation: Element<'_>, is_preprint: bool) -> Option<String> {
    let kinds: &[&str] = if is_preprint { &["UpdateIn"] } else { &["UpdateOf"] };
    let cited = corrections(citation, kinds).filter(|one| is_preprint || cites_a_preprint(*one));
    links(cited.flat_map(|one| {
        let pmid = line(one, &[Name::Pmid]).and_then(|pmid| record_names::pmid(&pmid));
        let doi = line(one, &[Name::RefSource]).and_then(|cited| cited_doi(&cited));
        [pmid.map(|pmid| format!("pmid:{pmid}")), doi.map(|doi| format!("doi:{doi}"))].into_iter().flatten()
    }))
}

/// Whether a citation begins with a server of preprints: `medRxiv. 2023 Apr 05:…`.
fn cites_a_preprint(correction: Element<'_>) -> bool {
    let cited = line(correction, &[Name::RefSource]).unwrap_or_default().to_lowercase();
    PREPRINT_SERVERS.iter().any(|server| cited.strip_prefix(server).is_some_and(|rest| rest.starts_with(['.', ' ', '['])))
}

/// The DOI of a citation, which ends in `doi: 10.1/x.`.
fn cited_doi(cited: &str) -> Option<String> {
    let (_, behind) = cited.rsplit_once("doi:")?;
    record_names::doi(behind.split_whitespace().next()?)
}

/// `Descriptor`, or `Descriptor/Qualifier/Qualifier`.
fn mesh_of(list: Element<'_>) -> Vec<String> {
    let headings = list.named(Name::MeshHeading).map(|heading| {
        let descriptor = heading.named(Name::Descriptor);
        lines(descriptor.chain(heading.named(Name::Qualifier))).join("/")
    });
    headings.filter(|heading| !heading.is_empty()).collect()
}

/// An identifier of the article itself (those of its references stand deeper).
fn identifier(root: Element<'_>, article: Element<'_>, kind: &str) -> Option<String> {
    let lists = [root.path(&[Name::PubmedData, Name::ArticleIdList]), article.child(Name::ArticleIdList)];
    let listed = lists.into_iter().flatten().flat_map(|list| list.named(Name::PubmedArticleId));
    let listed = listed.filter(|id| id.attribute("IdType").as_deref() == Some(kind));
    let located = article
        .named(Name::ELocationId)
        .filter(|id| id.attribute("EIdType").as_deref() == Some(kind) && id.attribute("ValidYN").as_deref() != Some("N"));
    lines(listed.chain(located)).into_iter().next()
}

/// The text at a path on one line, unless there is none.
fn line(element: Element<'_>, path: &[Name]) -> Option<String> {
    element.path(path).map(line_of).filter(|text| !text.is_empty())
}

/// The texts of elements, empty ones left out.
pub(crate) fn lines<'t>(elements: impl Iterator<Item = Element<'t>>) -> Vec<String> {
    elements.map(line_of).filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Format;
    use crate::records::testing;

    fn article(inside: &str) -> String {
        let article = format!("<MedlineCitation><PMID Version=\"2\">7</PMID><Article>{inside}</Article></MedlineCitation>");
        format!("<PubmedArticleSet><PubmedArticle>{article}</PubmedArticle></PubmedArticleSet>")
    }

    fn document(xml: &str) -> Document {
        testing::document(Format::PubmedXml, xml)
    }

    fn check_text(inside: &str, expected: &str) {
        assert_eq!(document(&article(inside)).text, expected, "{inside}");
    }

    fn check_outline(xml: &str, expected: &[&str]) {
        assert_eq!(testing::outline(Format::PubmedXml, xml.as_bytes(), &Limits::default()), expected, "{xml}");
    }

    #[test]
    fn title_and_abstract() {
        check_text("<ArticleTitle>T.</ArticleTitle>", "T.");
        check_text("<ArticleTitle>T.</ArticleTitle><Abstract><AbstractText>A  b\n c.</AbstractText></Abstract>", "T.\n\nA b c.");
        check_text("<Abstract><AbstractText>A.</AbstractText></Abstract>", "A.");
        check_text("<ArticleTitle/><VernacularTitle>Ü.</VernacularTitle>", "Ü.");
        check_text("<ArticleTitle>[Not Available].</ArticleTitle><VernacularTitle>Ü.</VernacularTitle>", "Ü.");
    }

    #[test]
    fn labels_stand_before_their_paragraphs() {
        check_text(
            "<ArticleTitle>T.</ArticleTitle><Abstract>\
             <AbstractText Label=\"AIM &amp; SCOPE\" NlmCategory=\"OBJECTIVE\">a</AbstractText>\
             <AbstractText Label=\"METHODS:\">b</AbstractText>\
             <AbstractText Label=\"UNLABELLED\">c</AbstractText>\
             <AbstractText Label=\"EMPTY\"/><AbstractText Label=\"\">d</AbstractText>\
             <CopyrightInformation>© X</CopyrightInformation></Abstract>\
             <OtherAbstract><AbstractText>autre</AbstractText></OtherAbstract>",
            "T.\n\nAIM & SCOPE: a\n\nMETHODS: b\n\nc\n\nd",
        );
    }

    #[test]
    fn inline_markup_becomes_readable() {
        check_text(
            "<ArticleTitle>H<sub>2</sub>O, <i>E. coli</i> &lt; 5 &#8805; &alpha;<b>x</b></ArticleTitle>",
            "H2O, E. coli < 5 ≥ αx",
        );
        check_text("<ArticleTitle>10<sup>-3</sup> m<sup>2</sup>, Ca<sup>2+</sup></ArticleTitle>", "10^-3 m2, Ca2+");
        check_text(
            "<ArticleTitle>at <mml:math><mml:msub><mml:mi>x</mml:mi><mml:mn>1</mml:mn></mml:msub></mml:math> now</ArticleTitle>",
            "at x_1 now",
        );
        check_text("<ArticleTitle><![CDATA[a < b]]><!-- no --></ArticleTitle>", "a < b");
    }

    #[test]
    fn facts_of_the_record() {
        let found = document(
            "<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID Version=\"3\">12</PMID><Article>\
             <Journal><JournalIssue><PubDate><MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue>\
             <Title>J.</Title></Journal><ArticleTitle>T.</ArticleTitle>\
             <ELocationID EIdType=\"doi\" ValidYN=\"N\">10.1/bad</ELocationID>\
             <Language>ger</Language><Language>eng</Language>\
             <PublicationTypeList><PublicationType>Review</PublicationType></PublicationTypeList></Article>\
             <MeshHeadingList><MeshHeading><DescriptorName>Heart</DescriptorName><QualifierName>injuries</QualifierName>\
             <QualifierName>surgery</QualifierName></MeshHeading><MeshHeading><DescriptorName>Humans</DescriptorName>\
             </MeshHeading></MeshHeadingList><KeywordList><Keyword>k1</Keyword><Keyword> k2 </Keyword></KeywordList>\
             </MedlineCitation><PubmedData><ArticleIdList><ArticleId IdType=\"pmc\">PMC9</ArticleId>\
             <ArticleId IdType=\"doi\">10.1/good</ArticleId></ArticleIdList><ReferenceList><Reference><ArticleIdList>\
             <ArticleId IdType=\"doi\">10.1/other</ArticleId></ArticleIdList></Reference></ReferenceList></PubmedData>\
             </PubmedArticle></PubmedArticleSet>",
        );
        let meta: Vec<_> = found.meta.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "doi=10.1/good",
            "journal=J.",
            "keywords=k1; k2",
            "language=ger; eng",
            "mesh=Heart/injuries/surgery; Humans",
            "pmcid=PMC9",
            "pmid=12",
            "publication_types=Review",
        ];
        assert_eq!(meta, expected);
        assert_eq!((found.id.as_str(), found.version, found.year), ("source:12", 3, Some(1998)));
        assert_eq!(found.title.as_deref(), Some("T."));
        assert_eq!(found.licence.as_deref(), Some("stated by the source"));
        assert_eq!(found.origin.byte_offset, 18);
    }

    #[test]
    fn years() {
        let check = |date: &str, expected| {
            let inside = format!("<ArticleTitle>T</ArticleTitle>{date}");
            assert_eq!(document(&article(&inside)).year, expected, "{date}");
        };
        let issue = |date: &str| format!("<Journal><JournalIssue><PubDate>{date}</PubDate></JournalIssue></Journal>");
        check(&issue("<Year>2004</Year>"), Some(2004));
        check(&issue("<MedlineDate>Winter 1999-2000</MedlineDate>"), Some(1999));
        check("<ArticleDate><Year>2011</Year></ArticleDate>", Some(2011));
        check("", None);
        check(&issue("<Year>19</Year>"), None);
    }

    #[test]
    fn roots_and_records() {
        let citation = |id: u32| {
            format!("<MedlineCitation><PMID>{id}</PMID><Article><ArticleTitle>T</ArticleTitle></Article></MedlineCitation>")
        };
        check_outline(&format!("<MedlineCitationSet>{}{}</MedlineCitationSet>", citation(1), citation(2)), &["1", "2"]);
        check_outline(&format!("<PubmedArticle>{}</PubmedArticle>", citation(3)), &["3"]);
        let book = "<PubmedBookArticleSet><PubmedBookArticle><BookDocument><PMID>4</PMID><Book><BookTitle>B</BookTitle></Book>\
            </BookDocument></PubmedBookArticle></PubmedBookArticleSet>";
        check_outline(book, &["4"]);
        let deleted = "<PubmedArticleSet><DeleteCitation><PMID>5</PMID>\n<PMID>6</PMID></DeleteCitation></PubmedArticleSet>";
        check_outline(deleted, &["deleted 5", "deleted 6"]);
        check_outline("<PubmedArticleSet></PubmedArticleSet>", &[]);
        // Two answers written one behind the other.
        let one =
            format!("<?xml version=\"1.0\"?><!DOCTYPE PubmedArticleSet><PubmedArticleSet>{}</PubmedArticleSet>\n", citation(7));
        check_outline(&one.repeat(2), &["7", "7"]);
    }

    #[test]
    fn notices_withdraw_what_they_cite() {
        let cites = |kind: &str, pmid: &str| {
            format!(
                "<CommentsCorrectionsList><CommentsCorrections RefType=\"{kind}\"><PMID>{pmid}</PMID></CommentsCorrections></CommentsCorrectionsList>"
            )
        };
        let citation = |more: &str| {
            format!("<MedlineCitation><PMID>1</PMID><Article><ArticleTitle>T</ArticleTitle></Article>{more}</MedlineCitation>")
        };
        check_outline(&citation(&cites("RetractionOf", "9")), &["retracted 9", "1"]);
        check_outline(&citation(&cites("RetractedandRepublishedFrom", "9")), &["retracted 9", "1"]);
        check_outline(&citation(&cites("CommentOn", "9")), &["1"]);
        check_outline(&citation(&cites("RetractionOf", "x")), &["0 invalid-value: field PMID"]);
        // What is said of other records, and of itself, stands without a text and without an article.
        for article in ["<Article></Article>", ""] {
            let bare = |more: &str| format!("<MedlineCitation><PMID>1</PMID>{article}{more}</MedlineCitation>");
            let found = |more: &str, expected: &[&str]| {
                let expected: Vec<&str> = expected.iter().copied().chain(["0 empty-record"]).collect();
                check_outline(&bare(more), &expected);
            };
            found(&cites("RetractionOf", "9"), &["retracted 9"]);
            found(&cites("RetractionIn", "9"), &["retracted 1"]);
            found(&cites("CommentOn", "9"), &[]);
        }
        check_outline(
            "<DeleteCitation><PMID>5</PMID><PMID/><PMID>6</PMID></DeleteCitation>",
            &["deleted 5", "deleted 6", "0 invalid-value: field PMID"],
        );
        // A list of deletions ends a record that is never closed.
        let unclosed = "<PubmedArticleSet><PubmedArticle><DeleteCitation><PMID>5</PMID></DeleteCitation></PubmedArticleSet>";
        check_outline(unclosed, &["18 malformed-xml: a record that is never closed", "deleted 5"]);
        let retracted = |xml: &str| document(xml).meta.get(RETRACTED).cloned();
        assert_eq!(retracted(&citation("")), None);
        assert_eq!(retracted(&citation(&cites("RetractionIn", "9"))).as_deref(), Some("true"));
        let typed = article(
            "<ArticleTitle>T</ArticleTitle><PublicationTypeList><PublicationType>Retracted Publication</PublicationType></PublicationTypeList>",
        );
        assert_eq!(retracted(&typed).as_deref(), Some("true"));
    }

    #[test]
    fn preprints_and_their_articles_name_each_other() {
        let check = |types: &str, links: &[(&str, &str, &str)], expected: &[&str]| {
            let link = |(kind, source, pmid): &(&str, &str, &str)| {
                format!(
                    "<CommentsCorrections RefType=\"{kind}\"><RefSource>{source}</RefSource><PMID>{pmid}</PMID></CommentsCorrections>"
                )
            };
            let links: String = links.iter().map(link).collect();
            let xml = format!(
                "<MedlineCitation><PMID>1</PMID><Article><ArticleTitle>T</ArticleTitle><PublicationTypeList>\
                 <PublicationType>{types}</PublicationType></PublicationTypeList></Article>\
                 <CommentsCorrectionsList>{links}</CommentsCorrectionsList></MedlineCitation>"
            );
            let meta = document(&xml).meta;
            let found: Vec<String> = [PREPRINT_OF, PUBLISHED_FROM]
                .into_iter()
                .filter_map(|name| meta.get(name).map(|value| format!("{name}={value}")))
                .collect();
            assert_eq!(found, expected, "{xml}");
        };
        let journal = "J Inv Med. 2024 Sep 1;7(3):99. doi: 10.1/J.99.";
        check(
            "Preprint",
            &[("UpdateIn", journal, "12"), ("CommentIn", "A", "13"), ("UpdateOf", "medRxiv. 2020", "14")],
            &["preprint_of=pmid:12 doi:10.1/j.99"],
        );
        let server = "medRxiv. 2023 Apr 05:2023.03. doi: 10.1101/2023.03.";
        let both = [("UpdateOf", server, "21"), ("UpdateOf", "Res Sq [Preprint]. 2022", "22")];
        check("Journal Article", &both, &["published_from=pmid:21 doi:10.1101/2023.03 pmid:22"]);
        // A review that updates a review, in both directions, and notices of every kind are works of their own.
        check(
            "Review",
            &[("UpdateOf", "Cochrane Database Syst Rev. 2010;(3):CD1", "31"), ("UpdateIn", "Arxivology. 2012", "32")],
            &[],
        );
        let others = ["ErratumIn", "ErratumFor", "RetractionIn", "CommentOn", "CommentIn", "RepublishedIn", "Cites"];
        check("Preprint", &others.map(|kind| (kind, journal, "41")), &[]);
        check("Preprint", &[("UpdateIn", "no doi", "x")], &[]);
    }

    #[test]
    fn other_languages_stand_apart() {
        let inside = "<PubmedArticle><MedlineCitation><PMID>7</PMID><Article><ArticleTitle>T.</ArticleTitle><Abstract>\
            <AbstractText>a</AbstractText></Abstract><VernacularTitle>Titre.</VernacularTitle>\
            <ELocationID EIdType=\"pii\">S1</ELocationID></Article>\
            <OtherAbstract Type=\"Publisher\" Language=\"fre\"><AbstractText Label=\"BUT\">un</AbstractText><AbstractText>deux</AbstractText>\
            </OtherAbstract><OtherAbstract Type=\"plain-language-summary\"><AbstractText>plain</AbstractText></OtherAbstract>\
            <OtherAbstract Language=\"f r\"><AbstractText>x</AbstractText></OtherAbstract></MedlineCitation></PubmedArticle>";
        let found = document(inside);
        assert_eq!(found.text, "T.\n\na");
        let meta: Vec<_> = found.meta.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "abstract_eng=plain",
            "abstract_fre=BUT: un\n\ndeux",
            "abstract_other=x",
            "pii=S1",
            "pmid=7",
            "vernacular_title=Titre.",
        ];
        assert_eq!(meta, expected);
        let only = document(&article("<ArticleTitle/><VernacularTitle>Titre.</VernacularTitle>"));
        assert!(!only.meta.contains_key("vernacular_title"));
    }

    #[test]
    fn a_record_without_pmid_is_named_by_its_text() {
        let xml = "<MedlineCitation><Article><ArticleTitle>T</ArticleTitle></Article></MedlineCitation>";
        assert_eq!(document(xml).native_id, text_id("T"));
        let listed = format!(
            "<PubmedArticle>{xml}<PubmedData><ArticleIdList><ArticleId IdType=\"pubmed\">8</ArticleId></ArticleIdList></PubmedData>\
             </PubmedArticle>"
        );
        assert_eq!(document(&listed).native_id, "8");
    }

    #[test]
    fn what_cannot_be_a_document() {
        check_outline("<html><body/></html>", &["0 not-pubmed: root element html"]);
        check_outline("<?xml version='1.0'?>\n<pmc-articleset/>", &["22 not-pubmed: root element pmc-articleset"]);
        check_outline("Pubmed-entry ::= { }", &["0 not-xml"]);
        check_outline("", &["0 empty-object"]);
        check_outline(" \n", &["0 empty-object"]);
        check_outline("<PubmedArticle/>", &["0 empty-record"]);
        check_outline(&article(""), &["18 empty-record"]);
        check_outline(&article("<ArticleTitle> </ArticleTitle>"), &["18 empty-record"]);
        check_outline(
            "<MedlineCitation><PMID>x1</PMID><Article><ArticleTitle>T</ArticleTitle></Article></MedlineCitation>",
            &["0 invalid-value: field PMID"],
        );
    }
}
