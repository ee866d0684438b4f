//! Checks the normalizer, pre-tokenizer and decoder of a `tokenizer.json`: known types, known patterns, bounded growth
//! of the text, nothing removed. It runs none of them.
//!
//! Regular expressions are taken from a list. Even an expression of linear time per match takes quadratic time over a
//! text of which it matches little, and the crate's engine backtracks besides; the listed ones match at every position.

use serde_json::Value;

use super::Refusal;
use super::json_checks::shortened;

/// Most components of one part, nested ones included.
const COMPONENTS_MAX: u64 = 32;
/// Most that the replacements of one part together may lengthen a text (LLaMA-2's: 3, a space by three bytes).
const GROWTH_MAX: u64 = 16;
/// Longest text that a component may put before a text, in bytes.
const PREFIX_BYTES_MAX: usize = 64;

/// GPT-2's expression.
pub(super) const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// That of cl100k and Llama 3.
pub(super) const CL100K_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// That of Qwen 2.
pub(super) const QWEN2_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expressions of GPT-2, of cl100k and Llama 3, Qwen 2, o200k, Tekken, and single classes.
pub(super) const KNOWN_PATTERNS: [&str; 14] = [
    GPT2_PATTERN,
    CL100K_PATTERN,
    QWEN2_PATTERN,
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\p{N}",
    r"\p{N}{1,3}",
    r"\d",
    r"[0-9]",
    r"[\r\n]",
    r"\s",
    r"\s+",
    r" +",
    r" {2,}",
];

/// Members of a component that hold others.
const LISTS: [&str; 3] = ["normalizers", "pretokenizers", "decoders"];

/// A part of the file that is made of components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Normalizer,
    PreTokenizer,
    Decoder,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Normalizer => "normalizer",
            Self::PreTokenizer => "pre_tokenizer",
            Self::Decoder => "decoder",
        }
    }

    /// Types that lose no text and whose cost is bounded.
    fn allows(self, kind: &str) -> bool {
        let allowed: &[&str] = match self {
            Self::Normalizer => &["Sequence", "Prepend", "Replace", "NFC", "NFD", "NFKC", "NFKD", "ByteLevel"],
            Self::PreTokenizer => &["Sequence", "ByteLevel", "Split", "Metaspace", "Digits", "Punctuation", "UnicodeScripts"],
            Self::Decoder => &["Sequence", "Replace", "ByteFallback", "Fuse", "Strip", "ByteLevel", "Metaspace"],
        };
        allowed.contains(&kind)
    }
}

/// The types of a component and of what it holds, outermost first.
pub(super) fn types(component: &Value) -> Vec<&str> {
    let mut found = Vec::from_iter(component.get("type").and_then(Value::as_str));
    for list in LISTS {
        for inner in component.get(list).and_then(Value::as_array).into_iter().flatten() {
            found.extend(types(inner));
        }
    }
    found
}

/// Whether a pre-tokenizer has a pattern of several alternatives, in which the crate's engine may step back over a long run.
pub(super) fn steps_back(component: &Value) -> bool {
    let own = match component.get("type").and_then(Value::as_str) {
        Some("ByteLevel") => component.get("use_regex").is_none_or(|value| *value == Value::Bool(true)),
        Some("Split") => component["pattern"]["Regex"].as_str().is_some_and(|pattern| pattern.contains('|')),
        _ => false,
    };
    own || LISTS.into_iter().filter_map(|list| component.get(list).and_then(Value::as_array)).flatten().any(steps_back)
}

/// Checks one part; `null` means that the file has none.
///
/// # Errors
/// A [`Refusal`] that names the part.
pub(super) fn check(value: &Value, part: Part) -> Result<(), Refusal> {
    let mut cost = Cost { part, components: 0, growth: 1 };
    if value.is_null() { Ok(()) } else { cost.add(value) }
}

/// What the components of a part cost together.
struct Cost {
    part: Part,
    components: u64,
    growth: u64,
}

impl Cost {
    fn add(&mut self, value: &Value) -> Result<(), Refusal> {
        self.components += 1;
        limit("components", self.components, COMPONENTS_MAX)?;
        let Value::Object(members) = value else {
            return self.refuse("", "must be an object or null");
        };
        let kind = members.get("type").and_then(Value::as_str).unwrap_or("");
        if !self.part.allows(kind) {
            return self.refuse(&format!(" of type {:?}", shortened(kind)), "is not supported");
        }
        if members.get("behavior").and_then(Value::as_str) == Some("Removed") {
            return self.refuse(" with behavior Removed", "would lose text");
        }
        let prefix = members.get("prepend").and_then(Value::as_str).unwrap_or("");
        if prefix.len() > PREFIX_BYTES_MAX {
            return self.refuse(" Prepend", "is longer than 64 bytes");
        }
        if let Some(pattern) = members.get("pattern") {
            let content = members.get("content").and_then(Value::as_str).unwrap_or("");
            self.pattern(pattern, content)?;
            if kind == "Replace" && self.part == Part::Normalizer && content.is_empty() {
                return self.refuse(" Replace by nothing", "would lose text");
            }
        }
        for list in LISTS {
            for inner in members.get(list).and_then(Value::as_array).into_iter().flatten() {
                self.add(inner)?;
            }
        }
        Ok(())
    }

    /// `{"String": …}` or `{"Regex": …}` with what replaces it.
    fn pattern(&mut self, pattern: &Value, content: &str) -> Result<(), Refusal> {
        let plain = pattern.get("String").and_then(Value::as_str);
        let expression = pattern.get("Regex").and_then(Value::as_str);
        let shortest_match = match (plain, expression) {
            (Some(""), _) => return self.refuse(" pattern", "an empty string matches everywhere"),
            (Some(text), None) => text.len(),
            (None, Some(text)) if KNOWN_PATTERNS.contains(&text) => 1,
            (None, Some(text)) => {
                return Err(Refusal::Pattern { pattern: shortened(text) });
            }
            _ => return self.refuse(" pattern", "must be a String or a Regex"),
        };
        let growth = content.len().div_ceil(shortest_match).max(1) as u64;
        self.growth = self.growth.saturating_mul(growth);
        limit("replacements that lengthen the text, times", self.growth, GROWTH_MAX)
    }

    fn refuse(&self, of: &str, reason: &'static str) -> Result<(), Refusal> {
        Err(Refusal::Setting { setting: format!("{}{of}", self.part.name()), reason })
    }
}

fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), Refusal> {
    if found > limit {
        return Err(Refusal::TooMany { what, found, limit });
    }
    Ok(())
}
