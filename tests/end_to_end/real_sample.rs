//! The same path over real public files, every count asserted. The counts of records were taken independently of the readers
//! (CSV and JSON line counts, root elements of the XML files); the rest is pinned so that a change is noticed and explained.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::counts::balances;
use crate::project::{Project, mellama, root};

/// (source, read, rejected, dropped by cleaning, removed as duplicates, tokens of the kept documents).
const SOURCES: [(&str, u64, u64, u64, u64, u64); 10] = [
    ("pmc", 164, 0, 0, 0, 1_791_639),
    // One citation is revised by an update file to less than five words: the older text does not stand (`superseded`).
    ("pubmed", 201, 6, 8, 2, 63_363),
    ("mts-train", 1_201, 0, 275, 15, 76_748),
    ("mts-valid", 100, 0, 21, 7, 5_306),
    ("mts-test-1", 200, 0, 37, 9, 12_000),
    ("mts-test-2", 200, 0, 49, 3, 12_547),
    ("aci-bench", 87, 0, 0, 0, 67_267),
    ("c4", 300, 0, 0, 0, 186_253),
    ("redpajama", 111, 0, 10, 9, 142_922),
    ("peps", 240, 0, 0, 0, 1_298_493),
];

#[test]
fn real_sample_counts() {
    let data = root().join("../shared/data");
    let data = std::env::var_os("MELLAMA_SAMPLE_DATA").map_or(data, PathBuf::from);
    if !data.is_dir() {
        println!("not run: no sample data; see docs/sample-data.md");
        return;
    }
    let recipe = std::fs::read_to_string(root().join("recipes/real-sample.toml")).expect("there");
    let project = Project::with_recipe(&recipe);
    let output = mellama().args(project.arguments(&[])).env("MELLAMA_SAMPLE_DATA", &data).output().expect("starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    balances(&project);
    let ingest = project.json("manifests/ingest.json")["facts"]["sources"].clone();
    let removed = project.json("manifests/dedup.json")["facts"]["removed"].clone();
    let tokens = project.json("manifests/tokenize.json")["facts"]["sources"].clone();
    for (name, read, rejected, dropped, duplicates, supply) in SOURCES {
        let counts = |part: &str| ingest[name]["counts"][part]["documents"].as_u64().expect("a number");
        assert_eq!((counts("read"), counts("rejected"), counts("dropped")), (read, rejected, dropped), "{name}");
        let gone: u64 = removed[name].as_object().map_or(0, |r| r.values().filter_map(Value::as_u64).sum());
        assert_eq!(gone, duplicates, "{name}: duplicates");
        assert_eq!(tokens[name]["documents"].as_u64(), Some(read - rejected - dropped - duplicates), "{name}: kept");
        assert_eq!(tokens[name]["tokens"].as_u64(), Some(supply), "{name}: tokens");
    }
    assert_eq!(
        ingest["pubmed"]["facts"]["rejects"],
        json!({"empty-record": 2, "malformed-xml": 1, "not-pubmed": 2, "not-xml": 1})
    );
    let quotas: BTreeMap<String, u64> =
        serde_json::from_value(project.json("manifests/mix.json")["facts"]["quotas"].clone()).expect("quotas");
    let expected = [("biomedical", 1_500_000), ("clinical", 100_000), ("general", 400_000)];
    assert_eq!(quotas, expected.map(|(domain, tokens)| (domain.to_owned(), tokens)).into());
    let parts = project.json("manifests/publish.json")["facts"]["parts"].clone();
    assert_eq!(parts["train"]["tokens"].as_u64(), Some(2_000_000));
    assert_eq!(parts["heldout"]["tokens"].as_u64(), Some(51_950));
    let instruct = project.json("manifests/instruct-data.json")["facts"].clone();
    assert_eq!((instruct["tokens"].as_u64(), instruct["trained_tokens"].as_u64()), (Some(708_738), Some(338_928)));
    // The benchmark is kept out, and scored: 500 official test questions.
    let leaks = project.json("manifests/dedup.json")["facts"]["contamination"].clone();
    assert_eq!((leaks["items"]["ori_pqal"].as_u64(), leaks["documents"].as_u64()), (Some(1000), Some(0)));
    assert_eq!(project.json("manifests/evaluate.json")["counts"]["read"]["documents"].as_u64(), Some(500));
}
