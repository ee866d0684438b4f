"""Checks of what runs of the DAGs left behind: in Airflow's database and logs, and in the work folders."""

from __future__ import annotations

import json

from checks import Check, both
from installation import most_at_once
from scenes import MEETING, DagRun, Scenes
from store import differences, published

XCOM_BYTES = 4096


def succeeded(run: DagRun) -> None:
    states = {f"{task.task}[{task.map_index}]": task.state for task in run.tasks}
    assert run.state == "success", (run.state, states)
    assert set(states.values()) <= {"success", "skipped"}, states


def groups_run_at_once(scenes: Scenes) -> str:
    run = scenes.runs_on(3)["whole"]
    succeeded(run)
    groups = run.of("ingest.run")
    most = most_at_once(groups)
    assert len(groups) >= MEETING and most >= MEETING, (len(groups), most)
    seconds = max(task.end or 0 for task in run.tasks) - min(task.start or 1e12 for task in run.tasks)
    at_once = {task: most_at_once(run.of(task)) for task in sorted({task.task for task in run.tasks})}
    others = {task: most for task, most in at_once.items() if most > 1 and task != "ingest.run"}
    detail = f"{len(groups)} groups of ingest, {most} at once by start and end; others: {others}"
    return f"{detail}; {len(run.tasks)} task instances in {seconds:.0f} s"


def stages_are_spread(scenes: Scenes, version: int) -> str:
    """Fails where `plan --json` knows no number though the stage before is finished: then one group does it all."""
    run = scenes.runs_on(version)["whole"]
    counts = {stage: len(run.of(f"{stage}.run")) for stage in ("ingest", "tokenize", "pack", "publish")}
    counts["dedup bands"] = len(run.of("dedup.run_1"))
    assert min(counts.values()) > 1, f"groups of each stage: {counts}"
    return f"groups of each stage: {counts}"


def equals_mellama_run(scenes: Scenes, version: int) -> str:
    runs = scenes.runs_on(version)
    succeeded(runs["whole"])
    succeeded(runs["whole-model"])
    store = scenes.store(f"on-{version}")
    found = differences(scenes.reference, store)
    assert found == [], (len(found), found[:5])
    digests = published(store)
    assert digests == published(scenes.reference) and len(digests) == 11, digests
    objects = scenes.reference.objects()
    total = sum(map(len, objects.values()))
    return f"{len(objects)} objects, {total:,} bytes, digests of {len(digests)} stages"


def event_starts_the_model(scenes: Scenes) -> str:
    airflow, run = scenes.three, scenes.runs_on(3)["whole-model"]
    assert run.id.startswith("asset_triggered"), run.id
    succeeded(run)
    rows = airflow.rows("SELECT extra FROM asset_event ORDER BY id")
    events = [json.loads(extra) for (extra,) in rows]
    whole = events[0]
    assert whole["manifest"] == f"{scenes.uri('on-3')}/manifests/publish.json", whole
    assert whole["digest"] == published(scenes.reference)["publish"], whole
    assert len(events) == 2, (
        "one event for each new corpus: none for the one that was there, none for the one that failed"
    )
    kind = run.id.partition("__")[0]
    return f"{kind}, {len(run.tasks)} task instances; the event names {whole['manifest']} and {whole['digest'][:16]}"


def second_run_skips_everything(scenes: Scenes, version: int) -> str:
    run = scenes.runs_on(version)["again"]
    succeeded(run)
    done = sorted(task.task for task in run.tasks if task.state == "success")
    assert done == ["corpus"], done
    return f"{len(run.tasks) - 1} task instances skipped, the one that reads the status succeeded; no second event"


def failed_stage_stops_the_rest(scenes: Scenes, version: int) -> str:
    run = scenes.runs_on(version)["rejected"]
    assert run.state == "failed", run.state
    states = {task.task: (task.state, task.tries) for task in run.tasks}
    assert states["ingest.run"] == ("failed", 1), states
    behind = {state for name, (state, _) in states.items() if name not in ("ingest.plan", "ingest.run")}
    assert behind == {"upstream_failed"}, states
    return f"ingest failed with exit code 3 on its first try, {len(states) - 2} tasks behind it were not run"


