//! S2ORC and its relatives, one paper a line. The layout is recognised by its keys:
//!
//! | layout | told by | text | native id |
//! |---|---|---|---|
//! | peS2o | `text`, `source` and `added` or `version` | `text` | `id` |
//! | Semantic Scholar datasets (2022 on) | `corpusid` with `content` or `body` | spans of `annotations` | `corpusid` |
//! | S2ORC of 2019 and 2020, doc2json, CORD-19 | `paper_id` | title, abstract, `body_text` | `paper_id` |
//!
//! Texts are put together as those of JATS: title, abstract, then each section's heading and paragraphs, blank lines between
//! them. References, authors and captions are left out. Offsets of annotations count code points; annotations that do not lie
//! in their text make a reject.

use crate::document::Document;
use crate::input::Input;
use crate::json::{self, Value};
use crate::jsonl::{JsonLines, add_meta};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::record_names;
use crate::reject::RejectReason;
use crate::row::{Meta, is_usable_id, parse_year};

/// Reads parsed papers.
#[derive(Debug)]
pub struct S2orcReader {
    lines: JsonLines,
    limits: Limits,
}

impl S2orcReader {
    /// Opens an object; nothing is read yet.
    ///
    /// # Errors
    /// None today; the signature is that of every reader.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        Ok(Self { lines: JsonLines::new(context, input, limits), limits: limits.clone() })
    }
}

impl Reader for S2orcReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        let limits = &self.limits;
        self.lines.next_with(|context, offset, bytes, record| {
            match paper_of(record, limits).and_then(|paper| paper.into_document(context, offset)) {
                Ok(document) => Item::Document(document),
                Err(reason) => Item::Reject(context.reject(offset, bytes, reason)),
            }
        })
    }

    fn pass_to(&mut self, offset: u64) {
        self.lines.pass_to(offset);
    }
}

/// What every layout comes down to.
#[derive(Debug, Default)]
struct Paper {
    native_id: String,
    title: Option<String>,
    /// Abstract, headings and paragraphs; the title where it belongs to the text.
    parts: Vec<String>,
    year: Option<u16>,
    licence: Option<String>,
    meta: Meta,
}

impl Paper {
    /// Adds a part, white space at its ends aside, unless it is empty.
    fn push(&mut self, part: &str) {
        if !part.trim().is_empty() {
            self.parts.push(part.trim().to_owned());
        }
    }

    fn into_document(self, context: &SourceContext, byte_offset: u64) -> Result<Document, RejectReason> {
        if self.parts.is_empty() {
            return Err(RejectReason::EmptyRecord);
        }
        let mut document = context.document(self.native_id, self.parts.join("\n\n"), byte_offset);
        document.title = self.title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
        document.year = self.year;
        document.licence = self.licence.or(document.licence);
        document.meta = self.meta.into_entries();
        Ok(document)
    }
}

fn paper_of(record: &Value<'_>, limits: &Limits) -> Result<Paper, RejectReason> {
    let has = |key: &str| record.get(key).is_some();
    if has("corpusid") || has("corpusId") {
        return dataset_paper(record, limits);
    }
    if has("paper_id") {
        return parsed_paper(record);
    }
    if has("text") && has("source") && (has("added") || has("version")) {
        return plain_paper(record);
    }
    let expected = "paper_id (S2ORC, doc2json), corpusid with content or body (Semantic Scholar datasets), or text, source and \
                    added (peS2o)";
    Err(RejectReason::UnknownLayout { expected: expected.to_owned() })
}

/// peS2o: the text is one piece.
fn plain_paper(record: &Value<'_>) -> Result<Paper, RejectReason> {
    let mut paper = Paper { native_id: required_id(record, "id")?, ..Paper::default() };
    match record.get("text") {
        Some(Value::Text(text)) => paper.push(text),
        _ => return Err(RejectReason::WrongType { field: "text".to_owned() }),
    }
    paper.year = record.get("created").and_then(Value::as_scalar).and_then(parse_year);
    add_meta(&mut paper.meta, record, |name| matches!(name, "id" | "text"));
    if let Some(more) = record.get("metadata") {
        add_meta(&mut paper.meta, more, |_| false);
    }
    Ok(paper)
}

/// S2ORC of 2019 and 2020, doc2json and CORD-19: lists of paragraphs with the names of their sections.
fn parsed_paper(record: &Value<'_>) -> Result<Paper, RejectReason> {
    let mut paper = Paper { native_id: required_id(record, "paper_id")?, ..Paper::default() };
    let about = record.get("metadata").unwrap_or(&Value::Null);
    add_identifiers(&mut paper.meta, &[Some(record), Some(about), record.get("identifiers"), about.get("identifiers")]);
    paper.year = ["year", "pub_date"].iter().find_map(|key| either(record, about, key)).and_then(|year| parse_year(&year));
    paper.title = either(record, about, "title");
    let title = paper.title.clone().unwrap_or_default();
    paper.push(&title);
    let parses = ["pdf_parse", "latex_parse", "grobid_parse"];
    let parse = parses.iter().find_map(|key| record.get(key).filter(|parse| is_list(parse.get("body_text"))));
    let parse = parse.unwrap_or(record);
    let summary = [record.get("abstract"), about.get("abstract"), parse.get("abstract")];
    match summary.into_iter().flatten().find(|found| !is_blank(found)) {
        Some(Value::Text(text)) => paper.push(text),
        Some(Value::List(paragraphs)) => push_paragraphs(&mut paper, paragraphs, "abstract")?,
        _ => {}
    }
    match parse.get("body_text") {
        Some(Value::List(paragraphs)) => push_paragraphs(&mut paper, paragraphs, "")?,
        None | Some(Value::Null) => {}
        Some(_) => return Err(RejectReason::WrongType { field: "body_text".to_owned() }),
    }
    Ok(paper)
}

