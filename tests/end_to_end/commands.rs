//! The commands of the fixed command line: what they print and how they exit.
//!
//! What a run makes is counted elsewhere; here it is enough that each command shows it, refuses, or leaves things alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::project::{Ended, Project, root, run, succeed};

/// Every command of the fixed command line.
const COMMANDS: [&str; 20] = [
    "run", "plan", "stage", "launch", "status", "verify", "report", "gc", "inspect", "export", "retract", "train", "evaluate",
    "rescore", "generate", "serve", "import", "merge", "init", "config",
];
/// Those that are not there yet.
const NOT_YET: [&str; 3] = ["launch", "rescore", "serve"];
/// Steps of the run that gave the published text of stories260K.
const PUBLISHED_TOKENS: &str = "200";

pub(crate) fn refuse(arguments: &[&str], code: i32, said: &[&str]) -> Ended {
    let ended = run(arguments);
    assert_eq!(ended.code, code, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    for part in said {
        assert!(ended.stderr.contains(part), "{arguments:?}: {part:?} is not in: {}", ended.stderr);
    }
    assert!(ended.stdout.is_empty(), "data on standard output only: {}", ended.stdout);
    ended
}

fn all_in(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// Names and contents of everything below a folder.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).expect("readable");
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// The first object under a prefix that the work folder holds, as a path.
fn object(project: &Project, prefix: &str) -> String {
    let folder = Path::new(&project.workdir()).join(prefix);
    let found = contents(&folder).into_iter().map(|(path, _)| path).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("nothing under {prefix}")).display().to_string()
}

#[test]
fn help_lists_every_command() {
    let help = succeed(&["--help"]).stdout;
    let listed = |name: &str| help.lines().find(|line| line.split_whitespace().next() == Some(name));
    for command in COMMANDS.into_iter().chain(["completions"]) {
        let line = listed(command).unwrap_or_else(|| panic!("{command} is not in: {help}"));
        let open = NOT_YET.contains(&command);
        assert_eq!(line.contains("not there yet"), open, "{line}");
        if !open {
            assert!(succeed(&[command, "--help"]).stdout.contains("Usage: mellama"), "{command}");
        }
    }
    for code in ["0 done", "2 recipe", "3 input", "4 storage", "5 verification", "75 ", "99 ", "130/143"] {
        assert!(help.contains(code), "{code} is not in: {help}");
    }
    refuse(&["no-such-command"], 2, &["no-such-command"]);
    refuse(&["run", "recipe.toml", "--no-such-flag"], 2, &["--no-such-flag"]);
    refuse(&["run", "recipe.toml", "--memory", "much"], 2, &["\"much\" is not a size", "512MiB"]);
    refuse(&["status", "out", "--threads", "0"], 2, &["--threads 0: give at least 1"]);
}

#[test]
fn commands_that_are_not_there_yet_say_so() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README is there");
    for command in NOT_YET {
        refuse(
            &[command, "--nproc", "8", "train", "recipe.toml"],
            2,
            &[&format!("mellama {command}: not there yet"), "README.md"],
        );
        refuse(&[command], 2, &["not there yet"]);
        assert!(readme.contains(&format!("`{command}`")), "the README does not name {command}");
    }
    assert!(readme.contains("not there yet"));
}

