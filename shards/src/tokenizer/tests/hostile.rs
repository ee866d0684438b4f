//! Tokenizer files that must be refused with a reason (reliability case 36). A refusal never panics and is quick.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Refusal, Tokenizer, TokenizerError, VOCABULARY_MAX};
use super::build::{BYTE, CONTROL, ModelFile, NORMAL, UNKNOWN, llama2c};

/// A small `tokenizer.json` of LLaMA-2's shape: byte fallback, 3 control tokens, `▁`, `a`, `b`, `ab`.
fn llama_json() -> Value {
    let mut vocab = serde_json::Map::new();
    let mut add = |text: &str| drop(vocab.insert(text.to_owned(), json!(vocab.len())));
    ["<unk>", "<s>", "</s>"].into_iter().for_each(&mut add);
    (0..256).for_each(|byte| add(&format!("<0x{byte:02X}>")));
    ["▁", "a", "b", "ab"].into_iter().for_each(&mut add);
    let token = |id: u32, text: &str| json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [token(0, "<unk>"), token(1, "<s>"), token(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": [["a", "b"]]},
    })
}

fn open(bytes: &[u8]) -> Result<Tokenizer, Refusal> {
    match Tokenizer::from_bytes("hostile", bytes) {
        Ok(tokenizer) => Ok(tokenizer),
        Err(TokenizerError::Refused { reason, .. }) => Err(reason),
        Err(other) => panic!("{other}"),
    }
}

/// Opens the JSON after `change` and expects a refusal whose message contains `expected`.
fn check(change: impl FnOnce(&mut Value), expected: &str) {
    let mut file = llama_json();
    change(&mut file);
    let message = match open(file.to_string().as_bytes()) {
        Ok(_) => "accepted".to_owned(),
        Err(reason) => reason.to_string(),
    };
    assert!(message.contains(expected), "expected {expected:?}, got {message:?}");
}

#[test]
fn the_unchanged_file_is_accepted_and_encodes() {
    let tokenizer = open(llama_json().to_string().as_bytes()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.unknown()), (Some(1), Some(2), Some(0)));
    assert_eq!(tokenizer.vocabulary_size(), 263);
    assert_eq!(tokenizer.encode("ab a").unwrap(), [259, 262, 259, 260]);
    assert_eq!(tokenizer.decode(&[259, 262, 259, 260]), "ab a");
    let ids = tokenizer.encode("</s>é").unwrap();
    assert_eq!(tokenizer.decode(&ids), "</s>é");
    assert!(ids.iter().all(|id| *id > 2));
}

#[test]
fn case_36_ids_are_unique_and_without_gaps() {
    check(|f| f["model"]["vocab"]["ab"] = json!(261), "id 261 belongs to two tokens");
    check(|f| f["model"]["vocab"]["ab"] = json!(263), "id 262 has no token");
    check(|f| f["model"]["vocab"]["ab"] = json!(4_000_000_000_u32), "token id: 4000000000");
    check(|f| f["model"]["vocab"]["ab"] = json!(-1), "line 1, column");
    check(|f| f["model"]["vocab"]["ab"] = json!(1.5), "line 1, column");
    check(|f| f["added_tokens"][2]["id"] = json!(260), "another id than the same text");
    check(|f| f["added_tokens"][2]["content"] = json!("new"), "id 2 belongs to two tokens");
    check(|f| f["added_tokens"][2] = f["added_tokens"][1].clone(), "stands twice");
    let twice = llama_json().to_string().replace("\"ab\":262", "\"ab\":262,\"ab\":263");
    assert!(matches!(open(twice.as_bytes()), Err(Refusal::DuplicateToken { id: 263, .. })));
}

