//! Deduplication through the command line: tasks in any order and in many processes, a release before this one, the alarm,
//! links between records, and a corpus that is one document a thousand times.

use std::path::Path;

use serde_json::{Value, json};

use crate::project::{Ended, Project, run, succeed};

/// Xorshift, so that texts are the same on every machine.
struct Generator(u64);

impl Generator {
    fn named(name: &str) -> Generator {
        Generator(
            name.bytes().fold(0x9E37_79B9_7F4A_7C15, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)) | 1,
        )
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Words that no two texts share by chance.
fn prose(generator: &mut Generator, words: u64) -> String {
    (0..words).map(|_| format!("w{}", generator.below(20_000))).collect::<Vec<_>>().join(" ")
}

/// JSON lines with the given ids and texts.
fn lines(rows: &[(String, String)]) -> Vec<u8> {
    let line = |(id, text): &(String, String)| json!({"id": id, "text": text}).to_string() + "\n";
    rows.iter().map(line).collect::<String>().into_bytes()
}

/// 60 texts of 80 to 140 words with a copy of each kind for some of them: equal but for blanks, in capitals, cut at its end.
fn corpus(seed: &str) -> Vec<(String, String)> {
    let mut generator = Generator::named(seed);
    let mut rows: Vec<(String, String)> = Vec::new();
    for i in 0..60 {
        let words = 80 + generator.below(60);
        rows.push((format!("{seed}-{i:02}"), prose(&mut generator, words)));
    }
    for i in 0..12 {
        let text = &rows[i].1;
        let copy = match i % 3 {
            0 => text.replace(' ', "\n"),
            1 => text.to_uppercase(),
            _ => text[..text.rfind(' ').expect("words")].to_owned(),
        };
        rows.push((format!("{seed}-copy-{i:02}"), copy));
    }
    rows
}

const RECIPE: &str = r#"
name = "dedup"
seed = 1
workdir = "out"
[[corpus.source]]
name = "first"
format = "jsonl"
inputs = ["first/*.jsonl"]
domain = "general"
[[corpus.source]]
name = "second"
format = "jsonl"
inputs = ["second/*.jsonl"]
domain = "general"
[corpus.dedup]
max_source_loss = 0.9
"#;

/// Two sources that share texts.
fn project(recipe: &str) -> Project {
    let project = Project::with_recipe(recipe);
    let (first, second) = (corpus("a"), corpus("b"));
    project.write("first/1.jsonl", &lines(&first[..40]));
    project.write("first/2.jsonl", &lines(&first[40..]));
    let shared: Vec<(String, String)> = first[20..30].iter().map(|(id, text)| (format!("b-{id}"), text.clone())).collect();
    project.write("second/1.jsonl", &lines(&[second, shared].concat()));
    project
}

/// A row of `decisions/`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    dropped: String,
    kept: String,
    rule: String,
    release: String,
}

fn decisions(project: &Project) -> Vec<Decision> {
    let folder = Path::new(&project.workdir()).join("decisions");
    let object = std::fs::read_dir(folder).expect("decisions").next().expect("one object").expect("readable").path();
    let shown = succeed(&["inspect", &object.display().to_string(), "--rows", "100000"]);
    let cell = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name} \"")).unwrap_or_else(|| panic!("no {name} in {line}"));
        rest.split('"').next().expect("a value").to_owned()
    };
    let row = |line: &str| Decision {
        dropped: cell(line, "dropped_id"),
        kept: cell(line, "kept_id"),
        rule: cell(line, "rule"),
        release: cell(line, "kept_release"),
    };
    shown.stdout.lines().filter(|line| line.contains("dropped_id")).map(row).collect()
}

/// Digests of what `dedup` published.
fn published(project: &Project) -> Value {
    project.json("manifests/dedup.json")["objects"].clone()
}

fn task(project: &Project, task: u64) -> Ended {
    let (recipe, workdir) = (project.recipe(), project.workdir());
    run(&["stage", "dedup", &recipe, "--workdir", &workdir, "--task", &task.to_string(), "--threads", "1", "--memory", "64MiB"])
}

