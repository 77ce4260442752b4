"""Folding views again from their history, and putting them in place at once."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from redis.asyncio import Redis

from core.log.archive.archive import SlowSearchError
from core.log.archive.parquet import SegmentFileError
from core.log.archive.store import StoreAwayError
from core.log.archive.wanted import Wanted
from core.log.entry import decode
from core.log.errors import UndecodableEntryError
from core.log.history import History
from core.log.keys import Keys
from core.runtime.logs import get_logger
from core.views.erased import left_of
from core.views.rebuild import Fresh, heard_sources
from core.views.replace import MovingViewError, ViewReplacer
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId
from pipai_contracts.upcast import NewerVersionError

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
        many. While the archive fails they are folded from what Redis still has, unless they are to be ``whole``: then
        they are left alone, too, where the history does not go back to the beginning.

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
        live = await self._replacer.look(topic)
        await history.hidden(fresh=True)  # behind the look: a view that an erasure removes after it is not put back
        fresh = await self._fold(topic, history, live.reached)
        async with self._replacer.replacing(topic) as replacement:
            for attempt in range(_TRIES):
                has = live.stored.pos if live.stored is not None else 0
                if fresh.pos <= has or await replacement.put(live, fresh):
                    return fresh.pos
                await asyncio.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # noqa: S311 - jitter
                before, live = live, await self._replacer.look(topic)
                if live.removed == before.removed:
                    await self._fold_on(fresh, history, before.reached, live.reached)
                else:
                    await history.hidden(fresh=True)
                    fresh = await self._fold(topic, history, live.reached)
        raise MovingViewError(topic.path)

    async def _fold(self, topic: Topic, history: History, reached: Mapping[str, StreamId]) -> Fresh:
        given_up = await history.given_up(topic)
        base = left_of(given_up.base, await history.hidden())
        length = self._feed_length
        fresh = Fresh(topic, length) if base is None else Fresh.on(base, length, self._keys.partitions)
        async for page in history.read_topic(topic, given_up, skip_newer=True):
            for record in page:
                if record.stream_id <= reached.get(record.source, BEGINNING):
                    fresh.take(record)
        return fresh

    async def _fold_on(
        self, fresh: Fresh, history: History, before: Mapping[str, StreamId], reached: Mapping[str, StreamId]
    ) -> None:
        """Take in what came from where the view had come ``before`` up to where it is."""
        wanted, later = Wanted.of(fresh.topic), list[Record]()
        for source in heard_sources(self._keys, fresh.topic):
            since, upto = (places.get(source.name, BEGINNING) for places in (before, reached))
            if since < upto:
                async for _, entry, parked in history.read(source, after=since, upto=upto):
                    if not parked and wanted.takes(entry):
                        with suppress(UndecodableEntryError, NewerVersionError):
                            later.append(decode(source, entry))
        for record in sorted(later, key=lambda one: one.stream_id):
            fresh.take(record)
