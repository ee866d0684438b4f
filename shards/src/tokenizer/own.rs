//! Chooses our own encoder for a `tokenizer.json` whose rules it reproduces id for id; for all others there is none, and
//! the `tokenizers` crate encodes. It encodes nothing itself.
//!
//! | family | normalizer | pre-tokenizer | text outside the vocabulary |
//! |---|---|---|---|
//! | spaces | LLaMA-2's prefix and replacement, or the replacement alone | none | all 256 byte tokens, or an unknown token |
//! | spaces | none | `Metaspace` with U+2581 | the same |
//! | bytes | none | `ByteLevel` with GPT-2's pattern, or a known pattern and `ByteLevel` | can't be |

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::alphabet::{Alphabet, Characters};
use super::bpe::{Piece, PieceKind};
use super::byte_level::{ByteEncoder, byte_level_table, table_bytes};
use super::components::{CL100K_PATTERN, GPT2_PATTERN, QWEN2_PATTERN};
use super::cuts::Cuts;
use super::json_checks::TokenizerFile;
use super::merge::{Merger, Unknown};
use super::pairs::{Merge, PairTable};
use super::sentencepiece::{SPACE_MARK, byte_of};
use super::spaces::{Prefix, SpaceEncoder, SpaceRules};
use super::split::{Pattern, Splitter};

/// An encoder of one of the families.
#[derive(Debug)]
pub(super) enum Own {
    Spaces(Box<SpaceEncoder>),
    Bytes(Box<ByteEncoder>),
}

impl Own {
    /// The encoder of a checked file, where there is one. `texts` are those of the tokens by id.
    pub(super) fn of(file: &TokenizerFile, texts: &[String]) -> Option<Self> {
        // The crate cuts text at added tokens that are not special, and reads a special one of a single character.
        let plain = file.added_tokens.iter().all(|token| token.special && token.content.chars().nth(1).is_some());
        if !plain {
            return None;
        }
        if let Some((pattern, prefix)) = byte_family(file) {
            return bytes(file, texts, pattern, prefix).map(|encoder| Self::Bytes(Box::new(encoder)));
        }
        let (prefix, before_spaces) = space_family(file)?;
        spaces(file, texts, prefix, before_spaces).map(|encoder| Self::Spaces(Box::new(encoder)))
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        match self {
            Self::Spaces(encoder) => encoder.encode(text, ids),
            Self::Bytes(encoder) => encoder.encode(text, ids),
        }
    }
}

/// The prefix and whether the pre-tokenizer cuts before every space.
fn space_family(file: &TokenizerFile) -> Option<(Prefix, bool)> {
    if file.model.ignore_merges {
        return None;
    }
    let mark = SPACE_MARK.to_string();
    let prepend = json!({"type": "Prepend", "prepend": mark});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": mark});
    if file.pre_tokenizer.is_null() {
        let sequence = |parts: [&Value; 2]| json!({"type": "Sequence", "normalizers": parts});
        let both = [sequence([&prepend, &replace]), sequence([&replace, &prepend])];
        return match &file.normalizer {
            found if both.contains(found) => Some((Prefix::Always, false)),
            found if *found == replace => Some((Prefix::Never, false)),
            _ => None,
        };
    }
    let member = |name: &str| file.pre_tokenizer.get(name).filter(|value| !value.is_null());
    let metaspace = member("type")? == "Metaspace" && *member("replacement")? == json!(mark);
    if !metaspace || !file.normalizer.is_null() {
        return None;
    }
    let scheme = member("prepend_scheme").map_or(Some("always"), Value::as_str)?;
    let without = member("add_prefix_space").is_some_and(|value| *value == json!(false));
    let prefix = match scheme {
        _ if without => Prefix::Never,
        "never" => Prefix::Never,
        "always" | "first" => Prefix::Unless,
        _ => return None,
    };
    Some((prefix, member("split").is_none_or(|value| *value == json!(true))))
}

/// The pattern and whether a space is put before the text.
fn byte_family(file: &TokenizerFile) -> Option<(Pattern, bool)> {
    if !file.normalizer.is_null() || file.model.byte_fallback {
        return None;
    }
    let is = |value: &Value, name: &str, wanted: Value| value.get(name) == Some(&wanted);
    let byte_level = |value: &Value| is(value, "type", json!("ByteLevel"));
    let part = &file.pre_tokenizer;
    if byte_level(part) {
        let with_pattern = part.get("use_regex").is_none_or(|value| *value == json!(true));
        return with_pattern.then_some((Pattern::Gpt2, is(part, "add_prefix_space", json!(true))));
    }
    let [split, bytes] = part.get("pretokenizers")?.as_array()?.as_slice() else { return None };
    let isolated =
        is(split, "type", json!("Split")) && is(split, "behavior", json!("Isolated")) && is(split, "invert", json!(false));
    let plain = byte_level(bytes) && is(bytes, "use_regex", json!(false)) && is(bytes, "add_prefix_space", json!(false));
    if !isolated || !plain {
        return None;
    }
    let pattern = match split.get("pattern")?.get("Regex")?.as_str()? {
        GPT2_PATTERN => Pattern::Gpt2,
        CL100K_PATTERN => Pattern::Cl100k { digits: 3 },
        QWEN2_PATTERN => Pattern::Cl100k { digits: 1 },
        _ => return None,
    };
    Some((pattern, false))
}

