"""A client of the master that sentinels name."""

import asyncio
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.exceptions import RedisError

Address = tuple[str, int]


class Sentinels(Sentinel):
    """Sentinels that are asked once for everybody who wants to know at the same time.

    redis-py moves the sentinel that answered to the front of its list. Two answers at once would put one sentinel
    there twice and lose another, until the client knows a single one.
    """

    _question: asyncio.Task[Address] | None = None

    async def discover_master(self, service_name: str) -> Address:
        """Where the master is.

        Raises:
            redis.exceptions.ConnectionError: no sentinel that answers knows of one.
        """
        if self._question is None or self._question.done():
            asked = cast("Any", super().discover_master(service_name))
            self._question = asyncio.create_task(asked)
        return await asyncio.shield(self._question)

    async def aclose(self) -> None:
        """Close the connections to the sentinels."""
        if self._question is not None:
            self._question.cancel()
            with suppress(asyncio.CancelledError, RedisError):
                await self._question
        await super().aclose()


class MasterOfSentinels(Redis):
    """A client of the master, which closes its connections to the sentinels as well."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        await super().aclose(close_connection_pool)
        pool = cast("SentinelConnectionPool", self.connection_pool)
        await cast("Any", pool.sentinel_manager).aclose()
