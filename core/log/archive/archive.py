"""The archive, read: segments of the store, and those that still wait on this disk."""

import asyncio
import heapq
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping
from contextlib import aclosing
from itertools import groupby
from typing import Final, NamedTuple

from core.log.archive import surveys
from core.log.archive.bases import Bases
from core.log.archive.listing import Listing
from core.log.archive.parquet import Parquet, SegmentFileError
from core.log.archive.rows import Row
from core.log.archive.segment import Segment, day_of, stream_of
from core.log.archive.spool import Spool
from core.log.archive.spooled import Spooled
from core.log.archive.store import SegmentStore
from core.log.archive.wanted import Place, Wanted
from core.log.checkpoint import NOTHING, Checkpoint
from core.log.keys import SOURCES
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId

_FIRST: Final = 16
_MOST: Final = 256
"""Segments that are searched together: few at first, because the first page of all events is in the oldest."""

_PATIENCE: Final = 20.0
"""Seconds a search may take."""

_AT_ONCE: Final = 4
"""Questions that are answered at a time: each takes a thread, and its share of the memory for all."""

_TRIES: Final = 3
"""Segments move and are brought together while they are read: then it is asked anew which there are."""


class SlowSearchError(Exception):
    """The archive has too much to look through for that question."""


class Whole(NamedTuple):
    """A stretch of a source without a hole: from ``since`` on (`BEGINNING`: from its first event on) up to ``upto``.

    ``oldest``: where the segments begin.
    """

    since: StreamId
    upto: Checkpoint
    oldest: StreamId

    def explained(self, until: int) -> bool:
        """Whether nothing is missing but what was given up: all before ``until`` (ms); nothing was where it is 0."""
        return self.since == BEGINNING or (until > 0 and self.since == self.oldest >= StreamId(until, 0))


