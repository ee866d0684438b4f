//! `gc`: what attempts left and nobody names goes, once it is old; records and others' files stay.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::project::{Project, run};

/// Leaves a file in the work folder that is so old.
fn leave(project: &Project, key: &str, hours: u64) {
    let path = Path::new(&project.workdir()).join(key);
    fs::create_dir_all(path.parent().expect("a folder")).expect("created");
    fs::write(&path, b"left").expect("written");
    let file = fs::File::options().write(true).open(&path).expect("opened");
    file.set_modified(SystemTime::now() - Duration::from_hours(hours)).expect("made old");
}

#[test]
fn gc_removes_what_is_old_and_unnamed_and_nothing_else() {
    let project = Project::quick();
    project.succeed(&["--until", "publish"]);
    leave(&project, "documents/pmc/00009-0123456789abcdef.parquet", 400);
    leave(&project, "tokens/pmc/00009-0123456789abcdef.tokens", 2);
    leave(&project, "notes of the team.txt", 4000);
    let workdir = project.workdir();
    let is_there = |key: &str| Path::new(&workdir).join(key).exists();
    let listed = run(&["gc", &workdir, "--dry-run", "--json"]).json();
    assert_eq!(listed["removed"][0]["key"], "documents/pmc/00009-0123456789abcdef.parquet");
    assert_eq!((listed["removed"].as_array().map(Vec::len), listed["young"].as_u64()), (Some(1), Some(1)), "{listed}");
    assert_eq!(listed["foreign"][0], "notes of the team.txt");
    assert!(is_there("documents/pmc/00009-0123456789abcdef.parquet"), "nothing was to be removed");
    let removed = run(&["gc", &workdir]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    assert!(removed.stdout.contains("1 objects (4 bytes)"), "{}", removed.stdout);
    assert!(!is_there("documents/pmc/00009-0123456789abcdef.parquet"));
    assert!(is_there("tokens/pmc/00009-0123456789abcdef.tokens") && is_there("notes of the team.txt"));
    assert_eq!(run(&["gc", &workdir, "--older-than", "1"]).code, 0);
    assert!(!is_there("tokens/pmc/00009-0123456789abcdef.tokens"));
    let verified = run(&["verify", &workdir, "--json"]).json();
    assert_eq!(verified["findings"].as_array().map(Vec::len), Some(0), "{verified}");
}

#[test]
fn gc_leaves_what_an_unfinished_stage_may_come_to_name() {
    let project = Project::quick();
    project.succeed(&["--until", "ingest"]);
    leave(&project, "tokens/pmc/00009-0123456789abcdef.tokens", 4000);
    leave(&project, "metrics/cpt-00000050.jsonl", 4000);
    leave(&project, "documents/pmc/00009-0123456789abcdef.parquet", 400);
    let collected = run(&["gc", &project.workdir(), "--json"]).json();
    assert_eq!(collected["awaited"].as_u64(), Some(2), "{collected}");
    assert_eq!(collected["removed"].as_array().map(Vec::len), Some(1), "{collected}");
    let is_there = |key: &str| Path::new(&project.workdir()).join(key).exists();
    assert!(is_there("tokens/pmc/00009-0123456789abcdef.tokens") && is_there("metrics/cpt-00000050.jsonl"));
}

#[test]
fn gc_looks_into_every_folder_that_a_run_writes() {
    let project = Project::quick();
    project.succeed(&[]);
    let workdir = project.workdir();
    let folders = || {
        let entries = fs::read_dir(&workdir).expect("readable").map(|entry| entry.expect("an entry").path());
        let names = entries.filter(|path| path.is_dir()).map(|path| path.file_name().expect("a name").to_owned());
        names.map(|name| name.into_string().expect("a name of ours")).filter(|name| !name.starts_with('.'))
    };
    // In the folders of records anything else is damage.
    let wanted: Vec<String> = folders().filter(|folder| !["commits", "manifests"].contains(&folder.as_str())).collect();
    let left_in = |folder: &str| match folder {
        "shards" => "shards/cpt/left-0123456789abcdef.parquet".to_owned(),
        _ => format!("{folder}/left-0123456789abcdef.parquet"),
    };
    for folder in &wanted {
        leave(&project, &left_in(folder), 400);
    }
    assert!(wanted.len() > 15, "{wanted:?}");
    assert_eq!(run(&["gc", &workdir]).code, 0);
    let left = |folder: &str| Path::new(&workdir).join(left_in(folder)).exists();
    let missed: Vec<&String> = wanted.iter().filter(|folder| left(folder)).collect();
    assert!(missed.is_empty(), "{missed:?}");
    assert_eq!(run(&["verify", &workdir]).code, 0);
}

#[test]
fn gc_removes_nothing_where_a_record_is_damaged() {
    let project = Project::quick();
    project.succeed(&["--until", "ingest"]);
    leave(&project, "documents/pmc/00009-0123456789abcdef.parquet", 400);
    let commit = Path::new(&project.workdir()).join("commits/ingest/00000.json");
    let text = fs::read_to_string(&commit).expect("readable").replace("\"task\":0", "\"task\":1");
    fs::write(&commit, text).expect("written");
    let ended = run(&["gc", &project.workdir()]);
    assert_eq!(ended.code, 5, "{}", ended.stderr);
    assert!(ended.stderr.contains("nothing was removed"), "{}", ended.stderr);
    assert!(Path::new(&project.workdir()).join("documents/pmc/00009-0123456789abcdef.parquet").exists());
}

#[test]
fn case_19_another_recipe_is_refused_in_a_work_folder_and_gets_a_version_of_its_own() {
    let project = Project::quick();
    project.succeed(&["--until", "ingest"]);
    let first = fs::read(Path::new(&project.workdir()).join("manifests/ingest.json")).expect("readable");
    let text = fs::read_to_string(project.recipe()).expect("readable");
    fs::write(project.recipe(), text.replace("seed = 42", "seed = 43")).expect("written");
    let refused = project.run(&["--until", "ingest"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("seed differs") && refused.stderr.contains("--new-version"), "{}", refused.stderr);
    for _ in 0..2 {
        project.succeed(&["--until", "ingest", "--new-version"]);
    }
    let versions = Path::new(&project.workdir()).join("versions");
    let found: Vec<_> = fs::read_dir(&versions).expect("there is one").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(found.len(), 1, "the same command finds its version again");
    assert!(found[0].join("manifests/ingest.json").is_file());
    assert_eq!(fs::read(Path::new(&project.workdir()).join("manifests/ingest.json")).expect("readable"), first);
    for workdir in [project.workdir(), found[0].display().to_string()] {
        let verified = run(&["verify", &workdir, "--json"]).json();
        assert_eq!(verified["findings"].as_array().map(Vec::len), Some(0), "{verified}");
        assert_eq!(verified["unnamed"].as_array().map(Vec::len), Some(0), "{verified}");
    }
}
