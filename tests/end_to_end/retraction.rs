//! Documents out of published shards: what is left, what comes in their place, and that nothing else changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::project::{Ended, Project, mellama, root, run, succeed};

mod figures;
mod interruption;
mod keys;
mod supply;

/// The quickstart with all its shards and no training, made once; each test works on a copy.
fn quickstart() -> Project {
    static MADE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, out) = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("out");
        let quick = Project::quick();
        let path = folder.path().join("recipe.toml");
        std::fs::copy(quick.recipe(), &path).expect("copied");
        let (recipe, workdir) = (path.display().to_string(), out.display().to_string());
        succeed(&["run", &recipe, "--workdir", &workdir, "--until", "instruct-data"]);
        (folder, out)
    });
    let project = Project::quick();
    copy(out, Path::new(&project.workdir()));
    project
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("readable") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

/// Every file of the work folder with the digest of its bytes; of retractions without the attempt and the seal.
fn files(project: &Project) -> BTreeMap<String, String> {
    fn below(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("an entry").path();
            let key = path.strip_prefix(root).expect("below").display().to_string();
            if path.is_dir() {
                if key != ".mellama-tmp" {
                    below(root, &path, found);
                }
            } else {
                let mut bytes = std::fs::read(&path).expect("readable");
                if key.starts_with("retractions/") {
                    let mut record: Value = serde_json::from_slice(&bytes).expect("JSON");
                    let members = record.as_object_mut().expect("an object");
                    assert!(members.remove("attempt").is_some() && members.remove("seal").is_some());
                    bytes = record.to_string().into_bytes();
                }
                found.insert(key, blake3::hash(&bytes).to_hex().to_string());
            }
        }
    }
    let root = PathBuf::from(project.workdir());
    let mut found = BTreeMap::new();
    below(&root, &root, &mut found);
    found
}

/// A recipe over JSON lines of two sources of one domain, everything used once, and what else a case needs.
fn small(sources: &[(&str, &str)], more: &str) -> String {
    let source = |(name, more): &(&str, &str)| {
        format!(
            "[[corpus.source]]\nname = \"{name}\"\nformat = \"jsonl\"\ninputs = [\"data/{name}.jsonl\"]\ndomain = \"general\"\n{more}\n"
        )
    };
    let tokenizer = root().join("tests/fixtures/tokenizer/tokenizer.json").display().to_string();
    format!(
        "name = \"small\"\nworkdir = \"out\"\n{}[corpus.tokenizer]\npath = {tokenizer:?}\n{more}",
        sources.iter().map(source).collect::<String>()
    )
}

fn line(name: &str, number: u64) -> String {
    let text = format!(
        "Entry {number} of the {name} paper: on day {} the kettle sang {} times and bed {} stayed warm until noon.",
        number * 3,
        number * 7 + 1,
        number + 2
    );
    format!("{{\"id\":\"{name}{number}\",\"text\":\"{text}\"}}\n")
}

fn small_project(recipe: &str, sources: &[(&str, u64)]) -> Project {
    let project = Project::with_recipe(recipe);
    for (name, count) in sources {
        project.write(&format!("data/{name}.jsonl"), (0..*count).map(|n| line(name, n)).collect::<String>().as_bytes());
    }
    project
}

const PACK: &str = "[corpus.pack]\nsequence_length = 64\nheldout = 0.0\nshard_sequences = 8\n";

fn retract(project: &Project, more: &[&str]) -> Ended {
    let workdir = project.workdir();
    run(&[&["retract", workdir.as_str(), "--json"], more].concat())
}

fn retracted(project: &Project, more: &[&str]) -> Value {
    let ended = retract(project, more);
    assert_eq!(ended.code, 0, "{more:?}: {}{}", ended.stdout, ended.stderr);
    ended.json()
}

fn trace(project: &Project, id: &str) -> Value {
    succeed(&["inspect", &project.workdir(), "--id", id, "--json"]).json()
}

/// Sequences and tokens of a part of the shards by domain, from the shards themselves.
fn totals(project: &Project, part: &str) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for (key, _) in files(project).range(part.to_owned()..).take_while(|(key, _)| key.starts_with(part)) {
        let path = Path::new(&project.workdir()).join(key).display().to_string();
        let shown = succeed(&["inspect", &path, "--rows", "0"]).stdout;
        let number = |before: &str| -> u64 {
            let words: Vec<&str> = shown.lines().next().expect("a line").split(' ').collect();
            let at = words.windows(2).position(|pair| pair[1].trim_end_matches(',') == before).expect("there");
            words[at].parse().expect("a number")
        };
        *totals.entry("sequences".to_owned()).or_default() += number("sequences");
        *totals.entry("padding".to_owned()).or_default() += number("padding");
        let by_source = shown.lines().find_map(|line| line.strip_prefix("tokens by source: ")).expect("a line");
        for (source, tokens) in by_source.split(", ").filter_map(|part| part.split_once(' ')) {
            let domain = match source {
                "pmc" | "pubmed" => "biomedical",
                "mimic-iii" | "mimic-iv" => "clinical",
                other => other,
            };
            *totals.entry(domain.to_owned()).or_default() += tokens.parse::<u64>().expect("a number");
        }
    }
    totals
}

