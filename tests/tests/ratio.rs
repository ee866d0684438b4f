//! `verify` counts the mixture on the shards themselves: sequences that changed places are found although every digest holds.

#![expect(clippy::unwrap_used, reason = "a test's own functions may fail the test")]

use std::fs;
use std::path::Path;

use mellama_pipeline::{Silent, verification};
use mellama_shards::{Sequence, ShardFile, ShardWriter, StoreChunks};
use mellama_storage::{Key, RangeReader, Stores, TaskCommit, Workdir};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Golden runs whose domains take turns by sequences and by tokens.
const VERSIONS: [(&str, &str); 2] = [("v2", "in sequences"), ("v5", "in tokens")];

/// Publishes a golden run anew with its training sequences rearranged, and verifies it.
fn verified_after(version: &str, rearrange: impl Fn(&mut Vec<Sequence>)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{version}/run")), &root);
    let workdir = Workdir::open_existing(&Stores::default(), root.to_str().unwrap()).unwrap();
    let plan = workdir.read_plan_id().unwrap().unwrap();
    let mut manifest = workdir.read_manifest(&plan, "publish").unwrap().unwrap();
    let mut commits: Vec<TaskCommit> =
        (0..manifest.tasks).map(|task| workdir.read_commit(&plan, "publish", task).unwrap().unwrap()).collect();
    let trains = |commit: &TaskCommit| commit.objects.iter().any(|object| object.key.starts_with("shards/cpt/train-"));
    let open = |key: &str| {
        let reader = RangeReader::open(workdir.store().clone(), &Key::new(key.to_owned()).unwrap()).unwrap();
        ShardFile::open(key, StoreChunks(reader)).unwrap()
    };
    let shards: Vec<ShardFile> =
        commits.iter().filter(|commit| trains(commit)).map(|commit| open(&commit.objects[0].key)).collect();
    let mut sequences: Vec<Sequence> = shards.iter().flat_map(|shard| shard.read_rows(0..shard.rows()).unwrap()).collect();
    rearrange(&mut sequences);
    let mut rest = sequences.iter();
    for (number, (commit, shard)) in commits.iter_mut().filter(|commit| trains(commit)).zip(&shards).enumerate() {
        let mut writer = ShardWriter::new(workdir.part().unwrap(), shard.header()).unwrap();
        for sequence in rest.by_ref().take(shard.rows() as usize) {
            writer.push(sequence).unwrap();
        }
        let (part, totals) = writer.finish_with_totals().unwrap();
        let stem = format!("train-{number:05}");
        let new = part.finish("shards/cpt", &stem, "parquet", totals.sequences).unwrap();
        if new.key != commit.objects[0].key {
            fs::remove_file(root.join(&commit.objects[0].key)).unwrap();
        }
        commit.objects = vec![new];
    }
    for commit in &commits {
        fs::remove_file(root.join(format!("commits/publish/{:05}.json", commit.task))).unwrap();
        workdir.commit_task(commit).unwrap();
    }
    fs::remove_file(root.join("manifests/publish.json")).unwrap();
    drop(fs::remove_file(root.join("_SUCCESS")));
    manifest.commits = commits.iter().map(TaskCommit::digest).collect();
    manifest.objects = commits.iter().flat_map(|commit| commit.objects.clone()).collect();
    workdir.put_manifest(&manifest, &commits).unwrap();
    verification::verify(&Stores::default(), root.to_str().unwrap(), &Silent).unwrap().findings
}

/// Places of the first sequence and of the last one with another source.
fn far_apart(sequences: &[Sequence]) -> (usize, usize) {
    let source = |sequence: &Sequence| sequence.segments[0].source;
    let last = sequences.iter().rposition(|sequence| source(sequence) != source(&sequences[0])).unwrap();
    (0, last)
}

#[test]
fn a_swapped_sequence_is_found_by_its_domain() {
    for (version, measure) in VERSIONS {
        assert_eq!(verified_after(version, |_| {}), [] as [String; 0], "{version}: as it was published");
        let findings = verified_after(version, |sequences| {
            let (first, last) = far_apart(sequences);
            sequences.swap(first, last);
        });
        assert_eq!(findings.len(), 1, "{version}: {findings:?}");
        let finding = &findings[0];
        assert!(finding.contains(&format!("training order, {measure}: first ")), "{version}: {finding}");
        assert!(finding.contains("expected within "), "{version}: {finding}");
    }
}

#[test]
fn a_sequence_in_anothers_place_is_found_by_the_quota() {
    for (version, _) in VERSIONS {
        let findings = verified_after(version, |sequences| {
            let (first, last) = far_apart(sequences);
            sequences[last] = sequences[first].clone();
        });
        let quota = |finding: &String| finding.contains("tokens in the training shards, its quota is");
        assert!(findings.iter().any(quota), "{version}: {findings:?}");
    }
}
