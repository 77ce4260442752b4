"""uvicorn's HTTP/1.1 protocol, with what long streams need: handing a connection over, and bounds on what is not one.

An application that has begun a response finds `TAKE_OVER` among the extensions of its scope. Called with another
protocol it makes that the connection's own and returns the transport: from then on the server does not know the
connection any more, no task waits for it, and nothing of the request stays in memory.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

TAKE_OVER: Final = "pipai.take_over"

HEADER_SECONDS: Final = 10.0
"""From a connection's beginning, or a request's first byte, until its headers are complete; then it is closed.
Without a limit a few idle connections that never finish a header take every file handle."""

HEADER_BYTES: Final = 64 * 1024
"""Of a request that comes in several reads, until its headers are complete: the parser itself takes any number."""

SILENCE_SECONDS: Final = 60
"""How long what was sent may stay unacknowledged before the system ends the connection, where it can."""

_TOO_LARGE: Final = STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n"


class TakeOver(Protocol):
    """Makes a protocol the connection's own."""

    def __call__(self, successor: asyncio.Protocol, /) -> asyncio.Transport | None:
        """The connection's transport; the body that was begun is the caller's to write in chunks, and to end.

        None: the client has gone, and the successor would hear of nothing.
        """
        ...


class StreamingProtocol(HttpToolsProtocol):
    """As uvicorn has it, and the above.

    HTTP/1.0 knows no chunks: such a body ends with its connection, and the connection is not handed over.
    """

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False
    _answering: RequestResponseCycle | None = None
    """The request an application answers now; where others were sent behind it, it is not the newest."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        _notice_silence(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Part of a request, or several."""
        if self._deadline is not None:
            self._head_bytes += len(data)
        elif self.cycle.response_complete:
            # An empty line, or the rest of a body nobody wants: it ends uvicorn's own wait, and begins no request.
            self._await_headers()
        super().data_received(data)
        if self._head_bytes > HEADER_BYTES and self._deadline is not None and not self._in_body:
            self._refuse_headers()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._deadline is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        """The request is passed on."""
        self._in_body = True
        self._stop_waiting()
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # the parser takes nothing more, as we would speak another protocol now
        if self.scope["http_version"] == "1.0":
            cast("Any", self.cycle).send = _without_chunks(self.cycle)
        else:
            cast("dict[str, Any]", self.scope)["extensions"] = {TAKE_OVER: self._take_over}

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        self._in_body = False
        self._head_bytes = 0
        if self._deadline is not None:
            self._stop_waiting()
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._stop_waiting()
        super().connection_lost(exc)
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
        self._forget()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _forget(self) -> None:
        """Let go of what refers to this protocol: it would stay until the garbage collector looks."""
        self.parser = self.scope = self.cycle = cast("Any", None)
        self._answering = None
        self.pipeline.clear()

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse_headers(self) -> None:
        if self.transport.is_closing():
            return
        if not self.cycle or self.cycle.response_complete:
            self.transport.write(_TOO_LARGE)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: `curl --http2` asks for an upgrade each time, and is served without."""

    def _take_over(self, successor: asyncio.Protocol, /) -> asyncio.Transport | None:
        if self._answering is None:
            return None
        # Else uvicorn complains that the application returned in the middle of its response, and closes the connection.
        self._answering.disconnected = True
        if self.transport.is_closing():
            return None
        self._unset_keepalive_if_required()
        self._stop_waiting()
        self.connections.discard(self)
        self.flow.resume_reading()
        self.transport.set_protocol(successor)
        self._forget()  # what was sent behind the request is not answered
        return self.transport


def _notice_silence(transport: asyncio.Transport) -> None:
    """Have the system end a connection whose other side is gone without a word, or never reads.

    What is written would only fill its buffers, for as long as TCP tries: a quarter of an hour.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000)


def _without_chunks(cycle: RequestResponseCycle) -> Callable[[Any], Awaitable[None]]:
    """The cycle's ``send`` for HTTP/1.0: a body of no known length ends with the connection.

    Uvicorn itself would send chunks, which such a client takes for a part of the body.
    """
    send = cycle.send

    async def bare(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"]
            message = {**message, "headers": headers}
            if not any(name.lower() == b"content-length" for name, _ in headers):
                cycle.chunked_encoding = False
                cycle.expected_content_length = cast("int", inf)
        elif cycle.expected_content_length == inf and not message.get("more_body", False):
            cycle.expected_content_length = len(message.get("body", b""))
        await send(cast("Any", message))

    return bare
