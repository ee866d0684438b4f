//! Our encoders against the `tokenizers` crate, id for id: public and invented vocabularies, all sample data, every code point
//! in each pattern, generated text. Tests on public data say "not run" where the folder is absent.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer as Library;
use tokenizers::utils::SysRegex;

use super::super::components::{CL100K_PATTERN, GPT2_PATTERN};
use super::super::split::{Pattern, Splitter};
use super::super::{Encoder, Tokenizer};
use super::build::{ModelFile, llama2c};
use super::reference::{CASE_END, clinical_text, data, read};
use super::vocabulary::{
    LLAMA3_PATTERN, Prepared, QWEN2_PATTERN, SpaceShape, bytes_file, invented_bytes, invented_spaces, of_gguf,
};

/// One vocabulary in both encoders.
struct Pair {
    name: String,
    own: Tokenizer,
    library: Library,
}

impl Pair {
    fn new(name: &str, file: &Value) -> Self {
        let bytes = file.to_string().into_bytes();
        let own = Tokenizer::from_bytes(name, &bytes).unwrap();
        assert_eq!(own.encoder(), Encoder::Own, "{name}");
        let mut library = Library::from_bytes(&bytes).unwrap();
        library.set_encode_special_tokens(true);
        Self { name: name.to_owned(), own, library }
    }

    fn expected(&self, text: &str) -> Vec<u32> {
        self.library.encode_fast(text, false).unwrap().get_ids().to_vec()
    }

    fn check(&self, text: &str, what: &str) {
        let found = self.own.encode(text).unwrap();
        assert!(found == self.expected(text), "{}: {what}: ids differ", self.name);
        assert!(self.own.encode(text).unwrap() == found, "{}: {what}: other ids the second time", self.name);
    }
}

fn space_shapes() -> Vec<SpaceShape> {
    let metaspace = |scheme, split| Prepared::Metaspace { scheme, split };
    let prepared = [
        Prepared::Prepend,
        Prepared::ReplaceOnly,
        metaspace("always", true),
        metaspace("always", false),
        metaspace("first", true),
        metaspace("never", true),
        metaspace("never", false),
    ];
    let unknown = [(true, true, false), (true, false, true), (false, true, true), (false, false, false)];
    let shapes = prepared.into_iter().flat_map(|prepared| {
        unknown.map(|(byte_fallback, fuse_unk, across)| SpaceShape { prepared, byte_fallback, fuse_unk, across })
    });
    shapes.collect()
}

/// Invented vocabularies of all families.
fn invented() -> Vec<Pair> {
    let mut pairs: Vec<Pair> =
        space_shapes().iter().map(|shape| Pair::new(&format!("{shape:?}"), &invented_spaces(*shape))).collect();
    for pattern in [None, Some(LLAMA3_PATTERN), Some(QWEN2_PATTERN)] {
        for ignore_merges in [false, true] {
            pairs.push(Pair::new(&format!("{pattern:?} {ignore_merges}"), &invented_bytes(pattern, ignore_merges)));
        }
    }
    let mut prefixed = invented_bytes(None, false);
    prefixed["pre_tokenizer"]["add_prefix_space"] = json!(true);
    pairs.push(Pair::new("add_prefix_space", &prefixed));
    pairs
}

/// LLaMA-2's vocabulary, GPT-2's, and GPT-2's with Llama 3's pattern.
fn public() -> Option<Vec<Pair>> {
    let llama: Value = serde_json::from_slice(&read("tokenizer/llama-2-tokenizer.json")?).unwrap();
    let (tokens, merges) = of_gguf(&read("tokenizer/ggml-vocab-gpt-2.gguf")?).unwrap();
    assert_eq!((tokens.len(), merges.len()), (50_257, 50_000));
    Some(vec![
        Pair::new("LLaMA-2", &llama),
        Pair::new("GPT-2", &bytes_file(&tokens, &merges, None)),
        Pair::new("Llama 3's pattern", &bytes_file(&tokens, &merges, Some(LLAMA3_PATTERN))),
    ])
}

const EDGES: [&str; 24] = [
    "",
    " ",
    "  ",
    "\n",
    "a",
    " a",
    "a ",
    "  a  ",
    "▁",
    "▁a",
    "a▁ b",
    "\u{301}",
    "é",
    "\0",
    "a\0",
    "'",
    "'s",
    "'S\u{17f}'\u{17f}",
    "\r\n\r\n a",
    " \t\n x",
    "1234567",
    "\u{a0}\u{a0}x",
    "</s><s><unk><|endoftext|>",
    "<0x41><0xE2>",
];

#[test]
fn parity_of_edges_in_all_families() {
    for pair in invented() {
        for text in EDGES {
            pair.check(text, text);
            pair.check(&text.repeat(50), text);
        }
    }
}