/// Merges as ids; checked to be of tokens of the vocabulary.
fn merges(file: &TokenizerFile) -> Option<Vec<(u32, u32, Merge)>> {
    let ids: HashMap<&str, u32> = file.model.vocab.0.iter().map(|(text, id)| (text.as_str(), *id)).collect();
    let of = |text: &str| ids.get(text).copied();
    let merges = (0_u32..).zip(&file.model.merges.0).map(|(rank, (left, right))| {
        let made = of(&format!("{left}{right}"))?;
        Some((of(left)?, of(right)?, Merge { rank, made }))
    });
    merges.collect()
}

fn spaces(file: &TokenizerFile, texts: &[String], prefix: Prefix, before_spaces: bool) -> Option<SpaceEncoder> {
    let special: HashSet<u32> = file.added_tokens.iter().map(|token| token.id).collect();
    let pieces: Vec<Piece> = (0_u32..)
        .zip(texts)
        .map(|(id, text)| {
            // Only the spelling with capital digits is a byte token for the crate.
            let byte = byte_of(text).filter(|byte| file.model.byte_fallback && *text == format!("<0x{byte:02X}>"));
            let kind = match byte {
                _ if special.contains(&id) => PieceKind::Control,
                Some(byte) => PieceKind::Byte(byte),
                None => PieceKind::Normal,
            };
            Piece { text: text.replace(SPACE_MARK, " "), score: 0.0, kind }
        })
        .collect();
    // A token with a plain space is never reached, but would be taken for one with a mark.
    let normal = |piece: &&Piece| piece.kind == PieceKind::Normal;
    if texts.iter().zip(&pieces).any(|(text, piece)| normal(&piece) && text.contains(' ')) {
        return None;
    }
    let bytes = pieces.iter().filter(|piece| matches!(piece.kind, PieceKind::Byte(_))).count();
    let has_space = pieces.iter().any(|piece| normal(&piece) && piece.text == " ");
    // Without one the space becomes the bytes of U+2581, or an unknown token that ends a word and begins the next.
    if !has_space {
        return None;
    }
    let merges = merges(file)?;
    let products: Vec<&[u8]> = merges.iter().map(|(_, _, merge)| pieces[merge.made as usize].text.as_bytes()).collect();
    let cuts = Cuts::new(products.iter().copied(), before_spaces);
    let pairs = PairTable::new(merges.iter().copied()).ok()?;
    let alphabet = Alphabet::Characters(Box::new(Characters::new(&pieces)));
    let mut merger = Merger::new(texts.len() as u32, alphabet, pairs, products.into_iter());
    if file.model.byte_fallback {
        if bytes != 256 {
            return None;
        }
    } else {
        let wanted = file.model.unk_token.as_ref()?;
        let (_, id) = file.model.vocab.0.iter().find(|(text, _)| text == wanted)?;
        merger = merger.with_unknown(Unknown { id: *id, fused: file.model.fuse_unk });
    }
    let rules = SpaceRules { prefix, remove_extra: false, mark_is_space: true };
    Some(SpaceEncoder::new(rules, cuts, merger))
}

fn bytes(file: &TokenizerFile, texts: &[String], pattern: Pattern, prefix: bool) -> Option<ByteEncoder> {
    let table = byte_level_table();
    let special: HashSet<&str> = file.added_tokens.iter().map(|token| token.content.as_str()).collect();
    let mut alphabet = Box::new([u32::MAX; 256]);
    let mut whole = HashMap::new();
    for (text, id) in file.model.vocab.0.iter().filter(|(text, _)| !special.contains(text.as_str())) {
        let Some(bytes) = table_bytes(&table, text) else { continue };
        if let [byte] = *bytes {
            alphabet[usize::from(byte)] = *id;
        }
        if file.model.ignore_merges {
            whole.insert(bytes.into_boxed_slice(), *id);
        }
    }
    if alphabet.contains(&u32::MAX) {
        return None;
    }
    let merges = merges(file)?;
    let pairs = PairTable::new(merges.iter().copied()).ok()?;
    let products: Vec<Vec<u8>> =
        merges.iter().filter_map(|(_, _, merge)| table_bytes(&table, &texts[merge.made as usize])).collect();
    let products = products.iter().map(Vec::as_slice);
    let merger = Merger::new(texts.len() as u32, Alphabet::Bytes(alphabet), pairs, products).with_whole(whole);
    Some(ByteEncoder::new(Splitter::new(pattern), prefix, merger))
}
