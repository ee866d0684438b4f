//! Seeded comparison of our encoders with the `tokenizers` crate: whatever the text, the ids are the same.
//!
//! `fuzz-tokenizers [--seconds N] [--seed S] [--first K] [--data FOLDER]` makes case after case; each follows from its number
//! alone. `--case N` runs one again and prints its text, `--first K` goes on after K cases of the same seed. With a folder of
//! sample data LLaMA-2's and GPT-2's vocabularies are compared besides the invented ones. Exit 0 where every case held, else
//! 1 with the number of the case (2 for usage).

mod random;
mod texts;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mellama_shards::{Encoder, Tokenizer};
use serde_json::{Value, json};
use tokenizers::Tokenizer as Library;

use random::Random;
use vocabulary::{LLAMA3_PATTERN, Prepared, QWEN2_PATTERN, SpaceShape};

/// Cases of a public vocabulary for one of an invented one.
const PUBLIC_WEIGHT: usize = 8;

struct Options {
    seconds: u64,
    seed: u64,
    first: u64,
    case: Option<u64>,
    data: Option<PathBuf>,
}

/// One vocabulary in both encoders.
struct Pair {
    name: String,
    /// From `tokenizer.json`, and for LLaMA-2 from `tokenizer.model` too.
    own: Vec<Tokenizer>,
    library: Library,
    /// Texts of its tokens, as a document would spell them.
    tokens: Vec<String>,
    /// How many cases it gets for one of an invented vocabulary.
    weight: usize,
    cases: u64,
}

fn main() -> ExitCode {
    let (options, mut pairs) = match options().and_then(|options| pairs(&options).map(|pairs| (options, pairs))) {
        Ok(ready) => ready,
        Err(message) => {
            eprintln!("fuzz-tokenizers: {message}");
            return ExitCode::from(2);
        }
    };
    let begin = Instant::now();
    let (mut cases, mut bytes, mut ids) = (0_u64, 0_u64, 0_u64);
    while options.case.is_some() || begin.elapsed() < Duration::from_secs(options.seconds) {
        let number = options.case.unwrap_or_else(|| random::mixed(options.seed.wrapping_add(options.first + cases)));
        let mut random = Random::new(number);
        let pair = chosen(&mut random, &mut pairs);
        let text = texts::text(&mut random, &pair.tokens);
        if options.case.is_some() {
            println!("{}: {text:?}", pair.name);
        }
        match hold(pair, &text) {
            Ok(count) => ids += count,
            Err(message) => {
                let length = text.len();
                eprintln!("fuzz-tokenizers: case {number}: {}: text of {length} bytes: {message}", pair.name);
                return ExitCode::FAILURE;
            }
        }
        pair.cases += 1;
        cases += 1;
        bytes += text.len() as u64;
        if options.case.is_some() {
            break;
        }
    }
    for pair in &pairs {
        println!("{}: {} cases", pair.name, pair.cases);
    }
    let (first, next, seconds) = (options.first, options.first + cases, begin.elapsed().as_secs_f64());
    println!("tokenizers: cases {first} to {next} of seed {}, {bytes} bytes, {ids} ids, {seconds:.0} s: all held", options.seed);
    ExitCode::SUCCESS
}

fn options() -> Result<Options, String> {
    let usage = "expected [--seconds N] [--seed S] [--first K] [--case N] [--data FOLDER]";
    let mut options = Options { seconds: 60, seed: 1, first: 0, case: None, data: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(usage)?;
        let number = || value.parse::<u64>().map_err(|_| usage.to_owned());
        match name.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--first" => options.first = number()?,
            "--case" => options.case = Some(number()?),
            "--data" => options.data = Some(PathBuf::from(value)),
            _ => return Err(usage.to_owned()),
        }
    }
    Ok(options)
}

/// One of the vocabularies, by their weights.
fn chosen<'a>(random: &mut Random, pairs: &'a mut [Pair]) -> &'a mut Pair {
    let mut place = random.below(pairs.iter().map(|pair| pair.weight).sum());
    let reached = |pair: &&mut Pair| {
        let here = place < pair.weight;
        place = place.wrapping_sub(pair.weight);
        here
    };
    pairs.iter_mut().find(reached).expect("the place is below the sum of the weights")
}

