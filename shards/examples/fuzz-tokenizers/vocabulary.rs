//! Tokenizer files to compare encoders with: small ones invented here, and GPT-2's out of a `.gguf` file. The tests of the
//! tokenizer use it too. It encodes nothing.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};

/// Llama 3's pattern, which is cl100k's.
pub(crate) const LLAMA3_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's.
pub(crate) const QWEN2_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Text that the invented merges are learned from.
const SAMPLE: &str = "The patient was seen in the clinic today. She reports no chest pain, no shortness of breath and no fever.\r\n\
    Past medical history: hypertension, diabetes mellitus type 2; hyperlipidemia. Medications: metformin 500 mg twice daily,\n\
    lisinopril 10 mg daily, atorvastatin 40 mg.   The patient's blood pressure is 132/84 mmHg, she'll return in 12 weeks.\r\n\
    \tIt's noted that they've been well; we'd like to re-check HbA1c (7.2%) -- see the note of 2019-03-04.\n\n\
    Die Patientin klagt über Übelkeit und Rückenschmerzen, Größe 1,68 m. Пациент жалуется на боль в груди. 患者主诉头痛三天。\n\
    \u{3b1}-synuclein, \u{3b2}-blocker, 37.5 \u{b0}C, 5 \u{b5}g/mL \u{b1} 0.3, p<0.05; e\u{301}te\u{301} caf\u{e9} 😀😀 👩\u{200d}⚕\u{fe0f} ....... ======= ------- ______\n\
    the the the  and and   ofof ininin    \n\n\n the  the  the a b a b a b ab ab abab aabb abba 1 12 123 1234 12345 the\u{a0}\u{a0}end";

/// The two tokens that a merge joins.
type Pair = (String, String);

/// How a file of the spaces family prepares text and treats what it doesn't know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpaceShape {
    pub(crate) prepared: Prepared,
    pub(crate) byte_fallback: bool,
    pub(crate) fuse_unk: bool,
    /// Merges may go on over spaces, which no public vocabulary does.
    pub(crate) across: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    Prepend,
    ReplaceOnly,
    Metaspace { scheme: &'static str, split: bool },
}

/// Merges learned by counting: at every step the most frequent neighbours, the smallest among equals.
fn learned(mut words: Vec<Vec<String>>, count: usize) -> Vec<Pair> {
    let mut merges = Vec::new();
    while merges.len() < count {
        let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for pair in words.iter().flat_map(|word| word.windows(2)) {
            *pairs.entry((&pair[0], &pair[1])).or_default() += 1;
        }
        let Some((pair, _)) = pairs.into_iter().max_by(|a, b| (a.1, b.0).cmp(&(b.1, a.0))) else { break };
        let (left, right) = (pair.0.to_owned(), pair.1.to_owned());
        for word in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if word[at] == left && word[at + 1] == right {
                    word[at] += &right;
                    word.remove(at + 1);
                }
                at += 1;
            }
        }
        merges.push((left, right));
    }
    merges
}

fn token(id: usize, text: &str) -> Value {
    json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
}

fn model(vocab: &Map<String, Value>, merges: &[Pair]) -> Value {
    json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges})
}

/// An invented file of the spaces family.
pub(crate) fn invented_spaces(shape: SpaceShape) -> Value {
    let marked = SAMPLE.replace(' ', "▁");
    let symbols = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    let words: Vec<Vec<String>> = if shape.across {
        marked.split('\n').map(symbols).collect()
    } else {
        // The empty string at the ends of a split by each character does no harm.
        let starts = marked.replace('▁', "\u{1}▁").replace("▁\u{1}▁", "▁▁");
        starts.split('\u{1}').map(symbols).collect()
    };
    let merges = learned(words, 400);
    let mut vocab = Map::new();
    let mut add = |text: &str| {
        let next = vocab.len();
        vocab.entry(text.to_owned()).or_insert(json!(next));
    };
    ["<unk>", "<s>", "</s>"].into_iter().for_each(&mut add);
    if shape.byte_fallback {
        (0..256).for_each(|byte| add(&format!("<0x{byte:02X}>")));
    }
    // Some characters of the sample stay outside, and with them the merges that need them.
    let known = |text: &str| !text.contains(['\n', '\t', '😀', '三', 'ß']);
    for character in marked.chars().map(String::from).filter(|text| known(text)) {
        add(&character);
    }
    let merges: Vec<Pair> = merges.into_iter().filter(|(left, right)| known(left) && known(right)).collect();
    for (left, right) in &merges {
        add(&format!("{left}{right}"));
    }
    let mut model = model(&vocab, &merges);
    model["unk_token"] = json!("<unk>");
    model["fuse_unk"] = json!(shape.fuse_unk);
    model["byte_fallback"] = json!(shape.byte_fallback);
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let (normalizer, pre_tokenizer) = match shape.prepared {
        Prepared::Prepend => (json!({"type": "Sequence", "normalizers": [prepend, replace]}), Value::Null),
        Prepared::ReplaceOnly => (replace, Value::Null),
        Prepared::Metaspace { scheme, split } => {
            (Value::Null, json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}))
        }
    };
    json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "added_tokens": [token(0, "<unk>"), token(1, "<s>"), token(2, "</s>")], "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]}, "model": model})
}

