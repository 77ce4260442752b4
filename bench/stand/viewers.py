"""Viewers as a load: any number of streams that one loop reads as cheaply as Python can.

No parser and no task a viewer: what came is read into one buffer for all, and the marks in it are counted. Only a few,
the sample, are looked at event by event.
"""

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from select import EPOLLIN, epoll
from struct import pack
from typing import Final, Protocol

from bench.stand.payload import MARK, SENT

_BUFFER: Final = 1024 * 1024
_AT_ONCE: Final = 256
_UNANSWERED: Final = 1_000
_HEAD: Final = b"\r\n\r\n"
_KEPT: Final = 512
_RESET: Final = pack("ii", 1, 0)
"""Connections are cut without a farewell, so that their ports are free at once."""

_LIMIT: Final = 120.0
"""Seconds until what does not come is given up."""


class Listener(Protocol):
    """Takes what one connection said."""

    def take(self, buffer: bytearray, length: int) -> None:
        """The first ``length`` bytes are new."""
        ...


class Sample:
    """A viewer whose events are looked at: how many it has, and how many nanoseconds each took."""

    def __init__(self, topic: int) -> None:
        self.topic = topic
        self.received = 0
        self.times: list[int] = []
        self._rest = b""

    def take(self, buffer: bytearray, length: int) -> None:
        """The first ``length`` bytes are new."""
        now = time.perf_counter_ns()
        text = self._rest + buffer[:length]
        end = 0
        for found in SENT.finditer(text):
            self.times.append(now - int(found[1]))
            self.received += 1
            end = found.end()
        self._rest = text[max(end, len(text) - _KEPT) :]


class Viewers:
    """Open streams of one server."""

    def __init__(self, port: int) -> None:
        self.received = 0
        self.samples: list[Sample] = []
        self._port = port
        self._poll = epoll()
        self._buffer = bytearray(_BUFFER)
        self._sockets: list[socket.socket] = []
        self._read: dict[int, Callable[[bytearray], int]] = {}
        self._listeners: dict[int, Listener] = {}
        self._unanswered: set[int] = set()
        self._rests: dict[int, bytes] = {}
        """What each that is waited for said last."""
        self._token = b""

    def listen(self, connection: socket.socket, listener: Listener) -> None:
        """Have another connection read by the same loop."""
        self._listeners[connection.fileno()] = listener
        self._read[connection.fileno()] = connection.recv_into
        self._poll.register(connection, EPOLLIN)

    def sample(self, chosen: Iterable[tuple[int, int]]) -> None:
        """Look at these viewers from now on; each with the number of its topic."""
        for viewer, topic in chosen:
            sample = Sample(topic)
            self.samples.append(sample)
            self._listeners[self._sockets[viewer].fileno()] = sample

    def turn(self, seconds: float) -> None:
        """Read what is there, after waiting for it no longer than this.

        Raises:
            ConnectionError: the server ended a connection.
        """
        buffer, listeners, marks = self._buffer, self._listeners, 0
        for handle, _ in self._poll.poll(seconds, _AT_ONCE):
            length = self._read[handle](buffer)
            if not length:
                raise ConnectionError("the server ended a connection")
            marks += buffer.count(MARK, 0, length)
            if handle in listeners:
                listeners[handle].take(buffer, length)
        self.received += marks

    def connect(self, requests: Sequence[bytes], token: bytes = b"") -> None:
        """Open a stream for each request; return when all are answered, and have said ``token`` if there is one.

        At most 1,000 wait for their answers at a time: what the server's queue of connections does not take would
        be tried again by the kernel after a second.

        Raises:
            RuntimeError: a request was refused.
            TimeoutError: some were not answered.
        """
        self._token = token
        for request in requests:
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=30)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.sendall(request)
            connection.setblocking(False)
            handle = connection.fileno()
            self._sockets.append(connection)
            self._read[handle] = connection.recv_into
            self._rests[handle] = b""
            self._unanswered.add(handle)
            self._poll.register(handle, EPOLLIN)
            while len(self._unanswered) >= _UNANSWERED:
                self._look(1.0)
        self._until_all_have_it()

    def wait_for(self, token: bytes) -> None:
        """Return when every viewer was sent this.

        Raises:
            TimeoutError: some were not.
        """
        self._token = token
        self._rests = {connection.fileno(): b"" for connection in self._sockets}
        self._until_all_have_it()

    def close(self) -> None:
        """Cut all connections."""
        self._poll.close()
        for connection in self._sockets:
            connection.close()

    def _until_all_have_it(self) -> None:
        deadline = time.monotonic() + _LIMIT
        while self._rests:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._rests)} of {len(self._sockets)} viewers were not sent {self._token!r}")
            self._look(1.0)

    def _look(self, seconds: float) -> None:
        """As `turn`, with an eye on those that are waited for."""
        for handle, _ in self._poll.poll(seconds, _AT_ONCE):
            length = self._read[handle](self._buffer)
            if not length:
                raise ConnectionError("the server ended a connection")
            self.received += self._buffer.count(MARK, 0, length)
            if handle in self._listeners:
                self._listeners[handle].take(self._buffer, length)
            if handle in self._rests:
                self._note(handle, self._rests[handle] + self._buffer[:length])

    def _note(self, handle: int, text: bytes) -> None:
        if handle in self._unanswered and _HEAD in text:
            self._unanswered.discard(handle)
            if not text.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(text.decode())
        if handle not in self._unanswered and self._token in text:
            del self._rests[handle]
        else:
            self._rests[handle] = text if handle in self._unanswered else text[-_KEPT:]
