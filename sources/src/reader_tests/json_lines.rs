//! JSON lines and RedPajama.

use std::io::Write;

use super::{context, documents, items, outline, read, rejects};
use crate::document::text_id;
use crate::reader::{Fields, Format, Item, Limits};

fn with_fields(text: &str, fields: Fields) -> Vec<Item> {
    let mut context = context("object");
    context.fields = fields;
    items(Format::Jsonl, context, text.as_bytes().to_vec(), &Limits::default())
}

#[test]
fn fields_become_a_document_and_the_rest_meta_data() {
    let line =
        r#"{"id": 1.50, "text": "T\u00e9xt", "title": "Ti", "N": 3, "flag": true, "none": null, "list": [1], "in": {"a": 1}}"#;
    let found = read(Format::Jsonl, line.as_bytes());
    let document = documents(&found)[0];
    assert_eq!(document.id, "source:1.50");
    assert_eq!((document.text.as_str(), document.title.as_deref()), ("Téxt", Some("Ti")));
    assert_eq!((document.version, document.year), (1, None));
    assert_eq!(document.licence.as_deref(), Some("stated"));
    let meta: Vec<(&str, &str)> = document.meta.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(meta, [("flag", "true"), ("n", "3")]);
}

#[test]
fn the_recipe_names_fields_and_paths() {
    let fields = Fields {
        id: Some("meta.id".into()),
        text: Some("body".into()),
        title: Some("head".into()),
        year: Some("meta.date".into()),
        licence: Some("lic".into()),
        version: Some("v".into()),
    };
    let line = r#"{"meta": {"id": "x/1", "date": "2012-03-04"}, "body": "B", "head": "H", "lic": "CC0", "v": 3}"#;
    let found = with_fields(line, fields.clone());
    let document = documents(&found)[0];
    assert_eq!((document.native_id.as_str(), document.text.as_str()), ("x/1", "B"));
    assert_eq!((document.year, document.version, document.licence.as_deref()), (Some(2012), 3, Some("CC0")));
    assert!(document.meta.is_empty());

    let odd = with_fields(r#"{"meta": {"id": "1", "date": "spring"}, "body": "B", "v": "x"}"#, fields.clone());
    assert_eq!(outline(&odd), ["0+62 invalid-value: field v"]);
    let odd = with_fields(r#"{"meta": {"id": "1", "date": "spring"}, "body": "B"}"#, fields.clone());
    assert_eq!(documents(&odd)[0].year, None);
    assert_eq!(documents(&odd)[0].meta["meta.date"], "spring");
    let none = with_fields("{\"body\": \"B\"}\n", fields);
    assert_eq!(outline(&none), ["0+14 missing-field: field meta.id"]);
}

#[test]
fn a_record_without_an_id_is_named_by_its_text() {
    let found = read(Format::Jsonl, b"{\"text\": \"T\"}\n{\"id\": null, \"text\": \"T\"}\n{\"id\": \"\", \"text\": \"T\"}");
    assert_eq!(documents(&found).len(), 3);
    assert!(documents(&found).iter().all(|document| document.native_id == text_id("T")));
}

#[test]
fn case_31_bad_lines_are_rejected_with_their_place_and_the_file_goes_on() {
    let deep = format!("{{\"text\": {}", "[".repeat(1_000));
    let lines: Vec<(&[u8], &str)> = vec![
        (b"{\"id\": 1, \"text\": \"T\"}", ""),
        (b"not json", "malformed-json: no value"),
        (b"[1]", "malformed-json: not an object"),
        (b"{\"text\": NaN}", "malformed-json: no value"),
        (b"{\"text\": \"a\", \"text\": \"b\"}", "malformed-json: a key stands twice"),
        (b"{\"text\": \"\\ud800\"}", "malformed-json: half of a surrogate pair"),
        (b"{\"text\": \"\xff\"}", "invalid-utf8"),
        (b"{\"text\": \"\xc0\x80\"}", "invalid-utf8"),
        (b"{\"other\": 1}", "missing-field: field text"),
        (b"{\"text\": null}", "missing-field: field text"),
        (b"{\"text\": 5}", "wrong-type: field text"),
        (b"{\"text\": \" \\n\"}", "empty-record"),
        (b"{\"id\": [1], \"text\": \"T\"}", "wrong-type: field id"),
        (b"{\"id\": \"a\\nb\", \"text\": \"T\"}", "invalid-value: field id"),
        (deep.as_bytes(), "over-limit: depth = 256"),
        (b"{\"text\": \"a\0b\"}", "malformed-json: a raw control character in a string"),
        (b"{\"id\": 2, \"text\": \"no line end\"}", ""),
    ];
    let bytes = lines.iter().map(|(line, _)| *line).collect::<Vec<_>>().join(&b"\r\n"[..]);
    let mut offset = 0;
    let mut expected = Vec::new();
    for (index, (line, reason)) in lines.iter().enumerate() {
        let length = line.len() + if index + 1 < lines.len() { 2 } else { 0 };
        match *reason {
            "" => expected.push(format!("{offset} {}", if index == 0 { 1 } else { 2 })),
            reason => expected.push(format!("{offset}+{length} {reason}")),
        }
        offset += length;
    }
    assert_eq!(outline(&read(Format::Jsonl, &bytes)), expected);
}

#[test]
fn blank_lines_and_a_byte_order_mark_are_passed_over() {
    let found = read(Format::Jsonl, "\u{feff}{\"id\":1,\"text\":\"a\"}\n\n  \r\n{\"id\":2,\"text\":\"b\"}".as_bytes());
    assert_eq!(outline(&found), ["3 1", "28 2"]);
    assert!(read(Format::Jsonl, b"\n\n").is_empty());
}

#[test]
fn an_empty_object_is_one_reject_compressed_or_not() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"").unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&b""[..], 1).unwrap();
    for bytes in [&b""[..], &gzip, &zstd] {
        for format in [Format::Jsonl, Format::Redpajama] {
            assert_eq!(outline(&read(format, bytes)), ["0+0 empty-object"], "{format}");
        }
    }
}

