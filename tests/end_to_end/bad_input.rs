//! Bad input: a message that names subject, place, finding and remedy, the exit code of the contract, nothing good lost.
//!
//! Inputs are invented here, small, with a canary in whatever is bad: no message and no record of a reject may repeat it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::project::{Ended, Project, root, run, succeed};

/// Stands in bad records and in clinical text; lower case, so that folding does not hide it.
pub(crate) const CANARY: &str = "qzcanaryqz";
/// Words of invented documents.
const WORDS: [&str; 32] = [
    "marlow",
    "fever",
    "patient",
    "renal",
    "tablet",
    "nine",
    "weeks",
    "cardiac",
    "biopsy",
    "hepatic",
    "nurse",
    "fasting",
    "serum",
    "lesion",
    "acute",
    "dose",
    "gradual",
    "onset",
    "stable",
    "ward",
    "culture",
    "negative",
    "cohort",
    "trial",
    "placebo",
    "median",
    "follow",
    "bilateral",
    "chronic",
    "sodium",
    "imaging",
    "plan",
];

/// A text of so many words, another one for each seed.
pub(crate) fn prose(seed: u64, words: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        WORDS[(state >> 59) as usize]
    };
    (0..words).map(|_| word()).collect::<Vec<_>>().join(" ")
}

/// JSON lines with the ids `first`, `first + 1`, ….
fn json_lines(first: u64, count: u64) -> Vec<u8> {
    (first..first + count).map(|id| json_line(id, &prose(id, 60))).collect::<String>().into_bytes()
}

fn json_line(id: u64, text: &str) -> String {
    format!("{{\"id\":\"d{id}\",\"text\":\"{text}\"}}\n")
}

fn citation(pmid: u64, text: &str) -> String {
    format!(
        "<PubmedArticle><MedlineCitation><PMID Version=\"1\">{pmid}</PMID><Article><ArticleTitle>Report {pmid}</ArticleTitle>\
         <Abstract><AbstractText>{text}</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>\n"
    )
}

const PUBMED_HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PubmedArticleSet>\n";

fn citations(first: u64, count: u64) -> Vec<u8> {
    let records: String = (first..first + count).map(|pmid| citation(pmid, &prose(pmid, 40))).collect();
    format!("{PUBMED_HEAD}{records}</PubmedArticleSet>\n").into_bytes()
}

fn jats(number: u64) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\"?>\n<article><front><article-meta><article-id pub-id-type=\"pmc\">{number}</article-id><title-group>\
         <article-title>Report {number}</article-title></title-group></article-meta></front><body><p>{}</p></body></article>\n",
        prose(number, 60)
    )
    .into_bytes()
}

/// A gzip member whose bytes stand in it as they are (level 0), so that a cut falls where a test wants it.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

/// A recipe with the one source `s`, and what else a case adds to it.
pub(crate) fn recipe(format: &str, inputs: &[&str], more: &str) -> String {
    format!(
        "name = \"bad-input\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"{format}\"\n\
         inputs = {inputs:?}\ndomain = \"general\"\n{more}"
    )
}

/// Runs a recipe over files beside it; the exit code is `exit`, standard error says everything in `said`, and the canary
/// appears nowhere but in the input.
pub(crate) fn check(recipe: &str, files: &[(&str, Vec<u8>)], exit: i32, said: &[&str]) -> Project {
    let project = Project::with_recipe(recipe);
    for (name, bytes) in files {
        project.write(name, bytes);
    }
    check_run(&project, exit, said);
    project
}

fn check_run(project: &Project, exit: i32, said: &[&str]) -> Ended {
    let ended = project.run(&["--threads", "2"]);
    assert_eq!(ended.code, exit, "{}{}", ended.stdout, ended.stderr);
    for part in said {
        assert!(ended.stderr.contains(part), "{part:?} is not in: {}", ended.stderr);
    }
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert_eq!(last.starts_with("error: "), exit != 0, "a failure ends with one line that says so: {}", ended.stderr);
    assert_no_canary(&ended);
    assert_clean(Path::new(&project.workdir()));
    ended
}

