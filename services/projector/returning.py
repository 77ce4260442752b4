"""Topics that are published to again after their views expired: what came before is folded in, from the archive.

A commit cannot wait for that, and most topics without a view are new. So these are looked for afterwards, all together.
"""

import asyncio
import time
from collections.abc import Collection
from contextlib import aclosing
from typing import Final

from redis.exceptions import RedisError

from core.log.archive.archive import SlowSearchError
from core.log.archive.parquet import SegmentFileError
from core.log.archive.store import StoreAwayError
from core.log.history import History
from core.runtime.logs import get_logger
from core.views.refold import Refolder
from core.views.replace import MisfitViewError, MovingViewError
from pipai_contracts.ids import Topic
from services.projector import metrics

_LOOK_EVERY: Final = 10.0
"""Seconds between two looks into the archive."""

_RESTS: Final = 4
"""Times as long as it took to look through a day of the archive nothing is asked of it."""

_MOST: Final = 10_000
"""Topics that wait to be looked for; more than half of them are users, who come back as workflows hardly do."""

_CLOCKS_MS: Final = 60_000
"""By how much this machine's clock may be behind that of Redis."""

log = get_logger()


class Returning:
    """Brings back the beginnings of views in one deployment that began anew. Who watches one is given ``reset``."""

    def __init__(self, history: History, refolder: Refolder, *, view_ttl: int) -> None:
        self._history = history
        self._refolder = refolder
        self._expired_ms = view_ttl * 1000
        self._waiting: dict[Topic, None] = {}

    def note(self, topics: Collection[Topic]) -> None:
        """These topics had no view until now."""
        for topic in topics:
            if len(self._waiting) < (_MOST if topic.kind == "user" else _MOST // 2):
                self._waiting[topic] = None
            else:
                metrics.UNCHECKED.inc()

    async def keep_looking(self) -> None:
        """Look for what is noted, until cancelled."""
        failing = False
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            try:
                await self.look()
                failing = False
            except (RedisError, StoreAwayError, SegmentFileError, SlowSearchError) as error:
                if not failing:
                    log.warning("topics that return are not looked for in the archive", error=str(error))
                failing = True

    async def look(self) -> None:
        """Look for what is noted, once.

        Raises:
            RedisError, StoreAwayError, SegmentFileError, SlowSearchError: what is left stays noted.
        """
        due, self._waiting = self._waiting, {}
        began = time.monotonic()
        until = int(time.time() * 1000) - self._expired_ms + _CLOCKS_MS
        try:
            async with aclosing(self._history.heard_of(list(due), until)) as days:
                async for returned in days:
                    for topic in returned:
                        await self._bring_back(topic)
                        del due[topic]
                    await asyncio.sleep(_RESTS * (time.monotonic() - began))
                    began = time.monotonic()
        except BaseException:
            self.note(due)
            raise

    async def _bring_back(self, topic: Topic) -> None:
        try:
            count = await self._refolder.refold([topic], whole=True)
        except (MovingViewError, MisfitViewError):
            self.note([topic])
            return
        metrics.RETURNED.inc()
        log.info("topic has returned: its view has what came before", topic=topic.path, events=count)
