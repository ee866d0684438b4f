//! Conversations: instruction records of several layouts as ordered turns, read from a JSON array or from JSON lines.
//!
//! Nothing is invented or repaired: a record without an answer, with an empty one, or with turns out of order is a reject with
//! its offset. Prompt templates are another part's work.

mod array;
mod layout;

use std::fmt;
use std::io::BufRead;

use serde::{Deserialize, Serialize};

use crate::compression::StreamFault;
use crate::document::{Origin, Sensitivity};
use crate::input::{ByteStream, Input};
use crate::json::Value;
use crate::jsonl::read_object;
use crate::lines::{Line, Lines};
use crate::reader::{Limits, ReadError, SourceContext};
use crate::reject::{Reject, RejectReason};
use crate::row::is_usable_id;
use array::{ArrayElements, Element};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Instructions that hold for the whole conversation; only at its start.
    System,
    /// The one who asks.
    User,
    /// The one who answers.
    Assistant,
}

impl Role {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }

    /// The role with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::System, Self::User, Self::Assistant].into_iter().find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What one says at a time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// What, never only white space.
    pub text: String,
}

/// Debug output gives the length of the text, never the text.
impl fmt::Debug for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Turn").field("role", &self.role).field("text_bytes", &self.text.len()).finish()
    }
}

/// One instruction record: at most one system turn, then user and assistant in turn, the assistant last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// `SOURCE:NATIVE_ID`.
    pub id: String,
    /// Name of the source in the recipe.
    pub source: String,
    /// The record's own id verbatim, else the first 32 hex digits of a BLAKE3 over its turns.
    pub native_id: String,
    /// What it trains, where the record says so.
    pub task: Option<String>,
    /// The turns.
    pub turns: Vec<Turn>,
    /// Handling level.
    pub sensitivity: Sensitivity,
    /// Licence.
    pub licence: Option<String>,
    /// Where the record stood.
    pub origin: Origin,
}

/// What a reader of conversations yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationItem {
    /// A good record.
    Conversation(Conversation),
    /// A bad one.
    Reject(Reject),
}

/// A stream of conversations in the order of the object. After an error, or `None`, it yields `None` for ever.
pub trait ConversationReader: Send {
    /// The next item.
    ///
    /// # Errors
    /// Inner: [`ReadError`] when the underlying bytes cannot be had.
    fn next(&mut self) -> Option<Result<ConversationItem, ReadError>>;
}

/// Opens a JSON array of records, or JSON lines of them, compressed or not; the first byte tells which.
///
/// Layouts are told by their keys: `conversations` with `from` and `value`; `messages` with `role` and `content`;
/// `instruction`, `input`, `output` (with `system` and `history`); `instruction`, `context`, `response`; `query` and `answer`;
/// `question` and `answer`. The id is `fields.id`, by default `id`.
///
/// # Errors
/// [`ReadError`] when the first bytes cannot be had.
pub fn open_conversations(
    context: SourceContext,
    input: Input,
    limits: &Limits,
) -> Result<Box<dyn ConversationReader>, ReadError> {
    let mut stream = ByteStream::new(input, limits);
    let is_array = match begins_array(&mut stream) {
        Ok(is_array) => is_array,
        Err(error) if StreamFault::of(&error).is_some() => false,
        Err(error) => return Err(context.read_error(stream.offset(), error)),
    };
    let records = if is_array {
        Records::Array(ArrayElements::new(stream, limits))
    } else {
        Records::Lines(Lines::of_stream(stream, limits))
    };
    Ok(Box::new(JsonConversations { context, limits: limits.clone(), records, ended: false }))
}

/// Passes over a byte order mark and white space, and says whether an array opens behind them.
fn begins_array(stream: &mut ByteStream) -> std::io::Result<bool> {
    loop {
        let offset = stream.offset() as usize;
        let Some(byte) = stream.fill_buf()?.first().copied() else {
            return Ok(false);
        };
        let mark = BYTE_ORDER_MARK.get(offset) == Some(&byte);
        if !mark && !byte.is_ascii_whitespace() {
            return Ok(byte == b'[');
        }
        stream.consume(1);
    }
}

#[derive(Debug)]
enum Records {
    Array(ArrayElements),
    Lines(Lines),
}

