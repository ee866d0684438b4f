//! A `tokenizer.json`, after the checks of `json_checks.rs`: encoded by our own encoder where `own.rs` has one for its
//! rules, else by the `tokenizers` crate, which decodes in any case.
//!
//! Around the crate: special tokens are never read from text, truncation, padding and post-processing of the file are
//! switched off, panics become errors, and where the rules are known the ids must account for every byte of the text.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr as _;
use std::sync::OnceLock;

use serde_json::Value;
use tokenizers::Tokenizer as Library;

use super::byte_level::{byte_level_table, table_bytes};
use super::components::{self, types};
use super::decode::{Output, PieceBytes};
use super::json_checks::{self, TokenizerFile};
use super::own::Own;
use super::sentencepiece::{SPACE_MARK, byte_of};
use super::{ControlIds, Refusal};

/// Texts that mean "begin of text", the first one present is taken.
const BOS_TEXTS: [&str; 5] =
    ["<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "<\u{ff5c}begin\u{2581}of\u{2581}sentence\u{ff5c}>"];
/// Texts that mean "end of text", the first one present is taken.
const EOS_TEXTS: [&str; 5] =
    ["</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>", "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>"];

/// Longest run of characters with no space among them, or of spaces alone, that goes through the library's patterns. Its engine
/// gives up after 10^6 steps back and then, without a word, splits no further; a pattern steps back at most once for a
/// character in each of its alternatives.
pub(super) const RUN_CHARACTERS_MAX: usize = 250_000;

/// A loaded `tokenizer.json`.
pub(super) struct HuggingFace {
    library: LazyLibrary,
    own: Option<Own>,
    /// Patterns of the pre-tokenizer go through the library's engine.
    has_patterns: bool,
    control: ControlIds,
    vocabulary_size: u32,
    pieces: PieceBytes,
    accounting: Accounting,
}

impl std::fmt::Debug for HuggingFace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = &self.vocabulary_size;
        out.debug_struct("HuggingFace").field("vocabulary_size", size).finish_non_exhaustive()
    }
}

/// Why a text was not encoded.
#[derive(Debug)]
pub(super) enum Problem {
    /// More than [`RUN_CHARACTERS_MAX`] characters of it without a space between them, or of spaces.
    LongRun,
    /// What the library did, without any of the text.
    Fault(String),
}

/// The crate's tokenizer of a file. Where our own encoder is used only decoding asks for it, so it is read then.
struct LazyLibrary {
    bytes: Box<[u8]>,
    library: OnceLock<Option<Library>>,
}

impl LazyLibrary {
    fn now(bytes: &[u8]) -> Result<Self, Refusal> {
        Ok(Self { bytes: Box::default(), library: OnceLock::from(Some(load(bytes)?)) })
    }

    fn later(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), library: OnceLock::new() }
    }

    /// None where the crate can't load a file that our own encoder could.
    fn get(&self) -> Option<&Library> {
        self.library.get_or_init(|| load(&self.bytes).ok()).as_ref()
    }
}

/// How many bytes the ids of a text must stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accounting {
    /// LLaMA-2's normalizer: one space before the text, every space or U+2581 one byte.
    Spaces,
    /// Byte-level without a prefix: exactly the text's bytes.
    Bytes,
    /// Rules for which the length is not known beforehand.
    Unknown,
}

