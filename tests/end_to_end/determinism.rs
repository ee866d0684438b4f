//! Same inputs, recipe and seed, same bytes: whatever the threads, the memory, or the cut into processes.

use crate::project::{Project, run, succeed};
use crate::published::{STAGES, assert_same, objects};

#[test]
fn determinism_threads_memory_and_tasks() {
    // One recipe in one folder for all runs: the plan is then the same, and so is every byte that it decides.
    let project = Project::quick();
    project.succeed(&["--threads", "1", "--memory", "4GiB"]);
    let expected = objects(&project);
    for arguments in [["--threads", "2", "--memory", "512MiB"], ["--threads", "4", "--memory", "4GiB"]] {
        std::fs::remove_dir_all(project.workdir()).expect("removed");
        project.succeed(&arguments);
        assert_same(&expected, &objects(&project), &format!("{arguments:?}"));
    }
    std::fs::remove_dir_all(project.workdir()).expect("removed");
    task_by_task(&project);
    assert_same(&expected, &objects(&project), "task by task");
    let again = project.succeed(&[]);
    assert!(again.stdout.contains("everything is in"), "a finished recipe is content: {}", again.stdout);
}

/// Every stage through `mellama stage --task N`, the last task of a wave first; then each of them answers that it is done.
fn task_by_task(project: &Project) {
    let (recipe, workdir) = (project.recipe(), project.workdir());
    for stage in STAGES {
        let task = |number: u64| {
            let number = number.to_string();
            run(&["stage", stage, &recipe, "--workdir", &workdir, "--task", &number, "--threads", "2"])
        };
        let first = task(0);
        assert_eq!(first.code, 0, "stage {stage}: {}", first.stderr);
        let tasks = first.json()["tasks"].as_u64().expect("a number of tasks");
        let plan = succeed(&["plan", &recipe, "--workdir", &workdir, "--json"]).json();
        let planned = plan["stages"].as_array().expect("stages").iter().find(|planned| planned["stage"] == stage);
        let waves: Vec<(u64, u64)> = serde_json::from_value(planned.expect("planned")["waves"].clone()).unwrap_or_default();
        let waves = if waves.is_empty() { vec![(0, tasks)] } else { waves };
        let order: Vec<u64> = waves.into_iter().flat_map(|(first, end)| (first.max(1)..end).rev()).collect();
        for number in &order {
            let ended = task(*number);
            assert_eq!(ended.code, 0, "stage {stage} task {number}: {}", ended.stderr);
            assert_eq!(
                ended.json()["complete"].as_bool(),
                Some(order.last() == Some(number)),
                "the last task to come closes the stage"
            );
        }
        assert_eq!(task(0).code, 99, "stage {stage}: committed already");
        assert_eq!(task(tasks).code, 99, "stage {stage}: no such task");
    }
    let status = succeed(&["status", &workdir, "--json"]).json();
    assert_eq!(status["success"].as_bool(), Some(true), "the last task of the last stage completes the run");
    assert_eq!(status["stages"].as_array().map(Vec::len), Some(STAGES.len()));
}
