"""Folding views again from their history, and putting them in place at once."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Final

from redis.asyncio import Redis

from core.log.archive.archive import SlowSearchError
from core.log.archive.parquet import SegmentFileError
from core.log.archive.store import StoreAwayError
from core.log.history import History
from core.log.keys import Keys
from core.runtime.logs import get_logger
from core.views.rebuild import Fresh, heard_sources
from core.views.replace import MovingViewError, ViewReplacer
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId

_TRIES: Final = 20
"""Times a view is folded again because it was committed meanwhile."""

log = get_logger()


class Refolder:
    """Makes views of one deployment again that are gone."""

    def __init__(self, redis: Redis, keys: Keys, history: History, *, feed_length: int, ttl: int) -> None:
        self._keys = keys
        self._history = history
        self._feed_length = feed_length
        self._replacer = ViewReplacer(redis, keys, feed_length=feed_length, ttl=ttl)

    async def refold(self, topics: Sequence[Topic], *, whole: bool = False) -> int:
        """Fold these views from their history, as far as what stands in their place has come; returns how many events.

        Each is put in place as a whole, in an epoch of its own, so that nobody sees a half; not where the view has as
        many. While the archive fails
        they are folded from what Redis still has, unless they are to be ``whole``: then they are left alone, too, where
        the history does not go back to the beginning.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
            MovingViewError: events come too fast.
            MisfitViewError: a key of the view is of the wrong type.
            StoreAwayError, SegmentFileError, SlowSearchError: the archive fails, and they are to be ``whole``.
        """
        count = 0
        for topic in topics:
            try:
                if not whole or await self._history.whole_since(heard_sources(self._keys, topic)) == BEGINNING:
                    count += await self._refold(topic, self._history)
            except (StoreAwayError, SegmentFileError, SlowSearchError) as error:
                if whole:
                    raise
                log.warning("view is folded without the archive, which fails", topic=topic.path, error=str(error))
                count += await self._refold(topic, self._history.without_archive)
        return count

    async def _refold(self, topic: Topic, history: History) -> int:
        for attempt in range(_TRIES):
            live = await self._replacer.look(topic)
            fresh = await self._fold(topic, history, live.reached)
            has = live.stored.pos if live.stored is not None else 0
            if fresh.pos <= has or await self._replacer.replace(live, fresh):
                return fresh.pos
            await asyncio.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # noqa: S311 - jitter
        raise MovingViewError(topic.path)

    async def _fold(self, topic: Topic, history: History, reached: Mapping[str, StreamId]) -> Fresh:
        base = await history.base_of(topic)
        length = self._feed_length
        fresh = Fresh(topic, length) if base is None else Fresh.on(base, length, self._keys.partitions)
        async for page in history.read_topic(topic, skip_newer=True):
            for record in page:
                if record.stream_id <= reached.get(record.source, BEGINNING):
                    fresh.take(record)
        return fresh
