"""Ingest put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from fastapi import APIRouter

from core.log.append import Appender
from core.log.keys import Keys
from core.log.letters import Letters
from core.log.redrive import Settler
from core.log.requests import Requests
from core.runtime.http import HttpService
from core.runtime.redis import command_client
from core.runtime.storage import open_storage
from core.runtime.tasks import running
from core.runtime.temporal import LazyTemporal, temporal_target
from services.ingest.backlog import INTERVAL as SAMPLE_INTERVAL
from services.ingest.backlog import Backlog
from services.ingest.batch import batch_router
from services.ingest.chores import Chore, repeat
from services.ingest.cloudevents import cloudevents_router
from services.ingest.dead_letters import MEASURE_INTERVAL, dead_letters_router, measure_dead_letters
from services.ingest.intake import Intake
from services.ingest.janitor import INTERVAL, Janitor
from services.ingest.publish import endpoints, publish_router
from services.ingest.publisher import Publisher
from services.ingest.settings import IngestSettings
from services.ingest.temporal import Temporal
from services.ingest.upload import upload_router
from services.ingest.watcher import Watcher


def build(settings: IngestSettings) -> HttpService:
    """The service with its own connections, none of which is made before its lifespan begins."""
    redis = command_client(settings.redis_address())
    keys = Keys(settings.key_prefix, settings.stream_partitions)
    appender = Appender(redis, keys, idempotency_window=settings.idempotency_window, owner_ttl=settings.view_ttl)
    backlog = Backlog(redis, keys, limit=settings.stream_backlog_limit)
    requests = Requests(redis, keys, idempotency_window=settings.idempotency_window)
    publisher = Publisher(redis, appender, backlog, requests)
    storage = open_storage(settings.storage_url)
    temporal = Temporal(
        LazyTemporal(temporal_target(settings)),
        task_queue=settings.temporal_task_queue,
        timeout=timedelta(seconds=settings.document_timeout),
    )
    intake = Intake(storage, temporal, publisher, max_bytes=settings.upload_max_bytes)
    letters = Letters(redis, keys)
    router = APIRouter()
    router.include_router(batch_router(publisher))
    router.include_router(cloudevents_router(publisher))
    router.include_router(publish_router(publisher))
    router.include_router(upload_router(intake, settings.upload_max_bytes))
    router.include_router(dead_letters_router(letters, Settler(redis, keys, owner_ttl=settings.view_ttl)))
    chores: list[tuple[str, Chore, float]] = [
        ("upload janitor", Janitor(storage, timedelta(seconds=settings.upload_ttl)).sweep, INTERVAL),
        ("dead letter count", partial(measure_dead_letters, letters), MEASURE_INTERVAL),
        ("backlog", backlog.sample, SAMPLE_INTERVAL),
    ]
    if temporal.configured:
        watch = Watcher(temporal, publisher, redis, keys).sweep
        chores.append(("temporal watcher", watch, settings.watch_interval))

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        async with redis:
            await publisher.begin()
            try:
                async with running(*(repeat(*chore) for chore in chores)):
                    yield
            finally:
                await publisher.close()

    return HttpService("ingest", router, lifespan, publisher.missing, endpoints(publisher))
