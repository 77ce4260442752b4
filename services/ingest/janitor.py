"""Uploaded files do not stay: each is deleted some time after it was stored."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from core.runtime.logs import get_logger
from core.runtime.storage import DOCUMENTS, Storage

INTERVAL: Final = 300.0
"""Seconds between two sweeps."""

MAX_PER_SWEEP: Final = 1000
"""Files one sweep deletes; the next one goes on."""

_log = get_logger()


def _now() -> datetime:
    return datetime.now(UTC)


class Janitor:
    """Deletes uploaded files that are older than ``ttl``."""

    def __init__(self, storage: Storage, ttl: timedelta, *, now: Callable[[], datetime] = _now) -> None:
        self._storage = storage
        self._ttl = ttl
        self._now = now

    async def sweep(self) -> int:
        """Delete what is too old and return how many files that were.

        Raises:
            obstore.exceptions.BaseError: the storage does not answer.
        """
        due: list[str] = []
        async for key in self._storage.older_than(self._now() - self._ttl, prefix=DOCUMENTS):
            due.append(key)
            if len(due) == MAX_PER_SWEEP:
                break
        for key in due:
            await self._storage.delete(key)
        pieces = await asyncio.to_thread(self._storage.drop_unfinished, self._now() - self._ttl)
        if due or pieces:
            _log.info("stream uploads deleted", files=len(due), unfinished=pieces)
        return len(due)
