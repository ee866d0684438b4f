//! Exports of a run: each format written, checked, recognised and refused where it has to be; sensitivity goes with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::project::{Ended, Project, root, run, succeed};

const FORMATS: [&str; 6] = ["megatron", "mds", "ds", "llmc", "olmo", "litdata"];
/// Objects of each export are many.
const OBJECT_TOKENS: &str = "20000";

/// The quickstart without training.
fn project() -> Project {
    let project = Project::quick();
    project.succeed(&["--until", "instruct-data"]);
    project
}

fn arguments<'a>(workdir: &'a str, format: &'a str, to: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["export", workdir, "--format", format, "--to", to, "--object-tokens", OBJECT_TOKENS];
    all.extend(more);
    all
}

fn refused(arguments: &[&str], code: i32, said: &[&str]) -> Ended {
    let ended = run(arguments);
    assert_eq!(ended.code, code, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    for part in said {
        assert!(ended.stderr.contains(part), "{arguments:?}: {part:?} is not in: {}", ended.stderr);
    }
    ended
}

/// Names and bytes of a folder of an export.
fn contents(folder: &str) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below it").display().to_string();
            if path.is_dir() && name != ".mellama-tmp" {
                walk(root, &path, found);
            } else if path.is_file() {
                found.insert(name, fs::read(&path).expect("readable"));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(Path::new(folder), Path::new(folder), &mut found);
    found
}

#[test]
fn determinism_resume_every_format_is_written_checked_and_recognised() {
    let project = project();
    let workdir = project.workdir();
    let place = |name: &str| project.folder().join(name).display().to_string();
    let before = contents(&workdir);
    for format in FORMATS {
        let to = place(format);
        let told = succeed(&arguments(&workdir, format, &to, &["--json"])).json();
        let published = &project.json("manifests/publish.json")["facts"]["parts"]["train"];
        for (name, of_shards) in [("windows", "sequences"), ("tokens", "tokens"), ("padding", "padding")] {
            assert_eq!(told[name], published[of_shards], "{format} {name}");
        }
        assert_eq!((told["already"].as_bool(), told["sensitivity"].as_str()), (Some(false), Some("dua")), "{format}");
        let written = contents(&to);
        assert!(String::from_utf8_lossy(&written["README.md"]).contains("**Sensitivity: dua.**"), "{format}");
        let again = succeed(&arguments(&workdir, format, &to, &["--json"])).json();
        assert_eq!(again["already"].as_bool(), Some(true), "{format}: a complete export is recognised");
        let other = place(&format!("{format}-again"));
        succeed(&arguments(&workdir, format, &other, &["--threads", "1"]));
        assert!(contents(&other) == written, "determinism: {format} has other bytes in another folder");
        let verified = succeed(&["verify", &to, "--json"]).json();
        assert_eq!(verified["sequences"], told["windows"], "{format}");
        finishes_what_was_interrupted(&arguments(&workdir, format, &other, &[]), &other, &written);
    }
    let other = ["holds another export, mds of train; give another folder"];
    refused(&arguments(&workdir, "megatron", &place("mds"), &[]), 2, &other);
    refused(&arguments(&workdir, "mds", &place("mds"), &["--segments"]), 2, &["holds the same export with other options"]);
    for inside in [workdir.clone(), format!("{workdir}/exports/ds"), format!("file://{workdir}/ds")] {
        refused(&arguments(&workdir, "ds", &inside, &[]), 2, &["lies in the work folder", "give a folder beside it"]);
    }
    project.write("taken/file", b"of somebody");
    refused(&arguments(&workdir, "ds", &place("taken"), &[]), 2, &["not empty", "give a folder of its own"]);
    refused(&arguments(&workdir, "arrow", &place("x"), &[]), 2, &["megatron, mds, ds, llmc, olmo, litdata"]);
    refused(&arguments(&workdir, "ds", &place("x"), &["--split", "test"]), 2, &["train, heldout or instruct"]);
    refused(&arguments(&workdir, "ds", "s3://bucket/x", &[]), 4, &["s3://bucket/x", "no credentials"]);
    refused(&arguments(&place("mds"), "ds", &place("x"), &[]), 2, &["no run here"]);
    assert!(!Path::new(&place("x")).exists(), "nothing is created for what is refused");
    masks_go_where_they_can_be_said(&workdir, &place);
    assert!(contents(&workdir) == before, "an export changes nothing of the run");
}

/// Without its manifest and some objects the same command completes it to the same bytes.
fn finishes_what_was_interrupted(arguments: &[&str], folder: &str, written: &BTreeMap<String, Vec<u8>>) {
    for name in written.keys().filter(|name| name.starts_with("manifest") || name.contains("0002") || name.contains("index")) {
        fs::remove_file(Path::new(folder).join(name)).expect("removed");
    }
    let message = refused(&["verify", folder], 5, &["manifest.json: missing", "mellama export"]).stderr;
    assert!(message.contains("not complete"), "{message}");
    succeed(arguments);
    assert!(&contents(folder) == written, "resume: {folder}");
}

fn masks_go_where_they_can_be_said(workdir: &str, place: &dyn Fn(&str) -> String) {
    for format in FORMATS {
        for split in ["instruct", "heldout"] {
            let to = place(&format!("{split}-{format}"));
            let arguments = arguments(workdir, format, &to, &["--split", split]);
            if split == "instruct" && !["mds", "ds", "olmo"].contains(&format) {
                refused(&arguments, 2, &["loss masks", "give mds, ds or olmo"]);
                assert!(!Path::new(&to).exists());
            } else {
                succeed(&arguments);
                succeed(&["verify", &to]);
            }
        }
    }
}

#[test]
fn damaged_shards_and_damaged_exports_are_named_and_exit_5() {
    let project = project();
    let workdir = project.workdir();
    let to = project.folder().join("export").display().to_string();
    let shard = fs::read_dir(Path::new(&workdir).join("shards/cpt")).expect("readable");
    let mut shards: Vec<_> = shard.map(|entry| entry.expect("an entry").path()).collect();
    shards.sort();
    let shard = shards.iter().rev().find(|path| path.display().to_string().contains("/train-")).expect("there are shards");
    let name = shard.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
    let sound = fs::read(shard).expect("readable");
    let check = |damaged: Option<&[u8]>, code: i32, said: &[&str]| {
        match damaged {
            Some(bytes) => fs::write(shard, bytes).expect("written"),
            None => fs::remove_file(shard).expect("removed"),
        }
        refused(&arguments(&workdir, "litdata", &to, &[]), code, said);
        let left: Vec<String> = contents(&to).into_keys().collect();
        assert!(left.is_empty() || left == ["export.json"], "nothing is published: {left:?}");
        fs::write(shard, &sound).expect("written");
    };
    let mut flipped = sound.clone();
    flipped[sound.len() / 3] ^= 4;
    check(Some(&flipped), 5, &[&name]);
    check(Some(&sound[..sound.len() - 100]), 5, &[&name, "bytes, manifest lists"]);
    check(Some(&sound[..sound.len() / 2]), 5, &[&name]);
    check(None, 5, &[&name]);
    check(Some(&newer_version(&sound)), 2, &[&name, "format version 3, this program reads 1 to 2"]);
    succeed(&arguments(&workdir, "litdata", &to, &[]));
    for (key, bytes) in contents(&to) {
        let path = Path::new(&to).join(&key);
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        fs::write(&path, &damaged).expect("written");
        let ended = run(&["verify", &to]);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(ended.code == 5 && said.contains(&key), "{key}: {said}");
        fs::write(&path, &bytes).expect("written");
    }
    succeed(&["verify", &to]);
}

#[test]
fn golden_work_folders_of_every_version_are_exported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (version, fill_token) in [("v1", 0), ("v2", 0), ("v3", 2)] {
        let workdir = root().join("tests/golden").join(version).join("run").display().to_string();
        for (format, split) in [("ds", "train"), ("megatron", "heldout"), ("olmo", "instruct")] {
            let to = folder.path().join(format!("{version}-{format}")).display().to_string();
            let told = succeed(&["export", &workdir, "--format", format, "--split", split, "--to", &to, "--json"]).json();
            // The first two versions do not say which id ends a document.
            assert_eq!(told["fill_token"].as_u64(), Some(fill_token), "{version} {format}");
            succeed(&["verify", &to]);
        }
    }
}

/// The shard with a header of the next format version, sealed as such a program would.
fn newer_version(shard: &[u8]) -> Vec<u8> {
    let at = |bytes: &[u8], wanted: &[u8]| bytes.windows(wanted.len()).position(|found| found == wanted).expect("it is there");
    let mut newer = shard.to_vec();
    let version = at(&newer, b"{\"format_version\":2");
    newer[version + 18] = b'3';
    let seal = version + at(&newer[version..], b"\"seal\":\"");
    let digest = blake3::hash(&newer[version..seal]).to_hex();
    newer[seal + 8..seal + 72].copy_from_slice(digest.as_bytes());
    newer
}