pub(crate) fn has_canary(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window.eq_ignore_ascii_case(CANARY.as_bytes()))
}

pub(crate) fn assert_no_canary(ended: &Ended) {
    assert!(!has_canary(ended.stdout.as_bytes()), "text on standard output: {}", ended.stdout);
    assert!(!has_canary(ended.stderr.as_bytes()), "text on standard error: {}", ended.stderr);
}

/// Everything in a work folder that a person can read without a tool is free of the canary.
pub(crate) fn assert_clean(workdir: &Path) {
    for path in all_files(workdir).iter().filter(|path| path.extension().is_none_or(|e| e != "parquet")) {
        assert!(!has_canary(&fs::read(path).expect("readable")), "text in {}", path.display());
    }
}

/// Every file below a folder, sorted; none when it is absent.
pub(crate) fn all_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { all_files(&path) } else { vec![path] };
    let mut found: Vec<PathBuf> = entries.flat_map(|entry| below(entry.expect("an entry").path())).collect();
    found.sort();
    found
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    all_files(folder).into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

/// Records read, documents written and records rejected by the one ingest task; they must be committed, published or not.
fn check_counts(project: &Project, read: u64, written: u64, rejected: u64) {
    let commit = project.json("commits/ingest/00000.json");
    let count = |name: &str| commit["counts"][name]["documents"].as_u64().expect("a count");
    assert_eq!([count("read"), count("written"), count("rejected")], [read, written, rejected]);
    let entries = commit["objects"].as_array().expect("a list");
    let documents = entries.iter().find(|o| o["key"].as_str().expect("a name").starts_with("documents/s/"));
    let records = documents.map_or(0, |entry| entry["records"].as_u64().expect("a count"));
    assert_eq!(records, written, "the good documents are in the object that the commit names");
}

/// The rejects of source `s` as (object, byte offset, code).
fn rejects(project: &Project) -> Vec<(String, u64, String)> {
    let lines = all_files(&Path::new(&project.workdir()).join("rejects/s"));
    let text: String = lines.iter().map(|path| fs::read_to_string(path).expect("readable")).collect();
    let parsed = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let member = |value: &Value| value.as_str().expect("a string").to_owned();
    parsed.map(|r| (member(&r["object"]), r["byte_offset"].as_u64().expect("an offset"), member(&r["reason"]["code"]))).collect()
}

fn check_rejects(project: &Project, expected: &[(&str, u64, &str)]) {
    let found = rejects(project);
    let found: Vec<(&str, u64, &str)> = found.iter().map(|(object, at, code)| (object.as_str(), *at, code.as_str())).collect();
    assert_eq!(found, expected);
}

/// A file of records, without the records.
struct File {
    format: &'static str,
    name: &'static str,
    head: &'static str,
    tail: &'static str,
}

const JSON_LINES: File = File { format: "jsonl", name: "a.jsonl", head: "", tail: "" };
const CITATIONS: File = File { format: "pubmed-xml", name: "a.xml", head: PUBMED_HEAD, tail: "</PubmedArticleSet>\n" };