#[test]
fn case_36_merges_are_of_known_tokens_and_spell_no_control_token() {
    check(|f| f["model"]["merges"] = json!([["a", "zz"]]), "not in the vocabulary");
    check(|f| f["model"]["merges"] = json!([["b", "a"]]), "makes a token that is not");
    check(|f| f["model"]["merges"] = json!(["a b c"]), "must be two tokens");
    check(|f| f["model"]["merges"] = json!([["a"]]), "line 1, column");
    check(
        |f| {
            for (text, id) in [("<", 263), ("s>", 264)] {
                f["model"]["vocab"][text] = json!(id);
            }
            f["model"]["merges"] = json!([["<", "s>"]]);
        },
        "text could then spell",
    );
    check(
        |f| {
            for (text, id) in [("<0x", 263), ("41>", 264)] {
                f["model"]["vocab"][text] = json!(id);
            }
            f["model"]["merges"] = json!([["<0x", "41>"]]);
        },
        "text could then spell",
    );
}

#[test]
fn case_36_too_many_merges_or_tokens_are_refused() {
    let mut file = llama_json();
    file["model"]["merges"] = json!("HERE");
    let merges = "\"a b\",".repeat((2 << 20) + 1);
    let text = file.to_string().replace("\"HERE\"", &format!("[{}]", merges.trim_end_matches(',')));
    assert!(matches!(open(text.as_bytes()), Err(Refusal::Json { what, .. }) if what.contains("merges")));
    let entries: Vec<String> = (0..=VOCABULARY_MAX).map(|id| format!("\"t{id}\":{id}")).collect();
    let text = format!("{{\"model\":{{\"type\":\"BPE\",\"vocab\":{{{}}}}}}}", entries.join(","));
    assert!(matches!(open(text.as_bytes()), Err(Refusal::Json { what, .. }) if what.contains("tokens")));
    let large = vec![b' '; (super::super::FILE_BYTES_MAX + 1) as usize];
    let result = Tokenizer::from_bytes("large", &large);
    assert!(matches!(result, Err(TokenizerError::TooLarge { .. })));
}

