"""Reading the log: one source or several together, entry by entry and in order, a page at a time."""

import heapq
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import Redis

from core.log.checkpoint import Checkpoint
from core.log.dead import DeadLetters
from core.log.entry import Entry
from core.log.keys import Keys, Source
from core.log.read import entries_of, newest_id, read_entries
from core.log.tombstones import Tombstones
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId

_PAGE: Final = 200
"""Entries in memory at once, of all the sources that are read together: of the largest events that is 50 MB."""

_SMALLEST_PAGE: Final = 10


class Logged(NamedTuple):
    """An entry where it stands in the log. ``parked``: it is or was among the dead letters, so it is in no view."""

    source: Source
    entry: Entry
    parked: bool

    @property
    def erased(self) -> "Logged":
        """Its place alone, as of an entry that is in no view."""
        return Logged(self.source, Entry(self.entry.stream_id, {b"offset": str(self.entry.offset).encode()}), True)


class LogReader:
    """Reads the log of one deployment.

    Readers name sources and positions, and get each entry once, in order. Where it is kept is known here alone.
    Every method raises `redis.exceptions.RedisError` when Redis does not answer.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._dead = DeadLetters(redis, keys)
        self.tombstones = Tombstones(redis, keys)

    async def read(
        self, source: Source, *, after: StreamId = BEGINNING, upto: StreamId | None = None, page: int = _PAGE
    ) -> AsyncGenerator[Logged]:
        """The entries after ``after`` up to ``upto`` (None: the newest there is by then), oldest first."""
        while entries := await read_entries(self._redis, source, after=after, upto=upto, count=page):
            parked = await self._dead.parked_among(source, entries)
            for entry in entries:
                yield Logged(source, entry, entry.stream_id in parked)
            after = entries[-1].stream_id

    async def read_together(self, upto: Mapping[Source, StreamId | None]) -> AsyncGenerator[Logged]:
        """The entries of these sources, of each up to its position, in the order of their stream ids.

        Those of one id come in the order of their topics' ids, as a user's list has them, then of the sources.
        """
        page = max(_SMALLEST_PAGE, _PAGE // max(1, len(upto)))
        readers = [self.read(source, upto=end, page=page) for source, end in upto.items()]
        heads: list[tuple[StreamId, bytes, int, Logged]] = []

        async def advance(number: int) -> None:
            logged = await anext(readers[number], None)
            if logged is not None:
                entry = logged.entry
                heapq.heappush(heads, (entry.stream_id, entry.fields.get(b"topic", b""), number, logged))

        for number in range(len(readers)):
            await advance(number)
        while heads:
            _, _, number, logged = heapq.heappop(heads)
            yield logged
            await advance(number)

    async def find(self, places: Sequence[tuple[Source, StreamId]]) -> list[Entry | None]:
        """The entries that stand at these places; None for what is gone."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for source, stream_id in places:
                pipe.xrange(source.key, min=str(stream_id), max=str(stream_id))
            rows = cast("list[list[Any]]", await pipe.execute())
        return [next(iter(entries_of(row)), None) for row in rows]

    async def newest(self, source: Source) -> StreamId:
        """The newest stream id the source ever gave out; `BEGINNING` when there is none."""
        return await newest_id(self._redis, source.key)

    async def whole_since(self, source: Source, *, until: int = 0) -> StreamId:
        """From where on the log has every event of the source; `BEGINNING`: from its first event on.

        ``until``: what was archived and is older than that (milliseconds) is not missed: it was given up.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xrange(source.key, count=1)
            pipe.get(source.offset)
            pipe.get(source.moved)
            pipe.get(source.archived)
            rows, newest, moved, checkpoint = cast("tuple[list[Any], *tuple[bytes | None, ...]]", await pipe.execute())
        archived = Checkpoint.parse(checkpoint)
        known = max(int(moved or 0), archived.offset if archived.stream_id.milliseconds < until else 0)
        for entry in entries_of(rows):
            return entry.stream_id if entry.offset > known + 1 else BEGINNING
        return (await self.newest(source)).next if int(newest or 0) > known else BEGINNING

    async def moved(self, source: Source) -> int:
        """Up to which offset a repartition dealt out the source anew; 0 where none did."""
        return int(cast("bytes | None", await self._redis.get(source.moved)) or 0)


class Continuity:
    """Whether entries follow each other without a hole: ids say what comes after what, offsets that nothing is missing.

    ``offset`` is that of the last entry that has one. What is missing up to ``moved`` is in the archive, as parts of
    the partitions there were before.
    """

    def __init__(self, offset: int = 0, moved: int = 0) -> None:
        self.offset = offset
        self._moved = moved

    def follows(self, entry: Entry) -> bool:
        """Whether nothing is missing before this entry, the next there is. What another hand added says nothing."""
        before, self.offset = self.offset, entry.offset or self.offset
        return not entry.offset or entry.offset == before + 1 or before < entry.offset <= self._moved + 1


def topics_named(entry: Entry) -> list[Topic]:
    """The topics whose views would hear of an entry this build cannot decode, as far as its fields say so."""
    fields = {name: entry.fields.get(name, b"") for name in (b"tenant", b"topic", b"user")}
    topics: list[Topic] = []
    with suppress(ValueError):
        tenant, topic, user = (text.decode() for text in fields.values())
        topics.append(Topic.parse(f"{tenant}:{topic}"))
        if user and topics[0].kind != "user":
            topics.append(Topic.parse(f"{tenant}:user:{user}"))
    return topics
