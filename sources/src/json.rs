//! A strict JSON reader for one record (RFC 8259) that keeps what records need: numbers in their spelling and key order.
//!
//! It refuses what readers disagree about, because a record must mean one thing: a key twice in one object, half of a
//! surrogate pair, NaN and Infinity, raw control characters, anything after the value. Depth and the number of values are
//! limited, so that neither the stack nor memory depends on what a record claims.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::reader::Limits;
use crate::reject::RejectReason;

/// Deepest nesting whatever the limits say: each level is a call.
const MAX_DEPTH: usize = 512;
/// Objects with more keys than this look for repeated keys in a set.
const SMALL_OBJECT: usize = 16;

/// A value that borrows from its record where no escape stands in the way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// As spelled.
    Number(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// The member `key` of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Value<'a>> {
        match self {
            Self::Map(members) => members.iter().find(|member| member.0 == key).map(|member| &member.1),
            _ => None,
        }
    }

    /// The member `key`, else the one that `key` reaches as a path with dots.
    pub(crate) fn find(&self, key: &str) -> Option<&Value<'a>> {
        self.get(key).or_else(|| key.match_indices('.').find_map(|(dot, _)| self.get(&key[..dot])?.find(&key[dot + 1..])))
    }

    /// Text.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Text, a number's spelling, `true` or `false`; nothing for null, lists and objects.
    pub(crate) fn as_scalar(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(spelling) => Some(spelling),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }
}

/// Reads the one value that `text` holds.
pub(crate) fn parse<'a>(text: &'a str, limits: &Limits) -> Result<Value<'a>, RejectReason> {
    let mut parser =
        Parser { text, bytes: text.as_bytes(), place: 0, depth: limits.depth.min(MAX_DEPTH), values: limits.elements, limits };
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.place < text.len() { Err(malformed("text after the value")) } else { Ok(value) }
}

/// Malformed JSON; `what` is a phrase of ours.
pub(crate) fn malformed(what: &'static str) -> RejectReason {
    RejectReason::MalformedJson { what: what.to_owned() }
}

struct Parser<'a, 'l> {
    text: &'a str,
    bytes: &'a [u8],
    place: usize,
    depth: usize,
    /// Values that may still come.
    values: usize,
    limits: &'l Limits,
}

