"""The same call of mellama in a pod of its own; imported only where MELLAMA_OPERATOR is `kubernetes`.

Resources, volumes, node selectors and credentials of the pod are the cluster's matter: they come from the pod
template file, and nothing of them is repeated here.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

from mellama_tasks.call import NOTHING_TO_DO, SCRIPTS, TERMINATION_SECONDS, Call, check_exit
from mellama_tasks.versions import AirflowException, AirflowSkipException

# Where the sidecar of Kubernetes' XCom looks for the result.
RETURN_FILE = "/airflow/xcom/return.json"


class MellamaPod(Call, KubernetesPodOperator):
    """Runs mellama in a pod; deferred, it holds no worker's slot while it waits."""

    template_fields = ("groups", "tasks", *KubernetesPodOperator.template_fields)

    def __init__(
        self,
        *,
        command: str,
        recipe: str,
        workdir: str,
        image: str,
        stage: str = "",
        wave: int = 0,
        tasks: str = "",
        groups: str = "{{ params.groups }}",
        **kwargs: Any,
    ) -> None:
        self.command, self.stage, self.wave, self.tasks, self.groups = command, stage, wave, tasks, groups
        super().__init__(
            image=image,
            name=f"mellama-{stage or command}",
            cmds=["bash", "-c"],
            arguments=[f"{SCRIPTS[command]} > {RETURN_FILE}"],
            env_vars=self.variables(recipe, workdir, tasks),
            do_xcom_push=True,
            skip_on_exit_code=NOTHING_TO_DO,
            termination_grace_period=TERMINATION_SECONDS,
            # A failure would print the whole specification of the pod, variables of the template file included.
            log_pod_spec_on_failure=False,
            **kwargs,
        )

    def execute(self, context: Any) -> Any:
        """Deferred, this ends before there is a result; `trigger_reentry` goes on."""
        return self.result(super().execute(context))

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        return self.result(super().trigger_reentry(context, event))

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None) -> None:
        """Deletes the pod and raises as its parent does, except that some exit codes are not worth another try."""
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowSkipException:
            raise
        except AirflowException:
            check_exit(exit_code(remote_pod, self.base_container_name), f"mellama {self.command} {self.stage}".rstrip())
            raise


def exit_code(pod: Any, container: str) -> int | None:
    """The exit code of one container of a pod, as far as it is known."""
    statuses = (pod.status.container_statuses if pod and pod.status else None) or []
    states = [status.state for status in statuses if status.name == container]
    ended = states[0].terminated if states and states[0] else None
    return ended.exit_code if ended else None
