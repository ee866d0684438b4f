//! What cleaning does to documents, seen from outside: counters by rule, identifiers by place, sets of a collection.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::project::Project;

/// A recipe with the one source `s` over `data/*`.
fn recipe(format: &str, more: &str) -> String {
    format!(
        "name = \"cleaning\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"{format}\"\n\
         inputs = [\"data/*\"]\ndomain = \"clinical\"\n{more}"
    )
}

/// Runs a recipe over one file and gives what `ingest` says of the source: counts and facts.
fn ingested(recipe: &str, name: &str, lines: &str) -> (Project, Value) {
    let project = Project::with_recipe(recipe);
    project.write(&format!("data/{name}"), lines.as_bytes());
    project.succeed(&[]);
    let source = project.json("manifests/ingest.json")["facts"]["sources"]["s"].clone();
    (project, source)
}

fn counts(source: &Value) -> [u64; 4] {
    ["read", "written", "dropped", "rejected"].map(|part| source["counts"][part]["documents"].as_u64().expect("a count"))
}

/// Lines of the one object of a kind; none when there is no object.
fn object_lines(project: &Project, kind: &str) -> Vec<String> {
    let folder = Path::new(&project.workdir()).join(kind).join("s");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let text = |path| fs::read_to_string(path).expect("readable");
    entries.flat_map(|entry| text(entry.expect("an entry").path()).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn sets_that_are_not_taken_are_dropped_and_not_listed() {
    let line = |set: &str, text: &str| format!("{{\"text\":\"{text}\",\"meta\":{{\"pile_set_name\":\"{set}\"}}}}\n");
    let lines = line("PubMed Abstracts", "The serum was clear and the lungs were too.")
        + &line("Github", "fn main() is the start of all of it.")
        + &line("FreeLaw", "The court found for the one and for the other.");
    let (project, source) = ingested(&recipe("pile", "read = { sets = [\"PubMed Abstracts\"] }\n"), "a.jsonl", &lines);
    assert_eq!(counts(&source), [3, 1, 2, 0]);
    assert_eq!(source["facts"]["drops"], json!({"not-selected": 2}));
    assert_eq!(object_lines(&project, "drops"), Vec::<String>::new());
    let other = Project::with_recipe(&recipe("jsonl", "read = { sets = [\"FreeLaw\"] }\n")).run(&[]);
    assert!(
        other.code == 2 && other.stderr.contains("corpus.source.read.sets: source \"s\": jsonl has no sets"),
        "{}",
        other.stderr
    );
}

#[test]
fn identifiers_are_rejected_in_sensitive_sources_without_a_table_and_listed_by_place() {
    let lines = "{\"id\":\"a\",\"text\":\"Call Dr. Qzcanary at 617-555-1234 before noon.\"}\n\
                 {\"id\":\"b\",\"text\":\"The lungs are clear on both sides.\"}\n";
    let (project, source) = ingested(&recipe("jsonl", "sensitivity = \"phi\"\n"), "a.jsonl", lines);
    assert_eq!(counts(&source), [2, 1, 1, 0]);
    assert_eq!(source["facts"]["drops"], json!({"phi": 1}));
    assert_eq!(source["facts"]["phi"], json!({"name": 1, "phone": 1}));
    let listed: Vec<Value> = object_lines(&project, "phi").iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let expected = json!({
        "id": "s:a", "object": "data/a.jsonl", "byte_offset": 0, "policy": "reject", "identifiers": 2, "title_hits": [],
        "text_hits": [["name", 9, 17], ["phone", 21, 33]],
    });
    assert_eq!(listed, [expected]);
    let (_, open) = ingested(&recipe("jsonl", ""), "a.jsonl", lines);
    assert_eq!((counts(&open), &open["facts"]["phi"]), ([2, 2, 0, 0], &json!({})));
}

#[test]
fn changes_are_counted_by_rule_and_shown() {
    let lines = "{\"id\":\"a\",\"text\":\"The cafÃ© of the ward was closed. \\r\\n\\u00a9 2010 Marlow et al.\"}\n\
                 {\"id\":\"b\",\"text\":\"The lungs are clear on both sides.\"}\n";
    let (project, source) = ingested(&recipe("jsonl", "[corpus.clean]\n"), "a.jsonl", lines);
    assert_eq!(counts(&source), [2, 2, 0, 0]);
    let changes = json!({"blank-lines": 1, "boilerplate": 1, "line-ends": 1, "mojibake": 1, "spaces": 1});
    assert_eq!(source["facts"]["changes"], changes);
    assert_eq!(source["facts"]["removed"], json!({"boilerplate-lines": 1}));
    let page = fs::read_to_string(Path::new(&project.workdir()).join("report.html")).expect("there");
    assert!(page.contains("mojibake") && page.contains("boilerplate-lines"));
}

#[test]
fn a_source_that_is_dropped_for_the_most_part_is_named_with_its_rule() {
    let line = |id: String, text: &str| format!("{{\"id\":\"{id}\",\"text\":\"{text}\"}}\n");
    let short = |count: u32| (0..count).map(move |n| line(format!("s{n}"), "Clear lungs."));
    let good = |count: u32| (0..count).map(move |n| line(format!("g{n}"), "The lungs are clear on both sides."));
    for (dropped, kept, is_told) in [(3, 2, true), (2, 2, false)] {
        let project = Project::with_recipe(&recipe("jsonl", "[corpus.clean]\nmin_words = 5\n"));
        project.write("data/a.jsonl", short(dropped).chain(good(kept)).collect::<String>().as_bytes());
        let ended = project.succeed(&["--quiet"]);
        let told = format!("{dropped} of {} documents dropped, {dropped} of them by too-few-words", dropped + kept);
        assert_eq!(ended.stderr.contains(&told), is_told, "{}", ended.stderr);
    }
}
