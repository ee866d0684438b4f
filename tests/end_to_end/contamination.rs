//! Benchmarks kept out from the recipe on: by names of records and by n-grams, dropped, cut and reported. All texts are invented.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::project::{Project, root};

fn recipe(sources: &[(&str, &str, &str)], decontaminate: &str) -> String {
    let source = |(name, format, more): &(&str, &str, &str)| {
        format!(
            "[[corpus.source]]\nname = \"{name}\"\nformat = \"{format}\"\ninputs = [\"{name}/**\"]\ndomain = \"clinical\"\n{more}\n"
        )
    };
    let sources: String = sources.iter().map(source).collect();
    format!(
        "name = \"leaks\"\nworkdir = \"out\"\n{sources}[corpus.decontaminate]\nbenchmarks = [\"benchmarks/**\"]\n{decontaminate}\n"
    )
}

/// Words L0 to Ln without the last.
fn words(letter: char, range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("{letter}{i}")).collect::<Vec<_>>().join(" ")
}

/// The lines of `contamination/`, by document.
fn lines(project: &Project) -> BTreeMap<String, Value> {
    let folder = Path::new(&project.workdir()).join("contamination");
    let file = std::fs::read_dir(folder).expect("there").next().expect("one file").expect("an entry").path();
    let text = std::fs::read_to_string(file).expect("JSON lines");
    let line = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    text.lines().map(line).map(|line| (line["id"].as_str().expect("an id").to_owned(), line)).collect()
}

/// Document, what became of it, and the items that it holds as `set/item`.
fn held(project: &Project) -> Vec<(String, String, String)> {
    let lines = lines(project).into_iter().filter(|(_, line)| line["contaminated"] == true);
    let items = |line: &Value| {
        let item =
            |item: &Value| format!("{}/{}", item["benchmark"].as_str().expect("a set"), item["item"].as_str().expect("an id"));
        line["items"].as_array().expect("a list").iter().map(item).collect::<Vec<_>>().join(" ")
    };
    lines.map(|(id, line)| (id, line["action"].as_str().expect("an action").to_owned(), items(&line))).collect()
}

fn facts(project: &Project) -> Value {
    project.json("manifests/dedup.json")["facts"]["contamination"].clone()
}

fn check_held(project: &Project, expected: &[(&str, &str, &str)]) {
    let found = held(project);
    let found: Vec<(&str, &str, &str)> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(found, expected);
}

fn citation(pmid: u32, pmcid: &str) -> String {
    let ids = if pmcid.is_empty() { String::new() } else { format!("<ArticleId IdType=\"pmc\">{pmcid}</ArticleId>") };
    format!(
        "<PubmedArticle><MedlineCitation><PMID Version=\"1\">{pmid}</PMID><Article><ArticleTitle>Report {pmid} of rope makers</ArticleTitle>\
         </Article></MedlineCitation><PubmedData><ArticleIdList>{ids}</ArticleIdList></PubmedData></PubmedArticle>"
    )
}

fn article(pmcid: &str, pmid: &str) -> String {
    let pmid = if pmid.is_empty() { String::new() } else { format!("<article-id pub-id-type=\"pmid\">{pmid}</article-id>") };
    format!(
        "<article><front><article-meta><article-id pub-id-type=\"pmc\">{pmcid}</article-id>{pmid}<title-group><article-title>Of {pmcid}\
         </article-title></title-group></article-meta></front><body><p>Long text of {pmcid}.</p></body></article>"
    )
}

