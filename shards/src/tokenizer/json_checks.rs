//! Checks a `tokenizer.json` before any library reads it: ids, sizes, merges, component types and patterns
//! (reliability case 36). It builds no tokenizer.
//!
//! The `tokenizers` crate accepts repeated ids, gaps, repeated keys and any pattern; each of these is refused here.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::components::{self, Part};
use super::sentencepiece::byte_of;
use super::{Refusal, VOCABULARY_MAX, coverage};

/// Most merges that a file may hold.
const MERGES_MAX: u64 = 1 << 21;

/// What the checks need of the file.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerFile {
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) decoder: Value,
    pub(super) model: Model,
}

/// One entry of `added_tokens`.
#[derive(Debug, Deserialize)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
}

/// The `model` member.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    pub(super) vocab: Vocab,
    #[serde(default)]
    pub(super) merges: Merges,
}

/// Texts and ids in file order, so that a repeated key is seen.
#[derive(Debug)]
pub(super) struct Vocab(pub(super) Vec<(String, u32)>);

/// Pairs of token texts, in order.
#[derive(Debug, Default)]
pub(super) struct Merges(pub(super) Vec<(String, String)>);

/// Reads and checks the file.
///
/// # Errors
/// The first [`Refusal`] that applies.
pub(super) fn check(bytes: &[u8]) -> Result<(TokenizerFile, Vec<String>), Refusal> {
    let file: TokenizerFile = serde_json::from_slice(bytes).map_err(|error| Refusal::Json {
        line: error.line(),
        column: error.column(),
        what: without_place(&error),
    })?;
    check_model(&file.model)?;
    components::check(&file.normalizer, Part::Normalizer)?;
    components::check(&file.pre_tokenizer, Part::PreTokenizer)?;
    components::check(&file.decoder, Part::Decoder)?;
    let texts = check_ids(&file)?;
    check_merges(&file)?;
    coverage::check(&file)?;
    Ok((file, texts))
}

fn check_model(model: &Model) -> Result<(), Refusal> {
    let kind = model.kind.as_deref().unwrap_or("without a type");
    if kind != "BPE" {
        return Err(Refusal::ModelType { found: shortened(kind) });
    }
    let refuse = |setting: &str, reason| Err(Refusal::Setting { setting: format!("model.{setting}"), reason });
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return refuse("dropout", "above 0 would give other ids at every call");
    }
    if model.continuing_subword_prefix.as_ref().is_some_and(|prefix| !prefix.is_empty()) {
        return refuse("continuing_subword_prefix", "is not supported");
    }
    if model.end_of_word_suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return refuse("end_of_word_suffix", "is not supported");
    }
    Ok(())
}

/// Ids are unique and without gaps over the vocabulary and the added tokens; returns the texts by id.
fn check_ids(file: &TokenizerFile) -> Result<Vec<String>, Refusal> {
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(file.model.vocab.0.len());
    let mut texts: Vec<Option<&str>> = Vec::new();
    let place = |text: &str, id: u32| -> Result<usize, Refusal> {
        if id >= VOCABULARY_MAX {
            let (found, limit) = (u64::from(id), u64::from(VOCABULARY_MAX) - 1);
            return Err(Refusal::TooMany { what: "token id", found, limit });
        }
        if text.is_empty() {
            return Err(Refusal::Token { id, reason: "its text is empty" });
        }
        Ok(id as usize)
    };
    for (text, id) in &file.model.vocab.0 {
        let at = place(text, *id)?;
        if ids.insert(text, *id).is_some() {
            return Err(Refusal::DuplicateToken { text: shortened(text), id: *id });
        }
        insert(&mut texts, at, text)?;
    }
    let mut added = HashSet::new();
    for token in &file.added_tokens {
        let at = place(&token.content, token.id)?;
        if !added.insert(token.content.as_str()) {
            return Err(Refusal::DuplicateToken { text: shortened(&token.content), id: token.id });
        }
        match ids.insert(&token.content, token.id) {
            Some(known) if known == token.id => {}
            Some(_) => {
                let reason = "an added token has another id than the same text in the vocabulary";
                return Err(Refusal::Token { id: token.id, reason });
            }
            None => insert(&mut texts, at, &token.content)?,
        }
    }
    if texts.is_empty() {
        return Err(Refusal::Empty);
    }
    let texts = (0_u32..).zip(texts);
    texts.map(|(id, text)| text.map(str::to_owned).ok_or(Refusal::IdGap { id })).collect()
}

fn insert<'a>(texts: &mut Vec<Option<&'a str>>, at: usize, text: &'a str) -> Result<(), Refusal> {
    if texts.len() <= at {
        texts.resize(at + 1, None);
    }
    if texts[at].replace(text).is_some() {
        return Err(Refusal::DuplicateId { id: at as u32 });
    }
    Ok(())
}

/// Merges join tokens of the vocabulary into tokens of the vocabulary, and never into one that text must not spell.
fn check_merges(file: &TokenizerFile) -> Result<(), Refusal> {
    let special = file.added_tokens.iter().filter(|token| token.special);
    let special: HashSet<&str> = special.map(|token| token.content.as_str()).collect();
    let texts: HashSet<&str> = file.model.vocab.0.iter().map(|(text, _)| text.as_str()).collect();
    let mut joined = String::new();
    for (index, (left, right)) in file.model.merges.0.iter().enumerate() {
        let merge = |reason| Err(Refusal::Merge { index, reason });
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        if !texts.contains(left.as_str()) || !texts.contains(right.as_str()) {
            return merge("joins a token that is not in the vocabulary");
        }
        if !texts.contains(joined.as_str()) {
            return merge("makes a token that is not in the vocabulary");
        }
        let forbidden = |text: &str| special.contains(text) || (file.model.byte_fallback && byte_of(text).is_some());
        if forbidden(&joined) || forbidden(left) || forbidden(right) {
            return merge("involves a special or byte token, which text could then spell");
        }
    }
    Ok(())
}

/// At most 80 characters of `text`, for messages.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The parser's message without its own "at line … column …".
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a map of token texts to ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if entries.len() >= VOCABULARY_MAX as usize {
                        let what = format!("more than {VOCABULARY_MAX} tokens in the vocabulary");
                        return Err(A::Error::custom(what));
                    }
                    entries.push(entry);
                }
                Ok(Vocab(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Merges;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of merges")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merges, A::Error> {
                let mut pairs = Vec::new();
                while let Some(Merge(pair)) = list.next_element()? {
                    if pairs.len() as u64 >= MERGES_MAX {
                        return Err(A::Error::custom(format!("more than {MERGES_MAX} merges")));
                    }
                    pairs.extend(pair);
                }
                Ok(Merges(pairs))
            }
        }
        deserializer.deserialize_seq(Pairs)
    }
}

/// One merge: a list of two tokens, or both in one line. The line `#version: …` of old files is none.
struct Merge(Option<(String, String)>);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Merge;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a merge of two tokens")
            }
            fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<Merge, E> {
                if line.starts_with("#version") {
                    return Ok(Merge(None));
                }
                match line.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => Ok(Merge(Some((left.into(), right.into())))),
                    _ => Err(E::custom("a merge must be two tokens")),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge, A::Error> {
                let (left, right) = (list.next_element()?, list.next_element()?);
                match (left, right, list.next_element::<IgnoredAny>()?) {
                    (Some(left), Some(right), None) => Ok(Merge(Some((left, right)))),
                    _ => Err(A::Error::custom("a merge must be two tokens")),
                }
            }
        }
        deserializer.deserialize_any(Pair)
    }
}
