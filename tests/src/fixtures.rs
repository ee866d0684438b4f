//! All fixture files in memory, compressed, and the folder that holds them. It reads nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};

use crate::expected::Expected;
use crate::{general, notes, pmc, pubmed, questions, vocabulary};

/// Path below the fixtures' folder to content.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Makes every file.
///
/// # Panics
/// Never: writing into memory does not fail.
pub fn make() -> Files {
    let benchmark = questions::write_benchmark();
    let long: Vec<&questions::LongItem> = benchmark.long.iter().collect();
    // Items 0 to 3 leak into one citation each and item 0 into a second; 4 into an article, 5 into a note; of 6 one
    // half leaks; 7 not at all.
    let pubmed = pubmed::write(&[long[0], long[1], long[2], long[3], long[0]], long[6]);
    let shared: Vec<String> = pubmed.citations[300..305].iter().map(|c| c.pmid.to_string()).collect();
    let pmc = pmc::write(&shared, long[4]);
    let noteevents = notes::write_noteevents(long[5]);
    let discharge = notes::write_discharge();
    let general = general::write();
    let (instructions, instruction_counts) = questions::write_instructions();

    let citations: Vec<String> = pubmed.citations.iter().map(|c| c.content.text()).collect();
    let texts = [&citations, &pmc.texts, &noteevents.texts, &discharge.texts, &general.texts];
    let texts = texts.into_iter().flatten().map(String::as_str);
    let tokenizer = vocabulary::train(texts.chain([instructions.as_str()]));

    let mut citations = pubmed.expected;
    citations.also_in_pmc = shared;
    let sources = [
        ("pubmed", citations),
        ("pmc", pmc.expected),
        ("mimic-iii", noteevents.expected),
        ("mimic-iv", discharge.expected),
        ("general", general.expected),
    ];
    let expected = Expected {
        sources: sources.map(|(name, source)| (name.to_owned(), source)).into(),
        instructions: instruction_counts,
        benchmark: benchmark.expected(6),
        vocabulary_size: vocabulary::VOCABULARY_SIZE as u32,
    };
    let expected = serde_json::to_string_pretty(&expected).expect("counts are JSON") + "\n";

    let mut files = Files::new();
    for (number, (name, xml)) in pubmed.files.iter().enumerate() {
        // The second file has several gzip members, as PubMed's own have.
        let parts = if number == 1 { 3 } else { 1 };
        files.insert(format!("pubmed/{name}"), gzip(xml.as_bytes(), parts));
    }
    for (name, csv) in [("NOTEEVENTS", noteevents.csv), ("discharge", discharge.csv)] {
        files.insert(format!("notes/{name}.csv.gz"), gzip(csv.as_bytes(), 1));
    }
    for (name, lines) in general.files {
        let bytes = zstd::encode_all(lines.as_bytes(), 19).expect("memory can be written");
        files.insert(format!("general/{name}"), bytes);
    }
    let articles = pmc.files.into_iter().map(|(name, xml)| (format!("pmc/{name}"), xml));
    let others = [
        ("tokenizer/tokenizer.json", tokenizer),
        ("expected.json", expected),
        ("benchmarks/quickstart-mc.jsonl", benchmark.json_lines()),
        ("instruct/instructions.jsonl", instructions),
    ];
    let others = others.map(|(name, text)| (name.to_owned(), text));
    files.extend(articles.chain(others).map(|(name, text)| (name, text.into_bytes())));
    files
}

/// Writes the files below `folder`, which is made if it is absent. Other files there stay.
///
/// # Errors
/// Those of the file system.
pub fn write(files: &Files, folder: &Path) -> io::Result<()> {
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, content)?;
    }
    Ok(())
}

/// What a file holds once it is decompressed, by its extension: the compressors' output may change, this may not.
///
/// # Errors
/// Those of the decompressors.
pub fn decompressed(path: &str, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match Path::new(path).extension().and_then(|extension| extension.to_str()) {
        Some("gz") => io::copy(&mut flate2::bufread::MultiGzDecoder::new(content), &mut out)?,
        Some("zst") => io::copy(&mut zstd::Decoder::new(content)?, &mut out)?,
        _ => io::copy(&mut &*content, &mut out)?,
    };
    Ok(out)
}

/// gzip without a name or time, in that many members.
fn gzip(content: &[u8], members: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for part in content.chunks(content.len().div_ceil(members)) {
        let mut encoder = GzBuilder::new().mtime(0).write(out, Compression::best());
        encoder.write_all(part).expect("memory can be written");
        out = encoder.finish().expect("memory can be written");
    }
    out
}