def retried_twice(scenes: Scenes) -> str:
    run = scenes.runs_on(3)["whole"]
    assert not (scenes.trouble / "too-late").exists(), "a group was over before it could be killed"
    chosen = (scenes.trouble / "dedup-chosen").read_text()
    kills = sorted(mark.read_text() for mark in scenes.trouble.glob("killed-*"))
    tries = sorted(task.tries for task in run.of("dedup.run_1"))
    assert tries[-1] == 3 and tries[-2] == 1, tries
    assert run.states("dedup.run_1") == ["success"] * len(tries)
    assert kills.count("1 of 3 committed") == 1 and kills.count("2 of 3 committed") == 1, kills
    assert [task.tries for task in run.of("mix.run")] == [2], "exit code 75 is tried again"
    return f"tasks {chosen} of dedup killed after 1 and after 2 of 3, third try succeeded; mix: 75, then success"


def worker_killed(scenes: Scenes) -> str:
    run = scenes.runs_on(3)["whole"]
    chosen = (scenes.trouble / "tokenize-chosen").read_text()
    tries = sorted(task.tries for task in run.of("tokenize.run"))
    assert tries[-1] == 2 and tries[-2] == 1, tries
    assert run.states("tokenize.run") == ["success"] * len(tries)
    lost = scenes.three.rows("SELECT count(*) FROM log WHERE event = 'heartbeat timeout'")[0][0]
    assert lost >= 1, "the scheduler saw no lost task"
    killed = f"worker, task process and mellama killed during tasks {chosen} of tokenize"
    return f"{killed}; missed by its heartbeat, second try succeeded"


def zero_shards_skip(scenes: Scenes, version: int) -> str:
    run = scenes.runs_on(version)["nothing-left"]
    succeeded(run)
    assert set(run.states("pack.run")) == {"skipped"}, run.states("pack.run")
    dedup = {task.state for task in run.tasks if task.task.startswith("dedup.")}
    assert dedup == {"skipped"}, dedup
    assert "success" in run.states("publish.run"), run.states("publish.run")
    model = scenes.runs_on(version)["nothing-left-model"]
    succeeded(model)
    done = sorted(task.task for task in model.tasks if task.state == "success")
    assert done == ["corpus", "report.plan", "report.run"], done
    assert scenes.store(f"on-{version}-nothing").exists("_SUCCESS"), "what follows a skip has to run"
    return "pack with 0 tasks: skipped; parts that the recipe lacks: skipped; what follows ran, to _SUCCESS"


def xcom_small(scenes: Scenes, version: int) -> str:
    scenes.runs_on(version)
    rows = scenes.installation(version).rows("SELECT task_id, key, length(value) FROM xcom")
    largest = max(rows, key=lambda row: row[2])
    assert largest[2] < XCOM_BYTES, largest
    assert len(rows) > 30, rows
    return f"{len(rows)} rows, the largest {largest[2]} bytes ({largest[0]})"


def no_text_in_airflow(scenes: Scenes, version: int) -> str:
    """Marks stand in every field of a `dua` source, and one in the place of a credential."""
    scenes.runs_on(version)
    airflow = scenes.installation(version)
    found = scenes.call("inspect", str(scenes.reference.root), "--id", "private:1")
    assert found.returncode == 0, "the marked notes are not in the corpus"
    digest = published(scenes.reference)["publish"]
    files = [file for file in airflow.home.rglob("*") if file.is_file()]
    bodies = {file: file.read_bytes() for file in files}
    # The search finds what is there: the digest of the corpus stands in the database and in logs.
    holders = {file.suffix for file, body in bodies.items() if digest.encode() in body}
    assert {".db", ".log"} <= holders, holders
    seen = {str(file.relative_to(airflow.home)) for file, body in bodies.items() if holds_mark(body, scenes)}
    assert seen == set(), seen
    total = sum(map(len, bodies.values()))
    return f"{len(files)} files of Airflow's home, {total:,} bytes: database, logs, output of all services"


def holds_mark(body: bytes, scenes: Scenes) -> bool:
    return any(mark.encode() in body for mark in scenes.marks.all())


CHECKS: list[tuple[str, Check]] = [
    ("groups_run_at_once_on_3.3", groups_run_at_once),
    *both("stages_are_spread", stages_are_spread),
    *both("equals_mellama_run", equals_mellama_run),
    ("event_starts_the_model_on_3.3", event_starts_the_model),
    *both("second_run_skips_everything", second_run_skips_everything),
    *both("failed_stage_stops_the_rest", failed_stage_stops_the_rest),
    ("case_48_task_retried_twice_on_3.3", retried_twice),
    ("case_48_worker_killed_on_3.3", worker_killed),
    *both("case_48_zero_shards_skip", zero_shards_skip),
    *both("case_48_xcom_small", xcom_small),
    *both("case_48_no_text_in_airflow", no_text_in_airflow),
]
