//! Records that share an id and differ in text are documents of their own: in `inspect`, in a retraction, in an export; and so are
//! conversations.

use std::io::Read;

use super::*;

/// A source of two CSV files whose ids begin at 1 in each, and a source of conversations of two files that do the same.
fn restarted() -> Project {
    let recipe = small(&[], PACK)
        + "[[corpus.source]]\nname = \"src\"\nformat = \"csv\"\ninputs = [\"data/src-*.csv\"]\ndomain = \"general\"\n\
           [[instruct.source]]\nname = \"talk\"\ninputs = [\"data/talk-*.jsonl\"]\nsensitivity = \"dua\"\n\
           [instruct]\nsequence_length = 64\n";
    let project = Project::with_recipe(&recipe);
    for file in ["a", "b"] {
        let row = |n: u64| format!("{n},\"The {file} ward counted {n} beds and {} lamps that night.\"\n", n * 7);
        let table: String = std::iter::once("id,text\n".to_owned()).chain((1..9).map(row)).collect();
        project.write(&format!("data/src-{file}.csv"), table.as_bytes());
        let turns = |n: u64| format!("{{\"id\":\"t{n}\",\"instruction\":\"Say {n}.\",\"output\":\"It is {n} of {file}.\"}}\n");
        project.write(&format!("data/talk-{file}.jsonl"), (1..5).map(turns).collect::<String>().as_bytes());
    }
    project
}

fn documents(project: &Project, id: &str) -> Vec<Value> {
    trace(project, id)["documents"].as_array().expect("documents").clone()
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("{member}: {value}"))
}

fn placements(document: &Value) -> &Vec<Value> {
    document["placements"].as_array().expect("placements")
}

#[test]
fn records_of_one_id_with_other_texts_are_documents_of_their_own() {
    let project = restarted();
    project.succeed(&["--until", "instruct-data"]);
    let both = documents(&project, "src:1");
    assert_eq!(both.len(), 2, "{both:?}");
    let keys = [text(&both[0], "key"), text(&both[1], "key")];
    assert_ne!(keys[0], keys[1]);
    assert_ne!(both[0]["runs"]["row"], both[1]["runs"]["row"], "each has its own run");
    assert!(both.iter().all(|document| !placements(document).is_empty()), "{both:?}");
    assert!(placements(&both[0]).iter().all(|placed| !placements(&both[1]).contains(placed)), "each has its own places");
    // Asked by its key, it is the same document, and no other.
    for document in &both {
        let by_key = documents(&project, &format!("key:{}", text(document, "key")));
        assert_eq!(by_key, std::slice::from_ref(document));
    }
    let exported = exported_keys(&project);
    assert_eq!(exported.len(), 16);
    assert!(keys.iter().all(|key| exported.contains(*key)), "{exported:?}");

    let outcome = retracted(&project, &["--id", &format!("key:{}", keys[0])]);
    let gone = outcome["documents"].as_array().expect("documents");
    assert_eq!((gone.len(), text(&gone[0], "key"), text(&gone[0], "id")), (1, keys[0], "src:1"));
    verify(&project);
    let after = documents(&project, "src:1");
    assert!(after[0]["retracted"].is_string() && placements(&after[0]).is_empty(), "{after:?}");
    assert!(after[1]["retracted"].is_null() && placements(&after[1]).len() == placements(&both[1]).len(), "{after:?}");

    let outcome = retracted(&project, &["--id", "src:1"]);
    assert_eq!(outcome["already"], serde_json::json!(["src:1"]));
    let gone = outcome["documents"].as_array().expect("documents");
    assert_eq!((gone.len(), text(&gone[0], "key")), (1, keys[1]));
    verify(&project);
    assert!(documents(&project, "src:1").iter().all(|document| placements(document).is_empty()));
    assert!(documents(&project, "src:2").iter().all(|document| !placements(document).is_empty()), "others stay");
}

