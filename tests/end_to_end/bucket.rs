//! A run over a bucket: the same objects as in a folder, byte for byte, and the same answers of every command.

use std::path::Path;
use std::process::Stdio;

use mellama_tests::s3_server::{KEY_ID, SECRET};
use mellama_tests::wire_proxy::WireProxy;
use serde_json::Value;

use crate::kill::wait_until;
use crate::project::{Ended, Project, mellama};
use crate::server::{Bucket, files};

fn digests(results: &Value) -> Vec<(String, String)> {
    let results = results.as_array().expect("a list of stages");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    results.iter().map(|result| (text(&result["stage"]), text(&result["digest"]))).collect()
}

#[test]
fn determinism_of_a_run_over_a_bucket_is_that_of_a_folder() {
    let bucket = Bucket::new();
    let project = Project::quick();
    let recipe = project.recipe();
    let local = project.succeed(&["--json"]).json();
    let remote = bucket.succeed(&["run", &recipe, "--workdir", "s3://corpus/run", "--json"]).json();
    assert_eq!(digests(&remote), digests(&local));
    assert_eq!(digests(&local).len(), 11);
    // Two runs take other times, and say so in names.
    let is_timed = |name: &str| name.contains(".timed-") || name.starts_with("metrics/tensorboard/");
    let records = ["commits/", "manifests/", "versions/"];
    let is_data = |(name, _): &(String, Vec<u8>)| !records.iter().any(|folder| name.starts_with(folder)) && !is_timed(name);
    let remote_objects: Vec<_> = files(&bucket.file("run")).into_iter().filter(is_data).collect();
    let local_objects: Vec<_> = files(Path::new(&project.workdir())).into_iter().filter(is_data).collect();
    let names = |objects: &[(String, Vec<u8>)]| objects.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&remote_objects), names(&local_objects));
    for ((name, remote), (_, local)) in remote_objects.iter().zip(&local_objects) {
        assert!(remote == local, "{name}: other bytes in the bucket");
    }
    let timed = |files: Vec<(String, Vec<u8>)>| files.iter().filter(|(name, _)| is_timed(name)).count();
    assert_eq!((timed(files(&bucket.file("run"))), timed(files(Path::new(&project.workdir())))), (12, 12));
    is_near_its_least(&bucket, &recipe, &remote);
    let again = bucket.succeed(&["run", &recipe, "--workdir", "s3://corpus/run", "--json"]).json();
    assert_eq!(digests(&again), digests(&local));
    assert!(again[0]["requests"]["put"].as_u64().unwrap_or(0) == 0, "{again}");
    commands(&bucket, &project);
}

/// Reads and writes of a run are within a fifth of what it has to ask for.
fn is_near_its_least(bucket: &Bucket, recipe: &str, results: &Value) {
    let asked = |kinds: &[&str]| -> u64 {
        let of_stage = |stage: &Value| kinds.iter().filter_map(|kind| stage["requests"][*kind].as_u64()).sum::<u64>();
        results.as_array().expect("a list of stages").iter().map(of_stage).sum()
    };
    let plan = bucket.succeed(&["plan", recipe, "--workdir", "s3://corpus/run", "--json"]).json();
    let least = |kind: &str| plan["run_requests"][kind].as_u64().expect("the run is finished");
    let (get, put) = (asked(&["get"]), asked(&["put", "begin", "part", "complete"]));
    assert!(least("get") > 60 && 5 * get <= 6 * least("get"), "{get} reads of at least {}", least("get"));
    // The plan, the probe before it and the mark of success are no stage's.
    let (put, least) = (put + 4, least("put"));
    assert!(put >= least && 5 * put <= 6 * least, "{put} writes of at least {least}");
}