#[test]
fn config_check_accepts_our_recipes_and_names_faults() {
    for name in ["recipes/quickstart.toml", "recipes/real-sample.toml"] {
        let path = root().join(name).display().to_string();
        all_in(&succeed(&["config", "check", &path]).stdout, &["good", "ingest", "report"]);
        let parsed = succeed(&["config", "check", &path, "--json"]).json();
        assert_eq!(parsed["stages"].as_array().map(Vec::len), Some(11), "{name}");
    }
    for name in ["recipes/me-llama-corpus.toml", "recipes/me-llama-13b.toml", "recipes/me-llama-70b.toml"] {
        succeed(&["config", "check", &root().join(name).display().to_string()]);
    }
    let check = |text: &str, said: &[&str]| {
        let project = Project::with_recipe(text);
        refuse(&["config", "check", &project.recipe()], 2, said);
        assert_eq!(contents(project.folder()).len(), 1, "nothing is written");
    };
    check("name = \"a\"\nworkdir = \"out\"\nsede = 1\n", &["recipe.toml:3:1: unknown key \"sede\"", "did you mean \"seed\"?"]);
    check("name = \"a\"\n", &["recipe.toml:1:1: missing field `workdir`"]);
    check("name = \"a\nworkdir = \"out\"\n", &["recipe.toml:1:"]);
    check("name = \"a\"\nworkdir = \"out\"\n[model]\n", &["model: give shape, checkpoint or both"]);
    check("name = \"a\"\nworkdir = \"out\"\n[model]\nshape = \"llama-2-31b\"\n", &["model.shape", "llama-2-13b"]);
    refuse(&["config", "check", "none.toml"], 2, &["none.toml: cannot be read", "mellama init"]);
}

#[test]
fn recipes_of_the_paper_share_one_corpus_and_plan_without_any_of_the_data() {
    let read = |name: &str| std::fs::read_to_string(root().join("recipes").join(name)).expect("a recipe");
    let corpus = read("me-llama-corpus.toml");
    let shared = &corpus[corpus.find("# --- biomedical").expect("the first source")..];
    for (name, parameters, hours) in
        [("me-llama-13b.toml", 13_015_864_320_u64, 22_249.0), ("me-llama-70b.toml", 68_976_648_192, 113_444.0)]
    {
        assert!(read(name).contains(shared), "{name}: has another corpus than me-llama-corpus.toml");
        let plan = succeed(&["plan", &root().join("recipes").join(name).display().to_string(), "--json"]).json();
        let training = &plan["training"];
        assert_eq!(training["parameters"].as_u64(), Some(parameters), "{name}");
        assert!((training["a100_hours"]["0.45"].as_f64().expect("a number") - hours).abs() < 1.0, "{name}: {training}");
        // 129e9 tokens, 1,024 sequences of 4,096 a step.
        assert_eq!(training["steps"].as_u64(), Some(30_756), "{name}");
    }
}

#[test]
fn init_writes_a_recipe_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("mine.toml").display().to_string();
    all_in(&succeed(&["init", &file]).stdout, &["mine.toml written", "mellama plan"]);
    succeed(&["config", "check", &file]);
    fs::write(&file, "mine").expect("written");
    refuse(&["init", &file], 2, &["mine.toml", "give another name"]);
    assert_eq!(fs::read(&file).expect("readable"), b"mine", "it is not overwritten");
}

#[test]
fn completions_know_every_command() {
    let script = succeed(&["completions", "bash"]).stdout;
    all_in(&script, &["_mellama()", "complete -F _mellama", "--workdir"]);
    all_in(&script, &COMMANDS);
    for shell in ["zsh", "fish"] {
        all_in(&succeed(&["completions", shell]).stdout, &COMMANDS);
    }
    refuse(&["completions", "basic"], 2, &["basic"]);
}

