//! A big file of lines, a big tar and a big compressed stream are read in parts, each a task of its own, and give what one reading
//! would have given.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::Value;

use crate::kill::{spawn, terminate, wait_until};
use crate::project::{Project, mellama};

const RECIPE: &str = "name = \"splits\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"jsonl\"\n\
    inputs = [\"big.jsonl\"]\ndomain = \"general\"\nmax_rejects = 1.0\n[corpus.limits]\nrecord_bytes = 1048576\n";
const MIB: u64 = 1 << 20;

/// A sparse file of 270 MiB: a record across every 64 MiB, one exactly behind each, and holes between that are broken records.
fn write_big(path: &Path) -> (u64, BTreeSet<u64>) {
    let mut file = File::create(path).expect("created");
    let (mut documents, mut broken) = (0, BTreeSet::new());
    for boundary in (0..=4).map(|part| part * 64 * MIB) {
        let line = |id: String| format!("{{\"id\":\"{id}\",\"text\":\"a record near {boundary}\"}}\n");
        let (across, behind) = (line(format!("a{boundary}")), line(format!("b{boundary}")));
        let start = if boundary % (128 * MIB) == 0 { boundary.saturating_sub(20) } else { boundary - across.len() as u64 };
        if start > 0 {
            file.seek(SeekFrom::Start(start - 1)).expect("sought");
            file.write_all(b"\n").expect("written");
        }
        file.write_all(format!("{across}{behind}").as_bytes()).expect("written");
        documents += 2;
        let mut hole = file.stream_position().expect("a position");
        for middle in [20, 40].map(|middle| boundary + middle * MIB).into_iter().filter(|middle| *middle < 260 * MIB) {
            broken.insert(hole);
            file.seek(SeekFrom::Start(middle)).expect("sought");
            file.write_all(b"\n").expect("written");
            hole = middle + 1;
        }
        broken.insert(hole);
    }
    file.set_len(270 * MIB).expect("grown");
    (documents, broken)
}

#[test]
fn a_big_file_of_lines_is_read_in_parts() {
    let project = Project::with_recipe(RECIPE);
    let (documents, broken) = write_big(&project.folder().join("big.jsonl"));
    project.succeed(&["--threads", "2"]);
    let ingest = project.json("manifests/ingest.json");
    assert_eq!(ingest["tasks"].as_u64(), Some(5));
    assert_eq!(ingest["counts"]["written"]["documents"].as_u64(), Some(documents));
    assert_eq!(rejected(&project), broken);
    assert_eq!(range(&project, 1), (64 * MIB, 128 * MIB));
}

/// First and last byte of the part that is a task.
fn range(project: &Project, task: usize) -> (u64, u64) {
    let part = &project.json("plan.json")["plan"]["ingest"][task]["inputs"][0]["part"];
    (part["first"].as_u64().expect("a byte"), part["end"].as_u64().expect("a byte"))
}

/// Offsets of all rejects.
fn rejected(project: &Project) -> BTreeSet<u64> {
    let mut offsets = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(&project.workdir()).join("rejects/s")).expect("there") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("JSON lines");
        for line in text.lines() {
            let reject: Value = serde_json::from_str(line).expect("JSON");
            assert!(offsets.insert(reject["byte_offset"].as_u64().expect("an offset")), "no record is read twice");
        }
    }
    offsets
}

/// Writes members of a tar, and holes in their place.
struct Tar(File);

impl Tar {
    fn header(&mut self, name: &str, kind: u8, size: u64) {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.write_all(&header).expect("written");
    }

    /// Where the content begins.
    fn member(&mut self, name: &str, content: &str) -> u64 {
        self.header(name, b'0', content.len() as u64);
        let begin = self.0.stream_position().expect("a position");
        self.0.write_all(content.as_bytes()).expect("written");
        self.0.seek(SeekFrom::Start((begin + content.len() as u64).next_multiple_of(512))).expect("sought");
        begin
    }

    fn hole(&mut self, name: &str, size: u64) {
        self.header(name, b'0', size);
        self.0.seek(SeekFrom::Current(size as i64)).expect("sought");
    }
}

/// Members for all formats of tars: a good one and two bad ones, then a hole of 22 MiB that nobody reads. The good ones, and
/// where the bad ones are.
fn write_tar(path: &Path, format: &str) -> (u64, BTreeSet<u64>) {
    let mut tar = Tar(File::create(path).expect("created"));
    let mut bad = BTreeSet::new();
    for number in 0..13 {
        let text = format!("Text {number} about lungs that are clear on both sides.");
        bad.insert(if format == "mimic-cxr" {
            tar.member(&format!("p10/p1000/s500{number}.txt"), &text);
            tar.member("p10/notes.txt", &text)
        } else {
            let id = format!("<front><article-meta><article-id pub-id-type=\"pmc\">{number}</article-id></article-meta></front>");
            tar.member(&format!("PMC{number}.xml"), &format!("<article>{id}<body><p>{text}</p></body></article>"));
            tar.member("broken.xml", "<article><body>")
        });
        bad.insert(tar.0.stream_position().expect("a position"));
        tar.header("link.xml", b'2', 0);
        tar.hole("figure.jpg", 22 * MIB);
    }
    let end = tar.0.stream_position().expect("a position");
    tar.0.set_len(end + 1_024).expect("grown");
    (13, bad)
}

