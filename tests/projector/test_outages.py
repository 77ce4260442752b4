"""Redis loses everything, or its group, or dies and comes back; the projector heals by itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from random import randint
from typing import Any, cast

import pytest

from core.log.errors import LogUnavailableError
from core.log.keys import GROUP
from services.projector.follower import Follower
from services.standalone.embedded import Server, redis_server
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.conftest import Deployment, deployed
from tests.projector.fresh_fold import read_log


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Server]:
    """A Redis that a test may break.

    Its port is below those the system gives to clients: one of them could take it while Redis is dead.
    """
    with redis_server(tmp_path / "redis", randint(20_000, 30_000)) as server:
        yield server


@pytest.fixture
async def fragile(own_redis: Server) -> AsyncIterator[Deployment]:
    async with deployed(own_redis.address, "fragile") as deployment:
        yield deployment


async def test_a_destroyed_group_is_made_again(deployment: Deployment) -> None:
    async with deployment.projecting():
        await deployment.publish(step(1))
        await deployment.settled()
        await deployment.redis.xgroup_destroy(deployment.source().key, GROUP)
        await deployment.publish(step(2))
        await deployment.settled()
        await wait_until(lambda: _is_delivered_again(deployment), message="the subscriber did not come back")


async def _is_delivered_again(deployment: Deployment) -> bool:
    """Whether the group has given out, and got acknowledged, all there is."""
    (group,) = await deployment.redis.xinfo_groups(deployment.source().key)
    ((newest, _),) = cast("list[Any]", await deployment.redis.xrevrange(deployment.source().key, count=1))
    return bool(group["last-delivered-id"] == newest and group["pending"] == 0)


async def test_a_redis_that_was_flushed_is_projected_anew_and_viewers_are_told(fragile: Deployment) -> None:
    async with fragile.projecting():
        await fragile.publish(*(step(number).by("ada") for number in range(20)))
        await fragile.settled()
        await fragile.redis.flushall()
        await fragile.publish(*(step(number).by("ada") for number in range(5)))
        assert await fragile.settled() == 2
        await fragile.publish(step(50).by("ada"))
        await fragile.settled()
        await wait_until(lambda: _is_delivered_again(fragile), message="the subscriber did not come back")

    assert (await fragile.generations())[0] > 0


async def test_a_redis_that_dies_and_comes_back_loses_nothing_acknowledged(
    fragile: Deployment, own_redis: Server
) -> None:
    acknowledged: list[str] = []
    stop = asyncio.Event()

    async def publish() -> None:
        while not stop.is_set():
            try:
                (published,) = await fragile.publish(step(50, of=f"w{len(acknowledged) % 5}").by("ada"))
            except LogUnavailableError:
                continue
            acknowledged.append(published.event_id)

    async with fragile.projecting():
        publishing = asyncio.create_task(publish())
        await wait_until(lambda: len(acknowledged) > 50)
        await asyncio.to_thread(own_redis.kill)
        await asyncio.to_thread(own_redis.start)
        so_far = len(acknowledged)
        await wait_until(lambda: len(acknowledged) > so_far + 50)
        stop.set()
        await publishing
        assert await fragile.settled(30) == 6

    stored = {record.envelope.event_id for record in await read_log(fragile.redis, fragile.keys)}
    assert set(acknowledged) <= stored
    assert await fragile.raised() == [0]


async def test_a_projector_stops_though_a_command_swallowed_its_cancellation(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Python 3.11 does when a write to Redis ends in the very moment of the cancellation."""
    looking = asyncio.Event()

    async def oldest_waiting(_: Follower) -> None:
        looking.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(Follower, "oldest_waiting", oldest_waiting)
    async with asyncio.timeout(5), deployment.projecting():
        await looking.wait()