fn is_list(value: Option<&Value<'_>>) -> bool {
    matches!(value, Some(Value::List(_)))
}

fn is_blank(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text.trim().is_empty(),
        Value::List(list) => list.is_empty(),
        _ => false,
    }
}

/// A text at the top level, else in the meta data.
fn either(record: &Value<'_>, about: &Value<'_>, key: &str) -> Option<String> {
    let usable = |value: &Value<'_>| value.as_scalar().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    record.get(key).and_then(usable).or_else(|| about.get(key).and_then(usable))
}

/// Paragraphs, each section's heading before its first. Headings equal to `silent`, in any case, are not written.
fn push_paragraphs(paper: &mut Paper, paragraphs: &[Value<'_>], silent: &str) -> Result<(), RejectReason> {
    let mut current = String::new();
    for paragraph in paragraphs {
        let text = match paragraph {
            Value::Text(text) => text,
            _ => match paragraph.get("text") {
                Some(Value::Text(text)) => text,
                Some(Value::Null) => continue,
                _ => return Err(RejectReason::WrongType { field: "body_text.text".to_owned() }),
            },
        };
        let section = heading_of(paragraph);
        if section != current && !section.eq_ignore_ascii_case(silent) {
            paper.push(&section);
        }
        current = section;
        paper.push(text);
    }
    Ok(())
}

/// Number and name of a paragraph's section.
fn heading_of(paragraph: &Value<'_>) -> String {
    let part = |key: &str| paragraph.get(key).and_then(Value::as_scalar).map_or("", str::trim);
    let name = part("section");
    match (part("sec_num"), name.is_empty()) {
        ("", _) | (_, true) => name.to_owned(),
        (number, false) => format!("{number} {name}"),
    }
}

/// Semantic Scholar datasets: one text, and annotations that say what its ranges are.
fn dataset_paper(record: &Value<'_>, limits: &Limits) -> Result<Paper, RejectReason> {
    let id = if record.get("corpusid").is_some() { "corpusid" } else { "corpusId" };
    let mut paper = Paper { native_id: required_id(record, id)?, ..Paper::default() };
    paper.meta.insert("corpusid", &paper.native_id);
    add_identifiers(&mut paper.meta, &[record.get("externalids"), record.get("externalIds"), Some(record)]);
    paper.year = ["year", "publicationdate"].iter().find_map(|key| record.get(key)?.as_scalar().and_then(parse_year));
    let content = [record.get("body"), record.get("content")].into_iter().flatten().find(|part| part.get("text").is_some());
    let content = content.ok_or(RejectReason::MissingField { field: "content.text".to_owned() })?;
    let licence = [record.find("openaccessinfo.license"), content.find("source.oainfo.license")];
    paper.licence = licence.into_iter().flatten().find_map(Value::as_text).filter(|text| !text.is_empty()).map(str::to_owned);
    let text = match content.get("text") {
        Some(Value::Text(text)) => text,
        Some(Value::Null) | None => return Err(RejectReason::EmptyRecord),
        Some(_) => return Err(RejectReason::WrongType { field: "content.text".to_owned() }),
    };
    let annotations = content.get("annotations").unwrap_or(&Value::Null);
    let spans = |kind: &str| spans_of(annotations, kind, limits);
    let titles = byte_ranges(text, &spans("title")?)?;
    paper.title = titles.first().map(|range| text[range.clone()].to_owned());
    if paper.title.as_ref().is_none_or(|title| title.trim().is_empty()) {
        paper.title = record.get("title").and_then(Value::as_text).map(str::to_owned);
    }
    let title = paper.title.clone().unwrap_or_default();
    paper.push(&title);
    let abstracts = byte_ranges(text, &spans("abstract")?)?;
    push_ranges(&mut paper, text, abstracts.clone());
    // The published records write it as one word, its documentation as two.
    let headings = [spans("sectionheader")?, spans("section_header")?].concat();
    let body = byte_ranges(text, &[headings, spans("paragraph")?].concat())?;
    let bodiless = body.is_empty();
    let written = Covered::of([titles, abstracts.clone()].concat());
    push_ranges(&mut paper, text, body.into_iter().filter(|range| !written.holds(range)).collect());
    if bodiless && abstracts.is_empty() {
        paper.parts.clear();
        paper.push(text);
    }
    Ok(paper)
}

type Range = std::ops::Range<usize>;

/// Adds ranges in the order of the text, what lies in several of them once: a line of spans over each other is no longer text.
fn push_ranges(paper: &mut Paper, text: &str, mut ranges: Vec<Range>) {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut done = 0;
    for range in ranges {
        let begin = range.start.max(done);
        if begin < range.end {
            paper.push(&text[begin..range.end]);
            done = range.end;
        }
    }
}

/// Ranges by their start, each with the furthest end of those up to it.
struct Covered(Vec<Range>);

impl Covered {
    fn of(mut ranges: Vec<Range>) -> Self {
        ranges.sort_by_key(|range| range.start);
        let mut furthest = 0;
        for range in &mut ranges {
            furthest = furthest.max(range.end);
            range.end = furthest;
        }
        Self(ranges)
    }

    /// Whether one of the ranges holds all of this one.
    fn holds(&self, range: &Range) -> bool {
        let before = self.0.partition_point(|own| own.start <= range.start);
        before > 0 && range.end <= self.0[before - 1].end
    }
}

/// The spans of one kind, in code points: a list, or JSON of a list inside a string.
fn spans_of(annotations: &Value<'_>, kind: &str, limits: &Limits) -> Result<Vec<Range>, RejectReason> {
    let wrong = || RejectReason::WrongType { field: format!("annotations.{kind}") };
    match annotations.get(kind) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::List(list)) => list.iter().map(|span| span_of(span).ok_or_else(wrong)).collect(),
        Some(Value::Text(inner)) if inner.trim().is_empty() => Ok(Vec::new()),
        Some(Value::Text(inner)) => match json::parse(inner, limits)? {
            Value::Null => Ok(Vec::new()),
            Value::List(list) => list.iter().map(|span| span_of(span).ok_or_else(wrong)).collect(),
            _ => Err(wrong()),
        },
        Some(_) => Err(wrong()),
    }
}

