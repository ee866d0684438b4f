//! PubMed citations (`PubmedArticleSet`, `MedlineCitationSet`, book records) as documents: title and abstract.
//!
//! Authors, affiliations, references and abstracts of other publishers (`OtherAbstract`) are left out. A
//! `DeleteCitation` list yields nothing: it withdraws earlier records, and which to forget is `retract`'s matter.

use std::collections::BTreeMap;

use crate::document::{Document, text_id};
use crate::frame::FrameSpec;
use crate::input::Input;
use crate::prose::Prose;
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::records::XmlRecords;
use crate::reject::RejectReason;
use crate::xml::Element;

/// Stands between the values of a meta entry that has several.
pub(crate) const BETWEEN_VALUES: &str = "; ";
/// What PubMed writes where a citation has no title in English.
const NO_TITLE: [&str; 2] = ["[Not Available]", "[Not Available]."];
/// The label of abstract sections that have none.
const NO_LABEL: &str = "UNLABELLED";

static SPEC: FrameSpec = FrameSpec {
    roots: &["PubmedArticleSet", "MedlineCitationSet", "PubmedBookArticleSet"],
    records: &["PubmedArticle", "PubmedBookArticle", "MedlineCitation"],
    never_inside: &["PubmedArticle", "PubmedBookArticle"],
    wrong_root: |root| RejectReason::NotPubmed { root },
};

/// Reads PubMed XML: one document or reject a citation, in the order of the file.
///
/// `native_id` is the PMID, `version` its `Version`; `text` is the title, then the paragraphs of the abstract as
/// `LABEL: text`, with blank lines between. Meta: `pmid`, `pmcid`, `doi`, `journal`, `language`, `mesh`
/// (`Descriptor/Qualifier`), `keywords`, `publication_types`, `copyright`, `book`; several values are joined by `; `.
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

fn convert(root: Element<'_>, context: &SourceContext) -> Result<Document, RejectReason> {
    let (citation, article) = match root.name() {
        "PubmedBookArticle" => {
            let book = root.child("BookDocument").ok_or(RejectReason::EmptyRecord)?;
            (book, book)
        }
        name => {
            let citation = if name == "MedlineCitation" { Some(root) } else { root.child("MedlineCitation") };
            let citation = citation.ok_or(RejectReason::EmptyRecord)?;
            (citation, citation.child("Article").ok_or(RejectReason::EmptyRecord)?)
        }
    };
    let title = title_of(article);
    let text = text_of(title.as_deref(), article).ok_or(RejectReason::EmptyRecord)?;
    let pmid = pmid_of(citation)?;
    let native_id = pmid.clone().unwrap_or_else(|| text_id(&text));
    let mut document = context.document(native_id, text, 0);
    document.version = version_of(citation)?;
    document.title = title;
    document.year = year_of(article);
    document.meta = meta_of(root, citation, article);
    if let Some(pmid) = pmid {
        document.meta.insert("pmid".to_string(), pmid);
    }
    Ok(document)
}

/// The English title, else the one in the language of the article, else that of the book.
fn title_of(article: Element<'_>) -> Option<String> {
    let titles = [&["ArticleTitle"][..], &["VernacularTitle"], &["Book", "BookTitle"]];
    let mut found = titles.iter().filter_map(|path| line(article, path));
    found.find(|title| !NO_TITLE.contains(&title.as_str()))
}

/// Title and abstract; `None` when there is neither.
fn text_of(title: Option<&str>, article: Element<'_>) -> Option<String> {
    let mut paragraphs: Vec<String> = title.map(str::to_string).into_iter().collect();
    for part in article.named("Abstract").flat_map(|part| part.named("AbstractText")) {
        let inner = Prose::of(part).into_paragraphs();
        let Some((first, rest)) = inner.split_first() else {
            continue;
        };
        let label = part.attribute("Label").map(|label| label.trim().trim_end_matches(':').trim().to_string());
        match label.filter(|label| !label.is_empty() && label != NO_LABEL) {
            Some(label) => paragraphs.push(format!("{label}: {first}")),
            None => paragraphs.push(first.clone()),
        }
        paragraphs.extend_from_slice(rest);
    }
    (!paragraphs.is_empty()).then(|| paragraphs.join("\n\n"))
}

