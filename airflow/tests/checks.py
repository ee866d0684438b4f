"""What both files of checks need: a check by its name, for one version of Airflow or for both. It checks nothing."""

from __future__ import annotations

from collections.abc import Callable

from scenes import Scenes

Check = Callable[[Scenes], str]
VERSIONS = {3: "3.3", 2: "2.11"}


def both(name: str, check: Callable[[Scenes, int], str]) -> list[tuple[str, Check]]:
    """The check for each version."""
    return [(f"{name}_on_{VERSIONS[version]}", on(version, check)) for version in VERSIONS]


def on(version: int, check: Callable[[Scenes, int], str]) -> Check:
    return lambda scenes: check(scenes, version)
