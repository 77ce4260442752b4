"""Finding keys by how they begin. It looks at every key of the Redis, a few hundred at a time."""

from collections.abc import AsyncIterator
from typing import Final, cast

from redis.asyncio import Redis

_COUNT: Final = 500


async def keys_beginning(redis: Redis, start: str) -> AsyncIterator[str]:
    """The keys that begin with ``start``; while keys come and go, one may be named twice or not at all."""
    pattern = "".join(f"\\{character}" if character in "*?[]^\\" else character for character in start)
    found = cast("AsyncIterator[bytes]", redis.scan_iter(match=f"{pattern}*", count=_COUNT))
    async for key in found:
        yield key.decode()