fn span_of(span: &Value<'_>) -> Option<Range> {
    let place = |key: &str| span.get(key)?.as_scalar()?.parse::<usize>().ok();
    Some(place("start")?..place("end")?)
}

/// Ranges of code points as ranges of bytes, in their order; the text is walked once. Empty ones are left out.
fn byte_ranges(text: &str, spans: &[Range]) -> Result<Vec<Range>, RejectReason> {
    let mut wanted: Vec<usize> = spans.iter().flat_map(|span| [span.start, span.end]).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut bytes = Vec::with_capacity(wanted.len());
    let boundaries = text.char_indices().map(|(byte, _)| byte).chain([text.len()]);
    let mut waiting = wanted.iter().peekable();
    for (point, byte) in boundaries.enumerate() {
        if waiting.next_if_eq(&&point).is_some() {
            bytes.push(byte);
        }
    }
    let byte_of = |point: usize| wanted.binary_search(&point).ok().and_then(|place| bytes.get(place).copied());
    let outside = || RejectReason::InvalidValue { field: "annotations".to_owned() };
    let mut ranges = Vec::with_capacity(spans.len());
    for span in spans.iter().filter(|span| span.start != span.end) {
        let range = byte_of(span.start).ok_or_else(outside)?..byte_of(span.end).ok_or_else(outside)?;
        if range.is_empty() {
            return Err(outside());
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// Spellings of identifiers and what the meta data call them.
const IDENTIFIERS: [(&str, &str); 19] = [
    ("pmid", "pmid"),
    ("pubmed", "pmid"),
    ("pubmed_id", "pmid"),
    ("PubMed", "pmid"),
    ("pmcid", "pmcid"),
    ("pmc_id", "pmcid"),
    ("pubmedcentral", "pmcid"),
    ("PubMedCentral", "pmcid"),
    ("doi", "doi"),
    ("DOI", "doi"),
    ("arxiv_id", "arxiv_id"),
    ("arxiv", "arxiv_id"),
    ("ArXiv", "arxiv_id"),
    ("mag_id", "mag_id"),
    ("mag", "mag_id"),
    ("acl", "acl_id"),
    ("dblp", "dblp_id"),
    ("journal", "journal"),
    ("venue", "venue"),
];

fn add_identifiers(meta: &mut Meta, places: &[Option<&Value<'_>>]) {
    for place in places.iter().flatten() {
        for (spelled, name) in IDENTIFIERS {
            let Some(value) = place.get(spelled).and_then(Value::as_scalar) else { continue };
            let one_spelling = match name {
                "pmid" => record_names::pmid(value),
                "pmcid" => record_names::pmcid(value),
                "doi" => record_names::doi(value),
                _ => None,
            };
            meta.insert(name, one_spelling.as_deref().unwrap_or(value));
        }
    }
}

fn required_id(record: &Value<'_>, key: &str) -> Result<String, RejectReason> {
    let field = || key.to_owned();
    match record.get(key) {
        None | Some(Value::Null) => Err(RejectReason::MissingField { field: field() }),
        Some(value) => {
            let id = value.as_scalar().ok_or_else(|| RejectReason::WrongType { field: field() })?;
            if is_usable_id(id) { Ok(id.to_owned()) } else { Err(RejectReason::InvalidValue { field: field() }) }
        }
    }
}