fn verify(project: &Project) {
    let found = succeed(&["verify", &project.workdir(), "--json"]).json();
    assert_eq!(found["unnamed"].as_array().map(Vec::len), Some(0), "{found}");
}

/// Ids of the documents in some training sequences of every shard, by source.
fn placed(project: &Project, prefix: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, _) in files(project).range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix)) {
        let path = Path::new(&project.workdir()).join(key).display().to_string();
        for line in succeed(&["inspect", &path, "--rows", "512"]).stdout.lines().filter(|line| line.contains(" document ")) {
            let id = line.split(" document ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id");
            let source = id.split_once(':').map_or("?", |(source, _)| source);
            found.entry(source.to_owned()).or_default().insert(id.to_owned());
        }
    }
    found
}

fn first(project: &Project, source: &str) -> String {
    placed(project, "shards/cpt/train-")[source].first().expect("one").clone()
}

/// The native id of a document id.
fn native(id: &str) -> &str {
    id.split_once(':').expect("an id").1
}

/// Retracts what `arguments` say and checks that nothing changes but the shards that held it.
fn check(project: &Project, arguments: &[&str], gone: &[String]) -> Value {
    let (before, totals_before) = (files(project), totals(project, "shards/cpt/train-"));
    let holders: BTreeSet<String> = gone
        .iter()
        .flat_map(|id| trace(project, id)["documents"].as_array().expect("documents").clone())
        .flat_map(|document| document["placements"].as_array().expect("placements").clone())
        .map(|placed| placed["shard"].as_str().expect("a shard").to_owned())
        .collect();
    assert!(!holders.is_empty(), "{gone:?} are in no shard");
    let outcome = retracted(project, arguments);
    let after = files(project);
    let removed: BTreeSet<String> = before.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
    assert_eq!(removed, holders, "the shards that held it, and no others, are replaced");
    let stays = |key: &String| !removed.contains(key) && key != "README.md" && key != "report.html";
    assert!(before.iter().all(|(key, digest)| !stays(key) || after[key] == *digest), "all else keeps its bytes");
    assert_ne!(before.get("README.md"), after.get("README.md"), "the card says what is in the shards now");
    let new: Vec<&String> = after.keys().filter(|key| !before.contains_key(*key)).collect();
    assert!(new.iter().all(|key| key.starts_with("shards/") || key.starts_with("retractions/")), "{new:?}");
    assert_eq!(new.len(), holders.len() + 1, "a shard for each, and the record: {new:?}");
    assert_eq!(totals(project, "shards/cpt/train-"), totals_before, "sequences, padding and tokens of every domain");
    for id in gone {
        for document in trace(project, id)["documents"].as_array().expect("documents") {
            assert_eq!(document["placements"].as_array().map(Vec::len), Some(0), "{id}: {document}");
            assert_eq!(document["retracted"].as_str(), outcome["record"].as_str(), "{id}");
        }
    }
    verify(project);
    outcome
}

#[test]
fn a_work_folder_of_another_recipe_is_refused_by_every_command_that_is_given_a_recipe() {
    let project = quickstart();
    let before = files(&project);
    let recipe = std::fs::read_to_string(project.recipe()).expect("written before");
    let other = Project::with_recipe(&recipe.replace("seed = 42", "seed = 43"));
    assert_ne!(std::fs::read_to_string(other.recipe()).expect("written before"), recipe);
    let (recipe, workdir) = (other.recipe(), project.workdir());
    for (command, more) in [("retract", vec!["--id", "pmid:90000001"]), ("gc", vec![]), ("verify", vec![]), ("status", vec![])] {
        let ended = run(&[&[command, &recipe, "--workdir", &workdir], more.as_slice()].concat());
        assert!(ended.code == 2 && ended.stderr.contains("belongs to a run of another recipe ("), "{command}: {ended:?}");
        assert!(ended.stderr.contains("seed differs"), "{}", ended.stderr);
    }
    assert_eq!(files(&project), before);
    succeed(&["status", &project.recipe(), "--workdir", &workdir]);
    succeed(&["status", &workdir]);
}

