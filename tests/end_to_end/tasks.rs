//! Tasks as schedulers run them: tried again, asked for when there are none, with whatever earlier attempts left on the machine.

use std::fs;
use std::path::Path;

use crate::project::{Project, run};

/// What Airflow takes for the result of a task, in bytes.
const XCOM_LIMIT: usize = 48 << 10;

#[test]
fn case_48_a_task_that_is_tried_again_or_not_there_is_skipped_and_results_are_small() {
    let project = Project::quick();
    let (recipe, workdir) = (project.recipe(), project.workdir());
    let stage = |more: &[&str]| run(&[&["stage", "ingest", recipe.as_str(), "--workdir", &workdir], more].concat());
    let first = stage(&["--task", "0"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let commit = || fs::read(Path::new(&workdir).join("commits/ingest/00000.json")).expect("committed");
    let committed = commit();
    for _ in 0..2 {
        let again = stage(&["--task", "0"]);
        assert_eq!(again.code, 99, "{}", again.stderr);
        assert!(again.stderr.contains("committed already"), "{}", again.stderr);
    }
    assert_eq!(commit(), committed, "whoever tries again changes nothing");
    let absent = stage(&["--task", "5000"]);
    assert_eq!(absent.code, 99, "{}", absent.stderr);
    let rest = stage(&["--task", "0..5"]);
    assert_eq!(rest.code, 0, "{}", rest.stderr);
    let printed = rest.json();
    assert!(rest.stdout.len() < XCOM_LIMIT, "{}", rest.stdout);
    assert_eq!((printed["complete"].as_bool(), printed["pending"].as_u64()), (Some(true), Some(0)), "{printed}");
    assert_eq!(printed["manifest"].as_str(), Some(format!("{workdir}/manifests/ingest.json").as_str()), "{printed}");
    assert_eq!(stage(&[]).code, 99, "a finished stage is skipped as a whole");
}

#[test]
fn case_20_what_lies_on_the_machine_is_never_believed() {
    let project = Project::quick();
    let scratch = project.folder().join("scratch");
    fs::create_dir(&scratch).expect("created");
    let at = scratch.display().to_string();
    let corpus = ["--until", "publish", "--scratch", at.as_str(), "--json"];
    let expected = project.succeed(&corpus).stdout;
    fs::remove_dir_all(project.workdir()).expect("removed");
    project.succeed(&["--until", "tokenize", "--scratch", &at]);
    // Cursors, spills and temporary files of other processes: cut, empty or of no sense, under names of ours and of others.
    let temporary = Path::new(&project.workdir()).join(".mellama-tmp");
    fs::create_dir_all(&temporary).expect("created");
    for folder in [scratch.as_path(), &temporary] {
        for name in [".tmpAbCdEf", "1-0-18ea406609331008", "state.json", "blocks", "00000-0123456789abcdef.parquet"] {
            for (ending, bytes) in [("", &b"\x00\xffgarbage"[..]), ("-empty", b""), ("-cut", b"{\"task\":0,\"objects\":[")] {
                fs::write(folder.join(format!("{name}{ending}")), bytes).expect("written");
            }
        }
    }
    let found = project.succeed(&corpus).stdout;
    assert_eq!(found, expected, "the digests are those of an undisturbed run");
    assert_eq!(run(&["verify", &project.workdir()]).code, 0);
}

#[test]
fn resume_of_a_run_that_ended_before_its_last_records_writes_them() {
    let project = Project::quick();
    project.succeed(&[]);
    let (recipe, workdir) = (project.recipe(), project.workdir());
    let path = |key: &str| Path::new(&workdir).join(key);
    let (mark, page) = (fs::read(path("_SUCCESS")).expect("finished"), fs::read(path("report.html")).expect("finished"));
    fs::remove_file(path("_SUCCESS")).expect("removed");
    assert_eq!(run(&["stage", "report", &recipe, "--workdir", &workdir]).code, 99, "the stage is finished");
    assert_eq!(fs::read(path("_SUCCESS")).expect("written"), mark, "and the run is");
    // A page that no commit names, of figures that a retraction has changed since.
    for key in ["_SUCCESS", "manifests/report.json", "commits/report/00000.json"] {
        fs::remove_file(path(key)).expect("removed");
    }
    fs::write(path("report.html"), "another page").expect("written");
    project.succeed(&[]);
    assert_eq!((fs::read(path("report.html")).expect("written"), fs::read(path("_SUCCESS")).expect("written")), (page, mark));
}
