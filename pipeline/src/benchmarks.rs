//! Evaluation files as things to keep out of the corpus: their items with the texts to look for and the ids to exclude.
//!
//! Layouts: Me-LLaMA rows, JSON lines, a JSON list, JSON keyed by id (PubMedQA), articles with paragraphs (EmrQA), CSV and TSV,
//! plain text files, each in any compression; `fields` says what is taken of a record. Reading to score is the evaluation
//! crate's job.

mod fields;

use std::io::Read;

use mellama_dedup::BenchmarkItem;
use mellama_sources::{ByteStream, Input, Limits};
use serde_json::{Map, Value};

use crate::failure::{Failure, chain};
use crate::inputs::InputObject;
use crate::names;

use fields::{Record, whole_text};

/// What a message asks for.
const REMEDY: &str =
    "give JSON, JSON lines, CSV or TSV with a question, query, context, text or an id, or text files; unpack archives";
/// Endings of compressed files, and of files that are not named further.
const COMPRESSIONS: [&str; 4] = [".gz", ".bz2", ".xz", ".zst"];
/// Folders of the original form of `HoC` and i2b2, which say nothing of the set.
const PLAIN_FOLDERS: [&str; 4] = ["text", "texts", "txt", "notes"];
/// Parts of names of sets that were made from PubMed, in which an id of digits is a PMID.
const PUBMED_SETS: [&str; 4] = ["pubmed", "pqa", "hoc", "bionli"];
/// Longest id of an item, in bytes; longer ones are replaced by the item's place.
const MAX_ID_BYTES: usize = 256;

/// Reads the items of all benchmark files.
///
/// # Errors
/// `Failure::Input` for a file or a line that is in none of the layouts.
pub(crate) fn read(files: &[InputObject]) -> Result<Vec<BenchmarkItem>, Failure> {
    let mut items = Vec::new();
    for file in files {
        items.extend(parse(&file.name, file.read()?)?);
    }
    Ok(items)
}

fn parse(name: &str, bytes: Vec<u8>) -> Result<Vec<BenchmarkItem>, Failure> {
    let set = Set::of(name);
    let bytes = decoded(name, bytes)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let items = match set.ending.as_str() {
        "csv" | "tsv" | "tab" => set.table(bytes.to_vec())?,
        "txt" => set.text(bytes)?,
        _ => match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => set.whole(value)?,
            Err(_) => set.lines(bytes)?,
        },
    };
    if items.is_empty() { Err(set.wrong("whole file", "no item")) } else { Ok(items) }
}

/// What a compressed file holds; others are as they are.
fn decoded(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let mut stream = ByteStream::new(Input::from_bytes(bytes), &Limits::default());
    stream.read_to_end(&mut content).map_err(|e| Failure::Input(format!("{name}: cannot be read: {}", chain(&e))))?;
    Ok(content)
}

/// A file and the set that it is of.
struct Set<'a> {
    file: &'a str,
    name: String,
    stem: String,
    ending: String,
    from_pubmed: bool,
}

