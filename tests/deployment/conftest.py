"""The gateway's real configuration, on free ports, in front of real services."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from core.runtime.http import create_app
from core.runtime.ports import free_port
from services.api.main import build as build_api
from services.api.settings import ApiSettings
from services.ingest.main import build as build_ingest
from services.ingest.settings import IngestSettings
from services.projector.main import build as build_projector
from services.projector.settings import ProjectorSettings
from tests.conftest import wait_until
from tests.deployment.compose import ROOT


@dataclass(frozen=True)
class Gateway:
    """A running gateway: its port, and a client that talks to it."""

    port: int
    client: httpx2.AsyncClient


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[int]:
    """The port `app` is served on while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="on", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await wait_until(lambda: server.started or task.done(), message="the service did not start")
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def rewritten(folder: Path, port: int, api: int, ingest: int) -> Path:
    """The gateway's configuration with other ports and its files below `folder`; nothing else is changed."""
    text = (ROOT / "ops/gateway/nginx.conf").read_text(encoding="utf-8")
    for old, new in (
        ("listen 8000;", f"listen 127.0.0.1:{port};"),
        ("api:8000;", f"127.0.0.1:{api};"),
        ("ingest:8001;", f"127.0.0.1:{ingest};"),
        ("/tmp/", f"{folder}/"),  # noqa: S108 - as the configuration has it
    ):
        assert old in text
        text = text.replace(old, new)
    file = folder / "nginx.conf"
    file.write_text(text, encoding="utf-8")
    return file


@contextmanager
def nginx(configuration: Path) -> Generator[subprocess.Popen[bytes]]:
    """Nginx in the foreground until the block ends."""
    as_root = "user root root; " if os.geteuid() == 0 else ""  # its workers could not enter the test's folder
    command = ["nginx", "-e", "stderr", "-c", str(configuration), "-g", f"{as_root}daemon off;"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.fixture(autouse=True)
def no_temporal_of_the_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's own Temporal settings out."""
    for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """The gateway in front of an api, an ingest and a projector of this test."""
    shared: dict[str, Any] = {"redis_url": redis_url, "key_prefix": key_prefix, "stream_block_time": 100}
    api = build_api(ApiSettings(**shared, heartbeat_interval=1))
    ingest = build_ingest(IngestSettings(**shared, storage_url=(tmp_path / "uploads").as_uri()))
    async with AsyncExitStack() as stack:
        projector = build_projector(ProjectorSettings(**shared), stack)
        await stack.enter_async_context(projector.running())
        api_port = await stack.enter_async_context(serving(create_app(api, title="api")))
        ingest_port = await stack.enter_async_context(serving(create_app(ingest, title="ingest")))
        async with gateway_to(api_port, ingest_port, tmp_path) as found:
            yield found


@asynccontextmanager
async def gateway_to(api_port: int, ingest_port: int, folder: Path) -> AsyncGenerator[Gateway]:
    """The gateway in front of these ports."""
    port = free_port()
    with nginx(rewritten(folder, port, api_port, ingest_port)) as process:

        def answers() -> bool:
            assert process.poll() is None, f"nginx ended: {process.stderr and process.stderr.read().decode()}"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        await wait_until(answers, message="nginx does not listen")
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            yield Gateway(port, client)