/// One bad record after ten good ones: kept with its place among many, too much among few.
fn check_bad_record(file: &File, good: &dyn Fn(u64) -> String, bad: &[u8], code: &str) {
    for (after, exit) in [(29, 0), (2, 3)] {
        let before: String = file.head.to_owned() + &(0..10).map(good).collect::<String>();
        let rest: String = (100..100 + after).map(good).collect::<String>() + file.tail;
        let bytes = [before.as_bytes(), bad, rest.as_bytes()].concat();
        let more = if exit == 0 { "" } else { "max_rejects = 0.01\n" };
        let (object, read) = (format!("data/{}", file.name), 11 + after);
        let place = format!("{object} at byte {}: {code}", before.len());
        let refusal = [
            format!("source \"s\": 1 of {read} records rejected (1 {code}), max_rejects is 0.01"),
            place,
            "raise max_rejects".into(),
        ];
        let summary = [format!("{read} read, {} written, 1 rejected", read - 1)];
        let said: Vec<&str> = if exit == 0 { &summary[..] } else { &refusal[..] }.iter().map(String::as_str).collect();
        let project = check(&recipe(file.format, &["data/*"], more), &[(&object, bytes)], exit, &said);
        check_counts(&project, read, read - 1, 1);
        check_rejects(&project, &[(&object, before.len() as u64, code)]);
        assert_eq!(Path::new(&project.workdir()).join("manifests/ingest.json").exists(), exit == 0);
    }
}

#[test]
fn case_38_recipe_faults_name_line_column_and_remedy() {
    let good = || vec![("data/a.jsonl", json_lines(0, 3))];
    let check_fault = |recipe: &str, said: &[&str]| {
        let project = check(recipe, &good(), 2, said);
        assert!(!Path::new(&project.workdir()).exists(), "nothing is written before the recipe is understood");
    };
    let inputs = ["data/*.jsonl"];
    check_fault(
        &recipe("jsonl", &inputs, "max_reject = 0.1\n"),
        &["recipe.toml:8:1: unknown key \"max_reject\"", "did you mean \"max_rejects\"?"],
    );
    check_fault(
        &recipe("jsonl", &inputs, "[corpus.dedup]\nband = 3\n"),
        &["recipe.toml:9:1: unknown key \"band\"", "did you mean \"bands\"?"],
    );
    check_fault(&recipe("jsonl", &inputs, "max_rejects = \"few\"\n"), &["recipe.toml:8:15:"]);
    check_fault(
        &recipe("jsonl", &inputs, "max_rejects = 7.0\n"),
        &["corpus.source.max_rejects: 7: expected a share from 0 to 1"],
    );
    check_fault(&recipe("jsnl", &inputs, ""), &["corpus.source.format: source \"s\": format \"jsnl\": unknown", "pubmed-xml"]);
    check_fault(
        &recipe("jsonl", &["data/none.jsonl"], ""),
        &["data/none.jsonl: no such file or folder", "correct the path in the recipe"],
    );
    check_fault(
        &recipe("jsonl", &["data/*.csv", "none/**/*"], ""),
        &["source \"s\": no input matched data/*.csv, none/**/*", "correct the patterns"],
    );
    check_fault(
        &recipe("jsonl", &["${MELLAMA_TEST_NEVER_SET}/*.jsonl"], ""),
        &["the environment variable MELLAMA_TEST_NEVER_SET is not set", "export MELLAMA_TEST_NEVER_SET="],
    );
    let absent = run(&["run", "none/recipe.toml"]);
    assert_eq!(absent.code, 2);
    assert!(
        absent.stderr.contains("none/recipe.toml: cannot be read") && absent.stderr.contains("mellama init"),
        "{}",
        absent.stderr
    );
}

#[test]
fn one_empty_glob_beside_a_good_one_is_a_warning() {
    let said = ["warning: ", "source \"s\": other/*.jsonl matches nothing"];
    let project =
        check(&recipe("jsonl", &["data/*.jsonl", "other/*.jsonl"], ""), &[("data/a.jsonl", json_lines(0, 7))], 0, &said);
    check_counts(&project, 7, 7, 0);
}

#[test]
fn file_lists_name_what_they_miss_and_tell_nothing_of_the_machine() {
    let files = |list: &str| vec![("data/a.jsonl", json_lines(0, 7)), ("lists/all.txt", list.as_bytes().to_vec())];
    let recipe = recipe("jsonl", &["@lists/all.txt"], "");
    let said = ["lists/all.txt: line 3: no such file or folder", "correct the line"];
    check(&recipe, &files("# two\n../data/a.jsonl\n../data/b.jsonl\n"), 2, &said);
    let said = ["warning: ", "@lists/all.txt line 2 matches nothing"];
    let project = check(&recipe, &files("../data/a.jsonl\n../data/none/*.jsonl\n"), 0, &said);
    check_counts(&project, 7, 7, 0);
    let name = &project.json("plan.json")["plan"]["ingest"][0]["inputs"][0]["name"];
    assert_eq!(name.as_str(), Some("lists/../data/a.jsonl"));
}

