"""What the consumer group gave out and waits to hear of."""

from collections.abc import Sequence
from typing import Final, cast

from redis.asyncio import Redis

from core.log.entry import Entry
from core.log.keys import GROUP, Source
from pipai_contracts.record import StreamId

_PAGE: Final = 100


def consumer_name(source: Source) -> str:
    """The one consumer of the group that reads this source, whichever process it runs in."""
    return f"partition-{source.partition}"


class Pending:
    """The pending entries of one source."""

    def __init__(self, redis: Redis, source: Source) -> None:
        self._redis = redis
        self._source = source

    async def acknowledge(self, entries: Sequence[Entry]) -> None:
        """Say that these are done."""
        if entries:
            await self._redis.xack(self._source.key, GROUP, *[str(entry.stream_id) for entry in entries])

    async def clear(self, *, upto: StreamId) -> None:
        """Acknowledge entries the consumer was given once, up to this id."""
        start = "0"
        while True:
            reply = await self._redis.xreadgroup(
                GROUP, consumer_name(self._source), {self._source.key: start}, count=_PAGE
            )
            rows = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", reply)
            pending = rows[0][1] if rows else []
            done = [stream_id for stream_id, _ in pending if StreamId.parse(stream_id) <= upto]
            if done:
                await self._redis.xack(self._source.key, GROUP, *done)
            if len(pending) < _PAGE:
                return
            start = pending[-1][0].decode()
