//! Quotas, epochs, order and packing through the program: what is planned is what is published, and what cannot be is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::project::{Ended, Project, root, run, succeed};

/// Documents of one source as JSON lines, no two alike, of 3 to 60 words.
fn lines(seed: u64, count: u64) -> String {
    let line = |n: u64| {
        let words: Vec<String> =
            (0..3 + (n * 7 + seed) % 58).map(|word| format!("w{}", (n * 31 + word * seed + seed) % 9973)).collect();
        format!("{{\"id\":\"{seed}-{n}\",\"text\":\"{}\"}}\n", words.join(" "))
    };
    (0..count).map(line).collect()
}

/// A recipe over sources of a name, a domain and further keys, without cleaning rules.
fn recipe(sources: &[(&str, &str, &str)], mixture: &str, pack: &str) -> String {
    let mut text = String::from("name = \"mixture\"\nseed = 9\nworkdir = \"out\"\n");
    let table = |(name, domain, more): &(&str, &str, &str)| {
        let inputs = format!("inputs = [\"data/{name}.jsonl\"]");
        format!("[[corpus.source]]\nname = \"{name}\"\nformat = \"jsonl\"\n{inputs}\ndomain = \"{domain}\"\n{more}\n")
    };
    text.extend(sources.iter().map(table));
    let tokenizer = root().join("tests/fixtures/tokenizer/tokenizer.json").display().to_string();
    text + &format!(
        "[corpus.tokenizer]\npath = {tokenizer:?}\n[corpus.mixture]\n{mixture}\n[corpus.pack]\nsequence_length = 64\n{pack}\n"
    )
}

const THREE: [(&str, &str, &str); 4] = [
    ("papers", "biomedical", "max_epochs = 3"),
    ("abstracts", "biomedical", "max_epochs = 3"),
    ("notes", "clinical", "max_epochs = 3"),
    ("web", "general", ""),
];

/// A project with the documents of [`THREE`].
fn three(mixture: &str, pack: &str) -> Project {
    let project = Project::with_recipe(&recipe(&THREE, mixture, pack));
    for (name, seed, count) in [("papers", 3, 90), ("abstracts", 5, 300), ("notes", 7, 60), ("web", 11, 400)] {
        project.write(&format!("data/{name}.jsonl"), lines(seed, count).as_bytes());
    }
    project
}

fn facts(project: &Project, stage: &str) -> Value {
    project.json(&format!("manifests/{stage}.json"))["facts"].clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}: a whole number"))
}

/// Everything below `mix`, `packed` and `shards`, with its bytes' digest.
fn order_and_shards(project: &Project) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for stage in ["mix", "pack", "publish"] {
        for object in project.json(&format!("manifests/{stage}.json"))["objects"].as_array().expect("a list") {
            let key = object["key"].as_str().expect("a name");
            if key != "README.md" {
                let bytes = fs::read(Path::new(&project.workdir()).join(key)).expect("published");
                found.insert(key.to_owned(), blake3::hash(&bytes).to_hex().to_string());
            }
        }
    }
    found
}

fn refused(project: &Project, exit: i32, said: &[&str]) -> Ended {
    let ended = project.run(&[]);
    assert_eq!(ended.code, exit, "{}", ended.stderr);
    for part in said {
        assert!(ended.stderr.contains(part), "{part:?} in {}", ended.stderr);
    }
    ended
}

