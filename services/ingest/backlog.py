"""How many events of a source are in no view, or not archived yet, and when that is too many to take more."""

from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.errors import LogUnavailableError
from core.log.keys import Keys, Source
from core.views.checkpoints import Checkpoints
from services.ingest.metrics import BACKLOG

INTERVAL: Final = 1.0
"""Seconds between two looks."""

_REST: Final = 10
"""A backlog nobody adds to is looked at every so many intervals: an idle Redis may be billed by the command."""


class FullBacklogError(LogUnavailableError):
    """The projectors, or the archiver, are too far behind to take more events."""

    def __init__(self) -> None:
        super().__init__("too many events are in no view, or not archived yet")


class Backlog:
    """Per source how far its checkpoints are behind its newest event, by Redis or by what this process appended."""

    def __init__(self, redis: Redis, keys: Keys, *, limit: int) -> None:
        self._redis = redis
        self._checkpoints = Checkpoints(redis, keys)
        self._archive = ArchiveCheckpoints(redis)
        self._limit = limit
        self._sources = keys.sources()
        self._newest = {source.key: 0 for source in self._sources}
        self._projected = dict(self._newest)
        self._taken_in = dict(self._newest)
        self._appended: set[str] = set()
        self._asked = True
        self._rested = 0

    def is_full(self, source: Source) -> bool:
        """Whether the source takes no more."""
        full = self._newest[source.key] - self._taken_in[source.key] >= self._limit
        if full:
            self._asked = True
        return full

    def any_full(self) -> bool:
        """Whether there is a source that takes no more."""
        return any(self.is_full(source) for source in self._sources)

    def add(self, key: str, offset: int) -> None:
        """The stream with this key has an event more."""
        self._newest[key] = offset
        self._appended.add(key)

    async def sample(self) -> None:
        """Ask Redis anew, when there is a reason to.

        While Redis is away the last answer stands: nothing can be appended then either, and the publisher tells.
        """
        if not (self._appended or self._asked):
            self._rested += 1
            if self._rested < _REST or self._newest == self._taken_in:
                return
        self._appended, self._asked, self._rested = set(), False, 0
        try:
            await self._load()
        except RedisError:
            self._asked = True
            return
        BACKLOG.set(sum(max(0, newest - self._projected[key]) for key, newest in self._newest.items()))

    async def _load(self) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for source in self._sources:
                pipe.get(source.offset)
            offsets = cast("list[bytes | None]", await pipe.execute())
        checkpoints = await self._checkpoints.load_own(self._sources)
        archived = await self._archive.load(self._sources)
        for source, offset in zip(self._sources, offsets, strict=True):
            projected, kept = checkpoints[source].offset, archived[source]
            self._projected[source.key] = projected
            self._taken_in[source.key] = projected if kept is None else min(projected, kept.offset)
            if source.key not in self._appended:  # else what was answered meanwhile is newer
                self._newest[source.key] = int(offset or 0)
