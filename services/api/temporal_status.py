"""What Temporal says of a workflow, asked when a viewer connects."""

import asyncio
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


class TemporalQuery:
    """Asks Temporal about single workflows."""

    def __init__(self, temporal: LazyTemporal) -> None:
        self._temporal = temporal

    @property
    def configured(self) -> bool:
        """Whether the deployment has a Temporal at all."""
        return self._temporal.configured

    async def status(self, workflow_id: str) -> TemporalAnswer | None:
        """Temporal's word on the workflow: ``unknown`` with the reason when it has none or cannot be asked.

        None when the deployment has no Temporal.
        """
        client = await self._temporal.client()
        if client is None:
            return None
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
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
