//! Every count of the quickstart is known in advance from how its fixtures were made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::project::{Project, root, succeed};
use crate::published::STAGES;

/// `tests/fixtures/expected.json`, written by the generator from what it planted.
fn expected() -> Value {
    let text = std::fs::read_to_string(root().join("tests/fixtures/expected.json")).expect("committed");
    serde_json::from_str(&text).expect("JSON")
}

fn length(value: &Value) -> u64 {
    value.as_array().map_or(0, Vec::len) as u64
}

#[test]
fn quickstart_counts_are_those_that_were_planted() {
    let project = Project::quick();
    project.succeed(&[]);
    let expected = expected();
    let ingest = project.json("manifests/ingest.json");
    let removed = project.json("manifests/dedup.json")["facts"]["removed"].clone();
    for (name, planted) in expected["sources"].as_object().expect("sources") {
        let found = &ingest["facts"]["sources"][name];
        assert_eq!(found["counts"]["read"]["documents"], planted["records"], "{name}: records");
        assert_eq!(found["counts"]["written"]["documents"], planted["documents"], "{name}: documents");
        assert_eq!(found["facts"]["rejects"], planted["rejects"], "{name}: rejects");
        let count = |rule: &str| removed[name].get(rule).and_then(Value::as_u64).unwrap_or(0);
        assert_eq!(count("exact"), length(&planted["exact_pairs"]), "{name}: exact duplicates");
        assert_eq!(count("near-strict"), length(&planted["near_pairs"]), "{name}: near-duplicates");
        assert_eq!(count("same-id"), length(&planted["older_versions"]), "{name}: older versions");
        assert_eq!(count("contaminated"), length(&planted["contaminated"]), "{name}: leaks");
    }
    let instruct = project.json("manifests/instruct-data.json");
    assert_eq!(instruct["counts"]["read"]["documents"], expected["instructions"]["records"]);
    assert_eq!(instruct["counts"]["written"]["documents"], expected["instructions"]["conversations"]);
    balances(&project);
    mixture(&project);
    decisions(&project, &expected);
    page(&project);
}

/// `read = written + dropped + rejected`, and each stage of the corpus reads what the one before wrote.
pub(crate) fn balances(project: &Project) {
    let mut before: Option<u64> = None;
    for stage in STAGES {
        let counts = project.json(&format!("manifests/{stage}.json"))["counts"].clone();
        for unit in ["documents", "bytes"] {
            let of = |part: &str| counts[part][unit].as_u64().expect("a number");
            assert_eq!(of("read"), of("written") + of("dropped") + of("rejected"), "{stage} {unit}");
        }
        let (read, written) = (counts["read"]["documents"].as_u64(), counts["written"]["documents"].as_u64());
        if ["dedup", "tokenize", "mix"].contains(&stage) {
            assert_eq!(read, before, "{stage} reads what the stage before wrote");
        }
        before = written;
    }
}

/// 15 : 1 : 4, token-exact in the quotas and in what lies in the shards.
fn mixture(project: &Project) {
    let mix = project.json("manifests/mix.json")["facts"].clone();
    let quotas: BTreeMap<String, u64> = serde_json::from_value(mix["quotas"].clone()).expect("quotas");
    assert_eq!(quotas["biomedical"], 150_000);
    assert_eq!(quotas["clinical"], 10_000);
    assert_eq!(quotas["general"], 40_000);
    let train = project.json("manifests/publish.json")["facts"]["parts"]["train"].clone();
    assert_eq!(train["tokens"].as_u64(), Some(200_000));
    for source in mix["sources"].as_array().expect("sources") {
        let name = source["source"].as_str().expect("a name");
        assert_eq!(train["source_tokens"][name], source["quota"], "{name}: tokens in the shards");
    }
}

/// The pairs that were planted, and none that must be kept.
fn decisions(project: &Project, expected: &Value) {
    let removed = decided(project);
    let mut planted = BTreeSet::new();
    let mut must_keep = BTreeSet::new();
    for (name, source) in expected["sources"].as_object().expect("sources") {
        let id = |native: &Value| format!("{name}:{}", native.as_str().expect("an id"));
        let pairs = |key: &str| source[key].as_array().cloned().unwrap_or_default();
        for pair in pairs("exact_pairs").iter().chain(&pairs("near_pairs")) {
            planted.insert(BTreeSet::from([id(&pair[0]), id(&pair[1])]));
        }
        for pair in pairs("must_keep_pairs") {
            must_keep.insert(BTreeSet::from([id(&pair[0]), id(&pair[1])]));
        }
    }
    let found: BTreeSet<BTreeSet<String>> =
        removed.iter().filter(|(a, b)| a != b).map(|(a, b)| BTreeSet::from([a.clone(), b.clone()])).collect();
    assert_eq!(found, planted);
    assert!(found.is_disjoint(&must_keep));
    assert!(must_keep.len() >= 20, "the fixtures hold pairs that differ in one dose or are templates");
}

/// (dropped, kept) of every decision, as `inspect` shows them.
fn decided(project: &Project) -> Vec<(String, String)> {
    let folder = Path::new(&project.workdir()).join("decisions");
    let file = std::fs::read_dir(folder).expect("there").next().expect("one file").expect("an entry").path();
    let shown = succeed(&["inspect", &file.display().to_string(), "--rows", "1000"]).stdout;
    let quoted = |line: &str| line.split('"').map(String::from).collect::<Vec<_>>();
    let rows = shown.lines().filter(|line| line.contains("dropped_id")).map(quoted);
    rows.map(|parts| (parts[1].clone(), parts[3].clone())).collect()
}

/// The report is one file without script or network, and shows what happened.
fn page(project: &Project) {
    let html = std::fs::read_to_string(Path::new(&project.workdir()).join("report.html")).expect("there");
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    assert!(html.contains("default-src 'none'"));
    for forbidden in ["<script", "http://", "https://", "src="] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    for section in [
        "Where every record went",
        "Duplicates",
        "Benchmarks kept out",
        "Source × benchmark",
        "Mixture",
        "Continual pre-training",
        "Instruction tuning",
        "Scores",
        "Digests",
    ] {
        assert!(html.contains(section), "{section}");
    }
}
