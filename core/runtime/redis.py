"""Redis connections, each made for what it is used for, to a server, a Cluster or a master behind sentinels."""

import asyncio
from typing import Any, Final, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,  # noqa: A004
    ReadOnlyError,
    RedisError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)

from core.runtime.redis_address import RedisAddress, parse_address
from core.runtime.redis_address import safe_address as safe_address  # noqa: PLC0414 - the rest need not know of two modules
from core.runtime.redis_cluster import PatientCluster
from core.runtime.redis_packing import PackingConnection, PackingMasterConnection
from core.runtime.redis_sentinel import MasterOfSentinels, Sentinels

_HEALS_BY_ITSELF: Final[list[type[RedisError]]] = [
    ConnectionError,  # a Redis that still loads its data too
    TimeoutError,
    ReadOnlyError,
    ClusterDownError,  # a replica without its master too
    TryAgainError,
]


def command_client(address: str) -> Redis:
    """Client for short commands and scripts: answers or fails within seconds.

    Raises:
        core.runtime.redis_address.RedisAddressError: the address cannot be one of a Redis.
    """
    return _client(
        address,
        socket_timeout=3,
        health_check_interval=15,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries=3),
    )


def blocking_client(address: str, block_ms: int) -> Redis:
    """Client for reads that wait up to ``block_ms``, which tells of every broken connection.

    Without that, a Redis that came back with older data would go unnoticed by who follows a stream. The socket
    timeout is longer than the wait: without the margin a quiet stream looks like a dead Redis.

    Raises:
        core.runtime.redis_address.RedisAddressError: the address cannot be one of a Redis.
    """
    return _client(address, socket_timeout=block_ms / 1000 + 5, retry=Retry(NoBackoff(), retries=0))


_MAX_CONNECTIONS: Final = 2048
"""Of one client: each of the four sources of a partition is read by a connection that waits."""


def _client(address: str, *, retry: Retry, **options: Any) -> Redis:
    options |= {"protocol": 2, "socket_connect_timeout": 2, "max_connections": _MAX_CONNECTIONS}
    where = parse_address(address)
    if where.shape == "cluster":
        return _cluster_client(where, retry, options)
    options |= {"retry": retry, "retry_on_error": _HEALS_BY_ITSELF}
    if where.shape == "sentinel":
        return _sentinel_client(where, options)
    options["connection_class"] = PackingConnection  # a rediss:// address has redis-py's own, for TLS
    return Redis.from_url(address, **options)


def _cluster_client(where: RedisAddress, retry: Retry, options: dict[str, Any]) -> Redis:
    """A client of a Cluster. It has the commands that are used of a Redis, so that callers need not care."""
    retry.update_supported_errors(_HEALS_BY_ITSELF)
    return cast(
        "Redis",
        PatientCluster(
            patience=retry,
            startup_nodes=[ClusterNode(host, port) for host, port in where.nodes],
            require_full_coverage=False,  # else one lost shard would stop the others
            retry=Retry(NoBackoff(), retries=min(retry.get_retries(), 1)),
            **where.options,
            **options,
        ),
    )


def _sentinel_client(where: RedisAddress, options: dict[str, Any]) -> Redis:
    of_sentinels: dict[str, Any] = {
        **where.sentinel_options,
        "protocol": 2,
        # A sentinel that is gone must not keep us from asking the next.
        "socket_timeout": 1,
        "socket_connect_timeout": 1,
        "retry": Retry(NoBackoff(), retries=0),
    }
    if "ssl" not in where.options:
        options["connection_class"] = PackingMasterConnection
    sentinels = Sentinels(where.nodes, sentinel_kwargs=of_sentinels, **where.options, **options)
    return sentinels.master_for(where.service, redis_class=MasterOfSentinels)


async def ask_masters(client: Redis, *command: str) -> list[Any]:
    """The answer of every node that takes writes: of a Cluster there are several.

    Raises:
        redis.exceptions.RedisError: one did not answer.
    """
    cluster = cast("Redis | RedisCluster", client)
    if not isinstance(cluster, RedisCluster):
        return [await cast("Any", client).execute_command(*command)]
    await cluster.initialize()
    masters = cluster.get_primaries()
    return await asyncio.gather(*(cluster.execute_command(*command, target_nodes=node) for node in masters))


async def ask_holder(client: Redis, key: str, *command: str) -> Any:
    """The answer of the node that has the key.

    Raises:
        redis.exceptions.RedisError: it did not answer.
    """
    cluster = cast("Redis | RedisCluster", client)
    if not isinstance(cluster, RedisCluster):
        return await cast("Any", client).execute_command(*command)
    await cluster.initialize()
    return await cluster.execute_command(*command, target_nodes=cluster.get_node_from_key(key))
