"""Bytes that go to many viewers, in every form a connection may need, each made once."""

import zlib
from typing import Final

_STORED_BELOW: Final = 100
"""Bytes that compression makes no shorter. Heartbeats and farewells are that small."""

_SMALL: Final = 4096
"""Bytes up to which a small window finds the same repeats; a large one costs several times what it compresses, to clear
its memory first."""


class Piece:
    """Some SSE messages, shared by all connections that get them."""

    __slots__ = ("_chunk", "_deflated", "_deflated_chunk", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._chunk: bytes | None = None
        self._deflated: bytes | None = None
        self._deflated_chunk: bytes | None = None

    @property
    def chunk(self) -> bytes:
        """As a chunk of an HTTP/1.1 body."""
        if self._chunk is None:
            self._chunk = chunk(self.raw)
        return self._chunk

    @property
    def deflated(self) -> bytes:
        """Compressed so that it can follow anything in any gzip stream: it refers to nothing before it."""
        if self._deflated is None:
            self._deflated = deflate(self.raw)
        return self._deflated

    @property
    def deflated_chunk(self) -> bytes:
        """`deflated` as a chunk of an HTTP/1.1 body."""
        if self._deflated_chunk is None:
            self._deflated_chunk = chunk(self.deflated)
        return self._deflated_chunk


def chunk(data: bytes) -> bytes:
    """A chunk of an HTTP/1.1 body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def deflate(data: bytes) -> bytes:
    """Deflate blocks that end on a byte boundary, with which the reader has everything so far (RFC 1951)."""
    size = len(data)
    if size < _STORED_BELOW:
        return b"\x00" + size.to_bytes(2, "little") + (0xFFFF - size).to_bytes(2, "little") + data
    compressor = zlib.compressobj(wbits=-12, memLevel=6) if size <= _SMALL else zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)
