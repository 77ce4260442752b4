"""Reads every change feed from its beginning and writes down what was applied, also what later is no more."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.keys import Keys
from core.runtime.tasks import running
from core.views.store import CHANGES_LENGTH
from pipai_contracts.record import StreamId
from tests.faults.history import Applied, Generation, History, Rewound

BLOCK_MS = 200
_AGAIN = 0.1
_REMEMBERED = 20_000
"""Entries, to find out how far a feed went back: twice what it keeps."""

Fields = Mapping[bytes, bytes]


class Observer:
    """Never falls behind: a change feed keeps 10,000 entries, and this reads a thousand at a time."""

    def __init__(self, redis: Redis, keys: Keys, history: History) -> None:
        self._redis = redis
        self._keys = keys
        self._history = history
        self._seen: dict[int, dict[int, Fields]] = {partition: {} for partition in range(keys.partitions)}
        self._doubts: set[int] = set()

    @asynccontextmanager
    async def observing(self) -> AsyncGenerator[None]:
        """Observe while the block lasts."""
        async with running(*(self._follow(partition) for partition in self._seen)):
            yield

    async def has_all(self) -> bool:
        """Whether what stands in the change feeds is exactly what was written down last, in every partition."""
        for partition, seen in self._seen.items():
            entries = await self._entries(partition)
            position = _last(seen)
            if _last(entries) != position or any(seen.get(one) != entries[one] for one in entries):
                return False
        return True

    async def _follow(self, partition: int) -> None:
        while True:
            try:
                if partition in self._doubts:
                    await self._rewind(partition)
                await self._read(partition)
            except (RedisError, OSError):
                self._doubts.add(partition)
                await asyncio.sleep(_AGAIN)

    async def _read(self, partition: int) -> None:
        position = _last(self._seen[partition])
        key = self._keys.changes(partition)
        reply = cast("list[Any]", await self._redis.xread({key: f"{position}-0"}, count=1000, block=BLOCK_MS))
        rows: list[tuple[bytes, Fields]] = reply[0][1] if reply else []
        if rows and position and _number(rows[0][0]) != position + 1:
            self._doubts.add(
                partition
            )  # what was seen may be gone altogether: a feed that begins anew has other numbers
            return
        for entry_id, fields in rows:
            self._note(partition, _number(entry_id), fields)
        if not reply:
            newest = cast("list[Any]", await self._redis.xrevrange(key, count=1))
            if not newest or _number(newest[0][0]) < position:
                self._doubts.add(partition)

    def _note(self, partition: int, change: int, fields: Fields) -> None:
        seen = self._seen[partition]
        assert not seen or change == _last(seen) + 1, f"the observer fell behind before change {change}"
        seen[change] = fields
        if len(seen) > _REMEMBERED:
            del seen[next(iter(seen))]
        if b"generation" in fields:
            generation = int(fields[b"generation"])
            self._history.add(Generation(partition=partition, change=change, generation=generation))
            return
        told = {name.decode(): value.decode() for name, value in fields.items()}
        self._history.add(Applied.model_validate({"partition": partition, "change": change, **told}))

    async def _rewind(self, partition: int) -> None:
        """Find out how far the feed is still the one that was seen; what is beyond that is no more."""
        entries = await self._entries(partition)
        seen = self._seen[partition]
        position = _last(seen)
        upto = max((one for one in entries if seen.get(one) == entries[one]), default=0)
        assert upto or len(entries) < CHANGES_LENGTH, f"the observer fell behind after change {position}"
        if position and upto < position:
            self._history.add(Rewound(partition=partition, change=upto))
            self._seen[partition] = {one: fields for one, fields in seen.items() if one <= upto}
        self._doubts.discard(partition)

    async def _entries(self, partition: int) -> dict[int, Fields]:
        rows = cast("list[tuple[bytes, Fields]]", await self._redis.xrange(self._keys.changes(partition)))
        return {_number(entry_id): fields for entry_id, fields in rows}


def _number(entry_id: bytes) -> int:
    return StreamId.parse(entry_id).milliseconds


def _last(entries: dict[int, Fields]) -> int:
    """The newest number; 0 for none. Entries are in their order."""
    return next(reversed(entries), 0)