/// Literature and notes of which benchmark items of every kind were made; no item has a text of more than seven words.
fn named() -> Project {
    let sources = [
        ("pubmed", "pubmed-xml", ""),
        ("pmc", "jats", ""),
        ("notes3", "mimic-notes", ""),
        ("notes4", "mimic-notes", ""),
        ("cxr", "mimic-cxr", ""),
        ("other", "jsonl", "fields = { id = \"note_id\" }"),
    ];
    let project = Project::with_recipe(&recipe(&sources, ""));
    let citations =
        [citation(1_000_001, "PMC501"), citation(1_000_002, "PMC502"), citation(1_000_003, ""), citation(1_000_009, "")];
    project.write("pubmed/a.xml", format!("<PubmedArticleSet>{}</PubmedArticleSet>", citations.concat()).as_bytes());
    for (pmcid, pmid) in [("PMC501", "1000001"), ("PMC502", ""), ("PMC503", "1000003"), ("PMC509", "")] {
        project.write(&format!("pmc/{pmcid}.xml"), article(pmcid, pmid).as_bytes());
    }
    let note3 = |row: u32, subject: u32, stay: u32| format!("{row},{subject},{stay},Report,,\"Note {row} of the ward\"\n");
    let notes3 =
        [note3(174, 22_532, 167_853), note3(175, 9, 100_001), note3(176, 22_533, 167_854), note3(177, 32, 105_001)].concat();
    project.write("notes3/n.csv", format!("ROW_ID,SUBJECT_ID,HADM_ID,CATEGORY,ISERROR,TEXT\n{notes3}").as_bytes());
    let note4 = |note: &str, subject: u32| format!("{note},{subject},2259585{},DS,\"Letter {note} home\"\n", subject % 10);
    let notes4 =
        [note4("10000032-DS-21", 10_000_032), note4("10000033-DS-1", 10_000_033), note4("10000035-DS-1", 10_000_035)].concat();
    project.write("notes4/n.csv", format!("note_id,subject_id,hadm_id,note_type,text\n{notes4}").as_bytes());
    for (subject, study) in [(10_000_032, 50_414_267), (10_000_032, 50_414_268), (10_000_040, 50_414_300)] {
        project.write(&format!("cxr/p10/p{subject}/s{study}.txt"), format!("Report {study}: clear.").as_bytes());
    }
    project.write(
        "other/n.jsonl",
        b"{\"note_id\":\"0105\",\"text\":\"a note\"}\n{\"note_id\":\"0174\",\"text\":\"another note\"}\n",
    );
    project.write("benchmarks/pqal.json", b"{\"1000001\":{\"QUESTION\":\"Why?\",\"CONTEXTS\":[\"So.\"]}}");
    project.write("benchmarks/PubmedSumm.jsonl", b"{\"article_id\":\"PMC502\",\"abstract_text\":[\"Of ropes.\"]}\n");
    project.write("benchmarks/hoc_test.tsv", b"index\tlabels\tsentence\n1000003_s0\tx\tOne line.\n");
    project.write(
        "benchmarks/mimic_sum.jsonl",
        b"{\"subject_id\":10000032,\"study_id\":\"s50414267\",\"findings\":[\"Clear .\"],\"impression\":[\"None .\"]}\n",
    );
    project.write(
        "benchmarks/mednli.jsonl",
        b"{\"pairID\":\"a-1\",\"sentence1\":\"P.\",\"sentence2\":\"H.\",\"made_from\":[\"mimic-iii/subject:9\"]}\n\
          {\"pairID\":\"a-2\",\"sentence1\":\"P.\",\"sentence2\":\"H.\",\"hadm_id\":\"167854\"}\n\
          {\"pairID\":\"a-3\",\"sentence1\":\"P.\",\"sentence2\":\"H.\",\"subject_id\":32}\n",
    );
    project.write(
        "benchmarks/emrqa.json",
        b"{\"data\":[{\"title\":\"t\",\"paragraphs\":[{\"note_id\":\"0105\",\"context\":[\"A note.\"],\"qas\":[]},\
          {\"note_id\":\"174\",\"context\":[\"A note.\"],\"qas\":[]}]}]}",
    );
    project
}