#[test]
fn a_retraction_by_any_name_keeps_the_quotas_and_every_other_shard() {
    let project = quickstart();
    let (pubmed, pmc) = (first(&project, "pubmed"), first(&project, "pmc"));
    let (note, general) = (first(&project, "mimic-iv"), first(&project, "general"));
    let names = [
        format!("pmid:{}", native(&pubmed)),
        format!("pmcid:{}", native(&pmc)),
        format!("note:{}", native(&note)),
        general.clone(),
    ];
    for name in &names {
        let outcome = check(&project, &["--id", name], std::slice::from_ref(name));
        let train = &outcome["parts"]["train"];
        assert!(train["tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{name}: {outcome}");
        assert_eq!(train["tokens"], train["refilled"], "{name}");
        assert_eq!(train["short"].as_u64(), Some(0), "{name}");
        assert!(outcome["sources"].as_object().is_some_and(|sources| !sources.is_empty()), "{outcome}");
    }
    let records = project.json("retractions/00003.json");
    assert_eq!(records["number"].as_u64(), Some(3));
    assert_eq!(records["facts"]["asked"][0].as_str(), Some(general.as_str()));
    // The run is content, brings nothing back, and the folder says what happened.
    let before = files(&project);
    project.succeed(&["--until", "instruct-data"]);
    assert_eq!(files(&project), before);
    let status = succeed(&["status", &project.workdir()]).stdout;
    assert!(status.contains("retractions/00003.json: 1 document, "), "{status}");
}

#[test]
fn a_list_takes_several_at_once_and_a_second_time_nothing_more() {
    let project = quickstart();
    let pubmed: Vec<String> = placed(&project, "shards/cpt/train-")["pubmed"].iter().take(5).cloned().collect();
    project.write("ids.txt", format!("# journal of invented trials\n{}\npubmed:none\npmid:1\n", pubmed.join("\n")).as_bytes());
    let list = project.folder().join("ids.txt").display().to_string();
    let outcome = check(&project, &["--from", &list], &pubmed);
    assert_eq!(outcome["unknown"], serde_json::json!(["pmid:1", "pubmed:none"]));
    assert_eq!(outcome["documents"].as_array().map(Vec::len), Some(5));
    let before = files(&project);
    let again = retracted(&project, &["--from", &list]);
    assert!(again["record"].is_null());
    assert_eq!(again["already"].as_array().map(Vec::len), Some(5));
    let text = succeed(&["retract", &project.workdir(), "--id", &pubmed[0]]).stdout;
    assert!(text.contains("retracted already") && text.contains("nothing was rewritten"), "{text}");
    assert_eq!(files(&project), before);
}

#[test]
fn marks_of_a_pubmed_update_file_name_what_goes() {
    let project = quickstart();
    let ids: Vec<String> = placed(&project, "shards/cpt/train-")["pubmed"].iter().take(3).cloned().collect();
    let head = |pmid: &str| {
        format!("<PubmedArticle><MedlineCitation><PMID Version=\"1\">{pmid}</PMID><Article><ArticleTitle>T</ArticleTitle>")
    };
    let link = |kind: &str, pmid: &str| {
        format!(
            "</Article><CommentsCorrectionsList><CommentsCorrections RefType=\"{kind}\"><RefSource>x</RefSource>\
             <PMID Version=\"1\">{pmid}</PMID></CommentsCorrections></CommentsCorrectionsList></MedlineCitation></PubmedArticle>"
        )
    };
    let kind = "<PublicationTypeList><PublicationType UI=\"D016441\">Retracted Publication</PublicationType>\
                </PublicationTypeList></Article></MedlineCitation></PubmedArticle>";
    let text = format!(
        "<?xml version=\"1.0\"?><PubmedArticleSet>{}{kind}{}{}<DeleteCitation><PMID Version=\"1\">{}</PMID><PMID>77</PMID>\
         </DeleteCitation></PubmedArticleSet>",
        head(native(&ids[0])),
        head("88"),
        link("RetractionOf", native(&ids[1])),
        native(&ids[2]),
    );
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).expect("packed");
    project.write("pubmed26n9999.xml.gz", &packed.finish().expect("packed"));
    let file = project.folder().join("pubmed26n9999.xml.gz").display().to_string();
    let outcome = check(&project, &["--from", &file], &ids);
    assert_eq!(outcome["marks"], serde_json::json!({"retracted": 2, "deleted": 2, "rejected": 0, "places": []}));
    assert_eq!(outcome["unknown"], serde_json::json!(["pmid:77"]));
    let again = succeed(&["retract", &project.workdir(), "--from", &file]).stdout;
    assert!(again.contains("marks of PubMed: 2 retracted, 2 deleted; 3 of the ids are in the corpus"), "{again}");
}