#[test]
fn what_lies_beside_the_data_in_a_folder_is_passed_over_and_counted() {
    let beside = ["data/README.txt", "data/a.jsonl.md5", "data/.hidden"].map(|name| (name, b"no data".to_vec()));
    let files: Vec<(&str, Vec<u8>)> = beside.into_iter().chain([("data/a.jsonl", json_lines(0, 7))]).collect();
    let said = ["warning: ", "source \"s\": data: 3 files that are no data were passed over, first .hidden"];
    check_counts(&check(&recipe("jsonl", &["data"], ""), &files, 0, &said), 7, 7, 0);
}

#[test]
fn case_29_a_truncated_gzip_keeps_what_came_before_the_cut() {
    let cut = |good: u64| {
        let before = json_lines(500, good);
        let whole =
            [before.clone(), json_line(999, &format!("{CANARY} {}", prose(1, 60))).into_bytes(), json_lines(600, 5)].concat();
        // 15 bytes of header, then the records; 60 bytes into the next record, canary included.
        (gzip(&whole)[..15 + before.len() + 60].to_vec(), before.len() as u64)
    };
    let (bytes, at) = cut(10);
    let files = [("data/a.jsonl.gz", gzip(&json_lines(0, 30))), ("data/b.jsonl.gz", bytes)];
    let project = check(&recipe("jsonl", &["data/*.gz"], ""), &files, 0, &["41 read, 40 written, 1 rejected"]);
    check_counts(&project, 41, 40, 1);
    check_rejects(&project, &[("data/b.jsonl.gz", at, "truncated-stream")]);
    let (bytes, at) = cut(1);
    let files = [("data/a.jsonl.gz", gzip(&json_lines(0, 4))), ("data/b.jsonl.gz", bytes)];
    let place = format!("data/b.jsonl.gz at byte {at}: truncated-stream: gzip");
    let said = [
        "source \"s\": 1 of 6 records rejected (1 truncated-stream), max_rejects is 0.05",
        &place,
        "correct the input",
        "raise max_rejects",
    ];
    let project = check(&recipe("jsonl", &["data/*.gz"], ""), &files, 3, &said);
    check_counts(&project, 6, 5, 1);
    // The same command says the same again, from what is committed.
    check_run(&project, 3, &said);
}

#[test]
fn case_29_a_truncated_gzip_of_xml_keeps_whole_citations() {
    let whole = citations(1, 20);
    let text = String::from_utf8(whole.clone()).expect("UTF-8");
    let at = text.match_indices("<PubmedArticle>").nth(12).expect("twenty of them").0;
    let files = [("data/a.xml.gz", gzip(&citations(100, 30))), ("data/b.xml.gz", gzip(&whole)[..15 + at + 90].to_vec())];
    let project = check(&recipe("pubmed-xml", &["data/*"], ""), &files, 0, &["43 read, 42 written, 1 rejected"]);
    check_counts(&project, 43, 42, 1);
    let found = rejects(&project);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0.as_str(), found[0].1, found[0].2.as_str()), ("data/b.xml.gz", at as u64, "truncated-stream"));
}

#[test]
fn case_27_malformed_xml_costs_one_citation() {
    let good = |pmid: u64| citation(pmid + 1, &prose(pmid, 40));
    let bad = citation(77, CANARY).replace("</AbstractText>", "</AbstractTxt>");
    check_bad_record(&CITATIONS, &good, bad.as_bytes(), "malformed-xml");
}

