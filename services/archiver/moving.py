"""From this disk to where segments are kept for good."""

import asyncio
from typing import Final

from redis.exceptions import RedisError

from core.log.archive.spool import Spool
from core.log.archive.spooled import Spooled
from core.log.archive.store import SegmentStore, StoreAwayError
from core.runtime.logs import get_logger
from services.archiver import metrics

_RETRY_SECONDS: Final = 1.0
_LONGEST_RETRY: Final = 30.0

log = get_logger()


class Mover:
    """Moves finished segments into the store, the oldest first, for as long as that takes.

    While the store is away they wait on the disk.
    """

    def __init__(self, spool: Spool, spooled: Spooled, store: SegmentStore) -> None:
        self._spool = spool
        self._spooled = spooled
        self._store = store
        self._written = asyncio.Event()
        self._written.set()

    def wake(self) -> None:
        """Another segment is finished."""
        self._written.set()

    async def move(self) -> None:
        """Move what comes, until cancelled."""
        wait = _RETRY_SECONDS
        while True:
            await self._written.wait()
            self._written.clear()
            try:
                await self._move_all()
            except (StoreAwayError, RedisError, OSError) as error:
                if wait == _RETRY_SECONDS:
                    log.warning("archive store is away, segments wait on this disk", error=str(error))
                metrics.FAILURES.labels("store").inc()
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_RETRY)
                self._written.set()
            else:
                if wait > _RETRY_SECONDS:
                    log.info("archive store is back, all segments are in it")
                wait = _RETRY_SECONDS

    async def _move_all(self) -> None:
        await self._measure()
        await self._spooled.settle(self._spool)  # one that was killed after the last move has not told of it
        for segment in await asyncio.to_thread(self._spool.segments):
            await self._store.take(self._spool.place_of(segment), segment)
            await self._spooled.settle(self._spool)
            await self._measure()

    async def _measure(self) -> None:
        metrics.SPOOL_BYTES.set(await asyncio.to_thread(self._spool.size))