/// Every command that takes a work folder takes one in a bucket.
fn commands(bucket: &Bucket, project: &Project) {
    let uri = "s3://corpus/run";
    let verified = bucket.succeed(&["verify", uri, "--json"]).json();
    assert_eq!(verified["findings"].as_array().map(Vec::len), Some(0), "{verified}");
    assert_eq!(verified["unnamed"].as_array().map(Vec::len), Some(0), "{verified}");
    assert!(bucket.succeed(&["status", uri]).stdout.contains("complete"));
    let report = bucket.succeed(&["report", &project.recipe(), "--workdir", uri]).stdout;
    assert_eq!(report.trim(), "s3://corpus/run/report.html");
    let plan = bucket.succeed(&["plan", &project.recipe(), "--workdir", uri, "--json"]).json();
    assert!(plan["stages"].as_array().is_some_and(|stages| stages.iter().all(|stage| stage["complete"] == true)), "{plan}");
    let shards = files(&bucket.file("run/shards/cpt"));
    let shard = shards.iter().find(|(name, _)| name.starts_with("train-")).expect("a shard").0.clone();
    assert!(bucket.succeed(&["inspect", &format!("{uri}/shards/cpt/{shard}")]).stdout.contains("sequences of"));
    assert!(bucket.succeed(&["inspect", &format!("{uri}/checkpoints/cpt/step-00000006")]).stdout.contains("model:"));
    let export = bucket.succeed(&["export", uri, "--format", "llmc", "--to", "s3://corpus/export", "--json"]).json();
    assert!(export["objects"].as_u64().is_some_and(|objects| objects > 0), "{export}");
    assert_eq!(bucket.succeed(&["verify", "s3://corpus/export", "--json"]).json()["findings"].as_array().map(Vec::len), Some(0));
    assert!(bucket.succeed(&["gc", uri, "--dry-run"]).stdout.contains("0 objects"));
    let pmid = bucket.succeed(&["inspect", uri, "--id", "pmid:90000001", "--json"]);
    assert!(pmid.stdout.contains("pubmed"), "{}", pmid.stdout);
}

#[test]
fn case_16_a_wrong_secret_ends_before_any_work() {
    let bucket = Bucket::new();
    let project = Project::quick();
    let ended = bucket.run_as("canary-secret", &["run", &project.recipe(), "--workdir", "s3://corpus/run"]);
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert!(ended.stderr.contains("s3://corpus/run") && !ended.stderr.contains("canary"), "{}", ended.stderr);
    let looked_at = format!("the secret is not the one that {} has for this key id", bucket.server.endpoint());
    assert!(ended.stderr.contains(&looked_at), "{}", ended.stderr);
    assert!(files(&bucket.file("")).is_empty(), "nothing was written");
}

#[test]
fn credentials_that_are_missing_are_named() {
    let bucket = Bucket::new();
    let run = |variable: &str, value: &str| {
        let mut command = mellama();
        command.env("AWS_ENDPOINT_URL_S3", bucket.server.endpoint()).env(variable, value);
        command.env("AWS_CONFIG_FILE", "/nonexistent").env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
        Ended::of(&command.args(["status", "s3://corpus/run"]).output().expect("the program starts"))
    };
    for (variable, value, expected) in [
        ("AWS_ACCESS_KEY_ID", "canary", "AWS_SECRET_ACCESS_KEY is not; set both"),
        ("AWS_PROFILE", "canary", "the profile that AWS_PROFILE names gives none"),
        ("UNRELATED", "canary", "name a profile with AWS_PROFILE"),
    ] {
        let ended = run(variable, value);
        assert!(ended.code == 4 && ended.stderr.contains(expected), "{variable}: {ended:?}");
        assert!(!ended.stderr.contains("canary"), "{ended:?}");
    }
}

