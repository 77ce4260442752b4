"""`GET /stream/health`: the specification's shape, within a second whatever is broken."""

import asyncio
import re
from typing import Any

import pytest
from redis.asyncio import Redis

from core.log.keys import Keys
from services.api import presence
from services.standalone.embedded import Server
from tests.api.conftest import Api, Producer, Serve
from tests.api.fault_proxy import FaultProxy
from tests.conftest import wait_until


async def _health(api: Api) -> tuple[int, dict[str, Any]]:
    """Status and body; more than a second fails the test."""
    async with asyncio.timeout(1):
        answer = await api.client.get("/stream/health")
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()


async def test_all_is_well(serve: Serve, temporal_address: str) -> None:
    async with serve(temporal_address=temporal_address) as api:
        status, health = await _health(api)
    assert status == 200
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", health.pop("timestamp"))
    assert health == {
        "status": "healthy",
        "services": {"redis": "healthy", "temporal": "healthy"},
        "active_streams": 0,
    }


async def test_without_temporal_it_is_degraded(api: Api) -> None:
    status, health = await _health(api)
    assert (status, health["status"]) == (200, "degraded")
    assert health["services"] == {"redis": "healthy", "temporal": "not_configured"}


async def test_with_a_temporal_that_is_away_or_never_answers_it_is_degraded(serve: Serve, black_hole: str) -> None:
    for address in ("127.0.0.1:1", black_hole, "no address at all"):
        async with serve(temporal_address=address) as api:
            for _ in range(2):
                status, health = await _health(api)
                assert (status, health["status"]) == (200, "degraded")
                assert health["services"] == {"redis": "healthy", "temporal": "unhealthy"}


async def test_without_redis_it_is_unhealthy(serve: Serve, own_redis: Server) -> None:
    async with serve(redis_url=own_redis.address) as api:
        status, health = await _health(api)
        assert (status, health["status"]) == (503, "unhealthy")
        assert health["services"]["redis"] == "unhealthy"
        own_redis.start()
        assert (await _health(api))[0] == 200


async def test_with_a_redis_and_a_temporal_that_hang_it_is_unhealthy(serve: Serve, black_hole: str) -> None:
    async with serve(redis_url=f"redis://{black_hole}", temporal_address=black_hole) as api:
        for _ in range(2):
            status, health = await _health(api)
            assert (status, health["status"]) == (503, "unhealthy")
            assert health["services"] == {"redis": "unhealthy", "temporal": "unhealthy"}
            assert health["active_streams"] == 0


async def test_a_redis_that_begins_to_hang_is_noticed(serve: Serve, proxy: FaultProxy) -> None:
    async with serve(redis_url=proxy.url) as api, api.watching("/stream/workflow/w") as stream:
        await stream.next()
        assert (await _health(api))[0] == 200
        proxy.hold()
        status, health = await _health(api)
        assert (status, health["active_streams"]) == (503, 1)
        proxy.release()
        assert (await _health(api))[0] == 200


async def test_active_streams_add_up_over_all_api_processes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_TELL_EVERY", 0.1)

    async def both(expected: int) -> None:
        async def agree() -> bool:
            return [await one.active_streams(), await two.active_streams()] == [expected] * 2

        await wait_until(agree)

    async with serve() as one:
        async with serve() as two, one.watching("/stream/user/a") as first:
            async with two.watching("/stream/user/a") as second, two.watching("/stream/file/b") as third:
                for stream in (first, second, third):
                    await stream.next()
                await both(3)
            await both(1)
        assert await one.active_streams() == 0


async def test_a_process_that_died_is_forgotten(api: Api, producer: Producer, key_prefix: str) -> None:
    """Its last word is older than ten seconds."""
    connections = Keys(key_prefix).connections
    now = int((await producer.redis.time())[0])
    await producer.redis.hset(connections, mapping={"dead": f"7 {now - 11}", "alive": f"5 {now}"})
    assert await api.active_streams() == 5
    assert b"dead" not in await producer.redis.hkeys(connections)


async def test_a_process_that_ends_withdraws_its_streams(serve: Serve, redis_url: str, key_prefix: str) -> None:
    connections = Keys(key_prefix).connections
    async with Redis.from_url(redis_url) as redis:
        async with serve():
            await wait_until(lambda: redis.hlen(connections))
        assert await redis.hlen(connections) == 0


async def test_a_count_of_streams_that_holds_something_else_is_begun_anew(
    serve: Serve, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_TELL_EVERY", 0.05)
    await producer.redis.set(producer.keys.connections, "no hash")

    async with serve():
        await wait_until(lambda: _is_hash(producer))


async def _is_hash(producer: Producer) -> bool:
    return await producer.redis.type(producer.keys.connections) == b"hash"


async def test_what_nobody_can_count_is_no_fault_of_the_service(api: Api, producer: Producer) -> None:
    await producer.redis.hset(producer.keys.connections, "strange", "entry")
    assert (await _health(api))[0] == 200
    await producer.redis.delete(producer.keys.connections)
    await producer.redis.set(producer.keys.connections, "no hash", ex=60)
    assert (await _health(api))[0] == 200
    await producer.redis.delete(producer.keys.connections)
