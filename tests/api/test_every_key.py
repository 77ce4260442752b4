"""A whole life of events leaves only keys that are known, and each of them is bounded in time or in length."""

from dataclasses import dataclass
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from core.log.dead import MAX_DEAD
from core.log.keys import Keys, Source
from core.views.store import CHANGES_LENGTH
from pipai_contracts.events import AiProgress, AnalysisProgress, Notification, TemporalStatus, WorkflowProgress
from pipai_contracts.ids import Topic
from services.api import presence
from tests.api.conftest import Producer, Serve, producing, projecting
from tests.conftest import wait_until

TTL = 600
"""Seconds, as the producer and the projector of these tests are set up."""


@dataclass(frozen=True)
class Kind:
    """What a key must be: its Redis type, the seconds it may live (None: for ever), the entries it may have."""

    type: str
    ttl: int | None
    length: int


def _known(keys: Keys, topics: list[Topic]) -> dict[str, Kind]:
    """Every key the system makes for these topics, but those of single events."""
    known = {keys.connections: Kind("hash", 60, 100), keys.watched: Kind("string", None, 1)}
    known[keys.layout] = Kind("string", None, 1)
    known[keys.projectors] = Kind("zset", 60, 100)
    known |= {keys.lease(partition): Kind("string", 60, 1) for partition in range(keys.partitions)}
    for source in keys.sources():
        known[source.key] = Kind("stream", None, 1000)
        known[source.offset] = Kind("string", None, 1)
        known[source.groups] = Kind("hash", 2 * 3600, 100)
        known[keys.dead(source)] = Kind("stream", None, MAX_DEAD)
        known[keys.parked(source)] = Kind("zset", None, MAX_DEAD)
        known |= {source.owner(topic): Kind("string", TTL, 1) for topic in topics}
    for partition in range(keys.partitions):
        known[keys.changes(partition)] = Kind("stream", None, CHANGES_LENGTH)
        known[keys.checkpoint(partition)] = Kind("hash", None, len(keys.sources()))
        known[keys.generation(partition)] = Kind("string", None, 1)
        known[keys.history(partition)] = Kind("string", None, 1)
    for topic in topics:
        known[keys.view(topic)] = Kind("hash", TTL, 5)
        known[keys.feed(topic)] = Kind("stream", TTL, 1000)
    return known


async def _length(redis: Redis, key: str, kind: str) -> int:
    match kind:
        case "stream":
            return await redis.xlen(key)
        case "hash":
            return await redis.hlen(key)
        case "zset":
            return await redis.zcard(key)
        case _:
            return 1


async def test_no_key_is_unknown_or_without_a_bound(
    serve: Serve, redis_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_TELL_EVERY", 0.1)
    settings: dict[str, Any] = {"view_ttl": TTL}
    async with serve() as api, producing(redis_url, key_prefix) as producer:
        async with projecting(redis_url, key_prefix, **settings), api.watching("/stream/user/ada") as stream:
            await stream.next()
            await _live(producer)
            await wait_until(lambda: producer.redis.exists(producer.keys.connections))
        source = producer.keys.source("workflow:progress", 0)
        await producer.redis.xgroup_destroy(source.key, "mine")
        async with projecting(redis_url, key_prefix, **settings):
            await producer.progress("w", 60, 100, user_id="ada")
            await wait_until(lambda: _is_trimmed(producer.redis, source))
            await _check(producer.redis, producer.keys)


async def _is_trimmed(redis: Redis, source: Source) -> bool:
    return await redis.xlen(source.key) <= 1000


async def _live(producer: Producer) -> None:
    """Events of every type, one twice, one that is none, and a group of somebody else."""
    redis, source = producer.redis, producer.keys.source("workflow:progress", 0)
    await redis.xgroup_create(source.key, "mine", id="0", mkstream=True)
    for _ in range(2):
        event = WorkflowProgress(workflow_id="w", step="read", progress=1)
        await producer.publish(event, event_id="twice", user_id="ada")
    await redis.xadd(source.key, {"by": "hand"})
    await producer.publish(
        AiProgress(workflow_id="w", step="think", delta="a"),
        TemporalStatus(workflow_id="w", status="running"),
        Notification(user_id="ada", title="hello", message="hello"),
    )
    await producer.publish(AnalysisProgress(file_id="f", step="read", progress=1), user_id="ada")
    await producer.publish(
        *(WorkflowProgress(workflow_id="w", step="read", progress=at) for at in range(50)), user_id="ada"
    )

    async def projected() -> bool:
        return await producer.pos("workflow", "w") == 1 + 2 + 50

    await wait_until(projected)
    await producer.progress("v", *[1] * 1200)
    await producer.store.raise_generation(0)


async def _check(redis: Redis, keys: Keys) -> None:
    topics = [Topic("default", "workflow", "w"), Topic("default", "workflow", "v")]
    topics += [Topic("default", "file", "f"), Topic("default", "user", "ada")]
    known = _known(keys, topics)
    seen = tuple(f"{source.companion}:seen:" for source in keys.sources())
    found = [name.decode() for name in cast("list[bytes]", await redis.keys(f"*{keys.prefix}:*"))]
    assert {"view", "feed", "changes", "checkpoint", "generation"} <= {name.split(":")[1] for name in found}
    source = keys.source("workflow:progress", 0)
    assert {source.key, source.groups, keys.dead(source), keys.parked(source), keys.connections, keys.lease(0)} <= set(
        found
    )
    for name in found:
        kind = Kind("string", 60, 1) if name.startswith(seen) else known.get(name)
        assert kind is not None, f"nobody knows {name}"
        assert (await redis.type(name)) == kind.type.encode(), name
        ttl = await redis.ttl(name)
        assert (kind.ttl is None and ttl == -1 and keys.is_permanent(name)) or 0 < ttl <= (kind.ttl or 0), (name, ttl)
        slack = 150 if kind.type == "stream" else 0  # whole nodes of a hundred entries, and offsets between two trims
        assert await _length(redis, name, kind.type) <= kind.length + slack, name
