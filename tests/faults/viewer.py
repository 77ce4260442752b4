"""A viewer as a browser is one: it reads, and comes back from where it was whenever its stream ends."""

import asyncio
import socket
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from typing import Any, cast
from urllib.parse import quote

from pydantic_core import from_json, to_json

from core.runtime.tasks import running
from pipai_contracts.ids import Topic
from tests.faults.history import Connected, Connecting, Dismissed, History, Received, Slept, Told, Warned

_COME_BACK_SECONDS = 0.2
_ANSWER_SECONDS = 10
_SILENCE_SECONDS = 30
"""Twice the time between two heartbeats."""

_BUFFER = 64 * 1024
_ANY_GZIP = 31
"""zlib's word for a stream with gzip's header."""


class Viewer:
    """Watches one topic, each time through the next of some api processes.

    ``cursor`` is where it stands, ``has_come`` whether it was connected once.
    ``buffer``: bytes the kernel, and this viewer, take before somebody looks at them. A small one makes a viewer that
    does not read felt soon.
    """

    def __init__(
        self,
        name: str,
        ports: Sequence[int],
        topic: Topic,
        history: History,
        *,
        gzip: bool = False,
        buffer: int = _BUFFER,
    ) -> None:
        self.name = name
        self.topic = topic
        self.cursor: str | None = None
        self.has_come = False
        self._ports = cycle(ports)
        self._path = f"/stream/{topic.kind}/{quote(topic.id, safe='')}"
        self._history = history
        self._gzip = gzip
        self._buffer = buffer
        self._awake = asyncio.Event()
        self._awake.set()
        self._writer: asyncio.StreamWriter | None = None

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Watch while the block lasts."""
        async with running(self._watch()):
            yield

    @asynccontextmanager
    async def asleep(self) -> AsyncGenerator[None]:
        """Read nothing while the block lasts; the connection stays open."""
        self._history.add(Slept(viewer=self.name, phase="begin"))
        self._awake.clear()
        yield
        self._awake.set()
        self._history.add(Slept(viewer=self.name, phase="end"))

    def cut(self) -> None:
        """Break its connection."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _watch(self) -> None:
        while True:
            with suppress(OSError, EOFError):  # it comes back, as EventSource does
                await self._stream(next(self._ports))
            await asyncio.sleep(_COME_BACK_SECONDS)

    async def _stream(self, port: int) -> None:
        self._history.add(Connecting(viewer=self.name, topic=self.topic.path, cursor=self.cursor))
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, self._writer = await self._connect(port)
        try:
            self._writer.write(self._request())
            async with asyncio.timeout(_ANSWER_SECONDS):
                status, _, _ = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            if b" 200 " in status:
                await self._read(reader)
        finally:
            self._writer.transport.abort()

    async def _connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = socket.socket()
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            return await asyncio.open_connection(sock=connection, limit=self._buffer)
        except BaseException:
            connection.close()
            raise

    def _request(self) -> bytes:
        lines = [f"GET {self._path} HTTP/1.1", "Host: test"]
        lines += ["Accept-Encoding: gzip"] if self._gzip else []
        lines += [f"Last-Event-ID: {self.cursor}"] if self.cursor is not None else []
        return "\r\n".join([*lines, "", ""]).encode()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        unpacked = zlib.decompressobj(_ANY_GZIP)
        text = b""
        while True:
            await self._awake.wait()
            async with asyncio.timeout(_SILENCE_SECONDS):
                size = int(await reader.readuntil(b"\r\n"), 16)
                part = (await reader.readexactly(size + 2))[:-2]
            if not size:
                return
            text += unpacked.decompress(part) if self._gzip else part
            *messages, text = text.split(b"\n\n")
            for message in messages:
                fields = (line.partition(": ") for line in message.decode().split("\n"))
                self._take({name: value for name, _, value in fields})

    def _take(self, fields: dict[str, str]) -> None:
        match fields.get("event"), fields.get("id"):
            case "error", _:
                self._history.add(Warned(viewer=self.name, code=_data(fields)["code"]))
            case "disconnected", _:
                self._history.add(Dismissed(viewer=self.name, reason=_data(fields)["reason"]))
            case str(event), str(cursor):
                self.cursor = cursor
                self._note(event, cursor, fields)
            case _:
                pass  # a comment, or what Temporal says, or the latest progress again: they have no position

    def _note(self, event: str, cursor: str, fields: dict[str, str]) -> None:
        if event == "connected":
            self.has_come = True
            data = _data(fields)
            stale = data.get("stale", False)
            answer = Connected(viewer=self.name, cursor=cursor, resumed=data["resumed"], stale=stale, view=_view(data))
            self._history.add(answer)
        elif event == "reset":
            data = _data(fields)
            self._history.add(Told(viewer=self.name, reason=data["reason"], cursor=cursor, view=_view(data)))
        else:
            self._history.add(Received(viewer=self.name, cursor=cursor, event=event, data=fields["data"]))


def _data(fields: dict[str, str]) -> dict[str, Any]:
    return cast("dict[str, Any]", from_json(fields["data"]))


def _view(data: dict[str, Any]) -> str | None:
    """The state's JSON, where one was sent."""
    return None if data.get("view") is None else to_json(data["view"]).decode()
