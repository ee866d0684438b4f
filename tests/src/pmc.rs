//! The PMC files: JATS articles with sections, tables, figures, references and permissions, an HTML page that is named
//! as one, and an article that is cut.

use crate::expected::{Leak, SourceExpectation};
use crate::generator::Generator;
use crate::literature::{Section, write_abstract, write_body};
use crate::markup::{escape, inline};
use crate::pubmed::surname;
use crate::questions::LongItem;
use crate::world::{CONDITIONS, Condition};

/// Articles.
const ARTICLES: u64 = 44;
const FIRST_PMCID: u64 = 99_000_001;
const LICENCES: [&str; 3] = ["by/4.0", "by-nc/4.0", "by-nc-nd/4.0"];

/// An article before it is XML.
struct Article<'a> {
    pmcid: u64,
    pmid: Option<String>,
    condition: &'a Condition,
    title: String,
    summary: Vec<(String, String)>,
    body: Vec<Section>,
}

/// The articles' files and texts, and what is expected of them.
pub struct Pmc {
    /// Name and bytes of each file.
    pub files: Vec<(String, String)>,
    /// Plain text of each article.
    pub texts: Vec<String>,
    /// Expectation of the source.
    pub expected: SourceExpectation,
}

/// Writes the files. The first articles have the PMIDs of `shared`; `leak` goes into one of the others.
///
/// # Panics
/// Never: every article has the same sections.
pub fn write(shared: &[String], leak: &LongItem) -> Pmc {
    let mut generator = Generator::named("pmc");
    let mut expected = SourceExpectation::new("jats", "pmc/*.xml", "biomedical");
    let (mut files, mut texts) = (Vec::new(), Vec::new());
    for number in 0..ARTICLES {
        let written = write_abstract(number as usize % CONDITIONS.len(), &mut generator);
        let condition = &CONDITIONS[written.condition];
        let mut article = Article {
            pmcid: FIRST_PMCID + number,
            pmid: shared.get(number as usize).cloned(),
            condition,
            title: written.title.trim_end_matches('.').to_owned(),
            summary: written.sections.iter().map(|(label, text)| (label.clone(), text.join(" "))).collect(),
            body: write_body(condition, &mut generator),
        };
        if number == 30 {
            article.body[3].paragraphs[1] += &format!(" {}", leak.question);
            let document = format!("PMC{}", article.pmcid);
            expected.contaminated.push(Leak { document, item: leak.id.clone() });
        }
        expected.document();
        texts.push(article.text());
        let xml = article.xml(&mut generator);
        if number == 0 {
            // The same article, cut inside its body, under another number.
            let half = xml.replace(&article.pmcid.to_string(), "99009002");
            let cut = half.find("<sec id=\"s2\">").expect("every article has a second section") + 400;
            files.push(("PMC99009002.xml".to_owned(), half[..cut].to_owned()));
            expected.reject("truncated-record");
        }
        files.push((format!("PMC{}.xml", article.pmcid), xml));
    }
    files.push(("PMC99009001.xml".to_owned(), HTML_PAGE.to_owned()));
    expected.reject("not-jats");
    Pmc { files, texts, expected }
}

const HTML_PAGE: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Page not available</title></head>\n\
    <body><h1>Page not available</h1><p>The article that you asked for is not here.</p></body></html>\n";

