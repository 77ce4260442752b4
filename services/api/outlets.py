"""How a stream's bytes leave the process.

Straight into the connection's transport, where the server hands that over (`core.runtime.http_protocol`); else through
sse-starlette. Nothing waits for a viewer: what it does not read is bounded, and it is told when it could not keep up.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from typing import Final, Protocol

from services.api.pieces import Piece, chunk

HIGH_WATER: Final = 256 * 1024
"""Bytes that wait for a viewer; above it nothing more is written until a quarter is left."""

_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_CLOSE_SECONDS: Final = 10.0
"""For what is still to be sent when a stream ends; then the connection is cut."""


class Writer(Protocol):
    """Who writes through an outlet, and is told how that goes."""

    def paused(self) -> None:
        """Too much waits."""
        ...

    def resumed(self) -> None:
        """Most of it was read."""
        ...

    def gone(self) -> None:
        """The connection is closed."""
        ...


class Outlet(Protocol):
    """One open response."""

    writer: Writer
    paused: bool

    def write(self, piece: Piece, /) -> None:
        """Send it, after everything before it."""
        ...

    def close(self) -> None:
        """End the response once everything is sent."""
        ...


class TransportOutlet(asyncio.Protocol):
    """Writes to a connection that the HTTP server has handed over, as a chunked body."""

    __slots__ = ("_transport", "paused", "writer")

    writer: Writer

    def __init__(self) -> None:
        self.paused = False

    def begin(self, transport: asyncio.Transport) -> None:
        """Write to this connection."""
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def write(self, piece: Piece, /) -> None:
        """Send it, after everything before it."""
        self._transport.write(piece.chunk)

    def close(self) -> None:
        """End the response once everything is sent."""
        transport = self._transport
        if not transport.is_closing():
            self._write_end()
            transport.close()
            asyncio.get_running_loop().call_later(_CLOSE_SECONDS, transport.abort)

    def _write_end(self) -> None:
        self._transport.write(_LAST_CHUNK)

    def data_received(self, data: bytes) -> None:
        """Whatever a viewer says while it watches is not listened to."""

    def pause_writing(self) -> None:
        """The transport holds more than `HIGH_WATER`."""
        self.paused = True
        self.writer.paused()

    def resume_writing(self) -> None:
        """The viewer has read most of it."""
        self.paused = False
        self.writer.resumed()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """The viewer left, or the stream was closed."""
        self.writer.gone()


class GzipTransportOutlet(TransportOutlet):
    """The same, compressed: blocks are shared, only the trailer is this connection's own."""

    __slots__ = ("_crc", "_size")

    def begin(self, transport: asyncio.Transport) -> None:
        """Write to this connection."""
        super().begin(transport)
        self._crc = self._size = 0
        transport.write(chunk(_GZIP_HEADER))

    def write(self, piece: Piece, /) -> None:
        """Send it, after everything before it."""
        self._crc = zlib.crc32(piece.raw, self._crc)
        self._size += len(piece.raw)
        self._transport.write(piece.deflated_chunk)

    def _write_end(self) -> None:
        self._transport.write(chunk(gzip_trailer(self._crc, self._size)) + _LAST_CHUNK)


class QueueOutlet:
    """Keeps the bytes for an ASGI response that asks for them one by one."""

    __slots__ = ("_closed", "_crc", "_gzip", "_queued", "_size", "_waiting", "_wake", "paused", "writer")

    writer: Writer

    def __init__(self, *, gzip: bool) -> None:
        self.paused = False
        self._gzip = gzip
        self._crc = self._size = 0
        self._waiting: list[bytes] = [_GZIP_HEADER] if gzip else []
        self._queued = 0
        self._wake = asyncio.Event()
        self._closed = False

    def write(self, piece: Piece, /) -> None:
        """Send it, after everything before it."""
        self._crc = zlib.crc32(piece.raw, self._crc) if self._gzip else 0
        self._size += len(piece.raw)
        self._waiting.append(piece.deflated if self._gzip else piece.raw)
        self._queued += len(piece.raw)
        self._wake.set()
        if self._queued > HIGH_WATER and not self.paused:
            self.paused = True
            self.writer.paused()

    def close(self) -> None:
        """End the response once everything is sent."""
        if self._gzip and not self._closed:
            self._waiting.append(gzip_trailer(self._crc, self._size))
        self._closed = True
        self._wake.set()

    async def body(self) -> AsyncGenerator[bytes]:
        """The response's body; each part is taken when the one before has left."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            parts, self._waiting, self._queued = self._waiting, [], 0
            if parts:
                yield b"".join(parts)
            if self.paused and not self._queued:
                self.paused = False
                self.writer.resumed()
            if self._closed and not self._waiting:
                return


def gzip_trailer(crc: int, size: int) -> bytes:
    """The end of a gzip stream of ``size`` bytes: an empty last block, checksum and length (RFC 1952)."""
    return b"\x03\x00" + crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
