"""What Temporal says of workflows that ended, told to the log.

A worker cannot report its own end by terminate, timeout or crash; without this such a run would never end for
its viewers.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from redis.asyncio import Redis
from temporalio.client import WorkflowExecution, WorkflowExecutionAsyncIterator, WorkflowExecutionStatus

from core.log.keys import Keys
from core.runtime.logs import get_logger
from pipai_contracts.analysis import DOCUMENT_ANALYSIS
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import AnalysisProgress, AnyEvent, Status, TemporalStatus
from pipai_contracts.ids import DEFAULT_TENANT
from pipai_contracts.times import format_time
from services.ingest.metrics import CLOSED_WORKFLOWS
from services.ingest.publisher import Publisher
from services.ingest.temporal import Temporal

OVERLAP: Final = timedelta(seconds=60)
"""How far each sweep looks back behind the newest end it has seen: Temporal lists an end some time after it
happened, and not in order."""

FIRST_LOOK: Final = timedelta(hours=1)
"""How far back the first sweep of a deployment looks."""

CALL_TIMEOUT: Final = 10.0
PAGE: Final = 100
MAX_TOLD: Final = 10_000
"""Runs remembered as told. A forgotten one is told again, which the log recognises by its event id."""

_STATUS: Final[dict[WorkflowExecutionStatus, Status]] = {
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "canceled",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed_out",
}
_UNTOLD: Final[dict[Status, str]] = {
    "terminated": "The analysis was terminated.",
    "timed_out": "The analysis took longer than it may and was ended.",
}
"""Ends no worker can tell of, and what is said of them."""

_log = get_logger()


class Watcher:
    """Appends how document workflows ended, once each."""

    def __init__(self, temporal: Temporal, publisher: Publisher, redis: Redis, keys: Keys) -> None:
        self._temporal = temporal
        self._publisher = publisher
        self._redis = redis
        self._position_key = keys.watched
        self._told: dict[str, None] = {}

    async def sweep(self) -> None:
        """Tell the ends since the last sweep, then remember how far that went.

        Several processes may sweep at once: they append the same event ids.

        Raises:
            TemporalAwayError, temporalio.service.RPCError, RuntimeError, TimeoutError: Temporal does not answer.
            LogUnavailableError, redis.exceptions.RedisError: Redis does not answer.
        """
        position = await self._position()
        newest = position
        async for page in self._closed_after(position - OVERLAP):
            for execution in page:
                if execution.run_id not in self._told:
                    await self._tell(execution)
                newest = max(newest, execution.close_time or newest)
        if newest > position:
            await self._redis.set(self._position_key, format_time(newest))
        while len(self._told) > MAX_TOLD:
            del self._told[next(iter(self._told))]

    async def _position(self) -> datetime:
        stored = cast("bytes | None", await self._redis.get(self._position_key))
        if stored is None:
            return datetime.now(UTC) - FIRST_LOOK
        return datetime.fromisoformat(stored.decode())

    async def _closed_after(self, moment: datetime) -> AsyncIterator[list[WorkflowExecution]]:
        client = await self._temporal.client()
        listing: WorkflowExecutionAsyncIterator = client.list_workflows(
            f"WorkflowType = '{DOCUMENT_ANALYSIS}' AND ExecutionStatus != 'Running'"
            f" AND CloseTime > '{format_time(moment)}'",
            page_size=PAGE,
        )
        while True:
            async with asyncio.timeout(CALL_TIMEOUT):
                await listing.fetch_next_page()
            yield list(listing.current_page or ())
            if not listing.next_page_token:
                return

    async def _tell(self, execution: WorkflowExecution) -> None:
        status = _STATUS.get(execution.status) if execution.status is not None else None
        if status is not None:  # continued as new is no end
            try:
                envelopes = _envelopes(execution, status, await execution.memo())
            except (ValueError, KeyError, RuntimeError) as error:
                # Started by hand, with ids no topic can have or a memo in no form we read: the others go on.
                _log.warning("stream watcher cannot tell of a workflow", run_id=execution.run_id, reason=str(error))
            else:
                await self._publisher.publish(envelopes)
                CLOSED_WORKFLOWS.labels(status).inc()
        self._told[execution.run_id] = None


def _envelopes(execution: WorkflowExecution, status: Status, memo: Mapping[str, Any]) -> list[Envelope]:
    """What there is to say of an ended run: of the workflow always, of its file when the worker could not."""
    message = _UNTOLD.get(status)
    events: list[AnyEvent] = [TemporalStatus(workflow_id=execution.id, status=status, message=message)]
    file_id = memo.get("file_id")
    if message is not None and file_id is not None:
        events.append(AnalysisProgress(file_id=file_id, step="ended", progress=0, error=message))
    return [
        Envelope(
            event_id=f"{execution.run_id}:closed",
            tenant=memo.get("tenant", DEFAULT_TENANT),
            user_id=memo.get("user_id"),
            run_id=execution.run_id,
            time=format_time(execution.close_time or datetime.now(UTC)),
            event=event,
        )
        for event in events
    ]
