//! The layouts of instruction records, told by their keys, as checked turns.
//!
//! Texts are taken verbatim. It knows nothing of files.

use super::{Role, Turn};
use crate::json::Value;
use crate::reject::RejectReason;

/// The layout with a prompt and an answer in keys of their own: where the question stands, what belongs to it, where the answer
/// stands. The first whose question and answer are keys of the record counts; case is not looked at.
const PAIRS: [(&str, Option<&str>, &str); 8] = [
    ("instruction", Some("input"), "output"),
    ("instruction", Some("context"), "response"),
    ("instruction", Some("input"), "response"),
    ("query", None, "answer"),
    ("question", Some("context"), "answer"),
    ("question", Some("context"), "response"),
    ("prompt", None, "response"),
    ("input", None, "output"),
];

/// The turns of a record, in a valid order.
pub(super) fn turns_of(record: &Value<'_>) -> Result<Vec<Turn>, RejectReason> {
    let mut turns = Vec::new();
    if let Some(system) = member_text(record, "system")?.filter(|text| !text.trim().is_empty()) {
        turns.push(turn(Role::System, system));
    }
    if let Some(list) = record.get("conversations") {
        add_messages(&mut turns, list, "conversations", "from", "value")?;
    } else if let Some(list) = record.get("messages") {
        add_messages(&mut turns, list, "messages", "role", "content")?;
    } else {
        add_history(&mut turns, record)?;
        add_pair(&mut turns, record)?;
    }
    check_order(&turns)?;
    Ok(turns)
}

fn turn(role: Role, text: &str) -> Turn {
    Turn { role, text: text.to_owned() }
}

fn malformed(what: &'static str) -> RejectReason {
    RejectReason::MalformedConversation { what: what.to_owned() }
}

fn wrong_type(field: &str) -> RejectReason {
    RejectReason::WrongType { field: field.to_owned() }
}

/// A member by name without regard to case.
fn member<'r, 'a>(record: &'r Value<'a>, name: &str) -> Option<&'r Value<'a>> {
    match record {
        Value::Map(members) => members.iter().find(|member| member.0.eq_ignore_ascii_case(name)).map(|member| &member.1),
        _ => None,
    }
}

/// The text of a member; null counts as absent.
fn member_text<'r>(record: &'r Value<'_>, name: &str) -> Result<Option<&'r str>, RejectReason> {
    match member(record, name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_text().map(Some).ok_or_else(|| wrong_type(name)),
    }
}

fn add_messages(
    turns: &mut Vec<Turn>,
    list: &Value<'_>,
    field: &'static str,
    role_key: &'static str,
    text_key: &'static str,
) -> Result<(), RejectReason> {
    let Value::List(messages) = list else {
        return Err(wrong_type(field));
    };
    for message in messages {
        let name = message.get(role_key).and_then(Value::as_text).ok_or_else(|| wrong_type(role_key))?;
        let role = role_of(name).ok_or_else(|| malformed("a role that is neither system, user nor assistant"))?;
        let text = match message.get(text_key) {
            Some(Value::Text(text)) => text.clone().into_owned(),
            Some(Value::List(parts)) => text_of_parts(parts).ok_or_else(|| wrong_type(text_key))?,
            None | Some(Value::Null) => return Err(malformed("a turn without text")),
            Some(_) => return Err(wrong_type(text_key)),
        };
        turns.push(Turn { role, text });
    }
    Ok(())
}

/// Roles under the names that the layouts give them.
fn role_of(name: &str) -> Option<Role> {
    match name.to_ascii_lowercase().as_str() {
        "system" => Some(Role::System),
        "human" | "user" => Some(Role::User),
        "gpt" | "agent" | "assistant" | "bot" | "model" | "chatgpt" => Some(Role::Assistant),
        _ => None,
    }
}

/// `[{"type": "text", "text": …}, …]`; nothing where a part is no text.
fn text_of_parts(parts: &[Value<'_>]) -> Option<String> {
    parts
        .iter()
        .map(|part| {
            let is_text = part.get("type").and_then(Value::as_text) == Some("text");
            part.get("text").and_then(Value::as_text).filter(|_| is_text)
        })
        .collect()
}

/// `history`: pairs of an earlier question and its answer.
fn add_history(turns: &mut Vec<Turn>, record: &Value<'_>) -> Result<(), RejectReason> {
    let pairs = match member(record, "history") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::List(pairs)) => pairs,
        Some(_) => return Err(wrong_type("history")),
    };
    for pair in pairs {
        let Value::List(pair) = pair else {
            return Err(wrong_type("history"));
        };
        let [Value::Text(question), Value::Text(answer)] = pair.as_slice() else {
            return Err(wrong_type("history"));
        };
        turns.push(turn(Role::User, question));
        turns.push(turn(Role::Assistant, answer));
    }
    Ok(())
}

fn add_pair(turns: &mut Vec<Turn>, record: &Value<'_>) -> Result<(), RejectReason> {
    let has = |name: &str| member(record, name).is_some();
    let Some((question, extra, answer)) = PAIRS.into_iter().find(|pair| has(pair.0) && has(pair.2)) else {
        let expected = "conversations, messages, instruction and output, query and answer, or question and answer";
        return Err(RejectReason::UnknownLayout { expected: expected.to_owned() });
    };
    let asked = member_text(record, question)?.unwrap_or_default();
    let added = extra.map_or(Ok(None), |name| member_text(record, name))?.unwrap_or_default();
    let prompt = match (asked.trim().is_empty(), added.trim().is_empty()) {
        (false, false) => format!("{asked}\n\n{added}"),
        (false, true) => asked.to_owned(),
        (true, _) => added.to_owned(),
    };
    turns.push(Turn { role: Role::User, text: prompt });
    turns.push(turn(Role::Assistant, member_text(record, answer)?.unwrap_or_default()));
    Ok(())
}

fn check_order(turns: &[Turn]) -> Result<(), RejectReason> {
    let spoken = match turns.first() {
        Some(first) if first.role == Role::System => &turns[1..],
        _ => turns,
    };
    if spoken.iter().all(|turn| turn.role != Role::Assistant) {
        return Err(malformed("no answer"));
    }
    if turns.iter().any(|turn| turn.text.trim().is_empty()) {
        let answer = turns.iter().any(|turn| turn.role == Role::Assistant && turn.text.trim().is_empty());
        return Err(malformed(if answer { "an empty answer" } else { "an empty turn" }));
    }
    if spoken.iter().any(|turn| turn.role == Role::System) {
        return Err(malformed("a system turn that is not the first"));
    }
    let ordered =
        spoken.chunks(2).all(|pair| pair[0].role == Role::User && pair.get(1).is_none_or(|t| t.role == Role::Assistant));
    if !ordered {
        return Err(malformed("turns of user and assistant do not take turns"));
    }
    if spoken.len() % 2 == 1 {
        return Err(malformed("the last question has no answer"));
    }
    Ok(())
}
