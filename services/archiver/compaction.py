"""From many small segments to few large ones: who looks for an event asks every file of its time."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Final

from core.log.archive.parquet import Parquet
from core.log.archive.segment import Segment, day_of
from core.log.archive.spooled import Spooled, Waiting
from core.log.archive.store import SegmentStore
from core.log.keys import SOURCES
from core.runtime.logs import get_logger
from services.archiver import metrics

SMALL: Final = 8 * 1024 * 1024
"""Bytes of a segment that is worth bringing together with others."""

LARGE: Final = 32 * 1024 * 1024
"""Bytes of segments that are brought together at once: a million events or so."""

MANY: Final = 16
"""Small segments of a day that is not over are left alone until there are so many."""

log = get_logger()


class Compactor:
    """Brings small segments of one source and day together.

    The large one is in the store before the small ones go. A crash in between leaves both, and readers take what is in
    several once. What waits in a spool has its place between others: those on both sides of it stay apart, because a
    segment has everything from its first entry to its last.
    """

    def __init__(self, store: SegmentStore, spooled: Spooled, parquet: Parquet, folder: Path) -> None:
        self._store = store
        self._spooled = spooled
        self._parquet = parquet
        self._folder = folder

    async def sweep(self, today: date) -> None:
        """Bring together what is to be.

        Raises:
            StoreAwayError, SegmentFileError, redis.exceptions.RedisError: what was begun may be repeated.
        """
        for stream in SOURCES:
            waiting = await self._spooled.load()  # first: what is in the store by the time that is listed waits no more
            for parts in chosen(await self._store.segments(stream), today, waiting):
                await self._bring_together(parts)

    async def _bring_together(self, parts: Sequence[Segment]) -> None:
        whole = Segment(parts[0].source, parts[0].first, max(part.last for part in parts))
        files = [await self._store.file_of(part) for part in parts]
        target = self._folder / whole.path
        await asyncio.to_thread(self._parquet.bring_together, files, target)
        await self._store.take(target, whole)
        await self._store.delete([part for part in parts if part != whole])
        metrics.COMPACTED.inc(len(parts))
        log.info("archive segments brought together", segment=whole.path, parts=len(parts))


def chosen(sizes: Mapping[Segment, int], today: date, waiting: Iterable[Waiting] = ()) -> list[list[Segment]]:
    """The segments to bring together: neighbours of one source and day, none of them large. Pure.

    ``waiting``: what is in spools, and may have its place between them.
    """
    apart = [one for one in waiting if not one.are_among(sizes)]

    def stretch(segment: Segment) -> tuple[str, date, int]:
        before = sum(one.source == segment.source and one.newest < segment.first for one in apart)
        return segment.source, day_of(segment.first), before

    small = sorted((segment for segment, size in sizes.items() if size < SMALL), key=_order)
    found: list[list[Segment]] = []
    for (_, day, _), segments in groupby(small, key=stretch):
        least = MANY if day >= today else 2
        found += [part for part in _parts(segments, sizes) if len(part) >= least]
    return found


def _order(segment: Segment) -> tuple[object, ...]:
    return segment.source, segment.first, segment.last


def _parts(segments: Iterable[Segment], sizes: Mapping[Segment, int]) -> list[list[Segment]]:
    """Neighbours in parts that are not too large together."""
    parts: list[list[Segment]] = [[]]
    size = 0
    for segment in segments:
        if parts[-1] and size + sizes[segment] > LARGE:
            parts.append([])
            size = 0
        parts[-1].append(segment)
        size += sizes[segment]
    return parts
