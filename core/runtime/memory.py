"""Whether Redis has room for what comes, and keeps what it has."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from core.runtime.redis import ask_masters


class EvictingRedisError(RuntimeError):
    """Redis may throw away events when memory is short: set ``maxmemory-policy noeviction``."""


async def refuse_eviction(client: Redis) -> None:
    """Check that Redis keeps what it acknowledged. A Redis that hides its configuration is taken at its word.

    Raises:
        EvictingRedisError: its ``maxmemory-policy`` is another than ``noeviction`` and a limit is set.
        redis.exceptions.RedisError: Redis did not answer.
    """
    for memory in await ask_masters(client, "INFO", "memory"):
        fault = _eviction(memory)
        if fault is not None:
            raise EvictingRedisError(fault)


async def memory_fault(client: Redis) -> str | None:
    """Why Redis refuses writes for want of memory, or may throw events away; None when neither is so.

    A Redis that hides its configuration is taken at its word.

    Raises:
        redis.exceptions.RedisError: Redis did not answer.
    """
    faults = [_eviction(memory) or _fullness(memory) for memory in await ask_masters(client, "INFO", "memory")]
    return next((fault for fault in faults if fault is not None), None)


def _eviction(memory: Mapping[str, Any]) -> str | None:
    """Why a server with this memory section of INFO may throw events away."""
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction" or int(memory.get("maxmemory", 0)) == 0:
        return None
    return f"Redis has maxmemory-policy {policy} and may throw away events; set it to noeviction"


def _fullness(memory: Mapping[str, Any]) -> str | None:
    """Why a server with this memory section of INFO refuses writes."""
    limit = int(memory.get("maxmemory", 0))
    # What Redis itself does not count: buffers of replicas and of the append-only file.
    used = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
    if limit == 0 or used < limit:
        return None
    return f"Redis is full: {used} of {limit} bytes; raise maxmemory, or shorten STREAM_MAX_ENTRIES and VIEW_TTL"