impl<'a> Set<'a> {
    /// `data/benchmarks/pubmedqa.jsonl.gz` is of `pubmedqa`, `data/hoc/text/123.txt` of `hoc`.
    fn of(file: &'a str) -> Self {
        let (folders, last) = file.rsplit_once('/').unwrap_or(("", file));
        let last = COMPRESSIONS.iter().find_map(|ending| last.strip_suffix(ending)).unwrap_or(last);
        let ending = last.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_ascii_lowercase());
        let stem = last.split('.').next().unwrap_or(last).to_owned();
        let folder = folders.rsplit('/').find(|folder| !folder.is_empty() && !PLAIN_FOLDERS.contains(folder));
        let name = if ending == "txt" { folder.unwrap_or(&stem).to_owned() } else { stem.clone() };
        let lower = name.to_ascii_lowercase();
        let from_pubmed = PUBMED_SETS.iter().any(|part| lower.contains(part));
        Self { file, name, stem, ending, from_pubmed }
    }

    fn wrong(&self, place: &str, found: &str) -> Failure {
        Failure::Input(format!("{}: {place}: {found}; {REMEDY}", self.file))
    }

    /// A file that is one JSON value.
    fn whole(&self, value: Value) -> Result<Vec<BenchmarkItem>, Failure> {
        match value {
            Value::Array(records) => self.list(&records),
            Value::Object(fields) => self.object(&fields),
            _ => Err(self.wrong("whole file", "not a JSON object or list")),
        }
    }

    fn list(&self, records: &[Value]) -> Result<Vec<BenchmarkItem>, Failure> {
        let mut items = Vec::new();
        for (number, record) in records.iter().enumerate() {
            let place = format!("item {}", number + 1);
            let fields = record.as_object().ok_or_else(|| self.wrong(&place, "not a JSON object"))?;
            items.extend(self.record(&place, &(number + 1).to_string(), fields)?);
        }
        Ok(items)
    }

    fn object(&self, fields: &Map<String, Value>) -> Result<Vec<BenchmarkItem>, Failure> {
        if let Some(Value::Array(records)) = fields.get("data") {
            return self.list(records);
        }
        if fields.is_empty() || !fields.values().all(Value::is_object) {
            // A list of PMIDs with their labels: nothing to look for, but to exclude.
            let is_list = fields.values().all(|value| value.is_string() || value.is_number());
            let pmids: Vec<(&String, Option<String>)> = fields.keys().map(|key| (key, names::of_id(key, true))).collect();
            if is_list && pmids.iter().all(|(_, name)| name.is_some()) {
                let item = |(key, name): (&String, Option<String>)| self.item(key, Vec::new(), name.into_iter().collect());
                return Ok(pmids.into_iter().map(item).collect());
            }
            return self.record("whole file", "1", fields);
        }
        let mut items = Vec::new();
        for (key, record) in fields {
            let record = Record(record.as_object().expect("looked at above"));
            let mut found = record.item(&self.name, key, self.from_pubmed);
            // PubMedQA's file is keyed by PMID; others by numbers of their own, unless their form tells a record.
            let by_key =
                if record.is_pubmedqa() { names::stated(&format!("pmid:{key}")) } else { names::of_id(key, self.from_pubmed) };
            found.excluded_ids.extend(by_key);
            found.excluded_ids.sort_unstable();
            found.excluded_ids.dedup();
            found.item.clone_from(key);
            items.push(self.checked(&format!("item {key}"), found)?);
        }
        Ok(items)
    }

    /// One item, or one for each paragraph of an article.
    fn record(&self, place: &str, number: &str, fields: &Map<String, Value>) -> Result<Vec<BenchmarkItem>, Failure> {
        let Some(Value::Array(paragraphs)) = fields.get("paragraphs") else {
            let item = Record(fields).item(&self.name, number, self.from_pubmed);
            return Ok(vec![self.checked(place, item)?]);
        };
        let mut items = Vec::new();
        for (index, paragraph) in paragraphs.iter().enumerate() {
            let place = format!("{place}: paragraph {}", index + 1);
            let paragraph = paragraph.as_object().ok_or_else(|| self.wrong(&place, "not a JSON object"))?;
            let item = Record(paragraph).item(&self.name, &format!("{number}.{}", index + 1), self.from_pubmed);
            items.push(self.checked(&place, item)?);
        }
        Ok(items)
    }

    fn lines(&self, bytes: &[u8]) -> Result<Vec<BenchmarkItem>, Failure> {
        let mut items = Vec::new();
        for (line, text) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, text)| !text.trim_ascii().is_empty()) {
            let place = format!("line {}", line + 1);
            let value: Value = serde_json::from_slice(text).map_err(|_| self.wrong(&place, "not JSON"))?;
            let fields = value.as_object().ok_or_else(|| self.wrong(&place, "not a JSON object"))?;
            items.extend(self.record(&place, &(line + 1).to_string(), fields)?);
        }
        Ok(items)
    }

    fn table(&self, bytes: Vec<u8>) -> Result<Vec<BenchmarkItem>, Failure> {
        let rows = mellama_sources::csv::rows(self.file, bytes, &Limits::default())
            .map_err(|(offset, reason)| self.wrong(&format!("byte {offset}"), &reason.to_string()))?;
        let mut items = Vec::new();
        for (number, row) in rows.into_iter().enumerate() {
            let fields: Map<String, Value> = row.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
            items.extend(self.record(&format!("row {}", number + 1), &(number + 1).to_string(), &fields)?);
        }
        Ok(items)
    }

    /// A text of its own, named by its file: a note of i2b2, an abstract of `HoC`.
    fn text(&self, bytes: &[u8]) -> Result<Vec<BenchmarkItem>, Failure> {
        let text = std::str::from_utf8(bytes).map_err(|_| self.wrong("whole file", "not UTF-8"))?;
        let mut parts = Vec::new();
        whole_text(&Value::String(text.to_owned()), &mut parts);
        let pmid = self.from_pubmed.then(|| names::stated(&format!("pmid:{}", self.stem))).flatten();
        let note = (!self.from_pubmed).then(|| format!("note:{}", self.stem));
        let item = self.item(&self.stem, parts, pmid.or(note).into_iter().collect());
        Ok(vec![self.checked("whole file", item)?])
    }

    fn item(&self, id: &str, parts: Vec<String>, excluded_ids: Vec<String>) -> BenchmarkItem {
        BenchmarkItem { benchmark: self.name.clone(), item: id.to_owned(), parts, excluded_ids }
    }

    fn checked(&self, place: &str, item: BenchmarkItem) -> Result<BenchmarkItem, Failure> {
        if item.parts.is_empty() && item.excluded_ids.is_empty() {
            return Err(self.wrong(place, "no question, query, context, text or id of a record"));
        }
        Ok(item)
    }
}

#[cfg(test)]
mod tests;
