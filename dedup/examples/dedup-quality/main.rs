//! Measures the quality of the deduplication against brute force, prints tables in Markdown, and ends with 1 if a bar is
//! missed.
//!
//! `dedup-quality FOLDER [--articles FOLDER] [--pairs N]`, where the first folder holds `corpus.jsonl` and `truth.jsonl` of
//! `bench/dedup/make_corpus.py quality`, the second the article sets `articles_100.train` and `articles_1000.train` with
//! their `.truth`, and N is the number of pairs in each bin of the first table (10,000).
//!
//! It does not use the crate's own words, shingles and comparisons: texts are cut again here, shingles are compared as
//! words and not as hashes, and every pair that shares a shingle is compared, so that pairs without one have similarity 0.
//! Only sketches and decisions are the crate's. What it checks:
//!
//! 1. pairs made by replacing words: in each bin of 0.05 the share with an equal band key is within 0.02 of the S-curve;
//! 2. all pairs of the corpora that do not differ in a clinical value: the same, or four standard errors in bins of few pairs;
//! 3. `strict` removes a document only if each of its 3-grams is in the kept one, and `tolerant` only if the similarity
//!    reaches the threshold and the numeric tokens are equal;
//! 4. documents that differ in a clinical value all stay, under `tolerant` those that differ in a number;
//! 5. exact copies are all found.
//!
//! Under `strict` that includes the kinds `moved-…`: each 3-gram of such a text is in the other one, and yet a value belongs to
//! something else. What strictness costs has no bar.

mod corpus;
mod curve;
mod decisions;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use mellama_dedup::VerifyMode;

use crate::corpus::Corpus;
use crate::curve::Curve;
use crate::decisions::Decisions;

const USAGE: &str = "expected FOLDER [--articles FOLDER] [--pairs N]";
const PAIRS_PER_BIN: u32 = 10_000;
/// Threshold of `tolerant`, the recipe's default.
const MIN_SIMILARITY: f64 = 0.95;

const WORDS_OF_THE_TABLES: &str = "14 bands of 8 rows over shingles of 5 words. Candidates: the share of the pairs of a bin \
    that have a band key in common; S-curve: the mean of 1 − (1 − s^8)^14 over the same pairs. `tolerant` is the one with a \
    similarity of at least 0.95 and equal numbers. Each removal was proved again by other code. The kinds are described in \
    `bench/dedup/invented.py`.";

struct Arguments {
    corpus: PathBuf,
    articles: Option<PathBuf>,
    pairs: u32,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("dedup-quality: {} bars missed:\n{}", missed.len(), missed.join("\n"));
            ExitCode::FAILURE
        }
        Err(message) => {
            eprintln!("dedup-quality: {message}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut given = std::env::args().skip(1);
    let corpus = given.next().ok_or(USAGE)?.into();
    let mut arguments = Arguments { corpus, articles: None, pairs: PAIRS_PER_BIN };
    while let Some(flag) = given.next() {
        let value = given.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--articles" => arguments.articles = Some(value.into()),
            "--pairs" => arguments.pairs = value.parse().map_err(|_| USAGE)?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(arguments)
}

/// What was missed, a line each.
fn run(arguments: &Arguments) -> Result<Vec<String>, String> {
    let mut missed = Vec::new();
    println!("# Quality of the deduplication, against brute force\n");
    println!("- command: `dedup-quality FOLDER --articles FOLDER --pairs {}`, as its first lines say", arguments.pairs);
    println!("- corpus: `bench/dedup/make_corpus.py quality`; invented text, the same on every machine\n");
    println!("{WORDS_OF_THE_TABLES}\n");
    let made = Curve::of_made_pairs(arguments.pairs);
    println!("## Pairs made by replacing words\n\n{}", made.table());
    missed.extend(made.missed("made pairs", |_| 0.02));
    let mut corpora = vec![("generated corpus", Corpus::generated(&arguments.corpus)?)];
    if let Some(folder) = &arguments.articles {
        for name in ["articles_100", "articles_1000"] {
            corpora.push((name, Corpus::articles(folder, name)?));
        }
    }
    for (name, corpus) in &corpora {
        missed.extend(measure(name, corpus)?);
    }
    Ok(missed)
}

fn measure(name: &str, corpus: &Corpus) -> Result<Vec<String>, String> {
    println!("## {name}: all pairs of {} documents\n", corpus.texts.len());
    let (alike, other_values) = corpus.by_meaning(corpus.similar_pairs());
    let curve = Curve::of_pairs(corpus, &alike);
    println!("{}", curve.table());
    let mut missed = curve.missed(name, |bin| (4.0 * bin.standard_error()).max(0.02));
    if !other_values.is_empty() {
        println!("Pairs that differ in a clinical value; those of one template are one draw, so there is no bar:\n");
        println!("{}", Curve::of_pairs(corpus, &other_values).table());
    }
    let strict = Decisions::of(corpus, VerifyMode::Strict)?;
    let tolerant = Decisions::of(corpus, VerifyMode::Tolerant { min_similarity: MIN_SIMILARITY })?;
    for decisions in [&strict, &tolerant] {
        missed.extend(decisions.missed(corpus, name));
    }
    println!("{}", decisions::cost_table(&alike, &strict, &tolerant));
    println!("{}", decisions::kind_table(corpus, &strict, &tolerant));
    Ok(missed)
}
