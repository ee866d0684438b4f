//! Recipes and calls at the edge of what makes sense: each was a fault once, and is named for it.

use std::path::Path;

use crate::project::{Project, root, run, succeed};

/// Invented sentences, one JSON line each, no two alike.
fn lines(first: u64, count: u64) -> String {
    let line = |n: u64| {
        let text = format!(
            "Entry {n} of the ward's paper: on day {} the kettle sang {} times and bed {} stayed warm.",
            n * 3,
            n * 7 + 1,
            n + 2
        );
        format!("{{\"id\":\"n{n}\",\"text\":\"{text}\"}}\n")
    };
    (first..first + count).map(line).collect()
}

/// A recipe with one source over `inputs`, of `sensitivity`, and what else a case needs.
fn recipe(inputs: &[&str], sensitivity: &str, more: &str) -> String {
    format!(
        "name = \"edges\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"jsonl\"\ninputs = {inputs:?}\n\
         domain = \"general\"\nsensitivity = \"{sensitivity}\"\n{more}"
    )
}

/// Tokenizer, mixture and packing over every token.
fn packed() -> String {
    let tokenizer = root().join("tests/fixtures/tokenizer/tokenizer.json").display().to_string();
    format!(
        "[corpus.tokenizer]\npath = {tokenizer:?}\n[corpus.mixture]\ntokens = \"all\"\ngeneral = 1\n\
         [corpus.pack]\nsequence_length = 32\nheldout = 0.0\n"
    )
}

const TWO_STEPS: &str = "[train]\nsteps = 2\nbatch_sequences = 2\nmicro_batch_sequences = 2\n";

fn documents(project: &Project) -> u64 {
    project.json("manifests/ingest.json")["counts"]["written"]["documents"].as_u64().expect("a number")
}

#[test]
fn overlapping_patterns_read_a_file_once() {
    let project = Project::with_recipe(&recipe(&["data/**/*.jsonl", "data/b/*.jsonl", "data/b/4.jsonl"], "open", ""));
    project.write("data/b/4.jsonl", lines(0, 6).as_bytes());
    project.succeed(&[]);
    assert_eq!(documents(&project), 6);
}

#[test]
fn what_the_run_writes_below_its_inputs_is_no_input() {
    let text = recipe(&["**/*.jsonl"], "open", "max_rejects = 0.5\n");
    let project = Project::with_recipe(&text);
    project.write("data/a.jsonl", format!("{}not json\n", lines(0, 6)).as_bytes());
    project.succeed(&[]);
    assert!(Path::new(&project.workdir()).join("rejects/s").is_dir(), "the run wrote a file that the pattern matches");
    project.succeed(&[]);
    assert_eq!(documents(&project), 6);
}

#[test]
fn planning_leaves_the_input_folder_alone() {
    let project = Project::with_recipe(&recipe(&["data/*.jsonl"], "open", ""));
    project.write("data/a.jsonl", lines(0, 3).as_bytes());
    project.write("data/.mellama-tmp/mine.txt", b"not yours");
    succeed(&["plan", &project.recipe()]);
    assert!(project.folder().join("data/.mellama-tmp/mine.txt").exists());
}

#[test]
fn sensitivity_follows_a_checkpoint_into_the_next_recipe() {
    let first = Project::with_recipe(&recipe(&["data/*"], "phi", &format!("{}[model]\nshape = \"tiny\"\n{TWO_STEPS}", packed())));
    first.write("data/a.jsonl", lines(0, 30).as_bytes());
    first.succeed(&[]);
    let folder = first.json("manifests/cpt.json")["facts"]["model_folder"].as_str().expect("a folder").to_owned();
    let checkpoint = Path::new(&first.workdir()).join(folder).display().to_string();
    let task = "[[evaluate.task]]\nname = \"q\"\nformat = \"mellama-rows\"\npath = \"q.jsonl\"\n";
    let more = format!("{}[model]\ncheckpoint = {checkpoint:?}\n{TWO_STEPS}{task}", packed());
    let second = Project::with_recipe(&recipe(&["data/*"], "open", &more));
    second.write("data/a.jsonl", lines(100, 30).as_bytes());
    second.write("q.jsonl", b"{\"id\":\"1\",\"query\":\"Is it?\",\"answer\":\"yes\",\"choices\":[\"yes\",\"no\"],\"gold\":0}\n");
    second.succeed(&[]);
    assert_eq!(second.json("manifests/cpt.json")["facts"]["sensitivity"], "phi");
    let scores = second.json("manifests/evaluate.json");
    let result = scores["objects"][0]["key"].as_str().expect("a result");
    assert_eq!(second.json(result)["sensitivity"], "phi");
}