/// A file of the bytes family with the given tokens and merges; `pattern` none: GPT-2's.
pub(crate) fn bytes_file(tokens: &[String], merges: &[Pair], pattern: Option<&str>) -> Value {
    let vocab: Map<String, Value> = tokens.iter().enumerate().map(|(id, text)| (text.clone(), json!(id))).collect();
    let level = |with_pattern: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": with_pattern});
    let pre_tokenizer = match pattern {
        None => level(true),
        Some(pattern) => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}, level(false)]}),
    };
    let end = tokens.iter().position(|text| text == "<|endoftext|>").map(|id| token(id, "<|endoftext|>"));
    json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": pre_tokenizer,
        "added_tokens": Vec::from_iter(end), "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": model(&vocab, merges)})
}

/// The byte-level alphabet by byte (GPT-2's tokenizer).
pub(crate) fn byte_characters() -> Vec<char> {
    let mut other = 0x100;
    let mut character = |byte: u8| {
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            return char::from(byte);
        }
        other += 1;
        char::from_u32(other - 1).expect("a character")
    };
    (0..=u8::MAX).map(&mut character).collect()
}

/// An invented file of the bytes family.
pub(crate) fn invented_bytes(pattern: Option<&str>, ignore_merges: bool) -> Value {
    let alphabet = byte_characters();
    let written = |text: &str| text.bytes().map(|byte| alphabet[usize::from(byte)].to_string()).collect::<Vec<_>>();
    let words = SAMPLE.split_inclusive([' ', '\n']).map(written).collect();
    let mut merges = learned(words, 500);
    let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
    let mut known = HashSet::new();
    for (left, right) in &merges {
        if known.insert(format!("{left}{right}")) {
            tokens.push(format!("{left}{right}"));
        }
    }
    if ignore_merges {
        // Without the merges of some tokens only a whole match gives them.
        merges.retain(|(left, right)| (left.len() + right.len()) % 7 != 0);
        tokens.push(written(" zzyzx").concat());
    }
    tokens.push("<|endoftext|>".to_owned());
    let mut file = bytes_file(&tokens, &merges, pattern);
    file["model"]["ignore_merges"] = json!(ignore_merges);
    file
}

/// Tokens and merges of a `.gguf` file (ggml's format, versions 2 and 3): strings of its header. `None` where it is cut.
pub(crate) fn of_gguf(file: &[u8]) -> Option<(Vec<String>, Vec<Pair>)> {
    let mut rest = file.strip_prefix(b"GGUF")?.get(4 + 8..)?;
    let entries = number(&mut rest, 8)?;
    let (mut tokens, mut merges) = (Vec::new(), Vec::new());
    for _ in 0..entries {
        let key = string(&mut rest)?;
        let kind = number(&mut rest, 4)?;
        let found = value(&mut rest, kind)?;
        match key.as_str() {
            "tokenizer.ggml.tokens" => tokens = found,
            "tokenizer.ggml.merges" => merges = found,
            _ => {}
        }
    }
    let merges = merges.iter().map(|merge| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())));
    Some((tokens, merges.collect::<Option<_>>()?))
}

/// The strings of a value; those of other values are left out.
fn value(rest: &mut &[u8], kind: u64) -> Option<Vec<String>> {
    match kind {
        8 => Some(vec![string(rest)?]),
        9 => {
            let (kind, count) = (number(rest, 4)?, number(rest, 8)?);
            let values = (0..count).map(|_| value(rest, kind)).collect::<Option<Vec<_>>>()?;
            Some(values.into_iter().flatten().collect())
        }
        _ => {
            let bytes = match kind {
                0 | 1 | 7 => 1,
                2 | 3 => 2,
                4..=6 => 4,
                _ => 8,
            };
            number(rest, bytes)?;
            Some(Vec::new())
        }
    }
}

fn number(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    let (head, tail) = rest.split_at_checked(bytes)?;
    *rest = tail;
    let mut raw = [0; 8];
    raw[..bytes].copy_from_slice(head);
    Some(u64::from_le_bytes(raw))
}

fn string(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(rest, 8)?).ok()?;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    String::from_utf8(head.to_vec()).ok()
}
