//! Layouts, files and faults of instruction records.

use proptest::prelude::*;

use super::*;
use crate::document::Domain;
use crate::reader::Fields;

fn context() -> SourceContext {
    SourceContext {
        name: "chat".into(),
        domain: Domain::Clinical,
        sensitivity: Sensitivity::Dua,
        licence: Some("CC0".into()),
        fields: Fields::default(),
        read: crate::options::ReadOptions::default(),
        object: "o.json".into(),
    }
}

fn read_with(context: SourceContext, bytes: &[u8], limits: &Limits) -> Vec<ConversationItem> {
    let mut reader = open_conversations(context, Input::from_bytes(bytes.to_vec()), limits).unwrap();
    let items = std::iter::from_fn(|| reader.next()).map(Result::unwrap).collect();
    assert!(reader.next().is_none());
    items
}

fn read(bytes: &[u8]) -> Vec<ConversationItem> {
    read_with(context(), bytes, &Limits::default())
}

/// The turns as `role:text`, or the reason, of the one record.
fn one(record: &str) -> Vec<String> {
    let items = read(record.as_bytes());
    assert_eq!(items.len(), 1, "{record}");
    match &items[0] {
        ConversationItem::Conversation(found) => found.turns.iter().map(|t| format!("{}:{}", t.role, t.text)).collect(),
        ConversationItem::Reject(reject) => vec![reject.reason.to_string()],
    }
}

fn check(record: &str, expected: &[&str]) {
    assert_eq!(one(record), expected, "{record}");
    assert_eq!(one(&format!("[{record}]")), expected, "in an array: {record}");
}

