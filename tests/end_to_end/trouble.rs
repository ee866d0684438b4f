//! A bucket that is busy, or silent, in the middle of what any stage reads: the exit code is that of the trouble, never that of
//! damage, and the same command goes on.

use std::process::Stdio;

use mellama_tests::s3_server::SECRET;
use mellama_tests::wire_proxy::{Mode, WireProxy};

use crate::kill::{spawn, terminate, wait_until};
use crate::project::{Ended, Project};
use crate::server::{Bucket, files};

const STORAGE: &str = "\n[storage]\ndeadline_seconds = 2\n";
const WORKDIR: &str = "s3://corpus/run";

/// The program behind a proxy, over a work folder in the bucket.
fn behind(proxy: &WireProxy, arguments: &[&str]) -> Ended {
    let mut command = Bucket::command(&proxy.endpoint(), SECRET);
    Ended::of(&command.args(arguments).args(["--workdir", WORKDIR]).output().expect("the program starts"))
}

/// From now on GETs of names with this in them are answered so, or not at all.
fn strike(proxy: &WireProxy, name: &'static str, mode: Mode) {
    proxy.follow(move |seen| if seen.method == "GET" && seen.target.contains(name) { mode } else { Mode::Through });
}

#[test]
fn case_15_a_busy_bucket_is_temporary_whatever_a_stage_reads() {
    let (bucket, quick) = (Bucket::new(), Project::quick());
    let recipe = std::fs::read_to_string(quick.recipe()).expect("written before");
    let project = Project::with_recipe(&format!("{recipe}{STORAGE}"));
    let proxy = WireProxy::start(bucket.server.address()).expect("a free port");
    let recipe = project.recipe();
    for (done, stage, read) in [
        ("ingest", "dedup", "/signatures/"),
        ("dedup", "tokenize", "/documents/"),
        ("pack", "publish", "/tokens/"),
        ("instruct-data", "cpt", "/shards/cpt/"),
    ] {
        bucket.succeed(&["run", &recipe, "--workdir", WORKDIR, "--until", done]);
        strike(&proxy, read, Mode::Before(503, "SlowDown"));
        let ended = behind(&proxy, &["stage", stage, &recipe]);
        assert!(ended.code == 75 && ended.stderr.contains("try again later"), "{stage} {read}: {ended:?}");
    }
    bucket.succeed(&["run", &recipe, "--workdir", WORKDIR]);
    bucket.succeed(&["verify", WORKDIR]);
}

#[test]
fn case_14_inputs_in_a_busy_or_silent_bucket_end_with_75_and_143() {
    let bucket = Bucket::new();
    let line = |n: u32| format!("{{\"id\":\"{n}\",\"text\":\"{}\"}}\n", "some words ".repeat(60));
    let text: String = (0..3_000).map(line).collect();
    let data = bucket.file("data/a.jsonl");
    std::fs::create_dir_all(data.parent().expect("a folder")).expect("created");
    std::fs::write(&data, text).expect("written");
    let recipe = "name = \"t\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"jsonl\"\n\
                  inputs = [\"s3://corpus/data/a.jsonl\"]\ndomain = \"general\"\n";
    let project = Project::with_recipe(&format!("{recipe}{STORAGE}"));
    let proxy = WireProxy::start(bucket.server.address()).expect("a free port");
    let recipe = project.recipe();
    strike(&proxy, "/data/a.jsonl", Mode::Before(503, "SlowDown"));
    let ended = behind(&proxy, &["stage", "ingest", &recipe]);
    assert!(ended.code == 75 && ended.stderr.contains("a.jsonl"), "{ended:?}");
    for threads in ["1", "2"] {
        let run = ["stage", "ingest", &recipe, "--threads", threads];
        strike(&proxy, "/data/a.jsonl", Mode::Silent);
        let before = proxy.struck();
        let mut command = Bucket::command(&proxy.endpoint(), SECRET);
        let mut child = spawn(command.args(run).args(["--workdir", WORKDIR]).stderr(Stdio::null()));
        assert!(wait_until(&mut child, || proxy.struck() > before), "a request is waited for");
        terminate(&child);
        assert_eq!(child.wait().expect("waited for").code(), Some(143), "{threads} threads");
    }
    bucket.succeed(&["run", &recipe, "--workdir", WORKDIR]);
    assert!(!files(&bucket.file("run/documents")).is_empty());
}