#[test]
fn several_epochs_are_exact_named_and_in_the_manifest() {
    let supply = three("tokens = \"all\"\nbiomedical = 1", "heldout = 0.0");
    supply.succeed(&["--until", "tokenize"]);
    let counted = |name: &str| number(&facts(&supply, "tokenize")["sources"][name]["tokens"]);
    let (biomedical, notes) = (counted("papers") + counted("abstracts"), counted("notes"));
    // Two passes and a half over the literature decide the total; the notes need theirs then.
    let total = biomedical * 5 / 2 / 15 * 20;
    assert!(total / 20 <= 3 * notes && total / 5 <= counted("web"), "the made-up supply allows it");
    let project = three(&format!("tokens = {total}\nbiomedical = 15\nclinical = 1\ngeneral = 4"), "heldout = 0.0");
    project.succeed(&[]);
    let mix = facts(&project, "mix");
    assert_eq!(number(&mix["quotas"]["biomedical"]), total / 20 * 15);
    let train = facts(&project, "publish")["parts"]["train"].clone();
    assert_eq!(number(&train["tokens"]), total);
    for share in mix["sources"].as_array().expect("sources") {
        let name = share["source"].as_str().expect("a name");
        let (supply, quota) = (number(&share["supply"]), number(&share["quota"]));
        assert_eq!(supply, counted(name), "{name}: counted once");
        assert_eq!(quota, number(&share["full_epochs"]) * supply + number(&share["remainder"]), "{name}");
        assert_eq!(train["source_tokens"][name], share["quota"], "{name}: in the shards");
        assert!(share["epochs"].as_f64().expect("a number") <= mix["max_epochs"][name].as_f64().expect("a number"), "{name}");
        let cut = &mix["cuts"][name];
        if cut.is_object() {
            assert!(number(&cut["used"]) < number(&cut["tokens"]), "{name}: {cut}");
            assert!(cut["document"].as_str().expect("an id").starts_with(&format!("{name}:")), "{cut}");
            assert_eq!(cut["epoch"], share["full_epochs"], "{name}: only the partial pass ends in a cut");
        }
    }
    assert!(!mix["cuts"].as_object().expect("cuts").is_empty(), "the total ends inside of documents");
    let pack = facts(&project, "pack");
    assert_eq!(number(&pack["lost_tokens"]), 0);
    let packed: u64 = pack["streams"].as_object().expect("streams").values().map(|stream| number(&stream["tokens"])).sum();
    assert_eq!(packed, total);
    let sequences: u64 = train["domain_sequences"].as_object().expect("domains").values().map(number).sum();
    assert_eq!(sequences, number(&train["sequences"]));
    let card = fs::read_to_string(Path::new(&project.workdir()).join("README.md")).expect("there");
    assert!(card.contains("| 2.5"), "epochs are on the card: {card}");
    succeed(&["verify", &project.workdir()]);
    let plan = succeed(&["plan", &project.recipe(), "--workdir", &project.workdir(), "--json"]).json();
    assert_eq!(plan["sources"][0]["supply_from"], "counted");
    assert_eq!(plan["sources"][0]["quota_tokens"], mix["sources"][0]["quota"]);
}

#[test]
fn determinism_of_order_and_packing_over_threads_memory_and_processes() {
    for method in ["best-fit", "concatenate"] {
        let pack = format!("heldout = 0.05\nshard_sequences = 50\nmethod = \"{method}\"");
        let project = three("tokens = 20_000\nbiomedical = 15\nclinical = 1\ngeneral = 4", &pack);
        project.succeed(&["--threads", "1", "--memory", "4GiB"]);
        let expected = order_and_shards(&project);
        assert!(expected.len() > 10, "{expected:?}");
        for arguments in [["--threads", "4", "--memory", "256MiB"], ["--threads", "2", "--memory", "4GiB"]] {
            fs::remove_dir_all(project.workdir()).expect("removed");
            project.succeed(&arguments);
            assert_eq!(order_and_shards(&project), expected, "{method} {arguments:?}");
        }
        fs::remove_dir_all(project.workdir()).expect("removed");
        for stage in ["ingest", "tokenize", "mix", "pack", "publish"] {
            let task = |number: u64| {
                run(&["stage", stage, &project.recipe(), "--workdir", &project.workdir(), "--task", &number.to_string()])
            };
            let first = task(0);
            assert_eq!(first.code, 0, "{stage}: {}", first.stderr);
            let tasks = number(&first.json()["tasks"]);
            for number in (1..tasks).rev() {
                assert_eq!(task(number).code, 0, "{stage} {number}");
            }
        }
        assert_eq!(order_and_shards(&project), expected, "{method}, one process a task");
        succeed(&["verify", &project.workdir()]);
    }
}

#[test]
fn whole_sequences_of_three_domains_keep_the_ratio_and_nothing_is_padded_away() {
    let project =
        three("tokens = 20_000\nunit = \"sequences\"\nbiomedical = 15\nclinical = 1\ngeneral = 4", "method = \"concatenate\"");
    project.succeed(&[]);
    let quotas = facts(&project, "mix")["quotas"].clone();
    // 20,000 tokens are 312 sequences of 64: 234, 15.6 and 62.4 of them, by largest remainder.
    let expected = [("biomedical", 234 * 64), ("clinical", 16 * 64), ("general", 62 * 64)];
    for (domain, tokens) in expected {
        assert_eq!(number(&quotas[domain]), tokens, "{domain}");
    }
    let train = facts(&project, "publish")["parts"]["train"].clone();
    assert_eq!((number(&train["padding"]), number(&train["tokens"])), (0, 312 * 64));
    for (domain, tokens) in expected {
        assert_eq!(number(&train["domain_sequences"][domain]), tokens / 64, "{domain}");
    }
    succeed(&["verify", &project.workdir()]);
}

