//! Public vocabularies and texts under the sample data folder; each test says "not run" where the folder is absent.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::Tokenizer;

/// The sample data folder: `MELLAMA_SAMPLE_DATA`, or the one beside the repository.
pub(super) fn data(path: &str) -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    std::env::var_os("MELLAMA_SAMPLE_DATA").map_or(beside, PathBuf::from).join(path)
}

pub(super) fn read(path: &str) -> Option<Vec<u8>> {
    let found = fs::read(data(path)).ok();
    if found.is_none() {
        eprintln!("not run: {path} is absent");
    }
    found
}

fn open(path: &str) -> Option<Tokenizer> {
    Some(Tokenizer::from_bytes(path, &read(path)?).unwrap())
}

/// LLaMA-2's vocabulary by the own encoder and by the `tokenizers` crate.
fn both() -> Option<(Tokenizer, Tokenizer)> {
    Some((open("tokenizer/llama-2-tokenizer.model")?, open("tokenizer/llama-2-tokenizer.json")?))
}

/// What stands after each case of llama.cpp's files.
pub(super) const CASE_END: &str = "\n__ggml_vocab_test__\n";

/// Compares ids and decoded texts of the two.
fn check_equal((own, library): &(Tokenizer, Tokenizer), text: &str, what: &str) {
    let ids = own.encode(text).unwrap();
    assert!(ids == library.encode(text).unwrap(), "{what}: ids differ");
    let plain = text.replace('\u{2581}', " ");
    assert!(own.decode(&ids) == plain, "{what}: the text does not come back");
    assert!(library.decode(&ids) == plain, "{what}: the library decodes it otherwise");
}

#[test]
fn golden_llama_cases_give_the_published_ids() {
    let (Some(tokenizers), Some(inputs), Some(outputs)) =
        (both(), read("tokenizer/ggml-vocab-llama-spm.gguf.inp"), read("tokenizer/ggml-vocab-llama-spm.gguf.out"))
    else {
        return;
    };
    let inputs = String::from_utf8(inputs).unwrap();
    let outputs = String::from_utf8(outputs).unwrap();
    // The separator also follows the last case.
    let inputs = inputs.strip_suffix(CASE_END).unwrap();
    let inputs: Vec<&str> = inputs.split(CASE_END).collect();
    let outputs: Vec<&str> = outputs.lines().collect();
    assert_eq!((inputs.len(), outputs.len()), (46, 46));
    for (number, (input, output)) in inputs.iter().zip(outputs).enumerate() {
        let expected: Vec<u32> = output.split_whitespace().map(|id| id.parse().unwrap()).collect();
        for tokenizer in [&tokenizers.0, &tokenizers.1] {
            let ids = tokenizer.encode(input).unwrap();
            assert_eq!(ids, expected, "case {number} with {}", tokenizer.name());
        }
        check_equal(&tokenizers, input, &format!("case {number}"));
    }
}

#[test]
fn both_forms_agree_on_their_control_tokens() {
    let Some((own, library)) = both() else { return };
    for tokenizer in [&own, &library] {
        assert_eq!(tokenizer.vocabulary_size(), 32_000);
        let ids = (tokenizer.bos(), tokenizer.eos(), tokenizer.unknown());
        assert_eq!(ids, (Some(1), Some(2), Some(0)));
    }
    // The unknown token alone differs: SentencePiece writes a surface for it, the JSON form nothing.
    assert_eq!((own.decode(&[0]), library.decode(&[0])), (" \u{2047} ".to_owned(), String::new()));
    for id in 1..32_000 {
        for previous in [None, Some(1), Some(29_871)] {
            let expected = own.decode_piece(previous, id);
            assert_eq!(library.decode_piece(previous, id), expected, "{previous:?} {id}");
        }
    }
    assert_ne!(own.digest(), library.digest());
}

#[test]
fn own_encoder_equals_the_library_on_public_texts() {
    let Some(tokenizers) = both() else { return };
    let mut files = vec![data("tokenizer/botchan.txt")];
    for folder in ["text/peps", "pubmed/metapub", "jats/tigr2ess", "jats/peerj", "notes/mts-dialog"] {
        let Ok(entries) = fs::read_dir(data(folder)) else {
            eprintln!("not run: {folder} is absent");
            continue;
        };
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        found.sort();
        files.extend(found.into_iter().take(20));
    }
    let mut bytes = 0;
    for path in files {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        bytes += text.len();
        check_equal(&tokenizers, &text, &path.display().to_string());
    }
    assert!(bytes > 1 << 20, "only {bytes} bytes were compared");
}

#[test]
fn a_megabyte_without_spaces_is_encoded_alike() {
    let Some(tokenizers) = both() else { return };
    let texts = [
        "a".repeat(1 << 20),
        "acetylsalicylicacid".repeat(1 << 13),
        "Ж漢é😀".repeat(1 << 14),
        " ".repeat(1 << 17),
        "\n".repeat(1 << 17),
        "\u{301}".repeat(1 << 16),
    ];
    for (number, text) in texts.iter().enumerate() {
        check_equal(&tokenizers, text, &format!("text {number}"));
    }
}

#[test]
fn stories_tokenizer_of_512_tokens_is_read() {
    let Some(tokenizer) = open("checkpoint/tok512.bin") else {
        return;
    };
    assert_eq!((tokenizer.vocabulary_size(), tokenizer.bos(), tokenizer.eos()), (512, Some(1), Some(2)));
    let text = "Once upon a time, there was a little girl named Lily. She said \"é\"\n";
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.decode(&ids), text);
    let expected = fs::read_to_string(data("checkpoint/expected_stdout.txt")).unwrap();
    let ids = tokenizer.encode(&expected).unwrap();
    let mut printed = Vec::new();
    let mut previous = tokenizer.bos();
    for id in ids {
        printed.extend(tokenizer.decode_piece(previous, id));
        previous = Some(id);
    }
    assert_eq!(String::from_utf8(printed).unwrap(), expected);
}

pub(super) fn clinical_text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        " ",
        "  ",
        "   ",
        "\n",
        "\r\n",
        "\t",
        "▁",
        "▁▁",
        "</s>",
        "<s>",
        "<unk>",
        "<0x0A>",
        "😀",
        "👩‍⚕️",
        "é",
        "e\u{301}",
        "µg",
        "°C",
        "ﬁ",
        "漢字",
        "Ж",
        "patient",
        "Patient",
        "mg",
        "40",
        "3.5",
        "[** Name **]",
        "___",
        "the",
        "ing",
        ",",
        ".",
        "\u{200b}",
        "\u{feff}",
        "\0",
        "\r",
        "=====",
        "p<0.05",
        "β",
        "–",
        "\u{a0}",
    ]);
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn own_encoder_equals_the_library_on_generated_text(text in clinical_text(), noise in any::<String>()) {
        thread_local! {
            static OPEN: Option<(Tokenizer, Tokenizer)> = both();
        }
        OPEN.with(|open| {
            if let Some(tokenizers) = open {
                check_equal(tokenizers, &text, "generated");
                check_equal(tokenizers, &noise, "noise");
                check_equal(tokenizers, &(text.clone() + &noise), "both");
            }
        });
    }
}
