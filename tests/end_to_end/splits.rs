//! A big file of lines is read in parts, each a task of its own, and gives what one reading would have given.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::Value;

use crate::project::Project;

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
    let mut offsets = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(&project.workdir()).join("rejects/s")).expect("there") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("JSON lines");
        for line in text.lines() {
            let reject: Value = serde_json::from_str(line).expect("JSON");
            assert!(offsets.insert(reject["byte_offset"].as_u64().expect("an offset")), "no record is read twice");
        }
    }
    assert_eq!(offsets, broken);
    let part = &project.json("plan.json")["plan"]["ingest"][1]["inputs"][0]["part"];
    assert_eq!((part["first"].as_u64(), part["end"].as_u64()), (Some(64 * MIB), Some(128 * MIB)));
}
