"""What waits on archivers' disks, told in Redis: who cannot look there must not take the store for all there is."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import Redis

from core.log.archive.segment import Segment
from core.log.archive.spool import Spool
from core.log.keys import Keys
from pipai_contracts.record import StreamId

_SEPARATOR: Final = "@"


class Waiting(NamedTuple):
    """The newest segment of a source in a spool: it begins with ``first``. Older ones go to the store before it."""

    source: str
    spool: str
    first: StreamId

    def is_among(self, segments: Iterable[Segment]) -> bool:
        """Whether it is one of these, or in one of these by now: of what waits nothing is compacted across."""
        return any(one.source == self.source and one.first <= self.first <= one.last for one in segments)


class Spooled:
    """Which spools have segments that are not in the store yet.

    Every method raises `redis.exceptions.RedisError` when Redis does not answer.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = cast("Any", redis)  # its hash commands are typed for two kinds of client at once
        self._key = keys.spooled
        self._turn = asyncio.Lock()

    async def add(self, spool: Spool, segment: Segment) -> None:
        """Tell that a segment is in this spool: before what is in it may be trimmed."""
        async with self._turn:
            await self._redis.hset(self._key, f"{segment.source}{_SEPARATOR}{spool.name}", str(segment.first))

    async def settle(self, spool: Spool) -> None:
        """Tell what is left in this spool, once segments have left it."""
        async with self._turn:
            newest = {segment.source: segment.first for segment in await asyncio.to_thread(spool.segments)}
            for source in {one.source for one in await self.load() if one.spool == spool.name} - newest.keys():
                await self._redis.hdel(self._key, f"{source}{_SEPARATOR}{spool.name}")
            for source, first in newest.items():
                await self._redis.hset(self._key, f"{source}{_SEPARATOR}{spool.name}", str(first))

    async def load(self) -> set[Waiting]:
        """What waits anywhere."""
        told = cast("dict[bytes, bytes]", await self._redis.hgetall(self._key))
        fields = ((*field.decode().partition(_SEPARATOR), first) for field, first in told.items())
        return {Waiting(source, spool, StreamId.parse(first)) for source, _, spool, first in fields}