#[test]
fn determinism_of_a_retraction_whatever_the_threads_the_listing_and_the_copy() {
    let (one, other) = (quickstart(), quickstart());
    let ids = placed(&one, "shards/cpt/train-");
    let chosen: Vec<&String> = ids.values().flat_map(|of_source| of_source.iter().take(6)).collect();
    let arguments = |ids: Vec<&String>, threads: &'static str| -> Vec<String> {
        let ids = ids.into_iter().flat_map(|id| ["--id".to_owned(), id.clone()]);
        ids.chain(["--threads".to_owned(), threads.to_owned()]).collect()
    };
    let forward = arguments(chosen.clone(), "1");
    let backward = arguments(chosen.into_iter().rev().collect(), "4");
    retracted(&one, &forward.iter().map(String::as_str).collect::<Vec<_>>());
    retracted(&other, &backward.iter().map(String::as_str).collect::<Vec<_>>());
    let changed: Vec<_> = files(&one).into_iter().filter(|(key, digest)| files(&other).get(key) != Some(digest)).collect();
    assert!(changed.is_empty(), "{changed:?}");
    // What comes in their place goes on where the first retraction ended.
    let next = first(&one, "pubmed");
    for project in [&one, &other] {
        check(project, &["--id", &next], std::slice::from_ref(&next));
    }
    assert_eq!(files(&one), files(&other));
}

