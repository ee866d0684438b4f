//! Killed at any point and started again: the same bytes; asked to stop: exit 143 and nothing lost.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mellama_tests::s3_server::SECRET;
use mellama_tests::wire_proxy::{Mode, WireProxy};

use crate::project::{Project, mellama};
use crate::published::{assert_same, objects, objects_in};
use crate::server::Bucket;

/// Kills of one run.
const KILLS: u32 = 10;

#[test]
fn case_13_resume_after_sigkill_at_ten_points() {
    let project = Project::quick();
    project.succeed(&["--threads", "2"]);
    let expected = objects(&project);
    let all = files(Path::new(&project.workdir()));
    std::fs::remove_dir_all(project.workdir()).expect("removed");
    let mut killed = 0;
    for kill in 1..=KILLS {
        let mut child = start(&project);
        // Wait for this kill's share of the files, then a little longer, a different while each time.
        let wanted = all * kill as usize / (KILLS as usize + 1);
        let reached = wait_until(&mut child, || files(Path::new(&project.workdir())) >= wanted);
        let moment = Instant::now() + Duration::from_micros(u64::from(kill) * 7_919 % 40_000);
        wait_until(&mut child, || Instant::now() >= moment);
        killed += u32::from(reached && child.try_wait().expect("a child").is_none());
        kill_now(&mut child);
    }
    assert!(killed >= KILLS - 1, "only {killed} of {KILLS} kills met a running process");
    project.succeed(&["--threads", "2"]);
    assert_same(&expected, &objects(&project), "after ten kills");
}

#[test]
fn case_13_resume_over_a_bucket_after_sigkill_at_ten_points() {
    let (bucket, project) = (Bucket::new(), Project::quick());
    let recipe = project.recipe();
    let run = ["run", recipe.as_str(), "--workdir", "s3://corpus/run", "--threads", "2"];
    bucket.succeed(&run);
    let there = bucket.file("run");
    let expected = objects_in(&there);
    std::fs::remove_dir_all(&there).expect("removed");
    let proxy = WireProxy::start(bucket.server.address()).expect("a free port");
    for kill in 1..=KILLS {
        // The server answers for a while, a little longer each time, and is silent then: whatever is under way is cut.
        let answered = 25 + 5 * u64::from(kill);
        proxy.follow(move |seen| if seen.number > answered { Mode::Silent } else { Mode::Through });
        let mut child = spawn(Bucket::command(&proxy.endpoint(), SECRET).args(run));
        assert!(wait_until(&mut child, || proxy.struck() > 0), "kill {kill} meets a running process");
        kill_now(&mut child);
    }
    bucket.succeed(&run);
    assert_same(&expected, &objects_in(&there), "after ten kills");
    let verified = bucket.succeed(&["verify", "s3://corpus/run", "--json"]).json();
    assert_eq!(verified["findings"].as_array().map(Vec::len), Some(0), "{verified}");
}

#[test]
fn case_14_sigterm_while_a_server_is_silent_exits_143_within_ten_seconds() {
    let (bucket, project) = (Bucket::new(), Project::quick());
    let proxy = WireProxy::start(bucket.server.address()).expect("a free port");
    let recipe = project.recipe();
    let run = ["run", recipe.as_str(), "--workdir", "s3://corpus/run", "--threads", "2"];
    // In the first work, in the middle, and while a long answer is waited for.
    for answered in [3, 40, 90] {
        proxy.follow(move |seen| if seen.number > answered { Mode::Silent } else { Mode::Through });
        let mut child = spawn(Bucket::command(&proxy.endpoint(), SECRET).args(run));
        assert!(wait_until(&mut child, || proxy.struck() > 0), "a request is waited for");
        let begun = Instant::now();
        terminate(&child);
        assert_eq!(child.wait().expect("waited for").code(), Some(143), "after {answered} answers");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?} after {answered} answers", begun.elapsed());
    }
    bucket.succeed(&run);
    objects_in(&bucket.file("run"));
}

#[test]
fn case_14_sigterm_exits_143_and_resumes() {
    let project = Project::quick();
    let mut child = start(&project);
    wait_until(&mut child, || Path::new(&project.workdir()).join("manifests/publish.json").exists());
    let begun = Instant::now();
    terminate(&child);
    let status = child.wait().expect("waited for");
    assert_eq!(status.code(), Some(143));
    assert!(begun.elapsed() < Duration::from_mins(1), "the promise is 10 s on an idle machine");
    project.succeed(&[]);
    objects(&project);
}

#[test]
fn case_14_sigterm_while_training_saves_over_a_bucket_and_resumes() {
    let (bucket, quick) = (Bucket::new(), Project::quick());
    let text = std::fs::read_to_string(quick.recipe()).expect("a recipe");
    let end = text.find("[[instruct.source]]").expect("a part on instructions");
    let text = text[..end].replace("steps = 6", "steps = 90").replace("checkpoint_every = 2", "checkpoint_every = 20");
    let project = Project::with_recipe(&text);
    let recipe = project.recipe();
    let run = ["run", recipe.as_str(), "--workdir", "s3://corpus/run", "--threads", "2"];
    let checkpoints = bucket.file("run/checkpoints/cpt");
    let complete = || {
        let folders = std::fs::read_dir(&checkpoints).into_iter().flatten().filter_map(Result::ok);
        let done = folders.filter(|folder| folder.path().join("manifest.json").exists());
        let step = |name: String| name.strip_prefix("step-").and_then(|step| step.parse::<u64>().ok());
        done.filter_map(|folder| step(folder.file_name().to_string_lossy().into_owned())).collect::<Vec<_>>()
    };
    let mut child = spawn(Bucket::command(&bucket.server.endpoint(), SECRET).args(run));
    assert!(wait_until(&mut child, || complete().contains(&20)), "training comes to its first checkpoint");
    terminate(&child);
    assert_eq!(child.wait().expect("waited for").code(), Some(143));
    let saved = complete();
    assert!(saved.iter().any(|step| !step.is_multiple_of(20)), "the stop saves where it stands: {saved:?}");
    bucket.succeed(&run);
    assert!(complete().contains(&90));
}

fn start(project: &Project) -> Child {
    spawn(mellama().args(project.arguments(&["--threads", "2"])))
}

pub(crate) fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
}

fn kill_now(child: &mut Child) {
    let _ = child.kill();
    child.wait().expect("waited for");
}

pub(crate) fn terminate(child: &Child) {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
}

/// Looks again and again until the condition holds or the child ends; true when it holds.
pub(crate) fn wait_until(child: &mut Child, condition: impl Fn() -> bool) -> bool {
    while child.try_wait().expect("a child").is_none() {
        if condition() {
            return true;
        }
        std::thread::yield_now();
    }
    condition()
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |path: &Path| if path.is_dir() { files(path) } else { 1 };
    entries.filter_map(Result::ok).map(|entry| count(&entry.path())).sum()
}