#[test]
fn what_stands_for_a_record_is_that_of_its_own_key() {
    let recipe = small(&[], &format!("[corpus.dedup]\nmax_source_loss = 1.0\n{PACK}"))
        + "[[corpus.source]]\nname = \"src\"\nformat = \"csv\"\ninputs = [\"data/src-*.csv\"]\ndomain = \"general\"\n";
    let project = Project::with_recipe(&recipe);
    let of = |n: u64| format!("The long ward counted {n} beds and {} lamps in the night of day {}.", n * 7, n + 40);
    let table = |rows: &[(u64, String)]| -> Vec<u8> {
        let rows = rows.iter().map(|(id, text)| format!("{id},\"{text}\"\n"));
        std::iter::once("id,text\n".to_owned()).chain(rows).collect::<String>().into_bytes()
    };
    project.write("data/src-a.csv", &table(&[(1, of(1)), (2, of(2)), (3, of(3)), (4, of(4))]));
    // A near copy of the record of its own id, and a copy of one of another.
    project.write("data/src-b.csv", &table(&[(1, of(1).to_uppercase()), (2, of(3))]));
    project.succeed(&[]);

    let part = |id: &str| {
        let (dropped, kept): (Vec<_>, Vec<_>) = documents(&project, id).into_iter().partition(|one| !one["removal"].is_null());
        let key = |of: &[Value]| format!("key:{}", text(&of[0], "key"));
        assert_eq!((dropped.len(), kept.len()), (1, 1), "{id}: {dropped:?} {kept:?}");
        (key(&dropped), key(&kept))
    };
    let ((near, long), (_, second)) = (part("src:1"), part("src:2"));
    let outcome = retracted(&project, &["--id", &second, "--copies"]);
    assert_eq!((outcome["documents"].as_array().map(Vec::len), &outcome["copies"]), (Some(1), &serde_json::json!([])));
    assert!(documents(&project, "src:3").iter().all(|document| !placements(document).is_empty()), "it stands for another record");
    verify(&project);

    let outcome = retracted(&project, &["--id", &near]);
    let copy = &outcome["copies"][0];
    assert_eq!((text(copy, "id"), text(copy, "kept_id"), text(copy, "rule")), ("src:1", "src:1", "near-strict"));
    let told = succeed(&["retract", &project.workdir(), "--id", &near, "--copies"]).stdout;
    assert!(told.contains("1 document"), "{told}");
    let after = documents(&project, &long).remove(0);
    assert!(after["retracted"].is_string() && placements(&after).is_empty(), "{after}");
    verify(&project);
}

