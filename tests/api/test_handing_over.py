"""From the request to the stream: what a connection may do before it is the viewer's."""

import asyncio
import logging
from typing import Any

import anyio
import pytest
from starlette.types import Message

from core.runtime.http_protocol import TAKE_OVER
from services.api.outlets import Outlet
from services.api.stream_response import StreamResponse
from tests.api.conftest import Serve
from tests.api.fault_proxy import FaultProxy
from tests.conftest import wait_until


async def test_who_leaves_while_the_topic_is_looked_up_is_not_served(
    serve: Serve, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A viewer whose connection is gone already hears of no end: it would be written to for ever."""
    async with serve(redis_url=proxy.url) as api:
        await wait_until(api.ready)
        proxy.hold()
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"GET /stream/workflow/w HTTP/1.1\r\nHost: test\r\n\r\n")
        await writer.drain()
        staying = asyncio.create_task(_first_event(api.watching("/stream/workflow/w")))
        writer.close()
        await writer.wait_closed()
        proxy.release()
        assert await staying == "connected"
        await wait_until(lambda: _streams_are(api, 0))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def _first_event(watching: Any) -> str:
    async with watching as stream:
        return (await stream.next()).event


async def _streams_are(api: Any, count: int) -> bool:
    return await api.active_streams() == count


class _Connection:
    """What a server gives an application: an earlier answer is unread until `read` is set."""

    def __init__(self, transport: Any = None) -> None:
        self.read = asyncio.Event()
        self.began = False
        self.taken = False
        self.scope: dict[str, Any] = {"type": "http", "extensions": {TAKE_OVER: self._take_over}}
        self._transport = transport

    async def receive(self) -> Message:
        raise AssertionError("nobody asks")

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            assert (b"connection", b"close") in message["headers"]
        else:
            await self.read.wait()

    def _take_over(self, _: asyncio.Protocol) -> Any:
        self.taken = True
        return self._transport


async def test_a_connection_is_taken_over_only_once_earlier_answers_are_read() -> None:
    """Else what is written behind them is never too much: the server was told so already, the outlet is not."""

    async def serve(_: Outlet) -> None:
        raise AssertionError("the client is gone")

    connection = _Connection()
    response = StreamResponse(serve, anyio.Event())
    answering = asyncio.create_task(response(connection.scope, connection.receive, connection.send))
    await wait_until(lambda: connection.began)
    assert not connection.taken
    connection.read.set()
    await answering
    assert connection.taken
