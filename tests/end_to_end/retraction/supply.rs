//! What retractions do where the quota cannot or need not be filled again: padding, other sources, sequences that go.

use super::*;

#[test]
fn held_out_documents_and_conversations_leave_padding() {
    let project = quickstart();
    let heldout = placed(&project, "shards/cpt/heldout-");
    let id = heldout.values().flatten().next().expect("one").clone();
    let (train, before) = (totals(&project, "shards/cpt/train-"), totals(&project, "shards/cpt/heldout-"));
    assert_eq!(trace(&project, &id)["documents"][0]["runs"]["is_heldout"].as_bool(), Some(true));
    let outcome = retracted(&project, &["--id", &id]);
    let part = &outcome["parts"]["heldout"];
    assert_eq!((part["refilled"].as_u64(), part["short"].as_u64()), (Some(0), Some(0)), "no quota: {part}");
    let after = totals(&project, "shards/cpt/heldout-");
    let tokens = |totals: &BTreeMap<String, u64>| ["biomedical", "clinical", "general"].iter().map(|d| totals[*d]).sum::<u64>();
    assert_eq!(tokens(&before) - tokens(&after), part["tokens"].as_u64().expect("tokens"));
    assert_eq!(totals(&project, "shards/cpt/train-"), train);
    verify(&project);

    // Conversations of the fixtures have no ids: those that their turns gave them, and their keys, are shown by the shards.
    let shard = files(&project).into_keys().find(|key| key.starts_with("shards/instruct/")).expect("a shard");
    let shown = succeed(&["inspect", &Path::new(&project.workdir()).join(shard).display().to_string(), "--rows", "1"]).stdout;
    let mut words = shown.split(" document ").nth(1).expect("a segment").split(' ');
    let (named, key) = (words.next().expect("an id"), words.next().expect("a key"));
    let id = format!("key:{key}");
    assert_eq!(trace(&project, &id)["documents"][0]["id"].as_str(), Some(named));
    let placements = trace(&project, &id)["documents"][0]["placements"].clone();
    assert_eq!(placements[0]["part"].as_str(), Some("instruct"), "{placements}");
    let outcome = retracted(&project, &["--id", &id]);
    assert_eq!(outcome["parts"]["instruct"]["segments"].as_u64(), Some(1));
    let traced = &trace(&project, &id)["documents"][0];
    assert_eq!(traced["placements"].as_array().map(Vec::len), Some(0));
    assert!(traced["retracted"].is_string());
    verify(&project);
    let again = retracted(&project, &["--id", &id]);
    assert!(again["record"].is_null());
}

#[test]
fn conversations_go_by_their_id() {
    let more = format!("{PACK}[[instruct.source]]\nname = \"talk\"\ninputs = [\"data/talk.jsonl\"]\n");
    let project = small_project(&small(&[("a", "")], &more), &[("a", 9)]);
    let turn = |n: u64| format!("{{\"id\":\"t{n}\",\"instruction\":\"Say {n}.\",\"output\":\"It is {n}, and no more.\"}}\n");
    project.write("data/talk.jsonl", (0..9).map(turn).collect::<String>().as_bytes());
    project.succeed(&[]);
    let before = totals(&project, "shards/cpt/train-");
    assert_eq!(trace(&project, "talk:t4")["documents"][0]["placements"].as_array().map(Vec::len), Some(1));
    let outcome = retracted(&project, &["--id", "talk:t4"]);
    assert_eq!(outcome["documents"][0]["id"].as_str(), Some("talk:t4"));
    assert_eq!(totals(&project, "shards/cpt/train-"), before);
    assert_eq!(retract(&project, &["--id", "talk:t99"]).code, 2);
    verify(&project);
    project.succeed(&[]);
}