#[test]
fn html_named_xml_is_told_apart() {
    let page =
        format!("<!DOCTYPE html>\n<html><head><title>{CANARY}</title></head><body><p>Not found<br></body></html>\n").into_bytes();
    let files = [("data/a.xml", citations(1, 30)), ("data/b.xml", page.clone())];
    let project = check(&recipe("pubmed-xml", &["data/*"], ""), &files, 0, &["31 read, 30 written, 1 rejected"]);
    check_counts(&project, 31, 30, 1);
    assert_eq!(rejects(&project)[0].2, "not-pubmed");
    let mut files: Vec<(String, Vec<u8>)> = (1..=3).map(|number| (format!("data/{number}.xml"), jats(number))).collect();
    files.push(("data/page.xml".into(), page));
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let said = ["source \"s\": 1 of 4 records rejected (1 not-jats)", "data/page.xml at byte", "html", "correct the input"];
    let project = check(&recipe("jats", &["data/*"], ""), &files, 3, &said);
    check_counts(&project, 4, 3, 1);
}

#[test]
fn case_31_a_line_that_is_not_json_is_one_reject() {
    let good = |id: u64| json_line(id, &prose(id, 60));
    let bad = format!("{{\"id\": {CANARY}, \"text\": \"{CANARY}\"}}\n");
    check_bad_record(&JSON_LINES, &good, bad.as_bytes(), "malformed-json");
    check_bad_record(&JSON_LINES, &good, format!("{CANARY}\n").as_bytes(), "malformed-json");
    check_bad_record(&JSON_LINES, &good, format!("{{\"{CANARY}\":\"{CANARY}\"}}\n").as_bytes(), "missing-field");
}

#[test]
fn case_32_invalid_utf8_is_one_reject() {
    let good = |id: u64| json_line(id, &prose(id, 60));
    let bad = [b"{\"id\":\"x\",\"text\":\"", CANARY.as_bytes(), b" caf\xe9 \xff\"}\n"].concat();
    check_bad_record(&JSON_LINES, &good, &bad, "invalid-utf8");
}

#[test]
fn an_empty_input_is_named() {
    let files = [("data/a.jsonl", json_lines(0, 30)), ("data/b.jsonl", Vec::new())];
    let project = check(&recipe("jsonl", &["data/*"], ""), &files, 0, &["31 read, 30 written, 1 rejected"]);
    check_counts(&project, 31, 30, 1);
    check_rejects(&project, &[("data/b.jsonl", 0, "empty-object")]);
    for (format, name) in
        [("jsonl", "data/b.jsonl"), ("pubmed-xml", "data/b.xml"), ("csv", "data/b.csv"), ("parquet", "data/b.parquet")]
    {
        let place = format!("{name} at byte 0: empty-object");
        let said = ["source \"s\": 1 of 1 records rejected (1 empty-object)", &place, "correct the input"];
        check(&recipe(format, &["data/*"], ""), &[(name, Vec::new())], 3, &said);
    }
}

/// Tokenizer, mixture and packing for a recipe of `recipe`.
fn tokens(total: &str, weights: &str) -> String {
    let tokenizer = root().join("tests/fixtures/tokenizer/tokenizer.json");
    format!(
        "[corpus.tokenizer]\npath = {:?}\n[corpus.mixture]\ntokens = {total}\n{weights}\n[corpus.pack]\nsequence_length = 64\nheldout = 0.0\n",
        tokenizer.display().to_string()
    )
}

