"""How many commands a process sends to Redis with nothing to do: ``./run bench idle_cost [--short]``.

Where every command is billed, as on Upstash, this is what waiting costs. Each kind of process runs alone on a Redis of
its own that has seen a few events; the commands are counted as MONITOR shows them, without those that scripts run.
Printed as a Markdown table of commands an hour.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from core.log.append import Appender
from core.log.keys import Keys
from core.runtime.ports import free_port
from core.runtime.redis import command_client
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import WorkflowProgress
from services.standalone.embedded import Server, redis_server

_SHOWN: Final = re.compile(rb'^\+[\d.]+ \[\d+ (?!lua)[^\]]*\] "([^"]+)"')
_BLOCK_TIMES: Final = (1000, 10_000)
_PARTITIONS: Final = (4, 16, 64)
"""How many a projector follows all by itself, beside the one of every process."""
_KINDS: Final[dict[str, list[str]]] = {
    "projector": ["-m", "services.projector"],
    "api": ["-m", "services.api"],
    "ingest": ["-m", "services.ingest"],
    "archiver": ["-m", "services.archiver"],
}


@contextmanager
def process(kind: str, redis: Server, folder: Path, block_ms: int, partitions: int) -> Generator[None]:
    """A process of this kind, without Temporal."""
    settings = {
        "REDIS_URL": redis.address,
        "STREAM_BLOCK_TIME": str(block_ms),
        "STREAM_PARTITIONS": str(partitions),
        "METRICS_PORT": "0",
        "PORT": str(free_port()),
        "TEMPORAL_ADDRESS": "",
        "ARCHIVE_URL": (folder / "archive").as_uri(),
        "ARCHIVE_SPOOL": str(folder / "spool"),
    }
    command = [sys.executable, *_KINDS[kind]]
    running = subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait(15)


async def count_commands(port: int, settle: float, seconds: float) -> Counter[str]:
    """The commands Redis is sent within ``seconds``, by name, after ``settle`` seconds nobody counts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"MONITOR\r\n")
    counted = Counter[str]()
    loop = asyncio.get_running_loop()
    begins = loop.time() + settle
    try:
        async with asyncio.timeout_at(begins + seconds):
            while line := await reader.readline():
                found = _SHOWN.match(line)
                if found is not None and loop.time() >= begins:
                    counted[found[1].decode().upper()] += 1
    except TimeoutError:
        return counted
    finally:
        writer.close()
    raise ConnectionError("Redis ended while its commands were counted")


async def publish_some(address: str, partitions: int) -> None:
    """A few events, so that there is something to look after."""
    redis = command_client(address)
    appender = Appender(redis, Keys(partitions=partitions), idempotency_window=60, owner_ttl=600)
    for number in range(10):
        event = WorkflowProgress(workflow_id="w", step="work", progress=number)
        await appender.append([Envelope(event_id=f"e{number}", time="2026-01-01T00:00:00.000Z", event=event)])
    await redis.aclose()


async def measure(kind: str, block_ms: int, partitions: int, settle: float, seconds: float) -> Counter[str]:
    """Commands an hour, by name."""
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as redis:
        await publish_some(redis.address, partitions)
        with process(kind, redis, Path(folder), block_ms, partitions):
            counted = await count_commands(redis.port, settle, seconds)
    return Counter({name: round(count * 3600 / seconds) for name, count in counted.items()})


async def main(*, short: bool) -> None:
    """Print the table."""
    settle, seconds = (3.0, 2.0) if short else (10.0, 30.0)
    rows = [(kind, block_ms, 1) for kind in _KINDS for block_ms in (_BLOCK_TIMES[:1] if short else _BLOCK_TIMES)]
    rows += [] if short else [("projector", _BLOCK_TIMES[-1], partitions) for partitions in _PARTITIONS]
    print("| process | partitions | STREAM_BLOCK_TIME | commands an hour | most of them |")
    print("|---|---|---|---|---|")
    for kind, block_ms, partitions in rows:
        cost = await measure(kind, block_ms, partitions, settle, seconds)
        most = ", ".join(f"{name} {count:,}" for name, count in cost.most_common(5))
        print(f"| {kind} | {partitions} | {block_ms} | {cost.total():,} | {most} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few seconds each: shows that it works")
    asyncio.run(main(short=parser.parse_args().short))