class Archive:
    """Every entry that was archived, each once.

    ``spooled`` tells of spools that are not on this machine; without it there are none.

    Its methods raise `core.log.archive.store.StoreAwayError` when the store does not answer or segments wait where they
    cannot be read, and `core.log.archive.parquet.SegmentFileError` when one cannot be read.
    """

    def __init__(self, store: SegmentStore, spool: Spool, parquet: Parquet, spooled: Spooled | None = None) -> None:
        self._listing = Listing(store, spool, spooled)
        self._parquet = parquet
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self.bases = Bases(store, parquet, spool.folder / "bases")

    def close(self) -> None:
        """Give back what it holds."""
        self._parquet.close()

    async def read(self, source: str, *, after: StreamId, upto: StreamId) -> AsyncGenerator[list[Row]]:
        """A source's entries after ``after`` up to ``upto``, oldest first, some thousand at a time."""
        failed = 0
        while True:
            found = [segment for segment in await self._listing.load([stream_of(source)]) if segment.source == source]
            groups = overlapping(segment for segment in found if segment.last > after and segment.first <= upto)
            try:
                for group in groups:
                    files = await self._listing.files(group)
                    pages = self._parquet.read(files, after=after, upto=upto)
                    while (rows := await asyncio.to_thread(next, pages, None)) is not None:
                        yield rows
                        after, failed = rows[-1].stream_id, 0
            except SegmentFileError:
                failed += 1
                if failed == _TRIES:
                    raise
            else:
                return

    async def read_stream(
        self, stream: str, wanted: Wanted | None = None, *, until: int | None = None
    ) -> AsyncGenerator[list[Row]]:
        """All entries of a source stream, whatever partitions it had, or the wanted of them, in the order of places.

        A day at a time is sorted, on the disk where it is large. ``until``: only days before this one (milliseconds).
        """
        after: Place | None = None
        failed = 0
        while True:
            segments = [
                one for one in await self._listing.load([stream]) if wanted is None or _may_have(one, wanted, after)
            ]
            by_day = groupby(sorted(segments, key=_first), key=lambda segment: day_of(segment.first))
            try:
                for day in [list(of_day) for _, of_day in by_day]:
                    if after is not None and max(segment.last for segment in day) < after.stream_id:
                        continue
                    if until is not None and day[0].first.milliseconds >= until:
                        return
                    pages = self._parquet.read_all(await self._listing.files(day), wanted, after=after)
                    async with aclosing(_read_ahead(pages)) as ahead:
                        async for rows in ahead:
                            yield rows
                            after, failed = rows[-1].place, 0
            except SegmentFileError:
                failed += 1
                if failed == _TRIES:
                    raise
            else:
                return

    async def ends(self) -> dict[str, StreamId]:
        """Per source with segments the newest of their ids."""
        found: dict[str, StreamId] = {}
        for segment in await self._listing.load(SOURCES):
            found[segment.source] = max(segment.last, found.get(segment.source, BEGINNING))
        return found

    async def whole_since(self, moved: Mapping[str, int]) -> dict[str, Whole]:
        """Per source with segments from where on these have every entry, and up to where.

        ``moved``: of sources that a repartition wrote, see `core.log.reader.Continuity`.
        """

        async def look(segments: list[Segment]) -> dict[str, Whole]:
            found: dict[str, Whole] = {}
            for source, of_source in groupby(sorted(segments), key=lambda segment: segment.source):
                ordered = list(of_source)
                whole = Whole(BEGINNING, NOTHING, ordered[0].first)
                for _, of_day in groupby(ordered, key=lambda segment: day_of(segment.first)):
                    day = await self._listing.files(list(of_day)), whole.upto.offset, moved.get(source, 0)
                    since, end = await asyncio.to_thread(surveys.holes, self._parquet, *day)
                    upto = max(whole.upto, end, key=lambda reached: reached.stream_id)
                    whole = whole._replace(since=max(whole.since, since), upto=upto)
                found[source] = whole
            return found

        return await self._listing.tried(SOURCES, look)

    async def begins(self, stream: str, moved: Mapping[str, int]) -> dict[str, Whole]:
        """Per source of the stream with segments the oldest of these. ``moved``: as in `whole_since`."""

        async def look(segments: list[Segment]) -> dict[str, Whole]:
            found: dict[str, Whole] = {}
            for source, of_source in groupby(sorted(segments), key=lambda segment: segment.source):
                oldest = next(iter(of_source))
                files = await self._listing.files([oldest])
                begin = await asyncio.to_thread(surveys.holes, self._parquet, files, 0, moved.get(source, 0))
                found[source] = Whole(*begin, oldest.first)
            return found

        return await self._listing.tried([stream], look)

    async def topics_since(self, moment: int) -> AsyncGenerator[list[tuple[str, str, str | None]]]:
        """Tenant, topic and owner of what has events appended from a day's begin on (milliseconds); some repeatedly."""
        segments = [one for one in await self._listing.load(SOURCES) if one.first.milliseconds >= moment]
        for _, of_day in groupby(sorted(segments, key=_first), key=lambda segment: day_of(segment.first)):
            files = await self._listing.files(list(of_day))
            yield await asyncio.to_thread(surveys.topics, self._parquet, files)

    async def heard_of(self, topics: Iterable[Topic], until: int) -> AsyncGenerator[set[Topic]]:
        """The topics that have a base, or events in segments begun before ``until`` (ms): each once, day by day."""
        left = set(topics)
        if left and (until_base := await self.bases.newest()) is not None:
            yield (found := await self.bases.among(until_base, left))
            left -= found
        segments = [one for one in await self._listing.load(SOURCES) if one.first.milliseconds < until] if left else []
        for _, of_day in groupby(sorted(segments, key=_first, reverse=True), key=lambda segment: day_of(segment.first)):
            files = await self._listing.files(list(of_day))
            found = await asyncio.to_thread(surveys.heard_of, self._parquet, files, left)
            yield found
            left -= found

    async def owned(self, tenant: str, user_id: str) -> dict[str, int]:
        """The topics that have events which are the user's, with how many; the user's own among them."""

        async def look(segments: list[Segment]) -> dict[str, int]:
            found: dict[str, int] = {}
            for _, of_day in groupby(sorted(segments, key=_first), key=lambda segment: day_of(segment.first)):
                files = await self._listing.files(list(of_day))
                for topic, count in await asyncio.to_thread(surveys.owned, self._parquet, files, tenant, user_id):
                    found[topic] = found.get(topic, 0) + count
            return found

        return await self._listing.tried(SOURCES, look)

    async def owners(self, tenant: str, names: Collection[str]) -> set[str]:
        """The users who own events of these topics."""

        async def look(segments: list[Segment]) -> set[str]:
            found = set[str]()
            for _, of_day in groupby(sorted(segments, key=_first), key=lambda segment: day_of(segment.first)):
                files = await self._listing.files(list(of_day))
                found |= await asyncio.to_thread(surveys.owners, self._parquet, files, tenant, names)
            return found

        return await self._listing.tried(SOURCES, look)

    async def size_up(self, until: int | None = None) -> tuple[int, int]:
        """About how many entries there are, and how many topics and users these are of at most, a day at a time.

        ``until``: of the days before this one (milliseconds); bases count as topics.
        """

        async def look(segments: list[Segment]) -> tuple[int, int]:
            entries, topics = 0, await self.bases.count()
            due = [one for one in segments if until is None or one.first.milliseconds < until]
            by_day = groupby(sorted(due, key=_first), key=lambda segment: day_of(segment.first))
            for _, of_day in by_day:
                found = await asyncio.to_thread(surveys.size_up, self._parquet, await self._listing.files(list(of_day)))
                entries, topics = entries + found[0], topics + found[1]
            return entries, topics

        return await self._listing.tried(SOURCES, look)

    async def find(self, wanted: Wanted, *, after: Place | None, limit: int) -> list[Row]:
        """The first ``limit`` wanted entries beyond a place, in the order of their places.

        Raises:
            SlowSearchError: that takes too long.
        """

        async def look(segments: list[Segment]) -> list[Row]:
            return await self._find_in([one for one in segments if _may_have(one, wanted, after)], wanted, after, limit)

        return await self._listing.tried(wanted.streams, look)

    async def _find_in(self, segments: Iterable[Segment], wanted: Wanted, after: Place | None, limit: int) -> list[Row]:
        """As `find`: the oldest segments first, more and more of them at once, until nothing older can come."""
        ordered = sorted(segments, key=_first)
        found: dict[Place, Row] = {}
        began, start, count = time.monotonic(), 0, _FIRST
        while start < len(ordered):
            files = await self._listing.files(ordered[start : start + count])
            async with self._turns:
                rows = await asyncio.to_thread(self._parquet.find, files, wanted, after=after, limit=limit)
            found |= {row.place: row for row in rows}
            start, count = start + count, min(2 * count, _MOST)
            if len(found) >= limit and start < len(ordered):
                found = {place: found[place] for place in heapq.nsmallest(limit, found)}
                if max(found).stream_id < ordered[start].first:
                    break
            if time.monotonic() - began > _PATIENCE:
                raise SlowSearchError
        return [found[place] for place in heapq.nsmallest(limit, found)]


