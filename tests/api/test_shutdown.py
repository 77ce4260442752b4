"""A real process that is told to stop while viewers watch."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from services.standalone.embedded import next_free_port
from tests.api.conftest import Api, Producer
from tests.api.fault_proxy import FaultProxy
from tests.conftest import wait_until

Start = Callable[..., Awaitable[tuple[asyncio.subprocess.Process, Api]]]


@pytest.fixture
async def start(redis_url: str, key_prefix: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts `python -m services.api` with these settings and waits until it is ready; its log is in `tmp_path`."""
    started: list[tuple[asyncio.subprocess.Process, httpx2.AsyncClient]] = []

    async def _start(**settings: str) -> tuple[asyncio.subprocess.Process, Api]:
        port = next_free_port(0)
        own = {"REDIS_URL": redis_url, "KEY_PREFIX": key_prefix, "PORT": str(port), "METRICS_PORT": "0"}
        with (tmp_path / "api.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.api", env={**os.environ, **own, **settings}, stderr=log
            )
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}")
        started.append((process, client))

        async def ready() -> bool:
            assert process.returncode is None, (tmp_path / "api.log").read_text()
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx2.TransportError:
                return False

        await wait_until(ready, 30)
        return process, Api(port, client)

    yield _start
    for process, client in started:
        await client.aclose()
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_viewers_are_told_and_the_process_ends_in_time(
    start: Start, number: signal.Signals, tmp_path: Path
) -> None:
    process, api = await start()
    async with (
        api.watching("/stream/workflow/w") as one,
        api.watching("/stream/user/u") as two,
        api.watching("/stream/file/f", read=False),
    ):
        await one.next()
        await two.next()
        process.send_signal(number)
        async with asyncio.timeout(5):
            for stream in (one, two):
                [farewell] = await stream.rest()
                assert farewell.event == "disconnected"
                assert (farewell.data["reason"], farewell.data["reconnect"]) == ("draining", True)
                assert farewell.id is None
            assert await process.wait() == 0
    log = (tmp_path / "api.log").read_text()
    assert "Traceback" not in log
    assert "never retrieved" not in log


async def test_a_redis_that_hangs_does_not_hold_a_shutdown_up(start: Start, proxy: FaultProxy) -> None:
    process, api = await start(REDIS_URL=proxy.url)
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        proxy.hold()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert [frame.event for frame in await stream.rest()] == ["disconnected"]
            assert await process.wait() == 0
    proxy.release()


async def test_a_delivered_event_is_a_log_line_in_debug_mode_and_says_nothing_of_its_content(
    start: Start, producer: Producer, tmp_path: Path
) -> None:
    _, api = await start(DEBUG="true")
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 1, 2, message="confidential", metadata={"secret": "confidential"})
        await stream.until(lambda frame: frame.pos == 2)
    log = (tmp_path / "api.log").read_text()
    lines = [line for line in log.splitlines() if "stream event delivered" in line]
    assert len(lines) == 2
    assert "default:workflow:w" in lines[0]
    assert '"pos": 2' in lines[1]
    assert "confidential" not in log


async def test_events_leave_no_log_lines_otherwise(start: Start, producer: Producer, tmp_path: Path) -> None:
    _, api = await start()
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 1)
        await stream.next()
    assert "delivered" not in (tmp_path / "api.log").read_text()