#[test]
fn plan_needs_nothing_but_the_recipe() {
    let text = fs::read_to_string(root().join("recipes/quickstart.toml")).expect("the recipe is there");
    let project = Project::with_recipe(&text.replace("../tests/fixtures", "${MELLAMA_TEST_NEVER_SET}/none"));
    let before = contents(project.folder());
    let shown = succeed(&["plan", &project.recipe(), "--workdir", &project.workdir()]).stdout;
    all_in(&shown, &["unknown", "MELLAMA_TEST_NEVER_SET", "biomedical 150000", "clinical 10000", "general 40000", "GPU-hours"]);
    let plan = succeed(&["plan", &project.recipe(), "--workdir", &project.workdir(), "--json"]).json();
    assert_eq!(plan["plan"], Value::Null);
    for source in plan["sources"].as_array().expect("a list") {
        assert_eq!((&source["objects"], &source["bytes"]), (&Value::Null, &Value::Null), "{source}");
        assert!(source["unknown"].is_string(), "{source}");
    }
    assert_eq!(contents(project.folder()), before, "plan touches nothing");
    let no_benchmark = text.replace("../tests/fixtures/benchmarks", "none");
    assert!(no_benchmark != text, "the recipe has benchmarks");
    let project = Project::with_recipe(&no_benchmark);
    let shown = succeed(&["plan", &project.recipe(), "--workdir", &project.workdir()]).stdout;
    all_in(&shown, &["corpus.decontaminate.benchmarks: no input matched none/*.jsonl"]);
    let there = Project::quick();
    let before = contents(there.folder());
    let known = succeed(&["plan", &there.recipe(), "--workdir", &there.workdir(), "--json"]).json();
    assert!(
        known["plan"].is_string() && known["sources"].as_array().expect("a list").iter().all(|s| s["bytes"].is_u64()),
        "{known}"
    );
    assert_eq!(known["mixture"], plan["mixture"], "quotas never depend on the inputs");
    assert_eq!(contents(there.folder()), before, "plan touches nothing");
}

#[test]
fn plan_counts_quotas_and_gpu_hours_of_the_largest_model() {
    let project = Project::with_recipe(
        "name = \"large\"\nworkdir = \"out\"\n\
         [[corpus.source]]\nname = \"p\"\nformat = \"pubmed-xml\"\ninputs = [\"none/*.xml.gz\"]\ndomain = \"biomedical\"\n\
         [[corpus.source]]\nname = \"m\"\nformat = \"mimic-notes\"\ninputs = [\"none/*.csv.gz\"]\ndomain = \"clinical\"\n\
         [[corpus.source]]\nname = \"r\"\nformat = \"redpajama\"\ninputs = [\"none/*.jsonl.zst\"]\ndomain = \"general\"\n\
         [corpus.tokenizer]\npath = \"none/tokenizer.model\"\n\
         [corpus.mixture]\ntokens = 129_000_000_000\nbiomedical = 15\nclinical = 1\ngeneral = 4\n\
         [corpus.pack]\nsequence_length = 4096\n[model]\nshape = \"llama-2-70b\"\n[train]\n",
    );
    let plan = succeed(&["plan", &project.recipe(), "--json"]).json();
    let quota = |domain: &str| plan["mixture"]["quotas"][domain].as_u64();
    assert_eq!(quota("biomedical"), Some(96_750_000_000));
    assert_eq!(quota("clinical"), Some(6_450_000_000));
    assert_eq!(quota("general"), Some(25_800_000_000));
    // LLaMA-2 70B: C = 8192, F = 28672, L = 80, K·D = 1024, V = 32000; T = 4096. PaLM, appendix B: 6·Nm + 12·L·C·T a token.
    let (width, hidden, layers, key_value, vocabulary, length) = (8192_u64, 28_672, 80, 1024, 32_000, 4096);
    let matrices = layers * (2 * width * width + 2 * width * key_value + 3 * width * hidden) + vocabulary * width;
    let flops = 6 * matrices + 12 * layers * width * length;
    assert_eq!(plan["training"]["flops_per_token"].as_u64(), Some(flops));
    assert_eq!(plan["training"]["parameters"].as_u64(), Some(68_976_648_192));
    let hours = plan["training"]["a100_hours"]["0.45"].as_f64().expect("a number");
    let expected = 129e9 * flops as f64 / (0.45 * 312e12) / 3600.0;
    // The same formula in f64: a few roundings of 2⁻⁵³ each.
    assert!((hours / expected - 1.0).abs() < 1e-12, "{hours} {expected}");
    assert!((hours - 113_444.0).abs() < 0.5, "{hours}");
    let steps = 129_000_000_000_u64.div_ceil(length).div_ceil(plan["training"]["batch_sequences"].as_u64().expect("a number"));
    assert_eq!(plan["training"]["steps"].as_u64(), Some(steps));
    // The paper's cluster, and its own figures: 129e9 tokens in more than 100,000 A100-hours are at most 51 % MFU.
    let layout = &plan["training"]["layout"];
    let shared = ["tensor_parallel", "data_parallel", "zero"].map(|key| layout[key].as_u64());
    assert_eq!((shared, layout["recompute"].as_str()), ([Some(8), Some(20), Some(1)], Some("sel-a")));
    assert!((layout["memory"]["total_bytes"].as_f64().expect("a number") / 1e9 - 68.8).abs() < 0.05);
    let most = plan["training"]["paper_check"]["mfu_palm"].as_f64().expect("a number");
    assert!((most - 129e9 * flops as f64 / (1e5 * 3600.0) / 312e12).abs() < 1e-12 && (most - 0.5105).abs() < 1e-5, "{most}");
    assert!(!project.folder().join("out").exists());
}

