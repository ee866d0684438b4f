"""What the checks look at: runs of mellama alone, under both Airflows, and under the stand-in for Slurm.

Each is done once, when it is first asked for. It judges nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from inputs import Marks, write_private_source
from installation import Installation, TaskInstance, services, wait_for_run
from store import BUCKET, Folder, Server, Store, store_at

HERE = Path(__file__).resolve().parent
RECIPES = HERE / "recipes"
WHOLE, NOTHING_LEFT, REJECTED = (RECIPES / f"{name}.toml" for name in ("whole", "nothing-left", "rejected"))
# Groups of a stage. Ingest has six tasks, so that one group has two; the bands of dedup are fourteen, so that most
# groups have three.
GROUPS = 5
# Groups of ingest that have to be there at once before any of them starts.
MEETING = 4
CORPUS, MODEL = "mellama_corpus", "mellama_model"
NO_CLUSTER = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "current-context": "none",
    "users": [{"name": "none", "user": {}}],
}


@dataclass(frozen=True)
class DagRun:
    """A run of a DAG that is over."""

    id: str
    state: str
    tasks: list[TaskInstance]

    def of(self, task: str) -> list[TaskInstance]:
        return [instance for instance in self.tasks if instance.task == task]

    def states(self, task: str) -> list[str]:
        return sorted(instance.state for instance in self.of(task))


class Scenes:
    def __init__(self, folder: Path, mellama: Path, environments: dict[int, Path], kind: str) -> None:
        self.folder, self.mellama, self.kind, self.environments = folder, mellama, kind, environments
        self.workers = ThreadPoolExecutor(max_workers=len(environments))
        self.versions: set[int] = set()
        self.runs: dict[int, Future[dict[str, DagRun]]] = {}
        self.marks = Marks.draw()
        inputs = folder / "inputs"
        inputs.mkdir()
        write_private_source(inputs, self.marks)
        # What every process of the test finds, as it would be on a worker. With folders the credential has no use but
        # to be looked for afterwards.
        os.environ["AWS_SECRET_ACCESS_KEY"] = self.marks.secret
        self.server = Server(folder / "s3.log", self.marks.secret) if kind == "s3" else None
        self.variables = {"MELLAMA_TEST_INPUTS": str(inputs)}

    def close(self) -> None:
        self.workers.shutdown(cancel_futures=True)
        if self.server:
            self.server.stop()

    def uri(self, name: str) -> str:
        """Where the work folder of that name lies."""
        return f"s3://{BUCKET}/{name}" if self.kind == "s3" else str(self.folder / name)

    def store(self, name: str) -> Store:
        return store_at(self.uri(name))

    def parameters(self, recipe: Path, workdir: str) -> dict[str, Any]:
        return {"recipe": str(recipe), "workdir": self.uri(workdir), "groups": GROUPS, "threads": 1, "memory": "512MiB"}

    def call(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """mellama itself."""
        command = [str(self.mellama), *arguments]
        return self.command(command, **variables)

    def command(self, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.variables, **variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    @cached_property
    def reference(self) -> Folder:
        """What `mellama run` makes of the whole recipe, always in a folder."""
        root = self.folder / "reference"
        ended = self.call("run", str(WHOLE), "--workdir", str(root), "--threads", "2")
        assert ended.returncode == 0, ended.stderr
        return Folder(root)

    # Airflow

    @cached_property
    def three(self) -> Installation:
        return self._installation(3, MELLAMA_BIN=str(self._mellama_in_trouble()))

    @cached_property
    def two(self) -> Installation:
        return self._installation(2, MELLAMA_BIN=str(self.mellama))

    def installation(self, version: int) -> Installation:
        return self.three if version == 3 else self.two

    def _installation(self, version: int, **variables: str) -> Installation:
        settings = {**self.variables, **variables, "KUBECONFIG": str(self._kubeconfig())}
        made = Installation(self.environments[version], self.folder / f"airflow{version}", settings)
        made.prepare()
        return made

    def _kubeconfig(self) -> Path:
        """Names a cluster where nobody listens: building a pod asks for the name alone."""
        file = self.folder / "kubeconfig"
        file.write_text(json.dumps(NO_CLUSTER))
        return file

    @property
    def trouble(self) -> Path:
        return self.folder / "trouble"

    def _mellama_in_trouble(self) -> Path:
        self.trouble.mkdir()
        program = self.folder / "mellama-in-trouble"
        lines = [
            "#!/bin/sh",
            f"export MELLAMA_REAL='{self.mellama}' MELLAMA_TROUBLE='{self.trouble}' MELLAMA_MEETING={MEETING}",
            f"exec '{sys.executable}' -B '{HERE / 'mellama_in_trouble.py'}' \"$@\"",
        ]
        program.write_text("\n".join(lines) + "\n")
        program.chmod(0o755)
        return program

    def runs_on(self, version: int) -> dict[str, DagRun]:
        """Runs of both DAGs by name. Both versions start when one is asked for: each waits more than it computes."""
        actions = {3: self._runs_on_three, 2: self._runs_on_two}
        for each in self.versions | {version}:
            if each not in self.runs:
                self.runs[each] = self.workers.submit(actions[each])
        return self.runs[version].result()

    def _runs_on_three(self) -> dict[str, DagRun]:
        """All services and LocalExecutor; the model's DAG is started by the event of the corpus."""
        airflow = self.three
        runs: dict[str, DagRun] = {}
        with services(airflow):
            recipes = {
                "whole": (WHOLE, "on-3"),
                "again": (WHOLE, "on-3"),
                "nothing-left": (NOTHING_LEFT, "on-3-nothing"),
                "rejected": (REJECTED, "on-3-rejected"),
            }
            models = 0
            for number, (name, (recipe, workdir)) in enumerate(recipes.items()):
                parameters = json.dumps(self.parameters(recipe, workdir))
                airflow.airflow("dags", "trigger", CORPUS, "-c", parameters)
                runs[name] = self._run(airflow, CORPUS, wait_for_run(airflow, CORPUS, number))
                if name in ("whole", "nothing-left"):
                    runs[f"{name}-model"] = self._run(airflow, MODEL, wait_for_run(airflow, MODEL, models))
                    models += 1
        return runs

    def _runs_on_two(self) -> dict[str, DagRun]:
        """`airflow dags test`: task after task in one process."""
        airflow = self.two
        whole, nothing = self.parameters(WHOLE, "on-2"), self.parameters(NOTHING_LEFT, "on-2-nothing")
        rejected = self.parameters(REJECTED, "on-2-rejected")
        scenes = {
            "whole": (CORPUS, whole),
            "whole-model": (MODEL, whole),
            "again": (CORPUS, whole),
            "nothing-left": (CORPUS, nothing),
            "nothing-left-model": (MODEL, nothing),
            "rejected": (CORPUS, rejected),
        }
        return {name: self._run(airflow, dag, airflow.test_dag(dag, given)) for name, (dag, given) in scenes.items()}

    def _run(self, airflow: Installation, dag: str, run: tuple[str, str]) -> DagRun:
        identity, state = run
        return DagRun(identity, state, airflow.tasks(dag, identity))

    # Slurm

    def submit(self, recipe: Path, workdir: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        """Submits every stage to the stand-in for sbatch; its folder holds the output of each job."""
        jobs = self.folder / f"jobs-{len(list(self.folder.glob('jobs-*')))}"
        jobs.mkdir()
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        sbatch = programs / "sbatch"
        sbatch.unlink(missing_ok=True)
        sbatch.symlink_to(HERE / "sbatch")
        variables = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SBATCH_FOLDER": str(jobs),
            "MELLAMA_BIN": str(self.mellama),
            "MELLAMA_GROUPS": str(GROUPS),
            "MELLAMA_MAX_ACTIVE": "2",
            "MELLAMA_THREADS": "1",
            "MELLAMA_RETRY_SECONDS": "1",
        }
        command = [str(HERE.parent / "slurm/submit"), str(recipe), self.uri(workdir)]
        return self.command(command, **variables), jobs
