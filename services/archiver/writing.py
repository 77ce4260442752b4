"""From the log to segments on this disk."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from redis.asyncio import Redis

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.parquet import Parquet
from core.log.archive.segment import Segment, end_of_day
from core.log.archive.spool import Spool
from core.log.archive.spooled import Spooled
from core.log.checkpoint import Checkpoint
from core.log.keys import Keys, Source
from core.log.reader import Continuity, Logged, LogReader
from core.runtime.logs import get_logger
from services.archiver import metrics

ROWS: Final = 40_960
"""Entries of a segment at most: two of the groups that readers skip."""

_BYTES: Final = 32 * 1024 * 1024
_PAGE: Final = 1_000

log = get_logger()


class _Stretch(NamedTuple):
    """Entries that go into one segment; ``more``: others wait behind them already."""

    entries: list[Logged]
    more: bool


class Writer:
    """Writes what the projectors are through with as segments, and moves the archiver's checkpoint behind it.

    It follows the projectors because these know which events are parked. The checkpoint moves when the segment is on
    the disk; a crash in between repeats the events in another segment, and readers know an event by its stream id.

    ``seconds``: events that are few wait so long for others.
    """

    def __init__(
        self, redis: Redis, keys: Keys, spool: Spool, spooled: Spooled, parquet: Parquet, *, seconds: float
    ) -> None:
        self._log = LogReader(redis, keys)
        self._checkpoints = ArchiveCheckpoints(redis)
        self._spool = spool
        self._spooled = spooled
        self._parquet = parquet
        self._seconds = seconds
        self._waits_since: dict[Source, float] = {}

    async def write(self, source: Source, archived: Checkpoint, projected: Checkpoint) -> Checkpoint:
        """Write the next segment of the source, when one is due; returns how far it is archived then.

        Raises:
            SegmentFileError: the disk is full, or cannot be written; nothing is acknowledged.
            redis.exceptions.RedisError: Redis did not answer.
        """
        if not self._is_due(source, archived, projected):
            return archived
        if await self._log.newest(source) < projected.stream_id:
            return archived  # it went back: the projector is about to move events that are hidden to its end
        stretch = await self._read(source, archived, projected)
        if not stretch.entries:
            return archived
        moved = (await self._checkpoints.moved([source]))[source]
        offset = self._count_holes(source, Continuity(archived.offset, moved), stretch.entries)
        segment = Segment(source.name, *(stretch.entries[end].entry.stream_id for end in (0, -1)))
        target = self._spool.place_of(segment)
        size = await asyncio.to_thread(self._parquet.write, stretch.entries, target)
        await self._spooled.add(self._spool, segment)
        reached = Checkpoint(offset, segment.last)
        if not await self._checkpoints.advance(source, reached, since=archived):
            log.warning("archived events are looked at again: the log or another archiver moved", stream=source.key)
            return archived
        if not stretch.more:
            self._waits_since.pop(source, None)
        metrics.ENTRIES.labels(source.name).inc(len(stretch.entries))
        metrics.SEGMENTS.inc()
        metrics.WRITTEN_BYTES.inc(size)
        return reached

    def _is_due(self, source: Source, archived: Checkpoint, projected: Checkpoint) -> bool:
        if projected.stream_id <= archived.stream_id:
            self._waits_since.pop(source, None)
            return False
        since = self._waits_since.setdefault(source, time.monotonic())
        return projected.offset - archived.offset >= ROWS or time.monotonic() - since >= self._seconds

    async def _read(self, source: Source, archived: Checkpoint, projected: Checkpoint) -> _Stretch:
        """What goes into the next segment: of one day, and bounded in entries and bytes."""
        entries: list[Logged] = []
        size, midnight = 0, None
        hidden = await self._log.tombstones.hidden(fresh=True)
        async for logged in self._log.read(source, after=archived.stream_id, upto=projected.stream_id, page=_PAGE):
            stream_id = logged.entry.stream_id
            midnight = midnight or end_of_day(stream_id)
            if (entries and stream_id >= midnight) or len(entries) >= ROWS or size >= _BYTES:
                return _Stretch(entries, more=True)
            entries.append(logged.erased if hidden.hides_entry(logged.entry) else logged)
            size += sum(map(len, logged.entry.fields.values()))
        return _Stretch(entries, more=False)

    @staticmethod
    def _count_holes(source: Source, continuity: Continuity, entries: Sequence[Logged]) -> int:
        """Count what is gone before it could be archived, by the offsets that are missing; returns the last offset."""
        for _, entry, _ in entries:
            gone = entry.offset - continuity.offset - 1
            if not continuity.follows(entry) and gone > 0:
                metrics.LOST.labels(source.name).inc(gone)
                place = str(entry.stream_id)
                log.error(
                    "stream entries gone before they were archived", stream=source.key, entries=gone, before=place
                )
        return continuity.offset
