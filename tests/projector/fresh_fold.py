"""What every view must be: a fresh fold of the log, read entry by entry."""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis

from core.log.entry import decode
from core.log.errors import UndecodableEntryError
from core.log.keys import Keys, partition_of
from core.log.read import read_entries
from core.views.checkpoints import Checkpoints
from core.views.folds import State, evolve, initial, render
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId

_EVERYTHING = 1_000_000


Parked = AbstractSet[tuple[str, str]]
"""Source name and stream id of events that were parked: two sources may give the same stream id."""


@dataclass
class Fresh:
    """A topic's view and how often each event went into it."""

    state: State
    events: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])


async def read_log(redis: Redis, keys: Keys) -> list[Record]:
    """Every event of every source, in the order of the stream ids."""
    records: list[Record] = []
    for source in keys.sources():
        for entry in await read_entries(redis, source, after=BEGINNING, count=_EVERYTHING):
            try:
                records.append(decode(source, entry))
            except UndecodableEntryError:
                continue
    return sorted(records, key=lambda record: record.stream_id)


async def fold_log(redis: Redis, keys: Keys, without: Parked = frozenset()) -> dict[Topic, Fresh]:
    """The view of every topic that the log has events of, those in ``without`` left out."""
    fresh: dict[Topic, Fresh] = {}
    for record in await read_log(redis, keys):
        if (record.source, str(record.stream_id)) in without:
            continue
        for topic in record.topics:
            view = fresh.setdefault(topic, Fresh(initial(topic)))
            view.state = evolve(view.state, record)
            view.events[record.envelope.event.type, str(record.stream_id)] += 1
    return fresh


async def is_projected(redis: Redis, keys: Keys) -> bool:
    """Whether the checkpoint of every source is at its last entry."""
    checkpoints = Checkpoints(redis, keys)
    for source in keys.sources():
        last = cast("list[Any]", await redis.xrevrange(source.key, count=1))
        if last and last[0][0].decode() != str((await checkpoints.load(source)).stream_id):
            return False
    return True


async def assert_views_are_a_fresh_fold(redis: Redis, keys: Keys, without: Parked = frozenset()) -> int:
    """Every view, feed and change feed holds exactly what the log says; returns how many views that are.

    ``without``: what was parked, so it is in no view.
    """
    fresh = await fold_log(redis, keys, without)
    stored = await ViewStore(redis, keys, feed_length=1, ttl=60).load(list(fresh))
    for topic, view in fresh.items():
        assert render(stored[topic].state) == render(view.state), topic
        told = await _feed(redis, keys, topic)
        assert told == view.events, (topic, told - view.events, view.events - told)
        assert stored[topic].pos == view.events.total(), topic
    for partition in range(keys.partitions):
        expected = Counter[tuple[str, str, str]]()
        for topic, view in fresh.items():
            if partition_of(topic, keys.partitions) == partition:
                expected.update({(topic.path, *event): times for event, times in view.events.items()})
        assert await _changes(redis, keys, partition) == expected
    return len(fresh)


async def _feed(redis: Redis, keys: Keys, topic: Topic) -> Counter[tuple[str, str]]:
    """How often each event stands in the feed, whose positions have no hole."""
    rows = await _rows(redis, keys.feed(topic))
    assert [entry_id for entry_id, _ in rows] == [f"{pos}-0".encode() for pos in range(1, len(rows) + 1)], topic
    return Counter((fields[b"event"].decode(), fields[b"stream_id"].decode()) for _, fields in rows)


async def _changes(redis: Redis, keys: Keys, partition: int) -> Counter[tuple[str, str, str]]:
    """How often each event of each topic stands in the change feed, whose numbers have no hole."""
    rows = await _rows(redis, keys.changes(partition))
    numbers = [StreamId.parse(change_id).milliseconds for change_id, _ in rows]
    assert not numbers or numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    names = (b"topic", b"event", b"stream_id")
    told = [tuple(fields[name].decode() for name in names) for _, fields in rows if b"topic" in fields]
    return Counter(cast("list[tuple[str, str, str]]", told))


async def _rows(redis: Redis, key: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(key))
