"""Calls the operators directly, in either environment: exit codes, signals, and what a pod is made of.

    operators.py exits                           fake programs that end with each code
    operators.py arguments RECIPE WORKDIR        a fake program that says what it was given
    operators.py signal MELLAMA RECIPE WORKDIR   training that is told to stop
    operators.py pod                             MELLAMA_OPERATOR=kubernetes; no cluster is asked for anything

The last line printed is JSON. It judges nothing: that is run.py.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import dag_files
from processes import seconds_computed

sys.path.insert(0, str(dag_files.DAGS))

BUSY_SECONDS = 0.5
CODES = (0, 1, 2, 3, 4, 5, 75, 99, 130, 143, "KILL")
RESULT: dict[str, Any] = {
    "stage": "ingest",
    "task": None,
    "tasks": 6,
    "pending": 0,
    "complete": True,
    "manifest": "w/manifests/ingest.json",
    "digest": "00",
    "counts": {},
}


def outcome_of(call: Any) -> str:
    """The name of what was raised, or what came back."""
    try:
        return f"returned {json.dumps(call())}"
    except Exception as raised:  # the name is what the check is about
        return type(raised).__name__


def operator(stage: str, recipe: str, workdir: str, command: str = "stage") -> Any:
    from mellama_tasks.call import MellamaBash

    made = MellamaBash(task_id="one", command=command, stage=stage, recipe=recipe, workdir=workdir)
    # Nothing is rendered here, so what would be parameters of a run is given.
    made.env |= {"MELLAMA_THREADS": "1", "MELLAMA_MEMORY": "1GiB"}
    return made


def exits() -> dict[str, str]:
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "mellama")
        os.environ["MELLAMA_BIN"] = str(program)
        for code in CODES:
            ending = "kill -KILL $$" if code == "KILL" else f"exit {code}"
            program.write_text(f"#!/bin/sh\necho '{json.dumps(RESULT)}'\n{ending}\n")
            program.chmod(0o755)
            outcomes[str(code)] = outcome_of(lambda: operator("ingest", "r", "w").execute({}))
            if code in (2, 4):
                outcomes[f"plan {code}"] = outcome_of(lambda: operator("ingest", "r", "w", "plan").execute({}))
    return outcomes


def arguments(recipe: str, workdir: str) -> list[str]:
    """What the program gets for these parameters."""
    with tempfile.TemporaryDirectory() as folder:
        program, given = Path(folder, "mellama"), Path(folder, "given")
        program.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > '{given}'\nexit 99\n")
        program.chmod(0o755)
        os.environ["MELLAMA_BIN"] = str(program)
        assert outcome_of(lambda: operator("ingest", recipe, workdir).execute({})) == "AirflowSkipException"
        return given.read_text().split("\0")[:-1]


def signal_training(mellama: str, recipe: str, workdir: str) -> dict[str, Any]:
    """Starts training and tells the operator to stop, as Airflow does on SIGTERM."""
    os.environ["MELLAMA_BIN"] = mellama
    made = operator("cpt", recipe, workdir)
    asked: list[float] = []

    def stop() -> None:
        wait_until_busy(made)
        asked.append(time.monotonic())
        made.on_kill()

    # The operator runs here and the signal comes from elsewhere, for 2.11 runs operators in the main thread only.
    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    message = message_of(lambda: made.execute({}))
    stopper.join(10)
    return {"seconds": round(time.monotonic() - asked[0], 2) if asked else None, "message": message}


def message_of(call: Any) -> str:
    try:
        return f"returned {call()}"
    except Exception as raised:
        return f"{type(raised).__name__}: {raised}"


def wait_until_busy(made: Any) -> None:
    """Half a second of computing is more than reading takes and less than training does."""
    deadline = time.monotonic() + 60
    while True:
        started = made.subprocess_hook.sub_process
        if started and seconds_computed(started.pid) >= BUSY_SECONDS:
            return
        if time.monotonic() > deadline:
            raise SystemExit("training did not begin in 60 s")
        time.sleep(0.05)


def pod() -> dict[str, Any]:
    bag = dag_files.load()
    dag = bag.dags["mellama_corpus"]
    plan = dag.get_task("ingest.plan")
    run = dag.get_task("ingest.run").unmap({"tasks": "0..3"})
    context = {"params": {"recipe": "/r.toml", "workdir": "s3://b/w", "threads": 2, "memory": "2GiB", "groups": 4}}
    described = {}
    for task in (plan, run):
        task.render_template_fields(context)
        described[task.task_id] = describe(task)
    return {
        "errors": bag.import_errors,
        "deferrable": run.deferrable,
        "pods": described,
        "exits": {str(code): outcome_of(lambda code=code: clean_up(run, code)) for code in CODES if code != "KILL"},
        "plan": outcome_of(lambda: plan.result({"stages": [{"stage": "ingest", "tasks": 6, "complete": False}]})),
        "finished": outcome_of(lambda: plan.result({"stages": [{"stage": "ingest", "tasks": 6, "complete": True}]})),
        "result": outcome_of(lambda: run.result(RESULT)),
    }


def describe(task: Any) -> dict[str, Any]:
    built = task.build_pod_request_obj()
    base = next(container for container in built.spec.containers if container.name == "base")
    return {
        "image": base.image,
        "command": base.command,
        "script": base.args,
        "variables": {variable.name: variable.value for variable in base.env if variable.name.startswith("MELLAMA")},
        "containers": [container.name for container in built.spec.containers],
        "mounts": [mount.mount_path for mount in base.volume_mounts],
        "grace": built.spec.termination_grace_period_seconds,
    }


def clean_up(task: Any, code: int) -> None:
    """What the operator does with a pod that has ended with this code."""
    from kubernetes.client import models

    ended = models.V1ContainerState(terminated=models.V1ContainerStateTerminated(exit_code=code))
    status = models.V1ContainerStatus(
        name="base", image="i", image_id="i", ready=False, restart_count=0, state=ended, last_state=ended
    )
    phase = "Succeeded" if code == 0 else "Failed"
    gone = models.V1Pod(
        metadata=models.V1ObjectMeta(name="pod", namespace="ns"),
        spec=models.V1PodSpec(containers=[models.V1Container(name="base")]),
        status=models.V1PodStatus(phase=phase, container_statuses=[status]),
    )
    # Everything that would ask the cluster; none of it runs Istio.
    cluster = ("patch_already_checked", "process_pod_deletion", "is_istio_enabled")
    with mock.patch.multiple(type(task), **{name: mock.Mock(return_value=False) for name in cluster}):
        task.cleanup(gone, gone, None, None)


def main() -> None:
    actions: dict[str, Any] = {"exits": exits, "arguments": arguments, "signal": signal_training, "pod": pod}
    print(json.dumps(actions[sys.argv[1]](*sys.argv[2:])))


if __name__ == "__main__":
    main()
