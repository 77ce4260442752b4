"""What is kept of a topic's newest events, and when the feed is not asked for more of them."""

from typing import Any, cast

from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from services.api.memory import Memory
from services.api.messages import Message, event_message
from services.api.ring import MAX_BYTES, MAX_EVENTS, Ring, RingSpace

EPOCH = "3f2a91bc"


def _events(first: int, last: int, size: int = 10) -> list[Message]:
    data = b'{"progress":1,"text":"%b"}' % (b"x" * size)
    return [event_message(Cursor(EPOCH, pos), "workflow_progress", data) for pos in range(first, last + 1)]


def _positions(messages: list[Message] | None) -> list[int] | None:
    return None if messages is None else [message.cursor.pos for message in messages if message.cursor is not None]


def test_it_keeps_the_newest_and_says_so_where_it_does_not_reach_back() -> None:
    ring = Ring(RingSpace())
    ring.add(_events(1, MAX_EVENTS + 10))
    assert (ring.first, ring.room) == (11, 0)
    assert ring.after(9) is None
    assert _positions(ring.after(MAX_EVENTS + 8)) == [MAX_EVENTS + 9, MAX_EVENTS + 10]
    assert ring.after(MAX_EVENTS + 10) == []


def test_large_events_leave_no_room_long_before_there_are_many() -> None:
    ring = Ring(RingSpace())
    ring.add(_events(11, 12, size=MAX_BYTES // 3))
    assert ring.room == 0
    ring.clear()
    ring.add(_events(11, 12, size=MAX_BYTES // 5))
    assert ring.room == 2
    ring.put_before(_events(9, 10, size=MAX_BYTES // 5))
    assert (ring.first, ring.room) == (9, 0)


def test_all_rings_together_have_a_bound_and_each_keeps_its_newest_event() -> None:
    space = RingSpace(most=50_000)
    rings = [Ring(space) for _ in range(10)]
    for pos in range(1, 21):
        for ring in rings:
            ring.add(_events(pos, pos, size=1_000))
    assert all(ring.after(19) for ring in rings)
    assert space.used <= space.most + 10 * 1_200
    for ring in rings:
        ring.clear()
    assert space.used == 0


class _Feed:
    """Has every event, and counts how many of them it was asked for."""

    def __init__(self, size: int) -> None:
        self.asked = 0
        self._size = size

    async def tail(self, _topic: Topic, _epoch: str, *, upto: int, count: int) -> list[Message]:
        self.asked += count
        return _events(max(1, upto - count + 1), upto, self._size)


def _memory(feed: _Feed, first: int, last: int, size: int = 10) -> Memory:
    memory = Memory(Topic("default", "workflow", "w"), cast("Any", feed), RingSpace())
    memory.cursor = Cursor(EPOCH, last)
    memory.add(_events(first, last, size))
    return memory


async def test_memory_reaches_back_as_far_as_it_has_room() -> None:
    feed = _Feed(size=10)
    memory = _memory(feed, 201, 300)
    assert await memory.reach_back(150)
    assert _positions(memory.after(150)) == list(range(151, 301))
    assert feed.asked == MAX_EVENTS - 100


async def test_a_feed_is_not_read_for_what_memory_has_no_room_for() -> None:
    """Each viewer that comes back would have it read in vain."""
    many, large = _Feed(size=10), _Feed(size=MAX_BYTES // 3)
    assert not await _memory(many, 301, 300 + MAX_EVENTS).reach_back(290)
    assert not await _memory(large, 299, 300, size=MAX_BYTES // 3).reach_back(290)
    assert (many.asked, large.asked) == (0, 0)
