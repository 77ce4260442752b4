"""How long from a publish to a viewer's eyes: ``./run bench publish_to_sse [--short]``.

Three ways for the same event, one after the other in turns, in one run on this machine:

- ours: HTTP publish → log → projector → change feed → api → SSE, on real processes;
- bare Redis: XADD → blocking XREAD through redis-py, which is the least any Redis stream can take;
- plain: one FastAPI process, HTTP publish → an asyncio queue per viewer → sse-starlette, without log or Redis.

The time runs from just before the producer sends until the viewer has the whole event. Printed as a Markdown table.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import httpx2
from redis.asyncio import Redis

from bench.stand.table import QUANTILES, quantiles, table
from core.runtime.ports import free_port
from services.standalone.embedded import redis_server

_PAUSE: Final = 0.02
_BODY: Final[dict[str, Any]] = {"step": "processing", "progress": 50, "message": "Analyzing", "metadata": {}}


class Way:
    """One way from producer to viewer: ``send`` an event with this number, see numbers arrive."""

    def __init__(self, name: str, send: Callable[[int], Awaitable[None]]) -> None:
        self.name = name
        self.times: list[float] = []
        self._send = send
        self._arrived = asyncio.Event()
        self._waiting_for = -1
        self._seen_at = 0.0

    def saw(self, number: int) -> None:
        """The viewer has event ``number``."""
        if number == self._waiting_for:
            self._seen_at = time.perf_counter()
            self._arrived.set()

    async def once(self, number: int, *, count: bool) -> None:
        """Send one event and wait until the viewer has it."""
        self._arrived.clear()
        self._waiting_for = number
        began = time.perf_counter()
        await self._send(number)
        async with asyncio.timeout(10):
            await self._arrived.wait()
        if count:
            self.times.append((self._seen_at - began) * 1000)


def start(stack: ExitStack, command: list[str], environment: dict[str, str]) -> None:
    """Run a process until the stack closes."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)


async def until_ready(client: httpx2.AsyncClient, path: str) -> None:
    """Wait until a process answers 200."""
    async with asyncio.timeout(60):
        while True:
            try:
                if (await client.get(path)).is_success:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)


@asynccontextmanager
async def sse_way(name: str, client: httpx2.AsyncClient, stream: str, publish: str) -> AsyncGenerator[Way]:
    """A way whose viewer reads Server-Sent Events and whose producer publishes by HTTP."""

    async def send(number: int) -> None:
        answer = await client.post(publish, json={**_BODY, "metadata": {"number": number}})
        answer.raise_for_status()

    way = Way(name, send)
    connected = asyncio.Event()

    async def view() -> None:
        async with client.stream("GET", stream, timeout=None) as response:
            connected.set()
            async for line in response.aiter_lines():
                if line.startswith("data: ") and '"number"' in line:
                    way.saw(json.loads(line[6:])["metadata"]["number"])

    viewer = asyncio.create_task(view())
    await connected.wait()
    try:
        yield way
    finally:
        viewer.cancel()
        await asyncio.gather(viewer, return_exceptions=True)


@asynccontextmanager
async def redis_way(url: str) -> AsyncGenerator[Way]:
    """The bare way: XADD and a blocking XREAD."""
    async with Redis.from_url(url, protocol=2) as writer, Redis.from_url(url, protocol=2, socket_timeout=30) as reader:

        async def send(number: int) -> None:
            await writer.xadd("bench", {"number": number, "data": json.dumps(_BODY)}, maxlen=1000)

        way = Way("bare Redis: XADD → XREAD", send)

        async def view() -> None:
            last = "$"
            while True:
                reply = cast("list[Any]", await reader.xread({"bench": last}, block=20_000))
                entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply[0][1] if reply else [])
                for entry_id, fields in entries:
                    last = entry_id.decode()
                    way.saw(int(fields[b"number"]))

        await writer.xadd("bench", {"number": -2})
        viewer = asyncio.create_task(view())
        await asyncio.sleep(0.2)
        try:
            yield way
        finally:
            viewer.cancel()
            await asyncio.gather(viewer, return_exceptions=True)


async def measure(rounds: int) -> list[Way]:
    """Run all ways in turns; the first tenth of the rounds is warm-up."""
    async with AsyncExitStack() as stack:
        processes = stack.enter_context(ExitStack())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = processes.enter_context(redis_server(folder))
        web, plain, metrics = free_port(), free_port(), free_port()
        shared = {"REDIS_URL": redis.address, "TEMPORAL_ADDRESS": "", "STORAGE_URL": folder.as_uri()}
        start(processes, [sys.executable, "-m", "services.projector"], {**shared, "METRICS_PORT": str(metrics)})
        uvicorn = [
            sys.executable,
            "-m",
            "uvicorn",
            "--log-level",
            "error",
            "--timeout-graceful-shutdown",
            "1",
            "--port",
        ]
        start(processes, [*uvicorn, str(web), "main:app"], {**shared, "METRICS_PORT": "0"})
        start(processes, [*uvicorn, str(plain), "bench.peers.usual_service:app"], shared)
        ours = await stack.enter_async_context(httpx2.AsyncClient(base_url=f"http://127.0.0.1:{web}"))
        theirs = await stack.enter_async_context(httpx2.AsyncClient(base_url=f"http://127.0.0.1:{plain}"))
        await until_ready(ours, "/readyz")
        await until_ready(ours, f"http://127.0.0.1:{metrics}/readyz")
        await until_ready(theirs, "/readyz")
        ways = [
            await stack.enter_async_context(
                sse_way("ours: HTTP → log → view → SSE", ours, "/stream/workflow/b", "/stream/publish/workflow/b")
            ),
            await stack.enter_async_context(redis_way(redis.address)),
            await stack.enter_async_context(
                sse_way("plain FastAPI + sse-starlette", theirs, "/stream/b", "/publish/b")
            ),
        ]
        for number in range(rounds + rounds // 10):
            for way in ways:
                await way.once(number, count=number >= rounds // 10)
                await asyncio.sleep(_PAUSE)
        return ways


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./run bench publish_to_sse", description=__doc__)
    parser.add_argument("--short", action="store_true", help="20 rounds instead of 500")
    rounds = 20 if parser.parse_args().short else 500
    print(f"{rounds} events a way, one at a time, {os.cpu_count()} cores\n", flush=True)
    ways = asyncio.run(measure(rounds))
    base = statistics.median(ways[0].times)
    rows = [[way.name, *quantiles(way.times), f"{base / statistics.median(way.times):.2f}"] for way in ways]
    print(table(("way", *QUANTILES, "ours ÷ this"), rows))


if __name__ == "__main__":
    main()
