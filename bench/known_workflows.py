"""What an event costs when ever more workflows are known: ``./run bench known_workflows [--short]``.

So many workflows get a view each; then the projector takes a backlog of progress, once about 500 of them that are
active, once about any of them, so that nearly every event needs a view that is not in memory. Time and memory per event
must not grow with what is known. Printed as a Markdown table.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from redis.asyncio import Redis

from bench.projector import Reader, stopped, until_read
from bench.stand.cores import pin
from bench.stand.table import table
from core.log.append import Appender
from core.log.keys import Keys
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import WorkflowProgress
from pipai_contracts.times import format_millis
from services.standalone.embedded import redis_server

ACTIVE = 500
_AT_ONCE = 2_000
_IDEMPOTENCY_WINDOW = 20
"""Seconds. A million keys that expire while the rate is measured would be what is measured."""


def progress_of(workflows: Sequence[int], label: str) -> list[Envelope]:
    """An event about each of these, all of them of a hundred users."""
    now = format_millis(int(time.time() * 1000))
    return [
        Envelope(
            event_id=f"{label}-{number}",
            user_id=f"user-{workflow % 100}",
            time=now,
            event=WorkflowProgress(workflow_id=f"workflow-{workflow}", step="reading", progress=number % 99),
        )
        for number, workflow in enumerate(workflows)
    ]


class Curve:
    """A projector and the workflows it knows by now."""

    def __init__(self, redis: Redis, reader: Reader) -> None:
        self._redis = redis
        self._reader = reader
        self._appender = Appender(redis, Keys("ours"), idempotency_window=_IDEMPOTENCY_WINDOW, owner_ttl=3600)
        self._known = 0
        self._appended = 0

    async def grow(self, known: int) -> None:
        """Have each workflow up to ``known`` begin, and Redis done with what so much at once had it begin."""
        for start in range(self._known, known, 50_000):
            await self._append(progress_of(range(start, min(start + 50_000, known)), f"begin {start}"))
            await self._projected()
        self._known = known
        await until_read(self._at_rest, 1)

    async def rate(self, process: Any, count: int, *, among: int) -> float:
        """Events a second over a backlog about random workflows of the first ``among``."""
        random = Random(self._appended)
        backlog = progress_of([random.randrange(among) for _ in range(count)], f"more {self._appended}")
        with stopped(process):
            await self._append(backlog)
        began = time.perf_counter()
        await self._projected()
        return count / (time.perf_counter() - began)

    async def _append(self, backlog: Sequence[Envelope]) -> None:
        for start in range(0, len(backlog), _AT_ONCE):
            await self._appender.append(backlog[start : start + _AT_ONCE])
        self._appended += len(backlog)

    async def _at_rest(self) -> int:
        """1 when Redis neither rewrites its append-only file nor forgets what so many events left for a minute."""
        expired = await self._expired()
        await asyncio.sleep(_IDEMPOTENCY_WINDOW / 2)
        forgets = await self._expired() != expired
        return int(not forgets and not (await self._redis.info("persistence"))["aof_rewrite_in_progress"])

    async def _expired(self) -> int:
        return (await self._redis.info("stats"))["expired_keys"]

    async def _projected(self) -> None:
        await until_read(lambda: self._reader.position(self._redis), self._appended)


async def measure(sizes: Sequence[int], count: int) -> list[tuple[int, float, float, float]]:
    """Per size: events a second among the active and among all, and the memory of Redis in bytes per known workflow."""
    rows: list[tuple[int, float, float, float]] = []
    with ExitStack() as stack:
        pin(os.getpid(), 0)
        server = stack.enter_context(redis_server(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        reader = Reader("ours", ["-m", "services.projector"], server.address, "ours")
        async with Redis.from_url(server.address, protocol=2) as redis:
            process = reader.start(stack)
            curve = Curve(redis, reader)
            for size in sizes:
                await curve.grow(size)
                active = await curve.rate(process, count, among=ACTIVE)
                everyone = await curve.rate(process, count, among=size)
                memory = (await redis.info("memory"))["used_memory"]
                rows.append((size, active, everyone, memory / size))
                print(f"{size:,} known", flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./run bench known_workflows", description=__doc__)
    parser.add_argument("--short", action="store_true", help="1,000 and 2,000 known, 1,000 events")
    sizes, count = ((1_000, 10_000, 100_000, 1_000_000), 50_000)
    if parser.parse_args().short:
        sizes, count = (1_000, 2_000), 1_000
    print(f"{count:,} events a measurement, {os.cpu_count()} cores\n", flush=True)
    rows = asyncio.run(measure(sizes, count))
    columns = ("known workflows", "events/s among 500 active", "events/s among all", "bytes in Redis per workflow")
    print(f"\n{table(columns, [[f'{figure:,.0f}' for figure in row] for row in rows])}")


if __name__ == "__main__":
    main()