#[test]
fn names_take_documents_their_twins_and_the_notes_of_a_patient() {
    let project = named();
    project.succeed(&["--until", "dedup"]);
    check_held(
        &project,
        &[
            ("cxr:s50414267", "removed", "mimic_sum/s50414267"),
            // Another study of the same patient, and the letter of MIMIC-IV, which shares its patients.
            ("cxr:s50414268", "removed", "mimic_sum/s50414267"),
            ("notes3:175", "removed", "mednli/a-1"),
            ("notes3:176", "removed", "mednli/a-2"),
            ("notes4:10000032-DS-21", "removed", "mimic_sum/s50414267"),
            ("other:0105", "removed", "emrqa/0105"),
            ("pmc:PMC501", "removed", "pqal/1000001"),
            ("pmc:PMC502", "removed", "PubmedSumm/PMC502"),
            ("pmc:PMC503", "removed", "hoc_test/1000003_s0"),
            ("pubmed:1000001", "removed", "pqal/1000001"),
            ("pubmed:1000002", "removed", "PubmedSumm/PMC502"),
            ("pubmed:1000003", "removed", "hoc_test/1000003_s0"),
        ],
    );
    // Not taken: row 174 and patient 32 of MIMIC-III, which a number of another collection does not mean.
    let facts = facts(&project);
    let count = |set: &str, column: &str| facts["benchmarks"][set][column].as_u64().expect("a number");
    for (set, expected) in
        [("pqal", [1, 0, 1, 0, 1]), ("mednli", [3, 0, 2, 1, 2]), ("emrqa", [2, 0, 2, 0, 1]), ("mimic_sum", [1, 0, 1, 0, 1])]
    {
        let columns = ["items", "items_by_ngram", "items_by_id", "items_unchecked", "items_found_by_id"];
        assert_eq!(columns.map(|column| count(set, column)), expected, "{set}");
    }
    assert_eq!(facts["items_unchecked"].as_u64(), Some(1));
    let matrix = json!({
        "cxr": {"mimic_sum": 2}, "notes3": {"mednli": 2}, "notes4": {"mimic_sum": 1}, "other": {"emrqa": 1},
        "pmc": {"PubmedSumm": 1, "hoc_test": 1, "pqal": 1}, "pubmed": {"PubmedSumm": 1, "hoc_test": 1, "pqal": 1},
    });
    assert_eq!(facts["source_by_benchmark"], matrix);
    assert_eq!(facts["source_by_benchmark_items"]["cxr"]["mimic_sum"].as_u64(), Some(1));
    project.succeed(&[]);
    let page = std::fs::read_to_string(Path::new(&project.workdir()).join("report.html")).expect("there");
    let row = "<td>mimic_sum</td><td>–</td><td>–</td><td>–</td><td>1 (1)</td><td>2 (1)</td><td>–</td>";
    assert!(page.contains(row), "sources in the order of the recipe");
}

const SHORT: &str = "which drug is safe in pregnancy and lactation";

/// Documents that hold items whole, in part, twice, overlapping, between letters of several bytes, and nothing else.
fn texts() -> Vec<(&'static str, String, String)> {
    let question = words('q', 0..20);
    // (id, text, what `cut` takes of it)
    vec![
        ("among", format!("Début – {question} – fin ß."), question.clone()),
        ("alone", format!("«{question}.»\n"), String::new()),
        ("overlap", format!("start {} end", words('q', 0..30)), words('q', 0..30)),
        ("partial", format!("start {} end", words('q', 0..15)), String::new()),
        ("short", format!("They asked {}? Yes.", SHORT.to_uppercase()), SHORT.to_uppercase()),
        ("twice", format!("{SHORT} é {SHORT} é"), format!("{SHORT}{SHORT}")),
        ("clean", "nothing of this is asked anywhere at all".into(), String::new()),
    ]
}

fn policy(policy: &str) -> Project {
    project_of(&format!("policy = \"{policy}\""))
}

fn project_of(settings: &str) -> Project {
    let project = Project::with_recipe(&recipe(&[("s", "jsonl", "")], settings));
    let line = |(id, text, _): &(&str, String, String)| json!({"id": id, "text": text}).to_string() + "\n";
    project.write("s/texts.jsonl", texts().iter().map(line).collect::<String>().as_bytes());
    let items = [
        json!({"id": "first", "question": words('q', 0..20)}),
        json!({"id": "second", "question": words('q', 10..30), "answer": "yes"}),
        json!({"id": "eight", "question": SHORT}),
        json!({"id": "seven", "question": "which drug is safe in pregnancy now"}),
    ];
    project.write("benchmarks/set.jsonl", items.map(|item| item.to_string() + "\n").concat().as_bytes());
    project
}

/// What `set` says was removed, cut and reported: documents and bytes.
fn taken(project: &Project) -> [(u64, u64); 3] {
    let set = facts(project)["benchmarks"]["set"].clone();
    ["removed", "cut", "reported"]
        .map(|what| (set[what]["documents"].as_u64().expect("a number"), set[what]["bytes"].as_u64().expect("a number")))
}

fn bytes_of(ids: &[&str]) -> u64 {
    texts().iter().filter(|(id, _, _)| ids.contains(id)).map(|(_, text, _)| text.len() as u64).sum()
}

