//! JSON as Python's `json.dumps(value, sort_keys=True)` spells it, because two formats embed or compare that text.
//!
//! Only what these formats hold: ASCII strings, whole numbers, lists, objects, null, truth.

use serde_json::Value;

/// The text.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let pairs = names.into_iter().map(|name| format!("{}: {}", Value::from(name.as_str()), text(&members[name])));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn it_is_the_text_that_python_writes() {
        let check = |value: Value, expected: &str| assert_eq!(super::text(&value), expected);
        check(json!({"b": [1, "x", null], "a": {"z": true, "y": []}}), r#"{"a": {"y": [], "z": true}, "b": [1, "x", null]}"#);
        check(json!({}), "{}");
        check(json!([{"a": "q\"\\"}]), r#"[{"a": "q\"\\"}]"#);
    }
}
