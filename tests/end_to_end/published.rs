//! What a run published, as names and digests, read from the manifests and checked against the files.

use std::collections::BTreeMap;
use std::path::Path;

use crate::project::Project;

/// Stages in order, as their manifests are named.
pub(crate) const STAGES: [&str; 11] =
    ["ingest", "dedup", "tokenize", "mix", "pack", "publish", "instruct-data", "cpt", "instruct", "evaluate", "report"];

/// Every object that a manifest names, with the BLAKE3 of the bytes that lie there now.
pub(crate) fn objects(project: &Project) -> BTreeMap<String, String> {
    objects_in(Path::new(&project.workdir()))
}

/// The same of a work folder anywhere.
pub(crate) fn objects_in(workdir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for stage in STAGES {
        let text = std::fs::read(workdir.join(format!("manifests/{stage}.json"))).expect("a finished stage");
        let manifest: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        for object in manifest["objects"].as_array().expect("a list") {
            let key = object["key"].as_str().expect("a name");
            let bytes = std::fs::read(workdir.join(key)).expect("published");
            let digest = blake3::hash(&bytes).to_hex().to_string();
            assert_eq!(object["blake3"].as_str(), Some(digest.as_str()), "{key}");
            // The report shows the plan's id, which holds the folder's own file times.
            if key != "report.html" && key != "README.md" {
                found.insert(key.to_owned(), digest);
            }
        }
    }
    for prefix in [
        "documents/",
        "decisions/",
        "tokens/",
        "shards/cpt/train-",
        "shards/instruct/",
        "checkpoints/cpt/",
        "checkpoints/instruct/",
        "evaluation/",
        "metrics/",
    ] {
        assert!(found.keys().any(|key| key.starts_with(prefix)), "nothing under {prefix}");
    }
    found
}

/// Fails with the names that differ.
pub(crate) fn assert_same(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>, what: &str) {
    let differing: Vec<&String> =
        expected.keys().chain(found.keys()).filter(|key| expected.get(*key) != found.get(*key)).collect();
    assert!(differing.is_empty(), "{what}: {differing:?}");
}
