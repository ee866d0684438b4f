//! Killed at any point and started again: the same bytes; asked to stop: exit 143 and nothing lost.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::project::{Project, mellama};
use crate::published::{assert_same, objects};

/// Kills of one run.
const KILLS: u32 = 10;

#[test]
fn resume_after_sigkill_at_ten_points() {
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
        let _ = child.kill();
        child.wait().expect("waited for");
    }
    assert!(killed >= KILLS - 1, "only {killed} of {KILLS} kills met a running process");
    project.succeed(&["--threads", "2"]);
    assert_same(&expected, &objects(&project), "after ten kills");
}

#[test]
fn case_14_sigterm_exits_143_and_resumes() {
    let project = Project::quick();
    let mut child = start(&project);
    wait_until(&mut child, || Path::new(&project.workdir()).join("manifests/publish.json").exists());
    let begun = Instant::now();
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
    let status = child.wait().expect("waited for");
    assert_eq!(status.code(), Some(143));
    assert!(begun.elapsed() < Duration::from_mins(1), "the promise is 10 s on an idle machine");
    project.succeed(&[]);
    objects(&project);
}

fn start(project: &Project) -> Child {
    let mut command = mellama();
    command.args(project.arguments(&["--threads", "2"])).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program starts")
}

/// Looks again and again until the condition holds or the child ends; true when it holds.
fn wait_until(child: &mut Child, condition: impl Fn() -> bool) -> bool {
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
