"""Health tells what is wrong though Redis answers, and where."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from core.log.read import read_entries
from pipai_contracts.events import WorkflowProgress
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING
from services.api import faults, presence
from services.standalone.embedded import Server
from tests.api.conftest import Api, Producer, Serve, producing, projecting
from tests.conftest import wait_until

EVENT = WorkflowProgress(workflow_id="w", step="work", progress=1)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_ASK_EVERY", 0.0)
    monkeypatch.setattr(presence, "_TELL_EVERY", 0.05)


@pytest.fixture
async def lone_producer(redis_url: str, key_prefix: str) -> AsyncIterator[Producer]:
    """Publishes; nobody projects."""
    async with producing(redis_url, key_prefix) as producer:
        yield producer


async def _services(api: Api) -> dict[str, Any]:
    return (await api.health())["services"]


async def _until(api: Api, name: str, state: str | None) -> dict[str, Any]:
    """The health once it says this of the service."""

    async def found() -> dict[str, Any]:
        health = await api.health()
        return health if health["services"].get(name) == state else {}

    return await wait_until(found)


async def test_events_that_wait_while_nobody_projects_are_told(
    serve: Serve, lone_producer: Producer, redis_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as api:
        await lone_producer.publish(EVENT)
        assert "projector" not in await _services(api)  # it is not late yet

        monkeypatch.setattr(faults, "_LATE_SECONDS", -1.0)
        health = await _until(api, "projector", "unhealthy")
        assert health["status"] == "degraded"
        assert lone_producer.keys.source("workflow:progress", 0).key in health["reasons"][0]

        async with projecting(redis_url, key_prefix):
            assert "reasons" not in await _until(api, "projector", None)


async def test_whoever_asks_but_once_is_told_too(
    serve: Serve, lone_producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_LATE_SECONDS", -1.0)
    await lone_producer.publish(EVENT)
    async with serve() as api:
        assert (await _services(api))["projector"] == "unhealthy"


async def test_a_projector_that_catches_up_on_old_events_is_not_away(
    serve: Serve, lone_producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_LATE_SECONDS", -1.0)
    await lone_producer.publish(EVENT, EVENT, EVENT)
    source = lone_producer.keys.source("workflow:progress", 0)
    entries = await read_entries(lone_producer.redis, source, after=BEGINNING, count=2)
    async with serve() as api:
        assert "projector" in await _services(api)
        for entry in entries:
            position = f"{entry.offset} {entry.stream_id}"
            await lone_producer.redis.hset(lone_producer.keys.checkpoint(0), "workflow:progress", position)
            assert "projector" not in await _services(api)
        assert "projector" in await _services(api)


@pytest.mark.parametrize("key", ["source", "offset", "offset that is no number"])
async def test_a_key_of_the_log_that_holds_something_else_is_named(
    serve: Serve, lone_producer: Producer, key: str
) -> None:
    redis, source = lone_producer.redis, lone_producer.keys.source("ai:progress", 0)
    name = source.key if key == "source" else source.offset
    await (redis.rpush(name, "x") if key == "offset" else redis.set(name, "x"))
    await redis.expire(name, 60)
    async with serve() as api:
        answer = await api.client.get("/stream/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
        assert answer.json()["services"] == {"redis": "healthy", "temporal": "not_configured", "log": "unhealthy"}
        assert name in answer.json()["reasons"][0]
        await redis.delete(name)
        assert "log" not in await _services(api)


async def test_a_redis_that_is_full_or_may_evict_is_told(serve: Serve, own_redis: Server) -> None:
    own_redis.start()
    async with Redis.from_url(own_redis.address) as redis, serve(redis_url=own_redis.address) as api:
        assert "log" not in await _services(api)

        await redis.config_set("maxmemory", "1mb")
        health = await _until(api, "log", "unhealthy")
        assert (health["status"], health["services"]["redis"]) == ("degraded", "healthy")
        assert "Redis is full" in health["reasons"][0]

        await redis.config_set("maxmemory", "100mb")
        await _until(api, "log", None)
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        assert "allkeys-lru" in (await _until(api, "log", "unhealthy"))["reasons"][0]


async def test_a_redis_that_takes_no_writes_is_told_in_its_own_words(serve: Serve, own_redis: Server) -> None:
    own_redis.start()
    async with Redis.from_url(own_redis.address) as redis, serve(redis_url=own_redis.address) as api:
        await redis.replicaof("127.0.0.1", "1")
        health = await _until(api, "log", "unhealthy")
        assert "read only" in health["reasons"][0]

        await redis.replicaof("no", "one")
        await _until(api, "log", None)


@pytest.mark.parametrize("harm", ["type", "content"])
async def test_a_view_that_another_hand_broke_is_named_and_folded_again_with_its_next_event(
    serve: Serve, producer: Producer, harm: str
) -> None:
    await producer.progress("w", 1)
    key = producer.keys.view(Topic("default", "workflow", "w"))
    if harm == "type":
        await producer.redis.delete(key)
        await producer.redis.set(key, "by another hand", ex=60)
    else:
        await producer.redis.hset(key, "state", "{")
    async with serve() as api:
        for target in ("/stream/workflow/w", "/views/workflow/w", "/events/workflow/w"):
            answer = await api.client.get(target)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/view-unreadable"), target
            assert "workflow:w" in answer.json()["detail"]

        await producer.publish(EVENT)

        async def folded() -> bool:
            return (await api.client.get("/views/workflow/w")).status_code == 200

        await wait_until(folded)
