"""Keys of ours that hold something else: another hand, or another program with the same prefix, wrote there."""

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.keys import Source
from core.runtime.lua import load_script

REPAIRED: Final = Counter(
    "pipai_repaired_keys_total", "Keys of ours that held something else and were made anew.", ["key"]
)


class Misfit(NamedTuple):
    """A key that was removed: its name, and the Redis type it had."""

    key: str
    found: str


class MisfitRemover:
    """Removes keys of the wrong type, of which each held nothing of ours."""

    def __init__(self, redis: Redis) -> None:
        self._script = load_script(redis, __file__, "misfit.lua")

    async def remove(self, keys: Sequence[tuple[str, str]]) -> list[Misfit]:
        """Remove those of the keys, each given with the type it should have, that are of another; returns these."""
        misfits: list[Misfit] = []
        for key, expected in keys:
            found = await self._script(keys=[key], args=[expected])
            if found:
                misfits.append(Misfit(key, found.decode()))
        return misfits


_MAX_DIGITS: Final = 15


async def faults_of(redis: Redis, sources: Sequence[Source]) -> list[str]:
    """Why nothing can be appended to some of the sources, in words that name the key.

    These keys are not removed: what stands in their place may be the log itself under another name.

    Raises:
        redis.exceptions.RedisError: Redis did not answer.
    """
    async with redis.pipeline(transaction=False) as pipe:
        for source in sources:
            pipe.type(source.key)
            pipe.get(source.offset)
        replies = cast("list[bytes | ResponseError | None]", await pipe.execute(raise_on_error=False))
    faults: list[str] = []
    for index, source in enumerate(sources):
        found, offset = replies[2 * index : 2 * index + 2]
        if isinstance(found, bytes) and found not in {b"none", b"stream"}:
            faults.append(f"{source.key} is a {found.decode()} and must be a stream: rename or delete it")
        if isinstance(offset, ResponseError) and "WRONGTYPE" in str(offset):
            faults.append(f"{source.offset} must be a number and is no string: rename or delete it")
        elif isinstance(offset, bytes) and not (offset.isdigit() and len(offset) <= _MAX_DIGITS):
            faults.append(f"{source.offset} must be a number and is {offset[:40]!r}: set it to the newest offset")
    return faults