#[test]
fn a_mixture_that_cannot_be_filled_names_quota_supply_and_remedy() {
    let files = [("data/a.jsonl", json_lines(0, 40))];
    let project = check(
        &recipe("jsonl", &["data/*"], &tokens("100_000", "general = 1")),
        &files,
        2,
        &["mixture: general: quota of 100000 tokens"],
    );
    check_counts(&project, 40, 40, 0);
    let supply = project.json("manifests/tokenize.json")["facts"]["sources"]["s"]["tokens"].as_u64().expect("a count");
    let passes = 100_000_u64.div_ceil(supply);
    let said = [
        format!("capped supply is {supply};"),
        format!("max_epochs = {passes} on the general sources"),
        format!("lower the total to {supply} tokens"),
    ];
    check_run(&project, 2, &said.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!Path::new(&project.workdir()).join("manifests/mix.json").exists());
    // Each of the two remedies works.
    check(&recipe("jsonl", &["data/*"], &format!("max_epochs = {passes}\n{}", tokens("100_000", "general = 1"))), &files, 0, &[]);
    check(&recipe("jsonl", &["data/*"], &tokens(&supply.to_string(), "general = 1")), &files, 0, &[]);
    let said =
        ["corpus.mixture.clinical: weight 1, but no source has the domain \"clinical\"", "add one, or leave the weight out"];
    check(&recipe("jsonl", &["data/*"], &tokens("1000", "general = 1\nclinical = 1")), &files, 2, &said);
}

/// A llama2.c model file: width 8, one layer, two heads, 300 tokens, 64 positions.
fn small_model() -> Vec<u8> {
    let (width, hidden, vocabulary, positions) = (8, 16, 300, 64);
    let header: [i32; 7] = [width, hidden, 1, 2, 2, vocabulary, positions];
    let parameters = vocabulary * width + 4 * width * width + 3 * width * hidden + 3 * width;
    let tables = positions * (width / 2);
    let weights = (0..parameters + tables).map(|i| (i % 17) as f32 * 0.01 - 0.08);
    header.iter().flat_map(|n| n.to_le_bytes()).chain(weights.flat_map(f32::to_le_bytes)).collect()
}

#[test]
fn case_36_a_tokenizer_that_does_not_fit_is_refused() {
    let training = format!(
        "{}[model]\ncheckpoint = \"checkpoint\"\n[train]\nsteps = 1\nbatch_sequences = 1\nmicro_batch_sequences = 1\n",
        tokens("1000", "general = 1")
    );
    let project = Project::with_recipe(&recipe("jsonl", &["data/*"], &training));
    project.write("data/a.jsonl", &json_lines(0, 40));
    project.write("model.bin", &small_model());
    let at = |name: &str| project.folder().join(name).display().to_string();
    succeed(&["import", &at("model.bin"), "--to", &at("checkpoint")]);
    let said = [
        "checkpoint: the checkpoint has 300 tokens, the tokenizer has ",
        "give the tokenizer that the checkpoint was trained with",
    ];
    check_run(&project, 2, &said);
    assert!(!Path::new(&project.workdir()).join("checkpoints").exists());
    let tokenizer = root().join("tests/fixtures/tokenizer/tokenizer.json").display().to_string();
    for arguments in [
        vec!["generate", &at("checkpoint"), "--prompt", "", "--tokenizer", &tokenizer],
        vec!["import", &at("model.bin"), "--to", &at("other"), "--tokenizer", &tokenizer],
    ] {
        let ended = run(&arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("has 300 tokens, the tokenizer has "), "{}", ended.stderr);
    }
    assert!(!project.folder().join("other/config.json").exists());
}

#[test]
fn case_36_a_file_that_is_no_tokenizer_is_refused() {
    for (name, bytes) in [
        ("tokenizer.json", format!("{{\"{CANARY}\": \"{CANARY}\"}}")),
        ("tokenizer.json", format!("{CANARY}\n")),
        ("tokenizer.model", format!("\u{1}{CANARY}")),
        ("tokenizer.json", String::new()),
    ] {
        let more = tokens("1000", "general = 1");
        let path = root().join("tests/fixtures/tokenizer/tokenizer.json").display().to_string();
        let files = [("data/a.jsonl", json_lines(0, 20)), (name, bytes.into_bytes())];
        let message = format!("{name}: tokenizer: ");
        check(&recipe("jsonl", &["data/*"], &more.replace(&path, name)), &files, 2, &[&message]);
    }
}