impl<'a> Parser<'a, '_> {
    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.place), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.place += 1;
        }
    }

    /// The next byte that is no white space, without taking it.
    fn peek(&mut self) -> Result<u8, RejectReason> {
        self.skip_space();
        self.bytes.get(self.place).copied().ok_or_else(|| malformed("ends inside a value"))
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, RejectReason> {
        self.values =
            self.values.checked_sub(1).ok_or_else(|| RejectReason::over_limit("elements", self.limits.elements as u64))?;
        match self.peek()? {
            b'{' => self.map(self.deeper(depth)?),
            b'[' => self.list(self.deeper(depth)?),
            b'"' => Ok(Value::Text(self.string()?)),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, RejectReason> {
        if depth >= self.depth {
            return Err(RejectReason::over_limit("depth", self.depth as u64));
        }
        Ok(depth + 1)
    }

    fn word(&mut self, word: &'static str, value: Value<'a>) -> Result<Value<'a>, RejectReason> {
        if !self.bytes[self.place..].starts_with(word.as_bytes()) {
            return Err(malformed("no value"));
        }
        self.place += word.len();
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>, RejectReason> {
        self.place += 1;
        let mut values = Vec::new();
        if self.peek()? == b']' {
            self.place += 1;
            return Ok(Value::List(values));
        }
        loop {
            values.push(self.value(depth)?);
            let next = self.peek()?;
            self.place += 1;
            match next {
                b',' => {}
                b']' => return Ok(Value::List(values)),
                _ => return Err(malformed("no comma or end in a list")),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value<'a>, RejectReason> {
        self.place += 1;
        let mut members: Vec<(Cow<'a, str>, Value<'a>)> = Vec::new();
        if self.peek()? == b'}' {
            self.place += 1;
            return Ok(Value::Map(members));
        }
        loop {
            if self.peek()? != b'"' {
                return Err(malformed("a key is no string"));
            }
            let key = self.string()?;
            if self.peek()? != b':' {
                return Err(malformed("no colon after a key"));
            }
            self.place += 1;
            members.push((key, self.value(depth)?));
            let next = self.peek()?;
            self.place += 1;
            match next {
                b',' => {}
                b'}' if has_repeated_key(&members) => return Err(malformed("a key stands twice")),
                b'}' => return Ok(Value::Map(members)),
                _ => return Err(malformed("no comma or end in an object")),
            }
        }
    }

    fn number(&mut self) -> Result<Value<'a>, RejectReason> {
        let start = self.place;
        self.skip_byte(|b| b == b'-');
        let first = self.bytes.get(self.place).copied();
        let whole = self.skip_digits();
        let mut valid = whole > 0 && (first != Some(b'0') || whole == 1);
        if self.skip_byte(|b| b == b'.') {
            valid &= self.skip_digits() > 0;
        }
        if self.skip_byte(|b| matches!(b, b'e' | b'E')) {
            self.skip_byte(|b| matches!(b, b'+' | b'-'));
            valid &= self.skip_digits() > 0;
        }
        if valid { Ok(Value::Number(&self.text[start..self.place])) } else { Err(malformed("no value")) }
    }

    fn skip_byte(&mut self, wanted: impl Fn(u8) -> bool) -> bool {
        let found = self.bytes.get(self.place).is_some_and(|b| wanted(*b));
        self.place += usize::from(found);
        found
    }

    fn skip_digits(&mut self) -> usize {
        let start = self.place;
        while self.bytes.get(self.place).is_some_and(u8::is_ascii_digit) {
            self.place += 1;
        }
        self.place - start
    }

    /// The string that begins here with its quote.
    fn string(&mut self) -> Result<Cow<'a, str>, RejectReason> {
        self.place += 1;
        let mut output = String::new();
        loop {
            let rest = &self.bytes[self.place..];
            let stop = memchr::memchr2(b'"', b'\\', rest).ok_or_else(|| malformed("ends inside a string"))?;
            let plain = &self.text[self.place..self.place + stop];
            if plain.bytes().any(|b| b < 0x20) {
                return Err(malformed("a raw control character in a string"));
            }
            self.place += stop + 1;
            if rest[stop] == b'"' {
                if output.is_empty() {
                    return Ok(Cow::Borrowed(plain));
                }
                output.push_str(plain);
                return Ok(Cow::Owned(output));
            }
            output.push_str(plain);
            output.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, RejectReason> {
        let kind = self.bytes.get(self.place).copied().ok_or_else(|| malformed("ends inside a string"))?;
        self.place += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(malformed("an unknown escape")),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, RejectReason> {
        let first = self.hex()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.bytes[self.place..].starts_with(b"\\u") {
                    return Err(malformed("half of a surrogate pair"));
                }
                self.place += 2;
                let second = self.hex()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(malformed("half of a surrogate pair"));
                }
                0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| malformed("half of a surrogate pair"))
    }

    fn hex(&mut self) -> Result<u32, RejectReason> {
        let digits = self.bytes.get(self.place..self.place + 4).ok_or_else(|| malformed("ends inside a string"))?;
        self.place += 4;
        digits.iter().try_fold(0, |code, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or_else(|| malformed("an unknown escape"))?;
            Ok(code * 16 + digit)
        })
    }
}

fn has_repeated_key(members: &[(Cow<'_, str>, Value<'_>)]) -> bool {
    if members.len() <= SMALL_OBJECT {
        return (1..members.len()).any(|i| members[..i].iter().any(|member| member.0 == members[i].0));
    }
    let mut keys = HashSet::with_capacity(members.len());
    members.iter().any(|member| !keys.insert(&member.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Value<'_>, RejectReason> {
        parse(text, &Limits::default())
    }

    fn refused(text: &str, detail: &str) {
        assert_eq!(read(text).unwrap_err().to_string(), detail, "{text:?}");
    }

    #[test]
    fn values_keep_spelling_and_order() {
        let value = read(r#" {"b": 1.50e+2, "a": [null, true, "x\n\u00e9\ud83d\ude00\/"], "c": {}} "#).unwrap();
        assert_eq!(value.get("b"), Some(&Value::Number("1.50e+2")));
        let Value::Map(members) = &value else { panic!("an object") };
        assert_eq!(members.iter().map(|m| m.0.as_ref()).collect::<Vec<_>>(), ["b", "a", "c"]);
        let list = Value::List(vec![Value::Null, Value::Bool(true), Value::Text("x\né😀/".into())]);
        assert_eq!(value.get("a"), Some(&list));
        // Beyond every float, and still an id.
        assert_eq!(read("-1.5e312"), Ok(Value::Number("-1.5e312")));
    }

    #[test]
    fn paths_reach_into_objects() {
        let value = read(r#"{"meta": {"id": 7, "x.y": {"z": "deep"}}, "meta.id": "literal"}"#).unwrap();
        assert_eq!(value.find("meta.id").and_then(Value::as_scalar), Some("literal"));
        assert_eq!(value.find("meta.x.y.z").and_then(Value::as_scalar), Some("deep"));
        assert_eq!(value.find("meta.x.z"), None);
        assert_eq!(value.find(""), None);
    }

    #[test]
    fn what_readers_disagree_about_is_refused() {
        refused(r#"{"a": 1, "a": 2}"#, "malformed-json: a key stands twice");
        let many: Vec<String> = (0..40).map(|i| format!(r#""k{}": 0"#, i % 39)).collect();
        refused(&format!("{{{}}}", many.join(",")), "malformed-json: a key stands twice");
        refused(r#""\ud800""#, "malformed-json: half of a surrogate pair");
        refused(r#""\udc00\ud800""#, "malformed-json: half of a surrogate pair");
        refused(r#""\ud800\u0041""#, "malformed-json: half of a surrogate pair");
        refused("NaN", "malformed-json: no value");
        refused("-Infinity", "malformed-json: no value");
        refused("01", "malformed-json: no value");
        refused("1 2", "malformed-json: text after the value");
        refused("[1,]", "malformed-json: no value");
        refused("\"a\tb\"", "malformed-json: a raw control character in a string");
        refused("\"a\0b\"", "malformed-json: a raw control character in a string");
        refused("", "malformed-json: ends inside a value");
        refused("\"abc", "malformed-json: ends inside a string");
        refused("\"\\u12", "malformed-json: ends inside a string");
        refused("{a: 1}", "malformed-json: a key is no string");
    }

    #[test]
    fn case_31_depth_and_size_are_limited() {
        refused(&"[".repeat(1_000_000), "over-limit: depth = 256");
        let deep = format!("{}{}", "[".repeat(256), "]".repeat(256));
        assert!(read(&deep).is_ok());
        let limits = Limits { elements: 10, ..Limits::default() };
        assert_eq!(parse("[0,0,0,0,0,0,0,0,0,0]", &limits), Err(RejectReason::over_limit("elements", 10)));
        let endless = Limits { depth: usize::MAX, ..Limits::default() };
        assert_eq!(parse(&"[".repeat(100_000), &endless), Err(RejectReason::over_limit("depth", 512)));
    }

    /// The same value by an independent reader.
    fn same(ours: &Value<'_>, theirs: &serde_json::Value) -> bool {
        match (ours, theirs) {
            (Value::Null, serde_json::Value::Null) => true,
            (Value::Bool(a), serde_json::Value::Bool(b)) => a == b,
            (Value::Number(a), serde_json::Value::Number(b)) => a.parse::<f64>().ok() == b.as_f64(),
            (Value::Text(a), serde_json::Value::String(b)) => a == b,
            (Value::List(a), serde_json::Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Value::Map(a), serde_json::Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(key, value)| b.get(key.as_ref()).is_some_and(|b| same(value, b)))
            }
            _ => false,
        }
    }

    fn any_json() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just("\"a\""),
            Just("\"b\\u00e9\""),
            Just("null"),
            Just("true"),
            Just("-1.5e3"),
            Just("0"),
            Just(" "),
            Just("\"\\n\\\"\""),
            Just("\""),
            Just("\\"),
            Just("é"),
            Just("12"),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e9..1e9_f64).prop_map(Into::into),
            "\\PC{0,12}|[\\x00-\\x7f]{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::btree_map("[a-z\\\\\"é]{0,4}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_an_independent_reader(text in any_json()) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match read(&text) {
                Ok(ours) => match theirs {
                    Ok(theirs) => prop_assert!(same(&ours, &theirs)),
                    // It holds numbers as floats; we keep their spelling.
                    Err(error) => prop_assert!(error.to_string().starts_with("number out of range")),
                },
                Err(reason) if reason == malformed("a key stands twice") => {}
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }

        #[test]
        fn reads_what_an_independent_writer_wrote(value in any_value()) {
            let text = value.to_string();
            prop_assert!(read(&text).is_ok_and(|ours| same(&ours, &value)));
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert!(read(&pretty).is_ok_and(|ours| same(&ours, &value)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            drop(read(&text));
        }
    }
}