#[derive(Debug)]
struct JsonConversations {
    context: SourceContext,
    limits: Limits,
    records: Records,
    ended: bool,
}

impl JsonConversations {
    /// Offset, length and bytes of the next record, or what is wrong; `None` at the end.
    fn read(&mut self) -> std::io::Result<Option<Element>> {
        match &mut self.records {
            Records::Array(elements) => elements.read(),
            Records::Lines(lines) => loop {
                let over = RejectReason::over_limit("record_bytes", self.limits.record_bytes);
                return Ok(Some(match lines.read()? {
                    Line::End => return Ok(None),
                    Line::Content { .. } if lines.content().iter().all(u8::is_ascii_whitespace) => {
                        continue;
                    }
                    Line::Content { offset, bytes } => Element::Record { offset, bytes },
                    Line::OverLimit { offset, bytes } => Element::Bad { offset, bytes, reason: over },
                    Line::Fault { offset, bytes, reason } => Element::Fault { offset, bytes, reason },
                }));
            },
        }
    }

    fn content(&self) -> &[u8] {
        match &self.records {
            Records::Array(elements) => elements.content(),
            Records::Lines(lines) => lines.content(),
        }
    }

    fn offset(&self) -> u64 {
        match &self.records {
            Records::Array(elements) => elements.offset(),
            Records::Lines(lines) => lines.offset(),
        }
    }

    fn conversation(&self, offset: u64) -> Result<Conversation, RejectReason> {
        let record = read_object(self.content(), &self.limits)?;
        let turns = layout::turns_of(&record)?;
        let native_id = match native_id(&record, &self.context)? {
            Some(id) => id,
            None => turns_id(&turns),
        };
        let licence = self.context.fields.licence.as_deref().and_then(|name| record.find(name)?.as_scalar());
        Ok(Conversation {
            id: crate::document_id(&self.context.name, &native_id),
            source: self.context.name.clone(),
            native_id,
            task: record.get("task").and_then(Value::as_text).filter(|task| !task.is_empty()).map(str::to_owned),
            turns,
            sensitivity: self.context.sensitivity,
            licence: licence.map(str::to_owned).or_else(|| self.context.licence.clone()),
            origin: Origin { object: self.context.object.clone(), byte_offset: offset },
        })
    }
}

impl ConversationReader for JsonConversations {
    fn next(&mut self) -> Option<Result<ConversationItem, ReadError>> {
        if self.ended {
            return None;
        }
        let start = self.offset();
        let (offset, bytes, reason) = match self.read() {
            Err(error) => {
                self.ended = true;
                return Some(Err(self.context.read_error(start, error)));
            }
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Ok(Some(Element::Fault { offset, bytes, reason })) => {
                self.ended = true;
                (offset, bytes, reason)
            }
            Ok(Some(Element::Bad { offset, bytes, reason })) => (offset, bytes, reason),
            Ok(Some(Element::Record { offset, bytes })) => match self.conversation(offset) {
                Ok(conversation) => return Some(Ok(ConversationItem::Conversation(conversation))),
                Err(reason) => (offset, bytes, reason),
            },
        };
        Some(Ok(ConversationItem::Reject(self.context.reject(offset, bytes, reason))))
    }
}

fn native_id(record: &Value<'_>, context: &SourceContext) -> Result<Option<String>, RejectReason> {
    let named = context.fields.id.as_deref();
    let name = named.unwrap_or("id");
    let field = || name.to_owned();
    match record.find(name) {
        None | Some(Value::Null) if named.is_some() => Err(RejectReason::MissingField { field: field() }),
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_scalar() {
            Some("") if named.is_none() => Ok(None),
            Some(id) if is_usable_id(id) => Ok(Some(id.to_owned())),
            Some(_) => Err(RejectReason::InvalidValue { field: field() }),
            None => Err(RejectReason::WrongType { field: field() }),
        },
    }
}

/// The first 32 hex digits of the BLAKE3 over role, text length and text of each turn.
fn turns_id(turns: &[Turn]) -> String {
    let mut hasher = blake3::Hasher::new();
    for turn in turns {
        hasher.update(turn.role.as_str().as_bytes());
        hasher.update(&(turn.text.len() as u64).to_le_bytes());
        hasher.update(turn.text.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_string()
}

#[cfg(test)]
mod tests;
