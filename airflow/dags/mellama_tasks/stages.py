"""Stages as groups of Airflow tasks: ask for the plan, do what it says, close.

    plan      the groups of the stage; skipped when the recipe has no such stage, or when it is finished
    run       one mapped task a group; a group whose tasks are all committed ends with exit code 99 and is skipped
    close     whatever is still missing, as a rule nothing: whichever task was last has written the manifest

A failure stops everything behind it, a skip stops nothing behind its stage. So `plan` runs when nothing before it
failed; `run` runs when its `plan` did; `close` runs when nothing failed and a plan was made, and is skipped with its
whole stage otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mellama_tasks.call import MellamaBash
from mellama_tasks.settings import Settings
from mellama_tasks.versions import TaskGroup

NONE_FAILED = "none_failed"
NONE_FAILED_AND_ONE_DONE = "none_failed_min_one_success"


@dataclass(frozen=True)
class Calls:
    """Makes the operators of one DAG: all with the same recipe and work folder, on workers or in pods."""

    settings: Settings
    recipe: str
    workdir: str

    def one(self, task_id: str, command: str, **how: Any) -> Any:
        operator, arguments = self._operator()
        return operator(task_id=task_id, command=command, **arguments, **how)

    def mapped(self, task_id: str, stage: str, ranges: Any) -> Any:
        """One task for each range."""
        operator, arguments = self._operator()
        limits = {"max_active_tis_per_dag": self.settings.max_active(), "map_index_template": "{{ task.tasks }}"}
        partial = operator.partial(task_id=task_id, command="stage", stage=stage, **limits, **arguments)
        return partial.expand(tasks=ranges)

    def _operator(self) -> tuple[Any, dict[str, Any]]:
        arguments = {"recipe": self.recipe, "workdir": self.workdir}
        kind = self.settings.text("OPERATOR", "bash")
        if kind == "bash":
            return MellamaBash, arguments
        if kind != "kubernetes":
            raise ValueError(f"MELLAMA_OPERATOR: {kind!r}: expected bash or kubernetes")
        from mellama_tasks.pods import MellamaPod

        return MellamaPod, {**arguments, **self._pod()}

    def _pod(self) -> dict[str, Any]:
        optional = {
            "namespace": self.settings.text("NAMESPACE"),
            "pod_template_file": self.settings.text("POD_TEMPLATE"),
            "service_account_name": self.settings.text("SERVICE_ACCOUNT"),
        }
        deferrable = self.settings.text("DEFERRABLE", "true").lower() == "true"
        given = {name: value for name, value in optional.items() if value}
        return {"image": self.settings.text("IMAGE", "mellama:latest"), "deferrable": deferrable, **given}


def mapped_stage(calls: Calls, stage: str, waves: int = 1) -> TaskGroup:
    """A stage whose tasks are spread over workers. Waves run one after the other, the tasks of one side by side."""
    with TaskGroup(group_id=stage) as group:
        close = calls.one("close", "stage", stage=stage, trigger_rule=NONE_FAILED_AND_ONE_DONE)
        run = None
        for wave in range(waves):
            suffix = f"_{wave}" if waves > 1 else ""
            plan = calls.one(f"plan{suffix}", "plan", stage=stage, wave=wave, trigger_rule=NONE_FAILED)
            if run is not None:
                run >> plan
            run = calls.mapped(f"run{suffix}", stage, plan.output)
            [plan, run] >> close
    return group


def whole_stage(calls: Calls, stage: str) -> TaskGroup:
    """A stage that is one task of mellama."""
    with TaskGroup(group_id=stage) as group:
        plan = calls.one("plan", "plan", stage=stage, trigger_rule=NONE_FAILED)
        plan >> calls.one("run", "stage", stage=stage)
    return group
