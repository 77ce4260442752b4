"""How long from an append until the change feed has the event: ``./run bench publish_to_changes [--short]``.

Progress of 500 workflows of 100 users is appended at a steady rate, a few events every 2 ms; the time runs from just
before the append until a blocking XREAD of the change feed has the event of the workflow's own view. The projector is
on one core; Redis, the producer and the reader are on the other. Beside it, in the same run and at the same rate: a
bare XADD and XREAD through redis-py. Printed as a Markdown table.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis

from bench.projector import Reader, events, until_read
from bench.stand.cores import pin
from bench.stand.table import QUANTILES, quantiles, table
from core.log.append import Appender
from core.log.keys import Keys
from core.views.checkpoints import Checkpoints
from pipai_contracts.record import StreamId
from services.standalone.embedded import redis_server

_TICK = 0.002

Send = Callable[[int, int], Awaitable[None]]


class Way:
    """One way from a producer to a reader: when each event was sent, and how long it took."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: dict[str, float] = {}
        self.times: list[float] = []

    def saw(self, event: str) -> None:
        """The reader has the event."""
        began = self.sent.pop(event, None)
        if began is not None:
            self.times.append((time.perf_counter() - began) * 1000)


async def steadily(rate: int, seconds: float, send: Send) -> None:
    """Send ``rate`` events a second, those of a tick together, whatever happens to the ones before."""
    began, sent, sending = time.perf_counter(), 0, set[asyncio.Task[None]]()
    while (passed := time.perf_counter() - began) < seconds:
        due = int(passed * rate)
        if due > sent:
            task = asyncio.ensure_future(send(sent, due))
            sending.add(task)
            task.add_done_callback(sending.discard)
            sent = due
        await asyncio.sleep(_TICK)
    await asyncio.gather(*sending)


async def ours(redis: Redis, url: str, rate: int, seconds: float) -> Way:
    """Appender → projector → change feed."""
    way, keys = Way("ours: append → view → change feed"), Keys("ours")
    appender = Appender(redis, keys, idempotency_window=60, owner_ttl=3600)
    backlog = list(events(int(rate * seconds) + rate, seed=1))
    source = keys.source("workflow:progress", 0)

    async def send(first: int, last: int) -> None:
        part = backlog[first:last]
        began = time.perf_counter()
        published = await appender.append(part)
        way.sent.update({place.stream_id: began for place in published})

    async def follow() -> None:
        position = "0"
        async with Redis.from_url(url, protocol=2, socket_timeout=30) as reader:
            while True:
                reply = cast("list[Any]", await reader.xread({keys.changes(0): position}, count=500, block=10_000))
                for change_id, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", reply[0][1] if reply else []):
                    position = change_id.decode()
                    if b":workflow:" in fields.get(b"topic", b""):
                        way.saw(fields[b"stream_id"].decode())

    with ExitStack() as stack:
        Reader("ours", ["-m", "services.projector"], url, "ours").start(stack)
        await appender.append([backlog.pop()])
        checkpoints = Checkpoints(redis, keys)

        async def offset() -> int:
            return (await checkpoints.load(source)).offset

        await until_read(offset, 1)
        following = asyncio.create_task(follow())
        await steadily(rate, seconds, send)
        await until_read(offset, int((await redis.get(source.offset)) or 0))
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    return way


async def bare(redis: Redis, url: str, rate: int, seconds: float) -> Way:
    """XADD → XREAD."""
    way = Way("bare Redis: XADD → XREAD")

    async def send(first: int, last: int) -> None:
        async with redis.pipeline(transaction=False) as pipe:
            for number in range(first, last):
                pipe.xadd("bare", {"n": number, "data": "x" * 150}, maxlen=10_000, approximate=True)
                way.sent[str(number)] = time.perf_counter()
            await pipe.execute()

    async def follow() -> None:
        position = "0"
        async with Redis.from_url(url, protocol=2, socket_timeout=30) as reader:
            while True:
                reply = cast("list[Any]", await reader.xread({"bare": position}, count=500, block=10_000))
                for entry_id, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", reply[0][1] if reply else []):
                    position = str(StreamId.parse(entry_id))
                    way.saw(fields[b"n"].decode())

    following = asyncio.create_task(follow())
    await steadily(rate, seconds, send)
    await asyncio.sleep(0.5)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return way


async def measure(rate: int, seconds: float) -> list[Way]:
    """Both ways, one after the other."""
    with ExitStack() as stack:
        pin(os.getpid(), 0)
        server = stack.enter_context(redis_server(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        async with Redis.from_url(server.address, protocol=2) as redis:
            return [
                await ours(redis, server.address, rate, seconds),
                await bare(redis, server.address, rate, seconds),
            ]


def row(way: Way) -> list[str]:
    """The way's figures; the first fifth of the time is warm-up."""
    times = way.times[len(way.times) // 5 :]
    return [way.name, f"{len(times):,}", *quantiles(times)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./run bench publish_to_changes", description=__doc__)
    parser.add_argument("--short", action="store_true", help="2 seconds at 500 events/s instead of 30 at 3,000")
    rate, seconds = (500, 2.0) if parser.parse_args().short else (3_000, 30.0)
    print(f"{rate:,} events/s for {seconds:g} s, {os.cpu_count()} cores\n", flush=True)
    ways = asyncio.run(measure(rate, seconds))
    print(table(("way", "events", *QUANTILES), [row(way) for way in ways]))


if __name__ == "__main__":
    main()