#[test]
fn a_big_tar_is_read_in_parts_by_any_number_of_threads() {
    for format in ["pmc-tar", "jats", "mimic-cxr"] {
        let project =
            Project::with_recipe(&RECIPE.replace("\"jsonl\"", &format!("\"{format}\"")).replace("big.jsonl", "big.tar"));
        let (documents, bad) = write_tar(&project.folder().join("big.tar"), format);
        let mut published = Vec::new();
        for threads in ["1", "2", "5"] {
            project.succeed(&["--threads", threads]);
            let ingest = project.json("manifests/ingest.json");
            assert_eq!(ingest["tasks"].as_u64(), Some(5), "{format}");
            let counts = &ingest["counts"];
            let counts = (counts["written"]["documents"].as_u64(), counts["rejected"]["documents"].as_u64());
            assert_eq!(counts, (Some(documents), Some(bad.len() as u64)), "{format}");
            assert_eq!(rejected(&project), bad, "{format}");
            published.push((project.json("_SUCCESS")["published"].clone(), ingest["objects"].clone()));
            if threads != "5" {
                std::fs::remove_dir_all(Path::new(&project.workdir())).expect("removed");
            }
        }
        assert!(published.windows(2).all(|pair| pair[0] == pair[1]), "{format}: {published:?}");
        let ranges: Vec<_> = (0..5).map(|task| range(&project, task)).collect();
        assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[0].1 - pair[0].0 > 64 * MIB), "{ranges:?}");
    }
}

/// A member of gzip.
fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// A header and a good article, padded.
fn article_in_tar(number: u64) -> Vec<u8> {
    let id = format!("<front><article-meta><article-id pub-id-type=\"pmc\">{number}</article-id></article-meta></front>");
    let text = format!("Text {number} about lungs that are clear on both sides.");
    let article = format!("<article>{id}<body><p>{text}</p></body></article>");
    let mut tar = Tar(tempfile::tempfile().expect("a file"));
    tar.member(&format!("PMC{number}.xml"), &article);
    bytes_of(&mut tar.0, article.len().next_multiple_of(512) + 512)
}

fn hole_in_tar(name: &str, size: u64) -> Vec<u8> {
    let mut tar = Tar(tempfile::tempfile().expect("a file"));
    tar.header(name, b'0', size);
    bytes_of(&mut tar.0, 512)
}

fn bytes_of(file: &mut File, length: usize) -> Vec<u8> {
    file.set_len(length as u64).expect("padded");
    file.rewind().expect("rewound");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    bytes
}

/// A package of articles of 4.6 GiB that takes up more than 256 MiB as one gzip stream of many members: an article, a figure of
/// random bytes and one of 144 MiB of zeros, 32 times.
fn write_package(path: &Path) -> u64 {
    let (zeros, mut state) = (gzip(&vec![0; (16 * MIB) as usize], 6), 1_u64);
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    };
    let mut file = File::create(path).expect("created");
    let mut add = |bytes: &[u8]| file.write_all(bytes).expect("written");
    // So that the first MiB promises about what is there.
    add(&gzip(&[hole_in_tar("first.jpg", 16 * MIB), vec![0; (16 * MIB) as usize]].concat(), 6));
    for number in 0..32 {
        let noise: Vec<u8> = (0..(17 * MIB / 2) / 8).flat_map(|_| random()).collect();
        add(&gzip(&[article_in_tar(number), hole_in_tar("noise.jpg", noise.len() as u64), noise].concat(), 0));
        add(&gzip(&hole_in_tar("zeros.jpg", 144 * MIB), 6));
        (0..9).for_each(|_| add(&zeros));
    }
    add(&gzip(&[0; 1_024], 6));
    32
}

#[test]
fn resume_inside_a_stream_that_cannot_be_cut() {
    let recipe = RECIPE.replace("\"jsonl\"", "\"pmc-tar\"").replace("big.jsonl", "big.tar.gz");
    let project = Project::with_recipe(&recipe);
    let documents = write_package(&project.folder().join("big.tar.gz"));
    project.succeed(&["--threads", "1"]);
    let ingest = project.json("manifests/ingest.json");
    let tasks = ingest["tasks"].as_u64().expect("a number");
    assert!(tasks >= 2, "{ingest}");
    assert_eq!(ingest["counts"]["written"]["documents"].as_u64(), Some(documents));
    assert_eq!(range(&project, 1).0, 4 << 30);
    let whole = project.json("_SUCCESS")["published"].clone();
    let written = |project: &Project, task: u64| {
        project.json(&format!("commits/ingest/{task:05}.json"))["counts"]["written"]["documents"].as_u64()
    };
    assert!((0..2).all(|task| written(&project, task).is_some_and(|documents| documents > 2)), "records in both parts");
    std::fs::remove_dir_all(project.workdir()).expect("removed");

    // The first part by one process; the second by another, which is stopped on its way there, and by one more.
    let (recipe, workdir) = (project.recipe(), project.workdir());
    let stage = |task: &'static str| ["stage", "ingest", &recipe, "--workdir", &workdir, "--task", task].map(str::to_owned);
    let mut first = mellama();
    assert!(first.args(stage("0")).output().expect("started").status.success());
    let mut child = spawn(mellama().args(stage("1")));
    let io = format!("/proc/{}/io", child.id());
    let has_read = || {
        let io = std::fs::read_to_string(&io).unwrap_or_default();
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse::<u64>().ok());
        read.is_some_and(|read| read > 16 * MIB)
    };
    assert!(wait_until(&mut child, has_read), "it is on its way");
    terminate(&child);
    assert_eq!(child.wait().expect("waited for").code(), Some(143));
    assert!(!Path::new(&workdir).join("commits/ingest/00001.json").exists());
    project.succeed(&["--threads", "2"]);
    assert_eq!(project.json("_SUCCESS")["published"], whole);
}