fn pmid_of(citation: Element<'_>) -> Result<Option<String>, RejectReason> {
    let Some(pmid) = line(citation, &["PMID"]) else {
        return Ok(None);
    };
    if pmid.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Some(pmid));
    }
    Err(RejectReason::InvalidValue { field: "PMID".to_string() })
}

fn version_of(citation: Element<'_>) -> Result<u32, RejectReason> {
    let Some(version) = citation.child("PMID").and_then(|pmid| pmid.attribute("Version")) else {
        return Ok(1);
    };
    version.trim().parse().map_err(|_| RejectReason::InvalidValue { field: "PMID Version".to_string() })
}

/// Year of the issue, of the season or span in words (`1998 Dec-1999 Jan`), of the electronic article, of the book.
fn year_of(article: Element<'_>) -> Option<u16> {
    let places: [&[&'static str]; 6] = [
        &["Journal", "JournalIssue", "PubDate", "Year"],
        &["Journal", "JournalIssue", "PubDate", "MedlineDate"],
        &["ArticleDate", "Year"],
        &["Book", "PubDate", "Year"],
        &["Book", "PubDate", "MedlineDate"],
        &["ContributionDate", "Year"],
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
    put("doi", identifier(root, article, "doi").into_iter().collect());
    put("pmcid", identifier(root, article, "pmc").into_iter().collect());
    put("journal", line(article, &["Journal", "Title"]).into_iter().collect());
    put("book", line(article, &["Book", "BookTitle"]).into_iter().collect());
    put("language", lines(article.named("Language")));
    put("mesh", citation.child("MeshHeadingList").map(mesh_of).unwrap_or_default());
    put("keywords", lines(citation.named("KeywordList").flat_map(|list| list.named("Keyword"))));
    let types = article.named("PublicationTypeList").flat_map(|list| list.named("PublicationType"));
    put("publication_types", lines(types.chain(article.named("PublicationType"))));
    put("copyright", line(article, &["Abstract", "CopyrightInformation"]).into_iter().collect());
    meta
}

/// `Descriptor`, or `Descriptor/Qualifier/Qualifier`.
fn mesh_of(list: Element<'_>) -> Vec<String> {
    let headings = list.named("MeshHeading").map(|heading| {
        let descriptor = heading.named("DescriptorName");
        lines(descriptor.chain(heading.named("QualifierName"))).join("/")
    });
    headings.filter(|heading| !heading.is_empty()).collect()
}

/// An identifier of the article itself (those of its references stand deeper).
fn identifier(root: Element<'_>, article: Element<'_>, kind: &str) -> Option<String> {
    let lists = [root.path(&["PubmedData", "ArticleIdList"]), article.child("ArticleIdList")];
    let listed = lists.into_iter().flatten().flat_map(|list| list.named("ArticleId"));
    let listed = listed.filter(|id| id.attribute("IdType").as_deref() == Some(kind));
    let located = article
        .named("ELocationID")
        .filter(|id| id.attribute("EIdType").as_deref() == Some(kind) && id.attribute("ValidYN").as_deref() != Some("N"));
    lines(listed.chain(located)).into_iter().next()
}

/// The text at a path on one line, unless there is none.
fn line(element: Element<'_>, path: &[&'static str]) -> Option<String> {
    element.path(path).map(Prose::line_of).filter(|text| !text.is_empty())
}

/// The texts of elements, empty ones left out.
pub(crate) fn lines<'t>(elements: impl Iterator<Item = Element<'t>>) -> Vec<String> {
    elements.map(Prose::line_of).filter(|text| !text.is_empty()).collect()
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
        check_outline(deleted, &[]);
        check_outline("<PubmedArticleSet></PubmedArticleSet>", &[]);
        // Two answers written one behind the other.
        let one =
            format!("<?xml version=\"1.0\"?><!DOCTYPE PubmedArticleSet><PubmedArticleSet>{}</PubmedArticleSet>\n", citation(7));
        check_outline(&one.repeat(2), &["7", "7"]);
    }

    #[test]
    fn a_record_without_pmid_is_named_by_its_text() {
        let xml = "<MedlineCitation><Article><ArticleTitle>T</ArticleTitle></Article></MedlineCitation>";
        assert_eq!(document(xml).native_id, text_id("T"));
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