#[test]
fn commands_on_nothing_say_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let empty = folder.path().display().to_string();
    for command in ["status", "verify", "report"] {
        refuse(&[command, &empty], 2, &["no run here", "mellama run"]);
        refuse(&[command, &format!("{empty}/none")], 2, &["no run here"]);
    }
    assert!(contents(folder.path()).is_empty(), "looking creates nothing");
    refuse(&["inspect", &format!("{empty}/none.parquet")], 2, &["none.parquet: cannot be read"]);
    refuse(&["inspect", &empty], 2, &[&empty]);
    refuse(&["generate", &empty, "--prompt", "x"], 2, &[&empty]);
    refuse(&["import", &format!("{empty}/none.bin"), "--to", &format!("{empty}/new")], 2, &["none.bin: cannot be read"]);
    assert!(contents(folder.path()).is_empty(), "a refused import creates nothing");
}

#[test]
fn stages_out_of_order_or_unknown_are_refused() {
    let project = Project::quick();
    let (recipe, workdir) = (project.recipe(), project.workdir());
    refuse(&["stage", "pakc", &recipe, "--workdir", &workdir], 2, &["pakc", "pack"]);
    refuse(&["run", &recipe, "--workdir", &workdir, "--until", "pakc"], 2, &["pakc", "pack"]);
    refuse(&["stage", "pack", &recipe, "--workdir", &workdir], 2, &["stage mix is not finished", "mellama stage mix"]);
    refuse(&["stage", "pack", &recipe, "--workdir", &workdir, "--task", "0"], 2, &["stage mix is not finished"]);
    refuse(&["train", "cpt", &recipe, "--workdir", &workdir], 2, &["is not finished", "mellama"]);
    refuse(&["evaluate", &recipe, "--workdir", &workdir], 2, &["is not finished"]);
    let none = "name = \"a\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"text\"\ninputs = [\"*.txt\"]\ndomain = \"general\"\n";
    let small = Project::with_recipe(none);
    small.write("a.txt", b"Some text.");
    let (recipe, workdir) = (small.recipe(), small.workdir());
    for arguments in [["stage", "cpt", &recipe, "--workdir", &workdir], ["train", "cpt", &recipe, "--workdir", &workdir]] {
        refuse(&arguments, 2, &["the recipe has no part for it"]);
    }
    refuse(
        &["run", &recipe, "--workdir", &workdir, "--until", "pack"],
        2,
        &["--until pack: the recipe has no part for this stage"],
    );
}