impl Article<'_> {
    /// Title, abstract and paragraphs with headings, roughly as a reader makes them.
    fn text(&self) -> String {
        let mut parts = vec![self.title.clone()];
        for (label, text) in &self.summary {
            parts.extend((!label.is_empty()).then(|| label.clone()));
            parts.push(text.clone());
        }
        for section in &self.body {
            parts.push(section.heading.to_owned());
            parts.extend(section.paragraphs.iter().cloned());
        }
        parts.join("\n\n")
    }

    fn xml(&self, generator: &mut Generator) -> String {
        let mut out = self.front(generator);
        out += "<body>\n";
        for (number, section) in self.body.iter().enumerate() {
            out += &format!("<sec id=\"s{}\"><title>{}</title>\n", number + 1, section.heading);
            for (place, paragraph) in section.paragraphs.iter().enumerate() {
                let text = inline(paragraph, "italic", "bold");
                let reference = generator.between(1, 5);
                out += &format!("<p>{text}<xref ref-type=\"bibr\" rid=\"r{reference}\"/></p>\n");
                if section.heading == "Results" && place == 0 {
                    out += &self.table(generator);
                }
            }
            out += "</sec>\n";
        }
        out += "</body>\n<back><ref-list><title>References</title>\n";
        for number in 1..=5 {
            let year = generator.between(1990, 2024);
            let pages = generator.between(1, 900);
            out += &format!(
                "<ref id=\"r{number}\"><mixed-citation>{} {}. Invented work. {year};{}:{pages}.</mixed-citation></ref>\n",
                surname(generator),
                char::from(b'A' + generator.below(26) as u8),
                generator.between(1, 60),
            );
        }
        out + "</ref-list></back>\n</article>\n"
    }

    fn front(&self, generator: &mut Generator) -> String {
        let Self { pmcid, condition, .. } = self;
        let licence = generator.pick(&LICENCES);
        let year = generator.between(2005, 2025);
        let pmid =
            self.pmid.as_ref().map_or_else(String::new, |pmid| format!("<article-id pub-id-type=\"pmid\">{pmid}</article-id>"));
        let mut summary = String::new();
        for (label, text) in &self.summary {
            let text = inline(text, "italic", "bold");
            summary += &if label.is_empty() {
                format!("<p>{text}</p>")
            } else {
                format!("<sec><title>{label}</title><p>{text}</p></sec>")
            };
        }
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE article PUBLIC \"-//NLM//DTD JATS (Z39.96) Journal Archiving and \
             Interchange DTD v1.2 20190208//EN\" \"JATS-archivearticle1.dtd\">\n<article article-type=\"research-article\" \
             xml:lang=\"en\" xmlns:xlink=\"http://www.w3.org/1999/xlink\">\n<front><journal-meta><journal-title-group>\
             <journal-title>Open Annals of Invented Medicine</journal-title></journal-title-group></journal-meta>\n<article-meta>\
             <article-id pub-id-type=\"pmc\">{pmcid}</article-id>{pmid}<article-id pub-id-type=\"doi\">10.99999/pmc.{pmcid}\
             </article-id>\n<article-categories><subj-group><subject>Research</subject></subj-group></article-categories>\n\
             <title-group><article-title>{}</article-title></title-group>\n<contrib-group><contrib contrib-type=\"author\"><name>\
             <surname>{}</surname><given-names>{}</given-names></name></contrib></contrib-group>\n<pub-date pub-type=\"epub\">\
             <year>{year}</year></pub-date>\n<permissions><copyright-year>{year}</copyright-year><license \
             xlink:href=\"https://creativecommons.org/licenses/{licence}/\"><license-p>Open access.</license-p></license>\
             </permissions>\n<abstract>{summary}</abstract>\n<kwd-group><kwd>{}</kwd><kwd>{}</kwd></kwd-group></article-meta>\
             </front>\n",
            inline(&self.title, "italic", "bold"),
            surname(generator),
            char::from(b'A' + generator.below(26) as u8),
            escape(condition.name),
            escape(condition.organ),
        )
    }

    fn table(&self, generator: &mut Generator) -> String {
        let mut rows = String::new();
        for group in ["Treated", "Untreated"] {
            rows += &format!(
                "<tr><td>{group}</td><td>{}</td><td>{}.{}</td></tr>",
                generator.between(20, 400),
                generator.between(1, 60),
                generator.below(10)
            );
        }
        format!(
            "<table-wrap id=\"t1\"><label>Table 1</label><caption><p>Patients with {} by group.</p></caption><table><thead><tr>\
             <th>Group</th><th>Patients</th><th>Relapse (%)</th></tr></thead><tbody>{rows}</tbody></table></table-wrap>\n",
            escape(self.condition.name)
        )
    }
}
