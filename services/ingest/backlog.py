"""How many events of a source are in no view yet, and when that is too many to take more."""

from collections import Counter
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.errors import LogUnavailableError
from core.log.keys import Keys, Source
from core.views.checkpoints import Checkpoints
from services.ingest.metrics import BACKLOG

INTERVAL: Final = 1.0
"""Seconds between two looks."""

_REST: Final = 10
"""A backlog nobody adds to is looked at every so many intervals: an idle Redis may be billed by the command."""


class FullBacklogError(LogUnavailableError):
    """The projectors are too far behind to take more events."""


class Backlog:
    """The backlog of each source: what Redis said last, and what this process appended since."""

    def __init__(self, redis: Redis, keys: Keys, *, limit: int) -> None:
        self._redis = redis
        self._checkpoints = Checkpoints(redis, keys)
        self._limit = limit
        self._sources = keys.sources()
        self._sampled = {source.key: 0 for source in self._sources}
        self._since: Counter[str] = Counter()
        self._asked = True
        self._rested = 0

    def is_full(self, source: Source) -> bool:
        """Whether the source takes no more."""
        full = self._sampled[source.key] + self._since[source.key] >= self._limit
        if full:
            self._asked = True
        return full

    def any_full(self) -> bool:
        """Whether there is a source that takes no more."""
        return any(self.is_full(source) for source in self._sources)

    def add(self, source: Source) -> None:
        """Count an event that was appended."""
        self._since[source.key] += 1

    async def sample(self) -> None:
        """Ask Redis anew, when there is a reason to.

        While Redis is away the last answer stands: nothing can be appended then either, and the publisher tells.
        """
        if not (self._since or self._asked):
            self._rested += 1
            if self._rested < _REST or not any(self._sampled.values()):
                return
        counted, self._asked, self._rested = self._since.copy(), False, 0
        try:
            self._sampled = await self._load()
        except RedisError:
            self._asked = True
            return
        self._since -= counted  # not before: until Redis has answered they are in no sample
        BACKLOG.set(sum(self._sampled.values()))

    async def _load(self) -> dict[str, int]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for source in self._sources:
                pipe.get(source.offset)
            offsets = cast("list[bytes | None]", await pipe.execute())
        checkpoints = await self._checkpoints.load_own(self._sources)
        return {
            source.key: max(0, int(offset or 0) - checkpoints[source].offset)
            for source, offset in zip(self._sources, offsets, strict=True)
        }