async def _read_ahead(pages: Iterator[list[Row]]) -> AsyncGenerator[list[Row]]:
    """The pages, the next of which is read in a thread while one is looked at."""
    ahead = asyncio.ensure_future(asyncio.to_thread(next, pages, None))
    try:
        while (rows := await ahead) is not None:
            ahead = asyncio.ensure_future(asyncio.to_thread(next, pages, None))
            yield rows
    finally:
        await asyncio.wait([ahead])  # a thread is not broken off; what it reads is dropped
        if not ahead.cancelled():
            ahead.exception()


def overlapping(segments: Iterable[Segment]) -> list[list[Segment]]:
    """The segments of a source, oldest first, those together whose stretches overlap."""
    groups: list[list[Segment]] = []
    end: StreamId | None = None
    for segment in sorted(segments, key=_first):
        if end is None or segment.first > end:
            groups.append([])
        groups[-1].append(segment)
        end = segment.last if end is None else max(end, segment.last)
    return groups


def _first(segment: Segment) -> StreamId:
    return segment.first


def _may_have(segment: Segment, wanted: Wanted, after: Place | None) -> bool:
    """Whether its stretch says that it may have some of the wanted."""
    first, last = segment.first.milliseconds, segment.last.milliseconds
    return (
        (wanted.since is None or last >= wanted.since)
        and (wanted.until is None or first < wanted.until)
        and (after is None or segment.last >= after.stream_id)
    )
