"""Everybody comes back at once with a cursor: how long until all have what they missed, and what Redis is asked."""

import statistics
import time
from collections.abc import Iterator
from typing import Final, cast

from redis import Redis

from bench.measures.scale import Scale, Stage
from bench.stand.payload import token
from bench.stand.processes import open_files
from bench.stand.publishers import FeedPublisher
from bench.stand.table import table
from bench.stand.viewers import Viewers
from bench.stand.watching import until_left, watching

_MISSED: Final = 20
_OWN: Final = frozenset({"cmdstat_config|resetstat", "cmdstat_info"})
"""Commands of the bench itself."""


def storm(scale: Scale, stage: Stage) -> Iterator[str]:
    """With one topic and with many."""
    rows: list[list[str]] = []
    for topics in (1, scale.topics):
        found = [_come_back(stage, scale.many, topics) for _round in range(scale.rounds)]
        seconds, commands = ([one[which] for one in found] for which in (0, 1))
        shown = [f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"]
        asked = [f"{statistics.median(commands):,.0f}", f"{max(commands):,.0f}"]
        rows.append([f"{scale.many:,}", f"{topics:,}", f"{_MISSED}", *shown, *asked])
    columns = ("viewers", "topics", "events missed", "s, median", "highest", "Redis commands, median", "highest")
    yield table(columns, rows)


def _come_back(stage: Stage, many: int, topics: int) -> tuple[float, int]:
    """Seconds until all have what they missed, and how many commands Redis was sent in them.

    Raises:
        RuntimeError: somebody was told more or less than it had missed.
    """
    server = stage.servers[0]
    publisher = cast("FeedPublisher", server.publisher)
    with watching(server, many, topics):
        cursors = [publisher.cursor(topic) for topic in range(topics)]
    last = time.perf_counter_ns()
    for before in reversed(range(_MISSED)):
        publisher.publish(range(topics), last - before)
    publisher.settle()
    requests = [server.request(number % topics, cursors[number % topics]) for number in range(many)]
    viewers = Viewers(server.port)
    files = open_files(server.pid)
    with Redis.from_url(stage.redis, protocol=2) as redis:
        redis.config_resetstat()
        began = time.perf_counter()
        try:
            viewers.connect(requests, token(last))
            passed = time.perf_counter() - began
            commands = cast("dict[str, dict[str, int]]", redis.info("commandstats"))
        finally:
            viewers.close()
            until_left(server, files)
    if viewers.received != many * _MISSED:
        raise RuntimeError(f"{many:,} viewers missed {_MISSED} events each and were told {viewers.received:,} in all")
    return passed, sum(stats["calls"] for name, stats in commands.items() if name not in _OWN)
