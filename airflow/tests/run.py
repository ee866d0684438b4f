"""The checks of airflow/test: each has a name, passes or fails with one line, and says what it saw.

What takes long is done once, when the first check asks for it (scenes.py); the checks only look at what it left behind.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import checks_of_runs
import checks_of_tools
from checks import VERSIONS, Check
from scenes import Scenes

CHECKS: list[tuple[str, Check]] = [*checks_of_tools.CHECKS, *checks_of_runs.CHECKS]


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--mellama", "--airflow3", "--airflow2"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    wanted = [(name, check) for name, check in CHECKS if not given.words or any(word in name for word in given.words)]
    if not wanted:
        print(f"airflow/test: no check has {' or '.join(given.words)} in its name", file=sys.stderr)
        return 2
    kind = os.environ.get("AIRFLOW_TEST_STORE", "s3")
    if kind not in ("folder", "s3"):
        print(f"airflow/test: AIRFLOW_TEST_STORE: {kind!r}: expected folder or s3", file=sys.stderr)
        return 2
    begun = time.monotonic()
    with folder_of_test() as folder:
        scenes = Scenes(folder, given.mellama, {3: given.airflow3, 2: given.airflow2}, kind)
        try:
            names = {name for name, _ in wanted} & {name for name, _ in checks_of_runs.CHECKS}
            scenes.versions = {number for number, version in VERSIONS.items() if any(version in name for name in names)}
            failed = sum(not run(name, check, scenes) for name, check in wanted)
        finally:
            scenes.close()
    seconds = time.monotonic() - begun
    print(f"{len(wanted) - failed} of {len(wanted)} checks passed, work folders in: {kind}, {seconds:.0f} s")
    return 1 if failed else 0


def run(name: str, check: Check, scenes: Scenes) -> bool:
    """One check, one line; a failure brings its reason, and where it was found."""
    begun = time.monotonic()
    try:
        seen = check(scenes)
    except Exception as raised:  # whatever goes wrong in a check is that check's failure
        print(f"FAIL {name} ({time.monotonic() - begun:.0f} s)")
        if not isinstance(raised, AssertionError):
            traceback.print_exc(file=sys.stdout)
        print(f"     {type(raised).__name__}: {raised}", flush=True)
        return False
    print(f"PASS {name}: {seen} ({time.monotonic() - begun:.0f} s)", flush=True)
    return True


@contextmanager
def folder_of_test() -> Iterator[Path]:
    """A new folder; AIRFLOW_TEST_KEEP names one, not there yet, that stays, to look at logs afterwards."""
    kept = os.environ.get("AIRFLOW_TEST_KEEP")
    folder = Path(kept).resolve() if kept else Path(tempfile.mkdtemp(prefix="mellama-airflow-"))
    folder.mkdir(parents=True, exist_ok=not kept)
    try:
        yield folder
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