const LEAKS: [&str; 5] = ["alone", "among", "overlap", "short", "twice"];

#[test]
fn documents_are_dropped_with_what_they_hold() {
    let project = policy("drop");
    project.succeed(&["--until", "dedup"]);
    check_held(
        &project,
        &[
            ("s:alone", "removed", "set/first"),
            ("s:among", "removed", "set/first"),
            ("s:overlap", "removed", "set/first set/second"),
            ("s:short", "removed", "set/eight"),
            ("s:twice", "removed", "set/eight"),
        ],
    );
    assert_eq!(taken(&project), [(5, bytes_of(&LEAKS)), (0, 0), (0, 0)]);
    let dropped = project.json("manifests/dedup.json")["counts"]["dropped"].clone();
    assert_eq!((dropped["documents"].as_u64(), dropped["bytes"].as_u64()), (Some(5), Some(bytes_of(&LEAKS))));
    // Three of the eight n-grams of `first`, and of `among` the ten words that begin `second` are no n-gram.
    let partial = lines(&project)["s:partial"].clone();
    assert_eq!((&partial["contaminated"], &partial["action"]), (&json!(false), &json!("kept")));
    assert_eq!(partial["partial"], json!([{"benchmark": "set", "item": "first", "share": 0.375, "by_name": false}]));
    assert_eq!(partial["items"], json!([]));
    let facts = facts(&project);
    assert_eq!(facts["documents_partial"].as_u64(), Some(1));
    assert_eq!(facts["benchmarks"]["set"]["partial_by_tenth"], json!([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
    let set = &facts["benchmarks"]["set"];
    let columns = ["items", "items_by_ngram", "items_by_id", "items_unchecked", "items_found"].map(|column| set[column].as_u64());
    assert_eq!(columns, [Some(4), Some(3), Some(0), Some(1), Some(3)]);
}

#[test]
fn matched_ranges_are_cut_and_documents_of_nothing_else_dropped() {
    let project = policy("cut");
    project.succeed(&["--until", "dedup"]);
    let actions: Vec<String> = held(&project).into_iter().map(|(id, action, _)| format!("{id} {action}")).collect();
    assert_eq!(actions, ["s:alone removed", "s:among cut", "s:overlap cut", "s:short cut", "s:twice cut"]);
    let cut: u64 = texts().iter().map(|(_, _, cut)| cut.len() as u64).sum();
    assert_eq!(taken(&project), [(1, bytes_of(&["alone"])), (4, cut), (0, 0)]);
    let counts = project.json("manifests/dedup.json")["counts"].clone();
    assert_eq!(counts["dropped"]["documents"].as_u64(), Some(1));
    assert_eq!(counts["dropped"]["bytes"].as_u64(), Some(bytes_of(&["alone"]) + cut));
    assert_eq!(project.json("manifests/dedup.json")["facts"]["removed"]["s"], json!({"contaminated": 1, "contaminated-cut": 4}));
}

#[test]
fn a_document_known_by_name_is_dropped_whole_where_others_are_cut() {
    let project = Project::with_recipe(&recipe(&[("s", "jsonl", "fields = { id = \"pmid\" }")], "policy = \"cut\""));
    let question = words('q', 0..20);
    let line = |pmid: u32| json!({"pmid": pmid, "text": format!("before {question} after")}).to_string() + "\n";
    project.write("s/texts.jsonl", [line(1_000_001), line(1_000_002)].concat().as_bytes());
    project.write("benchmarks/set.jsonl", json!({"pmid": 1_000_001, "question": question}).to_string().as_bytes());
    project.succeed(&["--until", "dedup"]);
    check_held(&project, &[("s:1000001", "removed", "set/1000001"), ("s:1000002", "cut", "set/1000001")]);
    let named = &lines(&project)["s:1000001"]["items"][0];
    assert_eq!((&named["by_name"], &named["share"]), (&json!(true), &json!(1.0)));
    assert_eq!(facts(&project)["benchmarks"]["set"]["items_found_by_id"].as_u64(), Some(1));
}

#[test]
fn reported_documents_stay() {
    let project = policy("report");
    project.succeed(&["--until", "dedup"]);
    assert_eq!(taken(&project), [(0, 0), (0, 0), (5, bytes_of(&LEAKS))]);
    assert!(held(&project).iter().all(|(_, action, _)| action == "reported"));
    assert_eq!(project.json("manifests/dedup.json")["counts"]["dropped"]["documents"].as_u64(), Some(0));
}

#[test]
fn the_least_share_decides_what_is_a_leak() {
    for (min_share, leaks) in [("0.375", 6), ("0.376", 5), ("1.0", 5)] {
        let project = project_of(&format!("min_share = {min_share}"));
        project.succeed(&["--until", "dedup"]);
        let facts = facts(&project);
        assert_eq!(
            (facts["documents"].as_u64(), facts["documents_partial"].as_u64()),
            (Some(leaks), Some(6 - leaks)),
            "{min_share}"
        );
    }
}

#[test]
fn determinism_of_leaks_by_threads() {
    let project = policy("cut");
    let mut published = Vec::new();
    for threads in ["1", "2", "5"] {
        project.succeed(&["--threads", threads, "--until", "dedup"]);
        published.push(project.json("manifests/dedup.json")["objects"].clone());
        std::fs::remove_dir_all(project.workdir()).expect("removed");
    }
    assert!(published.windows(2).all(|pair| pair[0] == pair[1]), "{published:?}");
}

#[test]
fn what_stands_in_eleven_documents_is_boilerplate() {
    for (copies, leaks, boilerplate) in [(10, 10, 0), (11, 0, 1)] {
        let project = Project::with_recipe(&recipe(&[("s", "jsonl", "")], ""));
        let line = |i: usize| {
            json!({"id": i, "text": format!("{} {}", words('q', 0..13), words('x', i * 9..i * 9 + 9))}).to_string() + "\n"
        };
        project.write("s/texts.jsonl", (0..copies).map(line).collect::<String>().as_bytes());
        project.write("benchmarks/set.jsonl", json!({"question": words('q', 0..13)}).to_string().as_bytes());
        project.succeed(&["--until", "dedup"]);
        let facts = facts(&project);
        assert_eq!(
            (facts["documents"].as_u64(), facts["boilerplate_grams"].as_u64()),
            (Some(leaks), Some(boilerplate)),
            "{copies}"
        );
        assert_eq!(facts["benchmarks"]["set"]["items_boilerplate"].as_u64(), Some(boilerplate), "{copies}");
    }
}

#[test]
fn a_benchmark_that_cannot_be_read_ends_the_run() {
    let project = Project::with_recipe(&recipe(&[("s", "jsonl", "")], ""));
    project.write("s/texts.jsonl", b"{\"text\":\"a\"}\n");
    project.write("benchmarks/rqe.xml", b"<pair><chq>CANARY</chq></pair>");
    let ended = project.run(&["--until", "dedup"]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("rqe.xml: line 1: not JSON") && !ended.stderr.contains("CANARY"), "{}", ended.stderr);
}

/// The original form of `HoC`, and the official test split of `PubMedQA`: files named and keyed by PMID.
#[test]
fn real_hoc_and_pubmedqa_exclude_by_pmid() {
    let data = std::env::var_os("MELLAMA_SAMPLE_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    if !data.is_dir() {
        println!("not run: no sample data; see docs/sample-data.md");
        return;
    }
    let project = Project::with_recipe(&recipe(&[("pubmed", "pubmed-xml", "")], ""));
    let files = unpacked(&data.join("benchmarks/hoc/hoc.tar.gz"));
    let texts: Vec<&(String, Vec<u8>)> = files.iter().filter(|(name, _)| name.starts_with("text/")).collect();
    for (name, content) in &texts {
        project.write(&format!("benchmarks/hoc/{name}"), content);
    }
    let truth = std::fs::read(data.join("benchmarks/pubmedqa/test_ground_truth.json")).expect("there");
    project.write("benchmarks/test_ground_truth.json", &truth);
    let citations = [citation(23_201_559, ""), citation(12_377_809, ""), citation(1, "")];
    project.write("pubmed/a.xml", format!("<PubmedArticleSet>{}</PubmedArticleSet>", citations.concat()).as_bytes());
    project.succeed(&["--until", "dedup"]);
    check_held(
        &project,
        &[("pubmed:12377809", "removed", "test_ground_truth/12377809"), ("pubmed:23201559", "removed", "hoc/23201559")],
    );
    let facts = facts(&project);
    let count = |set: &str, column: &str| facts["benchmarks"][set][column].as_u64();
    assert_eq!((count("hoc", "items"), count("hoc", "items_by_id")), (Some(texts.len() as u64), Some(texts.len() as u64)));
    assert_eq!((count("test_ground_truth", "items"), count("test_ground_truth", "items_by_id")), (Some(500), Some(500)));
    assert_eq!(texts.len(), 1_852);
}

/// The plain files of a tar.gz whose names are short.
fn unpacked(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut tar = Vec::new();
    let stored = std::fs::read(path).expect("there");
    flate2::read::MultiGzDecoder::new(stored.as_slice()).read_to_end(&mut tar).expect("gzip");
    let (mut files, mut at) = (Vec::new(), 0);
    while tar.get(at).is_some_and(|byte| *byte != 0) {
        let text = |range: std::ops::Range<usize>| {
            let field = &tar[at + range.start..at + range.end];
            String::from_utf8_lossy(field).trim_matches(['\0', ' ']).to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).expect("octal");
        if matches!(tar[at + 156], b'0' | 0) {
            files.push((text(0..100), tar[at + 512..at + 512 + size].to_vec()));
        }
        at += 512 + size.next_multiple_of(512);
    }
    files
}

#[test]
fn names_of_a_removed_copy_pass_to_what_stands_for_it() {
    let dedup = "[corpus.dedup]\nmax_source_loss = 1.0\n";
    let text = recipe(&[("web", "jsonl", ""), ("pubmed", "jsonl", "fields = { id = \"pmid\" }")], "")
        .replace("[corpus.decon", &format!("{dedup}[corpus.decon"));
    let project = Project::with_recipe(&text);
    let shared = words('s', 0..60);
    let lines = |rows: &[Value]| rows.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    // The web's copy has no PMID and is preferred; the other document of the web is unlike all.
    project.write(
        "web/1.jsonl",
        lines(&[json!({"id": "page", "text": shared}), json!({"id": "other", "text": words('o', 0..60)})]).as_bytes(),
    );
    project.write(
        "pubmed/1.jsonl",
        lines(&[json!({"pmid": "7654321", "text": shared}), json!({"pmid": "7654322", "text": words('p', 0..60)})]).as_bytes(),
    );
    project.write("benchmarks/pubmedqa.json", br#"{"7654321":{"QUESTION":"Short?"},"7654322":{"QUESTION":"Short too?"}}"#);
    project.succeed(&["--until", "dedup"]);
    check_held(&project, &[("pubmed:7654322", "removed", "pubmedqa/7654322"), ("web:page", "removed", "pubmedqa/7654321")]);
    let removed = project.json("manifests/dedup.json")["facts"]["removed"].clone();
    assert_eq!(removed, json!({"pubmed": {"contaminated": 1, "exact": 1}, "web": {"contaminated": 1}}));
}

#[test]
fn a_document_is_kept_again_when_the_one_that_held_it_goes_for_a_benchmark() {
    let dedup = "[corpus.dedup]\nmax_source_loss = 1.0\n";
    let text = recipe(&[("a", "jsonl", "")], "").replace("[corpus.decon", &format!("{dedup}[corpus.decon"));
    let project = Project::with_recipe(&text);
    let (clean, question) = (words('t', 0..400), words('q', 0..20));
    let rows = [json!({"id": "clean", "text": clean}), json!({"id": "leaky", "text": format!("{clean} {question}")})];
    project.write("a/1.jsonl", rows.map(|row| row.to_string()).join("\n").as_bytes());
    project.write("benchmarks/set.jsonl", json!({"id": "q1", "question": question}).to_string().as_bytes());
    project.succeed(&["--until", "dedup"]);
    check_held(&project, &[("a:leaky", "removed", "set/q1")]);
    let facts = project.json("manifests/dedup.json")["facts"].clone();
    assert_eq!(facts["removed"], json!({"a": {"contaminated": 1}}));
    assert_eq!((&facts["duplicates"]["restored"], &facts["duplicates"]["rules"]), (&json!(1), &json!({})));
    assert_eq!(project.json("manifests/dedup.json")["counts"]["written"]["documents"], 1);
}