#[test]
fn layouts_are_told_by_their_keys() {
    check(r#"{"instruction": "Q", "input": "", "output": "A"}"#, &["user:Q", "assistant:A"]);
    check(r#"{"instruction": "Q", "input": "I", "output": "A"}"#, &["user:Q\n\nI", "assistant:A"]);
    check(r#"{"instruction": "", "input": "I", "output": "A"}"#, &["user:I", "assistant:A"]);
    check(r#"{"input": "I", "output": "A"}"#, &["user:I", "assistant:A"]);
    check(
        r#"{"system": "S", "history": [["q", "a"]], "instruction": "Q", "output": "A"}"#,
        &["system:S", "user:q", "assistant:a", "user:Q", "assistant:A"],
    );
    check(r#"{"instruction": "Q", "context": "C", "response": "A"}"#, &["user:Q\n\nC", "assistant:A"]);
    check(r#"{"query": "Q", "answer": "A"}"#, &["user:Q", "assistant:A"]);
    check(r#"{"Question": "Q", "Answer": "A", "URL": "x"}"#, &["user:Q", "assistant:A"]);
    check(
        r#"{"conversations": [{"from": "human", "value": "Q"}, {"from": "agent", "value": "A"}], "text": "Q"}"#,
        &["user:Q", "assistant:A"],
    );
    check(
        r#"{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "Q"}]},
            {"role": "assistant", "content": "A"}]}"#
            .replace('\n', " ")
            .as_str(),
        &["system:S", "user:Q", "assistant:A"],
    );
}

#[test]
fn records_that_cannot_be_trained_on_are_rejected() {
    let bad = |what: &str| vec![format!("malformed-conversation: {what}")];
    let chat = |turns: &str| {
        let turns: Vec<String> = turns
            .split(' ')
            .map(|t| {
                let (from, value) = t.split_once('=').unwrap();
                format!(r#"{{"from": "{from}", "value": "{value}"}}"#)
            })
            .collect();
        one(&format!(r#"{{"conversations": [{}]}}"#, turns.join(",")))
    };
    assert_eq!(one(r#"{"conversations": []}"#), bad("no answer"));
    assert_eq!(chat("human=Q"), bad("no answer"));
    assert_eq!(chat("human=Q gpt="), bad("an empty answer"));
    assert_eq!(chat("human= gpt=A"), bad("an empty turn"));
    assert_eq!(chat("gpt=A human=Q gpt=A"), bad("turns of user and assistant do not take turns"));
    assert_eq!(chat("human=Q human=Q gpt=A"), bad("turns of user and assistant do not take turns"));
    assert_eq!(chat("human=Q gpt=A human=Q"), bad("the last question has no answer"));
    assert_eq!(chat("human=Q gpt=A system=S"), bad("a system turn that is not the first"));
    assert_eq!(chat("human=Q tool=A"), bad("a role that is neither system, user nor assistant"));
    assert_eq!(one(r#"{"instruction": "Q", "input": "", "output": " "}"#), bad("an empty answer"));
    assert_eq!(one(r#"{"instruction": "", "input": "", "output": "A"}"#), bad("an empty turn"));
    assert_eq!(one(r#"{"instruction": "Q", "output": 5}"#), ["wrong-type: field output"]);
    assert_eq!(one(r#"{"messages": "x"}"#), ["wrong-type: field messages"]);
    assert!(one(r#"{"text": "x"}"#)[0].starts_with("unknown-layout: "));
}

#[test]
fn ids_are_verbatim_or_a_hash_of_the_turns() {
    let text = r#"{"id": "a-1", "query": "Q", "answer": "A"}
{"id": 7.50, "query": "Q", "answer": "A"}
{"query": "Q", "answer": "A", "task": "qa"}
{"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}"#;
    let items = read(text.as_bytes());
    let found: Vec<&Conversation> = items
        .iter()
        .map(|item| match item {
            ConversationItem::Conversation(found) => found,
            ConversationItem::Reject(reject) => panic!("{reject:?}"),
        })
        .collect();
    assert_eq!(found[0].id, "chat:a-1");
    assert_eq!(found[1].native_id, "7.50");
    assert_eq!(found[2].native_id.len(), 32);
    assert_eq!(found[2].native_id, found[3].native_id);
    assert_eq!(found[2].task.as_deref(), Some("qa"));
    assert_eq!((found[2].sensitivity, found[2].licence.as_deref()), (Sensitivity::Dua, Some("CC0")));
    assert_eq!(found[1].origin.byte_offset, 43);

    let mut named = context();
    named.fields.id = Some("meta.key".into());
    let items = read_with(named, br#"{"query": "Q", "answer": "A"}"#, &Limits::default());
    let ConversationItem::Reject(reject) = &items[0] else { panic!("no id") };
    assert_eq!(reject.reason, RejectReason::MissingField { field: "meta.key".into() });
}

#[test]
fn arrays_are_streamed_with_offsets_and_go_on_after_bad_elements() {
    let text = "\u{feff}[\n {\"query\": \"[]{},\\\"\", \"answer\": \"A\"},\n 5, {\"query\": 1 ,\"answer\"}, {\"query\":\"Q\",\"answer\":\"A\"}\n]\n";
    let items = read(text.as_bytes());
    let offsets: Vec<(u64, bool)> = items
        .iter()
        .map(|item| match item {
            ConversationItem::Conversation(found) => (found.origin.byte_offset, true),
            ConversationItem::Reject(reject) => (reject.byte_offset, false),
        })
        .collect();
    let at = |needle: &str| text.find(needle).unwrap() as u64;
    assert_eq!(
        offsets,
        [(at("{\"query\": \"["), true), (at("5,"), false), (at("{\"query\": 1"), false), (at("{\"query\":\"Q"), true)]
    );
    assert!(read(b"[]").is_empty() && read(b" [ ] ").is_empty());
}

#[test]
fn broken_arrays_end_with_one_reject() {
    let last = |text: &str| match read(text.as_bytes()).pop() {
        Some(ConversationItem::Reject(reject)) => reject.reason.to_string(),
        other => panic!("{text}: {other:?}"),
    };
    let good = r#"{"query": "Q", "answer": "A"}"#;
    assert_eq!(last(&format!("[{good}")), "truncated-record");
    assert_eq!(last(&format!("[{good},")), "truncated-record");
    assert_eq!(last(r#"[{"query": "Q"#), "truncated-record");
    let between = "malformed-json: text between the elements of an array or behind it";
    assert_eq!(last(&format!("[{good}]]")), between);
    assert_eq!(last(&format!("[{good},]")), between);
    assert_eq!(last(&format!("[,{good}]")), between);
}

#[test]
fn elements_over_the_limit_are_passed_over() {
    let limits = Limits { record_bytes: 60, ..Limits::default() };
    let good = r#"{"query": "Q", "answer": "A"}"#;
    let long = format!(r#"{{"query": "{}", "answer": "A"}}"#, "x".repeat(300_000));
    for (text, offset) in [(format!("[{good},{long},{good}]"), 31), (format!("{good}\n{long}\n{good}\n"), 30)] {
        let items = read_with(context(), text.as_bytes(), &limits);
        assert_eq!(items.len(), 3);
        let ConversationItem::Reject(reject) = &items[1] else { panic!("over the limit") };
        assert_eq!(reject.reason, RejectReason::over_limit("record_bytes", 60));
        assert_eq!(reject.byte_offset, offset);
    }
}

#[test]
fn case_41_no_text_reaches_a_reject() {
    for bad in [
        r#"{"query": "CANARY", "answer": ""}"#,
        r#"{"conversations": [{"from": "CANARY", "value": "CANARY"}]}"#,
        r#"{"CANARY": "CANARY"}"#,
        r#"{"query": "CANARY", "answer": "CANARY", "id": {"CANARY": 1}}"#,
        r#"{"query": "CANARY" CANARY"#,
        r#"{"query": "CANARY", "query": "CANARY"}"#,
    ] {
        for text in [bad.to_owned(), format!("[{bad}]")] {
            for item in read(text.as_bytes()) {
                let ConversationItem::Reject(reject) = item else { panic!("{text}") };
                let json = serde_json::to_string(&reject).unwrap();
                assert!(!format!("{reject:?} {} {json}", reject.reason).contains("CANARY"), "{text}");
            }
        }
    }
    let items = read(br#"{"query": "CANARY", "answer": "CANARY"}"#);
    assert!(!format!("{items:?}").contains("CANARY"));
}

#[test]
fn case_32_the_pieces_of_the_input_do_not_matter() {
    let record = r#"{"query": "Q", "answer": "é"}"#;
    for text in [format!("\u{feff} \n[{record}, {record}]"), format!("\u{feff}\n {record}\n{record}")] {
        for piece in 1..6 {
            let stream = std::io::BufReader::with_capacity(piece, std::io::Cursor::new(text.clone().into_bytes()));
            let input = Input::Stream(Box::new(stream));
            let mut reader = open_conversations(context(), input, &Limits::default()).unwrap();
            let found: Vec<_> = std::iter::from_fn(|| reader.next()).map(Result::unwrap).collect();
            assert_eq!(found, read(text.as_bytes()));
            assert!(found.len() == 2 && found.iter().all(|item| matches!(item, ConversationItem::Conversation(_))));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(prop_oneof![
        Just(b'['), Just(b']'), Just(b'{'), Just(b'}'), Just(b'"'), Just(b','), Just(b'\n'), any::<u8>()], 0..120)
    ) {
        drop(read(&bytes));
        drop(read(&[b"[".as_slice(), &bytes].concat()));
    }
}
