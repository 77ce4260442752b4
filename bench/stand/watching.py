"""A server with viewers who watch it, and how it is published to."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, NamedTuple

from bench.stand.payload import token
from bench.stand.processes import open_files, processor_seconds
from bench.stand.servers import Served
from bench.stand.viewers import Viewers

_SAMPLE: Final = 20
_FEW: Final = 10
_LIMIT: Final = 120.0
_REST: Final = 0.2


class Saturated(NamedTuple):
    """Deliveries a second; how much of a core the server and the load used for that."""

    rate: float
    server: float
    load: float


class Load:
    """So many viewers of one server, spread evenly over its topics, which are published to in turn."""

    def __init__(self, server: Served, viewers: Viewers, topics: int) -> None:
        self.server = server
        self.viewers = viewers
        self._topics = topics
        self._published = 0

    @property
    def arrived(self) -> int:
        """How many events in a row the slowest of the sample has."""
        return min(sample.received * self._topics + sample.topic for sample in self.viewers.samples)

    def publish(self, count: int, sent: int) -> None:
        """The next events."""
        numbers = range(self._published, self._published + count)
        self._published += count
        self.server.publisher.publish([number % self._topics for number in numbers], sent)

    def saturate(self, seconds: float, window: int) -> Saturated:
        """Keep ``window`` events on their way, as the slowest of the sample tells; the first fifth is not counted."""
        self._keep(seconds / 4, window)
        before, marks = self._used(), self.viewers.received
        began = time.perf_counter()
        self._keep(seconds, window)
        passed = time.perf_counter() - began
        server, load = (after - used for after, used in zip(self._used(), before, strict=True))
        return Saturated((self.viewers.received - marks) / passed, server / passed, load / passed)

    def _used(self) -> tuple[float, float]:
        return processor_seconds(self.server.pid), time.process_time()

    def _keep(self, seconds: float, window: int) -> None:
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            room = self.arrived + window - self._published
            if room > 0:
                self.publish(room, time.perf_counter_ns())
            self.viewers.turn(0.05)

    def deliver(self, count: int, window: int) -> None:
        """Have so many events arrive, ``window`` of them on their way."""
        last = self._published + count
        while self.arrived < last:
            room = min(self.arrived + window, last) - self._published
            if room > 0:
                self.publish(room, time.perf_counter_ns())
            self.viewers.turn(0.05)

    def steadily(self, rate: float, seconds: float) -> None:
        """Publish at evenly spaced times, whatever became of those before.

        An event counts as sent when it was due: one that leaves late because the load was busy is not told to be
        faster than it was. Returns when all have arrived.

        Raises:
            TimeoutError: some did not.
        """
        began, step = time.perf_counter_ns(), int(1e9 / rate)
        due, last = began, began + int(seconds * 1e9)
        while due < last:
            left = due - time.perf_counter_ns()
            if left > 0:
                # The kernel rounds up to milliseconds.
                self.viewers.turn(max(0.0, left / 1e9 - 0.001))
                continue
            self.publish(1, due)
            due += step
        deadline = time.monotonic() + _LIMIT
        while self.arrived < self._published:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._published - self.arrived} events have not arrived after {_LIMIT:g} s")
            self.viewers.turn(0.05)


@contextmanager
def watching(server: Served, viewers: int, topics: int) -> Generator[Load]:
    """So many viewers, all of them live; they leave with the block, and the server has noticed and is at rest."""
    before = open_files(server.pid)
    load = Viewers(server.port)
    try:
        load.connect([server.request(number % topics) for number in range(viewers)])
        server.publisher.prepare(topics)
        load.listen(server.publisher.connection, server.publisher)
        sent = time.perf_counter_ns()
        server.publisher.publish(range(topics), sent)
        load.wait_for(token(sent))
        load.sample(_sample(viewers, topics))
        yield Load(server, load, topics)
    finally:
        load.close()
        until_left(server, before)


def _sample(viewers: int, topics: int) -> list[tuple[int, int]]:
    """Which viewers are looked at: the first of each topic, or of a single topic some."""
    chosen = range(topics) if topics > 1 else range(0, viewers, max(1, viewers // _SAMPLE))
    return [(viewer, viewer % topics) for viewer in chosen]


def until_left(server: Served, before: int) -> None:
    """Wait until the server has closed the connections that were cut, and no longer works for them.

    The next one has the same core. A server with a queue per viewer works for many seconds for viewers that left.

    Raises:
        TimeoutError: it did not.
    """
    deadline = time.monotonic() + _LIMIT
    used = processor_seconds(server.pid)
    while True:
        time.sleep(_REST)
        before_that, used = used, processor_seconds(server.pid)
        left = open_files(server.pid) - before
        if left <= _FEW and used - before_that < _REST / 10:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{server.name} does not come to rest; {left} connections that were cut are open")
