//! The own encoder against plain re-implementations of the two algorithms, which look at the whole text at every step.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::Tokenizer;
use super::build::{BYTE, ModelFile, NORMAL, llama2c};

/// Pieces with merges of spaces, of characters that are no piece themselves (`q`), of more than one way to the same
/// piece, across spaces (`a▁b`), and of characters outside ASCII.
const TEXTS: [&str; 30] = [
    "ab",
    "▁a",
    "▁▁",
    "aba",
    "bab",
    "▁▁▁▁",
    "qa",
    "éa",
    "ñé",
    "▁qa",
    "a▁b",
    "aa",
    "aaaa",
    "\r\n",
    "😀a",
    "▁",
    "a",
    "b",
    "c",
    "é",
    "ñ",
    "😀",
    "\r",
    "1",
    "12",
    "/",
    "s",
    "</",
    "</s",
    "ca",
];

/// `SentencePiece` BPE by the definition: at each step the best-scoring adjacent pair, leftmost first.
fn plain_sentencepiece(model: &ModelFile, text: &str) -> Vec<u32> {
    let normal = model.pieces.iter().enumerate().filter(|(_, piece)| piece.2 == NORMAL);
    let scores: HashMap<&str, (f32, u32)> = normal.map(|(id, piece)| (piece.0.as_str(), (piece.1, id as u32))).collect();
    let bytes = model.pieces.iter().position(|piece| piece.2 == BYTE);
    if text.is_empty() {
        return Vec::new();
    }
    let text = format!("▁{}", text.replace(' ', "▁"));
    let mut symbols: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let mut best: Option<(f32, usize)> = None;
        for at in 1..symbols.len() {
            let joined = symbols[at - 1].clone() + &symbols[at];
            if let Some((score, _)) = scores.get(joined.as_str())
                && best.is_none_or(|(highest, _)| *score > highest)
            {
                best = Some((*score, at - 1));
            }
        }
        let Some((_, at)) = best else { break };
        let right = symbols.remove(at + 1);
        symbols[at] += &right;
    }
    let mut ids = Vec::new();
    for symbol in &symbols {
        match (scores.get(symbol.as_str()), bytes) {
            (Some((_, id)), _) => ids.push(*id),
            (None, Some(first)) => {
                ids.extend(symbol.bytes().map(|byte| first as u32 + u32::from(byte)));
            }
            (None, None) if ids.last() == Some(&0) => {}
            (None, None) => ids.push(0),
        }
    }
    ids
}

#[test]
fn a_merge_waits_for_its_turn_when_its_pair_has_changed_since() {
    // `yw` merges first; then `x` and `yw` are worse than `yw` and `z`, though `x` and `y` were better than both.
    let model = ModelFile::llama_like(&["yw", "xy", "ywz", "xyw", "zx", "▁", "x", "y", "w", "z"], true);
    let tokenizer = Tokenizer::from_bytes("model", &model.bytes()).unwrap();
    // Short ones are merged by looking at all pairs, long ones, which nothing cuts, with a queue.
    for count in [1, 2, 12, 40, 1000] {
        let text = "xywz".repeat(count);
        let found = tokenizer.encode(&text).unwrap();
        assert_eq!(found, plain_sentencepiece(&model, &text), "{count}");
        assert_eq!(found.iter().filter(|id| **id == 261).count(), count, "every ywz is a token");
    }
}

/// llama2.c's loop: characters or bytes first, then the best-scoring adjacent pair of tokens, leftmost first.
fn plain_llama2c(texts: &[&str], text: &str) -> Vec<u32> {
    let id_of = |wanted: &str| texts.iter().position(|t| *t == wanted).map(|at| at as u32 + 259);
    let text_of = |id: u32| id.checked_sub(259).map(|at| texts[at as usize]);
    let mut ids = Vec::new();
    if !text.is_empty() {
        ids.push(id_of(" ").unwrap());
    }
    for character in text.chars() {
        match id_of(&character.to_string()) {
            Some(id) => ids.push(id),
            None => ids.extend(character.to_string().bytes().map(|byte| u32::from(byte) + 3)),
        }
    }
    loop {
        // The score falls with the id, so the best pair makes the smallest id.
        let merged = |at: usize| {
            let (left, right) = (text_of(ids[at])?, text_of(ids[at + 1])?);
            id_of(&format!("{left}{right}"))
        };
        let best = (0..ids.len().saturating_sub(1)).filter_map(|at| Some((merged(at)?, at))).min();
        let Some((id, at)) = best else { return ids };
        ids[at] = id;
        ids.remove(at + 1);
    }
}

