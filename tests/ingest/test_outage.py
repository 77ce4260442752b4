"""Redis goes away and comes back; Redis that does not keep what it takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis
from structlog.testing import capture_logs

from core.runtime.memory import EvictingRedisError
from services.ingest.main import build
from services.ingest.settings import IngestSettings
from services.standalone.embedded import Server, redis_server
from tests.conftest import wait_until
from tests.ingest.conftest import Log, Serve

EVENT = {"step": "s", "progress": 1}


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Server]:
    """A Redis this test may kill; not started yet."""
    server = redis_server(tmp_path / "redis")
    yield server
    server.stop()


async def _publish(client: httpx2.AsyncClient) -> httpx2.Response:
    return await client.post("/stream/publish/workflow/w", json=EVENT)


async def _ready(client: httpx2.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


async def test_redis_away_is_a_503_and_a_202_again_when_it_is_back(serve: Serve, own_redis: Server) -> None:
    own_redis.start()
    with capture_logs() as lines:
        async with serve(redis_url=own_redis.address) as client:
            assert (await _publish(client)).status_code == 202
            own_redis.kill()
            for _ in range(2):
                refused = await _publish(client)
                assert refused.status_code == 503
                assert refused.headers["retry-after"] == "1"
                assert refused.headers["content-type"] == "application/problem+json"
                assert refused.json()["type"] == "/problems/log-unavailable"
                assert str(own_redis.port) not in refused.text
            own_redis.start()
            assert (await _publish(client)).json()["offset"] == 2

    told = [line["event"] for line in lines if line["event"].startswith("stream log")]
    assert told == ["stream log is away", "stream log is back"]


async def test_a_batch_that_redis_is_away_for_is_a_503_whole(serve: Serve, own_redis: Server) -> None:
    item = {"type": "workflow_progress", "workflow_id": "w", **EVENT}
    own_redis.start()
    async with serve(redis_url=own_redis.address) as client:
        assert (await _publish(client)).status_code == 202
        own_redis.kill()
        refused = await client.post("/stream/publish/batch", json=[item] * 1000)
        mixed = (await client.post("/stream/publish/batch", json=[item, {**item, "step": ""}])).json()
        own_redis.start()

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["type"] == "/problems/log-unavailable"
    assert mixed["counts"] == {"appended": 0, "duplicate": 0, "invalid": 1, "unavailable": 1}
    assert str(own_redis.port) not in str(mixed)


async def test_it_starts_without_redis_and_is_ready_when_redis_is(serve: Serve, own_redis: Server) -> None:
    async with serve(redis_url=own_redis.address) as client:
        assert (await client.get("/livez")).status_code == 200
        not_ready = await client.get("/readyz")
        assert not_ready.status_code == 503
        assert "Redis does not answer" in not_ready.json()["detail"]
        assert (await _publish(client)).status_code == 503
        own_redis.start()
        await wait_until(lambda: _ready(client))
        assert (await _publish(client)).status_code == 202


def _let_it_evict(server: Server) -> None:
    with Redis.from_url(server.address) as redis:
        redis.config_set("maxmemory", "100mb")
        redis.config_set("maxmemory-policy", "allkeys-lru")


async def test_it_does_not_start_on_a_redis_that_evicts(own_redis: Server, storage: Path) -> None:
    own_redis.start()
    _let_it_evict(own_redis)
    values: dict[str, Any] = {"redis_url": own_redis.address, "storage_url": storage.as_uri()}
    with pytest.raises(EvictingRedisError, match="set it to noeviction"):
        async with build(IngestSettings(**values)).lifespan():
            pass


async def test_a_redis_that_comes_late_and_evicts_gets_no_events(serve: Serve, own_redis: Server) -> None:
    async with serve(redis_url=own_redis.address) as client:
        own_redis.start()
        _let_it_evict(own_redis)
        assert (await _publish(client)).status_code == 503
        assert "noeviction" in (await client.get("/readyz")).json()["detail"]


def test_building_the_service_contacts_nobody(tmp_path: Path) -> None:
    """Nobody listens on these ports; anything that connected would fail."""
    values: dict[str, Any] = {
        "redis_url": "redis://127.0.0.1:1",
        "temporal_address": "127.0.0.1:1",
        "storage_url": tmp_path.as_uri(),
    }
    assert build(IngestSettings(**values)).name == "ingest"


async def test_a_full_redis_is_not_ready_and_takes_nothing(serve: Serve, own_redis: Server) -> None:
    own_redis.start()
    async with serve(redis_url=own_redis.address) as client:
        assert await _ready(client)
        with Redis.from_url(own_redis.address) as redis:
            redis.config_set("maxmemory", "1mb")
            not_ready = await client.get("/readyz")
            assert (not_ready.status_code, (await _publish(client)).status_code) == (503, 503)
            assert "Redis is full" in not_ready.json()["detail"]

            redis.config_set("maxmemory", "0")
        assert (await _publish(client)).status_code == 202
        assert await _ready(client)


async def test_a_redis_that_is_set_to_evict_while_it_runs_is_not_ready(serve: Serve, own_redis: Server) -> None:
    own_redis.start()
    async with serve(redis_url=own_redis.address) as client:
        assert await _ready(client)
        _let_it_evict(own_redis)
        assert "allkeys-lru" in (await client.get("/readyz")).json()["detail"]


@pytest.mark.parametrize("which", ["stream", "offset"])
async def test_a_broken_key_of_the_log_is_named_to_who_publishes_there_and_stops_no_other(
    serve: Serve, log: Log, which: str
) -> None:
    source = log.keys.source("workflow:progress", 0)
    broken = source.key if which == "stream" else source.offset
    await log.redis.set(broken, "by another hand", ex=60)
    with capture_logs() as lines:
        async with serve() as client:
            for _ in range(2):
                refused = await _publish(client)
                assert (refused.status_code, refused.json()["type"]) == (503, "/problems/log-damaged")
                assert f" {broken} " in refused.json()["detail"]
                assert "retry-after" in refused.headers
            assert (await client.post("/stream/publish/ai/w", json=EVENT)).status_code == 202
            assert await _ready(client)
            await log.redis.delete(broken)
            assert (await _publish(client)).status_code == 202

    assert [line["event"] for line in lines if line["event"].startswith("stream log")] == ["stream log is damaged"]
