"""uvicorn's server, which drains what it serves before it closes."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from socket import socket
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from core.runtime.http_protocol import StreamingProtocol
from core.runtime.logs import get_logger

Drain = Callable[[], Awaitable[None]]
"""Sends away everybody who is served for long; returns when they are gone."""

log = get_logger()

_LOOK_EVERY: Final = 0.1

_WAITING_CONNECTIONS: Final = 65_535
"""Connections the system keeps until they are taken in, or as many as it allows: one above that tries again after a
second, then three, and a storm of reconnects would take that long."""

GRACEFUL_SECONDS: Final = 3
"""Seconds uvicorn waits for open requests when it is told to stop; without a limit it waits for the viewers."""


def http_config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """How every service is served."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=StreamingProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        backlog=_WAITING_CONNECTIONS,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )


class DrainingServer(uvicorn.Server):
    """At a signal it drains first, while it still answers; a second signal ends that."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain
        self._signals = 0

    def run(self, sockets: list[socket] | None = None) -> None:
        """Serve until told to stop."""
        # uvicorn raises the signal again after its own shutdown: without this a stop as asked looks like a crash.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end."""
        self._signals += 1
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Drain, then close: whoever balances load sees not-ready, not a closed door."""
        draining = asyncio.ensure_future(self._drain())
        try:
            while not draining.done() and self._signals <= 1:
                await asyncio.wait({draining}, timeout=_LOOK_EVERY)
        finally:
            draining.cancel()
            for error in await asyncio.gather(draining, return_exceptions=True):
                if isinstance(error, Exception):
                    log.error("drain failed, so viewers are cut off", exc_info=error)
        await super().shutdown(sockets)


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
