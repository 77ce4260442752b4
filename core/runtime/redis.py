"""Redis connections, each made for what it is used for."""

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
from redis.asyncio import Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ClusterDownError, ConnectionError, ReadOnlyError, TimeoutError  # noqa: A004
from redis.typing import EncodableT

_HEALS_BY_ITSELF: list[type[Exception]] = [ConnectionError, TimeoutError, ReadOnlyError, ClusterDownError]


class PackingConnection(Connection):
    """A connection that has hiredis write commands too, not only read answers.

    redis-py itself does so in its synchronous client alone; in Python the arguments of one commit take milliseconds.
    """

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """The command as Redis reads it; one of two words, like ``CONFIG GET``, comes as its first argument."""
        name = args[0].encode() if isinstance(args[0], str) else bytes(cast("bytes", args[0]))
        pack = cast("Callable[[tuple[EncodableT, ...]], bytes]", hiredis.pack_command)
        return [pack((*name.split(), *args[1:]))]


class EvictingRedisError(RuntimeError):
    """Redis may throw away events when memory is short: set ``maxmemory-policy noeviction``."""


def command_client(address: str) -> Redis:
    """Client for short commands and scripts: answers or fails within seconds."""
    return Redis.from_url(
        address,
        connection_class=PackingConnection,  # a rediss:// address has redis-py's own, for TLS
        protocol=2,
        socket_timeout=3,
        socket_connect_timeout=2,
        health_check_interval=15,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries=3),
        retry_on_error=_HEALS_BY_ITSELF,
    )


def blocking_options(block_ms: int) -> dict[str, Any]:
    """Connection options for reads that wait up to ``block_ms``: the socket timeout is longer than that.

    Without the margin a quiet stream looks like a dead Redis.
    """
    return {
        "protocol": 2,
        "socket_timeout": block_ms / 1000 + 5,
        "socket_connect_timeout": 2,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), retries=1),
        "retry_on_error": _HEALS_BY_ITSELF,
    }


def blocking_client(address: str, block_ms: int) -> Redis:
    """Client for reads that wait up to ``block_ms``, which tells of every broken connection.

    Without that, a Redis that came back with older data would go unnoticed by who follows a stream.
    """
    options: dict[str, Any] = {**blocking_options(block_ms), "retry": Retry(NoBackoff(), retries=0)}
    return Redis.from_url(address, **options)


def safe_address(address: str) -> str:
    """The address without user and password, for logs and tables."""
    parts = urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


async def refuse_eviction(client: Redis) -> None:
    """Check that Redis keeps what it acknowledged. A Redis that hides its configuration is taken at its word.

    Raises:
        EvictingRedisError: its ``maxmemory-policy`` is another than ``noeviction`` and a limit is set.
    """
    memory = await client.info("memory")
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and int(memory.get("maxmemory", 0)) > 0:
        raise EvictingRedisError(
            f"Redis has maxmemory-policy {policy} and would throw away events; set it to noeviction"
        )