impl HuggingFace {
    /// Checks and loads the file.
    ///
    /// # Errors
    /// A [`Refusal`] with the reason.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, Refusal> {
        let (file, texts) = json_checks::check(bytes)?;
        let control = control_ids(&file, &texts)?;
        let pieces = PieceBytes::new(outputs(&file, &texts), strips_start(&file));
        let vocabulary_size = texts.len() as u32;
        let accounting = accounting(&file);
        let own = Own::of(&file, &texts);
        if own.is_none() {
            check_reach(&file)?;
        }
        let library = if own.is_some() { LazyLibrary::later(bytes) } else { LazyLibrary::now(bytes)? };
        let has_patterns = components::steps_back(&file.pre_tokenizer);
        Ok(Self { library, own, has_patterns, control, vocabulary_size, pieces, accounting })
    }

    /// Whether our own encoder is used.
    pub(super) fn has_own_encoder(&self) -> bool {
        self.own.is_some()
    }

    pub(super) fn control(&self) -> ControlIds {
        self.control
    }

    pub(super) fn vocabulary_size(&self) -> u32 {
        self.vocabulary_size
    }

    /// Appends the ids of `text`.
    ///
    /// # Errors
    /// What the library did, without any of the text.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Problem> {
        match &self.own {
            Some(own) => own.encode(text, ids),
            None => ids.extend(self.encode_by_library(text)?),
        }
        Ok(())
    }

    fn encode_by_library(&self, text: &str) -> Result<Vec<u32>, Problem> {
        let fault = |what: &str| Problem::Fault(what.to_owned());
        if self.has_patterns {
            check_runs(text)?;
        }
        let library = self.library.get().ok_or_else(|| fault("the tokenizers library can't load its file"))?;
        let encoded = catch_unwind(AssertUnwindSafe(|| library.encode_fast(text, false)));
        // The library's messages and panics may quote the text, so they are not passed on.
        let ids = match encoded {
            Ok(Ok(encoding)) => encoding.get_ids().to_vec(),
            Ok(Err(_)) => return Err(fault("the tokenizers library returned an error")),
            Err(_) => return Err(fault("the tokenizers library panicked")),
        };
        self.check_lengths(text, &ids).map_err(Problem::Fault)?;
        Ok(ids)
    }

    /// Text of `ids`, by the file's decoder.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let decoded = self.library.get().map(|library| catch_unwind(AssertUnwindSafe(|| library.decode(ids, true))));
        match decoded {
            Some(Ok(Ok(text))) => text,
            // A decoder that fails on its own tokens still leaves their plain texts.
            _ => self.pieces.decode(ids),
        }
    }

    /// Bytes of one id; see `Tokenizer::decode_piece`.
    pub(super) fn piece_bytes(&self, at_start: bool, id: u32) -> &[u8] {
        self.pieces.piece_bytes(at_start, id)
    }

    /// The ids must stand for as many bytes as the text has: a library fault must not lose text silently.
    fn check_lengths(&self, text: &str, ids: &[u32]) -> Result<(), String> {
        let is_control = |id: &&u32| self.pieces.exact_length(**id).is_none() && Some(**id) != self.control.unknown;
        if let Some(id) = ids.iter().find(is_control) {
            return Err(format!("control token {id} came out of plain text"));
        }
        let expected = match self.accounting {
            Accounting::Unknown => return Ok(()),
            Accounting::Bytes => text.len(),
            Accounting::Spaces if text.is_empty() => 0,
            Accounting::Spaces => text.len() + 1 - 2 * text.matches(SPACE_MARK).count(),
        };
        let mut found = 0;
        for id in ids {
            match self.pieces.exact_length(*id) {
                Some(length) => found += length,
                // Only the unknown token has none here.
                None => return Ok(()),
            }
        }
        if found == expected {
            Ok(())
        } else {
            Err(format!("ids stand for {found} bytes, expected {expected}; text would be lost"))
        }
    }
}

/// Finds a run that is too long for the library's patterns.
fn check_runs(text: &str) -> Result<(), Problem> {
    if text.len() <= RUN_CHARACTERS_MAX {
        return Ok(());
    }
    let (mut run, mut of_spaces) = (0, false);
    for character in text.chars() {
        run = if character.is_whitespace() == of_spaces { run + 1 } else { 1 };
        of_spaces = character.is_whitespace();
        if run > RUN_CHARACTERS_MAX {
            return Err(Problem::LongRun);
        }
    }
    Ok(())
}

fn load(bytes: &[u8]) -> Result<Library, Refusal> {
    let refuse = |what: String| Refusal::Library { what };
    let text = std::str::from_utf8(bytes).map_err(|_| refuse("not UTF-8".to_owned()))?;
    let loaded = catch_unwind(|| Library::from_str(text));
    let mut library = match loaded {
        Ok(Ok(library)) => library,
        Ok(Err(error)) => return Err(refuse(error.to_string())),
        Err(_) => return Err(refuse("it panicked".to_owned())),
    };
    library.set_encode_special_tokens(true);
    library.with_padding(None);
    library.with_truncation(None).map_err(|error| refuse(error.to_string()))?;
    library.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
    Ok(library)
}

