"""Temporal as ingest uses it: documents are handed to it, and it is asked what became of them."""

import asyncio
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.envconfig import ClientConnectConfig
from temporalio.service import RPCError

from core.runtime.temporal import connect_temporal, temporal_reachable
from pipai_contracts.analysis import DOCUMENT_ANALYSIS, DocumentAnalysisInput

START_TIMEOUT: Final = 5.0
"""Seconds to start a workflow. The SDK's own timeout is per attempt and does not bound its retries."""


class TemporalAwayError(Exception):
    """No workflow can be started: Temporal is not configured or does not answer."""


class Temporal:
    """The Temporal a deployment has, or not. Connects when it is first asked something."""

    def __init__(self, target: ClientConnectConfig | None, *, task_queue: str, timeout: timedelta) -> None:
        self._target = target
        self._task_queue = task_queue
        self._timeout = timeout
        self._client: Client | None = None

    @property
    def configured(self) -> bool:
        """Whether anything says where Temporal is."""
        return self._target is not None

    async def client(self) -> Client:
        """The client; making it contacts nobody.

        Raises:
            TemporalAwayError: Temporal is not configured.
        """
        if self._target is None:
            raise TemporalAwayError("Temporal is not configured, so documents cannot be analysed")
        if self._client is None:
            self._client = await connect_temporal(self._target, lazy=True)
        return self._client

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