#[test]
fn a_name_of_the_literature_means_the_work_and_an_id_the_record() {
    let project = small_project(&small(&[("citations", ""), ("articles", "")], PACK), &[("citations", 9), ("articles", 9)]);
    let named = |source: &str, id: &str, names: &str| {
        format!("{{\"id\":\"{id}\",\"text\":\"In the {source} the winter fair of {id} lasted nine days.\",{names}}}\n")
    };
    let citations = [
        named("list", "c1", "\"pmid\":\"111\",\"pmcid\":\"PMC222\",\"doi\":\"10.5/fair\""),
        named("list", "c2", "\"pmid\":\"112\",\"pmcid\":\"PMC223\""),
        // Exports pad their columns.
        named("list", "c3   ", "\"pmid\":\"113\""),
        named("list", "c4", "\"pmid\":\"114\""),
        named("list", "c5", "\"pmid\":\"115\",\"pmcid\":\"PMC224\""),
    ];
    let articles = [
        named("journal", "f1", "\"doi\":\"10.5/FAIR\""),
        named("journal", "f2", "\"pmcid\":\"PMC223\""),
        named("journal", "f3", "\"pmcid\":\"PMC224\""),
    ];
    project.write("data/citations.jsonl", citations.concat().as_bytes());
    project.write("data/articles.jsonl", articles.concat().as_bytes());
    project.succeed(&[]);
    let ids = |outcome: &Value| -> Vec<String> {
        let documents = outcome["documents"].as_array().expect("documents");
        documents.iter().map(|document| text(document, "id").to_owned()).collect()
    };
    // A deletion alone says nothing of the work; beside somebody's wish it takes nothing from it.
    let deleted = |pmid: &str| {
        let citation = format!("<DeleteCitation><PMID Version=\"1\">{pmid}</PMID></DeleteCitation>");
        project.write(&format!("{pmid}.xml"), format!("<PubmedArticleSet>{citation}</PubmedArticleSet>").as_bytes());
        project.folder().join(format!("{pmid}.xml")).display().to_string()
    };
    assert_eq!(ids(&retracted(&project, &["--from", &deleted("115")])), ["citations:c5"]);
    let both = retracted(&project, &["--id", "pmid:111", "--from", &deleted("111")]);
    assert_eq!(ids(&both), ["articles:f1", "citations:c1"]);
    assert_eq!(ids(&retracted(&project, &["--id", "citations:c2"])), ["citations:c2"]);
    assert_eq!(ids(&retracted(&project, &["--id", "pmcid:PMC223"])), ["articles:f2"]);
    assert_eq!(ids(&retracted(&project, &["--id", "citations:c3   "])), ["citations:c3   "]);
    verify(&project);

    // What is not a record of a retraction is nobody's, and stops nobody.
    let stray = Path::new(&project.workdir()).join("retractions/.DS_Store");
    std::fs::write(&stray, "left by a file browser").expect("written");
    succeed(&["status", &project.workdir()]);
    let found = succeed(&["verify", &project.workdir(), "--json"]).json();
    assert_eq!(found["unnamed"], serde_json::json!(["retractions/.DS_Store"]));
    std::fs::remove_file(&stray).expect("removed");
    // Damage elsewhere does not keep the shards from being looked into.
    std::fs::write(Path::new(&project.workdir()).join("README.md"), "of somebody").expect("written");
    let found = run(&["verify", &project.workdir(), "--json"]);
    assert_eq!((found.code, found.json()["sequences"].as_u64() > Some(0)), (5, true), "{}", found.stdout);
}

/// The keys in the rows of an export for `OLMo`; the export and its table of documents are verified.
fn exported_keys(project: &Project) -> BTreeSet<String> {
    let to = project.folder().join("export").display().to_string();
    let told = succeed(&["export", &project.workdir(), "--format", "olmo", "--to", &to, "--json"]).json();
    succeed(&["verify", &to]);
    assert!(Path::new(&to).join("lineage/documents.parquet").is_file());
    let packed = std::fs::read(Path::new(&to).join("train-00000.csv.gz")).expect("readable");
    let mut rows = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut rows).expect("gzip");
    let ids = rows.lines().filter_map(|row| row.split(',').nth(2)).filter(|id| *id != "padding");
    let ids: BTreeSet<String> = ids.map(str::to_owned).collect();
    assert_eq!(told["documents"].as_u64(), Some(ids.len() as u64));
    ids
}

#[test]
fn equal_records_of_one_id_are_one_document() {
    let project = small_project(&small(&[("a", "")], PACK), &[]);
    let again = format!("{}{}{}", line("a", 1), line("a", 2), line("a", 1));
    project.write("data/a.jsonl", again.as_bytes());
    project.succeed(&[]);
    let both = documents(&project, "a:a1");
    assert_eq!(both.len(), 2);
    assert_eq!(both[0]["key"], both[1]["key"]);
    let rows: Vec<_> = both.iter().map(|document| (document["row"].as_u64(), document["runs"]["row"].as_u64())).collect();
    assert_eq!(rows, [(Some(0), Some(0)), (Some(2), Some(2))], "each record has its own run");
    let outcome = retracted(&project, &["--id", "a:a1"]);
    assert_eq!(outcome["documents"].as_array().map(Vec::len), Some(1), "one document of two records: {outcome}");
    verify(&project);
    assert!(documents(&project, "a:a1").iter().all(|document| placements(document).is_empty()));
}