#[test]
fn an_exhausted_supply_leaves_padding_and_figures() {
    let mixture = format!("[corpus.mixture]\ntokens = \"all\"\ngeneral = 1\n{PACK}");
    let project = small_project(&small(&[("a", ""), ("b", "")], &mixture), &[("a", 20), ("b", 20)]);
    project.succeed(&[]);
    let before = totals(&project, "shards/cpt/train-");
    let outcome = retracted(&project, &["--id", "a:a3", "--id", "b:b4"]);
    let train = &outcome["parts"]["train"];
    assert_eq!(train["refilled"].as_u64(), Some(0), "everything is used already: {train}");
    assert!(train["short"].as_u64().is_some_and(|short| short > 0) && train["short"] == train["tokens"], "{train}");
    let after = totals(&project, "shards/cpt/train-");
    let short = train["short"].as_u64().expect("tokens");
    assert_eq!(before["a"] + before["b"] - after["a"] - after["b"], short);
    assert_eq!(after["padding"], before["padding"] + short - 64 * train["sequences"].as_u64().expect("sequences"));
    verify(&project);
    let text = succeed(&["status", &project.workdir()]).stdout;
    assert!(text.contains(&format!("{short} short")), "{text}");
    project.succeed(&[]);
}

#[test]
fn sequences_that_go_for_want_of_supply_leave_the_order_of_the_domains_in_peace() {
    let mixture = format!("[corpus.mixture]\ntokens = \"all\"\nbiomedical = 3\nclinical = 1\ngeneral = 2\n{PACK}");
    let recipe = small(&[("a", ""), ("b", ""), ("c", "")], &mixture);
    let recipe = recipe.replacen("domain = \"general\"", "domain = \"biomedical\"", 1);
    let recipe = recipe.replacen("domain = \"general\"", "domain = \"clinical\"", 1);
    let project = small_project(&recipe, &[("a", 90), ("b", 20), ("c", 60)]);
    project.succeed(&[]);
    let before = totals(&project, "shards/cpt/train-");
    let ids: Vec<String> = (3..12).map(|n| format!("b:b{n}")).collect();
    for some in ids.chunks(3) {
        let arguments: Vec<&str> = some.iter().flat_map(|id| ["--id", id.as_str()]).collect();
        retracted(&project, &arguments);
        verify(&project);
    }
    let after = totals(&project, "shards/cpt/train-");
    assert!(after["sequences"] < before["sequences"], "whole sequences went: {before:?} {after:?}");
    project.succeed(&[]);
}