#[test]
fn a_corpus_of_rejects_closes_task_by_task() {
    let text = recipe(&["data/*"], "open", &format!("max_rejects = 1.0\n{}", packed().replace("\"all\"", "10")));
    let text = text.replace("[corpus.mixture]\ntokens = 10\ngeneral = 1\n", "");
    let project = Project::with_recipe(&text);
    project.write("data/a.jsonl", b"not json\n");
    let workdir = project.workdir();
    for (stage, exit) in [("ingest", 0), ("tokenize", 0), ("mix", 0), ("pack", 99), ("publish", 0), ("report", 0)] {
        let ended = run(&["stage", stage, &project.recipe(), "--workdir", &workdir, "--task", "0"]);
        assert_eq!(ended.code, exit, "{stage}: {}", ended.stderr);
    }
    assert!(Path::new(&workdir).join("_SUCCESS").exists());
}

#[test]
fn planning_survives_absurd_numbers() {
    let more = format!("{}[model]\nshape = \"tiny\"\n[train]\nsteps = 9223372036854775807\nepochs = 3\n", packed());
    let project = Project::with_recipe(&recipe(&["data/*"], "open", &more.replace("\"all\"", "9223372036854775807")));
    succeed(&["plan", &project.recipe()]);
}

#[test]
fn inspect_shows_only_what_mellama_writes() {
    let project = Project::with_recipe(&recipe(&["data/*"], "open", "[corpus.dedup]\n"));
    project.write("data/a.jsonl", lines(0, 5).as_bytes());
    let raw = project.folder().join("data/a.jsonl").display().to_string();
    let ended = run(&["inspect", &raw]);
    assert_eq!(ended.code, 2);
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("kettle"), "{}{}", ended.stdout, ended.stderr);
    project.succeed(&[]);
    let folder = Path::new(&project.workdir()).join("decisions");
    let table = std::fs::read_dir(folder).expect("there").next().expect("one").expect("an entry").path().display().to_string();
    for from in ["1000", "18446744073709551615"] {
        assert!(succeed(&["inspect", &table, "--from", from, "--rows", "18446744073709551615"]).stdout.contains("0 rows"));
    }
}

#[test]
fn verify_notices_a_missing_plan() {
    let project = Project::with_recipe(&recipe(&["data/*"], "open", ""));
    project.write("data/a.jsonl", lines(0, 5).as_bytes());
    project.succeed(&[]);
    std::fs::remove_file(Path::new(&project.workdir()).join("plan.json")).expect("removed");
    let ended = run(&["verify", &project.workdir()]);
    assert_eq!(ended.code, 5, "{}", ended.stderr);
    assert!(ended.stderr.contains("plan.json"), "{}", ended.stderr);
}

#[test]
fn nothing_held_out_trains_all_the_same() {
    let more = format!("{}[model]\nshape = \"tiny\"\n{TWO_STEPS}", packed().replace("best-fit", "concatenate"));
    let project = Project::with_recipe(&recipe(&["data/*"], "open", &more));
    project.write("data/a.jsonl", lines(0, 30).as_bytes());
    project.succeed(&[]);
    assert_eq!(project.json("manifests/cpt.json")["facts"]["steps"], 2);
}

#[test]
fn whole_sequences_and_concatenation_leave_no_padding() {
    let more = packed().replace("tokens = \"all\"", "tokens = \"all\"\nunit = \"sequences\"");
    let more = more.replace("heldout = 0.0", "heldout = 0.0\nmethod = \"concatenate\"");
    let project = Project::with_recipe(&recipe(&["data/*"], "open", &more));
    project.write("data/a.jsonl", lines(0, 30).as_bytes());
    project.succeed(&[]);
    let train = project.json("manifests/publish.json")["facts"]["parts"]["train"].clone();
    let number = |key: &str| train[key].as_u64().expect("a number");
    assert_eq!((number("padding"), number("tokens")), (0, 32 * number("sequences")));
    assert_eq!(project.json("manifests/mix.json")["facts"]["total"].as_u64(), Some(number("tokens")));
}