#[test]
fn weights_that_do_not_divide_leave_no_token_over_and_zero_leaves_a_domain_out() {
    let project = three("tokens = 1000\nbiomedical = 3\nclinical = 3\ngeneral = 1", "heldout = 0.0");
    project.succeed(&[]);
    let quotas = facts(&project, "mix")["quotas"].clone();
    assert_eq!(["biomedical", "clinical", "general"].map(|domain| number(&quotas[domain])), [429, 428, 143]);
    let project = three("tokens = 1000\nbiomedical = 3\nclinical = 0\ngeneral = 1", "heldout = 0.0");
    project.succeed(&[]);
    let (mix, train) = (facts(&project, "mix"), facts(&project, "publish")["parts"]["train"].clone());
    assert_eq!(["biomedical", "clinical", "general"].map(|domain| number(&mix["quotas"][domain])), [750, 0, 250]);
    assert_eq!(number(&train["source_tokens"]["notes"]), 0);
    assert_eq!(number(&train["tokens"]), 1000);
    assert!(!Path::new(&project.workdir()).join("packed/train-clinical").exists());
    succeed(&["verify", &project.workdir()]);
}

#[test]
fn an_empty_source_gives_nothing_beside_others_and_is_refused_alone() {
    // An empty object is a reject, and all of a source may be.
    let empty = |project: &Project, name: &str| {
        project.write(&format!("data/{name}.jsonl"), b"");
        let text = fs::read_to_string(project.recipe()).expect("there");
        fs::write(project.recipe(), text.replace("format = \"jsonl\"", "format = \"jsonl\"\nmax_rejects = 1.0"))
            .expect("written");
    };
    let project = three("tokens = \"all\"\nbiomedical = 15\nclinical = 1\ngeneral = 4", "");
    empty(&project, "papers");
    project.succeed(&[]);
    let mix = facts(&project, "mix");
    assert_eq!((number(&mix["sources"][0]["quota"]), number(&mix["sources"][0]["supply"])), (0, 0));
    assert!(number(&mix["sources"][1]["quota"]) > 0);
    let project = three("tokens = 1000\nbiomedical = 15\nclinical = 1\ngeneral = 4", "");
    empty(&project, "notes");
    let clinical = "mixture: clinical: quota of 50 tokens, capped supply is 0; add clinical sources or set its weight to 0";
    refused(&project, 2, &[clinical]);
    let project = three("tokens = \"all\"\nbiomedical = 15\nclinical = 1\ngeneral = 4", "");
    empty(&project, "notes");
    refused(&project, 2, &["clinical: capped supply of 0 tokens allows no total at weights 15:1:4"]);
}

#[test]
fn a_cap_that_cannot_be_met_names_every_short_domain_and_plan_says_what_it_takes() {
    let mixture = "tokens = 1_000_000\nbiomedical = 15\nclinical = 1\ngeneral = 4";
    let project = three(mixture, "heldout = 0.0");
    let ended = refused(
        &project,
        2,
        &[
            "mixture: biomedical: quota of 750000 tokens, capped supply is ",
            "the biomedical sources (papers 3, abstracts 3)",
            " and max_epochs = ",
        ],
    );
    let words: Vec<&str> = ended.stderr.split_whitespace().collect();
    let place = words.windows(4).position(|four| four[..4] == ["lower", "the", "total", "to"]).expect("a total that fits");
    let fitting = words[place + 4];
    let ended = run(&["plan", &project.recipe(), "--workdir", &project.workdir(), "--json"]);
    assert!(ended.code == 2 && ended.stderr.contains("the counted supply cannot fill it"), "{}", ended.stderr);
    let plan = ended.json();
    assert!(plan["mixture"]["refusal"].as_str().expect("refused").contains(fitting), "{plan}");
    let shown = run(&["plan", &project.recipe(), "--workdir", &project.workdir()]).stdout;
    assert!(shown.contains("mixture: refused; asked for are 1000000 tokens") && shown.contains(fitting), "{shown}");
    assert_eq!(number(&plan["mixture"]["quotas"]["biomedical"]), 750_000);
    let needed = plan["sources"][0]["epochs"].as_f64().expect("what it takes");
    assert!(needed > 3.0, "{needed}");
    // The total that fits does.
    let project = three(&mixture.replace("1_000_000", fitting), "heldout = 0.0");
    project.succeed(&[]);
    assert_eq!(number(&facts(&project, "mix")["total"]).to_string(), fitting);
}

