"""One call of mellama as an Airflow operator: its command, its variables, the meaning of its exit code and last line.

Everything that a person may choose reaches the shell as an environment variable and never as text of the command, so
no parameter can become a command. No secret passes through here: the process inherits the environment of its worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mellama_tasks.output import NothingToDo, corpus_pointer, plan_ranges, stage_pointer
from mellama_tasks.versions import AirflowException, AirflowFailException, AirflowSkipException, BashOperator

NOTHING_TO_DO = 99
# Recipe, input and verification: the same call would end the same way, so only a person can help.
FINAL_EXIT_CODES = {2: "recipe, arguments or policy", 3: "input", 5: "verification"}
# SIGTERM has to leave time for what mellama promises: stopped in ten seconds.
TERMINATION_SECONDS = 30

_MELLAMA = '"${MELLAMA_BIN:-mellama}"'
_RECIPE = '"$MELLAMA_RECIPE" --workdir "$MELLAMA_WORKDIR"'
_HOW = '--threads "$MELLAMA_THREADS" --memory "$MELLAMA_MEMORY"'

# `exec`, so that mellama itself gets the signals.
SCRIPTS = {
    "plan": f"exec {_MELLAMA} plan {_RECIPE} --json --stages",
    "stage": f'exec {_MELLAMA} stage "$MELLAMA_STAGE" {_RECIPE} ${{MELLAMA_TASKS:+--task "$MELLAMA_TASKS"}} {_HOW}',
    "status": f"exec {_MELLAMA} status {_RECIPE} --json",
}


class Call:
    """Mixed into an operator that runs a shell command; `command` is a key of `SCRIPTS`."""

    command: str
    stage: str
    wave: int
    groups: str
    log: Any

    def variables(self, recipe: str, workdir: str, tasks: str) -> dict[str, str]:
        """What the script reads. Values may be templates."""
        return {
            "MELLAMA_RECIPE": recipe,
            "MELLAMA_WORKDIR": workdir,
            "MELLAMA_STAGE": self.stage,
            "MELLAMA_TASKS": tasks,
            "MELLAMA_THREADS": "{{ params.threads }}",
            "MELLAMA_MEMORY": "{{ params.memory }}",
        }

    def result(self, printed: Any) -> Any:
        """What is put into the XCom."""
        readers: dict[str, Callable[[], Any]] = {
            "plan": lambda: plan_ranges(printed, self.stage, self.wave, int(self.groups)),
            "stage": lambda: stage_pointer(printed),
            "status": lambda: corpus_pointer(printed),
        }
        try:
            return readers[self.command]()
        except NothingToDo as nothing:
            raise AirflowSkipException(str(nothing)) from None


def check_exit(code: int | None, what: str) -> None:
    """Turns an exit code into what Airflow understands: skip, fail for good, or try again."""
    if code == NOTHING_TO_DO:
        raise AirflowSkipException(f"{what}: nothing to do")
    if code in FINAL_EXIT_CODES:
        raise AirflowFailException(f"{what}: exit code {code}, {FINAL_EXIT_CODES[code]}; trying again would not help")
    if code:
        raise AirflowException(f"{what}: exit code {code}")


class MellamaBash(Call, BashOperator):
    """Runs mellama on the worker. `tasks` is a range such as `0..64`, or empty for all that is missing."""

    template_fields = ("groups", "tasks", *BashOperator.template_fields)

    def __init__(
        self,
        *,
        command: str,
        recipe: str,
        workdir: str,
        stage: str = "",
        wave: int = 0,
        tasks: str = "",
        groups: str = "{{ params.groups }}",
        **kwargs: Any,
    ) -> None:
        self.command, self.stage, self.wave, self.tasks, self.groups = command, stage, wave, tasks, groups
        variables = self.variables(recipe, workdir, tasks)
        super().__init__(bash_command=SCRIPTS[command], env=variables, append_env=True, **kwargs)

    def execute(self, context: Any) -> Any:
        """Runs the command. BashOperator would try every failure again; `check_exit` knows which ones are worth it."""
        command = ["bash", "-c", self.bash_command]
        ended = self.subprocess_hook.run_command(command=command, env=self.get_env(context), cwd=self.cwd)
        check_exit(ended.exit_code, f"mellama {self.command} {self.stage}".rstrip())
        return self.result(ended.output)
