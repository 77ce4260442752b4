"""Several processes behind one port."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from core.runtime.ports import free_port
from tests.api.conftest import Api, Producer
from tests.conftest import wait_until

WORKERS = 2
VIEWERS = 40


@dataclass
class Service:
    """``API_WORKERS=2 python -m services.api``."""

    process: asyncio.subprocess.Process
    api: Api
    metrics: httpx2.AsyncClient

    def workers(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def shares(self) -> list[int]:
        """How many connections to the port each worker has."""
        return [
            sum(connection.laddr.port == self.api.port for connection in psutil.Process(worker).net_connections("tcp"))
            for worker in self.workers()
        ]

    async def ready(self) -> bool:
        try:
            return (await self.metrics.get("/readyz")).status_code == 200 and await self.api.ready()
        except httpx2.TransportError:
            return False

    async def counted(self, metric: str) -> float:
        text = (await self.metrics.get("/metrics")).text
        return sum(float(value) for value in re.findall(rf"^{metric}(?:{{.*}})? (.*)$", text, re.MULTILINE))


@pytest.fixture
async def service(redis_url: str, key_prefix: str, tmp_path: Path) -> AsyncIterator[Service]:
    port, metrics_port = free_port(), free_port()
    own = {"REDIS_URL": redis_url, "KEY_PREFIX": key_prefix, "PORT": str(port), "METRICS_PORT": str(metrics_port)}
    own |= {"TMPDIR": str(tmp_path)}
    own |= {"API_WORKERS": str(WORKERS), "DRAIN_SECONDS": "1", "STREAM_BLOCK_TIME": "200"}
    with (tmp_path / "api.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.api", env={**os.environ, **own}, stderr=log
        )
    async with (
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{metrics_port}", timeout=10) as metrics,
    ):
        service = Service(process, Api(port, client), metrics)
        try:
            await wait_until(service.ready, 60, (tmp_path / "api.log").read_text())
            yield service
        finally:
            for pid in service.workers() if process.returncode is None else ():
                os.kill(pid, signal.SIGKILL)
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_all_serve_one_port_one_scrape_covers_them_and_a_dead_one_is_replaced(
    service: Service, producer: Producer
) -> None:
    before = service.workers()
    assert len(before) == WORKERS
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(service.api.watching("/stream/user/ann")) for _ in range(VIEWERS)]
        for stream in streams:
            await stream.next()
        assert await service.counted("pipai_active_streams") == VIEWERS
        if sys.platform == "linux":  # they stay for hours: who was free for a moment must not have got them all
            assert max(service.shares()) < VIEWERS * 0.85
        await wait_until(lambda: _streams(service, VIEWERS))
        await producer.progress("w", 1, user_id="ann")
        for stream in streams:
            assert (await stream.next()).data["progress"] == 1
        await wait_until(lambda: _delivered(service, VIEWERS))

        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        await wait_until(lambda: len(service.workers() - {victim}) == WORKERS, 30)
        await wait_until(service.ready, 30)
        left = [stream for stream in streams if not stream.ended]
        await wait_until(lambda: _active(service, len(left)))
        assert await service.counted("pipai_delivered_events_total") == VIEWERS, "what was counted stays counted"
        await producer.progress("w", 2, user_id="ann")
        for stream in left:
            assert (await stream.next()).data["progress"] == 2
        await wait_until(lambda: _delivered(service, VIEWERS + len(left)))


async def test_the_service_is_ready_only_while_all_workers_are(service: Service) -> None:
    still = min(service.workers())
    os.kill(still, signal.SIGSTOP)
    try:
        await wait_until(lambda: _says_who_is_missing(service), 30)
    finally:
        os.kill(still, signal.SIGCONT)
    await wait_until(service.ready, 30)


async def test_workers_end_with_their_parent_however_that_ends(service: Service, tmp_path: Path) -> None:
    workers = service.workers()
    async with service.api.watching("/stream/user/ann") as stream:
        await stream.next()
        service.process.kill()
        await service.process.wait()
        assert (await stream.rest())[-1].data["reason"] == "draining"
    await wait_until(lambda: not any(psutil.pid_exists(worker) for worker in workers), 30)
    assert _shared_folders(tmp_path) == []


async def test_told_to_stop_each_drains_and_the_service_ends_well(service: Service) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(service.api.watching("/stream/user/ann")) for _ in range(VIEWERS)]
        for stream in streams:
            await stream.next()
        service.process.send_signal(signal.SIGTERM)
        for stream in streams:
            assert (await stream.rest())[-1].data["reason"] == "draining"
        async with asyncio.timeout(15):
            assert await service.process.wait() == 0


def _shared_folders(folder: Path) -> list[Path]:
    return list(folder.glob("pipai-workers-*"))


async def _says_who_is_missing(service: Service) -> bool:
    answer = await service.metrics.get("/readyz")
    return (answer.status_code, answer.text) == (503, f"{WORKERS - 1} of {WORKERS} workers are ready\n")


async def _streams(service: Service, count: int) -> bool:
    return await service.api.active_streams() == count


async def _active(service: Service, count: int) -> bool:
    return await service.counted("pipai_active_streams") == count


async def _delivered(service: Service, count: int) -> bool:
    return await service.counted("pipai_delivered_events_total") == count
