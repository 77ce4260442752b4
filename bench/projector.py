"""How many events a second become views: ``./run bench projector [--short]``.

A backlog of workflow progress, 500 active workflows of 100 users, is appended while the projector is stopped
(SIGSTOP); then the time runs from when it goes on until the checkpoint is at the end. One core for the projector, the
other for Redis and the looking. In turns, on the same machine and Redis, the same backlog:

- ours: the projector's process;
- FastStream, one message at a time: decode, fold, the same commit, checkpoint and acknowledgement for each message;
- a bare redis-py loop: XREADGROUP and XACK of 500 at once, and nothing done with them.

Printed as a Markdown table: medians, and the ratio of ours to each.
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Final

from redis.asyncio import Redis

from bench.stand.cores import pin
from bench.stand.table import table
from core.log.append import Appender
from core.log.keys import GROUP, Keys, Source
from core.runtime.ports import free_port
from core.views.checkpoints import Checkpoints
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import WorkflowProgress
from pipai_contracts.times import format_millis
from services.standalone.embedded import redis_server

WORKFLOWS: Final = 500
USERS: Final = 100
_AT_ONCE: Final = 2_000
_LIMIT: Final = 300.0


def events(count: int, seed: int) -> Generator[Envelope]:
    """Progress of workflows in a random order, each in a run of its own that does not end: eight steps, 0 to 99 %."""
    random = Random(seed)
    spoken = [0] * WORKFLOWS
    share = max(count // WORKFLOWS * 3 // 2, 1)
    for number in range(count):
        workflow = random.randrange(WORKFLOWS)
        progress = min(99 * spoken[workflow] // share, 99)
        spoken[workflow] += 1
        yield Envelope(
            event_id=f"{seed}-{number}",
            user_id=f"user-{workflow % USERS}",
            run_id=f"run-{seed}-{workflow}",
            time=format_millis(int(time.time() * 1000)),
            event=WorkflowProgress(
                workflow_id=f"workflow-{workflow}",
                step=f"step {progress * 8 // 100}",
                progress=progress,
                message="Extracting text from page 12 of 48",
                metadata={"page": 12, "pages": 48},
            ),
        )


async def fill(redis: Redis, keys: Keys, count: int, seed: int) -> None:
    """Append the events."""
    appender = Appender(redis, keys, idempotency_window=60, owner_ttl=3600)
    backlog = list(events(count, seed))
    for start in range(0, count, _AT_ONCE):
        await appender.append(backlog[start : start + _AT_ONCE])


async def until_read(position: Callable[[], Awaitable[int]], end: int) -> float:
    """Wait until ``position`` is at ``end``; the seconds that took."""
    began = time.perf_counter()
    while await position() < end:
        if time.perf_counter() - began > _LIMIT:
            raise TimeoutError(f"not at {end} after {_LIMIT} s")
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Generator[None]:
    """Hold the process while the block runs."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class Reader:
    """One of those that are compared: a process, and where it says how far it is."""

    def __init__(self, name: str, command: list[str], url: str, prefix: str) -> None:
        self.name = name
        self.rates: list[float] = []
        self.keys = Keys(prefix)
        self.source: Source = self.keys.source("workflow:progress", 0)
        self._command = command
        self._environment = {
            **os.environ,
            "REDIS_URL": url,
            "KEY_PREFIX": prefix,
            "METRICS_PORT": str(free_port()),
        }
        self._end = 0

    def start(self, stack: ExitStack) -> subprocess.Popen[bytes]:
        """Run the process until the stack closes, on a core of its own."""
        process = subprocess.Popen([sys.executable, *self._command], env=self._environment, stderr=subprocess.DEVNULL)
        pin(process.pid, 1)
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        return process

    async def position(self, redis: Redis) -> int:
        """How many events it has done: by the checkpoint, or by what was acknowledged."""
        checkpoint = await Checkpoints(redis, self.keys).load(self.source)
        if checkpoint.offset:
            return checkpoint.offset
        return await acknowledged(redis, self.source)

    async def round(self, redis: Redis, count: int, seed: int) -> float:
        """Events a second over a backlog of ``count``."""
        with ExitStack() as stack:
            process = self.start(stack)
            await fill(redis, self.keys, 1, seed=-seed)  # what tells that it follows the group
            self._end += 1
            await until_read(lambda: self.position(redis), self._end)
            with stopped(process):
                await fill(redis, self.keys, count, seed)
                self._end += count
            return count / await until_read(lambda: self.position(redis), self._end)


async def acknowledged(redis: Redis, source: Source) -> int:
    """How many entries the group has read and nobody holds any more."""
    if not await redis.exists(source.key):
        return 0
    groups = await redis.xinfo_groups(source.key)
    group = next((group for group in groups if group["name"] == GROUP.encode()), None)
    return 0 if group is None else int(group["entries-read"] or 0) - int(group["pending"])


async def measure(rounds: int, count: int) -> list[Reader]:
    """Every reader in turns, over the same events."""
    with ExitStack() as stack:
        pin(os.getpid(), 0)  # Redis inherits it
        server = stack.enter_context(redis_server(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        readers = [
            Reader("ours", ["-m", "services.projector"], server.address, "ours"),
            Reader("FastStream, one at a time", ["-m", "bench.peers.one_at_a_time"], server.address, "single"),
            Reader("bare redis-py loop", ["-m", "bench.peers.bare_group"], server.address, "bare"),
        ]
        async with Redis.from_url(server.address, protocol=2) as redis:
            for seed in range(1, rounds + 1):
                for reader in readers:
                    share = count // 5 if reader is readers[1] else count  # it would take minutes
                    reader.rates.append(await reader.round(redis, share, seed))
        return readers


def row(reader: Reader, base: float) -> list[str]:
    """The reader's name, its events a second, and how many times as many ``base`` is."""
    median = statistics.median(reader.rates)
    rates = [f"{rate:,.0f}" for rate in (median, min(reader.rates), max(reader.rates))]
    return [reader.name, *rates, f"{base / median:.2f}"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./run bench projector", description=__doc__)
    parser.add_argument("--short", action="store_true", help="1 round of 2,000 events instead of 5 of 100,000")
    rounds, count = (1, 2_000) if parser.parse_args().short else (5, 100_000)
    print(f"{rounds} rounds of {count:,} events, {os.cpu_count()} cores\n", flush=True)
    readers = asyncio.run(measure(rounds, count))
    base = statistics.median(readers[0].rates)
    columns = ("reader", "events/s, median", "lowest", "highest", "ours ÷ this")
    print(table(columns, [row(reader, base) for reader in readers]))


if __name__ == "__main__":
    main()