#[test]
fn the_papers_corpus_is_planned_without_any_of_its_data() {
    let recipe = root().join("recipes/me-llama-corpus.toml").display().to_string();
    succeed(&["config", "check", &recipe]);
    let workdir = tempfile::tempdir().expect("a folder").path().join("out").display().to_string();
    let plan = succeed(&["plan", &recipe, "--workdir", &workdir, "--json"]).json();
    let quotas = [("biomedical", 96_750_000_000), ("clinical", 6_450_000_000), ("general", 25_800_000_000)];
    assert_eq!(number(&plan["mixture"]["total"]), 129_000_000_000_u64);
    let sources = plan["sources"].as_array().expect("sources");
    for (domain, quota) in quotas {
        assert_eq!(number(&plan["mixture"]["quotas"][domain]), quota, "{domain}");
        let of_domain = sources.iter().filter(|source| source["domain"] == domain);
        assert_eq!(of_domain.map(|source| number(&source["quota_tokens"])).sum::<u64>(), quota, "{domain}");
    }
    for source in sources {
        let (supply, quota) = (number(&source["supply_tokens"]), number(&source["quota_tokens"]));
        assert_eq!(source["supply_from"], "expected");
        assert_eq!(source["objects"], Value::Null, "no data is there");
        assert_eq!(quota, number(&source["full_epochs"]) * supply + number(&source["remainder_tokens"]), "{source}");
        assert!(quota <= supply * number(&source["max_epochs"]) && number(&source["max_epochs"]) <= 4, "{source}");
    }
    assert_eq!(plan["mixture"]["refusal"], Value::Null);
    let shown = succeed(&["plan", &recipe, "--workdir", &workdir]).stdout;
    for part in ["supply is expected", "weight 15", "quota 96750000000", "2.974", "last document cut", "max"] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
}

#[test]
fn expected_tokens_are_for_planning_alone() {
    let sources: Vec<(&str, &str, &str)> = vec![
        ("papers", "biomedical", "expected_tokens = 1_000_000\nmax_epochs = 2"),
        ("notes", "clinical", "expected_tokens = 10"),
    ];
    let mixture = "tokens = 1000\nbiomedical = 3\nclinical = 1";
    let project = Project::with_recipe(&recipe(&sources, mixture, "heldout = 0.1"));
    project.write("data/papers.jsonl", lines(3, 200).as_bytes());
    project.write("data/notes.jsonl", lines(7, 200).as_bytes());
    let plan = || run(&["plan", &project.recipe(), "--workdir", &project.workdir(), "--json"]);
    let before = plan();
    assert!(before.code == 2 && before.stderr.contains("the expected supply cannot fill it"), "{}", before.stderr);
    let before = before.json();
    // A scheduler that asks for tasks alone is told, and goes on.
    let tasks = run(&["plan", &project.recipe(), "--workdir", &project.workdir(), "--json", "--stages"]);
    assert!(tasks.code == 0 && tasks.stderr.contains("warning: corpus.mixture: the expected supply"), "{tasks:?}");
    assert_eq!(tasks.json()["stages"][0]["tasks"], 2);
    assert_eq!(number(&before["sources"][0]["supply_tokens"]), 900_000);
    assert_eq!(number(&before["sources"][0]["heldout_tokens"]), 100_000);
    let refusal = before["mixture"]["refusal"].as_str().expect("nine tokens do not fill the quota");
    assert!(refusal.contains("set max_epochs = 28 on the clinical sources (notes 1), or lower the total to 3"), "{refusal}");
    project.succeed(&[]);
    let (after, mix) = (plan(), facts(&project, "mix"));
    assert_eq!(after.code, 0, "{}", after.stderr);
    let after = after.json();
    assert_eq!(after["sources"][1]["supply_tokens"], mix["sources"][1]["supply"]);
    assert_eq!((after["sources"][1]["supply_from"].as_str(), number(&mix["total"])), (Some("counted"), 1000));
    let without =
        Project::with_recipe(&recipe(&sources[1..], "tokens = 1000\nclinical = 1", "").replace("expected_tokens = 10", ""));
    let plan = succeed(&["plan", &without.recipe(), "--json"]).json();
    assert_eq!(plan["mixture"]["unknown"][0], "notes");
    let zero = recipe(&[("notes", "clinical", "expected_tokens = 0")], "tokens = 1\nclinical = 1", "");
    let zero = Project::with_recipe(&zero);
    assert_eq!(run(&["config", "check", &zero.recipe()]).code, 2);
}

