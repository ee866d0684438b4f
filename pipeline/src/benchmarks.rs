//! Evaluation files as things to keep out of the corpus: their items with the texts to look for and the ids to exclude.
//!
//! Layouts: Me-LLaMA rows (`query`, `answer`, `choices`), PubMedQA's JSON keyed by PMID, and JSON lines with `question`,
//! `context`, `options`, `text` and the like. Reading to score is the evaluation crate's job.

use mellama_dedup::BenchmarkItem;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::inputs::InputObject;

/// Keys whose texts are looked for, in this order.
const TEXT_KEYS: [&str; 16] = [
    "query",
    "question",
    "QUESTION",
    "sentence1",
    "sentence2",
    "premise",
    "hypothesis",
    "context",
    "contexts",
    "CONTEXTS",
    "text",
    "options",
    "choices",
    "answer",
    "LONG_ANSWER",
    "exp",
];
/// Keys that may hold an item's id.
const ID_KEYS: [&str; 4] = ["id", "pairID", "pmid", "qid"];
/// Keys that name the PubMed citation an item was made from.
const PMID_KEYS: [&str; 3] = ["pmid", "PMID", "pubmed_id"];

/// Reads the items of all benchmark files.
///
/// # Errors
/// `Failure::Input` for a file or a line that is in none of the layouts.
pub(crate) fn read(files: &[InputObject]) -> Result<Vec<BenchmarkItem>, Failure> {
    let mut items = Vec::new();
    for file in files {
        items.extend(parse(&file.name, &file.read()?)?);
    }
    Ok(items)
}

fn parse(name: &str, bytes: &[u8]) -> Result<Vec<BenchmarkItem>, Failure> {
    let benchmark = stem(name);
    let wrong = |place: &str, found: &str| {
        Failure::Input(format!("{name}: {place}: {found}; give Me-LLaMA rows, PubMedQA's JSON, or JSON lines with a question"))
    };
    if let Ok(Value::Object(keyed)) = serde_json::from_slice::<Value>(bytes)
        && keyed.values().all(Value::is_object)
        && !keyed.is_empty()
    {
        let record = |(id, value): (&String, &Value)| value.as_object().map(|fields| item(&benchmark, id, fields, true));
        let items: Vec<BenchmarkItem> = keyed.iter().filter_map(record).collect();
        return match items.iter().find(|item| item.parts.is_empty()) {
            Some(item) => Err(wrong(&format!("item {}", item.item), "no question, query, context or text")),
            None => Ok(items),
        };
    }
    let mut items = Vec::new();
    for (line, text) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, text)| !text.trim_ascii().is_empty()) {
        let place = format!("line {}", line + 1);
        let value: Value = serde_json::from_slice(text).map_err(|_| wrong(&place, "not JSON"))?;
        let fields = value.as_object().ok_or_else(|| wrong(&place, "not a JSON object"))?;
        let id = ID_KEYS.iter().find_map(|key| fields.get(*key)).map_or_else(|| (line + 1).to_string(), plain);
        let found = item(&benchmark, &id, fields, false);
        if found.parts.is_empty() {
            return Err(wrong(&place, "no question, query, context or text"));
        }
        items.push(found);
    }
    if items.is_empty() {
        return Err(wrong("whole file", "no item"));
    }
    Ok(items)
}

fn item(benchmark: &str, id: &str, fields: &Map<String, Value>, keyed: bool) -> BenchmarkItem {
    let mut parts = Vec::new();
    for key in TEXT_KEYS {
        if let Some(value) = fields.get(key) {
            texts(value, &mut parts);
        }
    }
    // PubMedQA's file is keyed by PMID; elsewhere a field says so.
    let pubmed_key = keyed && id.bytes().all(|b| b.is_ascii_digit()) && !id.is_empty();
    let named = PMID_KEYS.iter().filter_map(|key| fields.get(*key)).map(plain);
    let excluded = named.chain(pubmed_key.then(|| id.to_owned())).map(|pmid| format!("pmid:{pmid}"));
    BenchmarkItem { benchmark: benchmark.into(), item: id.into(), parts, excluded_ids: excluded.collect() }
}

/// Every line of every string below `value`: a prompt's instruction and its question are looked for apart.
fn texts(value: &Value, parts: &mut Vec<String>) {
    match value {
        Value::String(text) => parts.extend(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from)),
        Value::Array(values) => values.iter().for_each(|value| texts(value, parts)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, parts)),
        _ => {}
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// `data/benchmarks/pubmedqa.jsonl` to `pubmedqa`.
fn stem(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.split('.').next().unwrap_or(file).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &[&str], &[&str])]) {
        let items = parse("data/set.jsonl", text.as_bytes()).expect("readable");
        let found: Vec<(String, Vec<String>, Vec<String>)> =
            items.into_iter().map(|i| (i.item, i.parts, i.excluded_ids)).collect();
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|(id, parts, ids)| ((*id).to_owned(), owned(parts), owned(ids))).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn the_layouts_are_read() {
        check(
            "{\"id\":\"q1\",\"query\":\"Do it.\\nWhy so?\",\"answer\":\"a\",\"choices\":[\"a\",\"b\"],\"gold\":0}\n",
            &[("q1", &["Do it.", "Why so?", "a", "b", "a"], &[])],
        );
        check(
            "{\"12\":{\"QUESTION\":\"Q?\",\"CONTEXTS\":[\"c1\",\"c2\"],\"LONG_ANSWER\":\"L\"}}",
            &[("12", &["Q?", "c1", "c2", "L"], &["pmid:12"])],
        );
        check("{\"question\":\"Q?\",\"options\":{\"A\":\"x\"},\"pmid\":7}\n\n", &[("7", &["Q?", "x"], &["pmid:7"])]);
    }

    #[test]
    fn unreadable_items_name_the_line() {
        for (text, expected) in
            [("{\"question\":\"Q\"}\nnope\n", "line 2: not JSON"), ("[1]\n", "line 1: not a JSON object"), ("", "no item")]
        {
            let message = parse("set.jsonl", text.as_bytes()).expect_err("unreadable").to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
