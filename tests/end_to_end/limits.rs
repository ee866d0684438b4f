//! Inputs that grow without bound, read by a process whose memory is bounded by the system: they end at a limit of ours, with exit
//! 3, before they reach the system's.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::project::{Ended, Project, mellama};

/// Address space of the process in KiB: its program, stacks and libraries take most of it.
const MEMORY_KIB: u64 = 2 << 20;
/// What the bombs say they are.
const BOMB_BYTES: u64 = 10 << 30;

/// Runs `ingest` of the project in a shell that limits its address space.
fn bounded(project: &Project) -> Ended {
    let program = mellama().get_program().to_string_lossy().into_owned();
    let (recipe, workdir) = (project.recipe(), project.workdir());
    let line = format!(
        "ulimit -v {MEMORY_KIB}; exec '{program}' run '{recipe}' --workdir '{workdir}' --until ingest --threads 1 --memory 256MiB"
    );
    Ended::of(&Command::new("sh").args(["-c", &line]).output().expect("a shell"))
}

fn recipe(format: &str, file: &str) -> Project {
    let source = format!("[[corpus.source]]\nname = \"s\"\nformat = \"{format}\"\ninputs = [\"{file}\"]\ndomain = \"general\"\n");
    Project::with_recipe(&format!("name = \"t\"\nworkdir = \"out\"\n{source}"))
}

/// Members of 64 MiB of one byte each, as many as make up the whole.
fn gzip_bomb(byte: u8) -> Vec<u8> {
    let mut member = GzEncoder::new(Vec::new(), Compression::new(9));
    member.write_all(&vec![byte; 64 << 20]).expect("in memory");
    let member = member.finish().expect("in memory");
    member.repeat((BOMB_BYTES / (64 << 20)) as usize)
}

/// One frame without a known length.
fn zstd_bomb(byte: u8) -> Vec<u8> {
    let mut frame = zstd::Encoder::new(Vec::new(), 1).expect("in memory");
    let block = vec![byte; 1 << 20];
    for _ in 0..BOMB_BYTES / (1 << 20) {
        frame.write_all(&block).expect("in memory");
    }
    frame.finish().expect("in memory")
}

#[test]
fn case_28_bombs_end_at_our_limits_in_a_process_of_bounded_memory() {
    let bombs = [
        ("jsonl", "bomb.jsonl.gz", gzip_bomb(b'a')),
        ("jsonl", "lines.jsonl.gz", gzip_bomb(b'\n')),
        ("jats", "bomb.xml.gz", gzip_bomb(b'<')),
        ("pubmed-xml", "bomb.xml.gz", gzip_bomb(b' ')),
        ("mimic-notes", "bomb.csv.gz", gzip_bomb(b'"')),
        ("redpajama", "bomb.jsonl.zst", zstd_bomb(b'{')),
    ];
    for (format, file, bytes) in bombs {
        assert!(bytes.len() < 64 << 20, "{file} is small: {}", bytes.len());
        let project = recipe(format, file);
        project.write(file, &bytes);
        let ended = bounded(&project);
        assert_eq!(ended.code, 3, "{format} {file}: {}", ended.stderr);
        assert!(ended.stderr.contains("source \"s\"") && ended.stderr.contains(file), "{format} {file}: {}", ended.stderr);
        assert!(!Path::new(&project.workdir()).join("manifests/ingest.json").exists(), "{format} {file}");
    }
}
