"""FastStream's broker on a Redis of any shape, reading without haste when Redis is away."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, cast

from faststream.redis import RedisBroker
from faststream.redis.configs.state import RedisConnectionState
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from core.runtime.logs import get_logger
from core.runtime.redis import blocking_client, safe_address
from services.projector.reads import FIRST_COUNT, next_count

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
"""Seconds between two reads that fail. It bounds how long a Redis that is back goes unread."""

log = get_logger()


def stream_broker(address: str, block_ms: int) -> RedisBroker:
    """A broker for stream subscribers, which wait up to ``block_ms`` in each read."""
    return _StreamBroker(address, block_ms)


class PatientReader:
    """The client FastStream reads with. A read that fails is tried again after a pause, for as long as it takes.

    FastStream itself would begin again at once after an error that Redis answers with, 1,900 times in 0.7 s while a
    master is being replaced; after one of the connection it would wait 5 s.

    How many entries a read asks for at most grows while they are small: thousands of the largest would be a gigabyte.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._failing: set[str] = set()
        self._counts: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def ping(self) -> bool:
        """Answer for Redis: reading begins when it can, whether Redis is there by now or not."""
        return True

    async def xreadgroup(self, **arguments: Any) -> Any:
        """Read as ``Redis.xreadgroup`` does, from one stream.

        Raises:
            redis.exceptions.ResponseError: the group is gone.
        """
        (key,) = arguments["streams"]
        count = arguments["count"] = min(self._counts.get(key, FIRST_COUNT), arguments["count"])
        pause = FIRST_PAUSE
        while True:
            try:
                reply = cast("Any", await self._client.xreadgroup(**arguments))
            except (RedisError, OSError) as error:
                if isinstance(error, ResponseError) and "NOGROUP" in str(error):
                    raise
                self._say_failing(key, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._say_working(key)
                entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply[0][1] if reply else [])
                self._counts[key] = next_count(count, [fields for _, fields in entries])
                return reply

    def _say_failing(self, key: str, error: Exception) -> None:
        if key not in self._failing:
            self._failing.add(key)
            log.warning("stream reading stops", stream=key, error=str(error) or repr(error))

    def _say_working(self, key: str) -> None:
        if key in self._failing:
            self._failing.discard(key)
            log.info("stream reading goes on", stream=key)


class _StreamBroker(RedisBroker):
    """A broker that reads with our client, whatever shape the Redis has.

    FastStream has brokers of its own for Clusters and sentinels. They make their connections differently from all
    others here, and leave those to sentinels open.
    """

    def __init__(self, address: str, block_ms: int) -> None:
        self._make_client = lambda: PatientReader(blocking_client(address, block_ms))
        super().__init__(
            "redis://unused",
            specification_url=safe_address(address),
            logger=logging.getLogger("faststream"),
            apply_types=False,  # our one handler takes what is decoded; injection would cost more than a small batch
        )

    def _make_connection_state(self, connection_options: dict[str, Any], kwargs: dict[str, Any]) -> "_Connection":
        _ = connection_options, kwargs
        return _Connection(self._make_client)


class _Connection(RedisConnectionState):
    """Where FastStream gets its client from."""

    def __init__(self, make_client: Callable[[], PatientReader]) -> None:
        super().__init__()
        self._make_client = make_client

    async def connect(self) -> Any:
        client: Any = self._make_client()
        self._client = client
        self._connected = True
        return client
