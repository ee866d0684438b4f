//! Checks that a `tokenizer.json` has ids for every text: characters outside the vocabulary become bytes or the unknown token,
//! and nothing around an added token is swallowed. The `tokenizers` crate leaves such text out without a word.

use std::collections::HashSet;

use super::Refusal;
use super::byte_level::byte_level_table;
use super::components::types;
use super::json_checks::{TokenizerFile, shortened};

/// Checks the model and the added tokens of a file whose ids are checked.
///
/// # Errors
/// A [`Refusal`] that names the setting or the token through which text would be lost.
pub(super) fn check(file: &TokenizerFile) -> Result<(), Refusal> {
    for token in file.added_tokens.iter().filter(|token| !token.special) {
        if token.lstrip || token.rstrip {
            let reason = "lstrip or rstrip of an added token that is not special: the spaces beside it would be lost";
            return Err(Refusal::Token { id: token.id, reason });
        }
    }
    let vocabulary: HashSet<&str> = file.model.vocab.0.iter().map(|(text, _)| text.as_str()).collect();
    if let Some(unknown) = &file.model.unk_token {
        if vocabulary.contains(unknown.as_str()) {
            return Ok(());
        }
        let setting = format!("model.unk_token {:?}", shortened(unknown));
        return Err(Refusal::Setting { setting, reason: "is not in the vocabulary" });
    }
    let has_bytes = file.model.byte_fallback && (0..=u8::MAX).all(|byte| vocabulary.contains(&*format!("<0x{byte:02X}>")));
    let is_byte_level = [&file.pre_tokenizer, &file.normalizer].iter().any(|part| types(part).contains(&"ByteLevel"));
    let has_alphabet = || byte_level_table().iter().all(|(c, _)| vocabulary.contains(&*c.encode_utf8(&mut [0; 4])));
    if has_bytes || (is_byte_level && has_alphabet()) {
        return Ok(());
    }
    let reason = if is_byte_level {
        "is absent, and the vocabulary has not all 256 characters of the byte-level alphabet: other text would be lost"
    } else {
        "is absent, and byte_fallback with all 256 tokens <0x00> to <0xFF> too: text outside the vocabulary would be lost"
    };
    Err(Refusal::Setting { setting: "model.unk_token".to_owned(), reason })
}
