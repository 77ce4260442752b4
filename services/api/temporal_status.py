"""What Temporal says of a workflow, asked when a viewer connects."""

import asyncio
from dataclasses import dataclass
from typing import Final

from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from core.runtime.clock import now
from core.runtime.logs import get_logger
from core.runtime.temporal import CALL_TIMEOUT, LazyTemporal
from pipai_contracts.events import Status
from pipai_contracts.frames import TemporalAnswer
from pipai_contracts.times import format_time
from services.api import metrics

_FRESH_SECONDS: Final = 1.0
"""How long an answer serves those who ask after it: of a storm of reconnects one asks about each workflow."""

_AT_ONCE: Final = 50
"""Questions that are under way together; more would only wait in Temporal."""

log = get_logger()

STATUS_OF: Final[dict[WorkflowExecutionStatus, Status]] = {
    WorkflowExecutionStatus.RUNNING: "running",
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "canceled",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed_out",
    WorkflowExecutionStatus.CONTINUED_AS_NEW: "running",
}


@dataclass(slots=True, eq=False)
class _Question:
    """Is asked for as long as somebody wants to know."""

    task: asyncio.Task[TemporalAnswer | None]
    askers: int = 0


class TemporalQuery:
    """Asks Temporal about single workflows."""

    def __init__(self, temporal: LazyTemporal) -> None:
        self._temporal = temporal
        self._questions: dict[str, _Question] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @property
    def configured(self) -> bool:
        """Whether the deployment has a Temporal at all."""
        return self._temporal.configured

    async def status(self, workflow_id: str) -> TemporalAnswer | None:
        """Temporal's word on the workflow: ``unknown`` with the reason when it has none or cannot be asked.

        None when the deployment has no Temporal. It may be a second old, and who asks while somebody else does
        gets the same.
        """
        question = self._questions.get(workflow_id)
        if question is None:
            question = self._questions[workflow_id] = _Question(asyncio.create_task(self._ask(workflow_id)))
            question.task.add_done_callback(lambda _: self._keep(workflow_id, question))
        question.askers += 1
        try:
            return await asyncio.shield(question.task)
        finally:
            question.askers -= 1
            if not question.askers and not question.task.done():
                self._drop(workflow_id, question)
                question.task.cancel()

    def _keep(self, workflow_id: str, question: "_Question") -> None:
        asyncio.get_running_loop().call_later(_FRESH_SECONDS, self._drop, workflow_id, question)

    def _drop(self, workflow_id: str, question: "_Question") -> None:
        if self._questions.get(workflow_id) is question:
            del self._questions[workflow_id]

    async def _ask(self, workflow_id: str) -> TemporalAnswer | None:
        client = await self._temporal.client()
        if client is None:
            return None
        try:
            async with self._turns, asyncio.timeout(CALL_TIMEOUT):
                found = await client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            missing = error.status == RPCStatusCode.NOT_FOUND
            metrics.TEMPORAL_UP.set(1 if missing else 0)
            return _unknown(workflow_id, "Temporal knows no such workflow" if missing else "Temporal cannot be asked")
        except TimeoutError:
            metrics.TEMPORAL_UP.set(0)
            return _unknown(workflow_id, "Temporal did not answer in time")
        except Exception as error:  # noqa: BLE001 - the SDK raises many kinds; the viewer is told in any case
            log.warning("stream temporal cannot be asked", error=str(error))
            metrics.TEMPORAL_UP.set(0)
            return _unknown(workflow_id, "Temporal cannot be asked")
        metrics.TEMPORAL_UP.set(1)
        return TemporalAnswer(
            timestamp=now(),
            workflow_id=workflow_id,
            status=STATUS_OF.get(found.status, "unknown") if found.status is not None else "unknown",
            run_id=found.run_id,
            started=format_time(found.start_time),
            ended=format_time(found.close_time) if found.close_time else None,
        )


def _unknown(workflow_id: str, reason: str) -> TemporalAnswer:
    return TemporalAnswer(timestamp=now(), workflow_id=workflow_id, status="unknown", message=reason)
