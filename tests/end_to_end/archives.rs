//! Archives and compressions from the recipe on: packages of articles, reports in a zip, a tar and a tree, JSON lines in every
//! compression, decompressed where they are parsed and on another thread.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::project::{Project, root};

/// A recipe with the one source `s` over `inputs`.
fn recipe(format: &str, inputs: &str) -> String {
    format!(
        "name = \"archives\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"{format}\"\n\
         inputs = [\"{inputs}\"]\ndomain = \"clinical\"\n[corpus.dedup]\n"
    )
}

/// Runs over one source: what `ingest` says of it, and the digest of what it published.
fn ingested(project: &Project, threads: &str) -> (Value, Value) {
    project.succeed(&["--threads", threads]);
    let source = project.json("manifests/ingest.json")["facts"]["sources"]["s"].clone();
    (source, project.json("_SUCCESS")["published"].clone())
}

/// Documents read, written and rejected, and characters written.
fn counts(source: &Value) -> [Option<u64>; 4] {
    let documents = |part: &str| source["counts"][part]["documents"].as_u64();
    [documents("read"), documents("written"), documents("rejected"), source["facts"]["characters"].as_u64()]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut options = lzma_rust2::XzOptions::with_preset(1);
    options.lzma_options.dict_size = 1 << 20;
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).expect("known options");
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// A POSIX tar of plain files.
fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in members {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A zip of deflated files.
fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).expect("in memory");
        let stored = encoder.finish().expect("in memory");
        let mut crc = flate2::Crc::new();
        crc.update(content);
        // Version, flags, method 8, time and date, checksum, sizes, lengths of the name and of the extra field.
        let mut fields = b"\x14\0\0\0\x08\0\0\0\0\0".to_vec();
        fields.extend([crc.sum(), stored.len() as u32, content.len() as u32].map(u32::to_le_bytes).concat());
        fields.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
        let offset = out.len() as u32;
        out.extend([&b"PK\x03\x04"[..], &fields, name.as_bytes(), &stored].concat());
        directory.extend([&b"PK\x01\x02\x14\x03"[..], &fields, &[0; 6]].concat());
        directory.extend([&(0o100_644_u32 << 16).to_le_bytes()[..], &offset.to_le_bytes(), name.as_bytes()].concat());
    }
    let start = out.len() as u32;
    let count = (members.len() as u16).to_le_bytes();
    let size = (directory.len() as u32).to_le_bytes();
    out.extend(directory);
    out.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size, &start.to_le_bytes(), &[0; 2]].concat());
    out
}

#[test]
fn a_package_of_articles_gives_what_its_files_give() {
    let articles: Vec<(String, Vec<u8>)> = (1..=3)
        .map(|number| {
            let name = format!("PMC9900000{number}.xml");
            let bytes = std::fs::read(root().join("tests/fixtures/pmc").join(&name)).expect("a fixture");
            (format!("PMC009xxxxxx/{name}"), bytes)
        })
        .collect();
    let plain = Project::with_recipe(&recipe("jats", "data/*/*.xml"));
    for (name, bytes) in &articles {
        plain.write(&format!("data/{name}"), bytes);
    }
    let (expected, _) = ingested(&plain, "2");
    assert_eq!(counts(&expected)[..3], [Some(3), Some(3), Some(0)]);
    let others = ["PMC009xxxxxx/readme.txt", "PMC009xxxxxx/PMC99000001.jpg"].map(|name| (name.to_owned(), b"other".to_vec()));
    let package = Project::with_recipe(&recipe("pmc-tar", "data/*.tar.gz"));
    package.write("data/oa_comm_xml.PMC009xxxxxx.baseline.tar.gz", &gzip(&tar(&[others.to_vec(), articles].concat())));
    assert_eq!(counts(&ingested(&package, "2").0), counts(&expected));
}

#[test]
fn reports_in_a_zip_a_tar_and_a_tree_are_the_same() {
    let report = |study: u32| {
        let text = format!("FINAL REPORT\nEXAMINATION: Chest {study}.\nFINDINGS: The lungs are clear on both sides.\n");
        (format!("files/p10/p1000003{study}/s5041426{study}.txt"), text.into_bytes())
    };
    let mut members: Vec<(String, Vec<u8>)> = (0..5).map(report).collect();
    let tree = Project::with_recipe(&recipe("mimic-cxr", "data"));
    members.push(("files/LICENSE.txt".into(), b"A licence is no report.".to_vec()));
    members.push(("files/index.html".into(), b"<html/>".to_vec()));
    for (name, bytes) in &members {
        tree.write(&format!("data/{name}"), bytes);
    }
    let (expected, _) = ingested(&tree, "2");
    assert_eq!(counts(&expected)[..3], [Some(5), Some(5), Some(0)]);
    for (name, bytes) in [("mimic-cxr-reports.zip", zip(&members)), ("reports.tar.gz", gzip(&tar(&members)))] {
        let archive = Project::with_recipe(&recipe("mimic-cxr", "data"));
        archive.write(&format!("data/{name}"), &bytes);
        assert_eq!(counts(&ingested(&archive, "2").0), counts(&expected), "{name}");
    }
}

/// JSON lines that do not compress to nothing, with a broken line between.
fn lines() -> Vec<u8> {
    let mut state = 7_u64;
    let mut word = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("w{:x}", state >> 20)
    };
    let mut line = |number: u32| match number {
        500 => "{broken\n".to_owned(),
        _ => format!("{{\"id\":\"{number}\",\"text\":\"{}\"}}\n", (0..60).map(|_| word()).collect::<Vec<_>>().join(" ")),
    };
    (0..1_500).map(&mut line).collect::<String>().into_bytes()
}

#[test]
fn determinism_of_every_compression_by_threads() {
    let lines = lines();
    let mut all = Vec::new();
    let frames = |bytes: &[u8]| bytes.chunks(100_000).flat_map(|chunk| zstd::encode_all(chunk, 1).expect("zstd")).collect();
    for (ending, stored) in
        [("", lines.clone()), (".gz", gzip(&lines)), (".bz2", bzip2(&lines)), (".xz", xz(&lines)), (".zst", frames(&lines))]
    {
        assert!(stored.len() > 512 << 10, "{ending}: big enough to be decompressed ahead");
        let project = Project::with_recipe(&recipe("jsonl", "data/*"));
        project.write(&format!("data/a.jsonl{ending}"), &stored);
        let (source, published) = ingested(&project, "1");
        assert_eq!(counts(&source)[..3], [Some(1_500), Some(1_499), Some(1)], "{ending}");
        all.push(counts(&source));
        for threads in ["2", "5"] {
            std::fs::remove_dir_all(Path::new(&project.workdir())).expect("removed");
            assert_eq!(ingested(&project, threads), (source.clone(), published.clone()), "{ending}: {threads} threads");
        }
        // Cut off in the middle: what came before stays, and the end is one reject, on any thread.
        let cut = Project::with_recipe(&recipe("jsonl", "data/*").replace("[corpus.dedup]", "max_rejects = 1.0\n[corpus.dedup]"));
        cut.write(&format!("data/a.jsonl{ending}"), &stored[..stored.len() - 5_000]);
        let alone = ingested(&cut, "1");
        std::fs::remove_dir_all(Path::new(&cut.workdir())).expect("removed");
        assert_eq!(ingested(&cut, "2"), alone, "{ending}");
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
}
