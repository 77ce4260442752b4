"""The worker as a process: where it finds Temporal, and what it says when it does not."""

import os
import sys
from asyncio import create_subprocess_exec, to_thread
from asyncio.subprocess import PIPE
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from core.runtime.ports import free_port
from services.standalone.embedded import temporal_server
from tests.conftest import wait_until


async def test_without_temporal_configured_it_says_so_and_ends() -> None:
    process = await create_subprocess_exec(
        sys.executable, "-m", "services.worker", env={"PATH": os.environ["PATH"]}, stderr=PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"set TEMPORAL_ADDRESS" in said


async def test_it_waits_for_temporal_and_is_ready_when_it_comes(tmp_path: Path, redis_url: str) -> None:
    port, metrics = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": redis_url,
        "TEMPORAL_ADDRESS": f"127.0.0.1:{port}",
        "STORAGE_URL": (tmp_path / "storage").as_uri(),
        "METRICS_PORT": str(metrics),
    }
    process = await create_subprocess_exec(sys.executable, "-m", "services.worker", env=environment, stderr=PIPE)

    def ask(path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{metrics}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode().strip()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode().strip()
        except OSError:
            return 0, ""

    async def waits() -> bool:
        return await to_thread(ask, "/readyz") == (503, "waiting for Temporal")

    async def ready() -> bool:
        return await to_thread(ask, "/readyz") == (200, "ready")

    await wait_until(waits, 20)
    with temporal_server(tmp_path / "temporal", port):
        await wait_until(ready, 30)
        assert "pipai_documents_total" in (await to_thread(ask, "/metrics"))[1]
        process.terminate()
        _, said = await process.communicate()
    assert process.returncode == 0
    assert said.count(b"Temporal does not answer") == 1


async def test_it_can_be_stopped_while_it_waits(tmp_path: Path, redis_url: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": redis_url,
        "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}",
        "STORAGE_URL": (tmp_path / "storage").as_uri(),
        "METRICS_PORT": "0",
    }
    process = await create_subprocess_exec(sys.executable, "-m", "services.worker", env=environment, stderr=PIPE)
    assert process.stderr is not None
    assert b"Temporal does not answer" in await process.stderr.readline()
    process.terminate()
    await process.communicate()
    assert process.returncode == 0
