"""All of the log: what Redis still has of it, and what is in the archive."""

import heapq
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from core.log.archive.archive import Archive, Whole
from core.log.archive.bases import Base
from core.log.archive.rows import Row, decode_row, entry_of, row_of
from core.log.archive.segment import LAST
from core.log.archive.store import StoreAwayError
from core.log.archive.wanted import Place, Wanted
from core.log.errors import UndecodableEntryError
from core.log.keys import Keys, Source, partition_of
from core.log.reader import Continuity, Logged, LogReader
from core.log.tombstones import Hidden
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId
from pipai_contracts.upcast import NewerVersionError

_PAGE: Final = 1_000
_LARGEST_PAGE: Final = 16_000
_PAGE_BYTES: Final = 4 * 1024 * 1024
"""About how much of the events' data a page has, where it is larger than the first."""

_REMEMBERED: Final = 60.0
"""Seconds."""


class GivenUp(NamedTuple):
    """What of a topic's history was given up, or is about to be: everything before ``until`` (ms), 0 where nothing was.

    ``base`` is what its view was then; None when the topic had no event by then, or ended before.
    """

    until: int = 0
    base: Base | None = None


class History:
    """Reads every event of one deployment, wherever it is.

    Ids say what comes after what, offsets that nothing is missing: where the log has a hole, the archive is asked. So
    it makes no difference how far the archiver is, nor that it moves on and the log is trimmed meanwhile. Without an
    archive it is what the log still has.

    Every method raises `redis.exceptions.RedisError` when Redis does not answer, and what `Archive` raises.
    """

    def __init__(self, log: LogReader, keys: Keys, archive: Archive | None) -> None:
        self._log = log
        self._keys = keys
        self._archive = archive
        self._begins: dict[str, tuple[dict[str, Whole], float]] = {}
        self._until = (0, float("-inf"))

    @property
    def without_archive(self) -> "History":
        """What the log still has of it."""
        return History(self._log, self._keys, None)

    async def hidden(self, *, fresh: bool = False) -> Hidden:
        """What is passed over because it was erased; as of some seconds ago, unless it is to be ``fresh``."""
        return await self._log.tombstones.hidden(fresh=fresh)

    async def read(
        self, source: Source, *, after: StreamId = BEGINNING, upto: StreamId | None = None
    ) -> AsyncGenerator[Logged]:
        """The entries after ``after`` up to ``upto`` (None: the newest), oldest first, each once.

        Of what was erased the places are left, as of events that are in no view.
        """
        hidden = await self._log.tombstones.hidden()
        async for logged in self._read(source, after, upto):
            yield logged.erased if hidden.hides_entry(logged.entry) else logged

    async def _read(self, source: Source, after: StreamId, upto: StreamId | None) -> AsyncGenerator[Logged]:
        continuity: Continuity | None = None
        async for logged in self._log.read(source, after=after, upto=upto):
            stream_id = logged.entry.stream_id
            if continuity is None or not continuity.follows(logged.entry):
                async for archived in self._read_archive(source, after, _before(stream_id)):
                    yield archived
                continuity = Continuity(logged.entry.offset)
            yield logged
            after = stream_id
        async for archived in self._read_archive(source, after, upto or LAST):
            yield archived

    async def _read_archive(self, source: Source, after: StreamId, upto: StreamId) -> AsyncGenerator[Logged]:
        if self._archive is None or upto <= after:
            return
        async for rows in self._archive.read(source.name, after=after, upto=upto):
            for row in rows:
                yield Logged(source, entry_of(row), row.parked)

    async def find(self, wanted: Wanted, *, after: Place | None = None, limit: int) -> list[Row]:
        """The first ``limit`` wanted events beyond a place, in the order of their places.

        The log is looked at first: what it loses meanwhile is in the archive.
        """
        hidden = await self._log.tombstones.hidden()
        found: list[Row] = []
        while (lacking := limit - len(found)) > 0:
            rows = await self._find(wanted, after, lacking)
            found += [row for row in rows if not hidden.hides(row.tenant, row.topic, row.user_id, row.stream_ms)]
            if len(rows) < lacking:
                break
            after = rows[-1].place
        return found

    async def _find(self, wanted: Wanted, after: Place | None, limit: int) -> list[Row]:
        found: dict[Place, Row] = {}
        for source in self._sources_of(wanted):
            for row in await self._find_in_log(source, wanted, after, limit):
                found[row.place] = row
        if self._archive is not None:
            for row in await self._archive.find(wanted, after=after, limit=limit):
                found[row.place] = row
        return [found[place] for place in heapq.nsmallest(limit, found)]

    async def read_topic(
        self, topic: Topic, since: GivenUp, *, until: int | None = None, skip_newer: bool = False
    ) -> AsyncGenerator[list[Record]]:
        """The events a topic's view has heard of, or will, in the order of their places, a page at a time.

        Those appended ``since`` what was given up, and before ``until`` (milliseconds). What is in no view is left out,
        and with ``skip_newer`` what this build cannot read.

        Raises:
            SlowSearchError: a page takes too long.
            NewerVersionError: one was written by a newer build.
            StoreAwayError: some of them were given up while they were read.
        """
        read = begin = since.until
        async for rows in self._pages(replace(Wanted.of(topic), since=begin or None, until=until)):
            if begin < await self._given_up() > read:
                raise StoreAwayError("the beginning of the archive was given up meanwhile: ask again")
            records = [record for row in rows if (record := self._record_of(row, skip_newer=skip_newer)) is not None]
            if records:
                yield records
            read = rows[-1].stream_ms

    def _record_of(self, row: Row, *, skip_newer: bool) -> Record | None:
        """The event in a row; None for one that is in no view."""
        if row.parked:
            return None
        try:
            own = Topic.parse(f"{row.tenant}:{row.topic}")
            return decode_row(self._keys.source(row.stream, partition_of(own, self._keys.partitions)), row)
        except NewerVersionError:
            if skip_newer:
                return None
            raise
        except (UndecodableEntryError, ValueError):
            return None

    async def whole_since(self, sources: Sequence[Source]) -> StreamId:
        """From where on there is every event of these sources; `BEGINNING`: nothing was ever lost or trimmed for good.

        Holes behind the beginning are not looked for.
        """
        archived: dict[str, StreamId] = {}
        until = await self._given_up()
        if self._archive is not None:
            moved = {source.name: await self._log.moved(source) for source in sources}
            for stream in {source.stream for source in sources}:
                begins = await self._archive_begins(self._archive, stream, moved)
                archived |= {
                    name: BEGINNING if whole.explained(until) else whole.since for name, whole in begins.items()
                }
        logged = [await self._log.whole_since(source, until=until) for source in sources if source.name not in archived]
        return max([*archived.values(), *logged], default=BEGINNING)

    async def given_up(self, topic: Topic) -> GivenUp:
        """What of the topic's history was given up. Its base may tell of what is hidden, see `core.views.erased`."""
        if self._archive is None or not (until := await self._given_up()):
            return GivenUp()
        return GivenUp(until, await self._archive.bases.find(until, topic))

    async def _given_up(self) -> int:
        """Up to which millisecond events were given up, or are about to be; 0 where none were."""
        until, asked = self._until
        if self._archive is not None and asked < time.monotonic() - _REMEMBERED:
            until = await self._archive.bases.newest() or 0
            self._until = until, time.monotonic()
        return until

    async def _archive_begins(self, archive: Archive, stream: str, moved: Mapping[str, int]) -> dict[str, Whole]:
        """As `Archive.begins`, remembered once there is something: new segments come at the end."""
        names, asked = self._begins.get(stream, ({}, float("-inf")))
        if not names or asked < time.monotonic() - _REMEMBERED:
            names = await archive.begins(stream, moved)
            self._begins[stream] = names, time.monotonic()
        return names

    async def heard_of(self, topics: Collection[Topic], until: int) -> AsyncGenerator[set[Topic]]:
        """Those of the topics that may have events from before ``until`` (ms), each once, as they are found."""
        if self._archive is not None:
            async for found in self._archive.heard_of(topics, until):
                yield found

    async def find_all(self, wanted: Wanted) -> AsyncGenerator[Row]:
        """Every wanted event, in the order of their places."""
        async for page in self._pages(wanted):
            for row in page:
                yield row

    async def _pages(self, wanted: Wanted) -> AsyncGenerator[list[Row]]:
        """Every wanted event, in the order of their places; more at once while they are small.

        Each page is looked for anew, so that nothing is held open for a reader who takes its time.
        """
        after, limit = None, _PAGE
        while rows := await self.find(wanted, after=after, limit=limit):
            yield rows
            if len(rows) < limit:
                return
            after = rows[-1].place
            size = sum(len(row.data or "") for row in rows)
            limit = max(_PAGE, min(2 * limit, limit * _PAGE_BYTES // max(size, 1), _LARGEST_PAGE))

    def _sources_of(self, wanted: Wanted) -> list[Source]:
        """Where the log may have some of the wanted: all topics of one id are in one partition."""
        sources = [source for source in self._keys.sources() if source.stream in wanted.streams]
        if wanted.id is None:
            return sources
        partition = partition_of(Topic(wanted.tenant, wanted.kind or "workflow", wanted.id), self._keys.partitions)
        return [source for source in sources if source.partition == partition]

    async def _find_in_log(self, source: Source, wanted: Wanted, after: Place | None, limit: int) -> list[Row]:
        begin = StreamId(max(wanted.since or 0, 0), 0)  # no id is from before 1970
        if after is not None:
            begin = max(begin, _before(after.stream_id))
        rows: list[Row] = []
        async for logged in self._log.read(source, after=_before(begin), page=1_000):
            if wanted.until is not None and logged.entry.stream_id.milliseconds >= wanted.until:
                break
            row = row_of(logged) if wanted.takes(logged.entry) else None
            if row is not None and (after is None or row.place > after):
                rows.append(row)
                if len(rows) == limit:
                    break
        return rows


def _before(stream_id: StreamId) -> StreamId:
    """The greatest id below this one."""
    if stream_id.sequence:
        return StreamId(stream_id.milliseconds, stream_id.sequence - 1)
    return StreamId(stream_id.milliseconds - 1, 2**64 - 1) if stream_id.milliseconds else BEGINNING
