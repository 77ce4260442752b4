"""Reading the log from a position."""

from typing import Any, cast

from redis.asyncio import Redis

from core.log.entry import Entry
from core.log.keys import Source
from pipai_contracts.record import StreamId


def entries_of(reply: list[Any]) -> list[Entry]:
    """Entries of an XRANGE or XREADGROUP reply; one that was trimmed meanwhile has no fields and is left out."""
    return [Entry(StreamId.parse(stream_id), fields) for stream_id, fields in reply if fields]


async def read_entries(
    redis: Redis, source: Source, *, after: StreamId, upto: StreamId | None = None, count: int
) -> list[Entry]:
    """At most ``count`` entries after ``after`` up to ``upto`` (None: the newest), oldest first.

    Raises:
        redis.exceptions.RedisError: Redis did not answer.
    """
    reply = await redis.xrange(source.key, min=f"({after}", max=str(upto) if upto is not None else "+", count=count)
    return entries_of(cast("list[Any]", reply))
