//! Clinical text stays in the data, whatever happens to a run: every field of every record is marked, everything that can go wrong
//! does, and everything that a person can read without a tool of ours is searched.

use std::fs;
use std::path::{Path, PathBuf};

use mellama_tests::s3_server::SECRET;
use mellama_tests::wire_proxy::{Mode, WireProxy};
use serde_json::Value;

use crate::bad_input::{CANARY, all_files, assert_clean, assert_no_canary, check, has_canary, prose, recipe};
use crate::project::{Ended, Project, root, run, succeed};
use crate::server::Bucket;

/// One row of `NOTEEVENTS.csv` with the canary in every field but the id and the mark of error.
fn note(id: &str, error: &str, text: &str) -> String {
    let c = CANARY;
    format!("{id},{c}1,{c}2,{c}3,{c}4,{c}5,{c}6,\"{c} 7\",{c}8,{error},\"{text}\"\n")
}

/// Notes for each thing that can become of one: kept, exact copy, near-duplicate, leak, too short, marked, ragged, without id, not UTF-8.
fn notes() -> Vec<u8> {
    let text = |seed: u64| format!("{CANARY} {} Call 555-201-3344, seen by Dr. {CANARY}.", prose(seed, 120));
    let mut rows =
        String::from("ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,TEXT\n");
    (1..=60).for_each(|id| rows += &note(&id.to_string(), "", &text(id)));
    rows += &note("61", "", &text(1));
    rows += &note("62", "", &format!("{} {CANARY} seen again", text(2)));
    rows += &note("63", "", &format!("{CANARY} {} {CANARY}", prose(7000, 40)));
    rows += &note("68", "", &format!("{CANARY} brief"));
    rows += &note("64", "1", &text(64));
    rows += &note("65", "", &text(65)).replace('\n', &format!(",{CANARY}\n"));
    rows += &note("", "", &text(66));
    [rows.as_bytes(), b"67,\xff", CANARY.as_bytes(), b",,,,,,,,,\"", CANARY.as_bytes(), b"\"\n"].concat()
}

/// The quickstart with the notes above in the place of its MIMIC-III file, `dua` instructions, and a leak to find in the notes.
fn clinical_project(max_rejects: &str) -> Project {
    let project = Project::quick();
    let fixtures = root().join("tests/fixtures").display().to_string();
    let text = fs::read_to_string(project.recipe()).expect("readable");
    let mut edited = text.clone();
    for (from, to) in [
        (format!("{fixtures}/notes/NOTEEVENTS.csv.gz\"]"), format!("data/NOTEEVENTS.csv\"]\nmax_rejects = {max_rejects}")),
        (format!("{fixtures}/benchmarks/*.jsonl"), "data/leak.jsonl".into()),
        (format!("[\"{fixtures}/instruct/*.jsonl\"]"), "[\"data/instruct.jsonl\"]\nsensitivity = \"dua\"".into()),
        ("[corpus.dedup]".into(), "[corpus.dedup]\nmax_source_loss = 0.9".into()),
        ("[corpus.clean]".into(), "[corpus.clean]\nmin_words = 5".into()),
        ("tokens = 200_000".into(), "tokens = 40_000".into()),
    ] {
        assert!(edited.contains(&from), "the quickstart no longer says {from}");
        edited = edited.replace(&from, &to);
    }
    project.write("recipe.toml", edited.as_bytes());
    project.write("data/NOTEEVENTS.csv", &notes());
    let item = serde_json::json!({"id": "leak-1", "query": prose(7000, 40), "answer": "a", "choices": ["a", "b"], "gold": 0});
    project.write("data/leak.jsonl", format!("{item}\n").as_bytes());
    let pair = |id| format!("{{\"instruction\":\"{CANARY} {}?\",\"output\":\"{CANARY} {}\"}}\n", prose(id, 6), prose(id + 1, 6));
    let bad = format!("{{\"{CANARY}\":\"{CANARY}\"}}\n{{\"instruction\":\"{CANARY}\",\"output\":7}}\n");
    project.write("data/instruct.jsonl", ((0..60).map(pair).collect::<String>() + &bad).as_bytes());
    project
}

#[test]
fn case_41_the_search_for_the_canary_finds_it_in_open_data() {
    let more = "sensitivity = \"open\"\nmax_rejects = 0.2\n";
    let project = check(&recipe("mimic-notes", &["data/*"], more), &[("data/NOTEEVENTS.csv", notes())], 0, &[]);
    let documents = all_files(&Path::new(&project.workdir()).join("documents/s"));
    let shown = succeed(&["inspect", &documents[0].display().to_string(), "--text"]).stdout;
    assert!(has_canary(shown.as_bytes()), "{shown}");
    assert!(!has_canary(succeed(&["inspect", &documents[0].display().to_string()]).stdout.as_bytes()), "only when asked");
}

