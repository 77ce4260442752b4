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
    """Segments of a source in a spool, from one that begins with ``oldest`` to one that begins with ``newest``.

    They go to the store in this order.
    """

    source: str
    spool: str
    oldest: StreamId
    newest: StreamId

    def are_among(self, segments: Iterable[Segment]) -> bool:
        """Whether they are among these, or in one of these by now: across what waits nothing is compacted."""
        return any(one.source == self.source and one.first <= self.newest <= one.last for one in segments)

    @property
    def told(self) -> str:
        """How it is told."""
        return f"{self.oldest} {self.newest}"

    @classmethod
    def read(cls, source: str, spool: str, told: bytes) -> "Waiting":
        """Read back what ``told`` gave; a single id, as older builds tell it, is that of both."""
        oldest, _, newest = told.partition(b" ")
        return cls(source, spool, StreamId.parse(oldest), StreamId.parse(newest or oldest))


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
            field = f"{segment.source}{_SEPARATOR}{spool.name}"
            told = cast("bytes | None", await self._redis.hget(self._key, field))
            before = Waiting.read(segment.source, spool.name, told) if told is not None else None
            oldest = segment.first if before is None else before.oldest
            await self._redis.hset(self._key, field, Waiting(segment.source, spool.name, oldest, segment.first).told)

    async def settle(self, spool: Spool) -> None:
        """Tell what is left in this spool, once segments have left it."""
        async with self._turn:
            left: dict[str, Waiting] = {}
            for segment in await asyncio.to_thread(spool.segments):
                source, first = segment.source, segment.first
                oldest = left[source].oldest if source in left else first
                left[source] = Waiting(source, spool.name, oldest, first)
            for source in {one.source for one in await self.load() if one.spool == spool.name} - left.keys():
                await self._redis.hdel(self._key, f"{source}{_SEPARATOR}{spool.name}")
            for source, waiting in left.items():
                await self._redis.hset(self._key, f"{source}{_SEPARATOR}{spool.name}", waiting.told)

    async def load(self) -> set[Waiting]:
        """What waits anywhere."""
        told = cast("dict[bytes, bytes]", await self._redis.hgetall(self._key))
        fields = ((*field.decode().partition(_SEPARATOR), value) for field, value in told.items())
        return {Waiting.read(source, spool, value) for source, _, spool, value in fields}
