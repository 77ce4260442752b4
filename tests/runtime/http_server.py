"""A small application behind `StreamingProtocol` on each event loop it is run on, and a client that sends any bytes."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, cast

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from core.runtime.http_protocol import TAKE_OVER, StreamingProtocol

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
SECONDS: Final = 10
HELLO: Final = b"5\r\nhello\r\n"


class Watcher(asyncio.Protocol):
    """Who a connection was handed over to."""

    def __init__(self) -> None:
        self.heard = b""
        self.left = threading.Event()
        self.transport: asyncio.Transport | None = None

    def data_received(self, data: bytes) -> None:
        """What the client says after its request."""
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """The client is gone."""
        self.left.set()


class Application:
    """`/stream` says hello and stays; `/patient` does when `go` is set.

    `/echo` answers with the body, `/bare` without a length, `/early` before the body came.
    """

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self.asked = threading.Event()
        self.refused = threading.Event()
        self.go = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        match scope["path"]:
            case "/stream":
                await self._stream(scope, send)
            case "/patient":
                self.asked.set()
                await asyncio.to_thread(self.go.wait, SECONDS)
                await self._stream(scope, send)
            case "/bare":
                await _start(send, [(b"connection", b"keep-alive")])
                await send({"type": "http.response.body", "body": b"one ", "more_body": True})
                await send({"type": "http.response.body", "body": b"two"})
            case "/early":
                await _start(send, [(b"content-length", b"2")])
                await send({"type": "http.response.body", "body": b"no"})
            case _:
                body = b""
                while (message := await receive()).get("more_body", False):
                    body += message["body"]
                body += message.get("body", b"")
                await _start(send, [(b"content-length", str(len(body)).encode())])
                await send({"type": "http.response.body", "body": body})

    async def _stream(self, scope: Scope, send: Send) -> None:
        await _start(send, [])
        take_over = scope.get("extensions", {}).get(TAKE_OVER)
        if take_over is None:
            await send({"type": "http.response.body", "body": b"hello"})
            return
        watcher = Watcher()
        watcher.transport = take_over(watcher)
        if watcher.transport is None:
            self.refused.set()
            return
        self.watchers.append(watcher)
        watcher.transport.write(HELLO)


async def _start(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})


class Client:
    """A connection, of which each byte is seen."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._read = b""

    def send(self, *lines: str, body: bytes = b"") -> None:
        """Send a request's lines, with the blank line after them."""
        self.connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode() + body)

    def until(self, end: bytes) -> bytes:
        """What comes, up to and with ``end``."""
        while end not in self._read:
            part = self.connection.recv(65536)
            assert part, f"closed after {self._read!r}"
            self._read += part
        found, _, self._read = self._read.partition(end)
        return found + end

    def rest(self) -> bytes:
        """What comes until the server closes the connection."""
        while part := self.connection.recv(65536):
            self._read += part
        return self._read


class Running:
    """The application, served."""

    def __init__(self, application: Application, server: uvicorn.Server, port: int) -> None:
        self.application = application
        self.server = server
        self.port = port

    @contextmanager
    def client(self, context: ssl.SSLContext | None = None) -> Generator[Client]:
        """A connection to it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as plain:
            if context is None:
                yield Client(plain)
                return
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted:
                yield Client(encrypted)


@contextmanager
def served(loop: str, **settings: Any) -> Generator[Running]:
    """Serve an `Application` in a thread while the block runs."""
    application = Application()
    config = uvicorn.Config(
        cast("Any", application),
        http=StreamingProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        **settings,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])

        def run() -> None:
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                runner.run(server.serve([listener]))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield Running(application, server, port)
        finally:
            application.go.set()
            server.should_exit = True
            thread.join(SECONDS)
