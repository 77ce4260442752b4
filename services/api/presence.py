"""How many streams all api processes serve together."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from core.log.damage import MisfitRemover
from core.log.keys import Keys
from core.runtime.tasks import running
from services.api.hub import Hub

_TELL_EVERY: Final = 2.0
_FRESH_SECONDS: Final = 10.0
_WITHDRAW_SECONDS: Final = 0.5
"""At shutdown, on a Redis that hangs: after that others find out by themselves."""


class Presence:
    """Tells Redis how many streams this process serves, and asks how many there are in all."""

    def __init__(self, redis: Redis, keys: Keys, hub: Hub) -> None:
        self._redis = redis
        self._key = keys.connections
        self._hub = hub
        self._misfits = MisfitRemover(redis)
        self.name = secrets.token_hex(6)
        """Names this process among the others."""
        self.refusal: str | None = None
        """Why Redis would not be told the last time: it takes no writes."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep telling while the block lasts; withdraw at its end.

        Without Redis nothing is told: the hub reports the outage, and a missing count is no second fault.
        """
        try:
            async with running(self._keep_telling()):
                yield
        finally:
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(_WITHDRAW_SECONDS):
                    await self._redis.hdel(self._key, self.name)

    async def _keep_telling(self) -> None:
        while True:
            try:
                await self._tell()
                self.refusal = None
            except ResponseError as error:
                self.refusal = None if await self._mended() else str(error)
            except RedisError:
                self.refusal = None  # away: the hub reports that
            await asyncio.sleep(_TELL_EVERY)

    async def _mended(self) -> bool:
        """Whether the key held something else, which is removed."""
        with suppress(RedisError):
            return bool(await self._misfits.remove([(self._key, "hash")]))
        return False

    async def _tell(self) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(self._key, self.name, f"{len(self._hub.viewers)} {time.time():.0f}")
            pipe.expire(self._key, int(_FRESH_SECONDS * 6))
            await pipe.execute()

    async def knows(self, process: str) -> bool:
        """Whether a process of this name spoke lately.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        told = cast("bytes | None", await self._redis.hget(self._key, process))
        return told is not None and time.time() - float(told.split(b" ")[1]) <= _FRESH_SECONDS

    async def active_streams(self) -> int:
        """Streams of every process that spoke lately, this one's as they are now; forgets the silent ones.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        told = cast("dict[bytes, bytes]", await self._redis.hgetall(self._key))
        total = len(self._hub.viewers)
        silent: list[bytes] = []
        for name, entry in told.items():
            count, spoke = entry.split(b" ")
            if name == self.name.encode():
                continue
            if time.time() - float(spoke) > _FRESH_SECONDS:
                silent.append(name)
            else:
                total += int(count)
        if silent:
            await self._redis.hdel(self._key, *[name.decode() for name in silent])
        return total
