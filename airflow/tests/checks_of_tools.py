"""Checks without a run of a DAG: files that load, single calls, pods, the Slurm scripts, the Containerfile."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import tomllib
from itertools import pairwise

from checks import VERSIONS, Check, both
from installation import DAGS
from processes import children_of, seconds_computed
from scenes import HERE, REJECTED, WHOLE, Scenes
from store import differences, published

PROJECT = HERE.parent.parent
BUSY_SECONDS = 0.5
FINAL, RETRIED, SKIPPED = "AirflowFailException", "AirflowException", "AirflowSkipException"
OUTCOMES = {"2": FINAL, "3": FINAL, "5": FINAL, "99": SKIPPED} | dict.fromkeys(
    ("1", "4", "75", "130", "143", "KILL"), RETRIED
)


def files_load(scenes: Scenes, version: int) -> str:
    said = scenes.installation(version).python(HERE / "dag_files.py")
    assert said["version"].startswith(VERSIONS[version]), said["version"]
    assert said["errors"] == {}, said["errors"]
    assert set(said["tasks"]) == {"mellama_corpus", "mellama_model"}, said["tasks"]
    return f"Airflow {said['version']}, no import errors, tasks as written: {said['tasks']}"


def exit_codes(scenes: Scenes, version: int) -> str:
    outcomes = scenes.installation(version).python(HERE / "operators.py", "exits")
    assert outcomes.pop("0").startswith("returned {"), outcomes
    # The plan comes through a pipe, which must not swallow the exit code.
    assert outcomes.pop("plan 2") == FINAL and outcomes.pop("plan 4") == RETRIED, outcomes
    assert outcomes == OUTCOMES, outcomes
    return "2, 3, 5 fail for good, 99 skips, 1, 4, 75, 130, 143 and SIGKILL are tried again"


def parameters_are_no_commands(scenes: Scenes, version: int) -> str:
    recipe, workdir = "/r $(touch x); `y` 'z'.toml", 's3://b/"w" && exit 3 #'
    given = scenes.installation(version).python(HERE / "operators.py", "arguments", recipe, workdir)
    assert given == ["stage", "ingest", recipe, "--workdir", workdir, "--threads", "1", "--memory", "1GiB"], given
    return "what a person types reaches mellama as one argument, character for character"


def sigterm(scenes: Scenes, version: int) -> str:
    workdir = str(scenes.folder / f"signal-{version}")
    ended = scenes.call("run", str(WHOLE), "--workdir", workdir, "--until", "instruct-data")
    assert ended.returncode == 0, ended.stderr
    program = str(scenes.mellama)
    said = scenes.installation(version).python(HERE / "operators.py", "signal", program, str(WHOLE), workdir)
    assert "exit code 143" in said["message"], said
    assert said["seconds"] < 10, said
    return f"training stopped {said['seconds']} s after on_kill, with exit code 143"


def pods(scenes: Scenes, version: int) -> str:
    variables = {"MELLAMA_OPERATOR": "kubernetes", "MELLAMA_IMAGE": "registry/mellama:1", "MELLAMA_NAMESPACE": "corpus"}
    said = scenes.installation(version).python(HERE / "operators.py", "pod", **variables)
    assert said["errors"] == {}, said["errors"]
    assert said["deferrable"] is True
    for name, pod in said["pods"].items():
        assert pod["image"] == "registry/mellama:1", pod
        assert pod["containers"] == ["base", "airflow-xcom-sidecar"], pod
        assert pod["mounts"] == ["/airflow/xcom"] and pod["script"][0].endswith("> /airflow/xcom/return.json"), pod
        assert pod["variables"]["MELLAMA_TASKS"] == ("0..3" if name == "ingest.run" else ""), pod
        assert pod["variables"]["MELLAMA_WORKDIR"] == "s3://b/w" and pod["variables"]["MELLAMA_THREADS"] == "2", pod
        assert pod["grace"] >= 10, pod
    assert said["exits"].pop("0") == "returned null", said["exits"]
    assert said["exits"] == {code: outcome for code, outcome in OUTCOMES.items() if code != "KILL"}, said["exits"]
    assert said["plan"] == 'returned ["0..1", "1..3", "3..4", "4..6"]', said["plan"]
    assert said["finished"] == SKIPPED, said["finished"]
    return "both DAGs load, pods are built and rendered, exit codes mean what they mean on a worker"


def ranges_cover_every_task_once(scenes: Scenes) -> str:
    sys.path.insert(0, str(DAGS))
    from mellama_tasks.output import plan_ranges, task_ranges

    for count in range(40):
        for groups in range(1, 45):
            ranges = [tuple(map(int, text.split(".."))) for text in task_ranges(7, 7 + count, groups)]
            covered = [task for first, end in ranges for task in range(first, end)]
            assert covered == list(range(7, 7 + count)), (count, groups, ranges)
            assert len(ranges) == min(count, groups), (count, groups, ranges)
            assert all(end == first for (_, end), (first, _) in pairwise(ranges))
    assert task_ranges(0, 10**9, 3) == ["0..333333333", "333333333..666666666", "666666666..1000000000"]
    assert plan_ranges('{"stages":[{"stage":"pack","tasks":null,"complete":false}]}', "pack", 0, 4) == [f"0..{2**63 - 1}"]
    return "1,760 ways to cut up to 39 tasks"


def slurm_equals_mellama_run(scenes: Scenes) -> str:
    # The tasks of one index are committed already, so that this index ends with exit code 99.
    first = scenes.call("stage", "ingest", str(WHOLE), "--workdir", scenes.uri("slurm"), "--task", "0")
    assert first.returncode == 0, first.stderr
    ended, jobs = scenes.submit(WHOLE, "slurm")
    outputs = "".join(job.read_text() for job in sorted(jobs.glob("*.out")))
    assert ended.returncode == 0, ended.stderr
    assert not list(jobs.glob("*.failed")), outputs
    assert "nothing to do" in (jobs / "1.out").read_text(), outputs
    found = differences(scenes.reference, scenes.store("slurm"))
    assert found == [], found[:5]
    assert published(scenes.store("slurm")) == published(scenes.reference)
    again, jobs_again = scenes.submit(WHOLE, "slurm")
    outputs_again = [job.read_text() for job in jobs_again.glob("*.out")]
    assert again.returncode == 0 and not list(jobs_again.glob("*.failed")), outputs_again
    assert all("finished already" in output for output in outputs_again), outputs_again
    count, objects = len(ended.stdout.splitlines()), len(scenes.reference.objects())
    return f"{count} jobs, {objects} objects byte for byte; submitted again, every job finds its stage finished"


def slurm_failure_stops_the_rest(scenes: Scenes) -> str:
    _, jobs = scenes.submit(REJECTED, "slurm-rejected")
    failed = {int(job.stem) for job in jobs.glob("*.failed")}
    everything = {int(job.stem) for job in jobs.glob("*.out")}
    assert failed == everything, (failed, everything)
    assert "records rejected" in (jobs / "1.out").read_text()
    assert all("not run: job" in (jobs / f"{job}.out").read_text() for job in everything - {1})
    return f"exit code 3 is not tried again, {len(everything) - 1} jobs behind it are not run"


def slurm_sigterm(scenes: Scenes) -> str:
    workdir = str(scenes.folder / "signal-slurm")
    ended = scenes.call("run", str(WHOLE), "--workdir", workdir, "--until", "instruct-data")
    assert ended.returncode == 0, ended.stderr
    variables = {"MELLAMA_BIN": str(scenes.mellama), "MELLAMA_RECIPE": str(WHOLE), "MELLAMA_WORKDIR": workdir}
    variables |= {**scenes.variables, "MELLAMA_THREADS": "1"}
    shell = [
        "env",
        *(f"{name}={value}" for name, value in variables.items()),
        str(HERE.parent / "slurm/stage.sbatch"),
        "cpt",
    ]
    job = subprocess.Popen(shell, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    # `env` has become the script, and its child that computes is mellama in training.
    while not any(seconds_computed(child) >= BUSY_SECONDS for child in children_of(job.pid)):
        assert job.poll() is None, "it ended before it was told to"
        time.sleep(0.02)
    asked = time.monotonic()
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=30)
    assert job.returncode == 143, (job.returncode, said)
    return f"stopped {time.monotonic() - asked:.2f} s after SIGTERM, with exit code 143"


def containerfile_names_what_exists(scenes: Scenes) -> str:
    """There may be no engine to build it with; what it names can be looked up."""
    text = (HERE.parent / "Containerfile").read_text()
    workspace = tomllib.loads((PROJECT / "Cargo.toml").read_text())
    program = tomllib.loads((PROJECT / "cli/Cargo.toml").read_text())["bin"][0]["name"]
    assert f"cargo build --release --locked --bin {program}" in text
    assert f"/source/target/release/{program} " in text
    assert f"rust:{workspace['workspace']['package']['rust-version']}-" in text
    assert (PROJECT / "Cargo.lock").is_file(), "--locked needs it"
    assert re.search(r"^USER [1-9][0-9]*", text, re.MULTILINE), "it must not run as root"
    left_out = (HERE.parent / "Containerfile.dockerignore").read_text().split("\n")
    members = workspace["workspace"]["members"]
    assert not set(members) & set(left_out), "a crate is left out of the build"
    assert all((PROJECT / member / "Cargo.toml").is_file() for member in members)
    toolchain = workspace["workspace"]["package"]["rust-version"]
    return f"program {program}, toolchain {toolchain}, {len(members)} crates; not built here"


CHECKS: list[tuple[str, Check]] = [
    ("ranges_cover_every_task_once", ranges_cover_every_task_once),
    ("containerfile_names_what_exists", containerfile_names_what_exists),
    *both("dag_files_load", files_load),
    *both("exit_codes", exit_codes),
    *both("parameters_are_no_commands", parameters_are_no_commands),
    *both("sigterm_stops_in_ten_seconds", sigterm),
    *both("kubernetes_pods", pods),
    ("slurm_equals_mellama_run", slurm_equals_mellama_run),
    ("slurm_failure_stops_the_rest", slurm_failure_stops_the_rest),
    ("slurm_sigterm_stops_in_ten_seconds", slurm_sigterm),
]
