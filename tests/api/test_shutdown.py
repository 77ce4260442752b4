"""A real process that is told to stop while viewers watch."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from core.runtime.ports import free_port
from tests.api.conftest import Api, Producer
from tests.api.fault_proxy import FaultProxy
from tests.api.stream import Stream
from tests.api.test_replay import log_at
from tests.conftest import wait_until

Start = Callable[..., Awaitable[tuple[asyncio.subprocess.Process, Api]]]


@pytest.fixture
async def start(redis_url: str, key_prefix: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts `python -m services.api` with these settings and waits until it is ready; its log is in `tmp_path`."""
    started: list[tuple[asyncio.subprocess.Process, httpx2.AsyncClient]] = []

    async def _start(**settings: str) -> tuple[asyncio.subprocess.Process, Api]:
        port = int(settings.get("PORT") or free_port())
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


async def _stop_while_these_watch(
    many: int, process: asyncio.subprocess.Process, api: Api, stack: AsyncExitStack
) -> list[Stream]:
    """Tell the process to stop; the first viewer has left when this returns."""
    streams = [await stack.enter_async_context(api.watching(f"/stream/workflow/{n}")) for n in range(many)]
    for stream in streams:
        await stream.next()
    process.send_signal(signal.SIGTERM)
    await wait_until(lambda: any(stream.ended for stream in streams))
    return streams


async def test_a_process_that_drains_is_not_ready_lets_nobody_in_and_says_when_to_come_back(start: Start) -> None:
    process, api = await start(RECONNECT_INTERVAL="5000")
    async with AsyncExitStack() as stack:
        streams = await _stop_while_these_watch(40, process, api, stack)
        ready, refused = await api.client.get("/readyz"), await api.client.post("/stream", json={"topics": ["user:u"]})
        for address in ("/stream/workflow/new", "/stream?topic=workflow:new", "/stream/system"):
            with pytest.raises(
                httpx2.RemoteProtocolError
            ):  # as if it broke: EventSource would not come back from a 503
                await api.client.get(address)
        assert (ready.status_code, refused.status_code) == (503, 503)
        assert refused.json()["type"] == "/problems/draining"
        assert refused.headers["retry-after"] == "1"
        farewells = [(await stream.rest())[-1] for stream in streams]
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    assert {farewell.data["reason"] for farewell in farewells} == {"draining"}
    waits = [farewell.retry or 0 for farewell in farewells]
    assert all(500 <= wait <= 5000 for wait in waits)
    assert len(set(waits)) > 20


async def test_who_is_shown_the_past_is_sent_away_too(start: Start, producer: Producer) -> None:
    process, api = await start()
    for hour, progress in enumerate((10, 20)):
        await log_at(producer, 1_700_000_000_000 + 3_600_000 * hour, progress)
    async with api.watching("/replay/workflow/w") as stream:
        await stream.until(lambda frame: frame.event == "workflow_progress")
        process.send_signal(signal.SIGTERM)
        [farewell] = await stream.rest()
        assert (farewell.data["reason"], farewell.data["reconnect"]) == ("draining", True)
        assert farewell.retry
        async with asyncio.timeout(5):
            assert await process.wait() == 0


async def test_a_second_signal_ends_a_drain(start: Start) -> None:
    process, api = await start(DRAIN_SECONDS="600")
    async with AsyncExitStack() as stack:
        await _stop_while_these_watch(200, process, api, stack)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(6):
            assert await process.wait() == 0


async def test_a_full_process_says_so(start: Start) -> None:
    _, api = await start(STREAM_MAX_CONNECTIONS="2")
    async with api.watching("/stream/workflow/a") as one, api.watching("/stream?topic=user:u") as two:
        await one.next()
        await two.next()
        for target in ("/stream/workflow/b", "/stream?topic=user:v", "/stream/system"):
            answer = await api.client.get(target)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/full")
            assert answer.headers["retry-after"] == "1"
        assert (await api.client.get("/readyz")).status_code == 200
    await wait_until(lambda: _lets_in(api))


async def _lets_in(api: Api) -> bool:
    async with api.watching("/stream/workflow/b") as stream:
        return stream.status == 200


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
