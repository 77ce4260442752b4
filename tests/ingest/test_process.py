"""Ingest as a process of its own."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from core.runtime.ports import free_port
from tests.conftest import wait_until


@pytest.fixture
def environment(redis_url: str, key_prefix: str, storage: Path) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "KEY_PREFIX": key_prefix,
        "STORAGE_URL": storage.as_uri(),
        "PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
    }


@asynccontextmanager
async def _process(environment: dict[str, str]) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.ingest",
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_serves_publishing_and_its_metrics_and_stops_when_told(environment: dict[str, str]) -> None:
    ingest = f"http://127.0.0.1:{environment['PORT']}"
    async with _process(environment) as process, httpx2.AsyncClient() as client:

        async def ready() -> bool:
            try:
                return (await client.get(f"{ingest}/readyz")).status_code == 200
            except httpx2.TransportError:
                return False

        await wait_until(ready, 30)
        body = {"step": "s", "progress": 1}
        assert (await client.post(f"{ingest}/stream/publish/workflow/w", json=body)).status_code == 202
        metrics = (await client.get(f"http://127.0.0.1:{environment['METRICS_PORT']}/metrics")).text
        assert 'pipai_published_events_total{outcome="appended",type="workflow_progress"} 1.0' in metrics
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await process.wait()


async def test_a_taken_metrics_port_is_named_in_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with _process({**environment, "METRICS_PORT": str(port)}) as process:
            _, errors = await process.communicate()
    assert process.returncode == 1
    [line] = errors.decode().splitlines()
    assert f"port {port} " in line
    assert "METRICS_PORT" in line
