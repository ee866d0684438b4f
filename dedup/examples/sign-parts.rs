//! Measures how fast one core signs text: the whole sketch and each part of it, for each kind of instructions there is.
//!
//! ```text
//! cargo run --release -p mellama-dedup --example sign-parts -- FILE [ROUNDS]
//! ```
//!
//! FILE is plain text (one document), or JSON Lines if its name ends in `.jsonl` (one document a line, key `text`); it is
//! held in memory. All parts take turns, ROUNDS times (9 unless told), because a shared machine is slower at some
//! moments than at others. A line is a part: MB (10⁶ bytes of UTF-8) a second in the best and in the median round. It
//! checks no result: that is the tests' part.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use mellama_dedup::{Instructions, NormalForm, SketchSpec, Sketcher, exact_hash};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A name and what is measured under it, over all texts.
type Part<'a> = (String, Box<dyn Fn() + 'a>);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: sign-parts FILE [ROUNDS]")?;
    let rounds: usize = arguments.next().map_or(Ok(9), |rounds| rounds.parse()).map_err(|e| format!("ROUNDS: {e}"))?;
    let texts = read(&file).map_err(|e| format!("{file}: {e}"))?;
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    if rounds == 0 || megabytes == 0.0 {
        return Err("expected at least one round and one byte of text".into());
    }
    println!("{} documents, {megabytes:.1} MB, {rounds} rounds; MB a second in the best and the median round", texts.len());

    let sketcher = Sketcher::new(SketchSpec::default())?;
    let shingles: Vec<Vec<u64>> = texts.iter().map(|text| shingles(&sketcher, text)).collect();
    let parts = parts(&texts, &shingles)?;
    let mut seconds = vec![Vec::new(); parts.len()];
    for _ in 0..rounds {
        for ((_, part), seconds) in parts.iter().zip(&mut seconds) {
            let start = Instant::now();
            part();
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    for ((name, _), mut seconds) in parts.iter().zip(seconds) {
        seconds.sort_by(f64::total_cmp);
        println!("{name:32} {:8.1} {:8.1}", megabytes / seconds[0], megabytes / seconds[seconds.len() / 2]);
    }
    Ok(())
}

fn read(file: &str) -> Result<Vec<String>> {
    let content = std::fs::read_to_string(file)?;
    if Path::new(file).extension() != Some("jsonl".as_ref()) {
        return Ok(vec![content]);
    }
    let text = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line)?;
        Ok(record["text"].as_str().ok_or("a line has no text")?.to_string())
    };
    content.lines().map(text).collect()
}

fn shingles(sketcher: &Sketcher, text: &str) -> Vec<u64> {
    let mut shingles = Vec::new();
    sketcher.for_each_block(text, NormalForm::Plain, |block| shingles.extend_from_slice(block));
    shingles
}

fn parts<'a>(texts: &'a [String], shingles: &'a [Vec<u64>]) -> Result<Vec<Part<'a>>> {
    let spec = SketchSpec::default();
    let sketcher = Sketcher::new(spec)?;
    let words = move || {
        for text in texts {
            black_box(sketcher.for_each_block(text, NormalForm::Plain, |block| _ = black_box(block)));
        }
    };
    let exact = move || {
        for text in texts {
            black_box(exact_hash(text));
        }
    };
    let mut parts: Vec<Part<'a>> =
        vec![("words, hashes and shingles".to_string(), Box::new(words)), ("exact hash".to_string(), Box::new(exact))];
    for instructions in Instructions::available() {
        let sketcher = Sketcher::with_instructions(spec, instructions)?;
        let whole = sketcher.clone();
        let sketch = move || {
            for text in texts {
                black_box(whole.sketch(text, NormalForm::Plain));
            }
        };
        let rows = move || {
            for shingles in shingles {
                black_box(sketcher.signature_of_shingles(shingles));
            }
        };
        parts.push((format!("permutations, {}", instructions.name()), Box::new(rows)));
        parts.push((format!("whole sketch, {}", instructions.name()), Box::new(sketch)));
    }
    Ok(parts)
}
