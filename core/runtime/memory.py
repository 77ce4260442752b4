"""Whether Redis has room for what comes, and keeps what it has."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from core.runtime.redis import ask_masters


async def memory_fault(client: Redis) -> str | None:
    """Why Redis refuses writes for want of memory, or may throw events away; None when neither is so.

    A Redis that hides its configuration is taken at its word.

    Raises:
        redis.exceptions.RedisError: Redis did not answer.
    """
    faults = [fault_in(memory) for memory in await ask_masters(client, "INFO", "memory")]
    return next((fault for fault in faults if fault is not None), None)


def fault_in(memory: Mapping[str, Any]) -> str | None:
    """The same for the memory section of a server's INFO."""
    limit = int(memory.get("maxmemory", 0))
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if limit == 0:
        return None
    if policy != "noeviction":
        return f"Redis has maxmemory-policy {policy} and may throw away events; set it to noeviction"
    # What Redis itself does not count: buffers of replicas and of the append-only file.
    used = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
    if used < limit:
        return None
    return f"Redis is full: {used} of {limit} bytes; raise maxmemory, or shorten STREAM_MAX_ENTRIES and VIEW_TTL"
