"""The worker's parts put together, with what must be closed after it on a stack."""

from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

from openai import AsyncOpenAI
from temporalio.client import Client
from temporalio.worker import Worker

from core.log.append import Appender
from core.log.keys import Keys
from core.runtime.redis import command_client
from core.runtime.storage import open_storage
from services.worker.activities import DocumentActivities
from services.worker.ai.analyst import Analyst
from services.worker.ai.local import LocalAnalyst
from services.worker.ai.openai_server import OpenAIAnalyst
from services.worker.confined.limits import Limits
from services.worker.publisher import Publisher
from services.worker.settings import WorkerSettings
from services.worker.workflow import DocumentAnalysis

END_REMEMBERED: Final = 3600
"""Seconds a repeated event is recognised. Attempts at telling the end follow each other within half a minute."""


def compose_activities(settings: WorkerSettings, stack: AsyncExitStack) -> DocumentActivities:
    """The activities with connections of their own."""
    redis = command_client(settings.redis_address())
    stack.push_async_callback(redis.aclose)
    keys = Keys(settings.key_prefix, settings.stream_partitions)
    appender = Appender(redis, keys, idempotency_window=END_REMEMBERED, owner_ttl=settings.view_ttl)
    limits = Limits(memory_bytes=settings.document_memory, seconds=settings.document_seconds)
    return DocumentActivities(
        storage=open_storage(settings.storage_url),
        publisher=Publisher(appender),
        analyst=_compose_analyst(settings, limits, stack),
        limits=limits,
        max_characters=settings.document_max_characters,
    )


def _compose_analyst(settings: WorkerSettings, limits: Limits, stack: AsyncExitStack) -> Analyst:
    local = LocalAnalyst(limits)
    if not settings.openai_base_url:
        return local
    # the SDK refuses to start without a key, most servers on one's own machine want none
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else "none"
    client = AsyncOpenAI(base_url=settings.openai_base_url, api_key=key, timeout=settings.openai_timeout)
    stack.push_async_callback(client.close)
    return OpenAIAnalyst(client, settings.openai_model, local)


def compose_worker(client: Client, settings: WorkerSettings, activities: DocumentActivities) -> Worker:
    """A worker for the document queue; run it with ``async with``."""
    return Worker(
        client,
        task_queue=settings.temporal_task_queue,
        workflows=[DocumentAnalysis],
        activities=[activities.identify, activities.extract, activities.analyse, activities.conclude],
        max_concurrent_activities=settings.worker_documents,
        # heartbeats bring cancellations: held back longer, a cancelled document would be read on for seconds
        max_heartbeat_throttle_interval=timedelta(seconds=1),
        default_heartbeat_throttle_interval=timedelta(seconds=1),
        graceful_shutdown_timeout=timedelta(seconds=settings.worker_grace),
    )
