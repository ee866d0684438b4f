"""Names of Airflow that moved between 2.11 and 3.3, each under its name of today. Nothing here behaves differently."""

from __future__ import annotations

from datetime import datetime, timezone

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG, Asset, Param, TaskGroup, conf, task
    from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

    # The factor between two delays. True, which 2.11 wants, would count as the factor 1 here: no growth at all.
    EXPONENTIAL_BACKOFF: float | bool = 2.0
    TRIGGERING_EVENTS = "triggering_asset_events"
except ImportError:
    from airflow import DAG
    from airflow.configuration import conf
    from airflow.datasets import Dataset
    from airflow.decorators import task
    from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
    from airflow.models.param import Param
    from airflow.operators.bash import BashOperator
    from airflow.utils.task_group import TaskGroup

    EXPONENTIAL_BACKOFF = True
    TRIGGERING_EVENTS = "triggering_dataset_events"

    def Asset(*, name: str, uri: str) -> Dataset:
        """A Dataset; 2.11 knows it by its URI alone."""
        return Dataset(uri)


# 2.11 wants a date from which on a DAG may run; any day that is over does.
START = datetime(2026, 1, 1, tzinfo=timezone.utc)

__all__ = [
    "DAG",
    "EXPONENTIAL_BACKOFF",
    "START",
    "TRIGGERING_EVENTS",
    "AirflowException",
    "AirflowFailException",
    "AirflowSkipException",
    "Asset",
    "BashOperator",
    "Param",
    "TaskGroup",
    "conf",
    "task",
]
