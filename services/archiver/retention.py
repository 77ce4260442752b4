"""Giving up the beginning of the history, day by day, and keeping what views were by then."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Final
from zlib import crc32

from redis.asyncio import Redis

from core.log.archive.archive import Archive
from core.log.archive.bases import Base
from core.log.archive.segment import Segment
from core.log.archive.store import SegmentStore
from core.log.keys import SOURCES, Keys
from core.runtime.logs import get_logger
from core.views.folds import encode_state
from core.views.rebuild import Fresh, first_event
from core.views.store import ViewStore
from core.views.topic_folds import TopicFolds
from pipai_contracts.ids import Topic
from services.archiver import metrics

LIVE: Final = 1
"""The moment of a set that was made of live views when the archive was switched on: everything is after it."""

_EVENTS_AT_ONCE: Final = 2_000_000
_TOPICS_AT_ONCE: Final = 100_000
_PAGE: Final = 500

log = get_logger()


class Retention:
    """Deletes the segments of days that are older than so many ``days`` (0: none ever).

    Before that it writes what the views were that go on: those with later events in the archive, or with a live view. A
    crash anywhere is repeated: a set counts when it is whole, and only then segments go.
    """

    def __init__(self, redis: Redis, keys: Keys, archive: Archive, store: SegmentStore, *, days: int) -> None:
        self._redis = redis
        self._keys = keys
        self._archive = archive
        self._store = store
        self._days = days

    async def sweep(self, today: date) -> None:
        """Give up what is too old.

        Raises:
            StoreAwayError, SegmentFileError, redis.exceptions.RedisError: what was begun may be repeated.
        """
        if not self._days:
            return
        begin = datetime.combine(today - timedelta(days=self._days), datetime.min.time(), UTC)
        until = int(begin.timestamp()) * 1000
        gone = await self._too_old(until)
        if not gone:
            return
        if (await self._archive.bases.newest() or 0) < until:
            await self._archive.bases.write(until, self._parts(until))
        await self._store.delete(gone)
        await self._archive.bases.drop_older(until)
        metrics.GIVEN_UP.inc(len(gone))
        log.info("archive segments given up", segments=len(gone), before=begin.date().isoformat())

    async def _too_old(self, until: int) -> list[Segment]:
        found = [segment for stream in SOURCES for segment in await self._store.segments(stream)]
        return [segment for segment in found if segment.last.milliseconds < until]

    async def _parts(self, until: int) -> AsyncGenerator[Sequence[Base]]:
        """The bases in parts that fit in memory."""
        events, topics = await self._archive.size_up()
        parts = max(ceil(events / _EVENTS_AT_ONCE), ceil(topics / _TOPICS_AT_ONCE), 1)
        for part in range(parts):
            folds = TopicFolds(
                self._redis,
                self._keys,
                self._archive,
                lambda topic, part=part: crc32(topic.path.encode()) % parts == part,
                feed_length=0,
            )
            views = await folds.read_given_up(self._archive, until)
            going_on = await self._going_on(until, list(views))
            yield [_base(view, until, self._keys.partitions) for topic, view in views.items() if topic in going_on]

    async def _going_on(self, until: int, topics: Sequence[Topic]) -> set[Topic]:
        """Those of the topics that have later events in the archive, or a live view."""
        known, found = set(topics), set[Topic]()
        async for page in self._archive.topics_since(until):
            for tenant, name, user_id in page:
                named = [f"{tenant}:{name}", *([f"{tenant}:user:{user_id}"] if user_id is not None else [])]
                found |= known & {topic for one in named if (topic := _topic(one)) is not None}
            await asyncio.sleep(0)
        for start in range(0, len(topics), _PAGE):
            page_of = topics[start : start + _PAGE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for topic in page_of:
                    pipe.exists(self._keys.view(topic))
                there = await pipe.execute()
            found |= {topic for topic, exists in zip(page_of, there, strict=True) if exists}
        return found


async def live_bases(store: ViewStore, keys: Keys, topics: Sequence[Topic]) -> list[Base]:
    """What these views are now, as bases of what comes after."""
    return [
        Base(
            topic,
            stored.pos,
            first_event(stored.first),
            LIVE,
            stored.heard,
            keys.partitions,
            encode_state(stored.state),
        )
        for topic, stored in (await store.load(topics)).items()
        if stored.version
    ]


def _base(view: Fresh, until: int, partitions: int) -> Base:
    """What the view was; of a live view that the archive began with, what it had heard by then still counts."""
    known = view.base
    later = {} if known is None else {name: at for name, at in known.heard.items() if at.milliseconds >= until}
    was = partitions if known is None else known.partitions
    return Base(view.topic, view.pos, view.first, until, later, was, encode_state(view.state))


def _topic(path: str) -> Topic | None:
    try:
        return Topic.parse(path)
    except ValueError:
        return None
