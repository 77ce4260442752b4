"""uvicorn's HTTP/1.1 protocol, with what long streams need: handing a connection over, and a limit on slow headers.

An application that has begun a response finds `TAKE_OVER` among the extensions of its scope. Called with another
protocol it makes that the connection's own and returns the transport: from then on the server does not know the
connection any more, no task waits for it, and nothing of the request stays in memory.
"""

import asyncio
from typing import Any, Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TAKE_OVER: Final = "pipai.take_over"

HEADER_SECONDS: Final = 10.0
"""From a connection's beginning, or a request's first byte, until its headers are complete; then it is closed.
Without a limit a few idle connections that never finish a header take every file handle."""


class TakeOver(Protocol):
    """Makes a protocol the connection's own."""

    def __call__(self, successor: asyncio.Protocol, /) -> asyncio.Transport:
        """The connection's transport; the body that was begun is the caller's to write and to end."""
        ...


class StreamingProtocol(HttpToolsProtocol):
    """As uvicorn has it, and the above."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_headers()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = {TAKE_OVER: self._take_over}
        if self._deadline is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        """The request is passed on."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _take_over(self, successor: asyncio.Protocol, /) -> asyncio.Transport:
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        # Else uvicorn complains that the application returned in the middle of its response, and closes the connection.
        self.cycle.disconnected = True
        self.flow.resume_reading()
        self.transport.set_protocol(successor)
        # The parser refers to this protocol and back: both would stay until the garbage collector looks.
        self.parser = cast("Any", None)
        return self.transport