#[test]
fn a_byte_level_file_gives_back_every_text_and_every_byte() {
    // The byte-level alphabet: printable bytes are themselves, the rest U+0100 onwards.
    let mut vocab = serde_json::Map::new();
    let mut other = 0x100;
    for byte in 0..=255_u8 {
        let printable = matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let code = if printable { u32::from(byte) } else { other };
        other += u32::from(!printable);
        vocab.insert(char::from_u32(code).unwrap().to_string(), json!(byte));
    }
    vocab.insert("Ġa".to_owned(), json!(256));
    let end = json!({"id": 257, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let file = json!({"version": "1.0", "added_tokens": [end], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": ["Ġ a"]}});
    let tokenizer = open(file.to_string().as_bytes()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.unknown()), (None, Some(257), None));
    assert_eq!(tokenizer.encode("a a\n").unwrap(), [97, 256, 10]);
    for text in ["  <|endoftext|>é\t\u{2581}😀 a\r\n", "", " ", "\0\u{ad}"] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(!ids.contains(&257));
        assert_eq!(tokenizer.decode(&ids), text);
        let streamed: Vec<u8> = ids.iter().flat_map(|id| tokenizer.decode_piece(None, *id)).collect();
        assert_eq!(streamed, text.as_bytes());
    }
    for byte in 0..=255_u8 {
        assert_eq!(tokenizer.decode_piece(None, u32::from(byte)), [byte]);
    }
    assert_eq!(tokenizer.decode_piece(None, 257), b"");
}

#[test]
fn case_36_files_that_leave_text_out_are_refused() {
    let lost = "would be lost";
    check(|f| f["normalizer"] = json!({"type": "Replace", "pattern": {"String": "a"}, "content": ""}), "would lose text");
    let nested = json!({"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": "\\d"}, "content": ""}]});
    check(|f| f["normalizer"] = nested, "would lose text");
    check(|f| f["model"]["unk_token"] = json!("none"), "is not in the vocabulary");
    check(
        |f| {
            f["model"]["unk_token"] = Value::Null;
            f["model"]["byte_fallback"] = json!(false);
        },
        lost,
    );
    // The tokens of bytes are there, one of them in a spelling that the crate does not know.
    let spelled = |f: &mut Value| {
        let vocab = f["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove("<0xAB>").unwrap();
        vocab.insert("<0xab>".to_owned(), id);
        f["model"]["unk_token"] = Value::Null;
    };
    check(spelled, lost);
    check(
        |f| {
            f["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
            f["model"]["byte_fallback"] = json!(false);
            f["model"]["unk_token"] = Value::Null;
        },
        "byte-level alphabet",
    );
    for member in ["lstrip", "rstrip"] {
        let added = |f: &mut Value, special: bool| {
            f["model"]["vocab"]["[x]"] = json!(263);
            let mut token = json!({"id": 263, "content": "[x]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special});
            token[member] = json!(true);
            f["added_tokens"].as_array_mut().unwrap().push(token);
        };
        check(|f| added(f, false), lost);
        // Special ones are never read from text.
        check(|f| added(f, true), "accepted");
    }
}

/// Old files begin their merges with a line that is none.
#[test]
fn a_version_line_among_merges_is_none() {
    let mut file = llama_json();
    file["model"]["merges"] = json!(["#version: 0.2", "a b"]);
    assert_eq!(open(file.to_string().as_bytes()).unwrap().encode("ab").unwrap(), [259, 262]);
}

/// The engine of the library's patterns gives up within long runs and splits no further: then `a1` becomes one token.
#[test]
fn runs_that_the_librarys_patterns_cannot_take_are_errors() {
    const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let mut file = llama_json();
    file["pre_tokenizer"] = split(TEKKEN);
    file["normalizer"] = Value::Null;
    file["model"]["vocab"]["1"] = json!(263);
    file["model"]["vocab"]["a1"] = json!(264);
    file["model"]["merges"] = json!([["a", "b"], ["a", "1"]]);
    let tokenizer = open(file.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encoder().as_str(), "tokenizers");
    let text = |unit: &str, count: usize| format!("b{}a1", unit.repeat(count));
    for unit in [" ", "A", "漢", "\u{301}", "\u{3000}", "1"] {
        let ids = tokenizer.encode(&text(unit, 249_000)).unwrap();
        assert!(!ids.contains(&264), "{unit:?}");
        let error = tokenizer.encode(&text(unit, 250_001)).unwrap_err();
        assert!(matches!(error, TokenizerError::LongRun { .. }), "{error}");
        assert!(error.to_string().contains("250000 characters"), "{error}");
    }
    let library: tokenizers::Tokenizer = file.to_string().parse().unwrap();
    let ids = library.encode_fast(text(" ", 1_100_000), false).unwrap();
    assert!(ids.get_ids().contains(&264), "the engine takes it now: the limit can go");
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

#[test]
fn case_36_patterns_of_unknown_cost_are_refused() {
    let unknown = "not one of the known";
    for pattern in ["(a+)+b", r"(a)\1", "(?<=a)b", "(", "(?:a{1000}){1000}", "", ".*[^A-Z]|[A-Z]"] {
        check(|f| f["pre_tokenizer"] = split(pattern), unknown);
    }
    let nested = json!({"type": "Sequence", "pretokenizers": [split(r"(x+)*y(?=z)")]});
    check(|f| f["pre_tokenizer"] = nested, unknown);
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    check(|f| f["normalizer"] = replace(json!({"Regex": "(?=a)"}), ""), unknown);
    check(|f| f["decoder"] = replace(json!({"Regex": "(a|aa)+$"}), ""), unknown);
    check(|f| f["normalizer"] = replace(json!({}), ""), "must be a String");
    check(|f| f["normalizer"] = replace(json!({"String": ""}), "x"), "matches everywhere");
}

#[test]
fn case_36_text_does_not_grow_without_bound() {
    let double = json!({"type": "Replace", "pattern": {"String": " "}, "content": "  "});
    let doubles = |count: usize| json!({"type": "Sequence", "normalizers": vec![double.clone(); count]});
    check(|f| f["normalizer"] = doubles(5), "times: 32, at most 16");
    check(
        |f| {
            f["normalizer"] = json!({"type": "Sequence", "normalizers": vec![json!({"type": "NFC"}); 32]});
        },
        "components: 33",
    );
    let long = "x".repeat(65);
    check(|f| f["normalizer"] = json!({"type": "Prepend", "prepend": long}), "longer than 64");
    let mut nested = json!({"type": "NFC"});
    for _ in 0..40 {
        nested = json!({"type": "Sequence", "normalizers": [nested]});
    }
    check(|f| f["normalizer"] = nested, "components: 33");
}

#[test]
fn case_36_known_patterns_lose_nothing_of_long_text() {
    let texts = [
        "A".repeat(1 << 15),
        " ".repeat(1 << 15) + "x",
        "\n ".repeat(1 << 14),
        "漢1".repeat(1 << 13),
        "a's b-C\u{301}é 123456\r\n\t?!…".repeat(1 << 10),
    ];
    for pattern in super::super::components::KNOWN_PATTERNS {
        let mut file = llama_json();
        file["pre_tokenizer"] = split(pattern);
        let tokenizer = open(file.to_string().as_bytes()).unwrap();
        for text in &texts {
            assert!(tokenizer.decode(&tokenizer.encode(text).unwrap()) == *text, "{pattern}");
        }
    }
}

#[test]
fn settings_that_change_or_lose_text_are_refused() {
    check(|f| f["model"]["dropout"] = json!(0.1), "other ids at every call");
    check(|f| f["model"]["type"] = json!("Unigram"), "only BPE");
    check(|f| f["model"]["type"] = json!("WordLevel"), "only BPE");
    check(|f| f["model"]["continuing_subword_prefix"] = json!("##"), "continuing_subword_prefix");
    check(|f| f["model"]["end_of_word_suffix"] = json!("</w>"), "end_of_word_suffix");
    check(|f| f["normalizer"] = json!({"type": "Lowercase"}), "is not supported");
    check(|f| f["normalizer"] = json!({"type": "Precompiled"}), "is not supported");
    check(|f| f["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0}), "is not supported");
    check(|f| f["decoder"] = json!({"type": "CTC"}), "is not supported");
    check(|f| f["decoder"] = json!([]), "must be an object");
    check(|f| f["added_tokens"][2]["special"] = json!(false), "flag as special");
    check(|f| f["added_tokens"][0]["special"] = json!(false), "flag as special");
    check(|f| drop(f.as_object_mut().unwrap().remove("model")), "missing field");
}

#[test]
fn truncation_padding_and_templates_of_the_file_have_no_effect() {
    let mut file = llama_json();
    file["truncation"] = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    file["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"});
    file["post_processor"] = json!({"type": "TemplateProcessing", "pair": [],
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}});
    let tokenizer = open(file.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("ab a ab").unwrap(), [259, 262, 259, 260, 259, 262]);
}

#[test]
fn sentencepiece_models_that_the_encoder_does_not_reproduce_are_refused() {
    let base = || ModelFile::llama_like(&["▁", "a"], true);
    let refuse = |change: &dyn Fn(&mut ModelFile), expected: &str| {
        let mut model = base();
        change(&mut model);
        let message = open(&model.bytes()).err().map_or("accepted".to_owned(), |r| r.to_string());
        assert!(message.contains(expected), "expected {expected:?}, got {message:?}");
    };
    refuse(&|m| m.trainer = vec![(3, 1), (35, 1)], "unigram");
    refuse(&|m| m.trainer = vec![(35, 1)], "unigram");
    refuse(&|m| m.trainer = vec![(3, 4), (35, 1)], "char");
    refuse(&|m| m.trainer.push((24, 1)), "treat_whitespace_as_suffix");
    refuse(&|m| m.character_map = vec![1, 2, 3], "precompiled_charsmap");
    refuse(&|m| m.normalizer = vec![(5, 0)], "escape_whitespaces");
    refuse(&|m| m.pieces.push(("x".into(), 0.0, 4)), "user-defined");
    refuse(&|m| m.pieces.push(("x".into(), 0.0, 5)), "unused");
    refuse(&|m| m.pieces.push(("x".into(), 0.0, 9)), "type");
    refuse(&|m| m.pieces.push(("x".into(), 0.0, CONTROL)), "single character");
    refuse(&|m| m.pieces.push(("a".into(), 0.0, NORMAL)), "stands twice");
    refuse(&|m| m.pieces.push((" ".into(), 0.0, NORMAL)), "stands twice");
    refuse(&|m| m.pieces.push(("<s>".into(), 0.0, NORMAL)), "stands twice");
    refuse(&|m| m.pieces.push((String::new(), 0.0, NORMAL)), "empty");
    refuse(&|m| m.pieces.push(("x".repeat(257), 0.0, NORMAL)), "256 bytes");
    refuse(&|m| m.pieces.push(("x".into(), f32::NAN, NORMAL)), "finite");
    refuse(&|m| m.pieces.push(("<0x41>".into(), 0.0, BYTE)), "stands twice");
    refuse(&|m| m.pieces.push(("<0x4G>".into(), 0.0, BYTE)), "<0xNN>");
    refuse(&|m| drop(m.pieces.remove(7)), "every one of the 256");
    refuse(&|m| m.trainer = vec![(3, 2)], "without byte_fallback");
    refuse(&|m| m.pieces.push(("<unk2>".into(), 0.0, UNKNOWN)), "second unknown");
    refuse(&|m| drop(m.pieces.remove(0)), "unknown piece");
    let truncated = &base().bytes()[..1000];
    assert!(matches!(open(truncated), Err(Refusal::Malformed { offset: 990.., .. })));
}

#[test]
fn llama2c_files_that_break_the_layout_are_refused() {
    let good = llama2c(&[" ", "a"]);
    assert!(open(&good).is_ok());
    assert!(matches!(open(&good[..good.len() - 1]), Err(Refusal::Malformed { .. })));
    assert!(matches!(open(&good[..2000]), Err(Refusal::Malformed { .. })));
    assert!(matches!(open(&llama2c(&["a", "a"])), Err(Refusal::DuplicateToken { id: 260, .. })));
    let mut swapped = good.clone();
    let at = swapped.windows(6).position(|window| window == b"<0x05>").unwrap();
    swapped[at + 4] = b'6';
    assert!(matches!(open(&swapped), Err(Refusal::Token { id: 8, .. })));
    let mut short = good.clone();
    short[0] = 3;
    assert!(matches!(open(&short), Err(Refusal::Token { id: 0, .. })));
}

#[test]
fn other_files_are_named_as_unknown() {
    for bytes in [&b""[..], b"\x00", b"PK\x03\x04....", b"\xff\xff\xff\xff\xff", b"GGUF\x03\0\0\0", b"   "] {
        let result = Tokenizer::from_bytes("x", bytes);
        assert!(matches!(result, Err(TokenizerError::UnknownFormat { .. })), "{bytes:?}: {result:?}");
    }
    assert!(matches!(open(b"{\"model\""), Err(Refusal::Json { line: 1, .. })));
    assert!(matches!(open("[".repeat(200).replace('[', "{\"a\":").as_bytes()), Err(Refusal::Json { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changed_bytes_never_panic(at in 0_usize..4000, byte: u8, cut in 0_usize..5000, which in 0..3) {
        let mut bytes = match which {
            0 => llama_json().to_string().into_bytes(),
            1 => ModelFile::llama_like(&["▁", "a", "▁a"], true).bytes(),
            _ => llama2c(&[" ", "a", " a"]),
        };
        let at = at % bytes.len();
        bytes[at] = byte;
        if cut < bytes.len() && cut % 3 == 0 {
            bytes.truncate(cut);
        }
        if let Ok(tokenizer) = Tokenizer::from_bytes("changed", &bytes)
            && let Ok(ids) = tokenizer.encode("ab <s> é\n a") {
                prop_assert!(ids.iter().all(|id| *id < tokenizer.vocabulary_size()));
                tokenizer.decode(&ids);
            }
    }
}
