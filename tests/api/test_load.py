"""Joining at any moment of a busy topic, and viewers that do not read."""

import asyncio
import random

import pytest

from pipai_contracts.events import Metadata, WorkflowProgress
from services.api import subscription
from services.api.changes import Change
from services.api.subscription import MAX_WAITING, Subscription
from tests.api.conftest import Api, Producer, Serve
from tests.api.stream import Frame

EVENTS = 2_000
VIEWERS = 50


async def _publish(producer: Producer) -> None:
    for start in range(0, EVENTS, 20):
        events = [
            WorkflowProgress(workflow_id="w", step="s", progress=(start + at) * 99 / EVENTS, metadata={"n": start + at})
            for at in range(20)
        ]
        await producer.publish(*events)


async def _watch(api: Api, delay: float) -> tuple[int, list[Frame]]:
    """The position one joined at, and everything until the last event."""
    await asyncio.sleep(delay)  # at a random moment, which nothing announces
    async with api.watching("/stream/workflow/w") as stream:
        connected = await stream.next()
        if connected.pos:
            assert (await stream.next()).id is None
        frames = [] if connected.pos == EVENTS else await stream.until(lambda frame: frame.pos == EVENTS)
        return connected.pos, frames


async def test_whoever_joins_whenever_sees_every_position_once(api: Api, producer: Producer) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_publish(producer))
        viewers = [tasks.create_task(_watch(api, random.uniform(0, 1.5))) for _ in range(VIEWERS)]

    payload: dict[int, bytes] = {}
    joined = 0
    for viewer in viewers:
        cursor, frames = viewer.result()
        joined += 0 < cursor < EVENTS
        assert [frame.pos for frame in frames] == list(range(cursor + 1, EVENTS + 1))
        for frame in frames:
            assert payload.setdefault(frame.pos, frame.raw) == frame.raw
    assert joined > VIEWERS / 5, "too few joined in the middle for this to say anything"
    assert [payload[pos] for pos in sorted(payload)][-1].count(b'"n":1999') == 1


async def test_who_goes_and_comes_back_again_and_again_sees_every_position_once(api: Api, producer: Producer) -> None:
    publishing = asyncio.create_task(_publish(producer))
    seen: list[int] = []
    cursor = "0"
    while len(seen) < EVENTS:
        async with api.watching("/stream/workflow/w", {"Last-Event-ID": cursor}) as stream:
            await stream.next()
            for _ in range(min(random.randint(1, 300), EVENTS - len(seen))):
                frame = await stream.next()
                assert frame.event == "workflow_progress"
                seen.append(frame.pos)
                cursor = str(frame.id)
    await publishing
    assert seen == list(range(1, EVENTS + 1))


async def test_a_viewer_that_does_not_read_gets_the_state_when_it_does(
    serve: Serve, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "MAX_WAITING", 50)
    large: Metadata = {"text": "x" * 50_000}
    async with (
        serve() as api,
        api.watching("/stream/workflow/w", read=False) as sleeper,
        api.watching("/stream/workflow/w") as reader,
    ):
        assert (await reader.next()).event == "connected"
        for at in range(300):
            await producer.publish(WorkflowProgress(workflow_id="w", step="s", progress=at / 4, metadata=large))
            assert (await reader.next()).pos == at + 1

        sleeper.read()
        frames = await sleeper.until(lambda frame: frame.pos == 300)
        await producer.progress("w", 80)
        frames.append(await sleeper.next())

    [at] = [index for index, frame in enumerate(frames) if frame.event == "reset"]
    assert frames[at].data["reason"] == "slow"
    assert frames[at].data["view"]["progress"] == 299 / 4
    before, after = frames[1:at], frames[at + 1 :]
    assert [frame.pos for frame in before] == list(range(1, len(before) + 1))
    assert len(before) < 250
    assert [frame.pos for frame in after] == [301]


def test_what_waits_for_a_viewer_is_bounded() -> None:
    waiting = Subscription()
    for pos in range(1, 10 * MAX_WAITING):
        waiting.offer(Change("e", pos, b"", None))
        assert len(waiting._waiting) <= MAX_WAITING  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


async def test_who_falls_behind_is_told_before_anything_newer() -> None:
    waiting = Subscription()
    changes = [Change("e", pos, b"", None) for pos in range(MAX_WAITING + 5)]
    for change in changes:
        waiting.offer(change)
    assert await waiting.take() == ["slow", *changes[MAX_WAITING:]]
    assert await waiting.take(0) == []
