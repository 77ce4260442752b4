"""Noticing that the log went back below its checkpoint, and bringing into sight what it hides since then.

A failover may lose the newest events of a source stream, which views have heard of: the views keep them. If the clock
of the new master is behind, what is appended then gets ids below the checkpoint, or below what a view has heard of, and
nothing would ever project it. Such events are moved to the end of the log, above the checkpoint.

What shows that the log is the one the checkpoint tells of is the event the checkpoint stands at.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final, cast

from redis.asyncio import Redis

from core.log.checkpoint import NOTHING, Checkpoint
from core.log.dead import DeadLetters
from core.log.entry import Entry
from core.log.keys import Keys, Source
from core.log.lift import Lifter
from core.log.read import entries_of, read_entries
from core.log.reader import LogReader, topics_named
from core.runtime.logs import get_logger
from core.runtime.redis import ask_holder
from core.views.checkpoints import Checkpoints, Copies
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId

_PAGE: Final = 100

_CLOCKS_DIFFER: Final = 3_600_000
"""Milliseconds. A checkpoint further ahead of the clock than this was set by hand."""

log = get_logger()


class Setbacks:
    """Compares checkpoints with the log of one deployment. ``view_ttl``: seconds a view outlives its last event."""

    def __init__(self, redis: Redis, keys: Keys, store: ViewStore, *, view_ttl: int) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._checkpoints = Checkpoints(redis, keys)
        self._dead = DeadLetters(redis, keys)
        self._lifter = Lifter(redis)
        self._reader = LogReader(redis, keys)
        self._view_ttl = view_ttl

    async def mend(self, source: Source, copies: Copies) -> bool:
        """Have everything in the log projected again if it went back below a checkpoint; whether it did.

        Never while events of the source are being folded or committed. What it changes, it changes for all views:
        checkpoints are to be asked for again.

        Raises:
            redis.exceptions.RedisError: Redis did not answer; to mend again is safe.
        """
        furthest = copies.highest
        if furthest == NOTHING or await self._holds(source, furthest):
            return False
        first = next(iter(await read_entries(self._redis, source, after=BEGINNING, count=1)), None)
        newest_id = await self._reader.newest(source)
        seconds, _ = await ask_holder(self._redis, source.key, "TIME")
        if furthest.stream_id.milliseconds > seconds * 1000 + _CLOCKS_DIFFER:
            await self._put_back(source, copies, first, before=StreamId(seconds * 1000 + _CLOCKS_DIFFER, 0))
            return True
        if newest_id >= furthest.stream_id and (first is None or first.stream_id > furthest.stream_id):
            return False  # trimmed
        oldest = await self._oldest_hidden(source, copies, StreamId((seconds - self._view_ttl) * 1000, 0))
        if oldest is None and newest_id >= furthest.stream_id:
            return False  # deleted by hand, or what came since is in plain sight
        floor, offset = furthest.stream_id, furthest.offset
        moved = await self._lifter.lift(source, oldest=oldest, floor=floor, offset=offset)
        log.error("stream went back below its checkpoint", stream=source.key, checkpoint=str(floor), moved=moved)
        return True

    async def _holds(self, source: Source, checkpoint: Checkpoint) -> bool:
        place = str(checkpoint.stream_id)
        found = entries_of(cast("list[Any]", await self._redis.xrange(source.key, min=place, max=place)))
        return stands_at(checkpoint, found)

    async def _put_back(self, source: Source, copies: Copies, first: Entry | None, *, before: StreamId) -> None:
        """Put copies of a checkpoint back that no log can have reached; views skip what they have heard of."""
        to = copies.lowest if copies.lowest.stream_id <= before else _just_before(first)
        log.error(
            "checkpoint is ahead of the clock", stream=source.key, found=str(copies.highest.stream_id), to=str(to)
        )
        await self._checkpoints.put_back(source, to, beyond=before)

    async def _oldest_hidden(self, source: Source, copies: Copies, kept_since: StreamId) -> StreamId | None:
        """The oldest event that nothing would project, looking back from the newest until one that is in its views."""
        hidden: StreamId | None = None
        upto = "+"
        while True:
            reply = await self._redis.xrevrange(source.key, max=upto, count=_PAGE)
            entries = entries_of(cast("list[Any]", reply))
            if not entries:
                return hidden
            parked = await self._dead.parked_among(source, entries[::-1])
            page = await _Page.read(self._redis, self._keys, self._store, source, entries)
            for entry in entries:
                known = entry.stream_id in parked or any(stands_at(copy, [entry]) for copy in copies)
                if known or entry.stream_id < kept_since or page.is_told(entry):
                    return hidden
                if page.is_hidden(entry, copies.lowest.stream_id):
                    hidden = entry.stream_id
            upto = f"({entries[-1].stream_id}"


class _Page:
    """Some events of a source, and what their views have heard and told of them."""

    def __init__(self, source: Source, heard: dict[Topic, StreamId], told: dict[Topic, dict[bytes, bytes]]) -> None:
        self._source = source
        self._heard = heard
        self._told = told

    @classmethod
    async def read(
        cls, redis: Redis, keys: Keys, store: ViewStore, source: Source, entries: Sequence[Entry]
    ) -> "_Page":
        wanted: dict[Topic, set[bytes]] = {}
        for entry in entries:
            for topic in topics_named(entry):
                wanted.setdefault(topic, set()).add(str(entry.stream_id).encode())
        views = await store.load(list(wanted))
        heard = {topic: view.heard.get(source.name, BEGINNING) for topic, view in views.items()}
        told = {topic: await _told(redis, keys.feed(topic), ids) for topic, ids in wanted.items()}
        return cls(source, heard, told)

    def is_told(self, entry: Entry) -> bool:
        """Whether a view has the event: its feed tells of it, and not of another that had the same id."""
        return any(self._tells(topic, entry) for topic in topics_named(entry))

    def is_hidden(self, entry: Entry, checkpoint: StreamId) -> bool:
        """Whether a view lacks the event and would skip it, or never be shown it."""
        topics = topics_named(entry)
        if not topics:
            return entry.stream_id <= checkpoint
        return any(
            entry.stream_id <= max(checkpoint, self._heard.get(topic, BEGINNING))
            for topic in topics
            if not self._tells(topic, entry)
        )

    def _tells(self, topic: Topic, entry: Entry) -> bool:
        data = self._told[topic].get(str(entry.stream_id).encode())
        return data is not None and b'"timestamp":"%s"' % entry.fields.get(b"time", b"") in data


async def _told(redis: Redis, feed: str, wanted: Collection[bytes]) -> dict[bytes, bytes]:
    """What a feed tells of the events with these stream ids."""
    told: dict[bytes, bytes] = {}
    enough = min(StreamId.parse(stream_id).milliseconds for stream_id in wanted) - _CLOCKS_DIFFER
    upto = "+"
    while True:
        rows = cast("list[Any]", await redis.xrevrange(feed, max=upto, count=_PAGE))
        for _, fields in rows:
            if fields.get(b"stream_id") in wanted:
                told[fields[b"stream_id"]] = fields.get(b"data", b"")
        if len(rows) < _PAGE or len(told) == len(wanted):
            return told
        if StreamId.parse(rows[-1][1].get(b"stream_id", b"0-0")).milliseconds < enough:
            return told
        upto = f"({rows[-1][0].decode()}"


def stands_at(checkpoint: Checkpoint, entries: Sequence[Entry]) -> bool:
    """Whether the first of the entries is the event the checkpoint stands at. What others add has no offset."""
    return (
        bool(entries) and entries[0].stream_id == checkpoint.stream_id and entries[0].offset in {0, checkpoint.offset}
    )


def _just_before(first: Entry | None) -> Checkpoint:
    """A checkpoint that everything in the log follows without a hole."""
    if first is None:
        return NOTHING
    milliseconds, sequence = first.stream_id
    place = StreamId(milliseconds, sequence - 1) if sequence else StreamId(milliseconds - 1, 0)
    return Checkpoint(max(first.offset - 1, 0), place)
