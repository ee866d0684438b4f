//! The PubMed files: citations with structured and plain abstracts, updates, copies and malformed records.

use crate::expected::{Leak, SourceExpectation};
use crate::generator::Generator;
use crate::literature::{Abstract, write_abstract};
use crate::markup::{escape, inline};
use crate::phrases::capitalised;
use crate::questions::LongItem;
use crate::world::CONDITIONS;

/// Citations that are neither copies nor updates.
const CITATIONS: u64 = 620;
/// PMIDs begin here; real ones are far below.
const FIRST_PMID: u64 = 90_000_001;
const MONTHS: [&str; 6] = ["Jan", "Mar", "May", "Jul", "Sep", "Nov"];
const JOURNALS: [&str; 5] = [
    "Annals of Invented Medicine",
    "Halvern Medical Journal",
    "The Castermoor Letters of Health",
    "Archives of Imaginary Therapeutics",
    "Journal of Made-up Trials & Cohorts",
];
const SURNAME_STARTS: [&str; 8] = ["Orv", "Tess", "Mal", "Quin", "Bren", "Hal", "Sork", "Vint"];
const SURNAME_ENDS: [&str; 6] = ["alen", "ickova", "oriss", "emaar", "uvold", "antey"];

/// A citation as it stands in a file.
#[derive(Clone, Debug)]
pub struct Citation {
    /// Its number.
    pub pmid: u64,
    /// Its version.
    pub version: u32,
    /// Its text.
    pub content: Abstract,
    /// Spaces between sentences in the file.
    blanks: &'static str,
}

/// The citations, their files before compression, and what is expected of them.
pub struct Pubmed {
    /// Name and XML of each file.
    pub files: Vec<(String, String)>,
    /// All citations, copies and updates included.
    pub citations: Vec<Citation>,
    /// Expectation of the source.
    pub expected: SourceExpectation,
}

/// Writes the files. `leaks` are benchmark questions, one for each contaminated citation.
pub fn write(leaks: &[&LongItem], partial: &LongItem) -> Pubmed {
    let mut generator = Generator::named("pubmed");
    let mut expected = SourceExpectation::new("pubmed-xml", "pubmed/*.xml.gz", "biomedical");
    let mut citations: Vec<Citation> = (0..CITATIONS)
        .map(|number| Citation {
            pmid: FIRST_PMID + number,
            version: 1,
            content: write_abstract(number as usize % CONDITIONS.len(), &mut generator),
            blanks: " ",
        })
        .collect();
    plant_leaks(&mut citations, leaks, partial, &mut expected);
    plant_copies(&mut citations, &mut expected);
    let updates = updates_of(&citations, &mut expected);
    let middle = citations.len() / 2;
    let mut files = Vec::new();
    for (number, part) in [&citations[..middle], &citations[middle..]].into_iter().enumerate() {
        files.push((format!("pubmed26n000{}.xml.gz", number + 1), article_set(part, "")));
    }
    files.push(("pubmed26n0003.xml.gz".to_owned(), article_set(&updates, &oddities(&mut expected))));
    citations.extend(updates);
    for _ in &citations {
        expected.document();
    }
    Pubmed { files, citations, expected }
}

/// Puts whole questions, and one half of a question, into citations as a sentence of their own.
fn plant_leaks(citations: &mut [Citation], leaks: &[&LongItem], partial: &LongItem, expected: &mut SourceExpectation) {
    let mut put = |at: usize, sentence: &str| {
        let (_, sentences) = &mut citations[at].content.sections[0];
        sentences.insert(1, sentence.to_owned());
        citations[at].pmid.to_string()
    };
    for (number, item) in leaks.iter().enumerate() {
        let document = put(100 + 7 * number, &item.question);
        expected.contaminated.push(Leak { document, item: item.id.clone() });
    }
    let words: Vec<&str> = partial.question.split(' ').collect();
    let half = words[..words.len() / 2 + 2].join(" ") + ".";
    let document = put(90, &half);
    expected.partly_contaminated.push(Leak { document, item: partial.id.clone() });
}

/// Adds equal, blank-separated, contained and one-number-changed copies of early citations.
fn plant_copies(citations: &mut Vec<Citation>, expected: &mut SourceExpectation) {
    let mut next = FIRST_PMID + CITATIONS;
    let mut add = |from: usize, change: &dyn Fn(&mut Citation)| {
        let mut copy = citations[from].clone();
        copy.pmid = next;
        next += 1;
        change(&mut copy);
        let pair = [citations[from].pmid.to_string(), copy.pmid.to_string()];
        citations.push(copy);
        pair
    };
    for from in 0..6 {
        expected.exact_pairs.push(add(from, &|_| {}));
    }
    for from in 10..14 {
        expected.exact_pairs.push(add(from, &|copy| copy.blanks = "\n      "));
        expected.whitespace_pairs += 1;
    }
    for from in 20..26 {
        let [longer, shorter] = add(from, &|copy| copy.content = copy.content.shortened());
        expected.near_pairs.push([shorter, longer]);
    }
    for from in 30..36 {
        expected.must_keep_pairs.push(add(from, &|copy| change_number(&mut copy.content)));
    }
}