#[test]
fn determinism_dedup_over_eight_processes() {
    let project = project(RECIPE);
    project.succeed(&["--until", "dedup"]);
    let (expected, rows) = (published(&project), decisions(&project));
    assert!(rows.len() > 30, "{}", rows.len());
    let again = || {
        std::fs::remove_dir_all(project.workdir()).expect("removed");
        project.succeed(&["--until", "ingest"]);
    };
    again();
    let plan = succeed(&["plan", &project.recipe(), "--workdir", &project.workdir(), "--json"]).json();
    let dedup = plan["stages"].as_array().expect("stages").iter().find(|stage| stage["stage"] == "dedup").expect("dedup").clone();
    let waves: Vec<(u64, u64)> = serde_json::from_value(dedup["waves"].clone()).expect("waves");
    assert_eq!((waves.len(), waves[1].1 - waves[1].0, Some(waves[4].1)), (5, 14, dedup["tasks"].as_u64()));
    // The waves one after the other, eight processes at a time.
    for (first, end) in &waves {
        for tasks in (*first..*end).collect::<Vec<_>>().chunks(8) {
            let codes: Vec<i32> = std::thread::scope(|scope| {
                let running: Vec<_> = tasks.iter().map(|number| scope.spawn(|| task(&project, *number).code)).collect();
                running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert_eq!(codes, vec![0; tasks.len()], "tasks {tasks:?}");
        }
    }
    assert_eq!(published(&project), expected);
    // All at once, whatever they wait for: the same objects; a task that another one did first is told so.
    again();
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..waves[4].1)
            .rev()
            .map(|number| {
                scope.spawn({
                    let project = &project;
                    move || task(project, number).code
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(codes.iter().all(|code| [0, 99].contains(code)), "{codes:?}");
    assert_eq!(published(&project), expected);
}

#[test]
fn a_later_run_is_deduplicated_against_an_earlier_one() {
    let earlier = project(&RECIPE.replace("\"dedup\"", "\"release-1\""));
    earlier.succeed(&["--until", "dedup"]);
    let old = decisions(&earlier);
    let against = format!("{RECIPE}against = [\"{}\"]\n", earlier.workdir());
    let later = Project::with_recipe(&against);
    let (first, fresh) = (corpus("a"), corpus("c"));
    let mut rows = fresh;
    rows.push(("again".into(), first[0].1.clone()));
    rows.push(("again-in-capitals".into(), first[3].1.to_uppercase()));
    rows.push(("longer".into(), format!("{} and more", first[7].1)));
    // What the earlier run removed is found through what stands for it there.
    rows.push(("again-removed".into(), first[61].1.clone()));
    later.write("first/1.jsonl", &lines(&rows));
    later.write("second/1.jsonl", &lines(&corpus("d")));
    later.succeed(&["--until", "dedup"]);
    let found = decisions(&later);
    let of = |id: &str| found.iter().find(|row| row.dropped == format!("first:{id}"));
    let kept = |id: &str| of(id).map(|row| (row.rule.as_str(), row.kept.as_str()));
    let survivor = |id: &str| old.iter().find(|row| row.dropped == id).map_or(id.to_owned(), |row| row.kept.clone());
    assert_eq!(kept("again"), Some(("exact", survivor("first:a-00").as_str())));
    assert_eq!(kept("again-in-capitals").map(|kept| kept.1.to_owned()), Some(survivor("first:a-03")));
    assert_eq!(kept("longer"), None, "an older document is never removed, and does not hold the longer one");
    assert_eq!(kept("again-removed").map(|kept| kept.1.to_owned()), Some(survivor("first:a-copy-01")));
    assert_eq!(of("again").expect("a row").release, earlier.workdir());
    assert!(found.iter().all(|row| !row.dropped.starts_with("first:a-")), "the release is untouched");
    // What is new among itself goes as ever.
    assert!(found.iter().any(|row| row.release.is_empty() && row.rule == "exact"));

    let refused = |recipe: &str, said: &str| {
        let project = Project::with_recipe(recipe);
        project.write("first/1.jsonl", b"{\"id\":\"1\",\"text\":\"one\"}\n");
        project.write("second/1.jsonl", b"{\"id\":\"1\",\"text\":\"two\"}\n");
        let ended = project.run(&["--until", "dedup"]);
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{said:?} is not in {}", ended.stderr);
    };
    refused(
        &against.replace("max_source_loss", "bands = 9\nmax_source_loss"),
        "bands: its signatures were made with 14, expected 9",
    );
    refused(&against.replace(&earlier.workdir(), "/no/such/folder"), "corpus.dedup.against: /no/such/folder");
    refused(&against.replace(&earlier.workdir(), &earlier.folder().display().to_string()), "corpus.dedup.against");
}

#[test]
fn a_source_over_its_limit_stops_before_anything_is_published() {
    let project = project(&RECIPE.replace("max_source_loss = 0.9", "max_source_loss = 0.01"));
    let ended = project.run(&[]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    for part in ["verified removals take 0.", "max_source_loss is 0.01", "documents, 1 removed", "templated"] {
        assert!(ended.stderr.contains(part), "{part:?} is not in {}", ended.stderr);
    }
    assert_eq!(
        ended.stderr.matches(" removed, ").count(),
        16,
        "the largest clusters, one for each of the 16 near-copies: {}",
        ended.stderr
    );
    let workdir = project.workdir();
    assert!(!Path::new(&workdir).join("decisions").exists() && !Path::new(&workdir).join("manifests/dedup.json").exists());
    // Templated sources lose exact copies only, which never count.
    let templated = RECIPE
        .replace("max_source_loss = 0.9", "max_source_loss = 0.0")
        .replace("domain = \"general\"", "domain = \"general\"\ntemplated = true");
    let project = self::project(&templated);
    project.succeed(&["--until", "dedup"]);
    assert!(decisions(&project).iter().all(|row| row.rule == "exact"));
}

#[test]
fn one_document_many_times_leaves_one() {
    let project = Project::with_recipe(RECIPE);
    let mut generator = Generator::named("one");
    let text = prose(&mut generator, 300);
    let rows: Vec<(String, String)> = (0..3000).map(|i| (format!("{i:04}"), text.clone())).collect();
    let marked: Vec<(String, String)> = (0..3000).map(|i| (format!("{i:04}"), format!("{text} case {i}"))).collect();
    project.write("first/1.jsonl", &lines(&rows));
    project.write("second/1.jsonl", &lines(&marked));
    project.succeed(&["--until", "dedup", "--memory", "64MiB"]);
    let found = decisions(&project);
    // The marked ones differ in a number each; the plain one is held by the first of them in order.
    assert_eq!(found.iter().filter(|row| row.rule == "exact").count(), 2999);
    assert_eq!(found.len(), 2999, "a number is never lost, and the source of the smaller rank is not held by a longer text");
    let facts = &project.json("manifests/dedup.json")["facts"]["duplicates"];
    assert_eq!(facts["clusters"]["largest"][0]["documents"], 3001);
    assert!(facts["comparisons"].as_u64().expect("a count") <= 2 * 3001, "{facts}");
}

#[test]
fn a_scratch_folder_that_fills_up_is_told_and_nothing_is_lost() {
    let project = project(RECIPE);
    project.succeed(&["--until", "ingest"]);
    // A file of at most 1 KiB may be written: the spill files of a small budget cannot.
    let rows: Vec<(String, String)> = (0..20_000).map(|i| (format!("{i}"), format!("word{i} of its own"))).collect();
    project.write("second/1.jsonl", &lines(&rows));
    std::fs::remove_dir_all(project.workdir()).expect("removed");
    project.succeed(&["--until", "ingest"]);
    let (recipe, workdir) = (project.recipe(), project.workdir());
    let program = env!("CARGO_BIN_EXE_mellama");
    let limited = format!(
        "trap '' XFSZ; ulimit -f 64; exec '{program}' stage dedup '{recipe}' --workdir '{workdir}' --task 0 --threads 1 --memory 1MiB"
    );
    let ended = std::process::Command::new("bash").args(["-c", &limited]).output().expect("bash runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(4), "{said}");
    assert!(said.contains("scratch folder") && said.contains("--scratch"), "{said}");
    project.succeed(&["--until", "dedup"]);
}

const LITERATURE: &str = r#"
name = "literature"
seed = 1
workdir = "out"
[[corpus.source]]
name = "pubmed"
format = "pubmed-xml"
inputs = ["pubmed.xml"]
domain = "biomedical"
[[corpus.source]]
name = "pmc"
format = "jats"
inputs = ["pmc/*.xml"]
domain = "biomedical"
[corpus.dedup]
max_source_loss = 0.9
"#;

fn citation(pmid: u64, summary: &[(&str, &str)]) -> String {
    let part = |(label, text): &(&str, &str)| format!("<AbstractText Label=\"{label}\">{text}</AbstractText>");
    format!(
        "<PubmedArticle><MedlineCitation><PMID Version=\"1\">{pmid}</PMID><Article><ArticleTitle>Study {pmid}.</ArticleTitle>\
         <Abstract>{}</Abstract></Article></MedlineCitation></PubmedArticle>",
        summary.iter().map(part).collect::<String>()
    )
}

fn article(pmid: u64, summary: &[(&str, &str)], body: &str) -> String {
    let part = |(label, text): &(&str, &str)| format!("<sec><title>{label}</title><p>{text}</p></sec>");
    format!(
        "<article><front><article-meta><article-id pub-id-type=\"pmid\">{pmid}</article-id>\
         <article-id pub-id-type=\"pmc\">PMC{pmid}</article-id><title-group><article-title>Study {pmid}</article-title></title-group>\
         <abstract>{}</abstract></article-meta></front><body><sec><title>Introduction</title><p>{body}</p></sec></body></article>",
        summary.iter().map(part).collect::<String>()
    )
}

#[test]
fn an_abstract_gives_way_to_the_full_text_that_holds_it() {
    let project = Project::with_recipe(LITERATURE);
    let mut generator = Generator::named("literature");
    let texts: Vec<String> = (0..8).map(|_| prose(&mut generator, 60)).collect();
    let body = prose(&mut generator, 400);
    let summary = |i: usize| [("Background", texts[i].as_str()), ("Results", texts[i + 1].as_str())];
    // 1 is carried, 2 says a word more than its article, 3 has no article.
    let longer = format!("{} indeed", texts[2]);
    let citations = [
        citation(1, &summary(0)),
        citation(2, &[("Background", longer.as_str()), ("Results", texts[3].as_str())]),
        citation(3, &summary(4)),
    ];
    let set = format!("<?xml version=\"1.0\"?><PubmedArticleSet>{}</PubmedArticleSet>", citations.concat());
    project.write("pubmed.xml", set.as_bytes());
    project.write("pmc/1.xml", article(1, &summary(0), &body).as_bytes());
    project.write("pmc/2.xml", article(2, &summary(2), &prose(&mut generator, 400)).as_bytes());
    project.succeed(&["--until", "dedup"]);
    let found = decisions(&project);
    assert_eq!(found.len(), 1, "{found:?}");
    let row = (found[0].dropped.as_str(), found[0].kept.as_str(), found[0].rule.as_str());
    assert_eq!(row, ("pubmed:1", "pmc:PMC1", "full-text"));
}

#[test]
fn a_document_of_fifty_megabytes_is_compared_within_the_memory() {
    let project = Project::with_recipe(&RECIPE.replace("max_source_loss = 0.9", "max_source_loss = 1.0"));
    let mut generator = Generator::named("long");
    // Cheap words: it is the length that counts.
    let words: Vec<String> = (0..10_600_000).map(|_| format!("{:x}", generator.below(0xffff))).collect();
    let text = words.join(" ");
    drop(words);
    assert!(text.len() > 50_000_000);
    project.write("first/1.jsonl", &lines(&[("long".into(), text.clone()), ("blank".into(), "-".into())]));
    project.write(
        "second/1.jsonl",
        &lines(&[("capitals".into(), text.to_uppercase()), ("word".into(), "word".into()), ("again".into(), "Word".into())]),
    );
    project.succeed(&["--until", "dedup", "--memory", "256MiB"]);
    let found = decisions(&project);
    let rows: Vec<(&str, &str)> = found.iter().map(|row| (row.dropped.as_str(), row.kept.as_str())).collect();
    assert!(rows.contains(&("second:capitals", "first:long")), "{rows:?}");
    assert_eq!(rows.len(), 2, "one of the two words stands for the other: {rows:?}");
}
