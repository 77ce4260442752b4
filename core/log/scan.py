"""Finding keys by how they begin. It looks at every key of the Redis, a few hundred at a time."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final, cast

from redis.asyncio import Redis

from core.log.keys import Keys
from pipai_contracts.ids import Topic

_COUNT: Final = 500


async def keys_beginning(
    redis: Redis, start: str, *, foreign: Callable[[bytes], None] | None = None
) -> AsyncIterator[str]:
    """The keys that begin with ``start``; while keys come and go, one may be named twice or not at all.

    A key that is no UTF-8 is none of ours: it is left out, and told to ``foreign``.
    """
    async for key in _scan(redis, f"{_literally(start)}*"):
        try:
            name = key.decode()
        except UnicodeDecodeError:
            if foreign is not None:
                foreign(key)
            continue
        yield name


async def keys_between(redis: Redis, start: str, middle: str) -> AsyncIterator[str]:
    """The keys that begin with ``start`` and have ``middle`` further on; otherwise as `keys_beginning`."""
    async for key in _scan(redis, f"{_literally(start)}*{_literally(middle)}*"):
        with suppress(UnicodeDecodeError):
            yield key.decode()


def _scan(redis: Redis, pattern: str) -> AsyncIterator[bytes]:
    return cast("AsyncIterator[bytes]", redis.scan_iter(match=pattern, count=_COUNT))


def _literally(text: str) -> str:
    return "".join(f"\\{character}" if character in "*?[]^\\" else character for character in text)


async def viewed_topics(
    redis: Redis, keys: Keys, *, foreign: Callable[[bytes], None] = lambda _: None
) -> AsyncIterator[Topic]:
    """The topics that have a view; while views come and go, one may be named twice or not at all.

    A key that names none is told to ``foreign``.
    """
    async for key in keys_beginning(redis, keys.views, foreign=foreign):
        topic = keys.topic_of(key)
        if topic is None:
            foreign(key.encode())
        else:
            yield topic
