"""What the kernel says of processes: how long they have computed, who is above and below. It signals none."""

from __future__ import annotations

import os
from pathlib import Path


def stat_fields(process: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; the second is the name, in brackets, and may hold spaces."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def parent_of(process: int) -> int:
    return int(stat_fields(process)[1])


def seconds_computed(process: int) -> float:
    """User and system time so far; none of a process that is gone."""
    try:
        fields = stat_fields(process)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(process: int) -> list[int]:
    children = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and parent_of(int(folder.name)) == process:
                children.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return children