#[test]
fn lines_over_the_limit_are_rejected() {
    let limits = Limits { record_bytes: 30, ..Limits::default() };
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(1_000_000));
    let text = format!("{long}\n{{\"id\":1,\"text\":\"a\"}}\n");
    let found = items(Format::Jsonl, context("o"), text.into_bytes(), &limits);
    assert_eq!(outline(&found), ["0+1000012 over-limit: record_bytes = 30", "1000012 1"]);
}

#[test]
fn case_29_compressed_lines_and_their_truncation() {
    let line = |i: u32| format!("{{\"id\":{i},\"text\":\"line {}\"}}", blake3::hash(&i.to_le_bytes()));
    let text = (0..5_000).map(line).collect::<Vec<_>>().join("\n");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    let gzip = encoder.finish().unwrap();
    assert_eq!(documents(&read(Format::Jsonl, &gzip)).len(), 5_000);
    let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
    assert_eq!(documents(&read(Format::Jsonl, &zstd)).len(), 5_000);

    for cut in [gzip.len() / 2, gzip.len() - 1] {
        let found = read(Format::Jsonl, &gzip[..cut]);
        let (last, before) = found.split_last().unwrap();
        assert!(before.iter().all(|item| matches!(item, Item::Document(_))));
        let Item::Reject(reject) = last else { panic!("a truncated stream is never a short one") };
        assert_eq!(reject.reason.code(), "truncated-stream");
    }
}

fn ids(text: &str) -> Vec<String> {
    let found = read(Format::Redpajama, text.as_bytes());
    assert!(rejects(&found).is_empty(), "{:?}", rejects(&found));
    documents(&found).iter().map(|document| document.native_id.clone()).collect()
}

#[test]
fn redpajama_records_are_named_by_their_parts() {
    let lines = [
        r#"{"text": "T", "meta": {"arxiv_id": "1712.01076", "url": "https://arxiv.org/abs/1712.01076"}}"#,
        r#"{"text": "T", "meta": "{\"arxiv_id\": \"1712.05960\"}"}"#,
        r#"{"text": "T", "meta": {"content_hash": "abc", "repo_name": "r"}}"#,
        r#"{"text": "T", "meta": {"question_id": 12, "url": "https://a.example.com/questions/12"}}"#,
        r#"{"text": "T", "meta": {"url": "https://example.org/p", "timestamp": "2019-04-25T12:57:54Z", "source": "c4"}}"#,
        r#"{"text": "T", "meta": {"url": "https://en.wikipedia.org/wiki/A", "title": "A", "language": "en"}}"#,
        r#"{"text": "T", "meta": {"short_book_title": "B"}}"#,
        r#"{"text": "T", "meta": {"source": "cc/2019-30/en_head_0000.json.gz/line1"}}"#,
        r#"{"text": "T"}"#,
        r#"{"raw_content": "T", "url": "u", "digest": "sha1:XYZ", "date_download": "2023-01-01"}"#,
    ];
    let expected = [
        "1712.01076",
        "1712.05960",
        "abc",
        "a.example.com/12",
        "https://example.org/p@2019-04-25T12:57:54Z",
        "https://en.wikipedia.org/wiki/A",
        "B",
        &text_id("T"),
        &text_id("T"),
        "sha1:XYZ",
    ];
    assert_eq!(ids(&lines.join("\n")), expected);
}

#[test]
fn redpajama_keeps_meta_data_and_title() {
    let line = r#"{"text": "T", "red": 1, "meta": {"url": "u", "title": "A", "language": "en", "n": [1]}}"#;
    let found = read(Format::Redpajama, line.as_bytes());
    let document = documents(&found)[0];
    assert_eq!(document.title.as_deref(), Some("A"));
    assert_eq!(document.meta["language"], "en");
    assert_eq!(document.meta["red"], "1");
    assert!(!document.meta.contains_key("n"));
    let found = read(Format::Redpajama, br#"{"text": "T", "meta": "no object"}"#);
    assert_eq!(outline(&found), ["0+34 malformed-json: meta is a string without an object"]);
    let mut named = context("o");
    named.fields.id = Some("meta.language".into());
    let found = items(Format::Redpajama, named, line.as_bytes().to_vec(), &Limits::default());
    assert_eq!(documents(&found)[0].native_id, "en");
}