#[test]
fn begin_and_end_tokens_are_as_the_recipe_says_and_as_the_tokenizer_has() {
    let made = |more: &str| {
        let text = recipe(&[("web", "general", "")], "tokens = \"all\"\ngeneral = 1", "heldout = 0.0");
        let project = Project::with_recipe(&text.replace("[corpus.mixture]", &format!("{more}\n[corpus.mixture]")));
        project.write("data/web.jsonl", lines(11, 50).as_bytes());
        project
    };
    let counted = |more: &str| {
        let project = made(more);
        project.succeed(&["--until", "pack"]);
        let tokenize = facts(&project, "tokenize");
        assert_eq!(facts(&project, "pack")["rules"]["separators"], tokenize["separators"]);
        (number(&tokenize["sources"]["web"]["tokens"]), tokenize["separators"].clone())
    };
    let (both, separators) = counted("");
    assert_eq!((separators["bos"].as_u64(), separators["eos"].as_u64()), (Some(1), Some(2)));
    assert_eq!(counted("bos = true\neos = true").0, both);
    let (ends, separators) = counted("bos = false");
    assert_eq!((ends, &separators["bos"]), (both - 50, &Value::Null));
    assert_eq!(counted("bos = false\neos = false").0, both - 100);

    // A tokenizer without an end token: said in plan and manifest, refused where the recipe demands one.
    let fixture = fs::read_to_string(root().join("tests/fixtures/tokenizer/tokenizer.json")).expect("there");
    let endless = |more: &str| {
        let project = made(more);
        project.write("endless.json", fixture.replace("\"</s>\"", "\"<end>\"").as_bytes());
        let text = fs::read_to_string(project.recipe()).expect("there");
        let path = root().join("tests/fixtures/tokenizer/tokenizer.json").display().to_string();
        fs::write(project.recipe(), text.replace(&path, "endless.json")).expect("written");
        project
    };
    let project = endless("");
    let shown = succeed(&["plan", &project.recipe()]).stdout;
    assert!(shown.contains("no EOS behind every document") && shown.contains("run into each other"), "{shown}");
    project.succeed(&["--until", "tokenize"]);
    assert_eq!(facts(&project, "tokenize")["separators"]["eos"], Value::Null);
    refused(&endless("eos = true"), 2, &["corpus.tokenizer.eos: true, but", "has no such token"]);
}

#[test]
fn a_document_of_many_windows_is_fragmented_and_not_cut_off() {
    // One document of some 40,000 tokens among small ones, in sequences of 64.
    let project = three("tokens = \"all\"\ngeneral = 1", "heldout = 0.0");
    let words: Vec<String> = (0..20_000).map(|word| format!("x{}", word % 977)).collect();
    let long = format!("{{\"id\":\"long\",\"text\":\"{}\"}}\n", words.join(" "));
    project.write("data/web.jsonl", format!("{}{long}", lines(11, 100)).as_bytes());
    project.succeed(&[]);
    let (pack, supply) = (facts(&project, "pack"), number(&facts(&project, "tokenize")["sources"]["web"]["tokens"]));
    let stream = &pack["streams"]["train-general"];
    assert_eq!(number(&stream["tokens"]), supply, "no token is lost");
    assert!(number(&stream["cuts"]) > 300 && number(&stream["fragmented_documents"]) >= 1, "{stream}");
    assert_eq!(pack["rules"]["method"], "best-fit");
    assert!(pack["rules"]["fragments"].as_str().expect("a rule").contains("longer than a sequence"));
    assert_eq!(number(&pack["rules"]["window_documents"]), 65_536);
    succeed(&["verify", &project.workdir()]);
}
