"""A worker on a real Temporal and a real Redis, and documents sent to it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter

from core.log.entry import decode
from core.log.keys import Keys
from core.log.read import read_entries
from core.runtime.redis import command_client
from core.runtime.storage import open_storage
from pipai_contracts.analysis import AnalysisResult
from pipai_contracts.record import BEGINNING, Record
from services.worker.compose import compose_activities, compose_worker
from services.worker.settings import WorkerSettings

Handle = WorkflowHandle[Any, AnalysisResult]


@dataclass(frozen=True)
class Office:
    """Where documents are handed in and their events are read."""

    settings: WorkerSettings
    client: Client
    redis: Redis

    async def send(self, data: bytes, filename: str, **more: str) -> Handle:
        """Store a document and start its workflow the way ingest does: by name, with plain JSON."""
        key = f"documents/{uuid4().hex}"

        async def once() -> AsyncIterator[bytes]:
            yield data

        await open_storage(self.settings.storage_url).put(key, once(), 100_000_000)
        workflow_id = f"document-{uuid4().hex}"
        document = {
            "workflow_id": workflow_id,
            "file_id": f"file of {workflow_id}",
            "user_id": "ada",
            "storage_key": key,
            "filename": filename,
            **more,
        }
        return await self.client.start_workflow(
            "DocumentAnalysis",
            document,
            id=workflow_id,
            task_queue=self.settings.temporal_task_queue,
            result_type=AnalysisResult,
        )

    async def events(self, handle: Handle, source: str = "workflow:progress") -> list[Record]:
        """The document's events in one source stream, in their order."""
        stream = Keys(self.settings.key_prefix).source(source, 0)
        entries = await read_entries(self.redis, stream, after=BEGINNING, count=100_000)
        records = [decode(stream, entry) for entry in entries]
        return [record for record in records if record.envelope.event.subject[1].endswith(handle.id)]

    async def data(self, handle: Handle, source: str = "workflow:progress") -> list[dict[str, Any]]:
        """The data of those events."""
        return [
            record.envelope.event.model_dump(exclude_none=True, exclude={"type"})
            for record in await self.events(handle, source)
        ]

    def stored(self) -> list[str]:
        """Names of all files in the storage."""
        folder = Path(self.settings.storage_url.removeprefix("file://"))
        return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def settings(redis_url: str, temporal_address: str, key_prefix: str, tmp_path: Path) -> WorkerSettings:
    return WorkerSettings.model_validate(
        {
            "redis_url": redis_url,
            "temporal_address": temporal_address,
            "key_prefix": key_prefix,
            "storage_url": (tmp_path / "storage").as_uri(),
            "temporal_task_queue": f"documents-{key_prefix}",
        }
    )


@pytest.fixture
async def office(settings: WorkerSettings) -> AsyncIterator[Office]:
    client = await Client.connect(str(settings.temporal_address), data_converter=pydantic_data_converter)
    redis = command_client(settings.redis_address())
    yield Office(settings, client, redis)
    await redis.aclose()


@pytest.fixture
async def worker(office: Office) -> AsyncIterator[None]:
    """A worker in this process."""
    async with AsyncExitStack() as stack:
        activities = compose_activities(office.settings, stack)
        async with compose_worker(office.client, office.settings, activities):
            yield