#[test]
fn lists_may_begin_with_a_byte_order_mark_and_name_one_id_a_line() {
    let project = small_project(&small(&[("a", "")], PACK), &[("a", 9)]);
    project.succeed(&[]);
    let list = |body: &str| {
        project.write("list.txt", body.as_bytes());
        project.folder().join("list.txt").display().to_string()
    };
    let outcome = retracted(&project, &["--from", &list("\u{feff}a:a3\r\na:a4\r\n")]);
    assert_eq!(outcome["documents"].as_array().map(Vec::len), Some(2), "{outcome}");
    for (body, place) in [("pmid:29391692, pmid:2\n", "line 1"), ("a:a5\nPMCID:none\n", "line 2"), ("doi:x\n", "line 1")] {
        let refused = retract(&project, &["--from", &list(body)]);
        assert_eq!(refused.code, 2, "{body}: {}", refused.stderr);
        assert!(refused.stderr.contains(place) && refused.stderr.contains("give one id"), "{body}: {}", refused.stderr);
    }
    let unknown = retract(&project, &["--id", "PMID:29391692"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("pmid:29391692"), "{}", unknown.stderr);
}

#[test]
fn another_source_of_the_domain_gives_what_the_own_one_lacks() {
    let mixture = format!("[corpus.mixture]\ntokens = 600\ngeneral = 1\n{PACK}");
    // Nothing is left of source a; b has room for three passes.
    let recipe = small(&[("a", ""), ("b", "max_epochs = 3")], &mixture);
    let project = small_project(&recipe, &[("a", 3), ("b", 60)]);
    project.succeed(&[]);
    let before = totals(&project, "shards/cpt/train-");
    assert!(before["a"] > 0, "{before:?}");
    let outcome = retracted(&project, &["--id", "a:a0", "--id", "a:a1", "--id", "a:a2"]);
    assert_eq!(outcome["parts"]["train"]["short"].as_u64(), Some(0), "{outcome}");
    assert!(outcome["sources"]["b"]["refilled"].as_u64().is_some_and(|tokens| tokens > 0), "{outcome}");
    let after = totals(&project, "shards/cpt/train-");
    assert_eq!((before["a"] + before["b"], before["sequences"]), (after["a"] + after["b"], after["sequences"]));
    verify(&project);
}

#[test]
fn without_a_mixture_there_is_no_quota_and_empty_sequences_and_shards_go() {
    let project = small_project(&small(&[("a", "")], PACK), &[("a", 9)]);
    project.succeed(&[]);
    let all: Vec<String> = (0..9).map(|n| format!("a:a{n}")).collect();
    let first = retracted(&project, &["--id", &all[0]]);
    assert_eq!(first["parts"]["train"]["short"].as_u64(), Some(0));
    verify(&project);
    let before = totals(&project, "shards/cpt/train-");
    let rest: Vec<&str> = all.iter().flat_map(|id| ["--id", id.as_str()]).collect();
    let last = retracted(&project, &rest);
    assert_eq!(last["already"], serde_json::json!([all[0]]));
    assert_eq!(last["parts"]["train"]["sequences"].as_u64(), Some(before["sequences"]));
    assert_eq!(totals(&project, "shards/cpt/train-"), BTreeMap::new(), "no shard is left");
    verify(&project);
    project.succeed(&[]);
    assert!(trace(&project, "a:a5")["documents"][0]["retracted"].is_string());
}

#[test]
fn a_dropped_duplicate_is_recorded_and_its_keeper_goes_when_asked() {
    let mixture = format!("[corpus.dedup]\nmax_source_loss = 1.0\n[corpus.mixture]\ntokens = 900\ngeneral = 1\n{PACK}");
    let project = small_project(&small(&[("a", ""), ("b", "")], &mixture), &[("a", 40)]);
    let copy = line("a", 7).replace("\"id\":\"a7\"", "\"id\":\"copy\"");
    let second = line("a", 8).replace("\"id\":\"a8\"", "\"id\":\"second\"");
    project.write("data/b.jsonl", format!("{copy}{second}{}", line("b", 1)).as_bytes());
    project.succeed(&[]);
    let traced = &trace(&project, "b:copy")["documents"][0];
    assert_eq!(traced["removal"]["reason"].as_str(), Some("exact"), "{traced}");
    assert_eq!(traced["removal"]["stands"]["kept_id"].as_str(), Some("a:a7"));
    let text = succeed(&["inspect", &project.workdir(), "--id", "b:copy"]).stdout;
    assert!(text.contains("removed: exact, a:a7 stands in its place"), "{text}");
    let before = files(&project);
    let text = succeed(&["retract", &project.workdir(), "--id", "b:copy"]).stdout;
    assert!(
        text.contains("of them in no shard: 1")
            && text.contains("a:a7 stands in its place and is not retracted: it holds the same text"),
        "{text}"
    );
    let after = files(&project);
    assert_eq!(after.len(), before.len() + 1, "the record alone is new");
    let tells = |key: &String| key == "README.md" || key == "report.html";
    assert!(before.iter().all(|(key, digest)| tells(key) || after.get(key) == Some(digest)));
    verify(&project);
    let outcome = retracted(&project, &["--id", "b:copy", "--copies"]);
    assert_eq!(outcome["already"], serde_json::json!(["b:copy"]));
    assert_eq!(outcome["documents"][0]["id"].as_str(), Some("a:a7"));
    verify(&project);
    // What is retracted before stands nowhere.
    retracted(&project, &["--id", "a:a8"]);
    let text = succeed(&["retract", &project.workdir(), "--id", "b:second"]).stdout;
    assert!(text.contains("1 document: b:second") && !text.contains("stands in its place"), "{text}");
    let record = project.json("retractions/00003.json");
    assert_eq!(record["facts"]["copies"][0]["kept_retracted"].as_bool(), Some(true), "{record}");
}
