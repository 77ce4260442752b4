"""The api put together."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import APIRouter

from core.log.archive.spooled import Spooled
from core.log.history import History
from core.log.keys import Keys
from core.log.reader import LogReader
from core.runtime.http import HttpService
from core.runtime.redis import blocking_client, command_client
from core.runtime.tasks import running
from core.runtime.temporal import LazyTemporal, temporal_target
from core.views.past import Past
from core.views.refold import Refolder
from core.views.store import ViewStore
from services.api.audience import Audience
from services.api.connections import Connections
from services.api.demo import demo_routes
from services.api.events import event_routes
from services.api.expired import ExpiredViews
from services.api.faults import FaultFinder
from services.api.health import HealthCheck, health_routes
from services.api.history import history_routes, tell_of_another_archive
from services.api.hub import Hub
from services.api.inbox import Inbox
from services.api.many_streams import connection_routes, many_stream_routes
from services.api.metadata import metadata_routes
from services.api.past import past_routes
from services.api.presence import Presence
from services.api.replay import Replays, replay_routes
from services.api.settings import ApiSettings
from services.api.sources import TopicSource
from services.api.streams import opener, stream_routes, stream_shortcuts
from services.api.system import SystemFeed, system_routes
from services.api.temporal_status import TemporalQuery
from services.api.viewers import Viewers
from services.api.views import ViewReader, view_routes


def build(settings: ApiSettings) -> HttpService:
    """The api's routes and what runs beside them. Nothing connects before the lifespan starts."""
    redis = command_client(settings.redis_address())
    blocking = blocking_client(settings.redis_address(), settings.stream_block_time)
    keys = Keys(settings.key_prefix, settings.stream_partitions)
    store = ViewStore(redis, keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl)
    source = TopicSource(store, keys.partitions)
    viewers = Viewers(
        heartbeat=settings.heartbeat_interval,
        lifetime=settings.stream_lifetime,
        retry=settings.reconnect_interval,
    )
    hub = Hub(redis, blocking, keys, source, viewers, block_ms=settings.stream_block_time)
    presence = Presence(redis, keys, hub)
    temporal = LazyTemporal(temporal_target(settings))
    query = TemporalQuery(temporal)
    audience = Audience(hub, settings, query)
    open_stream = opener(hub, audience, settings)
    connections = Connections(hub, audience, query, settings, presence.name)
    inbox = Inbox(redis, blocking, keys, connections, presence, block_ms=settings.stream_block_time)
    archive = settings.open_archive(Spooled(redis, keys))
    history = History(LogReader(redis, keys), keys, archive)
    past = Past(history, store, keys, feed_length=settings.stream_max_entries)
    refolder = Refolder(redis, keys, history, feed_length=settings.stream_max_entries, ttl=settings.view_ttl)
    expired = None if archive is None else ExpiredViews(refolder)
    views = ViewReader(source, expired)
    replays = Replays(past, audience, settings)

    async def drain() -> None:
        replays.end()
        await audience.drain()

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            for client in (redis, blocking):
                stack.push_async_callback(client.aclose)
            if archive is not None:
                stack.callback(archive.close)
                await stack.enter_async_context(running(tell_of_another_archive(redis, keys, archive)))
            for part in (hub, presence, inbox, audience):
                await stack.enter_async_context(part.running())
            yield

    check = HealthCheck(redis, temporal, hub, presence, FaultFinder(redis, keys, presence))
    routes = (
        health_routes(check),
        metadata_routes(settings),
        system_routes(SystemFeed(check, hub, audience, settings), audience, settings),
        stream_routes(open_stream),
        many_stream_routes(connections, audience, settings),
        connection_routes(inbox),
        view_routes(views, past),
        past_routes(past),
        replay_routes(replays),
        event_routes(views, store, hub, audience),
        history_routes(history),
        demo_routes(),
    )
    ready = partial(_missing, audience, hub)
    return HttpService("api", _together(routes), lifespan, ready, stream_shortcuts(open_stream), drain)


async def _missing(audience: Audience, hub: Hub) -> str | None:
    """Why viewers should not come to this process now; None when they may."""
    if audience.draining:
        return "it is about to stop"
    return None if hub.following else "the change feed is not being followed"


def _together(parts: Iterable[APIRouter]) -> APIRouter:
    router = APIRouter()
    for part in parts:
        router.include_router(part)
    return router
