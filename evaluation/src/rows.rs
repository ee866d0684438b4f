//! Me-LLaMA's released rows: JSON lines `{id, query, answer, choices, gold}`, the query being the whole prompt.
//!
//! The query is kept byte for byte; further members are ignored.

use serde::Deserialize;
use serde_json::Value;

use crate::item::RawItem;

#[derive(Deserialize)]
struct Row {
    id: Value,
    query: String,
    #[serde(default)]
    answer: Value,
    #[serde(default)]
    choices: Option<Vec<String>>,
    #[serde(default)]
    gold: Value,
}

/// A line that is not a row; it names the line and never its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) line: usize,
    pub(crate) problem: &'static str,
}

/// Reads every line that is not blank.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<RawItem>, BadLine> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut items = Vec::new();
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let bad = |problem| BadLine { line: at + 1, problem };
        let row: Row = serde_json::from_slice(line).map_err(|error| bad(problem_of(&error)))?;
        let id = match row.id {
            Value::String(id) if !id.is_empty() => id,
            Value::Number(id) => id.to_string(),
            _ => return Err(bad("id is neither text nor a number")),
        };
        items.push(RawItem {
            id,
            prompt: row.query,
            choices: row.choices.unwrap_or_default(),
            gold: row.gold.as_i64(),
            answer: row.answer.as_str().map(str::to_owned),
        });
    }
    Ok(items)
}

/// The kind of a JSON error: the error itself may quote the text.
pub(crate) fn problem_of(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "JSON ends early",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "members are absent or of another type",
        serde_json::error::Category::Io => "unreadable",
    }
}

#[cfg(test)]
mod tests {
    use super::{BadLine, parse};

    #[test]
    fn rows_are_kept_byte_for_byte() {
        let text = "\u{feff}{\"id\":\"a1\",\"query\":\"\\nQ: x \\n\",\"answer\":\"no\",\"choices\":[\"yes\",\"no\"],\"gold\":1,\"text\":\"t\"}\r\n\n\
            {\"id\":7,\"query\":\"q\",\"answer\":\"span\"}";
        let items = parse(text.as_bytes()).unwrap();
        assert_eq!((items[0].id.as_str(), items[0].prompt.as_str(), items[0].gold), ("a1", "\nQ: x \n", Some(1)));
        assert_eq!(items[0].answer.as_deref(), Some("no"));
        assert_eq!((items[1].id.as_str(), items[1].choices.len(), items[1].gold), ("7", 0, None));
        let hoc = parse(br#"{"id":"h","query":"q","answer":"","choices":["a","b"],"gold":[0,1]}"#).unwrap();
        assert_eq!(hoc[0].gold, None);
    }

    #[test]
    fn bad_lines_are_named_by_number_and_kind() {
        let check = |text: &str, line: usize, problem: &'static str| {
            assert_eq!(parse(text.as_bytes()).err(), Some(BadLine { line, problem }), "{text}");
        };
        check("\n{\"id\":1,", 2, "JSON ends early");
        check("no", 1, "not JSON");
        check("{\"id\":\"a\"}", 1, "members are absent or of another type");
        check("{\"id\":null,\"query\":\"q\"}", 1, "id is neither text nor a number");
        check("{\"id\":\"\",\"query\":\"q\"}", 1, "id is neither text nor a number");
        check("{\"id\":\"a\",\"query\":\"q\",\"choices\":\"x\"}", 1, "members are absent or of another type");
    }
}
