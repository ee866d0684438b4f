"""What mellama prints, read into the little that Airflow keeps: ranges of tasks, and pointers to manifests.

Imports nothing of Airflow, so that it can be tested without. It never opens a store: digests and counts are taken as
mellama says them, and lists of objects stay where they are.
"""

from __future__ import annotations

import json
from typing import Any

CORPUS_STAGES = ("ingest", "dedup", "tokenize", "mix", "pack", "publish")

# An XCom is a row in Airflow's database. A pointer has some 600 bytes; what is larger is not a pointer.
MAX_POINTER_BYTES = 4096
# Where the plan knows no number, one group takes what there is. If there cannot be any, as the inputs or the stage
# before are missing, mellama says so better than we could.
ALL_TASKS = f"0..{2**63 - 1}"
POINTER_KEYS = ("stage", "task", "tasks", "pending", "complete", "manifest", "digest", "counts")


class NothingToDo(Exception):
    """The stage is not in the recipe, is finished, or has no such wave: skip its tasks and go on."""


class NotFinished(Exception):
    """The corpus is not finished, though every task says so."""


def task_ranges(first: int, end: int, groups: int) -> list[str]:
    """Cuts the tasks `first..end` into at most `groups` contiguous ranges of nearly equal length, as for `--task`."""
    count = min(groups, end - first)
    cuts = [first + (end - first) * i // count for i in range(count + 1)] if count > 0 else []
    return [f"{low}..{high}" for low, high in zip(cuts, cuts[1:])]


def plan_ranges(printed: str, stage: str, wave: int, groups: int) -> list[str]:
    """The groups of one stage, or of one wave of it, from `mellama plan --json --stages`."""
    entry = next((entry for entry in json_of(printed)["stages"] if entry["stage"] == stage), None)
    if entry is None:
        raise NothingToDo(f"stage {stage}: the recipe has no part for it")
    if entry["complete"]:
        raise NothingToDo(f"stage {stage}: finished already")
    if entry["tasks"] is None:
        return [ALL_TASKS]
    waves = entry.get("waves") or [[0, entry["tasks"]]]
    if wave >= len(waves):
        raise NothingToDo(f"stage {stage}: it has {len(waves)} waves")
    first, end = waves[wave]
    return task_ranges(first, end, groups)


def stage_pointer(printed: str) -> dict[str, Any]:
    """Where the manifest of a stage lies, its digest, and counts, from the object that `mellama stage` prints."""
    result = json_of(printed)
    return small({key: result[key] for key in POINTER_KEYS})


def corpus_pointer(printed: str) -> dict[str, Any]:
    """Where the manifest of the finished corpus lies, its digest, and counts, from `mellama status --json`."""
    status = json_of(printed)
    last = [entry for entry in status["stages"] if entry["stage"] in CORPUS_STAGES]
    open_stages = [stage for stage in status["to_do"] if stage in CORPUS_STAGES]
    if open_stages:
        raise NotFinished(f"the corpus is not finished: {', '.join(open_stages)}")
    if not last:
        raise NothingToDo("the recipe has no corpus")
    stage = last[-1]
    return small(
        {
            "workdir": status["workdir"],
            "plan": status["plan"],
            "stage": stage["stage"],
            "manifest": f"{status['workdir']}/manifests/{stage['stage']}.json",
            "digest": stage["digest"],
            "counts": stage["counts"],
        }
    )


def json_of(printed: str | dict | list | None) -> Any:
    """The last line that was printed; a pod hands it over parsed."""
    if isinstance(printed, str):
        try:
            return json.loads(printed)
        except ValueError:
            # Without the line: whatever it is, it is no pointer.
            raise ValueError("mellama did not end with a line of JSON; see the log above") from None
    if printed is None:
        raise ValueError("mellama printed no result")
    return printed


def small(pointer: dict[str, Any]) -> dict[str, Any]:
    """Refuses what is too large to be a pointer."""
    length_bytes = len(json.dumps(pointer))
    if length_bytes > MAX_POINTER_BYTES:
        raise ValueError(
            f"a result of {length_bytes} bytes, at most {MAX_POINTER_BYTES} expected; it is not put into an XCom"
        )
    return pointer