/// Raises one number of the last sentence that has any.
fn change_number(content: &mut Abstract) {
    let is_number = |word: &&str| word.parse::<u64>().is_ok();
    let sentences = content.sections.iter_mut().flat_map(|(_, sentences)| sentences);
    let sentence = sentences
        .filter(|sentence| sentence.split(' ').any(|word| is_number(&word)))
        .last()
        .expect("every abstract has a number");
    let number = sentence.split(' ').find(is_number).expect("the sentence has a number").to_owned();
    let value: u64 = number.parse().expect("it is a number");
    *sentence = sentence.replacen(&format!(" {number} "), &format!(" {} ", value + 1), 1);
}

/// Second versions of twelve citations, with one more sentence.
fn updates_of(citations: &[Citation], expected: &mut SourceExpectation) -> Vec<Citation> {
    let mut updates = Vec::new();
    for old in &citations[200..212] {
        let mut new = old.clone();
        new.version = 2;
        let condition = &CONDITIONS[new.content.condition];
        let (_, last) = new.content.sections.last_mut().expect("an abstract has sections");
        last.push(format!("A corrected table for {} was added.", condition.name));
        expected.older_versions.push(old.pmid.to_string());
        updates.push(new);
    }
    updates
}

/// Malformed and empty records, and a list of deleted citations, which is no record.
fn oddities(expected: &mut SourceExpectation) -> String {
    let record = |pmid: &str, article: &str| {
        format!(
            "<PubmedArticle><MedlineCitation><PMID Version=\"1\">{pmid}</PMID><Article>{article}</Article>\
             </MedlineCitation></PubmedArticle>\n"
        )
    };
    let title = "<ArticleTitle>A record with a fault.</ArticleTitle>";
    let mut out = String::new();
    out += &record("90009001", "<ArticleTitle>A title that ends as another.</Title>");
    expected.reject("malformed-xml");
    out += &record("90009002", "<Language>eng</Language>");
    expected.reject("empty-record");
    out += &record("9000x003", title);
    expected.reject("invalid-value");
    out += &record("90009004", "<ArticleTitle>An &unheardof; entity.</ArticleTitle>");
    expected.reject("undefined-entity");
    out += "<DeleteCitation><PMID Version=\"1\">90009005</PMID><PMID Version=\"1\">90009006</PMID></DeleteCitation>\n";
    out
}

fn article_set(citations: &[Citation], more: &str) -> String {
    let mut out = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
        <!DOCTYPE PubmedArticleSet SYSTEM \"http://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd\">\n\
        <PubmedArticleSet>\n"
        .to_owned();
    for citation in citations {
        out += &article(citation);
    }
    out + more + "</PubmedArticleSet>\n"
}

fn article(citation: &Citation) -> String {
    let Citation { pmid, version, content, blanks } = citation;
    let mut generator = Generator::new(*pmid);
    let journal = escape(generator.pick(&JOURNALS));
    let (year, month) = (generator.between(1998, 2025), generator.pick(&MONTHS));
    let mut out = format!(
        "<PubmedArticle>\n  <MedlineCitation Status=\"MEDLINE\" Owner=\"NLM\">\n    <PMID Version=\"{version}\">{pmid}</PMID>\n\
         \x20   <Article PubModel=\"Print\">\n      <Journal><JournalIssue CitedMedium=\"Print\"><Volume>{}</Volume>\
         <PubDate><Year>{year}</Year><Month>{month}</Month></PubDate></JournalIssue><Title>{journal}</Title></Journal>\n\
         \x20     <ArticleTitle>{}</ArticleTitle>\n      <Abstract>",
        generator.between(1, 80),
        inline(&content.title, "i", "b"),
    );
    for (label, sentences) in &content.sections {
        let attribute = if label.is_empty() { String::new() } else { format!(" Label=\"{label}\"") };
        let sentences: Vec<String> = sentences.iter().map(|s| inline(s, "i", "b")).collect();
        out += &format!("<AbstractText{attribute}>{}</AbstractText>", sentences.join(blanks));
    }
    out += "</Abstract>\n      <AuthorList CompleteYN=\"Y\">";
    for _ in 0..generator.between(1, 4) {
        let surname = surname(&mut generator);
        let initial = char::from(b'A' + generator.below(26) as u8);
        out += &format!("<Author ValidYN=\"Y\"><LastName>{surname}</LastName><Initials>{initial}</Initials></Author>");
    }
    let condition = &CONDITIONS[content.condition];
    out += &format!(
        "</AuthorList>\n      <Language>eng</Language><PublicationTypeList><PublicationType UI=\"D016428\">Journal Article\
         </PublicationType></PublicationTypeList>\n    </Article>\n    <MeshHeadingList><MeshHeading><DescriptorName UI=\"X1\">{}\
         </DescriptorName></MeshHeading></MeshHeadingList>\n  </MedlineCitation>\n  <PubmedData><ArticleIdList>\
         <ArticleId IdType=\"pubmed\">{pmid}</ArticleId><ArticleId IdType=\"doi\">10.99999/inv.{pmid}</ArticleId></ArticleIdList>\
         </PubmedData>\n</PubmedArticle>\n",
        capitalised(condition.name)
    );
    out
}

/// An invented family name.
pub fn surname(generator: &mut Generator) -> String {
    format!("{}{}", generator.pick(&SURNAME_STARTS), generator.pick(&SURNAME_ENDS))
}