#[test]
fn what_cannot_be_retracted_is_refused_and_nothing_changes() {
    let project = quickstart();
    let before = files(&project);
    let id = first(&project, "pubmed");
    for (arguments, code, said) in [
        (vec!["--id", "pmid:1"], 2, "in no document of pmc, pubmed, mimic-iii, mimic-iv, general, instructions"),
        (vec!["--id", id.as_str(), "--id", "pubmed:nothing"], 2, "pubmed:nothing"),
        (vec!["--id", "12345"], 2, "not an id"),
        (vec![], 2, "nothing to retract"),
        (vec!["--from", "/nowhere/list.txt"], 2, "cannot be read"),
    ] {
        let ended = retract(&project, &arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.stderr);
        assert_eq!(files(&project), before, "{arguments:?}");
    }
    let ended = run(&["inspect", &project.workdir(), "--id", "pmid:1"]);
    assert_eq!(ended.code, 2, "{}", ended.stdout);
    // An update file that was cut: what it marks is not known.
    let citations = "<PubmedArticle><MedlineCitation><PMID Version=\"1\">1</PMID></MedlineCitation></PubmedArticle>".repeat(99);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    write!(
        packed,
        "<PubmedArticleSet><DeleteCitation><PMID>{}</PMID></DeleteCitation>{citations}</PubmedArticleSet>",
        native(&id)
    )
    .expect("packed");
    let packed = packed.finish().expect("packed");
    project.write("pubmed26n9998.xml.gz", &packed[..packed.len() - 10]);
    let ended = retract(&project, &["--from", &project.folder().join("pubmed26n9998.xml.gz").display().to_string()]);
    assert_eq!(ended.code, 3, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("pubmed26n9998.xml.gz") && ended.stderr.contains("ends early"), "{}", ended.stderr);
    assert_eq!(files(&project), before);
    // A damaged shard that holds it: exit 5, and what is there stays.
    let shard = trace(&project, &id)["documents"][0]["placements"][0]["shard"].as_str().expect("a shard").to_owned();
    let path = Path::new(&project.workdir()).join(shard);
    let sound = std::fs::read(&path).expect("readable");
    let mut damaged = sound.clone();
    damaged[1000] ^= 4;
    std::fs::write(&path, &damaged).expect("written");
    let with_damage = files(&project);
    let ended = retract(&project, &["--id", &id]);
    assert_eq!(ended.code, 5, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(files(&project), with_damage);
    // And so with one that is gone.
    std::fs::remove_file(&path).expect("removed");
    let ended = retract(&project, &["--id", &id]);
    assert_eq!(ended.code, 5, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("mellama verify"), "{}", ended.stderr);
    std::fs::write(&path, &sound).expect("written");
    check(&project, &["--id", &id], std::slice::from_ref(&id));
    let early = small_project(&small(&[("a", "")], PACK), &[("a", 9)]);
    early.succeed(&["--until", "tokenize"]);
    let ended = retract(&early, &["--id", "a:a1"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("stage publish is not finished"), "{}", ended.stderr);
    assert_eq!(trace(&early, "a:a1")["documents"][0]["runs"]["row"].as_u64(), Some(1));
}

#[test]
fn an_id_leads_to_every_place_and_back() {
    let project = quickstart();
    let id = first(&project, "pubmed");
    let pmid = format!("pmid:{}", native(&id));
    let traced = trace(&project, &pmid)["documents"].clone();
    let document =
        traced.as_array().and_then(|all| all.iter().find(|document| document["id"] == id.as_str())).expect("there").clone();
    let key = document["key"].as_str().expect("a key");
    let mut tokens: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for placed in document["placements"].as_array().expect("placements") {
        let number = |value: &Value| value.as_u64().expect("a number");
        let shard = Path::new(&project.workdir()).join(placed["shard"].as_str().expect("a shard")).display().to_string();
        let row = number(&placed["sequence"]).to_string();
        let shown = succeed(&["inspect", &shard, "--from", &row, "--rows", "1"]).stdout;
        let wanted = format!("document {id} {key} from token {} epoch {}", placed["tokens"][0], placed["epoch"]);
        assert!(shown.contains(&wanted), "{wanted} is not in {shown}");
        tokens.entry(number(&placed["epoch"])).or_default().push((number(&placed["tokens"][0]), number(&placed["tokens"][1])));
    }
    let runs = &document["runs"];
    for pieces in tokens.values_mut() {
        pieces.sort_unstable();
        let end = pieces.iter().try_fold(0, |end, (from, to)| (*from == end).then_some(*to));
        assert!(end.is_some_and(|end| Some(end) <= runs["tokens"].as_u64()), "{pieces:?} of {runs}");
    }
    let table = Path::new(&project.workdir()).join(document["object"].as_str().expect("an object")).display().to_string();
    let row = document["row"].as_u64().expect("a row").to_string();
    assert!(succeed(&["inspect", &table, "--from", &row, "--rows", "1"]).stdout.contains(&id));
    // A revised citation shares its id with the record that stands in its place, and none of its tokens.
    let mut removed = 0;
    for index in 1..80 {
        let told = trace(&project, &format!("pmid:{}", 90_000_000 + index));
        for gone in told["documents"].as_array().expect("documents").iter().filter(|one| one["removal"]["is_whole"] == true) {
            assert!(gone["runs"].is_null() && gone["placements"] == serde_json::json!([]), "{gone}");
            removed += 1;
        }
    }
    assert!(removed > 0, "the fixtures hold removed records");
    // What became of others: a copy, a leak, a note that shows no text or patient.
    let text = |id: &str| succeed(&["inspect", &project.workdir(), "--id", id]).stdout;
    let note = text(&first(&project, "mimic-iv"));
    assert!(note.contains("dua") && !note.contains("subject:"), "{note}");
}

#[test]
fn a_training_that_began_before_a_retraction_is_refused_and_a_finished_one_stays() {
    let train =
        "[model]\nshape = \"tiny\"\n[train]\nsteps = 4\nbatch_sequences = 2\nmicro_batch_sequences = 2\ncheckpoint_every = 2\n";
    let mixture = format!("[corpus.mixture]\ntokens = 900\ngeneral = 1\n{PACK}{train}");
    let project = small_project(&small(&[("a", "")], &mixture), &[("a", 60)]);
    project.succeed(&["--until", "cpt"]);
    let id = first(&project, "a");
    let outcome = retracted(&project, &["--id", &id]);
    assert_eq!(outcome["checkpoints"].as_array().map(Vec::len), Some(2), "{outcome}");
    verify(&project);
    project.succeed(&[]);
    assert!(succeed(&["status", &project.workdir()]).stdout.contains("made before: 2 checkpoints"));
    // As if the end had come before the last step.
    let workdir = PathBuf::from(project.workdir());
    for gone in ["manifests/cpt.json", "commits/cpt", "manifests/report.json", "commits/report", "_SUCCESS", "report.html"] {
        let path = workdir.join(gone);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("removed");
    }
    std::fs::remove_dir_all(workdir.join("checkpoints/cpt/step-00000004")).expect("removed");
    let ended = project.run(&[]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("retractions changed the shards, delete checkpoints/cpt/"), "{}", ended.stderr);
    std::fs::remove_dir_all(workdir.join("checkpoints/cpt")).expect("removed");
    std::fs::remove_dir_all(workdir.join("metrics")).expect("removed");
    project.succeed(&[]);
    let html = std::fs::read_to_string(workdir.join("report.html")).expect("there");
    assert!(html.contains("Retractions") && html.contains("retractions/00000.json"));
    verify(&project);
}
