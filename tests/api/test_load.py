"""Joining at any moment of a busy topic, and viewers that do not read."""

import asyncio
import random
from dataclasses import dataclass
from itertools import pairwise

from pipai_contracts.events import Metadata, WorkflowProgress
from tests.api.conftest import Api, Producer, Serve
from tests.api.stream import Frame
from tests.conftest import wait_until

EVENTS = 2_000
VIEWERS = 50


async def _publish(producer: Producer) -> None:
    for start in range(0, EVENTS, 20):
        events = [
            WorkflowProgress(workflow_id="w", step="s", progress=(start + at) * 99 / EVENTS, metadata={"n": start + at})
            for at in range(20)
        ]
        await producer.publish(*events)


@dataclass
class _Crowd:
    """A topic that is published to without pause until everybody has joined."""

    published: int = 0
    joined: int = 0

    async def publish(self, producer: Producer) -> None:
        while self.joined < VIEWERS and self.published < 20 * EVENTS:
            await producer.publish(*(self._event(self.published + at) for at in range(20)))
            self.published += 20
        await producer.publish(self._event(self.published, last=True))

    def _event(self, number: int, *, last: bool = False) -> WorkflowProgress:
        return WorkflowProgress(workflow_id="w", step="s", progress=number % 100, metadata={"n": number, "last": last})

    async def watch(self, api: Api, after: int) -> tuple[int, list[Frame]]:
        """Join when that many are published; the position one joined at, and everything until the last event."""
        await wait_until(lambda: self.published >= after, 60)
        async with api.watching("/stream/workflow/w") as stream:
            connected = await stream.next()
            if connected.pos:
                assert (await stream.next()).id is None
            self.joined += 1
            return connected.pos, await stream.until(lambda frame: frame.data["metadata"]["last"])


async def test_whoever_joins_whenever_sees_every_position_once(api: Api, producer: Producer) -> None:
    crowd = _Crowd()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crowd.publish(producer))
        viewers = [tasks.create_task(crowd.watch(api, random.randrange(EVENTS))) for _ in range(VIEWERS)]

    payload: dict[int, bytes] = {}
    joined = 0
    for viewer in viewers:
        cursor, frames = viewer.result()
        joined += cursor > 0
        assert [frame.pos for frame in frames] == list(range(cursor + 1, crowd.published + 2))
        for frame in frames:
            assert payload.setdefault(frame.pos, frame.raw) == frame.raw
    assert joined > VIEWERS / 5, "too few joined in the middle for this to say anything"


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


async def test_a_viewer_that_does_not_read_gets_the_state_when_it_does(serve: Serve, producer: Producer) -> None:
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

    resets = [frame for frame in frames if frame.event == "reset"]
    assert resets
    assert {reset.data["reason"] for reset in resets} == {"slow"}
    assert all(reset.data["view"]["progress"] == (reset.pos - 1) / 4 for reset in resets)
    for before, frame in pairwise(frames):
        assert frame.pos > before.pos if frame.event == "reset" else frame.pos == before.pos + 1
    assert frames[-1].pos == 301
    assert len(frames) < 250
