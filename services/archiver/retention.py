"""Giving up the beginning of the history, day by day, and keeping what views were by then."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Final, cast
from zlib import crc32

from redis.asyncio import Redis

from core.log.archive.archive import Archive
from core.log.archive.bases import Base
from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.segment import Segment
from core.log.archive.spooled import Spooled
from core.log.archive.store import SegmentStore
from core.log.keys import SOURCES, Keys
from core.runtime.logs import get_logger
from core.runtime.redis import ask_holder
from core.views.folds import encode_state
from core.views.rebuild import Fresh, encode_latest
from core.views.topic_folds import TopicFolds
from pipai_contracts.ids import Topic
from services.archiver import metrics

NOTICED_SECONDS: Final = 300.0
"""After this time everybody who begins to read begins at the newest bases: then what they stand for may go."""

_EVENTS_AT_ONCE: Final = 2_000_000
_TOPICS_AT_ONCE: Final = 100_000
_PAGE: Final = 500

log = get_logger()


class Retention:
    """Deletes the segments of days that are older than so many ``days`` (0: none ever).

    Before that it writes what the views were that go on: those with later events in the archive, or with a live view.
    A crash anywhere is repeated: a set of bases counts when it is whole, and only some time after that segments go.
    """

    def __init__(self, redis: Redis, keys: Keys, archive: Archive, store: SegmentStore, *, days: int) -> None:
        self._redis = redis
        self._keys = keys
        self._archive = archive
        self._store = store
        self._days = days
        self._seen: tuple[int, float] = (0, 0)

    async def sweep(self, now: datetime) -> None:
        """Give up what is too old.

        Raises:
            StoreAwayError, SegmentFileError, redis.exceptions.RedisError: what was begun may be repeated.
        """
        if not self._days:
            return
        until = await self._begin_of_the_kept(now)
        newest = await self._archive.bases.newest() or 0
        if newest < until and await self._too_old(until) and await self._is_archived(until):
            await self._archive.bases.write(until, self._parts(until))
            newest = until
        if self._seen[0] != newest:
            self._seen = newest, time.monotonic()
        if time.monotonic() - self._seen[1] >= NOTICED_SECONDS:
            await self._delete(newest)

    async def _begin_of_the_kept(self, now: datetime) -> int:
        """The day that is the first to be kept (milliseconds).

        Of this machine's clock and Redis's the one that is behind counts: one that is ahead must not cost a year.
        """
        seconds, _ = await ask_holder(self._redis, self._keys.layout, "TIME")
        today = min(now, datetime.fromtimestamp(int(seconds), UTC)).date()
        begin = datetime.combine(today - timedelta(days=self._days), datetime.min.time(), UTC)
        return int(begin.timestamp()) * 1000

    async def _too_old(self, until: int) -> list[Segment]:
        found = [segment for stream in SOURCES for segment in await self._store.segments(stream)]
        return [segment for segment in found if segment.last.milliseconds < until]

    async def _is_archived(self, until: int) -> bool:
        """Whether everything that was ever appended before ``until`` is in the store."""
        sources = self._keys.sources()
        waiting = await Spooled(self._redis, self._keys).load()
        if any(one.oldest.milliseconds < until for one in waiting):
            return False
        for source, archived in (await ArchiveCheckpoints(self._redis).load(sources)).items():
            newest = int(cast("bytes | None", await self._redis.get(source.offset)) or 0)
            if archived is None or (archived.stream_id.milliseconds < until and archived.offset < newest):
                return False
        return True

    async def _delete(self, until: int) -> None:
        gone = await self._too_old(until)
        await self._archive.bases.drop_older(until)
        if gone:
            await self._store.delete(gone)
            metrics.GIVEN_UP.inc(len(gone))
            before = datetime.fromtimestamp(until / 1000, UTC).date().isoformat()
            log.info("archive segments given up", segments=len(gone), before=before)

    async def _parts(self, until: int) -> AsyncGenerator[Sequence[Base]]:
        """The bases in parts that fit in memory."""
        events, topics = await self._archive.size_up(until)
        parts = max(ceil(events / _EVENTS_AT_ONCE), ceil(topics / _TOPICS_AT_ONCE), 1)
        for part in range(parts):
            folds = TopicFolds(
                self._redis,
                self._keys,
                self._archive,
                lambda topic, part=part: crc32(topic.path.encode()) % parts == part,
                feed_length=1,
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


def _base(view: Fresh, until: int, partitions: int) -> Base:
    """What the view was.

    What the base before it had heard of later still counts: of a live view that the archive began with.
    """
    heard, was = view.heard, partitions
    if view.base is not None and view.base.partitions != partitions:
        later = {name: at for name, at in view.base.heard.items() if at.milliseconds >= until}
        heard, was = (later, view.base.partitions) if later else (heard, was)
    latest = encode_latest(view.entries[-1] if view.entries else None)
    return Base(view.topic, view.pos, view.first, until, heard, was, encode_state(view.state), latest)


def _topic(path: str) -> Topic | None:
    try:
        return Topic.parse(path)
    except ValueError:
        return None
