"""Loads the DAG files as Airflow does and prints what came of it, as one line of JSON, in either environment.

It runs no task.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DAGS = Path(__file__).resolve().parent.parent / "dags"


def load() -> Any:
    """As the DAG processor of 3.3 does, or the scheduler of 2.11: with the folder of the files on the module path."""
    try:
        from airflow.dag_processing.dagbag import BundleDagBag
    except ImportError:
        from airflow.models.dagbag import DagBag

        return DagBag(dag_folder=str(DAGS), include_examples=False)
    return BundleDagBag(dag_folder=str(DAGS), bundle_path=DAGS, bundle_name="dags-folder")


def main() -> None:
    bag = load()
    found = {name: sorted({type(task).__name__ for task in dag.tasks}) for name, dag in bag.dags.items()}
    tasks = {name: len(dag.tasks) for name, dag in bag.dags.items()}
    import airflow

    said = {"version": airflow.__version__, "errors": bag.import_errors, "tasks": tasks, "operators": found}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
