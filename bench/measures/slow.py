"""What viewers that do not read cost those that do."""

import socket
import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from struct import pack
from typing import Final

from bench.measures.pace import median_and_p99
from bench.measures.scale import Scale, Stage
from bench.stand.servers import Served
from bench.stand.table import table
from bench.stand.watching import watching
from services.api.outlets import HIGH_WATER
from services.api.ring import MAX_BYTES, MAX_EVENTS

_EVENT_BYTES: Final = 230
_KERNEL: Final = Path("/proc/sys/net/ipv4/tcp_wmem")
"""How much the kernel takes for a connection that is not read: the third number, in bytes."""

_WINDOW: Final = 64
_BUFFER: Final = 4096
_RESET: Final = pack("ii", 1, 0)
_SLOW: Final = b'"reason":"slow"'
_LIMIT: Final = 30.0
_COLUMNS: Final = (
    "viewers that read",
    "that do not",
    "events/s",
    "p50 ms",
    "p99 ms",
    "p50: this ÷ alone",
    "p99: this ÷ alone",
)


def slow(scale: Scale, stage: Stage) -> Iterator[str]:
    """Publish → viewer through ours: alone, and with others of the same topic who never read; in turns."""
    found: dict[int, list[tuple[float, float]]] = {0: [], scale.asleep: []}
    for _round in range(scale.rounds):
        for asleep, times in found.items():
            times.append(_round_with(stage.servers[0], asleep, scale))
    rows: list[list[str]] = []
    alone: tuple[float, float] | None = None
    for asleep, times in found.items():
        median, high = (statistics.median(figures) for figures in zip(*times, strict=True))
        alone = alone or (median, high)
        shown = [f"{median:.2f}", f"{high:.2f}", f"{median / alone[0]:.2f}", f"{high / alone[1]:.2f}"]
        rows.append([f"{scale.some:,}", f"{asleep}", f"{scale.rate}", *shown])
    yield table(_COLUMNS, rows)


def _round_with(server: Served, asleep: int, scale: Scale) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds of those who read."""
    with watching(server, scale.some, 1) as load, _sleeping(server, asleep) as sleepers:
        load.deliver(_until_felt(), _WINDOW)
        found = median_and_p99(load, scale.rate, 2 * scale.seconds)
        for connection in sleepers:
            _wake(connection)
    return found


def _until_felt() -> int:
    """How many events it takes until nothing more is written to who does not read, and memory has forgotten them."""
    taken = int(_KERNEL.read_text().split()[2]) + HIGH_WATER + MAX_BYTES
    return taken // _EVENT_BYTES + MAX_EVENTS


@contextmanager
def _sleeping(server: Served, count: int) -> Generator[list[socket.socket]]:
    """So many viewers of the first topic who are answered, and read none of it."""
    with ExitStack() as stack:
        connections: list[socket.socket] = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.settimeout(_LIMIT)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(server.request(0))
            connection.recv(1, socket.MSG_PEEK)
            connections.append(connection)
        yield connections


def _wake(connection: socket.socket) -> None:
    """Read until the server says that this viewer was slow: it was left out as it should be.

    Raises:
        RuntimeError: it does not say so.
    """
    deadline, told = time.monotonic() + _LIMIT, b""
    while _SLOW not in told:
        part = connection.recv(256 * 1024)
        if not part or time.monotonic() > deadline:
            raise RuntimeError("a viewer that did not read was not told that it was slow")
        told = told[-len(_SLOW) :] + part
