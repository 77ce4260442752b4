"""What every view must be: a fresh fold of the log, read entry by entry."""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis

from core.log.entry import decode
from core.log.errors import UndecodableEntryError
from core.log.keys import Keys
from core.log.read import read_entries
from core.views.checkpoints import Checkpoints
from core.views.folds import State, evolve, initial, render, topics_of
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record

_EVERYTHING = 1_000_000


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


async def fold_log(redis: Redis, keys: Keys, without: AbstractSet[str] = frozenset()) -> dict[Topic, Fresh]:
    """The view of every topic that the log has events of, the stream ids in ``without`` left out."""
    fresh: dict[Topic, Fresh] = {}
    for record in await read_log(redis, keys):
        if str(record.stream_id) in without:
            continue
        for topic in topics_of(record):
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


async def assert_views_are_a_fresh_fold(redis: Redis, keys: Keys, without: AbstractSet[str] = frozenset()) -> int:
    """Every view, feed and change feed holds exactly what the log says; returns how many views that are.

    ``without``: stream ids of events that were parked, so they are in no view.
    """
    fresh = await fold_log(redis, keys, without)
    stored = await ViewStore(redis, keys, feed_length=1, ttl=60).load(list(fresh))
    for topic, view in fresh.items():
        assert render(stored[topic].state) == render(view.state), topic
        assert await _feed(redis, keys, topic) == view.events, topic
        assert stored[topic].pos == view.events.total(), topic
    for partition in range(keys.partitions):
        changes = [change_id for change_id, _ in await _rows(redis, keys.changes(partition))]
        assert changes == [f"{number}-0".encode() for number in range(1, len(changes) + 1)]
    return len(fresh)


async def _feed(redis: Redis, keys: Keys, topic: Topic) -> Counter[tuple[str, str]]:
    """How often each event stands in the feed, whose positions have no hole."""
    rows = await _rows(redis, keys.feed(topic))
    assert [entry_id for entry_id, _ in rows] == [f"{pos}-0".encode() for pos in range(1, len(rows) + 1)], topic
    return Counter((fields[b"event"].decode(), fields[b"source"].decode()) for _, fields in rows)


async def _rows(redis: Redis, key: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(key))
