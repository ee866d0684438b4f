"""Stands before mellama in the test and brings it into trouble, each kind once, the same in every run of the test.

    ingest      starts only when as many groups as the test wants are there at the same time
    dedup       one group is killed in the middle, twice
    tokenize    one group is killed in the middle, and with it what runs it in Airflow, as when a machine goes dark
    mix         the first call ends with exit code 75

Everything else, and every later call, is mellama itself. "In the middle" is not a matter of luck: the process is
stopped every millisecond and killed when a task of its group is committed and another is not.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from processes import parent_of
from store import store_at

MEETING_SECONDS = 120.0
# Short against a task, which ends with several syncs of a disk or requests to a server.
SLICE_SECONDS = 0.001
KILLS = {"dedup": 2, "tokenize": 1}


def main() -> int:
    real, folder = os.environ["MELLAMA_REAL"], Path(os.environ["MELLAMA_TROUBLE"])
    arguments = sys.argv[1:]
    stage, tasks = stage_and_tasks(arguments)
    if stage == "mix" and first_time(folder / "mix"):
        print("error: stand-in: the store is busy", file=sys.stderr)
        return 75
    if stage == "ingest" and tasks:
        meet(folder / "meeting", int(os.environ["MELLAMA_MEETING"]))
    if stage in KILLS and tasks and is_chosen(folder, stage, tasks):
        done = committed(arguments, stage, tasks)
        start_and_kill([real, *arguments], done, len(tasks), folder)
        if stage == "tokenize":
            kill_airflow_above()
        os.kill(os.getpid(), signal.SIGKILL)
    os.execv(real, [real, *arguments])


def stage_and_tasks(arguments: list[str]) -> tuple[str, range]:
    if arguments[:1] != ["stage"] or "--task" not in arguments:
        return (arguments[1] if arguments[:1] == ["stage"] else "", range(0))
    first, _, end = arguments[arguments.index("--task") + 1].partition("..")
    return arguments[1], range(int(first), int(end))


def first_time(mark: Path) -> bool:
    """Whether this process is the one that makes the mark; of many at once one is."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def meet(folder: Path, wanted: int) -> None:
    """Waits until `wanted` processes are here. Were they run one after the other, none would ever go on."""
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + MEETING_SECONDS
    while len(list(folder.iterdir())) < wanted:
        if time.monotonic() > deadline:
            raise SystemExit("stand-in: the other groups did not come")
        time.sleep(0.02)


def is_chosen(folder: Path, stage: str, tasks: range) -> bool:
    """The first group with enough tasks is the one in trouble, as often as `KILLS` says."""
    if len(tasks) <= KILLS[stage]:
        return False
    chosen = folder / f"{stage}-chosen"
    name = f"{tasks.start}..{tasks.stop}"
    if first_time(folder / f"{stage}-taken"):
        chosen.write_text(name)
    if not chosen.exists() or chosen.read_text() != name:
        return False
    return any(first_time(folder / f"{stage}-kill-{number}") for number in range(KILLS[stage]))


def committed(arguments: list[str], stage: str, tasks: range) -> Callable[[], int]:
    """Counts the tasks that are committed, by what is in the store."""
    store = store_at(arguments[arguments.index("--workdir") + 1])
    return lambda: sum(store.exists(f"commits/{stage}/{task:05}.json") for task in tasks)


def start_and_kill(command: list[str], done: Callable[[], int], tasks: int, folder: Path) -> None:
    before = done()
    child = subprocess.Popen(command)
    while child.poll() is None:
        child.send_signal(signal.SIGSTOP)
        if before < done() < tasks:
            child.kill()
            child.wait()
            (folder / f"killed-{child.pid}").write_text(f"{done()} of {tasks} committed")
            return
        child.send_signal(signal.SIGCONT)
        time.sleep(SLICE_SECONDS)
    (folder / "too-late").touch()


def kill_airflow_above() -> None:
    """Kills what runs this task: the worker first, so that it cannot tell anybody, then the process of the task."""
    runner = os.getppid()
    worker = parent_of(runner)
    if b"LocalExecutor" not in Path(f"/proc/{worker}/cmdline").read_bytes():
        raise SystemExit("stand-in: this is not run by a worker of LocalExecutor")
    os.kill(worker, signal.SIGKILL)
    os.kill(runner, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
