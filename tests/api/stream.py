"""A viewer on a bare socket: it sees every byte, and reads only when it is told to."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from jsonschema import Draft202012Validator

from pipai_contracts.metadata import stream_metadata
from tests.conftest import wait_until

SECONDS = 15
"""How long a viewer waits for anything before its test fails."""


@cache
def _validator(event: str) -> Draft202012Validator:
    metadata = stream_metadata(heartbeat=1, reconnect_interval=1, max_reconnect_attempts=1)
    return Draft202012Validator((metadata.events | metadata.control)[event])


@dataclass(frozen=True, slots=True)
class Frame:
    """One SSE message, or a comment (`event` None). `raw` is without the line end and blank line after it."""

    raw: bytes
    event: str | None
    data: Any
    id: str | None
    retry: int | None

    @property
    def pos(self) -> int:
        """The position in `id`; 0 for the cursor of a topic nobody published to."""
        return int((self.id or "0").rpartition(".")[2])


def parse_frame(raw: bytes) -> Frame:
    """Read a message; one with a line that is no known field fails the test."""
    fields: dict[str, str] = {}
    for line in raw.decode().split("\n"):
        name, separator, value = line.partition(": ")
        assert separator, f"not a field: {line!r}"
        assert name in {"", "id", "event", "data", "retry"}, f"unknown field: {line!r}"
        assert name not in fields, f"a field twice: {raw!r}"
        fields[name] = value
    data = json.loads(fields["data"]) if "data" in fields else None
    retry = int(fields["retry"]) if "retry" in fields else None
    return Frame(raw, fields.get("event"), data, fields.get("id"), retry)


def parse_frames(body: bytes) -> tuple[list[Frame], bytes]:
    """Read messages, which end with a blank line, and comments, which are a line; returns what is not whole too."""
    frames: list[Frame] = []
    begin = 0
    while True:
        ending = b"\n" if body.startswith(b":", begin) else b"\n\n"
        end = body.find(ending, begin)
        if end < 0:
            return frames, body[begin:]
        frames.append(parse_frame(body[begin:end]))
        begin = end + len(ending)


class Stream:
    """An open response. `frames` is everything so far; `next()` gives the events one by one."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str]
    ) -> None:
        self.status = status
        self.headers = headers
        self.frames: list[Frame] = []
        self.ended = False
        self._reader = reader
        self._writer = writer
        self._given = 0
        self._changed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    def read(self) -> None:
        """Begin to read; before that the bytes wait in the connection."""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        body = b""
        try:
            while size := int(await self._reader.readline() or b"0", 16):
                body += await self._reader.readexactly(size)
                await self._reader.readexactly(2)
                frames, body = parse_frames(body)
                self.frames += frames
                self._changed.set()
        finally:
            self.ended = True
            self._changed.set()

    async def next(self) -> Frame:
        """The next event, which is as ``/stream/metadata`` says; comments are passed over."""
        frame = await self._next()
        assert frame is not None, f"the stream ended after {self.events()}"
        assert frame.event is not None
        _validator(frame.event).validate(frame.data)
        return frame

    async def rest(self) -> list[Frame]:
        """The events until the server ends the stream."""
        frames: list[Frame] = []
        while (frame := await self._next()) is not None:
            frames.append(frame)
        return frames

    async def until(self, found: Callable[[Frame], bool]) -> list[Frame]:
        """The next events up to the first that is `found`."""
        frames = [await self.next()]
        while not found(frames[-1]):
            frames.append(await self.next())
        return frames

    async def _next(self) -> Frame | None:
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    while self._given < len(self.frames):
                        self._given += 1
                        if self.frames[self._given - 1].event is not None:
                            return self.frames[self._given - 1]
                    if self.ended:
                        return None
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"nothing more came after {self.events()}") from None

    async def comments(self, count: int) -> list[Frame]:
        """The first comments, once there are as many."""

        def found() -> list[Frame]:
            comments = [frame for frame in self.frames if frame.event is None]
            return comments if len(comments) >= count else []

        return await wait_until(found, SECONDS)

    def events(self) -> list[str]:
        """Names of the events so far."""
        return [frame.event for frame in self.frames if frame.event is not None]

    async def close(self) -> None:
        """Go away, as a closed tab does."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


@asynccontextmanager
async def opened(
    port: int,
    target: str | bytes,
    headers: Mapping[str, str] | None = None,
    *,
    body: bytes | None = None,
    receive_buffer: int | None = None,
) -> AsyncGenerator[Stream]:
    """The response to a GET, or a POST of `body`, for exactly this target; reading it has not begun.

    `receive_buffer`: bytes the kernel takes for this viewer, so that one who does not read is felt soon.
    """
    connection = socket.socket()
    connection.setblocking(False)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    async with asyncio.timeout(SECONDS):
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=connection)
        method = b"GET" if body is None else b"POST"
        lines = [b"%s %s HTTP/1.1" % (method, target.encode() if isinstance(target, str) else target), b"Host: test"]
        lines += [b"Content-Length: %d" % len(body)] if body else []
        lines += [f"{name}: {value}".encode() for name, value in (headers or {}).items()]
        writer.write(b"\r\n".join([*lines, b"", body or b""]))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = [line.split(": ", 1) for line in head[1:] if line]
    found = {name.lower(): value for name, value in cast("list[tuple[str, str]]", pairs)}
    stream = Stream(reader, writer, int(head[0].split(" ")[1]), found)
    try:
        yield stream
    finally:
        await stream.close()
