"""An api with events, and the users' program on it."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from services.api.settings import ApiSettings
from tests.api.conftest import Api, no_temporal_of_the_surroundings, producer, serving
from tests.conftest import wait_until
from tests.projector.conftest import quick_watch

__all__ = ["no_temporal_of_the_surroundings", "producer", "quick_watch"]


class Said(NamedTuple):
    """How a call of the program ended, and what it wrote."""

    code: int | None
    out: str
    err: str


Pipai = Callable[..., Awaitable[Said]]
"""Runs ``pipai`` with these arguments."""


@pytest.fixture
async def api(redis_url: str, key_prefix: str) -> AsyncIterator[Api]:
    values = {"redis_url": redis_url, "key_prefix": key_prefix, "stream_block_time": 200}
    async with serving(ApiSettings.model_validate(values)) as api:
        await wait_until(api.ready)
        yield api


@pytest.fixture
def pipai(api: Api) -> Pipai:
    """The program on this test's api."""

    async def _pipai(*arguments: str) -> Said:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipai", *arguments,
            env={**os.environ, "PIPAI_URL": f"http://127.0.0.1:{api.port}"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await program.communicate()
        return Said(program.returncode, out.decode(), err.decode())

    return _pipai


@asynccontextmanager
async def answering(kind: str, *bodies: str) -> AsyncGenerator[tuple[str, list[str]]]:
    """A server that answers with these in turn, then with the last again; its address, and what it was asked for."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n"
        writer.write((head + bodies[min(len(asked), len(bodies)) - 1]).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