#[test]
fn the_run_of_a_document_is_found_behind_removed_ones() {
    let dedup = format!("[corpus.dedup]\nmax_source_loss = 1.0\n{PACK}");
    let project = small_project(&small(&[("a", ""), ("b", "")], &dedup), &[("a", 9)]);
    let copy = line("a", 4).replace("\"id\":\"a4\"", "\"id\":\"copy\"");
    project.write("data/b.jsonl", format!("{}{copy}{}", line("b", 1), line("b", 2)).as_bytes());
    project.succeed(&[]);
    let rows = |id: &str| {
        let document = documents(&project, id).remove(0);
        (document["row"].as_u64(), document["runs"]["row"].as_u64())
    };
    assert_eq!(rows("b:copy"), (Some(1), None));
    assert_eq!(rows("b:b2"), (Some(2), Some(1)));
}

#[test]
fn conversations_are_listed_with_what_became_of_them() {
    let project = restarted();
    let long =
        format!("{{\"id\":\"long\",\"instruction\":\"Count.\",\"output\":\"{}\"}}\n", "One more, and then another. ".repeat(40));
    project.write("data/talk-c.jsonl", long.as_bytes());
    project.succeed(&["--until", "instruct-data"]);
    let both = documents(&project, "talk:t1");
    assert_eq!(both.len(), 2, "{both:?}");
    assert_ne!(both[0]["key"], both[1]["key"]);
    for document in &both {
        assert_eq!((text(document, "source"), text(document, "sensitivity")), ("talk", "dua"));
        assert_eq!((placements(document).len(), document["spoken"]["left_out"].as_str()), (1, None));
        let by_key = documents(&project, &format!("key:{}", text(document, "key")));
        assert_eq!(by_key, std::slice::from_ref(document), "its key shows its id and source");
    }
    let left_out = &documents(&project, "talk:long")[0];
    assert_eq!(left_out["spoken"]["left_out"].as_str(), Some("too-long"));
    let shown = succeed(&["inspect", &project.workdir(), "--id", "talk:long"]).stdout;
    assert!(shown.contains("a conversation, left out: too-long for a sequence"), "{shown}");
    let table = files(&project).into_keys().find(|key| key.starts_with("conversations/index-")).expect("a table");
    let shown = succeed(&["inspect", &Path::new(&project.workdir()).join(table).display().to_string(), "--rows", "20"]).stdout;
    assert!(shown.contains("9 rows") && shown.contains(text(&both[0], "key")) && shown.contains("too-long"), "{shown}");

    let to = project.folder().join("talks").display().to_string();
    succeed(&["export", &project.workdir(), "--format", "ds", "--split", "instruct", "--to", &to]);
    assert!(Path::new(&to).join("lineage/documents.parquet").is_file());
    succeed(&["verify", &to]);

    let outcome = retracted(&project, &["--id", &format!("key:{}", text(&both[1], "key"))]);
    assert_eq!(text(&outcome["documents"][0], "id"), "talk:t1");
    verify(&project);
    let after = documents(&project, "talk:t1");
    assert!(after[0]["retracted"].is_null() && after[1]["retracted"].is_string(), "{after:?}");
    let outcome = retracted(&project, &["--id", "talk:long"]);
    assert_eq!(outcome["documents"][0]["segments"].as_u64(), Some(0), "it was in no shard, and is recorded");
    assert_eq!(retract(&project, &["--id", "talk:none"]).code, 2);
    verify(&project);
}

#[test]
fn a_folder_of_an_earlier_version_is_told_as_such() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&root().join("tests/golden/v3/run"), folder.path());
    let workdir = folder.path().display().to_string();
    for arguments in [["inspect", &workdir, "--id", "journal:J1"], ["retract", &workdir, "--id", "journal:J1"]] {
        let refused = run(&arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {}", refused.stdout);
        let message = "made by another version of mellama (plan format 4, this one writes 6)";
        assert!(refused.stderr.contains(message), "{arguments:?}: {}", refused.stderr);
    }
}
