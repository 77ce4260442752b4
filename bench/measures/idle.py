"""What viewers cost a server while nothing happens: memory, and connections to Redis."""

import time
from collections.abc import Iterator
from typing import Final

from redis import Redis

from bench.measures.scale import Scale, Stage
from bench.stand.processes import open_files, private_bytes
from bench.stand.servers import Served
from bench.stand.table import table
from bench.stand.viewers import Viewers
from bench.stand.watching import until_left

_QUIET_SECONDS: Final = 1.0
_COLUMNS: Final = (
    "server",
    "viewers = topics",
    "MB with one",
    "MB with all",
    "KB a viewer",
    "Redis connections with one",
    "with all",
)


def memory(scale: Scale, stage: Stage) -> Iterator[str]:
    """Each viewer watches a topic of its own; the first is there before memory is looked at.

    True only of servers that had no viewers yet: what they would have freed would be used again.
    """
    rows = [_idle(server, stage.redis, scale.many) for server in stage.servers]
    yield table(_COLUMNS, rows)


def _idle(server: Served, redis: str, many: int) -> list[str]:
    files, viewers = open_files(server.pid), Viewers(server.port)
    try:
        viewers.connect([server.request(0)])
        before, connections = _settled(server), _redis_connections(redis)
        viewers.connect([server.request(number) for number in range(1, many)])
        after, later = _settled(server), _redis_connections(redis)
    finally:
        viewers.close()
        until_left(server, files)
    sizes = [f"{size / 2**20:.0f}" for size in (before, after)] + [f"{(after - before) / (many - 1) / 1024:.1f}"]
    return [server.name, f"{many:,}", *sizes, *([str(connections), str(later)] if server.name == "ours" else ["", ""])]


def _settled(server: Served) -> int:
    """Its memory once it has done what there was to do."""
    time.sleep(_QUIET_SECONDS)
    return private_bytes(server.pid)


def _redis_connections(address: str) -> int:
    """How many the server has: all but the one that asks and the bench's own for publishing."""
    with Redis.from_url(address, protocol=2) as redis:
        return len(redis.client_list()) - 2
