//! Tokenizers: text to token ids and back, from three kinds of tokenizer file.
//!
//! | file | read by | encoder |
//! |---|---|---|
//! | Hugging Face `tokenizer.json` (BPE) | our own checks, then the `tokenizers` crate | our own for the rules of LLaMA-2, GPT-2, Llama 3 and their like, else the crate's |
//! | `SentencePiece` `tokenizer.model` (BPE) | our own protobuf reader | our own, equal to `SentencePiece` |
//! | llama2.c `tokenizer.bin` | our own reader | our own |
//!
//! Corpus text is data: `encode` never reads a control token out of text, adds neither BOS nor EOS, and loses no
//! character. It does not add templates, truncate, pad or train vocabularies.

mod alphabet;
mod bpe;
mod byte_level;
mod classes;
mod components;
mod coverage;
mod cuts;
mod decode;
mod huggingface;
mod json_checks;
mod llama2c;
mod merge;
mod own;
mod pairs;
mod protobuf;
mod rank_queue;
mod refusal;
mod segment_cache;
mod segments;
mod sentencepiece;
mod spaces;
mod split;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

use bpe::Bpe;
use huggingface::{HuggingFace, Problem};

pub use refusal::{Refusal, TokenizerError};
pub use segment_cache::CACHE_BYTES;

/// Largest tokenizer file that is read, in bytes. The largest public `tokenizer.json` files are about half of it.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most tokens that a vocabulary may hold.
pub const VOCABULARY_MAX: u32 = 1 << 20;
/// Longest text that one `encode` call takes, in bytes. Positions inside the encoder are u32.
pub const TEXT_BYTES_MAX: u64 = 1 << 30;

/// Which kind of file a [`Tokenizer`] was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerKind {
    /// Hugging Face `tokenizer.json`.
    HuggingFace,
    /// `SentencePiece` `tokenizer.model`.
    SentencePiece,
    /// llama2.c `tokenizer.bin`.
    Llama2C,
}

impl TokenizerKind {
    /// The kind's name in manifests: `huggingface`, `sentencepiece` or `llama2c`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HuggingFace => "huggingface",
            Self::SentencePiece => "sentencepiece",
            Self::Llama2C => "llama2c",
        }
    }
}

/// Which encoder turns text into ids. Both give the same ids; the own one is many times faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// Ours.
    Own,
    /// That of the `tokenizers` crate, for files whose rules ours doesn't have.
    Library,
}

impl Encoder {
    /// The encoder's name in plans and manifests: `own` or `tokenizers`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Library => "tokenizers",
        }
    }
}

/// A tokenizer read from one file. Shared freely between threads; the ids never depend on threads or on earlier calls.
#[derive(Debug)]
pub struct Tokenizer {
    name: String,
    digest: String,
    kind: TokenizerKind,
    vocabulary_size: u32,
    control: ControlIds,
    backend: Backend,
}

/// Ids of the tokens that stand for no text, where the file has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ControlIds {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) unknown: Option<u32>,
}

#[derive(Debug)]
enum Backend {
    HuggingFace(Box<HuggingFace>),
    Bpe(Box<Bpe>),
}

