"""Ingest on a free port, in front of the test run's Redis and Temporal."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
import uvicorn
from redis.asyncio import Redis

from core.log.keys import Keys
from core.runtime.http import create_app
from services.ingest.main import build
from services.ingest.settings import IngestSettings
from tests.conftest import wait_until

Fields = dict[str, str]
StoredFiles = Callable[[], list[Path]]


class Serve(Protocol):
    """Starts ingest with its own settings on top of the test's."""

    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[httpx2.AsyncClient]: ...


class Log:
    """What stands in the source streams of this test."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self.redis: Any = redis  # redis-py's answers are typed for every client and setting at once
        self.keys = Keys(prefix)
        self._prefix = prefix

    async def events(self, source: str) -> list[Fields]:
        """The fields of all entries of one source stream."""
        entries = await self.redis.xrange(f"{self._prefix}:{source}")
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]

    async def every_key(self) -> dict[str, bytes]:
        """Name and content of every key of this test but its layout: equal before and after when nothing was stored."""
        names = sorted([key.decode() async for key in self.redis.scan_iter(match=f"*{self._prefix}*")])
        names = [name for name in names if name != f"{self._prefix}:layout"]
        return {name: await self.redis.dump(name) for name in names}


@pytest.fixture(autouse=True)
def no_temporal_of_the_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's own Temporal settings out."""
    for name in ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


@pytest.fixture
def serve(redis_url: str, key_prefix: str, storage: Path) -> Serve:
    """To start ingest with settings of one's own; gives a client that talks to it."""

    @asynccontextmanager
    async def _serve(**overrides: Any) -> AsyncGenerator[httpx2.AsyncClient]:
        values = {
            "redis_url": redis_url,
            "key_prefix": key_prefix,
            "storage_url": storage.as_uri(),
            "watch_interval": 0.1,
        }
        settings = IngestSettings.model_validate({**values, **overrides})
        async with serving(settings) as address, httpx2.AsyncClient(base_url=address) as client:
            yield client

    return _serve


@asynccontextmanager
async def serving(settings: IngestSettings) -> AsyncGenerator[str]:
    """The address of ingest, served by uvicorn as in production."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(build(settings), title="ingest")
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="on"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await wait_until(lambda: server.started or task.done(), message="ingest did not start")
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an ingest without Temporal."""
    async with serve() as client:
        yield client


@pytest.fixture
async def log(redis_url: str, key_prefix: str) -> AsyncIterator[Log]:
    async with Redis.from_url(redis_url) as redis:
        yield Log(redis, key_prefix)


@pytest.fixture
def stored_files(storage: Path) -> StoredFiles:
    """Calls give the files that are in the storage now."""
    return lambda: files_in(storage)


def files_in(folder: Path) -> list[Path]:
    """All files below the folder, half-written ones too."""
    return [path for path in folder.rglob("*") if path.is_file()]
