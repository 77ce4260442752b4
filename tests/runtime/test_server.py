"""What a server does between the signal and its end."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from structlog.testing import capture_logs

from core.runtime.server import DrainingServer, http_config
from tests.conftest import wait_until


async def _stopped(drain: Callable[[int], Awaitable[None]]) -> list[str]:
    """Have a server stop, which calls ``drain`` with its port; returns what it logged."""
    with socket.create_server(("127.0.0.1", 0)) as listener, capture_logs() as lines:
        port = int(listener.getsockname()[1])
        server = DrainingServer(http_config(FastAPI(), "127.0.0.1", port), lambda: drain(port))
        serving = asyncio.create_task(server.serve([listener]))
        await wait_until(lambda: server.started)
        server.should_exit = True
        async with asyncio.timeout(10):
            await serving
    return [line["event"] for line in lines]


async def test_it_answers_while_it_drains() -> None:
    answers: list[bytes] = []

    async def drain(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        answers.append(await reader.readline())
        writer.close()
        await writer.wait_closed()

    assert await _stopped(drain) == []
    assert answers == [b"HTTP/1.1 404 Not Found\r\n"]


async def test_a_drain_that_fails_is_told_and_does_not_keep_the_server_from_its_end() -> None:
    async def drain(_: int) -> None:
        raise LookupError("a viewer")

    assert await _stopped(drain) == ["drain failed, so viewers are cut off"]
