"""Shaping several channels of one viewer: each by itself, all in time."""

import json
from collections.abc import Sequence
from typing import Any, cast

from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import Shaping
from pipai_contracts.ids import Topic
from services.api.channel import Channel
from services.api.messages import Message, event_message
from services.api.pacing import Pacer
from services.api.ring import RingSpace
from services.api.shaping import Group
from tests.conftest import wait_until


def _channel(name: str) -> Channel:
    return Channel(Topic("default", "workflow", name), cast("Any", None), RingSpace(), cast("Any", None))


def _progress(*positions: int) -> list[Message]:
    fields = {"workflow_id": "w", "step": "s", "progress": 1}
    return [
        event_message(Cursor("1234abcd", pos), "workflow_progress", json.dumps(fields).encode()) for pos in positions
    ]


class Delivered:
    """What left, as the topic's id and the positions of each message."""

    def __init__(self) -> None:
        self.groups: list[tuple[str, list[int]]] = []

    def __call__(self, channel: Channel, groups: Sequence[Group]) -> None:
        self.groups += [(channel.topic.id, [_pos(message) for message in group]) for group in groups]


def _pos(message: Message) -> int:
    assert message.cursor is not None
    return message.cursor.pos


async def test_each_channel_is_shaped_by_itself_and_all_leave_in_time() -> None:
    delivered, one, two = Delivered(), _channel("one"), _channel("two")
    pacer = Pacer(Shaping(throttle_ms=50), delivered)
    pacer.tell(one, _progress(1, 2, 3))
    pacer.tell(two, _progress(7, 8))
    assert delivered.groups == [("one", [1]), ("two", [7])]
    await wait_until(lambda: len(delivered.groups) == 4)
    assert sorted(delivered.groups[2:]) == [("one", [3]), ("two", [8])]


async def test_a_channel_that_is_dropped_gives_out_what_waits_and_then_nothing() -> None:
    delivered, one, two = Delivered(), _channel("one"), _channel("two")
    pacer = Pacer(Shaping(batch_ms=60_000), delivered)
    pacer.tell(one, _progress(1, 2))
    pacer.tell(two, _progress(7))
    pacer.drop(one)
    assert delivered.groups == [("one", [1, 2])]
    pacer.flush()
    pacer.flush()
    assert delivered.groups == [("one", [1, 2]), ("two", [7])]


async def test_nothing_leaves_while_it_is_held_and_all_that_is_due_when_it_goes_on() -> None:
    delivered, one, two = Delivered(), _channel("one"), _channel("two")
    held, other = Pacer(Shaping(batch_ms=10), delivered), Pacer(Shaping(batch_ms=30), delivered)
    held.hold()
    held.tell(one, _progress(1))
    other.tell(two, _progress(2))
    await wait_until(lambda: delivered.groups)
    assert delivered.groups == [("two", [2])]
    held.go_on()
    await wait_until(lambda: len(delivered.groups) == 2)
    assert delivered.groups[-1] == ("one", [1])


async def test_what_is_closed_gives_out_nothing_more() -> None:
    delivered, one, two = Delivered(), _channel("one"), _channel("two")
    closed, other = Pacer(Shaping(batch_ms=10), delivered), Pacer(Shaping(batch_ms=30), delivered)
    closed.tell(one, _progress(1))
    closed.close()
    other.tell(two, _progress(2))
    await wait_until(lambda: delivered.groups)
    assert delivered.groups == [("two", [2])]
