"""Many viewers at once: they come back together, or come while everything moves."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pipai_contracts.events import WorkflowProgress
from pipai_contracts.ids import Topic
from services.api.channel import Channel
from services.api.hub import Hub
from services.api.messages import Message
from tests.api.conftest import Api, Producer, Serve, producing, projecting
from tests.conftest import wait_until

VIEWERS = 1_000
JOINING = 2_000
AT_ONCE = 200


async def _commands(producer: Producer) -> int:
    """How many commands Redis was sent so far, those that scripts run included."""
    stats: dict[str, Any] = await producer.redis.info("commandstats")
    return sum(entry["calls"] for entry in stats.values())


async def _come_back(api: Api, target: str, upto: int) -> list[int]:
    """Positions a viewer is told until it is caught up."""
    async with api.watching(target) as stream:
        assert (await stream.next()).event == "connected"
        frames = await stream.until(lambda frame: frame.pos == upto)
        assert {frame.event for frame in frames} == {"workflow_progress"}
        return [frame.pos for frame in frames]


async def _storm(api: Api, targets: Sequence[str], upto: int) -> list[list[int]]:
    door = asyncio.Semaphore(AT_ONCE)

    async def one(target: str) -> list[int]:
        async with door:
            return await _come_back(api, target, upto)

    return await asyncio.gather(*(one(target) for target in targets))


@pytest.mark.parametrize("watched", [True, False], ids=["while some watch", "after a restart"])
async def test_a_storm_of_reconnects_hardly_reaches_redis(
    serve: Serve, redis_url: str, key_prefix: str, *, watched: bool
) -> None:
    async with producing(redis_url, key_prefix) as producer:
        async with projecting(redis_url, key_prefix):
            await producer.progress("w", *range(50))
        epoch = (await producer.store.snapshot(Topic("default", "workflow", "w"), 0)).cursor.epoch
        targets = [f"/stream/workflow/w?cursor={epoch}.{1 + number % 49}" for number in range(VIEWERS)]
        async with serve(stream_block_time=5_000) as api:
            await wait_until(api.ready)
            if watched:
                await _come_back(api, targets[0], 50)
            before = await _commands(producer)
            seen = await _storm(api, targets, 50)
            used = await _commands(producer) - before
    assert seen == [list(range(2 + number % 49, 51)) for number in range(VIEWERS)]
    assert used < 100


async def test_whoever_joins_a_process_that_lags_behind_the_store_sees_every_position_once(
    serve: Serve, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshots are newer than what the process has followed to."""
    hand_out = Hub._hand_out  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def hand_out_late(hub: Hub, waiting: dict[Channel, list[Message]]) -> None:
        asyncio.get_running_loop().call_later(0.1, hand_out, hub, dict(waiting))
        waiting.clear()

    monkeypatch.setattr(Hub, "_hand_out", hand_out_late)
    door = asyncio.Semaphore(20)
    left = JOINING

    async def publish() -> None:
        number = 0
        while left:
            await producer.publish(WorkflowProgress(workflow_id="w", step="s", progress=number % 100))
            number += 1

    async def join(api: Api) -> int:
        """Watch some events; how many came that the state did not have yet."""
        nonlocal left
        async with door, api.watching("/stream/workflow/w") as stream:
            connected = await stream.next()
            frames = await stream.until(lambda frame: frame.pos >= connected.pos + 5)
        left -= 1
        told = [frame.pos for frame in frames if frame.id is not None]
        assert told == list(range(connected.pos + 1, connected.pos + 6))
        return connected.pos

    async with serve() as api, asyncio.TaskGroup() as tasks:
        await wait_until(api.ready)
        publishing = tasks.create_task(publish())
        joined = await asyncio.gather(*(join(api) for _ in range(JOINING)))
        await publishing
    assert len(set(joined)) > JOINING / 100, "too few joined at moments of their own for this to say anything"