impl Tokenizer {
    /// Reads a tokenizer from the whole content of its file; the kind is told from the bytes, never from `name`.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`], [`TokenizerError::UnknownFormat`], or [`TokenizerError::Refused`] with the reason.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let size_bytes = bytes.len() as u64;
        if size_bytes > FILE_BYTES_MAX {
            return Err(TokenizerError::TooLarge { name: name.to_owned(), size_bytes });
        }
        let refused = |reason| TokenizerError::Refused { name: name.to_owned(), reason };
        let kind = detect(bytes).ok_or_else(|| TokenizerError::UnknownFormat { name: name.to_owned() })?;
        let (backend, control, vocabulary_size) = match kind {
            TokenizerKind::HuggingFace => {
                let model = HuggingFace::from_json(bytes).map_err(refused)?;
                let (control, size) = (model.control(), model.vocabulary_size());
                (Backend::HuggingFace(Box::new(model)), control, size)
            }
            TokenizerKind::SentencePiece | TokenizerKind::Llama2C => {
                let vocabulary = match kind {
                    TokenizerKind::SentencePiece => sentencepiece::read(bytes),
                    _ => llama2c::read(bytes),
                }
                .map_err(refused)?;
                let model = Bpe::new(vocabulary).map_err(refused)?;
                let (control, size) = (model.control(), model.vocabulary_size());
                (Backend::Bpe(Box::new(model)), control, size)
            }
        };
        let digest = blake3::hash(bytes).to_hex().to_string();
        Ok(Self { name: name.to_owned(), digest, kind, vocabulary_size, control, backend })
    }

    /// Token ids of `text`, in order, without BOS and EOS. Text that spells a control token (`</s>`) stays text.
    ///
    /// # Errors
    /// [`TokenizerError::TextTooLong`] above [`TEXT_BYTES_MAX`]; [`TokenizerError::LongRun`] for what the patterns of the
    /// `tokenizers` crate can't take; [`TokenizerError::Encode`] when it fails or would lose text. None
    /// holds any of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 8);
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// Appends the ids of `text` to `ids`, as [`Tokenizer::encode`] gives them. After an error `ids` is as it was.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let text_bytes = text.len() as u64;
        if text_bytes > TEXT_BYTES_MAX {
            return Err(TokenizerError::TextTooLong { name: self.name.clone(), text_bytes });
        }
        match &self.backend {
            Backend::Bpe(model) => model.encode(text, ids),
            Backend::HuggingFace(model) => {
                let name = || self.name.clone();
                model.encode(text, ids).map_err(|problem| match problem {
                    Problem::LongRun => TokenizerError::LongRun { name: name(), text_bytes },
                    Problem::Fault(problem) => TokenizerError::Encode { name: name(), text_bytes, problem },
                })?;
            }
        }
        Ok(())
    }

    /// Text of `ids`: control tokens are silent, byte tokens are joined into UTF-8 with U+FFFD for what is not valid,
    /// and the one space that the encoder put before the text is taken away. Ids outside the vocabulary are skipped.
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.backend {
            Backend::Bpe(model) => model.decode(ids),
            Backend::HuggingFace(model) => model.decode(ids),
        }
    }

    /// Bytes that `id` adds to the output after `previous` (`None` at the start), for printing while generating.
    ///
    /// As in llama2.c the leading space of a piece is dropped at the start and after BOS. A byte token gives its one
    /// byte, so only the joined bytes of several calls need be UTF-8. Control tokens and unknown ids give no bytes.
    pub fn decode_piece(&self, previous: Option<u32>, id: u32) -> Vec<u8> {
        let at_start = previous.is_none() || (previous == self.control.bos);
        match &self.backend {
            Backend::Bpe(model) => model.piece_bytes(at_start, id).to_vec(),
            Backend::HuggingFace(model) => model.piece_bytes(at_start, id).to_vec(),
        }
    }

    /// Number of ids, so that every id is below it.
    pub fn vocabulary_size(&self) -> u32 {
        self.vocabulary_size
    }

    /// Id that begins a text, where the file has one.
    pub fn bos(&self) -> Option<u32> {
        self.control.bos
    }

    /// Id that ends a text, where the file has one.
    pub fn eos(&self) -> Option<u32> {
        self.control.eos
    }

    /// Id that stands for text outside the vocabulary, where the file has one.
    pub fn unknown(&self) -> Option<u32> {
        self.control.unknown
    }

    /// BLAKE3 of the file, 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The kind of file that it was read from.
    pub fn kind(&self) -> TokenizerKind {
        self.kind
    }

    /// Which encoder its texts go through.
    pub fn encoder(&self) -> Encoder {
        match &self.backend {
            Backend::HuggingFace(model) if !model.has_own_encoder() => Encoder::Library,
            Backend::HuggingFace(_) | Backend::Bpe(_) => Encoder::Own,
        }
    }

    /// The name that it was opened under, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Tells the kind from the first bytes.
///
/// A `SentencePiece` file begins with the length-delimited field 1 (`0a`), whose first four bytes read as a number are
/// always above 65,535 because the third is a field tag or the upper part of a length. A llama2.c file begins with
/// the length of its longest token, a small number.
fn detect(bytes: &[u8]) -> Option<TokenizerKind> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *first == b'{' {
        return Some(TokenizerKind::HuggingFace);
    }
    let head = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    if head <= llama2c::TOKEN_BYTES_MAX {
        Some(TokenizerKind::Llama2C)
    } else if bytes[0] == 0x0a {
        Some(TokenizerKind::SentencePiece)
    } else {
        None
    }
}
