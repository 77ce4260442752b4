"""Dead letters as tests make them: raw entries in a source stream, parked."""

from typing import Any, cast

from redis.asyncio import Redis

from core.log.dead import DeadLetters, Parked
from core.log.entry import Entry
from core.log.keys import Keys, Source
from core.log.read import entries_of, read_entries
from pipai_contracts.record import BEGINNING, StreamId

EVENT = {
    b"id": b"e1",
    b"type": b"workflow_progress",
    b"v": b"1",
    b"tenant": b"default",
    b"topic": b"workflow:w",
    b"offset": b"1",
    b"user": b"",
    b"run": b"",
    b"time": b"2025-01-01T00:00:00.000Z",
    b"data": b'{"workflow_id":"w","step":"s","progress":1}',
}
"""An event as append writes it."""


class DeadEnd:
    """A source whose entries all end as dead letters."""

    def __init__(self, redis: Redis, keys: Keys, source: Source) -> None:
        self.source = source
        self._redis = redis
        self._keys = keys
        self._dead = DeadLetters(redis, keys)

    async def park(self, number: int, *, error: str = "bad", **fields: bytes) -> Parked:
        """Park an event with the stream id ``<number>-0`` and other fields than `EVENT`, from nowhere."""
        return await self.park_raw(number, {**EVENT, **{name.encode(): value for name, value in fields.items()}}, error)

    async def park_raw(self, number: int, fields: dict[bytes, bytes], error: str = "bad") -> Parked:
        """Park an entry with exactly these fields."""
        return await self._dead.park(self.source, Entry(StreamId(number, 0), fields), ValueError(error))

    async def park_all(self, error: str = "still bad") -> list[Parked]:
        """Park whatever stands in the source stream."""
        return [await self._dead.park(self.source, entry, ValueError(error)) for entry in await self.log()]

    async def log(self) -> list[Entry]:
        """What stands in the source stream."""
        return await read_entries(self._redis, self.source, after=BEGINNING, count=100_000)

    async def letters(self) -> list[Entry]:
        """The letters as they are stored."""
        return entries_of(cast("list[Any]", await self._redis.xrange(self._keys.dead(self.source))))

    async def ids(self) -> list[str]:
        """The ids of the letters."""
        return [str(letter.stream_id) for letter in await self.letters()]
