"""Reading the log from a position."""

from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.entry import Entry
from core.log.keys import Source
from pipai_contracts.record import BEGINNING, StreamId


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


async def newest_id(redis: Redis, key: str) -> StreamId:
    """The newest id a stream ever gave out, also to what is gone; `BEGINNING` when there is no stream.

    Raises:
        redis.exceptions.RedisError: Redis did not answer, or the key is no stream.
    """
    try:
        about = await redis.xinfo_stream(key)
    except ResponseError as error:
        if "no such key" in str(error):
            return BEGINNING
        raise
    return StreamId.parse(about["last-generated-id"])