#[test]
fn case_41_clinical_text_stays_in_the_data() {
    let project = clinical_project("0.2");
    let scratch = tempfile::tempdir().expect("a folder");
    let at = scratch.path().display().to_string();
    let ended = project.succeed(&["--threads", "2", "--scratch", &at]);
    assert_no_canary(&ended);
    assert!(all_files(scratch.path()).is_empty(), "temporary files are gone");
    let facts = project.json("manifests/ingest.json")["facts"]["sources"]["mimic-iii"].clone();
    assert_eq!(facts["counts"]["rejected"]["documents"].as_u64(), Some(4), "{facts}");
    assert_eq!(facts["counts"]["written"]["documents"].as_u64(), Some(63), "{facts}");
    assert_eq!(facts["counts"]["dropped"]["documents"].as_u64(), Some(1), "{facts}");
    let removed = project.json("manifests/dedup.json")["facts"]["removed"]["mimic-iii"].clone();
    assert_eq!(removed.as_object().map(|reasons| reasons.values().filter_map(Value::as_u64).sum()), Some(3), "{removed}");
    let workdir = PathBuf::from(project.workdir());
    assert_clean(&workdir);
    for name in [
        "report.html",
        "README.md",
        "plan.json",
        "rejects/mimic-iii",
        "drops/mimic-iii",
        "commits/report",
        "manifests/dedup.json",
        "decisions",
    ] {
        assert!(workdir.join(name).exists(), "{name} was looked at");
    }
    for path in all_files(&workdir).iter().filter(|path| path.extension().is_some_and(|e| e == "parquet")) {
        assert_no_canary(&succeed(&["inspect", &path.display().to_string(), "--rows", "1000", "--text"]));
    }
    for command in ["status", "verify", "report"] {
        assert_no_canary(&succeed(&[command, &project.workdir()]));
        assert_no_canary(&succeed(&[command, &project.workdir(), "--json"]));
    }
    assert_no_canary(&succeed(&["plan", &project.recipe(), "--workdir", &project.workdir(), "--json"]));
}

#[test]
fn case_41_a_refusal_over_clinical_records_repeats_nothing_of_them() {
    let project = clinical_project("0.0");
    let ended = project.run(&["--log-format", "json"]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    let last: Value = serde_json::from_str(ended.stderr.lines().last().expect("a line")).expect("JSON");
    let message = last["message"].as_str().expect("a message");
    for part in [
        "source \"mimic-iii\": 4 of 68 records rejected",
        "1 marked-erroneous",
        "data/NOTEEVENTS.csv at byte",
        "raise max_rejects",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert_eq!(last["exit"].as_u64(), Some(3));
    assert_no_canary(&ended);
    assert_clean(Path::new(&project.workdir()));
}

#[test]
fn case_41_no_failure_of_a_server_repeats_clinical_text() {
    let (bucket, project) = (Bucket::new(), clinical_project("0.2"));
    let text = fs::read_to_string(project.recipe()).expect("readable");
    fs::write(project.recipe(), format!("{text}\n[storage]\nattempt_seconds = 1\ndeadline_seconds = 2\n")).expect("written");
    let proxy = WireProxy::start(bucket.server.address()).expect("a free port");
    let scratch = tempfile::tempdir().expect("a folder");
    let at = scratch.path().display().to_string();
    let run = |format: &str| {
        let mut command = Bucket::command(&proxy.endpoint(), SECRET);
        command.env("RUST_BACKTRACE", "full").args(["run", &project.recipe(), "--workdir", "s3://corpus/run", "--scratch", &at]);
        Ended::of(&command.args(["--until", "publish", "--log-format", format]).output().expect("the program starts"))
    };
    let modes = [
        Mode::Before(500, "InternalError"),
        Mode::Before(403, "AccessDenied"),
        Mode::AfterDrop,
        Mode::After500,
        Mode::Cut,
        Mode::Flip,
    ];
    let mut failed = 0;
    for (number, mode) in (0_u64..).zip(modes) {
        // Further on each time: what went before stays.
        let answered = 15 + 20 * number;
        proxy.follow(move |seen| if seen.number > answered { mode } else { Mode::Through });
        let ended = run(if number % 2 == 0 { "json" } else { "text" });
        failed += u32::from(ended.code != 0);
        assert!(ended.code != 1 && ended.code != 101, "{mode:?}: exit {}: {}", ended.code, ended.stderr);
        assert_no_canary(&ended);
        assert_clean(&bucket.file("run"));
        assert!(all_files(scratch.path()).is_empty(), "temporary files are gone");
    }
    assert!(failed >= 4, "only {failed} runs failed");
    proxy.follow(|_| Mode::Through);
    let whole = run("json");
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    assert_no_canary(&whole);
    assert_clean(&bucket.file("run"));
}

#[test]
fn case_41_no_damage_repeats_clinical_text() {
    let project = clinical_project("0.2");
    project.succeed(&["--until", "publish"]);
    let (recipe, workdir) = (project.recipe(), project.workdir());
    let publish = ["run", recipe.as_str(), "--workdir", &workdir, "--until", "publish"];
    let mut found = 0;
    for folder in ["documents", "signatures", "decisions", "tokens", "mix", "packed", "shards", "rejects", "commits", "manifests"]
    {
        let whole = all_files(&Path::new(&workdir).join(folder));
        let path = whole.iter().max_by_key(|path| fs::metadata(path).map_or(0, |data| data.len())).expect("a file");
        let bytes = fs::read(path).expect("readable");
        let middle = bytes.len() / 2;
        let flipped = [&bytes[..middle], &[bytes[middle] ^ 4], &bytes[middle + 1..]].concat();
        for damaged in [flipped, bytes[..middle].to_vec(), Vec::new()] {
            fs::write(path, &damaged).expect("written");
            let shard = path.display().to_string();
            let commands: [&[&str]; 8] = [
                &["verify", &workdir, "--json"],
                &["status", &workdir],
                &["report", &workdir],
                &["inspect", &shard, "--rows", "1000"],
                &["inspect", &workdir, "--id", "mimic-iii/1"],
                &["plan", &recipe, "--workdir", &workdir, "--json"],
                &["gc", &workdir, "--dry-run", "--json"],
                &publish,
            ];
            for arguments in commands {
                let ended = run(arguments);
                assert!(ended.code != 1 && ended.code != 101, "{arguments:?}: exit {}: {}", ended.code, ended.stderr);
                assert_no_canary(&ended);
                found += u32::from(ended.code == 5);
            }
            fs::write(path, &bytes).expect("written");
        }
    }
    assert!(found >= 30, "only {found} times was damage told");
    assert_eq!(run(&["verify", &workdir]).code, 0, "all is as it was");
}
