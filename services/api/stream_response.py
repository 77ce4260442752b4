"""A response that is a stream of Server-Sent Events."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final, cast

import anyio
from sse_starlette import EventSourceResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from core.runtime.http_protocol import TAKE_OVER, TakeOver
from core.runtime.problems import ProblemError, problem_response
from services.api.outlets import GzipTransportOutlet, Outlet, QueueOutlet, TransportOutlet

HEADERS: Final = {
    "Cache-Control": "no-store, private",
    "Content-Type": "text/event-stream; charset=utf-8",
    "Vary": "Accept-Encoding",
    "X-Accel-Buffering": "no",
}

_LAST_ON_CONNECTION: Final = (b"connection", b"close")
"""What a client or proxy sends behind its request is not answered, so it is to use another connection."""

_NEVER: Final = 10**9
"""Seconds until sse-starlette's own ping: heartbeats come from `Viewers`."""

Serve = Callable[[Outlet], Awaitable[None]]
"""Serves a viewer through an outlet; returns when it is live."""


class Unanswered(Response):
    """Closes the connection without an answer, or refuses where the server does not hand it over.

    EventSource comes back from a connection that broke, and a proxy tries another process. Any answer but 200 would
    close an EventSource for good.
    """

    def __init__(self, refusal: ProblemError) -> None:
        self._refusal = refusal
        super().__init__()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close it."""
        take_over = cast("TakeOver | None", scope.get("extensions", {}).get(TAKE_OVER))
        if take_over is None:
            await problem_response(self._refusal)(scope, receive, send)
            return
        transport = take_over(asyncio.Protocol())
        if transport is not None:
            transport.close()


class StreamResponse(Response):
    """Sends its head, then has the viewer served through the connection itself, or through sse-starlette."""

    def __init__(self, serve: Serve, shutdown: anyio.Event, *, gzip: bool = False) -> None:
        self._serve = serve
        self._shutdown = shutdown
        self._gzip = gzip
        super().__init__(headers=_headers(gzip=gzip))
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; returns when the viewer is live where the connection was handed over."""
        take_over = cast("TakeOver | None", scope.get("extensions", {}).get(TAKE_OVER))
        if take_over is None:
            await self._serve_slowly(scope, receive, send)
            return
        headers = [*self.raw_headers, _LAST_ON_CONNECTION]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        # Waits while an earlier answer on the connection is unread: the outlet would not hear that too much waits.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        outlet = GzipTransportOutlet() if self._gzip else TransportOutlet()
        transport = take_over(outlet)
        if transport is not None:
            outlet.begin(transport)
            await self._serve(outlet)

    async def _serve_slowly(self, scope: Scope, receive: Receive, send: Send) -> None:
        outlet = QueueOutlet(gzip=self._gzip)
        response = EventSourceResponse(
            self._body(outlet),
            headers=_headers(gzip=self._gzip),
            ping=_NEVER,
            shutdown_event=self._shutdown,
            shutdown_grace_period=1.0,
        )
        await response(scope, receive, send)

    async def _body(self, outlet: QueueOutlet) -> AsyncGenerator[bytes]:
        serving = asyncio.ensure_future(self._serve(outlet))
        try:
            async for part in outlet.body():
                yield part
        finally:
            serving.cancel()
            outlet.writer.gone()


def _headers(*, gzip: bool) -> Mapping[str, str]:
    return {**HEADERS, "Content-Encoding": "gzip"} if gzip else HEADERS
