"""The DAG of the model: from a finished corpus to a trained model, scores and a report.

It runs the stages instruct-data, cpt, instruct, evaluate and report of mellama, for every corpus that the DAG of the
corpus announces, or by hand. Training is one process on one worker; tried again, it goes on from its last checkpoint.
"""

from __future__ import annotations

from typing import Any

from mellama_tasks.settings import Settings
from mellama_tasks.stages import Calls, mapped_stage, whole_stage
from mellama_tasks.versions import DAG, START, TRIGGERING_EVENTS, AirflowFailException, task

SETTINGS = Settings("MODEL")
CORPUS = SETTINGS.corpus_asset()

with DAG(
    dag_id="mellama_model",
    description="Training and evaluation on a finished corpus",
    schedule=[CORPUS],
    start_date=START,
    catchup=False,
    max_active_runs=1,
    params=SETTINGS.params(),
    default_args=SETTINGS.task_defaults(),
    doc_md=__doc__,
    tags=["mellama"],
):

    @task
    def corpus(params: Any = None, **context: Any) -> dict[str, str]:
        """Recipe and work folder: those of the corpus that was announced, else those that the run was started with."""
        events = [event.extra for events in (context.get(TRIGGERING_EVENTS) or {}).values() for event in events]
        found = {(extra["recipe"], extra["workdir"]) for extra in events}
        if len(found) > 1:
            names = ", ".join(sorted(workdir for _, workdir in found))
            raise AirflowFailException(
                f"several corpora were announced at once; start a run by hand for each of: {names}"
            )
        recipe, workdir = found.pop() if found else (params["recipe"], params["workdir"])
        return {"recipe": recipe, "workdir": workdir}

    calls = Calls(
        SETTINGS,
        recipe="{{ ti.xcom_pull(task_ids='corpus')['recipe'] }}",
        workdir="{{ ti.xcom_pull(task_ids='corpus')['workdir'] }}",
    )
    (
        corpus()
        >> whole_stage(calls, "instruct-data")
        >> whole_stage(calls, "cpt")
        >> whole_stage(calls, "instruct")
        >> mapped_stage(calls, "evaluate")
        >> whole_stage(calls, "report")
    )
