"""Keeping change feeds within bytes: their length alone is no bound where events are large."""

from typing import Final

from redis.asyncio import Redis

from core.log.keys import Keys

MAX_CHANGES_BYTES: Final = 64 * 1024 * 1024
"""Memory of one partition's change feed; above it the older half goes."""

_SAMPLES: Final = 20
"""Nodes of a stream Redis measures to tell its size."""


async def bound_changes(redis: Redis, keys: Keys, partition: int, *, most_bytes: int = MAX_CHANGES_BYTES) -> int:
    """Halve the change feed when it has grown beyond ``most_bytes``; returns how many entries went.

    Whoever follows it and is not that far yet sees a jump, and resyncs its viewers.

    Raises:
        redis.exceptions.RedisError: Redis did not answer, cannot tell sizes, or the key is no stream.
    """
    key = keys.changes(partition)
    if (await redis.memory_usage(key, samples=_SAMPLES) or 0) <= most_bytes:
        return 0
    length = await redis.xlen(key)
    return int(await redis.xtrim(key, maxlen=length // 2, approximate=False))