#[test]
fn near_duplicates_over_the_limit_publish_nothing() {
    let mut lines = String::new();
    for id in 0..4 {
        let long = prose(id, 150);
        lines += &json_line(2 * id, &format!("{long} and so on"));
        lines += &json_line(2 * id + 1, &long);
    }
    let text = |limit: &str| recipe("jsonl", &["data/*"], &format!("[corpus.dedup]\n{limit}"));
    let files = [("data/a.jsonl", lines.into_bytes())];
    let said = [
        "source \"s\": verified removals take 0.4",
        "of its characters, max_source_loss is 0.2;",
        "s:d0 (2 documents, 1 removed",
    ];
    let project = check(&text(""), &files, 3, &said);
    check_counts(&project, 8, 8, 0);
    let out = |name: &str| Path::new(&project.workdir()).join(name);
    assert!(out("manifests/ingest.json").exists() && !out("manifests/dedup.json").exists() && !out("_SUCCESS").exists());
    assert!(all_files(&out("decisions")).is_empty() && all_files(&out("removed")).is_empty(), "nothing is published");
    let allowed = check(&text("max_source_loss = 0.6\n"), &files, 0, &["8 read, 4 written, 4 dropped"]);
    check_counts(&allowed, 8, 8, 0);
}

#[test]
fn case_19_another_recipe_or_input_never_mixes_with_a_run() {
    let text = recipe("jsonl", &["data/*"], "");
    let original = json_lines(0, 9);
    let project = check(&text, &[("data/a.jsonl", original.clone())], 0, &[]);
    let workdir = PathBuf::from(project.workdir());
    let published = contents(&workdir);
    project.write("recipe.toml", format!("seed = 7\n{text}").as_bytes());
    check_run(&project, 2, &["belongs to a run of another recipe (seed differs)", "--workdir"]);
    project.write("recipe.toml", text.as_bytes());
    let input = project.folder().join("data/a.jsonl");
    let modified = fs::metadata(&input).and_then(|meta| meta.modified()).expect("a time");
    project.write("data/a.jsonl", &json_lines(0, 10));
    let bytes = original.len();
    let changed = format!("inputs are not those that this run was planned with: data/a.jsonl had {bytes} bytes and has ");
    check_run(&project, 3, &[&changed, "--workdir"]);
    let planned = run(&["plan", &project.recipe(), "--workdir", &project.workdir()]);
    assert!(planned.code == 0 && (planned.stdout + &planned.stderr).contains("\"run\" refuses: "), "plan names what run refuses");
    assert!(contents(&workdir) == published, "a refused run changes nothing");
    project.write("data/a.jsonl", &original);
    let file = fs::File::options().write(true).open(&input).expect("opened");
    file.set_modified(modified).expect("set");
    check_run(&project, 0, &[]);
    assert!(contents(&workdir) == published, "the inputs are as planned again, and all is done");
}

#[test]
fn case_15_a_work_folder_that_cannot_be_written_is_a_storage_failure() {
    let input = || ("data/a.jsonl", json_lines(0, 3));
    let project = check(&recipe("jsonl", &["data/*"], ""), &[input(), ("out", b"a file".to_vec())], 4, &["out: "]);
    assert_eq!(fs::read(project.workdir()).expect("still there"), b"a file");
    let project = Project::with_recipe(&recipe("jsonl", &["data/*"], ""));
    project.write(input().0, &input().1);
    fs::create_dir(project.workdir()).expect("created");
    let mut rights = fs::metadata(project.workdir()).expect("there").permissions();
    rights.set_readonly(true);
    fs::set_permissions(project.workdir(), rights).expect("set");
    if fs::write(Path::new(&project.workdir()).join("probe"), "").is_ok() {
        println!("not run: this user may write into read-only folders");
        return;
    }
    check_run(&project, 4, &["out", "denied", "check the permissions"]);
}
