//! Why a tokenizer file was refused or an encoding failed. Messages name tokens of the file, never text of a document.

use super::huggingface::RUN_CHARACTERS_MAX;
use super::{FILE_BYTES_MAX, TEXT_BYTES_MAX};

/// Errors of [`super::Tokenizer`].
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is larger than any tokenizer.
    #[error("{name}: tokenizer: {size_bytes} bytes, at most {FILE_BYTES_MAX} are read; is it the right file?")]
    TooLarge {
        /// Name given to `from_bytes`.
        name: String,
        /// Size of the file.
        size_bytes: u64,
    },
    /// The bytes are none of the three formats.
    #[error("{name}: tokenizer: unknown format; expected tokenizer.json, a SentencePiece model or a llama2.c tokenizer")]
    UnknownFormat {
        /// Name given to `from_bytes`.
        name: String,
    },
    /// The file is of a known format and must not be used.
    #[error("{name}: tokenizer: {reason}; use the file as the model's publisher released it, or another tokenizer")]
    Refused {
        /// Name given to `from_bytes`.
        name: String,
        /// What is wrong with it.
        reason: Refusal,
    },
    /// The text is longer than one call takes.
    #[error("{name}: encode: text of {text_bytes} bytes, at most {TEXT_BYTES_MAX}; split the document")]
    TextTooLong {
        /// Name of the tokenizer.
        name: String,
        /// Length of the text.
        text_bytes: u64,
    },
    /// A run that the patterns of the `tokenizers` crate can't take.
    #[error(
        "{name}: encode: text of {text_bytes} bytes: more than {RUN_CHARACTERS_MAX} characters without a space, or spaces alone; \
         the patterns of this tokenizer take no longer run; leave the document out, or use a tokenizer that mellama encodes itself"
    )]
    LongRun {
        /// Name of the tokenizer.
        name: String,
        /// Length of the text.
        text_bytes: u64,
    },
    /// The encoder failed on a text.
    #[error("{name}: encode: text of {text_bytes} bytes: {problem}; report the document's id and this message as a bug")]
    Encode {
        /// Name of the tokenizer.
        name: String,
        /// Length of the text.
        text_bytes: u64,
        /// What happened, without any of the text.
        problem: String,
    },
}

/// Reasons for which a tokenizer file is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not readable as its format.
    #[error("malformed at byte {offset}: {what}")]
    Malformed {
        /// Byte in the file.
        offset: u64,
        /// What was expected there.
        what: &'static str,
    },
    /// Not readable as the JSON of a tokenizer.
    #[error("line {line}, column {column}: {what}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The parser's message.
        what: String,
    },
    /// More of something than a tokenizer can have.
    #[error("{what}: {found}, at most {limit}")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// How many there are, or the first number above the limit.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// Two tokens have one id.
    #[error("id {id} belongs to two tokens; ids must be unique")]
    DuplicateId {
        /// The id.
        id: u32,
    },
    /// One token text stands twice in the file.
    #[error("token {text:?} stands twice (id {id} is the second); token texts must be unique")]
    DuplicateToken {
        /// The text.
        text: String,
        /// The second id.
        id: u32,
    },
    /// An id between 0 and the largest id has no token.
    #[error("id {id} has no token although larger ids have; ids must have no gaps")]
    IdGap {
        /// The first missing id.
        id: u32,
    },
    /// The vocabulary is empty.
    #[error("the vocabulary is empty")]
    Empty,
    /// Another model than BPE.
    #[error("model type {found}: only BPE is supported")]
    ModelType {
        /// The type in the file.
        found: String,
    },
    /// A setting whose effect would be wrong or unrepeatable here.
    #[error("{setting}: {reason}")]
    Setting {
        /// The setting.
        setting: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A merge makes or uses a token that it must not.
    #[error("merge {index}: {reason}")]
    Merge {
        /// Position in the list of merges, from 0.
        index: usize,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A token is wrong by itself.
    #[error("token {id}: {reason}")]
    Token {
        /// Its id.
        id: u32,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A pattern whose time is not known to be bounded.
    #[error("pattern {pattern:?}: not one of the known pre-tokenizer patterns, so its time on long text is unbounded")]
    Pattern {
        /// The pattern, shortened.
        pattern: String,
    },
    /// The `tokenizers` crate refused or could not load it.
    #[error("the tokenizers library can't load it: {what}")]
    Library {
        /// Its message.
        what: String,
    },
}
