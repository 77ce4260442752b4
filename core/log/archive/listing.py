"""Which segments there are: in the store, and waiting on this disk."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from core.log.archive.parquet import SegmentFileError
from core.log.archive.segment import Segment, stream_of
from core.log.archive.spool import Spool
from core.log.archive.spooled import Spooled, Waiting
from core.log.archive.store import SegmentStore, StoreAwayError

T = TypeVar("T")

_TRIES: Final = 3
"""Segments move and are brought together while they are listed: then it is asked anew which there are."""


class Listing:
    """The segments of one archive, while they move.

    ``spooled`` tells of spools that are not on this machine; without it there are none.
    Its methods raise `StoreAwayError` when the store does not answer.
    """

    def __init__(self, store: SegmentStore, spool: Spool, spooled: Spooled | None) -> None:
        self._store = store
        self._spool = spool
        self._spooled = spooled

    async def load(self, streams: Sequence[str]) -> list[Segment]:
        """What there is of these streams, on this machine's disk and in the store.

        Raises:
            StoreAwayError: segments wait on another machine's disk.
        """
        before = await self._elsewhere(streams)
        found, after = await self._list(streams), await self._elsewhere(streams)
        for _ in range(_TRIES):
            if before == after:
                break
            before, found = after, await self._list(streams)  # some moved meanwhile: the list may lack them
            after = await self._elsewhere(streams)
        unseen = {one.source for one in after | before if not one.are_among(found)}
        if unseen:
            raise StoreAwayError(f"segments of {len(unseen)} sources wait on the disk of another machine")
        return found

    async def files(self, segments: Sequence[Segment]) -> list[Path]:
        """Where they can be read on this machine."""
        files: list[Path] = []
        for segment in segments:
            waiting = self._spool.place_of(segment)
            files.append(waiting if waiting.exists() else await self._store.file_of(segment))
        return files

    async def tried(self, streams: Sequence[str], question: Callable[[list[Segment]], Awaitable[T]]) -> T:
        """The answer from these streams' segments, which may move, and be asked for again, meanwhile."""
        for last_try in (False, False, True):
            try:
                return await question(await self.load(streams))
            except SegmentFileError:
                if last_try:
                    raise
        raise AssertionError

    async def _elsewhere(self, streams: Sequence[str]) -> set[Waiting]:
        """What waits in spools of other machines."""
        waiting = set[Waiting]() if self._spooled is None else await self._spooled.load()
        own = await asyncio.to_thread(lambda: self._spool.name)
        return {one for one in waiting if one.spool != own and stream_of(one.source) in streams}

    async def _list(self, streams: Sequence[str]) -> list[Segment]:
        """Those of the disk first: while one moves it is in both lists, or in the second."""
        waiting = await asyncio.to_thread(self._spool.segments)
        stored = [segment for stream in streams for segment in await self._store.segments(stream)]
        return list({*(segment for segment in waiting if stream_of(segment.source) in streams), *stored})
