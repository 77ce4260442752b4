"""What the services cost while Redis is away, however it is: little, with 16 partitions that wait for it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from redis.exceptions import RedisError

from core.log.keys import Keys
from core.runtime.redis import command_client
from core.runtime.tasks import running
from services.standalone.embedded import find_redis_server
from tests.conftest import wait_until
from tests.faults.services import Service, started
from tests.projector.fresh_fold import is_projected
from tests.shapes import servers
from tests.shapes.servers import Shape

PARTITIONS = 16
MEASURED_SECONDS = 5.0
MOST = 0.2
"""Of one core, for each service."""

HEALED_WITHIN = 30


@asynccontextmanager
async def _services(shape: Shape, folder: Path) -> AsyncGenerator[list[Service]]:
    """Projector, ingest and api at work, with a producer and a viewer that try all the while."""
    settings = {
        "REDIS_URL": shape.address,
        "STREAM_PARTITIONS": str(PARTITIONS),
        "STORAGE_URL": (folder / "storage").as_uri(),
        "DEBUG": "false",
    }
    services = [Service(f"services.{name}", folder, settings) for name in ("projector", "ingest", "api")]
    async with started(*services), httpx2.AsyncClient(timeout=10) as client:
        _, ingest, api = services
        async with running(_publish(client, ingest), _watch(client, api)):
            yield services
        await wait_until(lambda: _publish_once(client, ingest), HEALED_WITHIN, "not every partition takes events")
        await wait_until(lambda: _all_projected(shape), HEALED_WITHIN, "not everything was projected")


async def _publish(client: httpx2.AsyncClient, ingest: Service) -> None:
    while True:
        await _publish_once(client, ingest)
        await asyncio.sleep(0.1)


async def _publish_once(client: httpx2.AsyncClient, ingest: Service) -> bool:
    """Whether an event for each of some workflows was taken."""
    paths = [f"http://127.0.0.1:{ingest.port}/stream/publish/workflow/w{number}" for number in range(8)]
    try:
        answers = [await client.post(path, json={"step": "s", "progress": 5}) for path in paths]
    except httpx2.HTTPError:
        return False
    return all(answer.status_code == 202 for answer in answers)


async def _watch(client: httpx2.AsyncClient, api: Service) -> None:
    while True:
        with suppress(httpx2.HTTPError):
            async with client.stream("GET", f"http://127.0.0.1:{api.port}/stream/workflow/w1") as response:
                async for _ in response.aiter_lines():
                    pass
        await asyncio.sleep(0.1)


async def _all_projected(shape: Shape) -> bool:
    redis = command_client(shape.address)
    try:
        return await is_projected(redis, Keys(partitions=PARTITIONS))
    except RedisError:
        return False
    finally:
        await redis.aclose()


async def _assert_they_cost_little(services: Sequence[Service]) -> None:
    began, used = time.monotonic(), [service.processor_seconds() for service in services]
    await asyncio.sleep(MEASURED_SECONDS)
    seconds = time.monotonic() - began
    shares = {
        service.module: (service.processor_seconds() - before) / seconds
        for service, before in zip(services, used, strict=True)
    }
    assert max(shares.values()) < MOST, shares


async def test_services_cost_little_while_a_redis_hangs_or_is_gone(tmp_path: Path) -> None:
    with servers.single(find_redis_server(), tmp_path) as shape:
        async with _services(shape, tmp_path) as services:
            with shape.held(*shape.nodes):
                await _assert_they_cost_little(services)
            (redis,) = shape.nodes.values()
            redis.kill()
            await _assert_they_cost_little(services)
            await asyncio.to_thread(redis.start)


@pytest.mark.parametrize("start", [servers.sentinels, servers.cluster], ids=["Sentinel", "Cluster"])
async def test_services_cost_little_while_a_failover_takes_long(
    start: Callable[[Path], AbstractContextManager[Shape]], tmp_path: Path
) -> None:
    """A master is dead and its replica hangs; then it takes the master's place."""
    with start(tmp_path) as shape:
        async with _services(shape, tmp_path) as services:
            dying = shape.masters()[0]
            with shape.held(*shape.replicas(dying)):
                await asyncio.to_thread(shape.nodes[dying].kill)
                await _assert_they_cost_little(services)