#[test]
fn run_goes_on_where_until_stopped_it() {
    let project = Project::quick();
    let workdir = project.workdir();
    let stages = |status: &Value| -> Vec<String> {
        let list = status["stages"].as_array().expect("a list").iter();
        list.filter(|s| s["complete"].as_bool() == Some(true)).map(|s| s["stage"].as_str().expect("a name").to_owned()).collect()
    };
    project.succeed(&["--until", "dedup"]);
    let first = succeed(&["status", &workdir, "--json"]).json();
    assert_eq!(stages(&first), ["ingest", "dedup"]);
    assert_eq!(first["success"].as_bool(), Some(false));
    all_in(
        &succeed(&["status", &workdir]).stdout,
        &["ingest", "dedup", "not complete; to do: tokenize, mix, pack, publish", "\"mellama run RECIPE\" goes on"],
    );
    refuse(&["report", &workdir], 2, &["no report yet", "mellama run"]);
    let results = project.succeed(&["--until", "publish", "--json"]).json();
    assert_eq!(results.as_array().map(Vec::len), Some(6));
    let second = succeed(&["status", &workdir, "--json"]).json();
    assert_eq!(stages(&second), ["ingest", "dedup", "tokenize", "mix", "pack", "publish"]);
    assert_eq!((&second["stages"][0], &second["stages"][1]), (&first["stages"][0], &first["stages"][1]), "what was done stays");
    // A recipe in the place of the folder means its folder.
    assert_eq!(succeed(&["status", &project.recipe(), "--workdir", &workdir, "--json"]).json(), second);
    succeed(&["verify", &workdir]);
    let known = succeed(&["plan", &project.recipe(), "--workdir", &workdir, "--json"]).json();
    assert!(
        known["sources"].as_array().expect("a list").iter().all(|s| s["supply_tokens"].is_u64() && s["epochs"].is_f64()),
        "{known}"
    );
    let quiet = project.succeed(&["--until", "publish", "--quiet"]);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""), "quiet and nothing to do");
}

#[test]
fn inspect_shows_every_kind_of_object() {
    let project = Project::quick();
    project.succeed(&["--until", "instruct"]);
    let inspect = |prefix: &str, more: &[&str]| {
        let path = object(&project, prefix);
        succeed(&[&["inspect", path.as_str()], more].concat()).stdout
    };
    let open = inspect("documents/pmc", &["--rows", "2"]);
    all_in(&open, &["documents", "\"id\": \"pmc:", "\"text_bytes\"", "\"origin\"", "\"sensitivity\": \"open\""]);
    assert_eq!(open.matches("\"id\": \"pmc:").count(), 2, "as many rows as asked for");
    assert!(!open.contains("\"text\":"), "no text without --text: {open}");
    assert!(inspect("documents/pmc", &["--rows", "2", "--text"]).contains("\"text\":"));
    let later = inspect("documents/pmc", &["--rows", "1", "--from", "1"]);
    assert!(open.contains(later.split_once('\n').expect("two lines").1), "row 1 is the second: {later}");
    for source in ["documents/mimic-iii", "documents/mimic-iv"] {
        let shown = inspect(source, &["--text"]);
        all_in(&shown, &["\"sensitivity\": \"dua\"", "\"text\": \"not shown: dua\""]);
        assert!(!shown.contains("\"title\"") && !shown.contains("\"meta\""), "titles and meta are text too: {shown}");
    }
    all_in(&inspect("decisions", &[]), &["rows", "dropped_id", "kept_id", "rule", "similarity", "spec_version"]);
    all_in(&inspect("rejects/general", &[]), &["lines", "byte_offset", "malformed-json"]);
    let packed = inspect("shards/cpt", &[]);
    all_in(&packed, &["sequences of 128 tokens", "sequence 0:", "segments", "document ", "sensitivity dua"]);
    all_in(&inspect("shards/instruct", &[]), &["sequence 0:", "trained ", "instructions"]);
    all_in(&inspect("manifests", &[]), &["\"stage\"", "\"objects\""]);
    let manifest = project.json("manifests/cpt.json");
    let folder = Path::new(&project.workdir()).join(manifest["facts"]["folder"].as_str().expect("a folder"));
    let steps = manifest["facts"]["steps"].as_u64().expect("a count");
    let shown = succeed(&["inspect", &folder.display().to_string()]).stdout;
    all_in(
        &shown,
        &[
            &format!("step {steps} of {steps}"),
            "sensitivity dua",
            "cursor: position",
            "parameters",
            "model.safetensors",
            "weights: ",
        ],
    );
}

#[test]
fn inspect_refuses_what_is_not_ours() {
    let project = Project::with_recipe("");
    project.write("a.parquet", b"PAR1 and no more");
    project.write("a.json", b"{");
    project.write("a.bin", &[0xff; 40]);
    for (name, code) in [("a.parquet", 5), ("a.json", 2), ("a.bin", 2)] {
        refuse(&["inspect", &project.folder().join(name).display().to_string()], code, &[name]);
    }
}

