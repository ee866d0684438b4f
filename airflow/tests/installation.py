"""One Airflow of the test: its environment, its home with a SQLite database, its commands, and what the database says.

It reads the database and never writes into it.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ports

DAGS = Path(__file__).resolve().parent.parent / "dags"
COMMAND_SECONDS = 300.0
RUN_SECONDS = 300.0
STOP_SECONDS = 15.0
# Seconds without a heartbeat after which a task counts as lost; 300 by default.
HEARTBEAT_SECONDS = 10


@dataclass(frozen=True)
class TaskInstance:
    """The last try of a task."""

    task: str
    map_index: int
    state: str
    tries: int
    start: float | None
    end: float | None


@dataclass
class Installation:
    environment: Path
    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        # The test must not meet the settings of whoever starts it.
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MELLAMA_", "PYTHON"))
        }
        self.variables = {
            **kept,
            "PATH": f"{self.environment / 'bin'}:{kept['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "MELLAMA_RETRY_SECONDS": "1",
            **self.settings,
        }

    def prepare(self) -> None:
        """A database that knows the DAGs."""
        self.airflow("db", "migrate")
        self.airflow("dags", "reserialize")

    def airflow(self, *arguments: str, may_fail: bool = False) -> int:
        """One command; its output goes to a file of the home, where the search for marks finds it."""
        return self.run(["airflow", *arguments], may_fail)

    def run(self, command: list[str], may_fail: bool = False) -> int:
        log = self.home / f"command-{len(list(self.home.glob('command-*'))):03}.log"
        with log.open("wb") as output:
            ended = subprocess.run(
                command,
                env=self.variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        if ended.returncode and not may_fail:
            raise RuntimeError(f"{' '.join(command[:3])}: exit code {ended.returncode}:\n{log.read_text()[-3000:]}")
        return ended.returncode

    def python(self, script: Path, *arguments: str, **variables: str) -> Any:
        """Runs a script of the test in this environment and returns what its last line says."""
        command = [str(self.environment / "bin/python"), "-B", str(script), *arguments]
        ended = subprocess.run(
            command,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if ended.returncode:
            raise RuntimeError(
                f"{script.name}: exit code {ended.returncode}:\n{ended.stdout[-2000:]}{ended.stderr[-3000:]}"
            )
        return json.loads(ended.stdout.splitlines()[-1])

    def test_dag(self, dag: str, parameters: dict[str, Any]) -> tuple[str, str]:
        """Runs a DAG in this process, task after task; returns the run's id and state."""
        before = {run for run, _ in self.runs(dag)}
        self.airflow("dags", "test", dag, "-c", json.dumps(parameters), may_fail=True)
        (new,) = [(run, state) for run, state in self.runs(dag) if run not in before]
        return new

    def runs(self, dag: str) -> list[tuple[str, str]]:
        return [
            (str(run), str(state))
            for run, state in self.rows("SELECT run_id, state FROM dag_run WHERE dag_id = ? ORDER BY id", dag)
        ]

    def tasks(self, dag: str, run: str) -> list[TaskInstance]:
        rows = self.rows(
            "SELECT task_id, map_index, state, try_number, 86400 * julianday(start_date), 86400 * julianday(end_date)"
            " FROM task_instance WHERE dag_id = ? AND run_id = ?",
            dag,
            run,
        )
        return [TaskInstance(*row) for row in rows]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(query, values).fetchall()


@contextmanager
def services(installation: Installation) -> Iterator[None]:
    """Scheduler with LocalExecutor, DAG processor and API server of Airflow 3, for as long as the block runs."""
    port = ports.free()
    installation.variables |= {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_SECONDS),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        # A worker often sees the end of a skipped task only with its next heartbeat, which is five seconds away by
        # default.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    # Without its log server the scheduler opens no port.
    commands = {
        "api-server": ["api-server"],
        "dag-processor": ["dag-processor"],
        "scheduler": ["scheduler", "--skip-serve-logs"],
    }
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, arguments in commands.items():
            log = (installation.home / f"{name}.log").open("wb")
            process = subprocess.Popen(
                ["airflow", *arguments],
                env=installation.variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            started.append(process)
            if name == "api-server":
                ports.wait_for(port, process)
        yield
    finally:
        for process in reversed(started):
            stop_group(process)


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a service, and then whatever it started and left."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_run(installation: Installation, dag: str, number: int) -> tuple[str, str]:
    """Id and state of the run of that number, from 0, when it is over."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        runs = installation.runs(dag)
        if len(runs) > number and runs[number][1] in ("success", "failed"):
            return runs[number]
        time.sleep(0.5)
    raise RuntimeError(f"{dag}: run {number} was not over after {RUN_SECONDS:.0f} s: {installation.runs(dag)}")


def most_at_once(tasks: list[TaskInstance]) -> int:
    """How many of the task instances ran at the same time, by the times in the database."""
    starts = [(task.start, 1) for task in tasks if task.start is not None]
    ends = [(task.end, -1) for task in tasks if task.end is not None]
    running = most = 0
    for _, change in sorted(starts + ends):
        running += change
        most = max(most, running)
    return most