#[test]
fn parity_of_gpt2_with_the_published_ids() {
    let (Some(pairs), Some(inputs), Some(outputs)) =
        (public(), read("tokenizer/ggml-vocab-gpt-2.gguf.inp"), read("tokenizer/ggml-vocab-gpt-2.gguf.out"))
    else {
        return;
    };
    let (inputs, outputs) = (String::from_utf8(inputs).unwrap(), String::from_utf8(outputs).unwrap());
    let inputs: Vec<&str> = inputs.strip_suffix(CASE_END).unwrap().split(CASE_END).collect();
    let outputs: Vec<&str> = outputs.lines().collect();
    assert_eq!((inputs.len(), outputs.len()), (46, 46));
    for (number, (input, output)) in inputs.iter().zip(outputs).enumerate() {
        let expected: Vec<u32> = output.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(pairs[1].own.encode(input).unwrap(), expected, "case {number}");
        for pair in &pairs {
            pair.check(input, &format!("case {number}"));
        }
    }
}

/// Every file under the folder, in order.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The text of a file as it is, and every string of it where it is JSON.
fn texts(path: &Path) -> Vec<String> {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let mut texts = Vec::new();
    let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned());
    let values: Vec<Value> = match ending.as_deref() {
        Some("jsonl") => text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
        Some("json") if !path.ends_with("llama-2-tokenizer.json") => serde_json::from_str(&text).into_iter().collect(),
        _ => Vec::new(),
    };
    for value in &values {
        strings(value, &mut texts);
    }
    texts.push(text);
    texts
}

fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(members) => members.values().for_each(|member| strings(member, found)),
        _ => {}
    }
}

#[test]
fn parity_on_all_sample_data() {
    let (Some(pairs), Some(model)) = (public(), read("tokenizer/llama-2-tokenizer.model")) else { return };
    let model = Tokenizer::from_bytes("model", &model).unwrap();
    let mut paths = Vec::new();
    files(&data(""), &mut paths);
    let bytes = |path: &PathBuf| {
        let shown = path.display().to_string();
        let mut bytes = 0;
        for text in texts(path) {
            bytes += text.len();
            for pair in &pairs {
                pair.check(&text, &shown);
            }
            assert!(model.encode(&text).unwrap() == pairs[0].own.encode(&text).unwrap(), "{shown}: model and JSON differ");
        }
        bytes
    };
    let bytes: usize = paths.par_iter().map(bytes).sum();
    assert!(bytes > 40 << 20, "only {bytes} bytes were compared");
}

/// Every code point beside a letter, a number, a space, a line end, itself and an apostrophe: our scanner and the pattern
/// engine of the crate cut at the same places.
#[test]
fn parity_of_every_code_point_in_each_pattern() {
    let patterns = [(GPT2_PATTERN, Pattern::Gpt2), (CL100K_PATTERN, Pattern::Cl100k { digits: 3 })];
    let characters: Vec<char> = ('\0'..=char::MAX).collect();
    for (written, pattern) in patterns {
        let engine = SysRegex::new(written).unwrap();
        characters.par_chunks(1024).for_each(|chunk| {
            let spelled = |c: &char| format!("{c}a{c}1 {c}'{c}\n{c}{c}'r{c}'{c}e");
            let text: String = chunk.iter().map(spelled).collect();
            let mut found = Vec::new();
            Splitter::new(pattern).for_each(text.as_bytes(), |start, end| found.push((start, end)));
            let expected: Vec<(usize, usize)> = engine.find_iter(&text).collect();
            let place = found.iter().zip(&expected).position(|(a, b)| a != b);
            assert!(found == expected, "U+{:04X}: {pattern:?}: match {place:?} differs", u32::from(chunk[0]));
        });
    }
}

