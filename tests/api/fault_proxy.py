"""A TCP proxy that can be cut, or held so that nothing passes while connections stay open."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import urlsplit


class FaultProxy:
    """Stands before a server on loopback."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self._scheme = scheme
        self._target = (host, port)
        self._open = asyncio.Event()
        self._open.set()
        self._cut = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncGenerator[Self]:
        """A proxy to the server of `url`, open at first."""
        parts = urlsplit(url)
        proxy = cls(parts.scheme, parts.hostname or "", parts.port or 0)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.port = int(server.sockets[0].getsockname()[1])
        try:
            yield proxy
        finally:
            server.close()
            await proxy.cut()

    @property
    def url(self) -> str:
        """Address of the server by way of this proxy."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def hold(self) -> None:
        """Let no byte pass from now on; what arrives waits."""
        self._open.clear()

    def release(self) -> None:
        """Let everything pass again, also after a cut."""
        self._cut = False
        self._open.set()

    async def cut(self) -> None:
        """Close every connection, and each new one at once."""
        self._cut = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._cut:
            writer.close()
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            await self._join(reader, writer)
        writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        passing = [asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._answer(there, writer))]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.close()  # first: whoever cuts the proxy just now cancels what is waited for below
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

    async def _answer(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass the replies on."""
        await self._pass(source, sink)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._open.wait()
            sink.write(data)
            await sink.drain()
