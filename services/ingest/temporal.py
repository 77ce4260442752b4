"""Temporal as ingest uses it: documents are handed to it, and it is asked what became of them."""

import asyncio
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.service import RPCError

from core.runtime.temporal import LazyTemporal, temporal_reachable
from pipai_contracts.analysis import DOCUMENT_ANALYSIS, DocumentAnalysisInput

START_TIMEOUT: Final = 5.0
"""Seconds to start a workflow. The SDK's own timeout is per attempt and does not bound its retries."""


class TemporalAwayError(Exception):
    """No workflow can be started: Temporal is not configured or does not answer."""


class Temporal:
    """The Temporal a deployment has, or not."""

    def __init__(self, temporal: LazyTemporal, *, task_queue: str, timeout: timedelta) -> None:
        self._temporal = temporal
        self._task_queue = task_queue
        self._timeout = timeout

    @property
    def configured(self) -> bool:
        """Whether anything says where Temporal is."""
        return self._temporal.configured

    async def client(self) -> Client:
        """The client; making it contacts nobody.

        Raises:
            TemporalAwayError: Temporal is not configured.
        """
        client = await self._temporal.client()
        if client is None:
            raise TemporalAwayError("Temporal is not configured, so documents cannot be analysed")
        return client

    async def require(self) -> None:
        """Make sure that Temporal answers.

        Raises:
            TemporalAwayError: it does not, or is not configured.
        """
        if not await temporal_reachable(await self.client()):
            raise TemporalAwayError("Temporal does not answer, so documents cannot be analysed right now")

    async def start_analysis(self, document: DocumentAnalysisInput) -> str:
        """Start the workflow of a stored document and return its run id.

        The memo says whose it is: the watcher reads it there when a run ends without its worker's word.

        Raises:
            TemporalAwayError: Temporal did not take it.
        """
        client = await self.client()
        memo = {"tenant": document.tenant, "file_id": document.file_id, "user_id": document.user_id}
        try:
            async with asyncio.timeout(START_TIMEOUT):
                handle = await client.start_workflow(
                    DOCUMENT_ANALYSIS,
                    document,
                    id=document.workflow_id,
                    task_queue=self._task_queue,
                    execution_timeout=self._timeout,
                    memo={name: value for name, value in memo.items() if value is not None},
                )
        except (RPCError, RuntimeError, TimeoutError) as error:
            raise TemporalAwayError("Temporal did not take the document; it was not kept") from error
        if handle.result_run_id is None:
            raise TemporalAwayError("Temporal took the document but named no run")
        return handle.result_run_id
