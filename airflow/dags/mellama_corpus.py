"""The DAG of the corpus: raw text to packed shards, and an Asset event that says where they lie.

It maps the stages ingest, dedup, tokenize, mix, pack and publish of mellama over workers. What a stage does, and
whether it is done, is decided by mellama and the work folder alone, so a run may be started again at any time.
"""

from __future__ import annotations

from typing import Any

from mellama_tasks.settings import Settings
from mellama_tasks.stages import NONE_FAILED, Calls, mapped_stage, whole_stage
from mellama_tasks.versions import DAG, START, AirflowSkipException, task

SETTINGS = Settings()
CORPUS = SETTINGS.corpus_asset()
# Of dedup: order, join, link, verify, settle. A plan with fewer skips the rest.
DEDUP_WAVES = 5

with DAG(
    dag_id="mellama_corpus",
    description="Raw medical text to packed token shards",
    schedule=None,
    start_date=START,
    catchup=False,
    # Two runs on one work folder would do no harm, and everything twice.
    max_active_runs=1,
    params=SETTINGS.params(),
    default_args=SETTINGS.task_defaults(),
    doc_md=__doc__,
    tags=["mellama"],
):
    calls = Calls(SETTINGS, recipe="{{ params.recipe }}", workdir="{{ params.workdir }}")

    @task(outlets=[CORPUS], inlets=[CORPUS], do_xcom_push=False)
    def announce(
        corpus: dict[str, Any], params: Any = None, inlet_events: Any = None, outlet_events: Any = None
    ) -> None:
        """Says that there is a corpus, once: a corpus that was announced last needs no second training."""
        extra = {**corpus, "recipe": params["recipe"], "workdir": params["workdir"]}
        earlier = inlet_events[CORPUS]
        if len(earlier) > 0 and earlier[-1].extra == extra:
            raise AirflowSkipException("this corpus was announced before")
        outlet_events[CORPUS].extra = extra

    corpus = calls.one("corpus", "status", trigger_rule=NONE_FAILED)
    (
        mapped_stage(calls, "ingest")
        >> mapped_stage(calls, "dedup", waves=DEDUP_WAVES)
        >> mapped_stage(calls, "tokenize")
        >> whole_stage(calls, "mix")
        >> mapped_stage(calls, "pack")
        >> mapped_stage(calls, "publish")
        >> corpus
    )
    announce(corpus.output)
