"""The api on a free port and a projector beside it, both in the test's event loop, on a real Redis."""

import asyncio
import socket
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import httpx2
import pytest
import uvicorn
from redis.asyncio import Redis

from core.log.append import Appender
from core.log.keys import Keys
from core.runtime.clock import now
from core.runtime.http import create_app
from core.runtime.http_protocol import StreamingProtocol
from core.runtime.redis import command_client
from core.views.store import ViewStore
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import AnyEvent, Progress, WorkflowProgress
from pipai_contracts.ids import Kind, Topic
from services.api import channel
from services.api.main import build
from services.api.settings import ApiSettings
from services.projector.main import build as build_projector
from services.projector.settings import ProjectorSettings
from services.standalone.embedded import Server, redis_server
from tests.api.fault_proxy import FaultProxy
from tests.api.stream import Stream, opened
from tests.conftest import wait_until


class Api:
    """A served api: streams on bare sockets, everything else through `client`."""

    def __init__(self, port: int, client: httpx2.AsyncClient) -> None:
        self.port = port
        self.client = client

    @asynccontextmanager
    async def watching(
        self,
        target: str | bytes,
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        read: bool = True,
    ) -> AsyncGenerator[Stream]:
        """An open stream; `read=False` leaves it unread in small buffers."""
        async with opened(self.port, target, headers, body=body, receive_buffer=None if read else 4096) as stream:
            if read and stream.headers.get("transfer-encoding") == "chunked":
                stream.read()
            yield stream

    async def ready(self) -> bool:
        return (await self.client.get("/readyz")).status_code == 200

    async def health(self) -> dict[str, Any]:
        return (await self.client.get("/stream/health")).json()

    async def active_streams(self) -> int:
        return (await self.health())["active_streams"]


class Producer:
    """Publishes to the log of this test and looks at what became of it."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis = redis
        self.keys = keys
        self.store = ViewStore(redis, keys, feed_length=1000, ttl=600)
        self._appender = Appender(redis, keys, idempotency_window=60, owner_ttl=600)

    async def publish(self, *events: AnyEvent, event_id: str | None = None, **fields: str | None) -> None:
        """Append the events; ``fields`` are those of the envelope, as run_id and user_id."""
        envelopes = [
            Envelope.model_validate({"event_id": event_id or uuid.uuid4().hex, "time": now(), "event": event, **fields})
            for event in events
        ]
        await self._appender.append(envelopes)

    async def progress(self, workflow_id: str, *progress: Progress, **fields: Any) -> None:
        """Publish events of a workflow and wait until they are in its view."""
        before = await self.pos("workflow", workflow_id)
        run_id, user_id = fields.pop("run_id", None), fields.pop("user_id", None)
        events = [WorkflowProgress(workflow_id=workflow_id, step="work", progress=at, **fields) for at in progress]
        await self.publish(*events, run_id=run_id, user_id=user_id)

        async def projected() -> bool:
            return await self.pos("workflow", workflow_id) == before + len(events)

        await wait_until(projected, message="the events are in no view")

    async def pos(self, kind: Kind, resource_id: str) -> int:
        """How many events the topic's view has taken in."""
        return (await self.store.snapshot(Topic("default", kind, resource_id), 0)).cursor.pos


class Serve(Protocol):
    """Serves an api with its own settings on top of the test's."""

    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[Api]: ...


@pytest.fixture(autouse=True)
def no_temporal_of_the_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's own Temporal settings out."""
    for name in ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))


@asynccontextmanager
async def serving(settings: ApiSettings, http: str | type[asyncio.Protocol] = StreamingProtocol) -> AsyncGenerator[Api]:
    """The api, served by uvicorn as in production; with another `http` as by whoever starts uvicorn by hand."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        port = int(listener.getsockname()[1])
        app = create_app(build(settings), title="api", cors_origins=settings.allowed_origins())
        config = uvicorn.Config(
            app, log_config=None, ws="none", lifespan="on", timeout_graceful_shutdown=3, http=cast("Any", http)
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await wait_until(lambda: server.started or task.done(), message="the api did not start")
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                yield Api(port, client)
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def projecting(redis_url: str, key_prefix: str, **settings: Any) -> AsyncGenerator[None]:
    """A projector at work."""
    values: dict[str, Any] = {"redis_url": redis_url, "key_prefix": key_prefix, "stream_block_time": 100, **settings}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(build_projector(ProjectorSettings(**values), stack).running())
        yield


@asynccontextmanager
async def producing(redis_url: str, key_prefix: str) -> AsyncGenerator[Producer]:
    """A producer with its own connection."""
    redis = command_client(redis_url)
    try:
        yield Producer(redis, Keys(key_prefix))
    finally:
        await redis.aclose()


@pytest.fixture(params=[StreamingProtocol, "auto"], ids=["by transport", "by sse-starlette"])
def serve(request: pytest.FixtureRequest, redis_url: str, key_prefix: str) -> Serve:
    """Calls serve an api of this test, streams both ways by turns; nobody projects for it."""

    def _serve(**overrides: Any) -> AbstractAsyncContextManager[Api]:
        values: dict[str, Any] = {"redis_url": redis_url, "key_prefix": key_prefix, "stream_block_time": 200}
        return serving(ApiSettings(**{**values, **overrides}), request.param)

    return _serve


@pytest.fixture
async def producer(redis_url: str, key_prefix: str) -> AsyncIterator[Producer]:
    """Publishes; a projector brings it into the views."""
    async with projecting(redis_url, key_prefix), producing(redis_url, key_prefix) as producer:
        yield producer


@pytest.fixture
async def api(serve: Serve) -> AsyncIterator[Api]:
    """An api with the default settings, which follows the change feed."""
    async with serve() as api:
        await wait_until(api.ready)
        yield api


@pytest.fixture
def brief_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of ended runs close after 0.2 s instead of 2 s: for tests that are about what comes, not when."""
    monkeypatch.setattr(channel, "LINGER_SECONDS", 0.2)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Server]:
    """A Redis this test may kill; not started yet."""
    server = redis_server(tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    """A way to the test run's Redis that can be cut."""
    async with FaultProxy.before(redis_url) as proxy:
        yield proxy


@pytest.fixture
async def black_hole() -> AsyncIterator[str]:
    """`host:port` of something that takes connections and never says a word."""
    held: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
        for writer in held:
            writer.close()
