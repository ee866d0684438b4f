//! The fields of one benchmark record: which texts to look for, which id it has, and which records it was made from.

use mellama_dedup::BenchmarkItem;
use serde_json::{Map, Value};

use super::MAX_ID_BYTES;
use crate::names;

/// Fields of which every line is looked for by itself, in this order; compared in lower case.
const LINE_FIELDS: [&str; 30] = [
    "query",
    "question",
    "sentence1",
    "sentence2",
    "sentence",
    "premise",
    "hypothesis",
    "supp_set",
    "conclusion",
    "context",
    "contexts",
    "text",
    "passages",
    "qas",
    "options",
    "opa",
    "opb",
    "opc",
    "opd",
    "choices",
    "answer",
    "answers",
    "final_answer",
    "long_answer",
    "exp",
    "evidence",
    "chq",
    "faq",
    "input",
    "output",
];
/// Fields that are one text whatever its lines and sentences: a document, or what sums it up.
const WHOLE_FIELDS: [&str; 14] = [
    "article",
    "article_text",
    "abstract",
    "abstract_text",
    "src",
    "tgt",
    "findings",
    "impression",
    "background",
    "summary",
    "document",
    "note",
    "report",
    "transcription",
];
/// Members of these fields that are no text of an item.
const NO_TEXT: [&str; 9] =
    ["labels", "meshes", "key", "answer_start", "evidence_start", "answer_entity_type", "id", "label", "gold_label"];
/// Fields that may hold an item's id, the first of them first.
const ID_FIELDS: [&str; 12] =
    ["id", "pairid", "pmid", "pubid", "qid", "document_id", "doc_id", "article_id", "note_id", "study_id", "index", "guid"];
/// A list of names of the records that an item was made from, for sets that say it in no other way.
const NAMES_FIELD: &str = "made_from";
/// Marks of sentences in the abstracts of PubMed summaries.
const SENTENCE_MARKS: [&str; 2] = ["<S>", "</S>"];

/// One record.
#[derive(Clone, Copy)]
pub(super) struct Record<'r>(pub(super) &'r Map<String, Value>);

impl<'r> Record<'r> {
    /// The item; `number` names it where no field does.
    pub(super) fn item(self, benchmark: &str, number: &str, from_pubmed: bool) -> BenchmarkItem {
        let mut parts = Vec::new();
        // The context of a list of questions is a document, of a single one the passages that answer it.
        let is_whole = |name: &str| name == "context" && self.field("qas").is_some();
        for (name, value) in LINE_FIELDS.iter().filter_map(|name| Some((*name, self.field(name)?))) {
            if is_whole(name) { whole_text(value, &mut parts) } else { texts_of(value, &mut parts) }
        }
        for value in WHOLE_FIELDS.iter().filter_map(|name| self.field(name)) {
            whole_text(value, &mut parts);
        }
        let id = ID_FIELDS.iter().find_map(|name| plain(self.field(name)?)).filter(|id| is_short(id));
        let mut excluded_ids = names::of_item(&|name: &str| self.field(name).and_then(plain), from_pubmed);
        let stated = self.field(NAMES_FIELD).and_then(Value::as_array);
        excluded_ids.extend(stated.into_iter().flatten().filter_map(Value::as_str).filter_map(names::stated));
        excluded_ids.sort_unstable();
        excluded_ids.dedup();
        let item = id.unwrap_or_else(|| number.to_owned());
        BenchmarkItem { benchmark: benchmark.to_owned(), item, parts, excluded_ids }
    }

    /// The layout whose file is keyed by PMID.
    pub(super) fn is_pubmedqa(self) -> bool {
        self.0.contains_key("QUESTION") && self.0.contains_key("CONTEXTS")
    }

    /// A field in any case; the spelling in lower case goes first.
    fn field(self, name: &str) -> Option<&'r Value> {
        let other = || self.0.iter().find(|(spelled, _)| spelled.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        self.0.get(name).or_else(other)
    }
}

/// Every line of every string below `value`: a prompt's instruction and its question are looked for apart.
pub(super) fn texts_of(value: &Value, parts: &mut Vec<String>) {
    match value {
        Value::String(text) => parts.extend(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from)),
        Value::Array(values) => values.iter().for_each(|value| texts_of(value, parts)),
        Value::Object(fields) => {
            let is_text = |name: &str| !NO_TEXT.iter().any(|other| name.eq_ignore_ascii_case(other));
            fields.iter().filter(|(name, _)| is_text(name)).for_each(|(_, value)| texts_of(value, parts));
        }
        _ => {}
    }
}

/// All strings below `value` as one part.
pub(super) fn whole_text(value: &Value, parts: &mut Vec<String>) {
    let mut lines = Vec::new();
    texts_of(value, &mut lines);
    let mut whole = lines.join(" ");
    for mark in SENTENCE_MARKS {
        whole = whole.replace(mark, " ");
    }
    if !whole.trim().is_empty() {
        parts.push(whole);
    }
}

/// A text or a number.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Ids stand in reports: bounded, on one line.
fn is_short(id: &str) -> bool {
    id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control)
}