/// The library keeps special tokens from text by not looking for them there. Its model finds those that are in its vocabulary all
/// the same: whole pieces where merges are ignored for them, and single characters, which need no merge.
fn check_reach(file: &TokenizerFile) -> Result<(), Refusal> {
    for token in file.added_tokens.iter().filter(|token| token.special) {
        let is_in_model = file.model.vocab.0.iter().any(|(text, _)| *text == token.content);
        let is_reached = file.model.ignore_merges || token.content.chars().nth(1).is_none();
        if is_in_model && is_reached && file.model.unk_token.as_deref() != Some(&token.content) {
            let reason =
                "a special token that the model reads from text: of one character, or in its vocabulary with ignore_merges";
            return Err(Refusal::Token { id: token.id, reason });
        }
    }
    Ok(())
}

/// BOS, EOS and the unknown token, which must be flagged special, else text that spells them would become them.
fn control_ids(file: &TokenizerFile, texts: &[String]) -> Result<ControlIds, Refusal> {
    let id_of = |wanted: &str| texts.iter().position(|text| text == wanted).map(|id| id as u32);
    let is_special = |id: u32| file.added_tokens.iter().any(|token| token.id == id && token.special);
    let first = |wanted: &[&str]| wanted.iter().find_map(|text| id_of(text));
    let unknown = file.model.unk_token.as_deref().and_then(id_of);
    let control = ControlIds { bos: first(&BOS_TEXTS), eos: first(&EOS_TEXTS), unknown };
    let ends = BOS_TEXTS.iter().chain(&EOS_TEXTS).filter_map(|text| id_of(text));
    for id in ends.chain(unknown) {
        if !is_special(id) {
            let reason = "a control token that added_tokens doesn't flag as special";
            return Err(Refusal::Token { id, reason });
        }
    }
    Ok(control)
}

/// What each id gives, by the family of the decoder.
fn outputs(file: &TokenizerFile, texts: &[String]) -> Vec<Output> {
    let byte_level = types(&file.decoder).contains(&"ByteLevel");
    let table = byte_level.then(byte_level_table);
    let mut outputs: Vec<Output> = texts
        .iter()
        .map(|text| {
            if let Some(table) = &table {
                return table_bytes(table, text).map_or_else(|| Output::Text(text.as_str().into()), |b| Output::Bytes(b.into()));
            }
            match byte_of(text).filter(|_| file.model.byte_fallback) {
                Some(byte) => Output::Bytes([byte].into()),
                None => Output::Text(text.replace(SPACE_MARK, " ").into()),
            }
        })
        .collect();
    for token in &file.added_tokens {
        outputs[token.id as usize] = if token.special { Output::Silent } else { Output::Text(token.content.as_str().into()) };
    }
    outputs
}

/// Whether decoding takes one leading space away.
fn strips_start(file: &TokenizerFile) -> bool {
    types(&file.decoder).iter().any(|kind| matches!(*kind, "Strip" | "Metaspace"))
}

fn accounting(file: &TokenizerFile) -> Accounting {
    if file.added_tokens.iter().any(|token| !token.special) {
        return Accounting::Unknown;
    }
    if file.pre_tokenizer.is_null() && is_llama_normalizer(&file.normalizer) {
        return Accounting::Spaces;
    }
    let kinds = types(&file.pre_tokenizer);
    let only_splits = kinds.iter().all(|kind| matches!(*kind, "Sequence" | "Split" | "ByteLevel" | "Digits"));
    let keeps_all = !file.pre_tokenizer.to_string().contains("\"Removed\"");
    let prefix = file.pre_tokenizer.to_string().contains("\"add_prefix_space\":true");
    let byte_level = kinds.contains(&"ByteLevel") && types(&file.decoder).contains(&"ByteLevel");
    if file.normalizer.is_null() && byte_level && only_splits && keeps_all && !prefix {
        Accounting::Bytes
    } else {
        Accounting::Unknown
    }
}

/// `Sequence[Prepend ▁, Replace " " by ▁]`.
fn is_llama_normalizer(normalizer: &Value) -> bool {
    let expected = serde_json::json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u{2581}"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]});
    *normalizer == expected
}