#[test]
fn a_server_that_went_away_is_waited_for_and_then_temporary_and_one_that_never_was_is_an_address_to_check() {
    let (bucket, project) = (Bucket::new(), Project::quick());
    let proxy = WireProxy::start(bucket.server.address()).expect("a free port");
    let recipe = std::fs::read_to_string(project.recipe()).expect("written before");
    let impatient = Project::with_recipe(&format!("{recipe}\n[storage]\ndeadline_seconds = 3\n"));
    let (recipe, endpoint) = (impatient.recipe(), proxy.endpoint());
    let run = || {
        let mut command = Bucket::command(&endpoint, SECRET);
        command.args(["run", &recipe, "--workdir", "s3://corpus/run"]).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("the program starts")
    };
    let mut child = run();
    assert!(wait_until(&mut child, || proxy.requests() > 40), "it is at work");
    drop(proxy);
    let ended = Ended::of(&child.wait_with_output().expect("waited for"));
    assert!(ended.code == 75 && ended.stderr.contains("try again later"), "{ended:?}");
    let ended = Ended::of(&run().wait_with_output().expect("waited for"));
    assert!(ended.code == 4 && ended.stderr.contains(&format!("check the address of {endpoint}")), "{ended:?}");
    bucket.succeed(&["run", &recipe, "--workdir", "s3://corpus/run"]);
}

#[test]
fn inputs_in_a_bucket_give_the_documents_of_a_folder() {
    let bucket = Bucket::new();
    let recipe = |root: &str| {
        format!(
            "name = \"t\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"pubmed\"\nformat = \"pubmed-xml\"\n\
             inputs = [\"{root}/pubmed/*.xml.gz\"]\ndomain = \"biomedical\"\n[[corpus.source]]\nname = \"general\"\n\
             format = \"redpajama\"\ninputs = [\"{root}/general\"]\ndomain = \"general\"\n"
        )
    };
    let fixtures = crate::project::root().join("tests/fixtures");
    for folder in ["pubmed", "general"] {
        for (name, bytes) in files(&fixtures.join(folder)) {
            let file = bucket.file(&format!("data/{folder}/{name}"));
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("created");
            std::fs::write(file, bytes).expect("written");
        }
    }
    let run = |root: &str, workdir: &str| {
        let project = Project::with_recipe(&recipe("${DATA}"));
        let mut command = mellama();
        command.env("AWS_ENDPOINT_URL_S3", bucket.server.endpoint()).env("DATA", root);
        command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
        let target = if workdir.is_empty() { project.workdir() } else { workdir.to_owned() };
        let arguments = ["run", &project.recipe(), "--workdir", &target, "--json", "--until", "ingest"];
        let ended = Ended::of(&command.args(arguments).output().expect("the program starts"));
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        digests(&ended.json())
    };
    let local = run(&fixtures.display().to_string(), "");
    assert_eq!(run("s3://corpus/data", ""), local, "from a bucket to a folder");
    assert_eq!(run("s3://corpus/data", "s3://corpus/run"), local, "from a bucket to a bucket");
}

#[test]
fn case_09_an_input_that_was_replaced_in_a_bucket_is_told() {
    let bucket = Bucket::new();
    let line = |text: &str| format!("{{\"id\":\"1\",\"text\":\"{text}\"}}\n");
    std::fs::create_dir_all(bucket.file("data")).expect("created");
    std::fs::write(bucket.file("data/a.jsonl"), line("first")).expect("written");
    std::fs::write(bucket.file("data/b.jsonl"), line("second")).expect("written");
    let project = Project::with_recipe(
        "name = \"t\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"a\"\nformat = \"jsonl\"\n\
         inputs = [\"s3://corpus/data/*.jsonl\"]\ndomain = \"general\"\n",
    );
    let workdir = project.workdir();
    let arguments = ["stage", "ingest", &project.recipe(), "--workdir", &workdir];
    bucket.succeed(&arguments);
    std::fs::write(bucket.file("data/b.jsonl"), line("other")).expect("written");
    let ended = bucket.run(&arguments);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("s3://corpus/data/b.jsonl"), "{}", ended.stderr);
}