fn alphabet() -> impl Strategy<Value = String> {
    let character = prop::sample::select(vec![
        "a", "a", "b", "c", " ", " ", "▁", "q", "é", "ñ", "😀", "\r", "\n", "1", "2", "z", "µ", "</s>", "<unk>", "aa", "ab",
    ]);
    prop::collection::vec(character, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn queue_and_splitting_equal_the_definition(text in alphabet(), byte_fallback: bool) {
        let model = ModelFile::llama_like(&TEXTS, byte_fallback);
        thread_local! {
            static OPEN: [Tokenizer; 2] =
                [false, true].map(|fallback| ModelFile::llama_like(&TEXTS, fallback).open());
        }
        let ids = OPEN.with(|open| open[usize::from(byte_fallback)].encode(&text).unwrap());
        prop_assert_eq!(ids, plain_sentencepiece(&model, &text));
    }

    #[test]
    fn equal_scores_merge_leftmost_first(text in "[abc ]{0,30}") {
        let mut model = ModelFile::llama_like(&TEXTS, true);
        for piece in &mut model.pieces {
            piece.1 = if piece.0.len() % 2 == 0 { 0.0 } else { -0.0 };
        }
        thread_local! {
            static OPEN: Tokenizer = {
                let mut model = ModelFile::llama_like(&TEXTS, true);
                for piece in &mut model.pieces {
                    piece.1 = if piece.0.len() % 2 == 0 { 0.0 } else { -0.0 };
                }
                model.open()
            };
        }
        let ids = OPEN.with(|open| open.encode(&text).unwrap());
        prop_assert_eq!(ids, plain_sentencepiece(&model, &text));
    }

    #[test]
    fn llama2c_equals_its_loop(text in alphabet()) {
        let texts: Vec<String> = TEXTS.iter().map(|text| text.replace('▁', " ")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tokenizer = Tokenizer::from_bytes("test.bin", &llama2c(&texts)).unwrap();
        prop_assert_eq!(tokenizer.encode(&text).unwrap(), plain_llama2c(&texts, &text));
    }

    #[test]
    fn decoding_gives_the_text_back(text in alphabet()) {
        let tokenizer = ModelFile::llama_like(&TEXTS, true).open();
        let ids = tokenizer.encode(&text).unwrap();
        let expected = text.replace('▁', " ");
        prop_assert_eq!(tokenizer.decode(&ids), expected.clone());
        let mut streamed = Vec::new();
        let mut previous = None;
        for id in ids {
            streamed.extend(tokenizer.decode_piece(previous, id));
            previous = Some(id);
        }
        prop_assert_eq!(String::from_utf8(streamed).unwrap(), expected);
    }
}

#[test]
fn a_file_says_its_kind_and_control_ids() {
    let model = ModelFile::llama_like(&["▁", "a"], true).open();
    assert_eq!((model.kind().as_str(), model.vocabulary_size()), ("sentencepiece", 261));
    assert_eq!((model.bos(), model.eos(), model.unknown()), (Some(1), Some(2), Some(0)));
    let bin = Tokenizer::from_bytes("x", &llama2c(&[" ", "a"])).unwrap();
    assert_eq!((bin.kind().as_str(), bin.vocabulary_size()), ("llama2c", 261));
    assert_eq!((bin.bos(), bin.eos(), bin.unknown()), (Some(1), Some(2), Some(0)));
    assert_eq!(bin.digest(), blake3::hash(&llama2c(&[" ", "a"])).to_hex().as_str());
}

#[test]
fn control_tokens_are_never_read_from_text_and_never_written() {
    let model = ModelFile::llama_like(&TEXTS, true).open();
    let ids = model.encode("<s></s><unk><0x41>").unwrap();
    assert!(ids.iter().all(|id| *id > 2), "{ids:?}");
    assert_eq!(model.decode(&ids), "<s></s><unk><0x41>");
    assert_eq!(model.decode(&[1, ids[0], 2]), "");
    assert_eq!(model.decode_piece(Some(1), 2), b"");
    assert_eq!(model.decode_piece(None, 1_000_000), b"");
    assert_eq!(model.decode(&[1_000_000]), "");
}

#[test]
fn bytes_that_are_not_utf8_become_replacement_characters() {
    let model = ModelFile::llama_like(&["▁", "a"], true).open();
    let byte = |byte: u32| byte + 3;
    let check = |ids: &[u32], expected: &str| assert_eq!(model.decode(ids), expected, "{ids:?}");
    check(&[byte(0xc2), byte(0xb5)], "µ");
    check(&[byte(0xc2), 260, byte(0xb5)], "\u{fffd}a\u{fffd}");
    check(&[byte(0xe4), 1, byte(0x9a)], "\u{fffd}\u{fffd}");
    check(&[byte(0xe4), byte(0x9a), byte(0x41)], "\u{fffd}\u{fffd}A");
    check(&[byte(0x0a), 259, 260], "\n a");
    check(&[259, 259, 260], " a");
    check(&[0, 260], " \u{2047} a");
}

#[test]
fn extra_spaces_go_where_the_file_says_so() {
    let mut model = ModelFile::llama_like(&["▁a", "▁▁", "▁", "a", "b"], true);
    model.normalizer = vec![(3, 1), (4, 1), (5, 1)];
    let tokenizer = model.open();
    let same = |text: &str, plain: &str| {
        assert_eq!(tokenizer.encode(text).unwrap(), tokenizer.encode(plain).unwrap(), "{text:?}");
    };
    same("  a   b ", "a b");
    same("   ", "");
    same("a b \u{2581}", "a b");
    assert_eq!(tokenizer.decode(&tokenizer.encode(" a  b").unwrap()), "a b");
    model.normalizer = vec![(3, 0), (4, 0), (5, 1)];
    assert_eq!(model.open().encode("a").unwrap(), [262]);
    assert_eq!(model.open().decode(&[259]), " a");
}

#[test]
fn ids_do_not_depend_on_earlier_calls_or_threads() {
    let tokenizer = ModelFile::llama_like(&TEXTS, true).open();
    let texts: Vec<String> = (0..200).map(|n| "ab qa é \n1".repeat(n % 7 + 1) + &"a".repeat(n)).collect();
    let alone: Vec<_> = texts.iter().map(|text| ModelFile::llama_like(&TEXTS, true).open().encode(text).unwrap()).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (text, expected) in texts.iter().zip(&alone) {
                    assert_eq!(&tokenizer.encode(text).unwrap(), expected);
                }
            });
        }
    });
}