#[test]
fn a_file_whose_rules_are_not_ours_goes_through_the_library() {
    let shape = SpaceShape { prepared: Prepared::Prepend, byte_fallback: true, fuse_unk: true, across: false };
    let encoder = |file: &Value| Tokenizer::from_bytes("x", file.to_string().as_bytes()).unwrap().encoder();
    let check = |file: &Value, change: &dyn Fn(&mut Value), expected: Encoder| {
        let mut file = file.clone();
        if let Some(tokens) = file["added_tokens"].as_array_mut() {
            tokens.resize(4, Value::Null);
        }
        change(&mut file);
        if let Some(tokens) = file["added_tokens"].as_array_mut() {
            tokens.retain(|token| !token.is_null());
        }
        assert_eq!(encoder(&file), expected, "{}", file["pre_tokenizer"]);
    };
    let (spaces, bytes) = (invented_spaces(shape), invented_bytes(Some(LLAMA3_PATTERN), false));
    let library = Encoder::Library;
    check(&spaces, &|_| {}, Encoder::Own);
    // Special tokens of the vocabulary would be found in text.
    let mut reached = spaces.clone();
    reached["model"]["ignore_merges"] = json!(true);
    let refused = Tokenizer::from_bytes("x", reached.to_string().as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("the model reads from text"), "{refused}");
    let mut single = invented_bytes(Some(LLAMA3_PATTERN), false);
    single["normalizer"] = json!({"type": "NFC"});
    let id = single["model"]["vocab"]["#"].clone();
    let special = json!({"id": id, "content": "#", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    single["added_tokens"].as_array_mut().unwrap().push(special);
    let refused = Tokenizer::from_bytes("x", single.to_string().as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("the model reads from text"), "{refused}");
    check(&spaces, &|f| f["normalizer"] = json!({"type": "NFC"}), library);
    let added = |f: &Value, text: &str, special: bool| {
        let id = f["model"]["vocab"].as_object().unwrap().len();
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
    };
    check(&spaces, &|f| f["added_tokens"][3] = added(f, "<word>", true), Encoder::Own);
    check(&spaces, &|f| f["added_tokens"][3] = added(f, "<word>", false), library);
    check(&spaces, &|f| f["added_tokens"][3] = added(f, "#", true), library);
    check(&spaces, &|f| f["pre_tokenizer"] = json!({"type": "Punctuation", "behavior": "Isolated"}), library);
    check(&spaces, &|f| f["model"]["vocab"]["a b"] = json!(f["model"]["vocab"].as_object().unwrap().len()), library);
    check(&bytes, &|_| {}, Encoder::Own);
    check(&bytes, &|f| f["normalizer"] = json!({"type": "NFC"}), library);
    check(&bytes, &|f| f["pre_tokenizer"]["pretokenizers"][0]["invert"] = json!(true), library);
    check(&bytes, &|f| f["pre_tokenizer"]["pretokenizers"][0]["behavior"] = json!("MergedWithNext"), library);
    check(&bytes, &|f| f["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = json!(true), library);
    check(&bytes, &|f| f["pre_tokenizer"]["pretokenizers"][0]["pattern"] = json!({"Regex": r"\p{N}"}), library);
    assert_eq!(ModelFile::llama_like(&["▁", "a"], true).open().encoder().as_str(), "own");
    assert_eq!(Tokenizer::from_bytes("x", &llama2c(&[" ", "a"])).unwrap().encoder(), Encoder::Own);
    assert_eq!(library.as_str(), "tokenizers");
}

#[test]
fn a_token_without_its_byte_has_no_encoder_of_ours() {
    let mut file = invented_bytes(None, false);
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    let id = vocab.remove("Ā").unwrap();
    vocab.insert("\u{4e00}".to_owned(), id.clone());
    file["model"]["unk_token"] = json!("\u{4e00}");
    file["added_tokens"].as_array_mut().unwrap().push(json!({
        "id": id, "content": "\u{4e00}", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true}));
    let tokenizer = Tokenizer::from_bytes("x", file.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encoder(), Encoder::Library);
}

#[test]
fn special_token_text_stays_text_in_all_families() {
    for pair in invented() {
        let special: Vec<u32> = ["<s>", "</s>", "<|endoftext|>", "<|begin_of_text|>"]
            .iter()
            .filter_map(|text| pair.library.token_to_id(text))
            .collect();
        for text in ["<|begin_of_text|>", "a<|endoftext|>", "</s>", " <s> the"] {
            let ids = pair.own.encode(text).unwrap();
            assert!(ids.iter().all(|id| !special.contains(id)), "{}: {text}", pair.name);
        }
        assert!(!special.is_empty());
    }
}

#[test]
fn encoding_appends_and_an_error_leaves_the_list_as_it_was() {
    let tokenizer = Pair::new("x", &invented_bytes(None, false)).own;
    let mut ids = vec![7];
    tokenizer.encode_into("the patient", &mut ids).unwrap();
    assert_eq!(ids[0], 7);
    assert_eq!(ids[1..], tokenizer.encode("the patient").unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn parity_on_generated_text(text in clinical_text(), noise in any::<String>()) {
        thread_local! {
            static INVENTED: Vec<Pair> = invented();
            static PUBLIC: Option<Vec<Pair>> = public();
        }
        let check = |pair: &Pair| {
            pair.check(&text, "generated");
            pair.check(&noise, "noise");
            pair.check(&(text.clone() + &noise + &text), "both");
        };
        INVENTED.with(|pairs| pairs.iter().for_each(check));
        PUBLIC.with(|pairs| pairs.iter().flatten().for_each(check));
    }
}
