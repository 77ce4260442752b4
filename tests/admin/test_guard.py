"""A service with another number of partitions than its deployment's says so and does not work."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from core.log.append import Appender
from core.log.keys import Keys
from core.log.layout import Layout, LayoutError, change_layout, check_layout, load_layout
from core.runtime.redis import command_client
from services.admin.main import main
from services.api.main import build as build_api
from services.api.settings import ApiSettings
from services.ingest.main import build as build_ingest
from services.ingest.settings import IngestSettings
from services.projector.main import build as build_projector
from services.projector.settings import ProjectorSettings
from services.standalone.embedded import Server, redis_server
from services.worker.publisher import Publisher
from tests.conftest import wait_until
from tests.core.dead_letters import DeadEnd
from tests.core.telling import step

Start = Callable[[dict[str, Any]], AbstractAsyncContextManager[Any]]


@pytest.fixture
async def redis(redis_url: str, key_prefix: str) -> AsyncIterator[Redis]:
    """The Redis of a deployment with four partitions."""
    client = command_client(redis_url)
    await check_layout(client, Keys(key_prefix, 4))
    yield client
    await client.aclose()


@pytest.fixture
def no_temporal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's own Temporal settings out."""
    monkeypatch.delenv("TEMPORAL_ADDRESS", raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))


def ingest(values: dict[str, Any]) -> AbstractAsyncContextManager[Any]:
    return build_ingest(IngestSettings(**values)).lifespan()


def api(values: dict[str, Any]) -> AbstractAsyncContextManager[Any]:
    return build_api(ApiSettings(**values)).lifespan()


@asynccontextmanager
async def projector(values: dict[str, Any]) -> AsyncGenerator[None]:
    async with AsyncExitStack() as stack, build_projector(ProjectorSettings(**values), stack).running():
        yield


@pytest.mark.usefixtures("redis", "no_temporal")
@pytest.mark.parametrize("start", [ingest, api, projector])
async def test_a_service_does_not_start(start: Start, redis_url: str, key_prefix: str, tmp_path: Path) -> None:
    values = {"redis_url": redis_url, "key_prefix": key_prefix, "storage_url": tmp_path.as_uri()}
    with pytest.raises(LayoutError, match="STREAM_PARTITIONS is 1 here, but the deployment has 4"):
        async with start(values):
            pass


async def test_a_worker_tells_nothing(redis: Redis, key_prefix: str) -> None:
    publisher = Publisher(Appender(redis, Keys(key_prefix), idempotency_window=60, owner_ttl=60))
    with pytest.raises(LayoutError):
        await publisher.begin()
    with pytest.raises(LayoutError):
        await publisher.append([step(10).envelope("e")])
    assert not await redis.exists(Keys(key_prefix).source("workflow:progress", 0).key)


@pytest.fixture
def own_redis(tmp_path: Path) -> Any:
    """A Redis this test may start late and flush."""
    server = redis_server(tmp_path / "redis")
    yield server
    server.stop()


@pytest.mark.usefixtures("no_temporal")
async def test_a_redis_that_comes_late_is_checked_when_it_is_there(own_redis: Server, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"redis_url": own_redis.address, "storage_url": tmp_path.as_uri()}
    service = build_ingest(IngestSettings(**settings))
    async with service.lifespan():
        assert await service.ready() == "Redis does not answer"
        own_redis.start()
        async with Redis.from_url(own_redis.address, protocol=2) as redis:
            await check_layout(redis, Keys("pip-ai", 4))
        assert "STREAM_PARTITIONS is 1 here" in str(await service.ready())


async def test_an_ingest_whose_deployment_was_repartitioned_is_not_ready(
    redis: Redis, key_prefix: str, redis_url: str, tmp_path: Path, no_temporal: None
) -> None:
    """It refuses every event, so whoever routes to it has to hear that it does."""
    _ = no_temporal
    keys = Keys(key_prefix, 4)
    values: dict[str, Any] = {"redis_url": redis_url, "key_prefix": key_prefix, "stream_partitions": 4}
    service = build_ingest(IngestSettings(**values, storage_url=tmp_path.as_uri()))
    async with service.lifespan():
        assert await service.ready() is None
        await change_layout(redis, keys, Layout(4), Layout(4, 2, "copying"))
        assert "from 4 to 2 partitions" in str(await service.ready())
        await change_layout(redis, keys, Layout(4, 2, "copying"), Layout(2))
        assert "STREAM_PARTITIONS is 4 here, but the deployment has 2" in str(await service.ready())
        await change_layout(redis, keys, Layout(2), Layout(4))
        assert await service.ready() is None


async def test_a_projector_that_finds_another_layout_after_a_flushall_leaves_everything(own_redis: Server) -> None:
    """Its leases would keep those from work that have the right number."""
    own_redis.start()
    keys = Keys("pip-ai", 2)
    values: dict[str, Any] = {"redis_url": own_redis.address, "stream_partitions": 2, "lease_seconds": 1}
    async with AsyncExitStack() as stack, Redis.from_url(own_redis.address, protocol=2) as redis:
        projector = build_projector(ProjectorSettings(**values, stream_block_time=100), stack)
        await stack.enter_async_context(projector.running())
        await wait_until(lambda: projector.ready and len(projector.held) == 2)
        async with redis.pipeline(transaction=True) as pipe:
            pipe.flushall()
            pipe.set(keys.layout, str(Layout(1)))
            await pipe.execute()
        await wait_until(lambda: not projector.ready and not projector.held, message="it goes on")

        async def gone() -> bool:
            return not await redis.exists(keys.projectors, keys.lease(0), keys.lease(1))

        await wait_until(gone, message="it still asks for a share")
        assert not projector.ready
        await redis.set(keys.layout, str(Layout(2)))
        await wait_until(lambda: projector.ready and len(projector.held) == 2, message="it does not come back")


async def test_the_layout_is_kept_through_a_flushall(own_redis: Server) -> None:
    """Else a service with another number could start on the empty Redis while these run."""
    own_redis.start()
    keys = Keys("pip-ai", 2)
    values: dict[str, Any] = {"redis_url": own_redis.address, "stream_partitions": 2, "stream_block_time": 100}
    async with AsyncExitStack() as stack, Redis.from_url(own_redis.address, protocol=2) as redis:
        await stack.enter_async_context(build_projector(ProjectorSettings(**values), stack).running())
        await redis.flushall()

        async def kept() -> bool:
            return await load_layout(redis, keys) == Layout(2)

        await wait_until(kept, message="the layout was not written down again")


async def test_the_admin_takes_the_number_of_the_deployment_unless_one_is_named(
    redis: Redis,
    redis_url: str,
    key_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its refusal names the way to another number, which nobody wants who only came to look."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("KEY_PREFIX", key_prefix)
    monkeypatch.delenv("STREAM_PARTITIONS", raising=False)
    keys = Keys(key_prefix, 4)
    await DeadEnd(redis, keys, keys.source("workflow:progress", 3)).park(1)
    assert await asyncio.to_thread(main, ["dead", "list"]) == 0
    assert "workflow:progress:3/1-0" in capsys.readouterr().out
    monkeypatch.setenv("STREAM_PARTITIONS", "1")
    assert await asyncio.to_thread(main, ["verify"], "./run pipai-admin") == 2
    assert "run: ./run pipai-admin repartition --to 1 --yes" in capsys.readouterr().err


async def test_the_admin_names_the_variable_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAM_PARTITIONS", "four")
    assert await asyncio.to_thread(main, ["verify"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "STREAM_PARTITIONS: Input should be a valid integer, unable to parse string as an integer"
    ]
