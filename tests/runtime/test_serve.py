"""A service as a process of its own: its ports and its exit code."""

import asyncio
import os
import re
import socket
import sys
from http.client import HTTPConnection

from core.runtime.ports import free_port
from tests.conftest import wait_until


async def _start(**settings: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1", **settings}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.api", env=environment, stderr=asyncio.subprocess.PIPE
    )


async def test_a_taken_metrics_port_is_one_sentence_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await _start(METRICS_PORT=str(port), PORT="0")
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_a_taken_port_is_one_sentence_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await _start(METRICS_PORT="0", PORT=str(port))
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode not in {0, None}
    assert "address already in use" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_a_port_that_is_taken_is_not_shared_with_who_has_it() -> None:
    """Workers share theirs with each other; a second start of the same service must not join in unnoticed."""
    with socket.socket() as taken:
        if hasattr(socket, "SO_REUSEPORT"):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await _start(METRICS_PORT="0", PORT=str(taken.getsockname()[1]), API_WORKERS="2")
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert "ddress already in use" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_metrics_have_a_port_of_their_own() -> None:
    port, metrics_port = free_port(), free_port()
    process = await _start(METRICS_PORT=str(metrics_port), PORT=str(port))

    def scrape() -> str:
        connection = HTTPConnection("127.0.0.1", metrics_port, timeout=5)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()

    try:
        text = await wait_until(scrape, 20)
        assert re.search(r"^# TYPE pipai_active_streams gauge$", text, re.MULTILINE)
        assert "pipai_delivery_seconds_bucket" in text
    finally:
        process.terminate()
        await process.communicate()