#[test]
fn golden_text_of_stories260k_is_reproduced() {
    let sample = root().join("../shared/data/checkpoint");
    if !sample.is_dir() {
        println!("not run: the sample checkpoint is not there");
        return;
    }
    let at = |name: &str| sample.join(name).display().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let to = folder.path().join("stories260K").display().to_string();
    let imported = succeed(&["import", &at("stories260K.bin"), "--to", &to, "--tokenizer", &at("tok512.bin"), "--json"]).json();
    assert_eq!(imported["tokenizer"].as_str(), Some("tokenizer.bin"));
    let expected = fs::read(at("expected_stdout.txt")).expect("readable");
    let generate = |more: &[&str]| succeed(&[&["generate", &to, "--prompt", "", "--greedy"], more].concat());
    let shown = generate(&["--max-tokens", PUBLISHED_TOKENS]);
    let end = shown.stdout.strip_suffix('\n').expect("a line end closes the text");
    assert_eq!(end.as_bytes(), expected.strip_suffix(b"\n").unwrap_or(&expected));
    let described = generate(&["--max-tokens", PUBLISHED_TOKENS, "--json", "--threads", "1"]).json();
    assert_eq!(described["text"].as_str(), Some(end));
    assert_eq!(described["generated_tokens"].as_u64(), PUBLISHED_TOKENS.parse().ok());
    assert_eq!(described["finish"].as_str(), Some("length"));
    // A shorter run is the beginning of a longer one, and a named tokenizer is the same as the one beside the weights.
    let short = generate(&["--max-tokens", "50", "--tokenizer", &at("tok512.bin")]).stdout;
    assert!(shown.stdout.starts_with(short.trim_end_matches('\n')) && short.len() > 60, "{short}");
    // Nothing goes beyond the 512 positions of the model.
    let long = generate(&["--max-tokens", "5000", "--json"]).json();
    let total = long["prompt_tokens"].as_u64().expect("a count") + long["generated_tokens"].as_u64().expect("a count");
    match long["finish"].as_str() {
        Some("context-full") => assert_eq!(total, 512),
        finish => assert!(finish == Some("end-of-text") && total < 512, "{long}"),
    }
    // A stop text ends the text in front of it; draws are a function of the seed.
    let stopped = generate(&["--max-tokens", PUBLISHED_TOKENS, "--stop", "\n", "--stop", "never in it", "--json"]).json();
    assert_eq!((stopped["finish"].as_str(), stopped["text"].as_str()), (Some("stop"), end.split('\n').next()));
    assert_eq!(generate(&["--max-tokens", PUBLISHED_TOKENS, "--stop", "\n"]).stdout.trim_end_matches('\n'), stopped["text"]);
    let draw = |more: &[&str]| succeed(&[&["generate", &to, "--prompt", "Once", "--max-tokens", "40"], more].concat()).stdout;
    let drawn = draw(&["--temperature", "1.0", "--seed", "7"]);
    assert_eq!(drawn, draw(&["--temperature", "1.0", "--seed", "7", "--threads", "1"]));
    assert_ne!(drawn, draw(&["--temperature", "1.0", "--seed", "8"]));
    assert_eq!(draw(&["--top-p", "1e-9", "--seed", "9"]), draw(&["--greedy"]), "of one token there is no choice");
    refuse(&["generate", &to, "--prompt", "Once", "--temperature", "0"], 2, &["--temperature: 0, expected above 0"]);
    refuse(&["generate", &to, "--prompt", "Once", "--top-p", "1.5"], 2, &["--top-p: 1.5, expected above 0, at most 1"]);
    refuse(&["import", &at("stories260K.bin"), "--to", &to], 2, &["holds a checkpoint already; give a new folder"]);
    all_in(&succeed(&["inspect", &to]).stdout, &["width 64", "layers 5", "heads 8 (4 key-value)", "vocabulary 512"]);
}
