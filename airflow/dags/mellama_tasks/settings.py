"""What a site sets in the environment, and the parameters that a person may change for one run.

The environment is read when a DAG file is parsed, and has to be the same there and on the workers. Nothing secret is
read here: credentials belong into the environment, profile or role of the worker, where mellama finds them by itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mellama_tasks.versions import EXPONENTIAL_BACKOFF, Asset, Param, conf

MAX_RETRY_DELAY = timedelta(minutes=10)


@dataclass(frozen=True)
class Settings:
    """Settings of one DAG; `MELLAMA_MODEL_X` stands before `MELLAMA_X` in the settings of the DAG of the model."""

    part: str = ""

    def text(self, name: str, default: str = "") -> str:
        own = os.environ.get(f"MELLAMA_{self.part}_{name}") if self.part else None
        return own or os.environ.get(f"MELLAMA_{name}") or default

    def number(self, name: str, default: int) -> int:
        return int(self.text(name, str(default)))

    def params(self) -> dict[str, Param]:
        """Parameters of a run. The program is not among them: whoever may start a run could start any program."""
        max_groups = conf.getint("core", "max_map_length")
        return {
            "recipe": Param(
                self.text("RECIPE"),
                type="string",
                pattern="^(/.+)?$",
                description="The recipe, a TOML file, by its absolute path on the workers.",
            ),
            "workdir": Param(
                self.text("WORKDIR"),
                type="string",
                pattern="^((/|s3://).+)?$",
                description="The work folder: an absolute path that all workers share, or s3://bucket/prefix.",
            ),
            "threads": Param(
                self.number("THREADS", 2), type="integer", minimum=1, description="Threads of one call of mellama."
            ),
            "memory": Param(
                self.text("MEMORY", "2GiB"),
                type="string",
                pattern="^[0-9]+ ?([KMGT]i?B)?$",
                description="Memory for buffers of one call of mellama.",
            ),
            "groups": Param(
                min(self.number("GROUPS", 64), max_groups),
                type="integer",
                minimum=1,
                maximum=max_groups,
                description="Mapped tasks of one stage at most; each takes a contiguous range of the stage's tasks.",
            ),
        }

    def task_defaults(self) -> dict[str, Any]:
        """How often and how soon a task is tried again, and where. That is always safe: commits are idempotent."""
        defaults = {
            "retries": self.number("RETRIES", 4),
            "retry_delay": timedelta(seconds=self.number("RETRY_SECONDS", 30)),
            "retry_exponential_backoff": EXPONENTIAL_BACKOFF,
            "max_retry_delay": MAX_RETRY_DELAY,
            "pool": self.text("POOL", "default_pool"),
        }
        queue = self.text("QUEUE")
        return {**defaults, "queue": queue} if queue else defaults

    def max_active(self) -> int:
        """Mapped tasks of one stage that may run at once."""
        return self.number("MAX_ACTIVE", 16)

    def corpus_asset(self) -> Asset:
        """What stands for "there is a new corpus". Where it lies is in the event: a run may choose its work folder."""
        name = self.text("ASSET", "mellama-corpus")
        return Asset(name=name, uri=f"x-mellama://{name}")