/// Encodes by all; the number of ids, or what differs.
fn hold(pair: &Pair, text: &str) -> Result<u64, String> {
    let expected = pair.library.encode_fast(text, false).map_err(|_| "the library failed".to_owned())?;
    let expected = expected.get_ids();
    for own in &pair.own {
        let found = own.encode(text).map_err(|error| error.to_string())?;
        if found != expected {
            let place = found.iter().zip(expected).position(|(a, b)| a != b);
            return Err(format!(
                "{}: {} ids, expected {}; first difference at {place:?}",
                own.name(),
                found.len(),
                expected.len()
            ));
        }
        // The second time many segments come out of the cache.
        if own.encode(text).map_err(|error| error.to_string())? != found {
            return Err(format!("{}: other ids the second time", own.name()));
        }
    }
    Ok(expected.len() as u64)
}

/// All vocabularies that there are here.
fn pairs(options: &Options) -> Result<Vec<Pair>, String> {
    let mut pairs = Vec::new();
    let metaspace = |scheme, split| Prepared::Metaspace { scheme, split };
    let prepared = [
        Prepared::Prepend,
        Prepared::ReplaceOnly,
        metaspace("always", true),
        metaspace("first", false),
        metaspace("never", true),
    ];
    for prepared in prepared {
        for (byte_fallback, fuse_unk, across) in
            [(true, true, false), (true, false, true), (false, true, true), (false, false, false)]
        {
            let shape = SpaceShape { prepared, byte_fallback, fuse_unk, across };
            pairs.push(pair(&format!("{shape:?}"), &vocabulary::invented_spaces(shape))?);
        }
    }
    for (name, pattern) in [("GPT-2", None), ("Llama 3", Some(LLAMA3_PATTERN)), ("Qwen 2", Some(QWEN2_PATTERN))] {
        for ignore_merges in [false, true] {
            let file = vocabulary::invented_bytes(pattern, ignore_merges);
            pairs.push(pair(&format!("invented, {name}, ignore_merges {ignore_merges}"), &file)?);
        }
    }
    let mut prefixed = vocabulary::invented_bytes(None, false);
    prefixed["pre_tokenizer"]["add_prefix_space"] = json!(true);
    pairs.push(pair("invented, GPT-2, add_prefix_space", &prefixed)?);
    if let Some(data) = &options.data {
        pairs.extend(public_pairs(data)?);
    }
    Ok(pairs)
}

/// LLaMA-2 and GPT-2, more often than an invented one.
fn public_pairs(data: &Path) -> Result<Vec<Pair>, String> {
    let read = |name: &str| {
        let path = data.join("tokenizer").join(name);
        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let (tokens, merges) = vocabulary::of_gguf(&read("ggml-vocab-gpt-2.gguf")?).ok_or("the .gguf file is cut")?;
    let (json, model) = (read("llama-2-tokenizer.json")?, read("llama-2-tokenizer.model")?);
    let llama: Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    let mut both = pair("LLaMA-2", &llama)?;
    both.own.push(Tokenizer::from_bytes("tokenizer.model", &model).map_err(|error| error.to_string())?);
    let gpt2 = pair("GPT-2", &vocabulary::bytes_file(&tokens, &merges, None))?;
    let llama3 = vocabulary::bytes_file(&tokens, &merges, Some(LLAMA3_PATTERN));
    let mut pairs = vec![both, gpt2, pair("GPT-2's vocabulary, Llama 3's pattern", &llama3)?];
    for pair in &mut pairs {
        pair.weight = PUBLIC_WEIGHT;
    }
    Ok(pairs)
}

fn pair(name: &str, file: &Value) -> Result<Pair, String> {
    let bytes = file.to_string().into_bytes();
    let own = Tokenizer::from_bytes("tokenizer.json", &bytes).map_err(|error| format!("{name}: {error}"))?;
    if own.encoder() != Encoder::Own {
        return Err(format!("{name}: would be compared with itself"));
    }
    let mut library = Library::from_bytes(&bytes).map_err(|error| format!("{name}: {error}"))?;
    library.set_encode_special_tokens(true);
    let alphabet = vocabulary::byte_characters();
    let spelled = |text: &String| {
        let bytes: Option<Vec<u8>> =
            text.chars().map(|c| alphabet.iter().position(|known| *known == c).map(|byte| byte as u8)).collect();
        if file["decoder"]["type"] == "ByteLevel"
            && let Some(bytes) = bytes
        {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        text.replace('\u{2581}', " ")
    };
    let vocab = file["model"]["vocab"].as_object().ok_or("no vocabulary")?;
    let tokens = vocab.keys().map(spelled).collect();
    Ok(Pair { name: name.to_owned(), own: vec![own], library, tokens, weight: 1, cases: 0 })
}
